"""Who is not let in, and that workers say so in their logs."""

import contextlib
import json
import logging
import shutil
import socket
import ssl
import threading
import time

import pytest
import torch
from networks import expired
from remotes import Office, Workers

import pysmpc as sy
from pysmpc.errors import ChannelError, OpenNotPermittedError, RefusedError, RemoteError
from pysmpc.remote.driver.driver import ask
from pysmpc.remote.worker.policy import LOG
from pysmpc.transport import certificates, tls
from pysmpc.transport.tls import DRIVER, PEER


@pytest.fixture
def refusals(caplog):
    """What the workers logged of connections that they did not take."""
    caplog.set_level(logging.INFO, "pysmpc.worker")

    def logged(count=1):
        until = time.monotonic() + 5
        while True:  # the refused side hears of it before the log does
            found = [r.reason for r in caplog.records if r.getMessage() == "refused"]
            if len(found) >= count or time.monotonic() > until:
                return found
            time.sleep(0.01)

    return logged


class Listening:
    """Takes whatever connects, under a name of its own."""

    def __init__(self, server):
        self._server = server
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._socket.getsockname()[1]}"

    def _serve(self):
        while True:
            try:
                plain, _ = self._socket.accept()
            except OSError:
                return
            with contextlib.suppress(RefusedError):
                tls.accept(self._server, plain, lambda name, hello: None)[0].close()

    def __enter__(self):
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()
        return self

    def __exit__(self, *error):
        self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join(15)
        self._socket.close()


def intrude(workers, identity, role=DRIVER, name="alice"):
    with pytest.raises(RefusedError) as error:
        tls.dial(tls.Tls(identity), name, workers.addresses[name], role).close()
    return str(error.value)


def test_a_stranger_is_no_driver(workers, office, refusals):
    said = intrude(workers, certificates.identity(office.folder, "stranger"))
    assert "stranger is not among the drivers of alice" in said
    assert any("stranger as driver" in reason for reason in refusals())


def test_a_holder_is_no_driver(workers, office, refusals):
    said = intrude(workers, certificates.identity(office.folder, "bob"))
    assert "bob is not among the drivers" in said
    assert refusals()


@pytest.mark.parametrize(
    ("name", "role"),
    [
        ("scientist", "peer"),
        ("scientist", "feed"),
        ("crypto_provider", "peer"),
        ("bob", "feed"),
        ("bob", "desk"),
        ("stranger", "status"),
        ("bob", "status"),
        ("scientist", "root"),
    ],
)
def test_roles(workers, office, name, role, refusals):
    assert "refused" in intrude(workers, certificates.identity(office.folder, name), role)
    assert refusals()


def test_another_authority_and_an_expired_certificate(workers, office, tmp_path, refusals):
    other = Office(tmp_path / "other")
    files = certificates.identity(other.folder, "scientist")
    intrude(workers, files._replace(authority=str(office.folder / "ca.pem")))
    # expired, by the right authority
    for name in ("ca.pem", "ca.key"):
        shutil.copy(office.folder / name, tmp_path / name)  # with its mode
    certificates.issue(tmp_path, "scientist")
    intrude(workers, expired(tmp_path, "scientist"))
    reasons = refusals(2)
    assert len(reasons) == 2
    assert all("certificate" in reason for reason in reasons)
    assert any("expired" in reason for reason in reasons)


def test_no_certificate(workers, office, refusals):
    context = ssl.create_default_context(cafile=str(office.folder / "ca.pem"))
    plain = socket.create_connection(tls.address(workers.addresses["alice"]))
    with context.wrap_socket(plain, server_hostname="alice") as sock, pytest.raises((ssl.SSLError, ConnectionError)):
        [sock.send(b"x"), sock.recv(1)]
    assert any("did not return a certificate" in reason for reason in refusals())


def test_what_is_no_tls(workers, refusals):
    with socket.create_connection(tls.address(workers.addresses["alice"])) as sock:
        sock.send(b"GET / HTTP/1.0\r\n\r\n")
        with contextlib.suppress(ConnectionError):
            sock.recv(1000)
    assert refusals()


@pytest.mark.parametrize("impostor", ["carol", "scientist"])
def test_a_peer_of_the_wrong_name(office, impostor, caplog):
    """By the right authority, but not who was meant: no key is agreed on with it."""
    caplog.set_level(logging.INFO, "pysmpc.worker")
    with Workers(office.folder, ("alice", "bob", "carol")) as workers, Listening(office.tls(impostor)) as other:
        for name in ("bob", "crypto_provider"):
            workers.workers[name].config.peers["alice"] = other.address
        with pytest.raises(RemoteError, match="cannot prove to be alice"):
            workers.connect(holders=["alice", "bob"])
    failed = [record for record in caplog.records if record.getMessage() == "session failed"]
    assert any("cannot prove to be alice" in record.reason for record in failed)
    assert all(record.levelno >= logging.WARNING for record in failed)


def test_a_driver_without_the_right_to_open(office, tmp_path, caplog):
    caplog.set_level(logging.INFO, "pysmpc.worker")
    options = {"": {"drivers": {"stranger": ["compute"]}, "open": []}}
    options |= {name: {"state": str(tmp_path / name)} for name in ("alice", "bob")}
    with (
        Workers(office.folder, options=options) as workers,
        workers.connect("stranger") as parties,
        pytest.raises(OpenNotPermittedError, match="compute, not open"),
    ):
        sy.decrypt(sy.encrypt(torch.ones(3), parties))
    logged = [record for record in caplog.records if record.getMessage() == "not opened"]
    assert {record.peer for record in logged} == {"stranger"}
    assert len(logged) == 2
    for name in ("alice", "bob"):
        [line] = (tmp_path / name / LOG).read_text().splitlines()
        assert json.loads(line)["permitted"] is False
        assert json.loads(line)["driver"] == "stranger"


def test_the_session_of_a_driver_is_checked(office):
    """A driver may not choose who deals, nor hold shares itself."""
    with Workers(office.folder, ("alice", "bob", "carol")) as workers:
        for changes in (
            {"holders": ["alice", "bob"], "provider": "carol"},
            {"holders": ["alice", "crypto_provider"], "provider": "bob"},
        ):
            with pytest.raises((RemoteError, ChannelError), match=r"provider|part"):
                workers.connect(**changes)
        workers.workers["alice"].config.peers.pop("bob")
        with pytest.raises(RemoteError, match="not among the peers of alice"):
            workers.connect(holders=["alice", "bob"])


@pytest.mark.parametrize(
    ("holder", "roles", "providers"),
    [
        ("bob", {"carol": "provider"}, ["crypto_provider"]),
        ("crypto_provider", {"carol": "provider", "crypto_provider": "holder"}, ["crypto_provider", "carol"]),
    ],
    ids=["a provider that nobody named", "a provider that holds shares"],
)
def test_who_deals_is_the_holders_choice(office, holder, roles, providers):
    """Where the workers that a driver chose are willing, too."""
    options = {name: {"role": role} for name, role in roles.items()} | {"": {"providers": providers}}
    with (
        Workers(office.folder, ("alice", "bob", "carol"), options=options) as workers,
        pytest.raises(RemoteError, match=r"alice takes crypto_provider.* and nobody else"),
    ):
        workers.connect(holders=["alice", holder], provider="carol")


def test_a_worker_of_the_wrong_name(workers, office):
    config = workers.config()
    config.workers = {**config.workers, "alice": config.workers["bob"], "bob": config.workers["alice"]}
    with pytest.raises(RefusedError, match="cannot prove to be alice"):
        sy.connect(config)


def test_a_peer_that_nobody_waits_for_is_dropped(workers, office):
    stream = tls.dial(office.tls("bob"), "alice", workers.addresses["alice"], PEER, "no such session")
    with workers.connect() as parties:
        assert torch.equal(sy.decrypt(sy.encrypt(torch.ones(2), parties)), torch.ones(2))
    stream.close()


def test_status_is_for_those_who_may(workers, office):
    with workers.connect() as parties:
        x = sy.encrypt(torch.ones(5), parties)
        parties.wait()
        report = ask(office.tls("scientist"), "alice", workers.addresses["alice"])
        assert report["name"] == "alice"
        [session] = report["sessions"]
        assert session["driver"] == "scientist"
        assert session["share_bytes"] == 40
        assert session["values"] == 1
        assert [each["name"] for each in parties.status()] == ["alice", "bob", "crypto_provider"]
        del x
