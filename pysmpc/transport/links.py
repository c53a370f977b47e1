"""The channel of one holder over connections, and the way of corrections from a dealer.

A round is one message to and one from every other holder, both at once, by one thread
that does whatever can be done and polls for the rest: no message is too long for it,
and no order of sending can stop it.  A message is a header and the words, in one
buffer; a failed round ends the connections, as nothing tells how much of it passed.
Every header carries the digest of the sender's transcript, and what comes under another
digest than the receiver's is not taken.
"""

from __future__ import annotations

import queue
import select
import struct
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial

import torch

from pysmpc.errors import ChannelError
from pysmpc.mpc.interfaces import OPENING_REASONS, QUESTIONS
from pysmpc.ring.recording import active, perform
from pysmpc.session.channel import Linked
from pysmpc.session.dealer import NoQueries
from pysmpc.session.stats import Stats
from pysmpc.session.transcript import Transcript, untold
from pysmpc.transport.wire import RECORD, TENSOR, VERSION, Buffer, Cancelled, Stream, poll, raw

COUNT = struct.Struct("<Q32s")  # words, digest of the transcript
HEADER = struct.Struct("<BBHIQ32s")  # version, cause, nothing, round mod 2**32, words, digest
QUESTION = struct.Struct("<QQ32s")  # cause, words, digest
CONFIRMED = (1 << 64) - 1  # in place of a number of words: none follow, the digest is the message
LONG = 600.0  # seconds for which a peer may compute without a byte; heartbeats tell earlier of one that is gone
_CAUSES = tuple(OPENING_REASONS)
_QUESTIONS = tuple(QUESTIONS)
AHEAD = 1 << 25  # bytes of corrections that a holder keeps in advance


def told_otherwise(peer: str) -> ChannelError:
    """The digest of a message is not that of its receiver."""
    return ChannelError(
        f"this party and {peer} were told to run different programs, or the same from different batches of "
        "operations: nothing more is sent to either, and no share leaves for the driver"
    )


class _Exchange:
    """One round with one peer.  out: what is sent, in parts.  expected: the header that it must send."""

    def __init__(self, stream: Stream, out: Sequence[memoryview], into: memoryview, expected: Buffer) -> None:
        self.stream = stream
        self._parts = out
        self._head = memoryview(bytearray(HEADER.size))
        self._into = into
        self._due = len(into)
        self._expected = expected
        self.begin()

    def begin(self) -> None:
        """Nothing has been sent, and nothing has come."""
        self._out = deque(self._parts)
        self._have = -HEADER.size  # bytes of the words; less than none while the header comes

    @property
    def events(self) -> int:
        reading = select.POLLIN if self._have < self._due else 0
        return reading | (select.POLLOUT if self._out else 0)

    def fileno(self) -> int:
        return self.stream.fileno()

    def step(self) -> bool:
        """Do what can be done; whether something was."""
        moved = False
        out = self._out
        while out and (count := self.stream.write(out[0])):
            moved = True
            if count == out[0].nbytes:
                out.popleft()
            else:
                out[0] = out[0][count:]
        while self._have < self._due:
            place = self._head[self._have :] if self._have < 0 else self._into[self._have :]
            count = self.stream.read_into(place)
            if not count:
                break
            moved = True
            self._have += count
            if self._have == 0:
                self._check()  # the words are read only if they are those that are due
        return moved

    def _check(self) -> None:
        version, cause, nothing, number, words, digest = HEADER.unpack(self._head)
        if (version, nothing) != (VERSION, 0) or cause >= len(_CAUSES):
            raise ChannelError(f"{self.stream.peer} sent what is no message of a round")
        if self._head != self._expected:
            _, mine, _, here, due, told = HEADER.unpack(self._expected)
            if digest != told:
                raise told_otherwise(self.stream.peer)
            raise ChannelError(
                f"this party is in round {here} at '{_CAUSES[mine]}' with {due} words, {self.stream.peer} in round "
                f"{number} at '{_CAUSES[cause]}' with {words}: the parties run different programs"
            )

    @property
    def done(self) -> bool:
        return not self._out and self._have == self._due


class _Round:
    """A message to every other holder, and theirs, time and again with the same memory.

    parts: of the message.  inputs: a place for each of the others'.
    """

    def __init__(
        self, cause: int, streams: Sequence[Stream], parts: Sequence[torch.Tensor], inputs: Sequence[torch.Tensor]
    ) -> None:
        self._cause = cause
        self._words = inputs[0].numel()
        self._copies: list[tuple[memoryview, memoryview]] = []
        views = [view for part in parts if (view := raw(part)).nbytes]
        size = HEADER.size + sum(view.nbytes for view in views)
        if size <= RECORD:
            message = memoryview(bytearray(size))
            self._header, at = message[: HEADER.size], HEADER.size
            for view in views:
                self._copies.append((message[at : at + view.nbytes], view))
                at += view.nbytes
            out = [message]
        else:
            self._header = memoryview(bytearray(HEADER.size))
            out = [self._header, *views]
        self._exchanges = [
            _Exchange(stream, out, raw(into), self._header) for stream, into in zip(streams, inputs, strict=True)
        ]

    def begin(self, number: int, digest: bytes) -> list[_Exchange]:
        """The exchanges of the round of that number, with what is in the parts now."""
        HEADER.pack_into(self._header, 0, VERSION, self._cause, 0, number, self._words, digest)
        for place, part in self._copies:
            place[:] = part
        for each in self._exchanges:
            each.begin()
        return self._exchanges


class Networked(Linked):
    """A holder's channel: a connection to every other holder.

    patience: seconds without a byte from a peer, after which it counts as lost.
    wake: a file that, once readable, ends every wait.  transcript: whose digest the others must have, too.
    """

    def __init__(
        self,
        holders: int,
        stats: Stats,
        streams: Sequence[Stream],
        wake: int | None = None,
        patience: float = LONG,
        transcript: Transcript = untold,
    ) -> None:
        super().__init__(holders, stats, streams)
        self._transcript = transcript
        self._wake = wake
        self._patience = patience
        self._round = 0

    def _swap(self, cause: str, parts: Sequence[torch.Tensor]) -> list[tuple[str, torch.Tensor]]:
        words = sum(part.numel() for part in parts)
        if 8 * words > TENSOR:
            raise ChannelError(f"a round of {words} words is too long for one message; use smaller batches")
        inputs = [torch.empty(words, dtype=torch.int64) for _ in self._links]
        perform(self._pass, _CAUSES.index(cause), *parts, into=inputs, prepare=self._prepared)
        return [(cause, into) for into in inputs]

    def _pass(self, cause: int, *tensors: torch.Tensor) -> None:
        """Parts of a message, then a place for each of the other holders'."""
        self._run(self._round_of(cause, tensors))

    def _prepared(self, cause: int, *tensors: torch.Tensor) -> Callable[[], None]:
        """`_pass` with the same tensors, time and again."""
        if not all(tensor.is_contiguous() for tensor in tensors):
            return partial(self._pass, cause, *tensors)
        return partial(self._run, self._round_of(cause, tensors))

    def _round_of(self, cause: int, tensors: Sequence[torch.Tensor]) -> _Round:
        border = len(tensors) - len(self._links)
        return _Round(cause, self._links, tensors[:border], tensors[border:])

    def _run(self, message: _Round) -> None:
        self._round = (self._round + 1) & 0xFFFFFFFF
        waiting = message.begin(self._round, self._transcript.digest)
        until = 0.0
        while True:
            left = []
            for each in waiting:
                if each.step() or not until:
                    until = time.monotonic() + self._patience
                if not each.done:
                    left.append(each)
            if not left:
                return
            waiting = left
            if not poll(waiting, until, self._wake):
                names = ", ".join(each.stream.peer for each in waiting)
                raise ChannelError(
                    f"no message from {names} for {self._patience:.0f} s: frozen, unreachable or at another point"
                )


# --- corrections --------------------------------------------------------------------


class SentCorrections:
    """The dealer's end: a connection to every holder, in their order.  Waits while one is full.

    A holder far behind cannot stop the others for good: what they wait for was sent before.
    """

    def __init__(self, streams: Sequence[Stream], transcript: Transcript = untold) -> None:
        self._streams = streams
        self._transcript = transcript

    def send(self, words: torch.Tensor, everyone: bool = False) -> None:
        """To the last holder, or to every holder; blocks once a receiver is far behind."""
        perform(self._send, words, everyone, prepare=self._prepared)

    def _send(self, words: torch.Tensor, everyone: bool) -> None:
        self._pass(words.numel(), raw(words), self._receivers(everyone))

    def _prepared(self, words: torch.Tensor, everyone: bool) -> Callable[[], None]:
        """`_send` of the same tensor, time and again."""
        if not words.is_contiguous():
            return partial(self._send, words, everyone)
        return partial(self._pass, words.numel(), raw(words), self._receivers(everyone))

    def _receivers(self, everyone: bool) -> Sequence[Stream]:
        return self._streams if everyone else self._streams[-1:]

    def _pass(self, count: int, view: memoryview, receivers: Sequence[Stream]) -> None:
        header = COUNT.pack(count, self._transcript.digest)
        for stream in receivers:
            stream.queue(header, view)
        for stream in receivers:
            stream.flush(LONG)

    def receive(self, words: int) -> torch.Tensor:
        raise ChannelError("a dealer receives no corrections")

    def confirm(self) -> None:
        """Tell every holder the digest of this party's transcript."""
        for stream in self._streams:
            stream.queue(COUNT.pack(CONFIRMED, self._transcript.digest))
        for stream in self._streams:
            stream.flush(LONG)


class ReceivedCorrections:
    """The holder's end: a thread reads ahead, up to AHEAD bytes, so that the dealer can run ahead.

    What is waited for, it reads to where it is wanted.
    """

    _wanted: tuple[int, torch.Tensor] | None = None  # which message, and a place for it
    _arrived = 0  # messages
    _taken = 0
    _error: ChannelError | None = None  # after which nothing more is taken

    def __init__(self, stream: Stream, transcript: Transcript = untold) -> None:
        self._stream = stream
        self._transcript = transcript
        self._ready: queue.SimpleQueue[tuple[bytes, torch.Tensor] | ChannelError] = queue.SimpleQueue()
        self._told: queue.SimpleQueue[bytes | ChannelError] = queue.SimpleQueue()
        self._agreed = b""  # the digest that the dealer told last
        self._bytes_in = 0  # counted by the reading thread alone
        self._bytes_out = 0  # counted by who takes
        self._room = threading.Event()
        self._closed = False
        threading.Thread(target=self._read, daemon=True, name=f"corrections from {stream.peer}").start()

    @property
    def _held(self) -> int:
        return self._bytes_in - self._bytes_out

    def send(self, words: torch.Tensor, everyone: bool = False) -> None:
        raise ChannelError("a holder deals no corrections")

    def confirmed(self) -> None:
        """Wait until the dealer has told the digest that this party has; ChannelError for another.

        It may tell it before corrections that it dealt earlier have been taken.
        """
        if self._agreed == self._transcript.digest:
            return
        if self._error is None:
            found = self._told.get()
            if found == self._transcript.digest:
                self._agreed = self._transcript.digest
                return
            self._error = found if isinstance(found, ChannelError) else told_otherwise(self._stream.peer)
        raise self._error

    def receive(self, words: int) -> torch.Tensor:
        """What was dealt next; ChannelError if that is something else."""
        found = torch.empty(words, dtype=torch.int64)
        if active() is None:
            return self._take(found)
        perform(self._take_into, into=[found])
        return found

    def _take_into(self, out: torch.Tensor) -> None:
        found = self._take(out)
        if found is not out:
            out.copy_(found)

    def _take(self, place: torch.Tensor) -> torch.Tensor:
        """What was dealt next: where it arrived, or in its place."""
        if self._error is not None:
            raise self._error
        try:
            found = self._ready.get_nowait()
        except queue.Empty:
            self._wanted = (self._taken, place)
            found = self._ready.get()
            self._wanted = None
        if not isinstance(found, ChannelError):
            digest, words = found
            if digest != self._transcript.digest:
                found = told_otherwise(self._stream.peer)
            elif words.numel() != place.numel():
                found = ChannelError(
                    f"expected {place.numel()} corrections, {self._stream.peer} sent {words.numel()}: programs differ"
                )
        if isinstance(found, ChannelError):
            self._error = found
            raise found
        self._taken += 1
        self._bytes_out += 8 * words.numel()
        if not self._room.is_set():
            self._room.set()
        return words

    def close(self) -> None:
        """Wake whoever waits."""
        self._closed = True
        for waiting in (self._ready, self._told):
            waiting.put(Cancelled("this side stopped"))
        self._room.set()

    def _read(self) -> None:
        try:
            while True:
                while self._held > AHEAD and not self._closed:
                    self._room.clear()
                    if self._held > AHEAD and not self._closed:
                        self._room.wait()
                digest, words = self._next()
                self._bytes_in += 8 * words.numel()
                self._arrived += 1
                self._ready.put((digest, words))
        except ChannelError as error:
            self._ready.put(error)
            self._told.put(error)
        finally:
            self._stream.close()

    def _next(self) -> tuple[bytes, torch.Tensor]:
        header = bytearray(COUNT.size)
        count = CONFIRMED
        while count == CONFIRMED:
            self._stream.fill(header, None)
            count, digest = COUNT.unpack(header)
            if count == CONFIRMED:
                self._told.put(digest)
        if 8 * count > TENSOR:
            raise ChannelError(f"{self._stream.peer} announced {count} corrections; at most {TENSOR // 8} are taken")
        wanted = self._wanted
        if wanted is not None and wanted[0] == self._arrived and wanted[1].numel() == count:
            words = wanted[1]
        else:
            words = torch.empty(count, dtype=torch.int64)
        self._stream.fill(raw(words))
        return digest, words


class OwnCorrections:
    """The way of a holder's own inputs to the other holders, over the connections of the rounds; her end."""

    def __init__(self, streams: Sequence[Stream], transcript: Transcript = untold) -> None:
        self._streams = streams
        self._transcript = transcript
        self._own: deque[torch.Tensor] = deque()

    def send(self, words: torch.Tensor, everyone: bool = False) -> None:
        """To herself, or to every holder."""
        if everyone:
            for stream in self._streams:
                stream.queue(COUNT.pack(words.numel(), self._transcript.digest), raw(words))
            for stream in self._streams:
                stream.flush(LONG)
        self._own.append(words)

    def receive(self, words: int) -> torch.Tensor:
        """What was sent first."""
        return self._own.popleft()


class PeerCorrections:
    """Another holder's end."""

    def __init__(self, stream: Stream, transcript: Transcript = untold) -> None:
        self._stream = stream
        self._transcript = transcript

    def send(self, words: torch.Tensor, everyone: bool = False) -> None:
        raise ChannelError("a holder shares no data of another")

    def receive(self, words: int) -> torch.Tensor:
        """What she sent next, which must be as long as expected."""
        header = bytearray(COUNT.size)
        self._stream.fill(header, LONG)
        count, digest = COUNT.unpack(header)
        if digest != self._transcript.digest:
            raise told_otherwise(self._stream.peer)
        if count != words:
            raise ChannelError(f"expected {words} words of an input of {self._stream.peer}: programs differ")
        found = torch.empty(words, dtype=torch.int64)
        self._stream.fill(raw(found), LONG)
        return found


# --- questions to a provider that takes part ----------------------------------------


class HolderQueries(NoQueries):
    """A holder's end."""

    def __init__(self, stream: Stream, transcript: Transcript = untold) -> None:
        self._stream = stream
        self._transcript = transcript

    def ask(self, cause: str, words: torch.Tensor) -> None:
        """Returns once the question is on its way."""
        perform(self._ask, _QUESTIONS.index(cause), words)

    def _ask(self, cause: int, words: torch.Tensor) -> None:
        self._stream.queue(QUESTION.pack(cause, words.numel(), self._transcript.digest), raw(words))
        self._stream.flush(LONG)


class ProviderQueries(NoQueries):
    """The provider's end: a connection to every holder, in their order."""

    def __init__(self, streams: Sequence[Stream], transcript: Transcript = untold) -> None:
        self._streams = streams
        self._transcript = transcript

    def questions(self, cause: str, words: int) -> torch.Tensor:
        """Wait for every holder."""
        rows = torch.empty((len(self._streams), words), dtype=torch.int64)
        perform(self._questions, cause, into=[rows])
        return rows

    def _questions(self, cause: str, rows: torch.Tensor) -> None:
        words = rows.shape[1]
        for stream, row in zip(self._streams, rows, strict=True):
            header = bytearray(QUESTION.size)
            stream.fill(header, LONG)
            *asked, digest = QUESTION.unpack(header)
            if digest != self._transcript.digest:
                raise told_otherwise(stream.peer)
            if asked != [_QUESTIONS.index(cause), words]:
                raise ChannelError(
                    f"the provider expects '{cause}' with {words} words, {stream.peer} asks something else: "
                    "the parties run different programs"
                )
            stream.fill(raw(row), LONG)
