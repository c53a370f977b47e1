"""`sy.TrainStep`: a training step of which the work on shares is recorded once, and then repeated as one list.

A step is the same operations on the same shapes again and again.  The user's Python always runs, and with it torch's
autograd, modules, hooks and optimizer; of the operations that reach secrets it is compared with a recording, and while
it is the same nothing is computed until the step ends (`pysmpc.program.follow`).  Then the recorded kernels and
messages run as one list.  Where a step differs it is computed as it is written, so nothing that Python depends on can
be out of date.  Each party's work, its randomness and its messages are the same as without.

A step is recorded at the third call.  The fourth is recorded beside it, and the first recording is held against it, by
every party for itself: with the same randomness it must send the same messages and come to the same shares, to the
bit.  Where that is not so, as when the learning rate of each step is another, or where a step cannot be repeated (a
ledger or a profile being kept), it simply runs as it is written.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any, NamedTuple

import torch

from pysmpc.program.follow import Following
from pysmpc.program.loop import LOOPS
from pysmpc.program.noting import Noting
from pysmpc.program.path import Path
from pysmpc.program.segment import Segment, unfit, unread
from pysmpc.program.state import kind
from pysmpc.ring.shares import dense_strides
from pysmpc.session import ledger
from pysmpc.tensor.secret import SecretTensor, lock_of
from pysmpc.tensor.storage import TensorStorage, flush
from pysmpc.tensor.watching import WATCHERS

WARM = 2  # calls before a step is recorded: optimizers make their state in the first
KINDS = 16  # of arguments, of which the recordings are kept
PATIENCE = 64  # calls that run as written, at most, before a step that changes all the time is recorded again


_running = threading.local()  # within: whether this thread is in a step


class Known(NamedTuple):
    """A recorded step: what it asks for, and what that comes down to."""

    path: Path
    segment: Segment


class TrainStep:
    """One step of training: `loss = step(x, y)`.  An ordinary loop needs no such object any more.

    model, optimizer: whose parameters are secrets.  loss(model(x), y) is differentiated,
    and returned as a secret, outside the graph.  Gradients are dropped after each step.
    Rounds and bytes are those of the same lines in a loop; the time is less, by the Python
    of this package.  `repeats` tells whether the last call was a repetition, `reason` why not.

    Your Python runs in every call: what it asks for decides, whatever it depends on.  A step that asks for something
    else than the recording is computed as it is written, and recorded anew.
    """

    def __init__(
        self, model: torch.nn.Module, optimizer: torch.optim.Optimizer, loss: Callable[[Any, Any], torch.Tensor]
    ) -> None:
        self.model, self.optimizer, self.loss = model, optimizer, loss
        self.repeats = False
        self.reason: str | None = "the first steps run as they are written"
        self._calls = 0
        self._known: dict[Any, Known] = {}
        self._never: str | None = None
        self._checked: set[Any] = set()
        self._failures = self._pause = 0  # recordings in a row that did not serve; calls until the next

    def __deepcopy__(self, memo: dict[int, Any]) -> TrainStep:
        """A step of a copy of the model, with a copy of the optimizer over it; it records anew."""
        out = memo[id(self)] = object.__new__(type(self))
        out.__init__(*(copy.deepcopy(x, memo) for x in (self.model, self.optimizer, self.loss)))  # type: ignore[misc]
        return out

    def __call__(self, x: Any, y: Any) -> torch.Tensor:
        """Zero the gradients, go forward, backward, and update."""
        if getattr(_running, "within", False):
            self.repeats, self.reason = False, "it is a part of another step"
            return self._plainly(x, y)
        LOOPS.stop()
        _running.within = True
        LOOPS.suspended += 1
        try:
            with lock_of((x, y)):  # of all of it: another thread's numbers are none of the step's
                return self._step(x, y)
        finally:
            LOOPS.suspended -= 1
            _running.within = False

    def _step(self, x: Any, y: Any) -> torch.Tensor:
        self._calls += 1
        self.repeats = False
        self.reason = self._obstacle(x, y)
        if self.reason is not None:
            return self._written(x, y)
        flush(x.session)
        bodies = [p.cell.body for p in self._parameters() if isinstance(p, SecretTensor)]
        if any(body.opened is not None or body.functions is not None for body in bodies):
            self.reason = "a parameter was opened under its mask since the last step, as by an evaluation: that serves"
            return self._written(x, y)
        key = kind(x), kind(y)
        known = self._known.get(key)
        if known is not None and not known.segment.fits():
            del self._known[key]
            known = None
        if known is None:
            self._checked.discard(key)
        if known is not None and key in self._checked:
            return self._follow(key, known, _dense(x), _dense(y))
        if known is None and self._pause:
            self._pause -= 1
            self.reason = _CHANGED
            return self._written(x, y)
        if any(unread(cell) or cell.scale > cell.unit.scale for cell in self._cells()):
            self.reason = "a state is still to be dealt or rescaled, which the loop does when it reads it"
            return self._written(x, y)
        if known is None and x.session.recorder is not None and not x.session.recorder.steps.room:
            self.reason = "the workers keep as many recorded steps as they take"
            return self._written(x, y)
        return self._record(key, _dense(x), _dense(y))

    def _plainly(self, x: Any, y: Any) -> torch.Tensor:
        self.optimizer.zero_grad()
        loss = self.loss(self.model(x), y)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        return loss.detach()

    def _written(self, x: Any, y: Any) -> torch.Tensor:
        loss = self._plainly(x, y)
        if isinstance(loss, SecretTensor):
            flush(loss.session)
        return loss

    def _follow(self, key: Any, known: Known, x: SecretTensor, y: SecretTensor) -> torch.Tensor:
        """The lines as they are written, of which nothing is computed while they are those of a recording."""
        following = Following(known.path, x.session, (x, y))
        with following:
            loss = self._plainly(x, y)
            self.optimizer.zero_grad()
        if not following.whole(loss):
            if isinstance(loss, SecretTensor):
                flush(loss.session)
            self._changed(key)
            return loss
        assert isinstance(loss, SecretTensor)
        self.repeats, self._failures = True, 0
        try:
            out = known.segment.run((x, y))
        except BaseException as error:
            following.fail(error)
            raise
        if x.session.recorder is not None:
            x.session.recorder.steps.repeat(known.segment, (x, y), [out])
        following.fulfil(loss, out)
        return loss

    def _changed(self, key: Any) -> None:
        """Its recording does not serve any more."""
        self._known.pop(key, None)
        self._checked.discard(key)
        self._pause = min((1 << self._failures) - 1, PATIENCE)
        self._failures += 1
        self.reason = _CHANGED

    # --- whether a step can be repeated ---

    def _obstacle(self, x: Any, y: Any) -> str | None:
        if self._never:
            return self._never
        if self._calls <= WARM:
            return "the first steps run as they are written"
        if not isinstance(x, SecretTensor) or not isinstance(y, SecretTensor) or x.session is not y.session:
            return "only steps whose two arguments are secrets of one session are repeated"
        if x.requires_grad or y.requires_grad:
            return "a gradient of an argument is wanted"
        if ledger.kept() or WATCHERS:
            return "a ledger or a profile is kept"
        return unfit(x.session)

    def _parameters(self) -> list[Any]:
        return [p for group in self.optimizer.param_groups for p in group["params"]]

    # --- recording, checking ---

    def _cells(self) -> list[TensorStorage]:
        """What a step may change."""
        found: dict[int, TensorStorage] = {}
        kept = [v for state in self.optimizer.state.values() for v in state.values()]
        for each in [*self._parameters(), *self.model.buffers(), *kept]:
            if isinstance(each, SecretTensor) and not each.session.plain:
                found[id(each.cell)] = each.cell
        return list(found.values())

    def _record(self, key: Any, x: SecretTensor, y: SecretTensor) -> torch.Tensor:
        """A step as written, recorded; if one was before, that one is held against it."""
        self.reason = _CHANGED if self._failures else "the step is being recorded"
        recorder, before = x.session.recorder, self._known.get(key)
        checked = None if before is None else before.segment
        self.optimizer.zero_grad()
        new = Segment(x.session, (x, y), self._cells(), noted=recorder is None, log=before is not None)
        noting = Noting(x.session, new, [mine.value for mine in new.inputs])
        with recorder.steps.recording(new, (x, y), checked) if recorder else nullcontext():
            with new.traced():
                with noting:
                    loss = self._plainly(*(mine.value for mine in new.inputs))
                assert isinstance(loss, SecretTensor)
                noting.end(loss)
                flush(loss.session)
                new.end(loss)
            self.optimizer.zero_grad()
            new.refused = new.refused or noting.path.refused
            usual = before is None or new.refused is not None or before.path.same(noting.path)
            same = usual and (checked is None or new.refused is not None or checked.confirms(new))
            out = new.first((x, y))
            if recorder is not None:
                same = recorder.steps.recorded(new, [loss], [out], checked, same)
        for arg, mine, written in zip((x, y), new.inputs, new.written, strict=True):
            if written:
                with torch.no_grad():
                    arg.copy_(mine.value)
        if not usual:
            self._changed(key)
            return out
        self._never = new.refused or (None if same else _NEVER)
        if self._never is not None:
            self._known.clear()
        elif before is not None:
            self._checked.add(key)
        else:
            new.compile()
            if len(self._known) >= KINDS:
                del self._known[next(iter(self._known))]
            self._known[key] = Known(noting.path, new)
        return out


_CHANGED = "operations or public numbers have changed since the step was recorded"
_NEVER = "a step is not the same each time: it uses random or changing public values"


def _dense(x: SecretTensor) -> SecretTensor:
    """The argument, one element after the other: layouts of results follow from those of arguments."""
    return x if x.stride() == dense_strides(tuple(x.shape)) else x.contiguous()
