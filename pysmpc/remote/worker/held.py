"""How much memory a session's shares take at a worker, held to the limits of the worker's file."""

from __future__ import annotations

import math
from collections.abc import Iterable

from pysmpc.errors import RemoteError
from pysmpc.remote.limits import Limits
from pysmpc.remote.program_messages import (
    Call,
    Collect,
    Forget,
    Hand,
    Input,
    Invite,
    Keep,
    Load,
    Open,
    Operation,
    Plain,
    Record,
    Recorded,
    Ref,
    Refresh,
    Repeat,
    Restore,
)
from pysmpc.remote.sizes import Sizes, extent, total
from pysmpc.remote.units import Size
from pysmpc.tensor.storage import TensorStorage


class Held:
    """The memory of one session's shares at one worker, as far as shapes tell it.

    A step that is being recorded keeps all values made in it until it ends; a recorded one is
    charged with the most that its values had at once.
    """

    def __init__(self, me: str, limits: Limits) -> None:
        self._me = me
        self._limits = limits
        self._slots: dict[int, int] = {}
        self._sizes = Sizes()
        self._steps: dict[int, int] = {}
        self._results: dict[int, int] = {}  # of steps, elements
        self._recording: int | None = None
        self._kept = False
        self._start = self._peak = self._dropped = self._charged = 0
        self.bytes = 0

    # --- told by the session ---

    def add(self, slot: int, cell: TensorStorage) -> None:
        """A value is in a slot; RemoteError where it is one too many."""
        body = cell._body
        self._slots[slot] = size = 8 * body.n * body.rows
        self.bytes += size
        self._peak = max(self._peak, self.bytes)
        if self._limits.slots and len(self._slots) > self._limits.slots:
            raise self._over("slots", f"{len(self._slots)} values at once")
        self._check(0)

    def drop(self, slot: int) -> None:
        """A slot is free."""
        size = self._slots.pop(slot)
        self.bytes -= size
        if self._recording is not None:
            self._dropped += size

    def before(self, operation: Operation) -> None:
        """RemoteError if the operation would, by the shapes in it, take more than there may be."""
        if isinstance(operation, Record):
            kept = operation.check < 0  # the other is held against the first, and kept no longer
            if kept and self._limits.steps and len(self._steps) >= self._limits.steps:
                raise self._over("steps", f"{len(self._steps) + 1} recorded steps")
            self._recording, self._kept, self._start = operation.step, kept, self.bytes
            self._peak, self._dropped = self.bytes, 0
        elif isinstance(operation, Recorded):
            if operation.keep and self._kept and self._recording is not None:
                self._steps[self._recording] = self._peak - self._start
                self._results[self._recording] = total(operation.results or ())
                self._charged = sum(self._steps.values())
            self._recording, self._dropped = None, 0
        elif isinstance(operation, Forget):
            for step in operation.steps:
                self._steps.pop(step, None)
                self._results.pop(step, None)
            self._charged = sum(self._steps.values())
        if self._limits.memory:
            self._check(8 * self._words(operation))

    # --- sizes ---

    def _words(self, operation: Operation) -> int:
        """Elements that an operation adds, or has to write out, as far as its message tells."""
        if isinstance(operation, Input | Load):
            return _count(operation.shape)
        if isinstance(operation, Collect):
            given = operation.values  # the model, which is written out, hashed, converted and cloned
            model = _count(given.size) if isinstance(given, Plain) else 0
            model = max(model, sum(map(_count, operation.shapes)))
            terms = 2 if isinstance(operation, Invite) else 1 + len(operation.owners)  # clients' are added up at once
            sums = terms * (1 + sum(map(_count, operation.gives.values())))
            return 4 * model + sums
        if isinstance(operation, Restore):
            return sum(_count(slot.shape) for slot in operation.values.values())
        if isinstance(operation, Record | Recorded):  # which copies each
            return total(_refs(operation))
        if isinstance(operation, Repeat):
            return max(extent(operation.inputs)[0], self._results.get(operation.step, 0))
        # a window may repeat elements of a small value: the widest is what it comes to when it is written out
        if isinstance(operation, Call):
            widest, bound = extent([*operation.args, *operation.kwargs.values()])
            room = (self._limits.memory - self._used) // 8
            return widest if bound <= room else max(widest, self._sizes.of(operation))
        return extent(_refs(operation))[0]

    @property
    def _used(self) -> int:
        return self.bytes + self._dropped + self._charged

    def _check(self, more: int) -> None:
        limit = self._limits.memory
        if limit and self._used + more > limit:
            steps = f", {Size(self._charged)} of them in recorded steps (none with eager=True)" if self._charged else ""
            raise self._over("memory", f"{Size(self._used + more)} of shares at once{steps}")

    def _over(self, field: str, what: str) -> RemoteError:
        return RemoteError(
            f"{what} are too many for a session: {self._me} allows {self._limits.shown()[field]} (limits.{field} in "
            "its file)"
        )


def _count(shape: list[int]) -> int:
    return math.prod(max(n, 0) for n in shape)


def _refs(operation: Operation) -> Iterable[Ref]:
    """Windows on values that an operation which is no call names."""
    if isinstance(operation, Record):
        return operation.inputs
    if isinstance(operation, Open | Hand | Refresh):
        return (operation.ref,)
    if isinstance(operation, Recorded):
        return operation.results or ()
    return operation.values.values() if isinstance(operation, Keep) else ()


def too_much(driver: str, me: str, limits: Limits, coming: int) -> str:
    """Why a session ends, if tensors that were announced and not yet used are too many bytes."""
    if limits.memory and coming > limits.memory:
        return f"{driver} sends {Size(coming)} that {me} has not used yet; limits.memory in its file is {limits.memory}"
    return ""
