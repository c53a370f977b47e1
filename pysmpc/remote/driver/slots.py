"""Slots: the numbers under which workers keep the values of a session, given out by its driver."""

from __future__ import annotations

import functools
import heapq
import weakref
from collections import deque

from pysmpc.tensor.storage import TensorStorage


class Slots:
    """The slots of one session.  A slot is given to another value once nobody refers to the one before it."""

    def __init__(self) -> None:
        self._free: list[int] = []
        self._next = 0
        self._dropped: deque[int] = deque()
        self._watch: dict[int, weakref.ref[TensorStorage]] = {}

    def give(self, cell: TensorStorage) -> int:
        """A slot for a cell that the workers do not know yet."""
        if self._free:
            slot = heapq.heappop(self._free)
        else:
            slot, self._next = self._next, self._next + 1
        cell.slot = slot
        # the callback may come at any moment, even within another operation: it only takes a note
        self._watch[slot] = weakref.ref(cell, functools.partial(_note, self._dropped, slot))
        return slot

    def dropped(self) -> list[int]:
        """The slots of cells to which nobody refers any more, which are free from now on."""
        slots = [self._dropped.popleft() for _ in range(len(self._dropped))]
        for slot in slots:
            del self._watch[slot]
            heapq.heappush(self._free, slot)
        return slots


def _note(dropped: deque[int], slot: int, cell: object) -> None:
    dropped.append(slot)
