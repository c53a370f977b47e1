"""Steps that are repeated, at a worker.

A driver marks where a step begins and ends (Record, Recorded).  Each worker notes what
its part of the operations in between comes down to, and does it again with other
arguments when it is told so by one message (Repeat).  Of two recordings of a step
each worker compares, without a message, what the first would have sent and come to
in place of the second.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from math import isfinite
from typing import TYPE_CHECKING, Any

import torch

from pysmpc.errors import ChannelError, RemoteError
from pysmpc.program.segment import Segment
from pysmpc.program.state import kind
from pysmpc.remote.arguments import window
from pysmpc.remote.limits import RECORDINGS
from pysmpc.remote.program_messages import Call, Drop, Flush, Forget, Operation, Record, Recorded, Ref, Repeat
from pysmpc.remote.region import Region
from pysmpc.remote.worker.flow import Flow
from pysmpc.ring.told import Numbers
from pysmpc.tensor.secret import SecretTensor
from pysmpc.tensor.storage import TensorStorage

if TYPE_CHECKING:
    from pysmpc.remote.worker.replay import Replay
    from pysmpc.remote.worker.row_steps import Step


LONGEST = 1 << 15  # operations of a step: a recording keeps all that they use until it ends


class Steps:
    """The recordings of one session at one worker."""

    def __init__(self, replay: Replay) -> None:
        self._replay = replay
        self._known: dict[int, _Known] = {}
        self._open: _Open | None = None

    @property
    def recording(self) -> bool:
        """Whether a step is being recorded."""
        return self._open is not None

    @property
    def numbers(self) -> Numbers | None:
        """Those of the step that is being recorded, of which repetitions are told others."""
        return None if self._open is None else self._open.new.numbers

    def run(self, operation: Record | Recorded | Repeat | Forget) -> None:
        """One operation."""
        if isinstance(operation, Record):
            self._record(operation)
        elif isinstance(operation, Recorded):
            self._recorded(operation)
        elif isinstance(operation, Repeat):
            self._repeat(operation)
        else:
            for step in operation.steps:
                self._known.pop(step, None)

    def about(self, operation: Operation, buffers: Sequence[torch.Tensor] = ()) -> None:
        """An operation comes next, with the public tensors that follow it."""
        if (opened := self._open) is None:
            return
        opened.length += 1
        if opened.length > LONGEST:
            raise RemoteError(
                f"a step of more than {LONGEST} operations is not recorded; connect with eager=True, which records none"
            )
        if not isinstance(operation, Forget | Recorded):
            opened.region.note(operation, buffers)
        if isinstance(operation, Drop):
            opened.drop(operation.slots)
        elif not isinstance(operation, Call | Flush | Forget | Recorded) or (
            isinstance(operation, Call) and operation.failed
        ):
            opened.new.refused = "a step that is repeated shares, opens and refreshes nothing"

    def look(self, func: Any, args: Any, kwargs: Any) -> None:
        """An operation is about to run on these arguments."""
        if self._open is not None:
            self._open.new.seen.look(func, args, kwargs)

    def came(self, step: Step, cells: Sequence[TensorStorage], results: Sequence[tuple[int, TensorStorage]]) -> None:
        """It has run on values in these cells; these of its results, by their places, are kept."""
        if self._open is not None:
            self._open.flow.note(step, cells, results)
            for cell in cells:
                self._open.reads(cell)

    def close(self) -> None:
        """Take no more notes of a step that came to nothing: nothing more is done for it."""
        opened, self._open = self._open, None
        if opened is not None:
            error = ChannelError("a step that came to nothing")
            opened.stack.__exit__(ChannelError, error, None)

    def _record(self, operation: Record) -> None:
        full = operation.check < 0 and len(self._known) >= RECORDINGS  # what is held against another is not kept
        if self._open is not None or operation.step in self._known or full:
            raise ChannelError(f"a step within another, a second with the number {operation.step}, or too many")
        if not operation.inputs or len(operation.inputs) != len(operation.slots):
            raise ChannelError("a step without arguments, or without a slot for each")
        before = None if operation.check < 0 else self._step(operation.check)
        arguments = [window(ref, self._replay.cell(ref.slot)) for ref in operation.inputs]
        cells = [self._replay.cell(slot) for slot in operation.states]
        if len(set(operation.states)) < len(cells):
            raise ChannelError("a step that changes a value twice")
        sessions = [x.session for x in arguments] + [cell.session for cell in cells]
        if sessions[0].flags is not None:
            raise ChannelError("a session that tests ranges records no steps")
        if any(session is not sessions[0] or not session.suite.repeatable for session in sessions):
            raise ChannelError("a step with values of several protocols, or with codes, is not recorded")
        new = Segment(arguments[0].session, arguments, cells, log=before is not None)
        for slot, mine, ref in zip(operation.slots, new.inputs, operation.inputs, strict=True):
            self._replay.keep(slot, mine.value.cell, self._replay.origin(ref))
        self._open = _Open(operation, new, arguments, before, self._replay.cell)

    def _recorded(self, operation: Recorded) -> None:
        opened = self._open
        if opened is None:
            raise ChannelError("the end of a step that did not begin")
        if operation.results is None:
            self.close()
            return
        refs, outs = operation.results, operation.outs
        results = [window(ref, self._replay.cell(ref.slot)) for ref in refs]
        if len(outs) != len(results) or any(x.session is not opened.new.session for x in results):
            raise ChannelError("a step without a slot for each result, or whose result is a value of other protocols")
        opened.new.end(*results)
        self._open = None
        opened.stack.close()
        known = _Known(opened, results, refs)
        before, new = opened.before, opened.new
        if operation.keep and new.refused is not None:
            raise RemoteError(f"a step cannot be repeated: {new.refused}")
        if before is not None and operation.keep and not before.same(known):
            raise RemoteError(f"step {opened.operation.check} is held against one of other operations or values")
        if before is not None and operation.keep and not before.recording.confirms(new):
            raise RemoteError(
                f"step {opened.operation.check} does not come to the same when it is repeated: a fault of this "
                "package, please report it; connect with eager=True, which records no steps"
            )
        for ref, slot, out in zip(refs, outs, new.first(opened.arguments), strict=True):
            self._replay.keep(slot, out.cell, self._replay.origin(ref))
        if operation.keep and before is None:
            new.compile()
            self._known[opened.operation.step] = known

    def _step(self, number: int) -> _Known:
        try:
            return self._known[number]
        except KeyError:
            raise ChannelError(f"there is no step {number}") from None

    def _repeat(self, operation: Repeat) -> None:
        if self._open is not None:
            raise ChannelError("a repetition within a step")
        known, replay = self._step(operation.step), self._replay
        arguments = [window(ref, replay.cell(ref.slot)) for ref in operation.inputs]
        if len(operation.numbers) != len(known.recording.numbers.values) or not all(map(isfinite, operation.numbers)):
            raise ChannelError(f"step {operation.step} with other numbers than it has")
        if [kind(x) for x in arguments] != known.recording.kinds or not known.recording.fits(operation.numbers):
            raise ChannelError(f"step {operation.step} was recorded with other arguments, or other values beside them")
        if any(replay.cell(slot) is not cell for slot, cell in known.cells.items()):
            raise ChannelError(f"values that step {operation.step} was recorded with are no longer there")
        if len(operation.outs) != known.results:
            raise ChannelError(f"step {operation.step} without a slot for each result")
        origins = known.flow.again([replay.origin(ref) for ref in operation.inputs])

        def came(place: int, out: SecretTensor) -> None:
            replay.keep(operation.outs[place], out.cell, origins[place])
            replay.came(operation.outs[place])

        known.recording.run(arguments, came)
        for cell, origin in zip(known.states, origins[known.results :], strict=True):
            replay.wrote(cell, origin)


class _Open:
    """A step that is being recorded."""

    def __init__(
        self,
        operation: Record,
        new: Segment,
        arguments: list[SecretTensor],
        before: _Known | None,
        cell: Callable[[int], TensorStorage],
    ) -> None:
        self.operation, self.new, self.arguments, self.before = operation, new, arguments, before
        self.length = 0
        self.flow = Flow([mine.value.cell for mine in new.inputs])
        self.region = Region(new.seen, operation.slots)
        # what was in a slot that something flows from, or is changed: another value there may be anybody's
        self.cells: dict[int, TensorStorage] = {slot: cell(slot) for slot in operation.states}
        self.stack = ExitStack()
        self.stack.enter_context(new.traced())

    def drop(self, slots: Sequence[int]) -> None:
        """These slots are free again."""
        for slot in slots:
            if slot in self.cells:
                raise ChannelError("a step drops what it reads or changes")

    def reads(self, cell: TensorStorage) -> None:
        """An operation reads a value, which may be one of before the step."""
        if self.flow.captured(cell):
            self.cells[cell.slot] = cell


class _Known:
    """A step that was recorded, and what goes into each value it changes."""

    def __init__(self, opened: _Open, results: list[SecretTensor], refs: list[Ref]) -> None:
        self.recording = opened.new
        self.states = [state.cell for state in opened.new.states]
        self.flow = opened.flow
        self.results = len(results)
        for each in results:
            opened.reads(each.cell)
        self.flow.end(results, self.states)
        self.cells = opened.cells
        self._region = opened.region
        self._ends = opened.region.named(refs), opened.operation.states

    def same(self, other: _Known) -> bool:
        """Whether both have the same operations, with the same public values, on the same values beside arguments."""
        return (
            self._region.same(other._region)
            and self._ends == other._ends
            and self.recording.kinds == other.recording.kinds
            and self.cells == other.cells
            and len(self.recording.numbers.values) == len(other.recording.numbers.values)
            and self.recording.fits(other.recording.numbers.values)
        )
