"""What goes into what in a step that is recorded and repeated: the origins of its results, from those of what it reads.

The operations are followed as they were when the step ran as written.  As most
repetitions differ in the rows of their batches alone, what was found once serves again.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from typing import Any

from pysmpc.remote.worker.origins import Origin, origin_of, pattern, renewed
from pysmpc.remote.worker.row_steps import Step
from pysmpc.remote.worker.rows import Labels
from pysmpc.tensor.secret import SecretTensor
from pysmpc.tensor.storage import TensorStorage

KEPT = 64  # patterns of origins


class Flow:
    """The operations of one step, by the numbers of the values that they read and make.

    Values of before the step have numbers below zero: `captured`.
    """

    def __init__(self, inputs: Sequence[TensorStorage]) -> None:
        self._numbers: weakref.WeakKeyDictionary[TensorStorage, int] = weakref.WeakKeyDictionary()
        self._inputs = len(inputs)
        self._count = 0
        self._before: list[TensorStorage] = []
        self._steps: list[tuple[Step, list[int], list[tuple[int, int]]]] = []
        self._results: list[tuple[int, Any]] = []
        self._states: list[int] = []
        self._known: dict[Any, Callable[[Sequence[Labels]], list[Origin]]] = {}
        for cell in inputs:
            self._new(cell)

    def _new(self, cell: TensorStorage) -> int:
        number = self._numbers[cell] = self._count
        self._count += 1
        return number

    def _number(self, cell: TensorStorage) -> int:
        number = self._numbers.get(cell)
        if number is None:
            self._before.append(cell)
            number = self._numbers[cell] = -len(self._before)
        return number

    def captured(self, cell: TensorStorage) -> bool:
        """Whether a value that the step reads or changes was there before."""
        return self._number(cell) < 0

    def note(self, step: Step, cells: Sequence[TensorStorage], results: Sequence[tuple[int, TensorStorage]]) -> None:
        """An operation on values in these cells; which of its results are kept, and where."""
        sources = [self._number(cell) for cell in cells]
        self._steps.append((step, sources, [(place, self._new(cell)) for place, cell in results]))

    def end(self, results: Sequence[SecretTensor], states: Sequence[TensorStorage]) -> None:
        """All operations are noted.  results: of the step.  states: what it changes."""
        for x in results:
            window = tuple(x.size()), tuple(x.stride()), int(x.storage_offset())
            self._results.append((self._number(x.cell), window))
        self._states = [self._number(cell) for cell in states]
        self._numbers = weakref.WeakKeyDictionary()

    def again(self, inputs: Sequence[Origin]) -> list[Origin]:
        """Origins of the results (copies of them) and of the states, for arguments with these and what there is now."""
        given = [*inputs, *map(origin_of, self._before)]
        found = pattern(given)
        if found is None:
            return self._followed(given)
        key, labels = found
        known = self._known.get(key)
        if known is not None:
            return known(labels)
        origins = self._followed(given)
        renew = renewed(origins, labels)
        if renew is not None:
            if len(self._known) >= KEPT:
                self._known.clear()
            self._known[key] = renew
        return origins

    def _followed(self, given: Sequence[Origin]) -> list[Origin]:
        values = dict(enumerate(given[: self._inputs]))
        values |= {-1 - place: origin for place, origin in enumerate(given[self._inputs :])}
        for step, sources, results in self._steps:
            found = step.apply([values[number] for number in sources])
            for place in step.written:
                values[sources[place]] = found[-1]
            for place, number in results:
                values[number] = found[place]
        copies = [values[number].copied(*window) for number, window in self._results]
        return [*copies, *(values[number] for number in self._states)]
