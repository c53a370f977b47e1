"""The channel of one holder over connections, and the way of corrections from a dealer.

A round is one message to and one from every other holder, both at once, by one thread
that does whatever can be done and polls for the rest: no message is too long for it,
and no order of sending can stop it.  A message is a header and the words, in one
buffer; a failed round ends the connections, as nothing tells how much of it passed.
Every header carries the digest of the sender's transcript, and what comes under another
digest than the receiver's is not taken.
"""

from __future__ import annotations

import select
import struct
import time
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial

import torch

from pysmpc.errors import ChannelError
from pysmpc.mpc.interfaces import OPENING_REASONS
from pysmpc.ring.recording import perform
from pysmpc.session.channel import Linked
from pysmpc.session.stats import Stats
from pysmpc.session.transcript import Transcript, untold
from pysmpc.transport.corrections import LONG, told_otherwise
from pysmpc.transport.wire import RECORD, TENSOR, VERSION, Buffer, Stream, poll, raw

HEADER = struct.Struct("<BBHIQ32s")  # version, cause, nothing, round mod 2**32, words, digest
_CAUSES = tuple(OPENING_REASONS)


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
