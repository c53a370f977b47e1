"""Connections between parties: TLS 1.3, both sides with a certificate, names pinned.

Every party has a certificate of the project's own authority that carries its name.
The dialling side checks that it reached the name it meant; the accepting side takes
the name from the certificate, never from what is said, and asks its configuration what
that name may do.  TLS 1.3 shows a refused client a finished handshake first, so
nobody counts as connected before the hello was answered.
"""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import msgspec

from pysmpc.errors import ChannelError, ConfigurationError, PeerLost, RefusedError
from pysmpc.transport.wire import VERSION, Stream

HANDSHAKE = 8.0  # seconds
DRIVER, PEER, STATUS, CLIENT = "driver", "peer", "status", "client"
SERIAL = "serial:"  # in a list of revoked certificates, before the serial number


class Identity(NamedTuple):
    """Files of a party: its certificate, the key of it, the authority's certificate."""

    certificate: str
    key: str
    authority: str


class Hello(msgspec.Struct, tag=True, array_like=True, forbid_unknown_fields=True):
    """The dialling side's first message."""

    version: int
    role: str
    session: str = ""


class Welcome(msgspec.Struct, tag=True, array_like=True, forbid_unknown_fields=True):
    """The connection is taken."""


class Refused(msgspec.Struct, tag=True, array_like=True, forbid_unknown_fields=True):
    """The connection is not taken."""

    reason: str


class Tls:
    """What one party needs to dial and to accept.

    revoked: names, and serial numbers of certificates ("serial:4F2A..."), that are refused in either direction.
    """

    def __init__(self, identity: Identity, revoked: Iterable[str] = ()) -> None:
        self._revoked = frozenset(map(revocation, revoked))
        self._server = self._context(ssl.PROTOCOL_TLS_SERVER, identity)
        self._server.num_tickets = 0
        self._client = self._context(ssl.PROTOCOL_TLS_CLIENT, identity)
        check_private(identity.key)

    @staticmethod
    def _context(protocol: int, identity: Identity) -> ssl.SSLContext:
        context = ssl.SSLContext(protocol)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.verify_mode = ssl.CERT_REQUIRED
        try:
            context.load_verify_locations(identity.authority)
            context.load_cert_chain(identity.certificate, identity.key)
        except OSError as error:
            raise ConfigurationError(
                f"{identity.certificate}, {identity.key} and {identity.authority} do not serve as certificate, key and "
                f"authority: {error}; make them with `pysmpc certs`"
            ) from None
        return context

    def client(self, sock: socket.socket, name: str) -> socket.socket:
        """Over a connection that was dialled.  RefusedError for a certificate that is revoked."""
        wrapped = self._client.wrap_socket(sock, server_hostname=name, suppress_ragged_eofs=False)
        self._admit(wrapped)
        return wrapped

    def server(self, sock: socket.socket) -> tuple[socket.socket, str]:
        """Over a connection that was accepted; and the name in the certificate.  RefusedError as for `client`."""
        wrapped = self._server.wrap_socket(sock, server_side=True, suppress_ragged_eofs=False)
        return wrapped, self._admit(wrapped)

    def _admit(self, wrapped: ssl.SSLSocket) -> str:
        """The name in the other side's certificate; the connection is closed where that is refused."""
        try:
            name = certified_name(wrapped.getpeercert() or {})
            if (reason := self.revoked(name, serial_of(wrapped))) is not None:
                raise RefusedError(reason)
        except RefusedError:
            wrapped.close()
            raise
        return name

    def revoked(self, name: str, serial: str) -> str | None:
        """The reason to refuse a certificate that is on the list, by its name or serial number; None if it is not."""
        for entry in (name, SERIAL + serial):
            if entry in self._revoked:
                return f"{name} is revoked: the list `revoked` has {entry!r} (its certificate: {SERIAL}{serial})"
        return None


def check_private(key: str | os.PathLike[str]) -> None:
    """ConfigurationError for a file of a private key that others than its owner can use."""
    try:
        mode = os.stat(key).st_mode & 0o777
    except OSError as error:
        raise ConfigurationError(f"{key}: {error.strerror}; make keys with `pysmpc certs`") from None
    if mode & 0o077:
        raise ConfigurationError(
            f"{key} is a private key, and its mode {mode:04o} is for more than its owner: chmod 600 {key}; "
            "where others may have read it, replace it"
        )


def revocation(entry: str) -> str:
    """An entry of a list of revoked certificates in its usual form: names as they are, numbers like `serial_of`."""
    if not entry.startswith(SERIAL):
        return entry
    digits = entry.removeprefix(SERIAL).replace(":", "")
    if not digits or set(digits) - set("0123456789abcdefABCDEF"):
        raise ConfigurationError(f"revoked: {entry!r} is no serial number; write {SERIAL} and hexadecimal digits")
    return SERIAL + format(int(digits, 16), "X")


def serial_of(sock: socket.socket) -> str:
    """The serial number of the other side's certificate in hexadecimal digits; nothing where there is none."""
    certificate = (sock.getpeercert() if isinstance(sock, ssl.SSLSocket) else None) or {}
    return format(int(str(certificate.get("serialNumber", "0")), 16), "X") if certificate else ""


def certified_name(certificate: Mapping[str, Any]) -> str:
    """The one name of a certificate that was verified."""
    names = [value for kind, value in certificate.get("subjectAltName", ()) if kind == "DNS"]
    if len(names) != 1:
        raise RefusedError(f"a party's certificate carries one name, this one {len(names)}")
    return str(names[0])


def address(text: str) -> tuple[str, int]:
    """("host", port) of "host:port"."""
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdigit() or int(port) > 65535:
        raise ConfigurationError(f"{text!r} is no address; write host:port")
    return host.strip("[]"), int(port)


def dial(tls: Tls, name: str, where: str, role: str, session: str = "", patience: float = HANDSHAKE) -> Stream:
    """A connection to the party of that name, who took it in that role."""
    try:
        plain = socket.create_connection(address(where), timeout=patience)
    except OSError as error:
        raise PeerLost(f"{name} cannot be reached at {where}: {error}") from None
    try:
        plain.settimeout(patience)
        sock = tls.client(plain, name)
    except ssl.SSLCertVerificationError as error:
        plain.close()
        raise RefusedError(f"who answers at {where} cannot prove to be {name}: {error.verify_message}") from None
    except TimeoutError:
        plain.close()
        raise PeerLost(f"{name} takes connections at {where} and says nothing for {patience:.0f} s") from None
    except OSError as error:
        plain.close()
        raise RefusedError(f"no secure connection to {name} at {where}: {error}") from None
    stream = Stream(sock, name, serial=serial_of(sock))
    try:
        stream.send(Hello(VERSION, role, session))
        answer = stream.receive(Welcome | Refused, patience)
    except PeerLost as error:
        stream.close()
        raise RefusedError(f"{name} at {where} refused this party's certificate, or stopped: {error}") from None
    except ChannelError:
        stream.close()
        raise
    if isinstance(answer, Refused):
        stream.close()
        raise RefusedError(f"{name} refused: {answer.reason}")
    return stream


Permit = Callable[[str, Hello], str | None]


def accept(tls: Tls, plain: socket.socket, permit: Permit, patience: float = HANDSHAKE) -> tuple[Stream, Hello]:
    """The other end of `dial`.  permit(name, hello): a reason to refuse, or None.

    RefusedError says why a connection was not taken; it is closed by then.
    """
    sock, name = plain, "someone"
    try:
        plain.settimeout(patience)
        sock, name = tls.server(plain)
        stream = Stream(sock, name, serial=serial_of(sock))
        hello: Hello = stream.receive(Hello, patience)
        reason = permit(name, hello)
        if hello.version != VERSION:
            reason = f"version {hello.version} of the protocol; this party speaks {VERSION}"
        if reason is not None:
            with contextlib.suppress(ChannelError):
                stream.send(Refused(reason))
            raise RefusedError(f"{name} as {hello.role}: {reason}")
        stream.send(Welcome())
    except BaseException as error:
        sock.close()
        if isinstance(error, ssl.SSLCertVerificationError):
            raise RefusedError(f"certificate of {name}: {error.verify_message}") from None
        if isinstance(error, OSError | ChannelError):
            raise RefusedError(str(error)) from None
        raise
    return stream, hello
