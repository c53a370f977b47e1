"""Memory in the place of other memory, in calls that refer to it by tensors."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch

from pysmpc.ring import memory


def tensors_in(value: Any) -> Iterator[torch.Tensor]:
    """What is inside tuples, lists and dictionaries.  torch's own walk takes 30 times as long."""
    kind = type(value)
    if kind is tuple or kind is list or hasattr(value, "_fields"):
        for each in value:
            yield from tensors_in(each)
    elif kind is dict:
        for each in value.values():
            yield from tensors_in(each)
    elif isinstance(value, torch.Tensor):
        yield value


def with_tensors(value: Any, function: Callable[[torch.Tensor], Any]) -> Any:
    """The same with function(tensor) in the place of each."""
    kind = type(value)
    if kind is tuple or kind is list:
        return kind([with_tensors(each, function) for each in value])
    if hasattr(value, "_fields"):
        return kind(*[with_tensors(each, function) for each in value])
    if kind is dict:
        return {name: with_tensors(each, function) for name, each in value.items()}
    return function(value) if isinstance(value, torch.Tensor) else value


class Replacement:
    """Replaces one buffer by another of equal size in recorded arguments."""

    def __init__(self, places: Mapping[int, torch.UntypedStorage]) -> None:
        """places: what takes the place of the buffer that starts at an address."""
        self._places = {start: storage for start, storage in places.items() if storage.nbytes()}

    def start(self, x: torch.Tensor) -> int | None:
        """Where the buffer begins that a tensor lies in, if it is one of these."""
        start = x.untyped_storage().data_ptr()
        return start if start in self._places else None

    def place(self, start: int) -> tuple[torch.UntypedStorage, int] | None:
        """Memory, and an offset in bytes, of what takes its place; None where nothing does."""
        return self._places[start], 0

    def touches(self, args: Any) -> bool:
        """Whether any of these lies in one of the buffers."""
        return any(self.start(x) is not None for x in tensors_in(args))

    def moved(self, args: Any) -> Any:
        """The same in new places."""
        return with_tensors(args, self._moved)

    def _moved(self, x: torch.Tensor) -> torch.Tensor:
        start = self.start(x)
        place = None if start is None else self.place(start)
        if start is None or place is None:
            return x
        storage, at = place
        offset = at // x.element_size() + x.storage_offset()
        return torch.empty(0, dtype=x.dtype).set_(storage, offset, x.size(), x.stride())


class BufferPlan(Replacement):
    """One piece of memory for many buffers: those that are needed at the same time do not overlap in it."""

    LINE = 64  # bytes

    def __init__(self, made: Mapping[int, torch.UntypedStorage], calls: Sequence[Any]) -> None:
        """made: buffers by their addresses.  calls: what each call refers to."""
        super().__init__(made)
        first: dict[int, int] = {}
        last: dict[int, int] = {}
        for number, args in enumerate(calls):
            for x in tensors_in(args):
                if (start := self.start(x)) is not None:
                    first.setdefault(start, number)
                    last[start] = number
        self._offsets = self._placed(first, last, len(calls))
        self.size = max((at + self._places[start].nbytes() for start, at in self._offsets.items()), default=0)
        self._memory = memory.large((self.size + self.LINE) // 8 + 8)
        self._shift = -self._memory.data_ptr() % self.LINE

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

    def place(self, start: int) -> tuple[torch.UntypedStorage, int] | None:
        """As of a replacement; None for a buffer that no call refers to."""
        at = self._offsets.get(start)
        return None if at is None else (self._memory.untyped_storage(), at + self._shift)
