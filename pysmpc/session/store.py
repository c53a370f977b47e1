"""Correlated randomness in files: dealt once, used once.

A store is what one holder keeps, and nobody else may read: a header with the plan of a
program (every correction that it asks for, in order), and any number of runs of that
plan, each under a key of its own, so that no stream of one is a stream of another.

    magic       8 bytes, written last: a store that was not finished has none
    header      length, msgpack, BLAKE2b
    runs        state (1: unused), key, BLAKE2b of the key; then of every correction
                that this holder receives: words, BLAKE2b with deal, holder, run, place

A run is taken before any of it is used: under a lock its state and key are overwritten
with zeros and the file is synchronised, in the stores of all hosted holders.  A process
that dies then has lost the run; nobody can take it again.  (A copy of the file made
before is another matter: keep none.)
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import struct
from collections.abc import Sequence
from pathlib import Path

import msgspec
import torch

from pysmpc.errors import MaterialError
from pysmpc.ring.prg import KEY_BYTES
from pysmpc.session.forks import Process

MAGIC = b"psmpcm\x00\x01"  # with the version
CHECK = 16
RUN_HEADER = 1 + KEY_BYTES + CHECK


class Request(msgspec.Struct, frozen=True, array_like=True):
    """A correction as the dealer is asked for it.

    stream: the next that would have been given.  kind: the protocol that asks.  words:
    of the correction; everyone: whether every holder receives it, or the last alone.
    """

    stream: int
    kind: str
    words: int
    everyone: bool

    def __str__(self) -> str:
        return f"{self.words} words for {self.kind}"


class Header(msgspec.Struct, frozen=True):
    """Whose store it is, and for what."""

    deal: bytes  # the same in the stores that belong together
    program: bytes  # digest of the requests
    holders: list[str]
    provider: str
    rank: int
    runs: int
    requests: list[Request]

    def receives(self, request: Request) -> bool:
        """Whether this holder is sent that correction."""
        return request.everyone or self.rank == len(self.holders) - 1

    def run_bytes(self) -> int:
        """Size of a run."""
        return RUN_HEADER + sum(8 * r.words + CHECK for r in self.requests if self.receives(r))

    def check(self, run: int, place: int, data: bytes | bytearray | memoryview) -> bytes:
        """Of a key (place -1) or a correction, where it stands."""
        where = struct.pack("<iqq", self.rank, run, place)
        found = hashlib.blake2b(where, digest_size=CHECK, key=self.deal)
        found.update(data)
        return found.digest()


def program_digest(requests: Sequence[Request]) -> bytes:
    """Names a program by what it asks for."""
    return hashlib.blake2b(msgspec.msgpack.encode(list(requests)), digest_size=32).digest()


def path_of(directory: Path, holder: str) -> Path:
    """The store of a holder."""
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", holder):
        raise MaterialError(f"{holder!r} cannot name a file; use letters, digits, '_', '-' and '.'")
    return directory / f"{holder}.material"


class Writer:
    """Makes a store; `finish` makes it one that can be used."""

    def __init__(self, directory: Path, header: Header) -> None:
        self.header = header
        self.path = path_of(directory, header.holders[header.rank])
        try:
            self._fd = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            raise MaterialError(f"{self.path} is there already; deal into another folder, or remove it") from None
        self._file = os.fdopen(self._fd, "wb")
        body = msgspec.msgpack.encode(header)
        digest = hashlib.blake2b(body, digest_size=CHECK).digest()
        self._file.write(bytes(len(MAGIC)) + struct.pack("<q", len(body)) + body + digest)

    def key(self, run: int, key: bytes) -> None:
        """Begin a run."""
        self._file.write(b"\x01" + key + self.header.check(run, -1, key))

    def words(self, run: int, place: int, words: torch.Tensor) -> None:
        """A correction, where this holder receives it."""
        if self.header.receives(self.header.requests[place]):
            data = words.numpy().tobytes()
            self._file.write(data + self.header.check(run, place, data))

    def finish(self) -> None:
        """Everything is on disk; then it is a store."""
        self._file.flush()
        os.fsync(self._fd)
        os.pwrite(self._fd, MAGIC, 0)
        os.fsync(self._fd)
        self._file.close()

    def abandon(self) -> None:
        """Remove what there is."""
        self._file.close()
        self.path.unlink(missing_ok=True)


class Store:
    """A holder's file, open.  Use as a context or `close` it."""

    def __init__(self, directory: Path, holder: str) -> None:
        self._fd = -1
        self._process = Process("this material")  # a child has the same open file, and with it the same lock
        self.path = path_of(directory, holder)
        try:
            self._fd = os.open(self.path, os.O_RDWR)
        except FileNotFoundError:
            raise MaterialError(f"no material for {holder} in {directory}: deal it with `pysmpc deal`") from None
        try:
            self.header, self._start = self._read_header(holder)
        except BaseException:
            self.close()
            raise
        self._run_bytes = self.header.run_bytes()
        self._at = 0
        self.run = -1
        self.key = b""

    def _damaged(self, what: str) -> MaterialError:
        return MaterialError(f"{self.path} is damaged ({what}): deal again; what it held must not be used")

    def _read_header(self, holder: str) -> tuple[Header, int]:
        size = os.fstat(self._fd).st_size
        start = os.pread(self._fd, len(MAGIC) + 8, 0)
        if start[: len(MAGIC)] == bytes(len(MAGIC)) or len(start) < len(MAGIC) + 8:
            raise MaterialError(f"{self.path} was never finished: remove it and deal again")
        if start[: len(MAGIC)] != MAGIC:
            known = start[:6] == MAGIC[:6]
            version = f"material of version {int.from_bytes(start[6:8], 'big')}" if known else "no material"
            raise MaterialError(f"{self.path} is {version}; this pysmpc reads version 1")
        [length] = struct.unpack("<q", start[len(MAGIC) :])
        end = len(MAGIC) + 8 + length + CHECK
        if not 0 <= length <= size or end > size:
            raise self._damaged("cut off in its header")
        body = os.pread(self._fd, length + CHECK, len(MAGIC) + 8)
        if hashlib.blake2b(body[:length], digest_size=CHECK).digest() != body[length:]:
            raise self._damaged("its header does not match its checksum")
        header = msgspec.msgpack.decode(body[:length], type=Header)
        if header.holders[header.rank] != holder:
            raise MaterialError(f"{self.path} is the material of {header.holders[header.rank]}, not of {holder}")
        expected = end + header.runs * header.run_bytes()
        if size != expected:
            raise self._damaged(f"{size} bytes long, {expected} were written")
        return header, end

    def lock(self) -> None:
        """Until it is closed: wait for others who take a run, and keep them waiting."""
        self._process.check()
        fcntl.flock(self._fd, fcntl.LOCK_EX)

    def unlock(self) -> None:
        """Let others take a run."""
        fcntl.flock(self._fd, fcntl.LOCK_UN)

    def _offset(self, run: int) -> int:
        return self._start + run * self._run_bytes

    def unused(self, run: int) -> bool:
        """Whether nobody took it."""
        return os.pread(self._fd, 1, self._offset(run)) == b"\x01"

    def take(self, run: int) -> None:
        """Mark a run as used, on disk, and only then serve it from here on."""
        self._process.check()
        head = os.pread(self._fd, RUN_HEADER, self._offset(run))
        key = head[1 : 1 + KEY_BYTES]
        if head[:1] != b"\x01" or self.header.check(run, -1, key) != head[1 + KEY_BYTES :]:
            raise self._damaged(f"the key of run {run + 1} does not match its checksum")
        os.pwrite(self._fd, bytes(RUN_HEADER), self._offset(run))
        os.fsync(self._fd)
        self.run, self.key = run, key
        self._at = self._offset(run) + RUN_HEADER

    def words(self, place: int) -> torch.Tensor | None:
        """The next correction of the run, where this holder receives it."""
        self._process.check()
        request = self.header.requests[place]
        if not self.header.receives(request):
            return None
        data = bytearray(os.pread(self._fd, 8 * request.words + CHECK, self._at))
        if len(data) != 8 * request.words + CHECK:
            raise self._damaged("shorter than it was")
        found = memoryview(data)[: 8 * request.words]
        if self.header.check(self.run, place, found) != data[8 * request.words :]:
            raise self._damaged(f"correction {place + 1} of run {self.run + 1} does not match its checksum")
        self._at += len(data)
        if not request.words:
            return torch.empty(0, dtype=torch.int64)
        return torch.frombuffer(data, dtype=torch.int64, count=request.words)

    def close(self) -> None:
        """Give the file back."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    __del__ = close


def take(
    directory: Path, holders: Sequence[str], provider: str, ranks: Sequence[int], run: int | None = None
) -> list[Store]:
    """The stores of the hosted holders, at a run that none of them used; or the one named.

    Processes that host other holders must take the same: tell them `stores[0].run`.
    """
    stores = [Store(directory, holders[rank]) for rank in ranks]
    try:
        first = stores[0].header
        for store, rank in zip(stores, ranks, strict=True):
            h = store.header
            if (h.deal, h.program) != (first.deal, first.program):
                raise MaterialError(f"{store.path} and {stores[0].path} were not dealt together")
            if h.holders != list(holders) or h.rank != rank or h.provider != provider:
                raise MaterialError(
                    f"{store.path} was dealt for {', '.join(h.holders)} with provider {h.provider}, not for "
                    f"{', '.join(holders)} with {provider}"
                )
        for store in stores:
            store.lock()
        wanted = range(first.runs) if run is None else [run]
        free = next((r for r in wanted if r < first.runs and all(store.unused(r) for store in stores)), None)
        if free is None:
            which = f"all {first.runs} runs" if run is None else f"run {run + 1} of {first.runs}"
            raise MaterialError(
                f"{which} of the material in {directory} are used up: no mask may hide two values. Deal again"
            )
        for store in stores:
            store.take(free)
        for store in stores:
            store.unlock()
    except BaseException:
        for store in stores:
            store.close()
        raise
    return stores
