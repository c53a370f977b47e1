"""The operations of a step that is repeated at workers, as its driver sends them: each end keeps a list of its own.

A driver marks where a step begins and ends (Record, Recorded).  Of two recordings of a step, both ends compare these
lists.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec
import torch

from pysmpc.program.segment import Seen
from pysmpc.remote.program_messages import Call, Changing, Drop, Flush, Operation, Ref, Seq

if TYPE_CHECKING:
    pass


class Region:
    """The operations of a step, as a driver sends them.

    seen: told of their arguments.  inputs: slots of what the step is given.  Slots that the
    step fills are called by the order in which it does so: two recordings of a step are
    the same if their operations are.
    """

    def __init__(self, seen: Seen, inputs: Sequence[int]) -> None:
        self.seen = seen
        self.refused: str | None = None
        self.operations: list[Any] = []
        self._buffers: list[torch.Tensor] = []
        self._names = {slot: -1 - place for place, slot in enumerate(inputs)}
        self._born = len(inputs)

    def note(self, operation: Operation, buffers: Sequence[torch.Tensor]) -> None:
        """One operation more."""
        if isinstance(operation, Drop):
            for slot in operation.slots:
                self._names.pop(slot, None)
        elif isinstance(operation, Call) and not operation.failed:
            args, kwargs = self.named(operation.args), self.named(operation.kwargs)
            self._buffers.extend(buffers)
            for slot in operation.outs:
                if slot >= 0:
                    self._born += 1
                    self._names[slot] = -self._born
            outs = [self._names.get(slot) for slot in operation.outs]
            self.operations.append((operation.name, args, kwargs, outs))
        elif isinstance(operation, Flush):
            self.operations.append(operation)
        else:
            self.refused = "a step that is repeated shares, opens and refreshes nothing"

    def named(self, value: Any) -> Any:
        """An argument, its slots called by the order in which the step fills them."""
        if isinstance(value, Ref):
            return msgspec.structs.replace(value, slot=self._names.get(value.slot, value.slot))
        if isinstance(value, Changing):
            return Changing(value.place, 0.0)  # whatever it is
        if isinstance(value, Seq):
            return self.named(value.items)
        if isinstance(value, list):
            return [self.named(item) for item in value]
        if isinstance(value, dict):
            return {name: self.named(item) for name, item in value.items()}
        return value

    def same(self, other: Region) -> bool:
        """Whether both have the same operations, with the same public values."""
        if self.operations != other.operations or len(self._buffers) != len(other._buffers):
            return False
        return all(map(torch.equal, self._buffers, other._buffers))
