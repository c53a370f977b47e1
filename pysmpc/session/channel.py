"""Channels: one call is one round, in which every holder sends to every other.

`Local` joins holders of one process; `Linked` is one party among several and moves
real messages over links.  Both count the same rounds and bytes, and hand every
message to an observer, where one is set, with the reason for which it is opened.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

import torch

from pysmpc.errors import ChannelError
from pysmpc.mpc.interfaces import OPENING_REASONS, End, Where
from pysmpc.ring import reopen_kernels, z2k
from pysmpc.session import ledger
from pysmpc.session.forks import Process
from pysmpc.session.stats import Stats

Observer = Callable[[str, list[torch.Tensor], list[torch.Tensor]], None]
Shapes = Sequence[tuple[int, ...]] | None


class _Counting:
    def __init__(self, holders: int, stats: Stats) -> None:
        self.holders = holders
        self.stats = stats
        self.observer: Observer | None = None
        self.where: Where | None = None
        self.end = End()
        self._process = Process("this channel")

    def count(self, messages: Sequence[torch.Tensor], cause: str, shapes: Shapes = None) -> None:
        """Before anything is sent.  Raises where nothing may be: in a forked process, or after a failed check."""
        self._process.check()
        self.end.check()
        if cause not in OPENING_REASONS:
            raise ChannelError(f"'{cause}' is no declared cause of an opening (CAUSES in mpc/interfaces.py)")
        words = sum(m.shape[1] for m in messages)
        self.stats.rounds += 1
        self.stats.sent += 8 * (self.holders - 1) * words
        if self.where and ledger.kept():
            found = tuple(shapes) if shapes is not None else tuple((m.shape[1],) for m in messages)
            ledger.note(self.where, cause, self.stats.rounds, found, words)

    def _seen(self, cause: str, messages: Sequence[torch.Tensor], opened: list[torch.Tensor]) -> list[torch.Tensor]:
        if self.observer:
            self.observer(cause, list(messages), opened)
        return opened


def all_shapes(shapes: Shapes, bits: Sequence[torch.Tensor]) -> Shapes:
    """Shapes of the sums, and of packed bits behind them."""
    return None if shapes is None else [*shapes, *((m.shape[1],) for m in bits)]


class Local(_Counting):
    """All holders in this process."""

    def open(self, messages: Sequence[torch.Tensor], cause: str, shapes: Shapes = None) -> list[torch.Tensor]:
        """Sums over the rows."""
        return self._open(messages, cause, shapes, z2k.rows_sum)

    def open_xor(self, messages: Sequence[torch.Tensor], cause: str) -> list[torch.Tensor]:
        """Exclusive ors over the rows."""
        return self._open(messages, cause, None, z2k.rows_xor)

    def gather(self, message: torch.Tensor, cause: str, shapes: Shapes = None) -> torch.Tensor:
        """The messages themselves."""
        self.count([message], cause, shapes)
        if self.observer:
            self.observer(cause, [message], [message])
        return message

    def _open(
        self,
        messages: Sequence[torch.Tensor],
        cause: str,
        shapes: Shapes,
        combine: Callable[[torch.Tensor], torch.Tensor],
    ) -> list[torch.Tensor]:
        self.count(messages, cause, shapes)
        return self._seen(cause, messages, [combine(m) for m in messages])

    def open_both(
        self, sums: Sequence[torch.Tensor], bits: Sequence[torch.Tensor], cause: str, shapes: Shapes = None
    ) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """Sums over the rows, and exclusive ors over the rows."""
        self.count([*sums, *bits], cause, all_shapes(shapes, bits))
        opened = [*map(z2k.rows_sum, sums), *map(z2k.rows_xor, bits)]
        self._seen(cause, [*sums, *bits], opened)
        return opened[: len(sums)], opened[len(sums) :]

    def open_lanes(
        self, sums: Sequence[torch.Tensor], lanes: Sequence[torch.Tensor], cause: str, shapes: Shapes = None
    ) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """Sums over the rows, and sums of the lanes of 16 bits."""
        self.count([*sums, *lanes], cause, shapes)
        opened = [*map(z2k.rows_sum, sums), *map(reopen_kernels.rows_lanes, lanes)]
        self._seen(cause, [*sums, *lanes], opened)
        return opened[: len(sums)], opened[len(sums) :]


class Link(Protocol):
    """A two-way connection to another holder, in order and without loss."""

    def send(self, cause: str, words: torch.Tensor) -> None:
        """Send one message; does not wait for the other side."""

    def receive(self) -> tuple[str, torch.Tensor]:
        """The other side's next message."""
        ...


class Linked(_Counting):
    """One holder (with a link to every other) or none (a provider or driver)."""

    def __init__(self, holders: int, stats: Stats, links: Sequence[Any]) -> None:
        super().__init__(holders, stats)
        self._links = links

    def open(self, messages: Sequence[torch.Tensor], cause: str, shapes: Shapes = None) -> list[torch.Tensor]:
        """Sums over the holders."""
        return self._exchange(messages, cause, shapes, [z2k.add] * len(messages))

    def open_xor(self, messages: Sequence[torch.Tensor], cause: str) -> list[torch.Tensor]:
        """Exclusive ors over the holders."""
        return self._exchange(messages, cause, None, [torch.bitwise_xor] * len(messages))

    def open_both(
        self, sums: Sequence[torch.Tensor], bits: Sequence[torch.Tensor], cause: str, shapes: Shapes = None
    ) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """Sums over the holders, and exclusive ors over the holders."""
        combine = [z2k.add] * len(sums) + [torch.bitwise_xor] * len(bits)
        opened = self._exchange([*sums, *bits], cause, all_shapes(shapes, bits), combine)
        return opened[: len(sums)], opened[len(sums) :]

    def open_lanes(
        self, sums: Sequence[torch.Tensor], lanes: Sequence[torch.Tensor], cause: str, shapes: Shapes = None
    ) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """Sums over the holders, and sums of the lanes of 16 bits."""
        combine = [z2k.add] * len(sums) + [reopen_kernels.add_lanes] * len(lanes)
        opened = self._exchange([*sums, *lanes], cause, shapes, combine)
        return opened[: len(sums)], opened[len(sums) :]

    def _swap(self, cause: str, parts: Sequence[torch.Tensor]) -> Iterable[tuple[str, torch.Tensor]]:
        """Send a message, the words of its parts, to every other holder; the words of theirs."""
        message = torch.cat(list(parts)) if len(parts) > 1 else parts[0].clone()  # in memory of its own
        for link in self._links:
            link.send(cause, message)
        return [link.receive() for link in self._links]

    def gather(self, message: torch.Tensor, cause: str, shapes: Shapes = None) -> torch.Tensor:
        """This holder's message, then the others' in the order of the links."""
        self.count([message], cause, shapes)
        if not self._links:
            return message[:0]
        rows = torch.stack([message[0], *self._theirs(cause, [message[0]])])
        if self.observer:
            self.observer(cause, [message], [rows])
        return rows

    def tell(self, cause: str, parts: Sequence[torch.Tensor]) -> Iterable[torch.Tensor]:
        """Send public words to every other holder: theirs.  Not counted, as no driver knows whether it happens."""
        return self._theirs(cause, parts)

    def _theirs(self, cause: str, parts: Sequence[torch.Tensor]) -> Iterable[torch.Tensor]:
        """What the others send in return for a message of the same kind."""
        count = sum(part.numel() for part in parts)
        for theirs, words in self._swap(cause, parts):
            if theirs != cause or words.shape != (count,):
                raise ChannelError(
                    f"this party is at '{cause}' with {count} words, another at '{theirs}' with "
                    f"{words.numel()}: the parties run different programs"
                )
            yield words

    def _exchange(
        self,
        messages: Sequence[torch.Tensor],
        cause: str,
        shapes: Shapes,
        combine: Sequence[Callable[[torch.Tensor, torch.Tensor], torch.Tensor]],
    ) -> list[torch.Tensor]:
        self.count(messages, cause, shapes)
        sizes = [m.shape[1] for m in messages]
        if not self._links:
            return [torch.empty((0, m), dtype=torch.int64) for m in sizes]
        totals = parts = [m[0] for m in messages]
        for words in self._theirs(cause, parts):
            theirs = words.split(sizes) if len(sizes) > 1 else [words]
            totals = [join(mine, other) for join, mine, other in zip(combine, totals, theirs, strict=True)]
        return self._seen(cause, messages, [total.unsqueeze(0) for total in totals])
