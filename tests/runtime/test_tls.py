"""Who may connect: certificates, names and roles, from both sides."""

import os
import socket
import ssl
import stat
import threading

import pytest
from networks import Listener, Office, connected, expired, kept

from pysmpc.errors import ChannelError, ConfigurationError, PeerLost, RefusedError
from pysmpc.runtime import certificates, tls
from pysmpc.runtime.tls import DRIVER, PEER, Hello, Refused
from pysmpc.runtime.wire import VERSION, Stream


def test_both_sides_know_each_other(office):
    near, far = connected(office)
    assert (near.peer, far.peer) == ("bob", "alice")
    assert near.sock.version() == far.sock.version() == "TLSv1.3"
    near.send(Hello(1, PEER, "again"))
    assert far.receive(Hello).session == "again"
    near.close()
    far.close()


def refused(client, office, accepting="bob", permit=lambda name, hello: None, dialled=None):
    """Both sides' errors when a client that must not get in tries to."""
    listener = Listener(office.tls(accepting), permit)
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
