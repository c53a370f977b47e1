"""Memory in the place of other memory: in calls that refer to it by tensors and by addresses."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch.utils._pytree import tree_leaves, tree_map


class Exchange:
    """Puts memory in the place of other memory of its size, in tensors and addresses."""

    def __init__(self, places: Mapping[int, torch.UntypedStorage]) -> None:
        """places: what takes the place of the piece that starts at an address."""
        self._places = {start: places[start] for start in sorted(places) if places[start].nbytes()}
        self._starts = list(self._places)

    def _start(self, x: Any) -> int | None:
        """The piece that a tensor or an address lies in."""
        if isinstance(x, torch.Tensor):
            start = x.untyped_storage().data_ptr()
            return start if start in self._places else None
        if type(x) is not int:
            return None
        i = bisect_right(self._starts, x) - 1
        return self._starts[i] if i >= 0 and x < self._starts[i] + self._places[self._starts[i]].nbytes() else None

    def _place(self, start: int) -> tuple[torch.UntypedStorage, int] | None:
        """Memory and offset in bytes of what takes its place; None where nothing does."""
        return self._places[start], 0

    def touches(self, args: Any) -> bool:
        """Whether any of these lies in one of the pieces."""
        return any(self._start(x) is not None for x in tree_leaves(args))

    def moved(self, args: Any) -> Any:
        """The same with new places."""
        return tree_map(self._moved, args)

    def _moved(self, x: Any) -> Any:
        start = self._start(x)
        place = None if start is None else self._place(start)
        if start is None or place is None:
            return x
        storage, at = place
        if isinstance(x, torch.Tensor):
            offset = at // x.element_size() + x.storage_offset()
            return torch.empty(0, dtype=x.dtype).set_(storage, offset, x.size(), x.stride())
        return storage.data_ptr() + at + x - start


class Arena(Exchange):
    """One piece of memory for many: those that are needed at the same time do not overlap in it."""

    LINE = 64  # bytes

    def __init__(self, made: Mapping[int, torch.UntypedStorage], calls: Sequence[Any]) -> None:
        """made: memory by its address.  calls: what each call refers to, by tensors and addresses."""
        super().__init__(made)
        first: dict[int, int] = {}
        last: dict[int, int] = {}
        for number, args in enumerate(calls):
            for x in tree_leaves(args):
                if (start := self._start(x)) is not None:
                    first.setdefault(start, number)
                    last[start] = number
        self._offsets = self._placed(first, last, len(calls))
        self.size = max((at + self._places[start].nbytes() for start, at in self._offsets.items()), default=0)
        self._arena = torch.empty((self.size + self.LINE) // 8 + 8, dtype=torch.int64)
        self._shift = -self._arena.data_ptr() % self.LINE

    def _placed(self, first: dict[int, int], last: dict[int, int], calls: int) -> dict[int, int]:
        """First fit, the most recently freed first."""
        coming: dict[int, list[int]] = {}
        going: dict[int, list[int]] = {}
        for start in first:
            coming.setdefault(first[start], []).append(start)
            going.setdefault(last[start], []).append(start)
        free: list[tuple[int, int]] = []  # (place, size)
        place: dict[int, int] = {}
        end = 0
        for number in range(calls):
            for start in coming.get(number, ()):
                size = -(-self._places[start].nbytes() // self.LINE) * self.LINE
                hole = next((i for i in reversed(range(len(free))) if free[i][1] >= size), None)
                if hole is None:
                    place[start], end = end, end + size
                    continue
                at, room = free.pop(hole)
                place[start] = at
                if room > size:
                    free.insert(hole, (at + size, room - size))
            for start in going.get(number, ()):
                at, size = place[start], -(-self._places[start].nbytes() // self.LINE) * self.LINE
                for i in reversed(range(len(free))):  # grow together with neighbours
                    there, room = free[i]
                    if there + room == at or at + size == there:
                        at, size = min(at, there), size + room
                        del free[i]
                free.append((at, size))
        return place

    def _place(self, start: int) -> tuple[torch.UntypedStorage, int] | None:
        at = self._offsets.get(start)  # None: nothing refers to it
        return None if at is None else (self._arena.untyped_storage(), at + self._shift)
