"""A driver's recorded steps: where one begins and ends, and that it is done again, in messages to the workers.

The driver follows a program (`pysmpc.program`); what came of that it tells here, in the place of the operations.
"""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pysmpc.program.segment import Segment
from pysmpc.remote.arguments import reference
from pysmpc.remote.limits import RECORDINGS
from pysmpc.remote.program_messages import Forget, Record, Recorded, Repeat
from pysmpc.remote.region import Region
from pysmpc.tensor.secret import SecretTensor

if TYPE_CHECKING:
    from pysmpc.remote.driver.recorder import Recorder


class RecordedSteps:
    """Those of one session.  most: how many the workers take.  region: of the one that is being recorded."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self.most = RECORDINGS
        self.region: Region | None = None
        self.known: weakref.WeakKeyDictionary[Segment, tuple[int, Region]] = weakref.WeakKeyDictionary()
        self._count = 0
        self._over: deque[int] = deque()

    @property
    def room(self) -> bool:
        """Whether the workers take one more."""
        return len(self.known) < self.most

    def forget(self) -> None:
        """Tell the workers which will not be done again."""
        if self._over:
            self._recorder.queue(Forget([self._over.popleft() for _ in range(len(self._over))]), (), None)

    @contextmanager
    def recording(self, new: Segment, arguments: Sequence[SecretTensor], before: Segment | None) -> Iterator[None]:
        """While one is recorded, here and there; `recorded` ends it.  before: a recording of the same step."""
        with self._recorder.ready():
            number = self._count = self._count + 1
            slots = [self._recorder.slots.give(mine.value.cell) for mine in new.inputs]
            states = [state.cell.slot for state in new.states]
            check = -1 if before is None else self.known[before][0]
            self.region = Region(new.seen, slots)
            self.known[new] = number, self.region
            inputs = [reference(x) for x in arguments]
            self._recorder.queue(Record(number, inputs, slots, states, check), (), None)
            try:
                yield
            finally:
                if self.region is not None:
                    self.region = None
                    self._recorder.queue(Recorded(None, [], False), (), None)

    def recorded(
        self,
        new: Segment,
        results: Sequence[SecretTensor],
        outs: Sequence[SecretTensor],
        before: Segment | None,
        same: bool,
    ) -> bool:
        """The end of it.  outs: copies of the results.  same: as far as the driver knows.

        Whether it is also the operations of the one before.
        """
        with self._recorder.lock:
            number, region = self.known[new]
            same = same and (before is None or self.known[before][1].same(region))
            new.refused = new.refused or region.refused
            keep = same and new.refused is None
            self.region = None
            refs, slots = [reference(x) for x in results], self._given(outs)
            self._recorder.queue(Recorded(refs, slots, keep), (), None)
            if keep and before is None:
                weakref.finalize(new, self._over.append, number)
            return same

    def repeat(self, known: Segment, arguments: Sequence[SecretTensor], outs: Sequence[SecretTensor]) -> None:
        """It was done here: let the workers do it, too."""
        with self._recorder.ready():
            inputs = [reference(x) for x in arguments]
            number, slots = self.known[known][0], self._given(outs)
            self._recorder.queue(Repeat(number, inputs, slots, known.numbers.values), (), None)

    def _given(self, outs: Sequence[SecretTensor]) -> list[int]:
        return [self._recorder.slots.give(out.cell) for out in outs]
