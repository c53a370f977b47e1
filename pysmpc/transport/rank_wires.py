"""Messages between ranks of torch.distributed: wires; rounds, corrections and questions over them."""

from __future__ import annotations

import struct
import zlib
from collections import deque
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist

from pysmpc.errors import ChannelError
from pysmpc.ring.recording import perform
from pysmpc.session.channel import Linked
from pysmpc.session.forks import Process

FIRST = 1 << 15  # words of a message's first part, which a receiver is ready for unasked
AHEAD = 1 << 25  # bytes that a sender may be ahead of a receiver
STOPPED = "stopped"  # in place of a cause: nothing comes after it
OPENING, DEALING, SHARING, ASKING, VOUCHING = range(1, 6)  # what a message belongs to

_header = struct.Struct("<qq16s")  # words that follow, digest, cause
HEAD = _header.size // 8


class Program:
    """A running digest of what a process did, equal in all that run one program.

    silent: while a step is recorded, which is noted as a whole.
    """

    def __init__(self) -> None:
        self.digest = 0
        self.silent = False

    def note(self, *facts: object) -> None:
        """Add public facts: names, shapes, numbers."""
        if not self.silent:
            self.digest = zlib.crc32(repr(facts).encode(), self.digest)

    def note_values(self, values: torch.Tensor) -> None:
        """Add a public tensor."""
        if self.silent:
            return
        raw: Any = values.detach().contiguous().view(-1).view(torch.uint8).numpy()
        self.digest = zlib.crc32(raw, self.digest)


class Wire:
    """Messages to and from one rank, in order.

    A message is a header and its words; gloo ends a process that receives more than it
    made room for, so words beyond FIRST follow once the header has told how many.
    """

    def __init__(self, group: Any, rank: int, name: str, kind: int, program: Program, timeout: timedelta) -> None:
        self._group, self._rank, self._tags = group, rank, (2 * kind, 2 * kind + 1)
        self._who = f"rank {rank} ({name})"
        self._program = program
        self._timeout = timeout
        self._process = Process("this connection")
        self._first = torch.empty(FIRST, dtype=torch.int64)
        self._leaving: deque[tuple[Any, torch.Tensor]] = deque()  # sends under way keep their words

    def send(self, cause: str, words: torch.Tensor) -> None:
        """Send one message, of a copy; waits only when the receiver is AHEAD bytes behind."""
        head = bytearray(_header.pack(words.numel(), self._program.digest, cause.encode()))
        room = FIRST - HEAD
        self._leave(torch.cat([torch.frombuffer(head, dtype=torch.int64), words[:room]]), self._tags[0])
        if words.numel() > room:
            self._leave(words[room:].clone(), self._tags[1])
        while len(self._leaving) > 4 and sum(8 * w.numel() for _, w in self._leaving) > AHEAD:
            self._finish(*self._leaving.popleft())

    def stop(self) -> None:
        """Tell the rank, at its next message, that none will come; waits for nothing."""
        head = bytearray(_header.pack(0, 0, STOPPED.encode()))
        self._leave(torch.frombuffer(head, dtype=torch.int64), self._tags[0])

    def _begin(self) -> tuple[str, int]:
        """Cause and size of the rank's next message, the first words of which are here now.

        Raises ChannelError in place of one that does not fit this program.
        """
        self._arrive(self._first, self._tags[0])
        words, digest, text = _header.unpack(self._first[:HEAD].numpy().tobytes())
        cause = text.rstrip(b"\0").decode()
        if cause == STOPPED:
            raise ChannelError(
                f"{self._who} has stopped: a step of a training loop failed there, and its error says why; "
                "sy.distributed(..., eager=True) computes every step operation by operation"
            )
        if digest != self._program.digest:
            raise ChannelError(
                f"{self._who} runs a different program: before its message of {words} words for '{cause}' it did "
                "something else than this rank. All ranks must make the same calls with the same public values: call "
                "sy.decrypt on every rank, and torch.manual_seed with one seed before random batches or dropout; "
                "within a training step read counters and profile at every rank or at none (docs/distributed.md)"
            )
        return cause, words

    def take(self, cause: str, words: int) -> torch.Tensor:
        """The rank's next message, which must be of this cause and size."""
        found = torch.empty(words, dtype=torch.int64)
        self.take_into(cause, found)
        return found

    def take_into(self, cause: str, out: torch.Tensor) -> None:
        """The rank's next message, which must be of this cause and as long as out, which it is written to."""
        theirs, words = self._begin()
        if theirs != cause or words != out.numel():
            raise ChannelError(
                f"this rank is at '{cause}' with {out.numel()} words, {self._who} at '{theirs}' with {words}: "
                "the parties run different programs"
            )
        room = FIRST - HEAD
        out[:room] = self._first[HEAD : HEAD + words]
        if words > room:
            self._arrive(out[room:], self._tags[1])

    def drain(self) -> None:
        """Wait until the rank has taken everything; in a forked process there is nothing to wait for."""
        while self._leaving and not self._process.left:
            self._finish(*self._leaving.popleft())

    def _leave(self, words: torch.Tensor, tag: int) -> None:
        self._process.check()
        try:
            self._leaving.append((dist.isend(words, self._rank, self._group, tag), words))
        except RuntimeError as error:
            raise self._lost(error) from None

    def _finish(self, work: Any, words: torch.Tensor) -> None:
        try:
            work.wait(self._timeout)
        except RuntimeError as error:
            raise self._lost(error) from None

    def _arrive(self, words: torch.Tensor, tag: int) -> None:
        self._process.check()
        try:
            work: Any = dist.irecv(words, self._rank, self._group, tag)
            work.wait(self._timeout)
        except RuntimeError as error:
            raise self._lost(error) from None

    def _lost(self, error: RuntimeError) -> ChannelError:
        seconds = self._timeout.total_seconds()
        if "imed out" in str(error):
            return ChannelError(f"nothing from {self._who} for {seconds:g} s: it hangs or is at another point")
        return ChannelError(f"{self._who} is gone: its connection was closed")


class RankChannel(Linked):
    """A holder's rounds with the other holders; a provider's, who has no wires to them."""

    def _swap(self, cause: str, parts: Sequence[torch.Tensor]) -> list[tuple[str, torch.Tensor]]:
        words = sum(part.numel() for part in parts)
        inputs = [torch.empty(words, dtype=torch.int64) for _ in self._links]
        perform(self._pass, cause, *parts, into=inputs)
        return [(cause, into) for into in inputs]

    def _pass(self, cause: str, *tensors: torch.Tensor) -> None:
        """Parts of a message, then a place for each of the other holders'."""
        border = len(tensors) - len(self._links)
        message = torch.cat(tensors[:border]) if border > 1 else tensors[0]
        for wire in self._links:
            wire.send(cause, message)
        for wire, into in zip(self._links, tensors[border:], strict=True):
            wire.take_into(cause, into)


class WireCorrections:
    """Corrections from one rank, the source, to the last holder or to all.

    wires: to the holders in order, None for one that is the source itself; elsewhere
    the wire from the source alone.
    """

    def __init__(self, wires: Sequence[Wire | None], cause: str) -> None:
        self._wires, self._cause = wires, cause
        self._own: deque[torch.Tensor] = deque()  # to the source itself

    def send(self, words: torch.Tensor, everyone: bool = False) -> None:
        """Source's end."""
        perform(self._send, words, everyone)

    def _send(self, words: torch.Tensor, everyone: bool) -> None:
        for wire in self._wires if everyone else self._wires[-1:]:
            if wire is None:
                self._own.append(words.clone())
            else:
                wire.send(self._cause, words)

    def receive(self, words: int) -> torch.Tensor:
        """Holder's end; the corrections must be as many as it expects."""
        if self._own:
            return self._own.popleft()
        found = torch.empty(words, dtype=torch.int64)
        perform(self._take, into=[found])
        return found

    def _take(self, into: torch.Tensor) -> None:
        assert self._wires[0] is not None
        self._wires[0].take_into(self._cause, into)


class WireQueries:
    """Questions to the provider's rank.

    wires: to the provider, at a holder; to every holder in order, at the provider.
    """

    def __init__(self, wires: Sequence[Wire]) -> None:
        self._wires = wires

    def ask(self, cause: str, words: torch.Tensor) -> None:
        """Holder's end."""
        perform(self._wires[0].send, cause, words)

    def questions(self, cause: str, words: int) -> torch.Tensor:
        """Provider's end."""
        rows = torch.empty((len(self._wires), words), dtype=torch.int64)
        perform(self._questions, cause, into=[rows])
        return rows

    def _questions(self, cause: str, rows: torch.Tensor) -> None:
        for wire, row in zip(self._wires, rows, strict=True):
            wire.take_into(cause, row)
