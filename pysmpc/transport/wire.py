"""What passes over a connection: frames of bounded length, messages of known types, raw words.

A `Stream` is one connection, used by one thread (OpenSSL allows no more).  It never
blocks by itself: `write` and `read_into` do what can be done now, `wait` polls until
more can be done.  Nothing is ever unpickled, and no length that a peer announces
is believed beyond its limit.
"""

from __future__ import annotations

import contextlib
import math
import select
import socket
import ssl
import struct
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import msgspec
import torch

from pysmpc.errors import ChannelError, PeerLost
from pysmpc.session.forks import Process

VERSION = 6
HEADER = struct.Struct("<BBHI")  # version, kind, nothing, bytes that follow
MESSAGE, WORDS, PACKED = 1, 2, 3  # a control message; raw bytes of a tensor; compressed operations
LIMITS = {MESSAGE: 1 << 20, WORDS: 1 << 24, PACKED: 1 << 22}
CHUNK = 1 << 24  # of a tensor, a frame
TENSOR = 1 << 31  # bytes of one tensor
PATIENCE = 60.0  # seconds without a byte
RECORD = 1 << 14  # bytes that TLS encrypts at once: short parts travel together
AHEAD = 2 * RECORD  # bytes that are read at once where only frames come: more than a record, so that none is left over

ENDED = getattr(select, "POLLRDHUP", 0)  # poll tells of errors and of closed connections by itself

Buffer = bytes | bytearray | memoryview

_Read = Callable[[int, memoryview], int]  # at most so many bytes, and where to
_LATER = (ssl.SSLWantReadError, ssl.SSLWantWriteError, BlockingIOError)


class Cancelled(ChannelError):
    """This side stopped waiting."""


def _plainly(sock: socket.socket) -> _Read:
    """Read without encryption as `SSLSocket.read` does."""
    return lambda _, place: sock.recv_into(place)


def joined(parts: Sequence[Buffer]) -> list[memoryview]:
    """Parts as bytes; as one where they fit into a record of TLS."""
    views = [view for part in parts if (view := memoryview(part).cast("B")).nbytes]
    if len(views) > 1 and sum(view.nbytes for view in views) <= RECORD:
        return [memoryview(b"".join(views))]
    return views


class Stream:
    """One end of a connection to `peer`.

    wake: a file that, once readable, ends every wait.  serial: the number of the peer's certificate.
    """

    def __init__(self, sock: socket.socket, peer: str, wake: int | None = None, serial: str = "") -> None:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        self.sock = sock
        self._receive: _Read = sock.read if isinstance(sock, ssl.SSLSocket) else _plainly(sock)  # type: ignore[assignment]
        self.peer = peer
        self.serial = serial
        self.wake = wake
        self.process = Process("this connection")
        self.sent = 0
        self.received = 0
        self._flushing = False
        self._out: deque[memoryview] = deque()
        self._in = _Frames()

    def only_frames(self) -> None:
        """Nothing but frames will be read from now on: `pull` may take a record of TLS that has several at once."""
        self._in.ahead = bytearray(AHEAD)

    def __repr__(self) -> str:
        return f"Stream(to {self.peer})"

    def fileno(self) -> int:
        return self.sock.fileno()

    # --- what can be done now ---

    def write(self, data: memoryview) -> int:
        """Bytes that the connection took.  After 0, the same data must be offered again."""
        self.process.check()  # two processes would encrypt different records under one key and number
        try:
            count = self.sock.send(data)
        except _LATER:
            return 0
        except OSError as error:
            raise self._lost(error) from None
        self.sent += count
        return count

    def read_into(self, data: memoryview) -> int:
        """Bytes that were there: a record of TLS comes at a time."""
        return self._read(data, False)

    def read_record(self, data: memoryview) -> int:
        """The same of one record at most, which fits."""
        return self._read(data, True)

    def _read(self, data: memoryview, once: bool) -> int:
        self.process.check()
        receive, have, size = self._receive, 0, data.nbytes
        try:
            while have < size:
                count = receive(size - have, data[have:] if have else data)
                if not count:
                    raise PeerLost(f"{self.peer} closed the connection")
                have += count
                if once:
                    break
        except _LATER:
            pass
        except (OSError, ValueError) as error:  # ValueError: this side has closed it
            raise self._lost(error) from None
        self.received += have
        return have

    def _lost(self, error: OSError | ValueError) -> PeerLost:
        what = "vanished" if isinstance(error, ssl.SSLEOFError | ConnectionError) else f"is gone: {error}"
        return PeerLost(f"{self.peer} {what}")

    def queue(self, *parts: Buffer) -> None:
        """Parts for `push` to write; they must not change before."""
        self._out.extend(joined(parts))

    @property
    def unsent(self) -> int:
        """Parts that wait for `push`."""
        return len(self._out)

    def push(self) -> bool:
        """Write what is queued; whether all of it went."""
        while self._out:
            view = self._out[0]
            count = self.write(view)
            if not count:
                return False
            if count == view.nbytes:
                self._out.popleft()
            else:
                self._out[0] = view[count:]
        return True

    def pull(self) -> tuple[int, memoryview] | None:
        """The next frame that is complete, or None."""
        return self._in.next(self)

    # --- waiting ---

    @property
    def events(self) -> int:
        """To read, unless flushing, and to write what is queued."""
        return (0 if self._flushing else select.POLLIN) | (select.POLLOUT if self._out else 0)

    def wait(self, until: float) -> None:
        """Until a byte can move.  ChannelError at the time `until`; Cancelled when woken."""
        if not poll([self], until, self.wake):
            raise ChannelError(f"no word from {self.peer}: it is frozen, unreachable or at another point")

    def flush(self, patience: float = PATIENCE) -> None:
        """Write all that is queued.  The other side must be reading."""
        if self.push():
            return
        until = time.monotonic() + patience
        self._flushing = True  # what there is to read must not keep it awake
        try:
            while not self.push():
                before = self.sent
                self.wait(until)
                if self.sent != before:
                    until = time.monotonic() + patience
        finally:
            self._flushing = False

    def frame(self, kind: int, patience: float = PATIENCE, end: float = math.inf) -> memoryview:
        """The next frame, which must be of a kind.  patience: seconds without a byte; end: when it must be there."""
        until = time.monotonic() + patience
        while (found := self.pull()) is None:
            if time.monotonic() >= end:
                raise ChannelError(f"{self.peer} sends more slowly than it may")
            before = self.received
            self.wait(min(until, end))
            if self.received != before:
                until = time.monotonic() + patience
        if found[0] != kind:
            raise ChannelError(f"{self.peer} sent a frame of kind {found[0]} where {kind} was due")
        return found[1]

    def fill(self, target: Buffer, patience: float | None = PATIENCE) -> None:
        """Read until the target is full.  patience None: wait without end, as a dealer may rest with the program."""
        view, until = memoryview(target), time.monotonic() + (patience or 0)
        while view.nbytes:
            count = self.read_into(view)
            view = view[count:]
            if count:
                until = time.monotonic() + (patience or 0)
            elif patience is None:
                poll([self], time.monotonic() + 3600.0, self.wake)
            else:
                self.wait(until)

    def send(self, message: msgspec.Struct) -> None:
        """Write one message."""
        self.queue(*framed(MESSAGE, pack(message)))
        self.flush()

    def receive(self, kind: type[Any] | Any, patience: float = PATIENCE) -> Any:
        """The next message, of the type (or union of types) expected."""
        return unpack(self.frame(MESSAGE, patience), kind, self.peer)

    def close(self) -> None:
        """End the connection."""
        with contextlib.suppress(OSError):
            self.sock.close()


class _Frames:
    """Puts frames together from what arrives.

    ahead: where what arrives is read to before its frame is known, where only frames come.
    """

    def __init__(self) -> None:
        self.ahead: bytearray | None = None
        self._read = memoryview(b"")  # of that, what no frame has yet
        self._all = False  # whether that was all there was
        self._header = bytearray(HEADER.size)
        self._body: bytearray | None = None
        self._kind = 0
        self._have = 0

    def _fill(self, stream: Stream, place: memoryview) -> int:
        """Bytes that were there; 0 where all of them were read, for `poll` to tell of more."""
        if self.ahead is None or (place.nbytes >= RECORD and not self._read):
            self._all = False  # a part of a record may be left, decrypted, of which `poll` does not tell
            return stream.read_into(place)
        if not self._read:
            if self._all:
                self._all = False
                return 0
            have = stream.read_record(memoryview(self.ahead))
            self._read, self._all = memoryview(self.ahead)[:have], 0 < have < len(self.ahead)
        count = min(self._read.nbytes, place.nbytes)
        place[:count] = self._read[:count]
        self._read = self._read[count:]
        return count

    def next(self, stream: Stream) -> tuple[int, memoryview] | None:
        while True:
            target = self._header if self._body is None else self._body
            with memoryview(target) as view:
                while self._have < len(target):
                    count = self._fill(stream, view[self._have :])
                    if not count:
                        return None
                    self._have += count
            self._have = 0
            if self._body is not None:
                body, self._body = self._body, None
                return self._kind, memoryview(body)
            self._kind, length = check_header(self._header, stream.peer)
            self._body = bytearray(length)


def check_header(header: Buffer, peer: str) -> tuple[int, int]:
    """(kind, length) of a frame, within the limits."""
    version, kind, nothing, length = HEADER.unpack(header)
    if version != VERSION:
        raise ChannelError(f"{peer} speaks version {version} of the protocol, this side {VERSION}; use one release")
    if kind not in LIMITS or nothing:
        raise ChannelError(f"{peer} sent what is no frame (kind {kind})")
    if length > LIMITS[kind]:
        raise ChannelError(f"{peer} announced {length} bytes; at most {LIMITS[kind]} are taken in one frame")
    return kind, length


def framed(kind: int, body: Buffer) -> tuple[bytes, memoryview]:
    """Header and body of a frame."""
    view = memoryview(body).cast("B")
    if view.nbytes > LIMITS[kind]:
        raise ChannelError(f"a message of {view.nbytes} bytes is too long for one frame ({LIMITS[kind]})")
    return HEADER.pack(VERSION, kind, 0, view.nbytes), view


_encoder = msgspec.msgpack.Encoder()
_decoders: dict[Any, msgspec.msgpack.Decoder[Any]] = {}
_making = threading.Lock()  # msgspec keeps what it knows of a type with the type, and another thread may see half of it


def pack(message: Any) -> bytes:
    """A message as bytes."""
    return _encoder.encode(message)


def unpack(body: Buffer, kind: Any, peer: str) -> Any:
    """Bytes as a message of a type; ChannelError if they are something else."""
    decoder = _decoders.get(kind)
    if decoder is None:
        with _making:
            decoder = _decoders[kind] = msgspec.msgpack.Decoder(kind)
    try:
        return decoder.decode(body)
    except (msgspec.MsgspecError, ValueError, OverflowError, RecursionError) as error:
        raise ChannelError(f"{peer} sent a message that makes no sense: {error}") from None


class Waiting(Protocol):
    """What `poll` can wait for."""

    @property
    def events(self) -> int:
        """Poll's flags for what is wanted."""
        ...

    def fileno(self) -> int: ...


def poll(waiting: Sequence[Waiting], until: float, wake: int | None = None, only: Waiting | None = None) -> set[int]:
    """Until some of them can move on: their file numbers; none at the time `until`.

    only: of the others nothing is read but that they end.
    """
    poller = select.poll()
    for each in waiting:
        if (number := each.fileno()) < 0:
            raise Cancelled("this side closed the connection")
        events = each.events
        poller.register(number, events if only is None or each is only else events & select.POLLOUT | ENDED)
    if wake is not None:
        poller.register(wake, select.POLLIN)
    ready = {number for number, _ in poller.poll(max(until - time.monotonic(), 0) * 1000)}
    if wake in ready:
        raise Cancelled("this side stopped")
    return ready


# --- tensors ------------------------------------------------------------------------


def raw(tensor: torch.Tensor) -> memoryview:
    """The memory of a contiguous tensor."""
    if not tensor.numel():
        return memoryview(b"")
    dense = tensor.detach().contiguous()
    if dense.dim() != 1 or dense.dtype is not torch.int64:  # bytes, with whatever strides where a size is 1
        dense = dense.as_strided((dense.numel(),), (1,)).view(torch.uint8)
    return dense.numpy().data.cast("B")


def tensor_frames(tensor: torch.Tensor) -> list[Buffer]:
    """Frames of a tensor's memory; none for an empty one."""
    view = raw(tensor)
    return [part for start in range(0, view.nbytes, CHUNK) for part in framed(WORDS, view[start : start + CHUNK])]


class Gather:
    """A tensor that arrives in frames.  Memory is taken as bytes come, never as announced."""

    def __init__(self, total: int, peer: str) -> None:
        if not 0 <= total <= TENSOR:
            raise ChannelError(f"{peer} announced a tensor of {total} bytes; at most {TENSOR} are taken")
        self.left = total
        self._peer = peer
        self._parts: list[memoryview] = []

    def add(self, part: memoryview) -> None:
        """The next frame."""
        if not 0 < part.nbytes <= self.left:
            raise ChannelError(f"{self._peer} sent {part.nbytes} bytes of a tensor where {self.left} were due")
        self.left -= part.nbytes
        self._parts.append(part)

    def tensor(self, dtype: torch.dtype) -> torch.Tensor:
        """The elements, flat."""
        if not self._parts:
            return torch.empty(0, dtype=dtype)
        whole = self._parts[0].obj if len(self._parts) == 1 else bytearray().join(self._parts)
        return torch.frombuffer(whole, dtype=dtype)
