"""Who may connect: certificates, names and roles, from both sides."""

import datetime
import logging
import os
import socket
import ssl
import stat
import threading

import pytest
from cryptography import x509
from networks import Listener, Office, connected, copied, expired, kept

from pysmpc.errors import ChannelError, ConfigurationError, PeerLost, RefusedError
from pysmpc.transport import certificates, tls
from pysmpc.transport.tls import DRIVER, PEER, Hello, Refused
from pysmpc.transport.wire import VERSION, Stream


def test_both_sides_know_each_other(office):
    near, far = connected(office)
    assert (near.peer, far.peer) == ("bob", "alice")
    assert near.sock.version() == far.sock.version() == "TLSv1.3"
    near.send(Hello(1, PEER, "again"))
    assert far.receive(Hello).session == "again"
    near.close()
    far.close()


def refused(client, office, accepting="bob", permit=lambda name, hello: None, dialled=None, server=None):
    """Both sides' errors when a client that must not get in tries to."""
    listener = Listener(server or office.tls(accepting), permit)
    with pytest.raises(RefusedError) as near:
        tls.dial(client, dialled or accepting, listener.address, PEER, patience=5.0)
    with pytest.raises(RefusedError) as far:
        listener.result()
    return str(near.value), str(far.value)


def test_another_authority(office, tmp_path):
    other = Office(tmp_path)
    mixed = certificates.identity(other.folder, "alice")._replace(authority=str(office.folder / "ca.pem"))
    near, far = refused(tls.Tls(mixed), office)
    assert "refused this party's certificate" in near
    assert "certificate" in far


def test_a_server_of_another_authority(office, tmp_path):
    near, _ = refused(office.tls("alice"), Office(tmp_path))
    assert "cannot prove to be bob" in near


def test_expired(office, tmp_path):
    other = Office(tmp_path)
    near, far = refused(tls.Tls(expired(tmp_path, "alice")), other)
    assert "refused" in near
    assert "expired" in far


def test_no_certificate(office):
    listener = Listener(office.tls("bob"))
    context = ssl.create_default_context(cafile=str(office.folder / "ca.pem"))
    sock = kept(context.wrap_socket(socket.create_connection(tls.address(listener.address)), server_hostname="bob"))
    with pytest.raises((ssl.SSLError, ConnectionError)):
        [sock.send(b"x"), sock.recv(1)]
    with pytest.raises(RefusedError, match="did not return a certificate"):
        listener.result()


def test_the_wrong_name(office):
    near, _ = refused(office.tls("alice"), office, accepting="carol", dialled="bob")
    assert "cannot prove to be bob" in near


def test_a_role_that_is_not_permitted(office):
    near, far = refused(office.tls("stranger"), office, permit=lambda name, hello: f"{name} may not")
    assert "bob refused: stranger may not" in near
    assert far == "stranger as peer: stranger may not"


def test_an_old_tls_is_refused(office):
    listener = Listener(office.tls("bob"))
    files = certificates.identity(office.folder, "alice")
    context = ssl.create_default_context(cafile=files.authority)
    context.load_cert_chain(files.certificate, files.key)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    plain = kept(socket.create_connection(tls.address(listener.address)))
    with pytest.raises((ssl.SSLError, ConnectionError)):
        context.wrap_socket(plain, server_hostname="bob")
    plain.close()
    with pytest.raises(RefusedError):
        listener.result()


def test_another_version_of_the_protocol(office):
    listener = Listener(office.tls("bob"))
    plain = socket.create_connection(tls.address(listener.address))
    stream = kept(Stream(office.tls("alice").client(plain, "bob"), "bob"))
    stream.send(Hello(VERSION + 1, DRIVER))
    assert f"version {VERSION + 1}" in stream.receive(Refused).reason
    with pytest.raises(RefusedError, match=f"version {VERSION + 1}"):
        listener.result()


def test_what_is_no_tls(office):
    listener = Listener(office.tls("bob"))
    with socket.create_connection(tls.address(listener.address)) as sock:
        sock.send(os.urandom(100))
        with pytest.raises(RefusedError):
            listener.result()


def test_nobody_there():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(PeerLost, match="cannot be reached"):
        tls.dial(None, "bob", f"127.0.0.1:{port}", PEER)


def test_who_accepts_and_says_nothing(office):
    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=lambda: kept(server.accept()[0]), daemon=True).start()
        where = f"127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(ChannelError, match=r"bob takes connections at .* and says nothing"):
            tls.dial(office.tls("alice"), "bob", where, PEER, patience=0.2)


@pytest.mark.parametrize("text", ["bob", "bob:", ":x", "bob:99999", "bob:-1"])
def test_addresses(text):
    with pytest.raises(ConfigurationError, match="host:port"):
        tls.address(text)


def test_keys_are_for_their_owner_alone(office):
    for name in ("ca", "alice", "crypto_provider"):
        assert stat.S_IMODE((office.folder / f"{name}.key").stat().st_mode) == 0o600


def test_nothing_is_overwritten(office):
    with pytest.raises(FileExistsError):
        certificates.issue(office.folder, "alice")
    with pytest.raises(FileExistsError):
        certificates.initialise(office.folder)


@pytest.mark.parametrize("name", ["", "ca", "Alice", "al ice", "../x", "*.example", "a" * 64])
def test_names_of_certificates(office, name):
    with pytest.raises(ConfigurationError, match="no name"):
        certificates.issue(office.folder, name)


def test_no_authority(tmp_path):
    with pytest.raises(ConfigurationError, match="certs init"):
        certificates.issue(tmp_path, "alice")


def test_files_that_do_not_belong_together(office):
    mixed = certificates.identity(office.folder, "alice")._replace(key=str(office.folder / "bob.key"))
    with pytest.raises(ConfigurationError, match="pysmpc certs"):
        tls.Tls(mixed)


# --- private keys -------------------------------------------------------------------


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o610, 0o601, 0o644, 0o777])
def test_a_key_for_more_than_its_owner(office, tmp_path, mode):
    files = certificates.identity(copied(office, tmp_path / "pki").folder, "alice")
    os.chmod(files.key, mode)
    with pytest.raises(ConfigurationError, match=f"chmod 600 {files.key}"):
        tls.Tls(files)
    for private in (0o600, 0o400):
        os.chmod(files.key, private)
        tls.Tls(files)


def test_the_authoritys_key_is_for_its_owner_alone(office, tmp_path):
    folder = copied(office, tmp_path / "pki").folder
    os.chmod(folder / "ca.key", 0o640)
    with pytest.raises(ConfigurationError, match=r"chmod 600 .*ca\.key"):
        certificates.issue(folder, "zoe")
    with pytest.raises(ConfigurationError, match=r"chmod 600 .*ca\.key"):
        certificates.renew(folder, "alice")


# --- renewal ------------------------------------------------------------------------


def certificate(folder, name):
    return x509.load_pem_x509_certificate((folder / f"{name}.pem").read_bytes())


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def pki(office, tmp_path):
    """A copy of the office whose certificates a test may change."""
    return copied(office, tmp_path / "pki")


@pytest.fixture
def at(monkeypatch):
    """Let `certificates` believe that it is so many days from now."""

    def travel(days):
        then = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(days=days)
        monkeypatch.setattr(certificates, "_now", lambda: then)

    return travel


def meet(dialling, accepting, name="bob"):
    """Over TLS; what each side learns of the other's certificate."""
    listener = Listener(accepting)
    near = kept(tls.dial(dialling, name, listener.address, PEER, patience=5.0))
    far = kept(listener.result()[0])
    return far.peer, far.serial, near.serial


@pytest.mark.parametrize("keep_key", [False, True])
def test_renewed(pki, office, keep_key):
    before, files = contents(pki.folder), certificates.identity(pki.folder, "alice")
    os.chmod(files.certificate, 0o600)
    old = certificate(pki.folder, "alice")
    renewed = certificates.renew(pki.folder, "alice", keep_key=keep_key)
    new, after = certificate(pki.folder, "alice"), contents(pki.folder)
    assert {name for name in after if after[name] != before.get(name)} == (
        {"alice.pem"} if keep_key else {"alice.pem", "alice.key"}
    )
    assert set(after) == set(before)
    assert renewed.serial == f"serial:{old.serial_number:X}"
    assert renewed.ended == old.not_valid_after_utc
    assert new.serial_number != old.serial_number
    assert (new.public_key() == old.public_key()) == keep_key
    assert certificates.name_in(files.certificate) == "alice"
    assert stat.S_IMODE(os.stat(files.key).st_mode) == 0o600
    assert stat.S_IMODE(os.stat(files.certificate).st_mode) == 0o644
    # others, who were not told, know it; and it says who it is
    assert meet(pki.tls("alice"), office.tls("bob"))[:2] == ("alice", f"{new.serial_number:X}")
    assert meet(office.tls("bob"), pki.tls("alice"), "alice")[2] == f"{new.serial_number:X}"


@pytest.mark.parametrize("keep_key", [False, True])
def test_renewed_after_it_expired(pki, keep_key):
    files = expired(pki.folder, "alice")
    assert "expired" in refused(tls.Tls(files), pki)[1]
    assert certificates.renew(pki.folder, "alice", keep_key=keep_key).ended < datetime.datetime.now(
        datetime.timezone.utc
    )
    assert meet(pki.tls("alice"), pki.tls("bob"))[0] == "alice"


def test_renewed_without_the_partys_key(pki, tmp_path):
    """The key stays on the party's machine; only the certificate comes to the authority, and goes back."""
    files = certificates.identity(pki.folder, "alice")
    os.rename(files.key, tmp_path / "alice.key")
    certificates.renew(pki.folder, "alice", keep_key=True)
    assert not os.path.exists(files.key)
    assert meet(tls.Tls(files._replace(key=str(tmp_path / "alice.key"))), pki.tls("bob"))[0] == "alice"


def test_what_cannot_be_renewed(pki, office, tmp_path):
    folder = pki.folder
    with pytest.raises(ConfigurationError, match=r"zoe\.pem is not there .* certs issue"):
        certificates.renew(folder, "zoe")
    (folder / "bob.pem").write_bytes((folder / "carol.pem").read_bytes())
    with pytest.raises(ConfigurationError, match="is for carol, not for bob"):
        certificates.renew(folder, "bob")
    other = Office(tmp_path / "other")
    (folder / "bob.pem").write_bytes((other.folder / "bob.pem").read_bytes())
    for keep_key in (True, False):  # else it would vouch for a key that it never saw
        with pytest.raises(ConfigurationError, match="not by the authority"):
            certificates.renew(folder, "bob", keep_key=keep_key)
    (folder / "bob.pem").write_text("nonsense")
    with pytest.raises(ConfigurationError, match="no certificate of a party"):
        certificates.renew(folder, "bob")
    (folder / "ca.key").unlink()
    for name in ("alice", "ca"):
        with pytest.raises(ConfigurationError, match=r"ca\.key is missing.*where the authority's key ca\.key is kept"):
            certificates.renew(folder, name)
    (folder / "ca.key").write_bytes((other.folder / "ca.key").read_bytes())
    os.chmod(folder / "ca.key", 0o600)
    with pytest.raises(ConfigurationError, match="is not the key of"):
        certificates.renew(folder, "alice")


@pytest.mark.parametrize("failing", [1, 2])
def test_a_renewal_that_fails_leaves_the_old_files(pki, monkeypatch, failing):
    """The disk is full while the first or the second file is written."""
    before, calls, fsync = contents(pki.folder), [], os.fsync

    def full(descriptor):
        calls.append(descriptor)
        if len(calls) == failing:
            raise OSError(28, "No space left on device")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        certificates.renew(pki.folder, "alice")
    assert contents(pki.folder) == before


def test_nothing_is_signed_past_the_authoritys_end(tmp_path):
    folder = certificates.initialise(tmp_path / "pki", days=10)
    ends = certificate(folder, "ca").not_valid_after_utc
    certificates.issue(folder, "alice")
    certificates.issue(folder, "bob", days=3)
    for name in ("alice", "bob"):
        with pytest.raises(ConfigurationError, match=r"authority's certificate ends; .* certs renew .* ca"):
            certificates.renew(folder, name, days=11)
        certificates.renew(folder, name)
        assert certificate(folder, name).not_valid_after_utc == ends
    with pytest.raises(ConfigurationError, match="authority's certificate ends"):
        certificates.issue(folder, "carol", days=397)
    assert not (folder / "carol.key").exists()


@pytest.mark.parametrize("days", [0, -1, 10**9])
def test_days_that_make_no_sense(pki, days):
    for name in ("alice", "ca"):
        with pytest.raises(ConfigurationError, match="1 to 36500 days"):
            certificates.renew(pki.folder, name, days)


def test_the_authority_renewed(tmp_path, at):
    """Before or after its end; what it signed stays valid, whichever of its certificates a party has."""
    at(-20)
    old = Office(tmp_path / "pki", days=30)
    new = copied(old, tmp_path / "new")
    at(0)
    renewed = certificates.renew(new.folder, "ca")
    assert renewed.ended == certificate(old.folder, "ca").not_valid_after_utc
    assert certificate(new.folder, "ca").not_valid_after_utc - renewed.ended > datetime.timedelta(days=3600)
    assert set(contents(new.folder)) == set(contents(old.folder))
    certificates.renew(new.folder, "alice")
    for a, b in [(old, new), (new, old), (new, new)]:
        assert meet(a.tls("alice"), b.tls("bob"))[0] == "alice"


def test_an_authority_that_expired(tmp_path, at):
    at(-30)
    pki = Office(tmp_path / "pki", days=29)
    at(0)
    for call in (certificates.issue, certificates.renew):
        with pytest.raises(ConfigurationError, match=r"authority's certificate expired on .* certs renew .* ca"):
            call(pki.folder, "alice")
    certificates.renew(pki.folder, "ca")
    certificates.renew(pki.folder, "alice")
    certificates.renew(pki.folder, "bob")
    assert meet(pki.tls("alice"), pki.tls("bob"))[0] == "alice"


@pytest.mark.parametrize(
    ("days", "level", "says"),
    [
        (-1, logging.ERROR, "not valid before"),
        (366, None, None),
        (368, logging.WARNING, "in 28 days"),
        (395.5, logging.WARNING, "in 1 day:"),
        (396.5, logging.WARNING, "within a day"),
        (397, logging.ERROR, "expired on"),
    ],
)
def test_notices_of_a_certificate(pki, at, days, level, says):
    certificates.renew(pki.folder, "alice")
    own, authority = certificates.validity(certificates.identity(pki.folder, "alice"))
    at(days)
    found = certificates.notices([own])
    if level is None:
        assert found == []
        assert certificates.notices([own, authority]) == []
        return
    [(found_level, text)] = found
    assert found_level == level
    assert says in text
    assert "alice.pem" in text
    assert "the clock" in text or "pysmpc certs renew FOLDER alice" in text


def test_notices_of_the_authority(pki, at):
    [authority] = certificates.authorities(pki.folder / "ca.pem")
    at(3640)
    [(level, text)] = certificates.notices([authority])
    assert level == logging.WARNING
    assert "ca.pem" in text
    assert "certs renew FOLDER ca" in text
    # in one file with its renewal, the old one says nothing; that of another authority does
    old = (pki.folder / "ca.pem").read_bytes()
    certificates.renew(pki.folder, "ca")
    both = pki.folder / "both.pem"
    both.write_bytes((pki.folder / "ca.pem").read_bytes() + old)
    assert certificates.notices(certificates.authorities(both)) == []
    certificates.initialise(pki.folder / "other", days=5)
    both.write_bytes(both.read_bytes() + (pki.folder / "other" / "ca.pem").read_bytes())
    assert len(certificates.authorities(both)) == 2
    assert len(certificates.notices(certificates.authorities(both))) == 1


# --- revocation ---------------------------------------------------------------------


def written(serial):
    """A serial number as openssl, or a person, may write it."""
    pairs = ("0" if len(serial) % 2 else "") + serial.lower()
    return ":".join(pairs[i : i + 2] for i in range(0, len(pairs), 2))


def test_a_name_that_is_revoked(office):
    near, far = refused_by(office, office.tls("alice"), revoked=["alice"])
    assert "refused this party's certificate" in near
    assert "alice is revoked" in far
    assert meet(office.tls("carol"), office.tls("bob", ["alice"]))[0] == "carol"


def test_who_is_revoked_is_not_dialled(office):
    listener = Listener(office.tls("bob"))
    with pytest.raises(RefusedError, match="bob is revoked"):
        tls.dial(office.tls("alice", ["bob"]), "bob", listener.address, PEER, patience=5.0)
    with pytest.raises(RefusedError):
        listener.result()


def refused_by(office, client, revoked):
    return refused(client, office, server=office.tls("bob", revoked))


@pytest.mark.parametrize("write", [str, str.lower, written])
def test_a_certificate_that_is_revoked(pki, tmp_path, write):
    """A stolen key and its certificate are refused; the party, with its new ones, is not."""
    stolen = copied(pki, tmp_path / "stolen").tls("alice")
    serial = certificates.renew(pki.folder, "alice").serial.removeprefix("serial:")
    revoked = [f"serial:{write(serial)}"]
    assert f"serial:{serial}" in refused_by(pki, stolen, revoked)[1]
    assert meet(pki.tls("alice"), pki.tls("bob", revoked))[0] == "alice"
    listener = Listener(stolen)
    with pytest.raises(RefusedError, match="alice is revoked"):
        tls.dial(pki.tls("bob", revoked), "alice", listener.address, PEER, patience=5.0)
    with pytest.raises(RefusedError):
        listener.result()


@pytest.mark.parametrize("entry", ["serial:", "serial:xyz", "serial:0x12", "serial: 12"])
def test_what_is_no_serial_number(office, entry):
    with pytest.raises(ConfigurationError, match="no serial number"):
        office.tls("alice", [entry])
