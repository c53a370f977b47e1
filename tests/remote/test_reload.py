"""What a worker reads again while it runs: rules, data, certificates and lists; all of it, or nothing."""

import contextlib
import json
import logging
import os
import shutil
import signal
import socket
import time

import numpy as np
import pytest
import torch
from kills import ForkedWorkers
from networks import copied, expired, kept
from remotes import Workers

import pysmpc as sy
from pysmpc.errors import (
    ChannelError,
    GetNotPermittedError,
    ObjectNotFoundError,
    OpenNotPermittedError,
    PysmpcError,
    RefusedError,
    RemoteError,
)
from pysmpc.remote.worker import worker as worker_module
from pysmpc.transport import certificates, tls
from pysmpc.transport.tls import DRIVER, STATUS


@pytest.fixture(autouse=True)
def logging_on(caplog):
    caplog.set_level(logging.INFO, "pysmpc.worker")


@pytest.fixture
def pki(office, tmp_path):
    """Certificates that a test may change."""
    return copied(office, tmp_path / "pki")


def events(caplog, name):
    return [record for record in caplog.records if record.getMessage() == name]


def until(condition, seconds=10):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def file(folder, name, values):
    path = folder / f"{name}.npy"
    np.save(path, np.asarray(values, dtype=np.float32))
    return {"path": str(path)}


def works(parties):
    x = torch.randn(5)
    return torch.allclose(sy.decrypt(sy.encrypt(x, parties) * 2), 2 * x, atol=2**-9)


# --- rules --------------------------------------------------------------------------


def test_rules_hold_for_the_next_opening_of_a_running_session(office, tmp_path, caplog):
    values = torch.randn(20, 2)
    data = {"x": file(tmp_path, "x", values)}
    with Workers(office.folder, options={"alice": {"data": data, "open": []}}) as workers, workers.connect() as parties:
        [pointer] = parties["alice"].search("x")
        total = sy.encrypt(pointer, parties).sum()
        with pytest.raises(OpenNotPermittedError):
            sy.decrypt(total)
        assert workers.reload("alice", open=["scientist"])
        assert float(sy.decrypt(total)) == pytest.approx(float(values.sum()), abs=0.05)
        assert workers.reload("alice", open={"scientist": {"min_items": 21}})
        with pytest.raises(OpenNotPermittedError, match="21"):
            sy.decrypt(total + 0)
        assert workers.reload("alice", drivers={"scientist": ["compute"]}, open=[])
        with pytest.raises(OpenNotPermittedError, match="compute, not open"):
            sy.decrypt(total * 1)
        assert workers.reload("alice", drivers={"stranger": ["compute"]})
        with pytest.raises(RefusedError, match="scientist is not among the drivers of alice"):
            workers.connect()
        assert len(events(caplog, "reloaded")) == 4
        assert not events(caplog, "dismissed")
        assert parties.status()


# --- all or nothing -----------------------------------------------------------------


def in_force(worker):
    return worker.config, worker.tls, worker.validity, worker.data, worker.openings._config, worker.openings._rules


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"colour": "red"}, "unknown field"),
        ({"open": ["stranger"]}, "does not list"),
        ({"drivers": {"scientist": ["fly"]}}, "no right fly"),
        ({"data": {"x": {"path": "missing.npy"}}}, "missing.npy"),
        ({"certificate": "missing.pem"}, "missing.pem"),
        ({"ca": "missing.pem"}, "missing.pem"),
        ({"key": "bob.key"}, "do not serve"),
        ({"certificate": "bob.pem", "key": "bob.key"}, "is for bob"),
        ({"key": "open.key"}, "chmod 600"),
        ({"revoked": ["Bob"]}, "no name"),
        ({"revoked": ["serial:"]}, "no serial number"),
        ({"revoked": ["alice"]}, "whose file this is"),
        ({"name": "bob", "certificate": "bob.pem", "key": "bob.key"}, "restart the worker to change name"),
        ({"role": "provider"}, "restart the worker to change role"),
        ({"listen": "127.0.0.1:1"}, "restart the worker to change listen"),
        ({"state": "elsewhere"}, "restart the worker to change state"),
        ({"checkpoints": "elsewhere", "threads": 2}, "restart the worker to change checkpoints, threads"),
    ],
)
def test_a_bad_file_changes_nothing(pki, caplog, changes, says):
    shutil.copy(pki.folder / "alice.key", pki.folder / "open.key")
    os.chmod(pki.folder / "open.key", 0o644)
    with Workers(pki.folder) as workers, workers.connect() as parties:
        before, values = in_force(workers.workers["alice"]), workers.values["alice"]
        # what is right in the file is not taken either
        assert not workers.reload("alice", **{"drivers": {"stranger": ["compute"]}, "open": [], **changes})
        assert all(a is b for a, b in zip(in_force(workers.workers["alice"]), before, strict=True))
        [line] = events(caplog, "not reloaded")
        assert line.levelno == logging.ERROR
        assert says in line.reason
        assert works(parties)
        workers.values["alice"] = values
        assert workers.reload("alice")
        assert works(parties)


def test_nothing_to_read_again(office, caplog):
    with Workers(office.folder) as workers:
        workers.workers["alice"]._source = None
        assert not workers.reload("alice")
    assert "without a file" in events(caplog, "not reloaded")[0].reason


def test_a_failure_that_nobody_thought_of(office, caplog, monkeypatch):
    with Workers(office.folder) as workers:
        before = in_force(workers.workers["alice"])
        monkeypatch.setattr(worker_module, "Store", lambda data: {}["no such thing"])
        assert not workers.reload("alice")
        assert all(a is b for a, b in zip(in_force(workers.workers["alice"]), before, strict=True))
    assert "KeyError" in events(caplog, "not reloaded")[0].reason


# --- data ---------------------------------------------------------------------------


def test_data_of_running_sessions_and_of_new_ones(office, tmp_path):
    old, new = torch.randn(6, 2), torch.randn(6, 2)
    data = {"x": {**file(tmp_path, "old", old), "get": ["scientist"]}}
    with Workers(office.folder, options={"alice": {"data": data}}) as workers, workers.connect() as parties:
        [pointer] = parties["alice"].search("x")
        assert torch.equal(pointer.get(), old)
        assert torch.allclose(sy.decrypt(sy.encrypt(pointer, parties)), old, atol=2**-9)
        more = {"x": {**file(tmp_path, "new", new), "get": ["scientist"]}, "y": file(tmp_path, "y", new)}
        assert workers.reload("alice", data=more)
        # the running session goes on with what it shared from, and finds what is new
        assert torch.allclose(sy.decrypt(sy.encrypt(pointer, parties)), old, atol=2**-9)
        [added] = parties["alice"].search("y")
        assert torch.allclose(sy.decrypt(sy.encrypt(added, parties)), new, atol=2**-9)
        assert torch.equal(pointer.get(), new)
        with workers.connect() as later:
            [pointer_later] = later["alice"].search("x")
            assert torch.allclose(sy.decrypt(sy.encrypt(pointer_later, later)), new, atol=2**-9)
        # consent to have data in the clear is that of now, whatever the session shared
        assert workers.reload("alice", data={"x": file(tmp_path, "new", new)})
        with pytest.raises(GetNotPermittedError):
            pointer.get()
        assert workers.reload("alice", data={})
        with pytest.raises(ObjectNotFoundError):
            pointer.get()
        assert torch.allclose(sy.decrypt(sy.encrypt(pointer, parties)), old, atol=2**-9)
        with workers.connect() as later:
            assert not later["alice"].search("x")


# --- revocation ---------------------------------------------------------------------


def dial(office, workers, who, to="alice", role=DRIVER):
    return kept(tls.dial(office.tls(who), to, workers.addresses[to], role))


def test_a_revoked_driver(office, caplog):
    both = {"drivers": {name: ["compute", "open"] for name in ("scientist", "stranger")}, "open": ["scientist"]}
    with Workers(office.folder, options={"": both}) as workers:
        bad, good = workers.connect("stranger"), workers.connect()
        assert works(bad)
        x = sy.encrypt(torch.ones(3), bad)
        bad.wait()
        there = workers.workers["alice"].attendances
        assert workers.reload("alice", revoked=["stranger"])
        until(lambda: len(there) == 1)
        with pytest.raises(PysmpcError, match="stranger is revoked"):
            sy.decrypt(x)
        [line] = events(caplog, "dismissed")
        assert (line.levelno, line.peer) == (logging.WARNING, "stranger")
        assert "stranger is revoked" in line.reason
        assert works(good)
        for role in (DRIVER, STATUS):
            before = len(events(caplog, "refused"))
            with pytest.raises(RefusedError, match="refused this party's certificate"):
                dial(office, workers, "stranger", role=role)
            until(lambda n=before: len(events(caplog, "refused")) > n)
            assert "stranger is revoked" in events(caplog, "refused")[-1].reason
            assert len(events(caplog, "refused")) == before + 1
        assert workers.reload("alice", revoked=[])
        with workers.connect("stranger") as again:
            assert works(again)
        for parties in (good, bad):
            with contextlib.suppress(PysmpcError):
                parties.close()


@pytest.mark.parametrize("who", ["alice", "carol", "crypto_provider"])
def test_a_revoked_peer(office, caplog, who):
    """bob is revoked by the one who accepts his connections, or by those who dial him."""
    with Workers(office.folder, ("alice", "bob", "carol")) as workers:
        all_three, without = workers.connect(), workers.connect(holders=["alice", "carol"])
        assert works(all_three)
        assert workers.reload(who, revoked=["bob"])
        with pytest.raises(PysmpcError, match="bob is revoked"):
            works(all_three)
        assert "bob is revoked" in events(caplog, "dismissed")[0].reason
        with pytest.raises((RemoteError, ChannelError)):
            workers.connect()
        logged = events(caplog, "refused") + events(caplog, "session failed")
        assert any("bob is revoked" in line.reason for line in logged)
        assert works(without)
        without.close()
        with workers.connect(holders=["alice", "carol"]) as again:
            assert works(again)


def test_a_stolen_certificate_of_a_driver(pki, tmp_path, caplog):
    """Its owner has a new one under the same name; sessions made with the old one end, the new one's go on."""
    stolen = copied(pki, tmp_path / "stolen")
    with Workers(pki.folder) as workers:
        thief = workers.connect()
        serial = certificates.renew(pki.folder, "scientist").serial
        owner = workers.connect()
        assert works(thief)
        assert works(owner)
        assert all(workers.reload(name, revoked=[serial]) for name in workers.workers)
        with pytest.raises(PysmpcError):
            works(thief)
        assert {serial in line.reason for line in events(caplog, "dismissed")} == {True}
        assert works(owner)
        owner.close()
        with pytest.raises(RefusedError):
            dial(stolen, workers, "scientist")
        with workers.connect() as again:
            assert works(again)


def test_revoked_while_it_connects(office, caplog, monkeypatch):
    """After the handshake, before the session stands: the list is asked again."""
    with Workers(office.folder) as workers:
        alice = workers.workers["alice"]
        accept = worker_module.accept

        def slow(*arguments):
            found = accept(*arguments)
            if found[0].peer == "scientist":
                workers.reload("alice", revoked=["scientist"])
            return found

        monkeypatch.setattr(worker_module, "accept", slow)
        with pytest.raises((RemoteError, ChannelError)):
            workers.connect()
        until(lambda: not alice.attendances)
        assert "scientist is revoked" in events(caplog, "dismissed")[0].reason


def test_a_peer_revoked_while_the_session_is_made(office, caplog, monkeypatch):
    from pysmpc.transport import establish

    with Workers(office.folder) as workers:
        meet = establish.establish

        def slow(me, *arguments):
            found = meet(me, *arguments)
            if me == "alice":
                workers.reload("alice", revoked=["bob"])
            return found

        monkeypatch.setattr(establish, "establish", slow)
        with pytest.raises(PysmpcError):
            workers.connect()
        until(lambda: any("bob is revoked" in line.reason for line in events(caplog, "session failed")))


def test_a_driver_refuses_too(office):
    with Workers(office.folder) as workers, pytest.raises(RefusedError, match="bob is revoked"):
        workers.connect(revoked=["bob"])


# --- certificates -------------------------------------------------------------------


def test_certificates_renewed_under_a_running_session(pki, caplog):
    with Workers(pki.folder) as workers, workers.connect() as parties:
        old = dial(pki, workers, "scientist").serial
        certificates.renew(pki.folder, "ca")
        certificates.renew(pki.folder, "alice")
        assert dial(pki, workers, "scientist").serial == old
        assert workers.reload("alice")
        new = dial(pki, workers, "scientist").serial
        assert new != old
        assert f"serial:{new}" == workers.workers["alice"].validity[0].serial
        assert works(parties)
        with workers.connect() as again:  # bob and the provider were told nothing
            assert works(again)


def test_what_the_log_and_the_status_say_of_certificates(pki, caplog, monkeypatch):
    certificates.renew(pki.folder, "alice", days=7)
    with Workers(pki.folder) as workers, workers.connect() as parties:
        until(lambda: events(caplog, "certificate"))
        [line] = events(caplog, "certificate")
        assert (line.levelno, line.worker) == (logging.WARNING, "alice")
        assert "expires on" in line.reason
        assert [report["certificates"] for report in parties.status()] == [[["warning", line.reason]], [], []]
        monkeypatch.setattr(worker_module, "REMIND", 0.0)  # a day has passed
        workers.workers["alice"].ask_reload()  # wakes it
        until(lambda: len(events(caplog, "certificate")) > 2)
        monkeypatch.undo()
        certificates.renew(pki.folder, "alice")
        assert workers.reload("alice")
        assert [report["certificates"] for report in parties.status()] == [[], [], []]


def test_a_worker_whose_certificate_expired(pki, caplog):
    expired(pki.folder, "alice")
    with Workers(pki.folder) as workers:
        until(lambda: events(caplog, "certificate"))
        [line] = events(caplog, "certificate")
        assert line.levelno == logging.ERROR
        assert "expired on" in line.reason
        with pytest.raises(RefusedError, match="cannot prove to be alice: certificate has expired"):
            workers.connect()
        certificates.renew(pki.folder, "alice")
        assert workers.reload("alice")
        with workers.connect() as parties:
            assert works(parties)


def test_a_driver_whose_certificate_expires(pki, caplog):
    with Workers(pki.folder) as workers:
        certificates.renew(pki.folder, "scientist", days=3)
        with workers.connect() as parties:
            assert works(parties)
        [record] = [record for record in caplog.records if record.name == "pysmpc.driver"]
        assert record.levelno == logging.WARNING
        assert "the certificate of scientist" in record.getMessage()
        os.chmod(pki.folder / "scientist.key", 0o640)
        with pytest.raises(sy.errors.ConfigurationError, match=r"chmod 600 .*scientist\.key"):
            workers.connect()


# --- the signal ---------------------------------------------------------------------


def test_sighup(tmp_path):
    """A process: rules, a bad file, a list and a certificate, while a session runs."""
    values = torch.randn(30, 2)
    data = {"alice": {"x": file(tmp_path, "x", values)}}
    with ForkedWorkers(data=data, options={"alice": {"open": []}}) as workers, workers.connect() as parties:
        path = workers.folder / "alice.toml"
        text = path.read_text()

        def lines(event):
            found = [json.loads(line) for line in workers.log("alice").splitlines()]
            return [line for line in found if line["event"] == event]

        def hang_up(content, event):
            count = len(lines(event))
            path.write_text(content)
            workers.kill("alice", signal.SIGHUP)
            until(lambda: len(lines(event)) > count)
            assert len(lines(event)) == count + 1
            return lines(event)[-1]

        [pointer] = parties["alice"].search("x")
        total = sy.encrypt(pointer, parties).sum()
        with pytest.raises(OpenNotPermittedError):
            sy.decrypt(total)

        opened = text.replace('"open" = []', '"open" = ["scientist"]')
        assert opened != text
        hang_up(opened, "reloaded")
        assert float(sy.decrypt(total)) == pytest.approx(float(values.sum()), abs=0.05)

        for content in ("open = [", text.replace(str(tmp_path / "x.npy"), "gone.npy"), 'name = "alice"\n'):
            line = hang_up(content, "not reloaded")
            assert line["level"] == "error"
            assert "\n" not in line["reason"]
        assert "restart the worker to change" in line["reason"]
        assert float(sy.decrypt(total + 1)) == pytest.approx(float(values.sum()) + 1, abs=0.05)

        identity = certificates.identity(workers.folder, "scientist")
        certificates.renew(workers.folder, "alice")
        hang_up(opened, "reloaded")
        shown = kept(tls.dial(tls.Tls(identity), "alice", workers.addresses["alice"], STATUS)).serial
        assert f"serial:{shown}" == certificates.validity(certificates.identity(workers.folder, "alice"))[0].serial

        hang_up('"revoked" = ["scientist"]\n' + opened, "reloaded")
        with pytest.raises(PysmpcError, match="scientist is revoked"):
            works(parties)
        with pytest.raises(RefusedError):
            tls.dial(tls.Tls(identity), "alice", workers.addresses["alice"], DRIVER)
        assert workers.processes["alice"].poll() is None
        with contextlib.suppress(PysmpcError):
            parties.close()


def test_signals_that_come_at_once(office, caplog):
    """Many, and one while files are being read: the last state of the file is in force in the end."""
    with Workers(office.folder) as workers:
        alice, read = workers.workers["alice"], workers.workers["alice"]._source

        def slow():
            found = read()
            time.sleep(0.05)
            return found

        alice._source = slow
        for count in range(20):
            workers.values["alice"]["status"] = [f"party{count}"]
            alice.ask_reload()
            time.sleep(0.01)
        until(lambda: alice.config.status == ["party19"])
        # the worker went on to accept
        with workers.connect() as parties:
            assert works(parties)
        until(lambda: not alice._reloading.locked())
    alice.ask_reload()  # nobody is there any more


def test_what_connects_while_files_are_read(office):
    """A reload that takes long keeps nobody waiting."""
    with Workers(office.folder) as workers:
        alice, read = workers.workers["alice"], workers.workers["alice"]._source
        left, held = socket.socketpair()

        def slow():
            held.recv(1)
            return read()

        alice._source = slow
        alice.ask_reload()
        until(alice._reloading.locked)
        with workers.connect() as parties:
            assert works(parties)
        assert alice._reloading.locked()
        left.send(b"x")
        until(lambda: not alice._reloading.locked())
        left.close()
        held.close()
