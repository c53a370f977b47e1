"""Corrections from the provider to the holders, and questions of holders to a provider that takes part."""

from __future__ import annotations

import queue
import struct
import threading
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial

import torch

from pysmpc.errors import ChannelError
from pysmpc.mpc.interfaces import QUESTIONS
from pysmpc.ring.recording import active, perform
from pysmpc.session.dealer import NoQueries
from pysmpc.session.transcript import Transcript, untold
from pysmpc.transport.wire import TENSOR, Cancelled, Stream, raw

COUNT = struct.Struct("<Q32s")  # words, digest of the transcript
QUESTION = struct.Struct("<QQ32s")  # cause, words, digest
CONFIRMED = (1 << 64) - 1  # in place of a number of words: none follow, the digest is the message
_QUESTIONS = tuple(QUESTIONS)
LONG = 600.0  # seconds for which a peer may compute without a byte; heartbeats tell earlier of one that is gone
AHEAD = 1 << 25  # bytes of corrections that a holder keeps in advance


def told_otherwise(peer: str) -> ChannelError:
    """The digest of a message is not that of its receiver."""
    return ChannelError(
        f"this party and {peer} were told to run different programs, or the same from different batches of "
        "operations: nothing more is sent to either, and no share leaves for the driver"
    )


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
