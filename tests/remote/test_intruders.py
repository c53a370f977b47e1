"""Who is not let in, and that workers say so in their logs."""

import logging
import time

import pytest
import torch
from networks import expired
from remotes import Office, Workers

import pysmpc as sy
from pysmpc.errors import ChannelError, RefusedError, RemoteError
from pysmpc.remote.driver import ask
from pysmpc.runtime import certificates, tls
from pysmpc.runtime.tls import DRIVER, PEER


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
        (tmp_path / name).write_bytes((office.folder / name).read_bytes())
    certificates.issue(tmp_path, "scientist")
    intrude(workers, expired(tmp_path, "scientist"))
    reasons = refusals(2)
    assert len(reasons) == 2
    assert all("certificate" in reason for reason in reasons)
    assert any("expired" in reason for reason in reasons)


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
