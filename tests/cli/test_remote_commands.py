"""pysmpc certs, worker --check, status and approve: what they say, and how they fail."""

import json
import logging
import signal
import stat

import numpy as np
import pytest
import torch
from networks import copied, expired
from remotes import Office, Workers

import pysmpc as sy
from pysmpc import cli
from pysmpc.errors import OpenNotPermittedError
from pysmpc.remote.local_workers import toml
from pysmpc.transport import certificates


@pytest.fixture(scope="module")
def office(tmp_path_factory):
    return Office(tmp_path_factory.mktemp("office"))


def config(office, name="alice", **values):
    path = office.folder / f"{name}.toml"
    path.write_text(toml({"name": name, "listen": "127.0.0.1:0", **values}))
    return str(path)


def fails(capsys, *arguments):
    with pytest.raises(SystemExit) as exit:
        cli.main(list(arguments))
    assert exit.value.code == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    return err


def test_certificates(tmp_path, capsys):
    folder = str(tmp_path / "pki")
    assert cli.main(["certs", "init", folder]) == 0
    assert cli.main(["certs", "issue", folder, "alice", "bob"]) == 0
    assert "alice alone" in capsys.readouterr().out
    assert stat.S_IMODE((tmp_path / "pki" / "bob.key").stat().st_mode) == 0o600
    assert "exists" in fails(capsys, "certs", "issue", folder, "alice")
    assert "no name" in fails(capsys, "certs", "issue", folder, "Al ice")
    assert "certs init" in fails(capsys, "certs", "issue", str(tmp_path), "alice")


def test_renewal(tmp_path, capsys):
    folder = tmp_path / "pki"
    certificates.initialise(folder)
    for name in ("alice", "bob"):
        certificates.issue(folder, name)
    serials = [each.serial for name in ("alice", "bob") for each in validity(folder, name)[:1]]
    assert cli.main(["certs", "renew", str(folder), "alice", "bob", "--days", "90"]) == 0
    lines = capsys.readouterr().out.splitlines()
    for line, name, serial in zip(lines, ("alice", "bob"), serials, strict=True):
        assert f"{name}.pem, " in line
        assert f"for {name} alone, until {validity(folder, name)[0].ends:%Y-%m-%d}; " in line
        assert f'revoked = ["{serial}"]' in line
        assert stat.S_IMODE((folder / f"{name}.key").stat().st_mode) == 0o600
    key = (folder / "alice.key").read_bytes()
    assert cli.main(["certs", "renew", str(folder), "alice", "--keep-key"]) == 0
    assert "whose key stays the same" in capsys.readouterr().out
    assert (folder / "alice.key").read_bytes() == key
    expired(folder, "alice")
    assert cli.main(["certs", "renew", str(folder), "alice"]) == 0
    out = capsys.readouterr().out
    assert "the certificate before expired on" in out
    assert "revoked" not in out

    assert cli.main(["certs", "renew", str(folder), "ca", "--days", "40"]) == 0
    assert "what the authority signed before stays valid" in capsys.readouterr().out
    assert cli.main(["certs", "renew", str(folder), "alice"]) == 0
    assert "when the authority's own certificate ends" in capsys.readouterr().out
    assert "certs renew" in fails(capsys, "certs", "renew", str(folder), "alice", "--days", "41")
    assert "certs issue" in fails(capsys, "certs", "renew", str(folder), "zoe")
    (folder / "ca.key").unlink()
    assert "ca.key is missing" in fails(capsys, "certs", "renew", str(folder), "alice")
    with pytest.raises(SystemExit, match="0"):
        cli.main(["certs", "renew", "--help"])
    text = " ".join(capsys.readouterr().out.split())
    for words in ("may have expired", "where the authority's key is", "SIGHUP", "--keep-key", "revoked"):
        assert words in text


def validity(folder, name):
    return certificates.validity(certificates.identity(folder, name))


def test_what_check_and_status_say_of_certificates(office, tmp_path, capsys):
    other = copied(office, tmp_path / "pki")
    check = ["worker", "--config", config(other), "--check"]
    certificates.renew(other.folder, "alice", days=20)
    assert cli.main(check) == 0
    shown = capsys.readouterr()
    assert "in order" in shown.out
    assert shown.err.startswith("warning: the certificate of alice (alice.pem) expires on ")
    certificates.renew(other.folder, "ca", days=10)
    with Workers(other.folder) as workers:
        everybody = other.folder / "parties.toml"
        everybody.write_text(toml({"name": "scientist", "holders": ["alice", "bob"], "workers": workers.addresses}))
        assert cli.main(["status", "--config", str(everybody)]) == 0
        shown = capsys.readouterr()
        assert "  warning: the certificate of alice (alice.pem) expires on " in shown.out
        assert shown.out.count("  warning: the authority's certificate (ca.pem) expires on ") == 3
        assert shown.err.startswith("warning: the authority's certificate (ca.pem) expires on ")
        alice = config(other, listen=workers.addresses["alice"])
        assert cli.main(["status", "--config", alice]) == 0
        shown = capsys.readouterr()
        assert shown.out.count("warning: ") == 2
        assert shown.err == ""
        expired(other.folder, "alice")
        assert cli.main(["status", "--config", alice]) == 1
        assert "error: the certificate of alice (alice.pem) expired on " in capsys.readouterr().err
    assert cli.main(["worker", "--config", config(other), "--check"]) == 1
    shown = capsys.readouterr()
    assert "error: the certificate of alice (alice.pem) expired on " in shown.err
    assert "in order" not in shown.out


@pytest.fixture
def as_a_process(monkeypatch):
    """A worker that starts changes signals and logging of its process; undone afterwards."""
    logger = logging.getLogger("pysmpc")
    before = {number: signal.getsignal(number) for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)}
    monkeypatch.setattr(logger, "handlers", list(logger.handlers))
    level = logger.level
    yield
    logger.setLevel(level)
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("as_a_process")
def test_a_key_that_others_can_read(office, tmp_path, capsys):
    other = copied(office, tmp_path / "pki")
    (other.folder / "alice.key").chmod(0o644)
    for more in ((), ("--check",)):
        assert f"chmod 600 {other.folder / 'alice.key'}" in fails(capsys, "worker", "--config", config(other), *more)
    assert "chmod 600" in fails(capsys, "status", "--config", config(other))


def test_check(office, tmp_path, capsys):
    np.save(tmp_path / "x.npy", np.ones((3, 2)))
    data = {"x": {"path": str(tmp_path / "x.npy"), "tags": ["#x"]}}
    good = config(office, data=data, drivers={"scientist": ["compute", "open"]}, open={"scientist": {"min_items": 3}})
    assert cli.main(["worker", "--config", good, "--check"]) == 0
    text = capsys.readouterr().out
    assert "in order" in text
    assert "numbers no limit" in text
    options = ["--id", "alice", "--listen", "127.0.0.1:0", "--drivers", "scientist=compute", "--check"]
    files = [
        f"--{x}={office.folder / name}" for x, name in (("cert", "alice.pem"), ("key", "alice.key"), ("ca", "ca.pem"))
    ]
    more = ["--peers", "bob=127.0.0.1:1", "--data", f"x={tmp_path / 'x.npy'}#a#b", "--state", str(tmp_path / "state")]
    assert cli.main(["worker", *options, *files, *more]) == 0


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"colour": "red"}, "unknown field"),
        ({"listen": "nowhere"}, "host:port"),
        ({"role": "boss"}, "'holder' or 'provider'"),
        ({"limits": {"memory": "much"}}, "$.limits.memory"),
        ({"limits": {"memory": -1}}, "$.limits.memory"),
        ({"limits": {"time": "1 week"}}, "$.limits.time"),
        ({"limits": {"slots": -1}}, "limits.slots is -1"),
        ({"limits": {"steps": 65}}, "no worker takes more than 64"),
        ({"limits": {"colour": 1}}, "unknown field"),
        ({"limits": {"numbers": 5}}, "needs a `state` folder"),
        ({"drivers": {"x": ["fly"]}}, "no right fly"),
        ({"open": ["x"]}, "does not list"),
        ({"threads": "many"}, "int"),
        ({"peers": {"Bob": "b:1"}}, "no name"),
        ({"role": "provider", "data": {"x": {"path": "x.npy"}}}, "no data"),
        ({"data": {"x": {"path": "missing.npy"}}}, "missing.npy"),
        ({"certificate": "bob.pem"}, "certificate"),
        ({"ca": "missing.pem"}, "missing.pem"),
        ({"revoked": ["Bob"]}, "no name"),
        ({"revoked": ["alice"]}, "whose file this is"),
        ({"revoked": ["serial:alice"]}, "no serial number"),
        ({"name": "nobody"}, "nobody.pem"),
        ({"name": "alice", "certificate": "bob.pem", "key": "bob.key"}, "is for bob"),
    ],
)
def test_mistakes(office, capsys, values, says):
    assert says in fails(capsys, "worker", "--config", config(office, **values), "--check")


def test_data_out_of_their_bounds(office, tmp_path, capsys):
    np.save(tmp_path / "x.npy", np.array([[1.0, 2.0], [np.nan, 4.0]]))
    np.save(tmp_path / "y.npy", np.array([0, 1, 2]))
    for data, says in (({"path": "x.npy"}, "NaN or infinite"), ({"path": "y.npy", "classes": 2}, "no labels from 0")):
        data["path"] = str(tmp_path / data["path"])
        said = fails(capsys, "worker", "--config", config(office, data={"mine": data}), "--check")
        assert "data.mine: 1 of" in said
        assert says in said


@pytest.mark.usefixtures("as_a_process")
def test_files_that_are_no_configuration(tmp_path, capsys):
    (tmp_path / "x.toml").write_text("name = ")
    assert "x.toml" in fails(capsys, "worker", "--config", str(tmp_path / "x.toml"))
    assert "missing.toml" in fails(capsys, "status", "--config", str(tmp_path / "missing.toml"))
    assert "write NAME=" in fails(capsys, "worker", "--id", "alice", "--peers", "bob")


def test_status_and_approval(office, tmp_path, capsys):
    np.save(tmp_path / "x.npy", np.ones((30, 2), dtype=np.float32))
    rule = {"open": {"scientist": {"approve": True}}, "data": {"x": {"path": str(tmp_path / "x.npy")}}}
    options = {"alice": {**rule, "state": str(tmp_path / "state")}}
    with Workers(office.folder, options=options) as workers, workers.connect() as parties:
        alice = config(office, listen=workers.addresses["alice"], state=str(tmp_path / "state"))
        everybody = office.folder / "parties.toml"
        everybody.write_text(toml({"name": "scientist", "holders": ["alice", "bob"], "workers": workers.addresses}))
        x = sy.encrypt(parties["alice"].search("x")[0], parties).sum()
        with pytest.raises(OpenNotPermittedError):
            sy.decrypt(x)
        capsys.readouterr()

        assert cli.main(["approve", "--config", alice]) == 0
        listed = capsys.readouterr().out
        request = listed.split()[0]
        for said in ("asked by    scientist, 20", "one number, from data of alice; 30 rows", "--for 1h or --deny"):
            assert said in listed
        assert "made by     alice's x 30x2 -> sum(30x2)" in listed
        assert "--once" in fails(capsys, "approve", "--config", alice, request, "--once", "--deny").replace("once,", "")
        assert "--for" in fails(capsys, "approve", "--config", alice, request, "--for", "soon")
        assert "name the requests" in fails(capsys, "approve", "--config", alice, "--deny")
        for name in ("0123456789abcdef0123456789abcdef", "../waiting/" + request, "/etc/passwd", ""):
            assert cli.main(["approve", "--config", alice, name]) == 1
        assert cli.main(["approve", "--config", alice, request]) == 0
        capsys.readouterr()
        assert cli.main(["approve", "--config", alice]) == 0
        assert "approved    by" in capsys.readouterr().out
        assert float(sy.decrypt(x)) == pytest.approx(60, abs=0.01)
        capsys.readouterr()

        assert cli.main(["status", "--config", alice]) == 0
        text = capsys.readouterr().out
        assert "1 openings, 1 refused" in text
        assert "numbers opened today (UTC): scientist 1" in text
        assert "limits: memory 8 GB, slots 100000" in text
        assert cli.main(["status", "--config", str(everybody)]) == 0
        text = capsys.readouterr().out
        assert all(name in text for name in ("alice (holder)", "bob (holder)", "crypto_provider (provider)"))
        assert "for scientist" in text
        assert cli.main(["status", "--config", str(everybody), "--json"]) == 0
        reports = json.loads(capsys.readouterr().out)
        assert [r["openings"] for r in reports] == [1, 2, 0]
        assert torch.is_tensor(x)
    assert cli.main(["status", "--config", str(everybody)]) == 1
    assert "cannot be reached" in capsys.readouterr().out


def test_a_worker_names_itself_as_its_certificate_does(office, capsys):
    assert cli.main(["worker", "--config", config(office, "bob"), "--check"]) == 0
