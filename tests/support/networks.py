"""Certificates and connections on this machine, for tests."""

import contextlib
import datetime
import shutil
import socket
import threading

from pysmpc.transport import certificates, tls
from pysmpc.transport.wire import Stream

NAMES = ("alice", "bob", "carol", "dave", "erin", "crypto_provider", "scientist", "stranger")


_open = []


def kept(stream):
    """A connection that `close_all` will close."""
    _open.append(stream)
    return stream


def close_all():
    """After a test."""
    while _open:
        _open.pop().close()


class Office:
    """An authority in a folder, and the certificates of everybody in NAMES."""

    def __init__(self, folder, days=certificates.AUTHORITY_DAYS):
        self.folder = certificates.initialise(folder, days)
        for name in NAMES:
            certificates.issue(folder, name)

    def tls(self, name, revoked=()):
        return tls.Tls(certificates.identity(self.folder, name), revoked)


def expired(folder, name):
    """A certificate that was valid, by the same authority."""
    (folder / f"{name}.pem").unlink()
    (folder / f"{name}.key").unlink()
    long_ago = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(days=30)
    return certificates.issue(folder, name, days=1, since=long_ago)


def copied(office, folder):
    """The same authority and certificates in another folder, to be changed."""
    shutil.copytree(office.folder, folder)
    other = Office.__new__(Office)
    other.folder = folder
    return other


class Listener:
    """Accepts one connection in a thread; `result()` is what `tls.accept` gave or raised."""

    def __init__(self, server, permit=lambda name, hello: None):
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._socket.getsockname()[1]}"
        self._outcome = None

        def work():
            plain, _ = self._socket.accept()
            try:
                self._outcome = tls.accept(server, plain, permit, 5.0)
            except Exception as error:
                self._outcome = error

        self._thread = threading.Thread(target=work, daemon=True)
        self._thread.start()

    def result(self):
        self._thread.join(10)
        self._socket.close()
        if isinstance(self._outcome, Exception):
            raise self._outcome
        return self._outcome


def connected(office, dialling="alice", accepting="bob"):
    """Both ends of a TLS connection."""
    listener = Listener(office.tls(accepting))
    near = tls.dial(office.tls(dialling), accepting, listener.address, tls.PEER, "session")
    far, _ = listener.result()
    return kept(near), kept(far)


def plain_pair():
    """Both ends of a connection without TLS."""
    ends = tcp_pair()
    return kept(Stream(ends[0], "far")), kept(Stream(ends[1], "near"))


def tcp_pair(buffers=None):
    """Two sockets, with small buffers if asked."""
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as server:
        near = kept(socket.socket())
        if buffers:
            near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffers)
            near.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffers)
        near.connect(server.getsockname())
        far = kept(server.accept()[0])
        if buffers:
            far.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffers)
        return near, far
