"""Training loops as they are written, without `sy.TrainStep`: found by where optimizers step, then followed.

A region goes from the first operation on secrets after one `optimizer.step()` to the first one after the next, or to
whoever looks at what came of it.  The first time a region is computed and noted (`Noting`); from then on it is
followed (`Following`).  At its end, if all of it was asked for again, it is recorded as a `Segment` from the notes: the
handlers of what was followed are called, and traced.  The next time, the same is held against that recording, and
later the segment runs.  What the region only reads (a batch) is its argument, whatever it writes to (weights, momenta)
its state, and what is alive at its end its result.  Whatever differs is computed operation by operation.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook
from torch.utils._pytree import tree_leaves

from pysmpc.ops import views
from pysmpc.program.follow import Following
from pysmpc.program.noting import Noting
from pysmpc.program.path import Path
from pysmpc.program.segment import Segment, unfit, unread
from pysmpc.program.state import kind, source
from pysmpc.session import ledger
from pysmpc.session.session import Session
from pysmpc.tensor.secret import HANDLERS, SecretTensor
from pysmpc.tensor.storage import TensorStorage, flush
from pysmpc.tensor.watching import WATCHERS
from pysmpc.torch_modes import FOLLOWERS, in_backward

PATHS = 6  # that a session keeps, and kinds of arguments of each
PATIENCE = 64  # regions that run as written, at most, before one is noted again

#: What makes later operations cheaper, beside an opening, and what a segment's copy of an argument would not have.
_LEARNED = ("bit", "sign", "binary", "divisor", "functions", "affine", "gate", "origin", "ties", "most", "multiple")


class _Known:
    """A path of a session's loops, and the segments for kinds of arguments and results."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.segments: dict[Any, tuple[Segment, bool]] = {}  # and whether it was checked
        self.never: set[Any] = set()


class Loops:
    """The loops of the main thread.  repeats: whether the last region ran as a segment; reason: why not."""

    busy = False

    def __init__(self) -> None:
        self.enabled = True
        self.suspended = 0
        self.repeats = False
        self.reason: str | None = None
        self._region: _LoopNoting | _LoopFollowing | None = None
        self._updating = self._updated = False
        self._failures = self._pause = 0

    # --- where steps begin and end ---

    def install(self) -> None:
        """Have torch tell when an optimizer of secrets steps.  Once."""
        register_optimizer_step_pre_hook(self._before)
        register_optimizer_step_post_hook(self._after)

    def begin_anew(self) -> None:
        """Forget how steps before went; what is known of the loops of a session stays with it."""
        self._failures = self._pause = 0
        self._updating = self._updated = self.repeats = False
        self.reason = None

    def _concerned(self, optimizer: torch.optim.Optimizer) -> bool:
        if not self.enabled or self.suspended or threading.current_thread() is not threading.main_thread():
            return False
        return any(isinstance(p, SecretTensor) for group in optimizer.param_groups for p in group["params"])

    def _before(self, optimizer: torch.optim.Optimizer, *_: Any) -> None:
        if self._concerned(optimizer):
            self._updating = True

    def _after(self, optimizer: torch.optim.Optimizer, *_: Any) -> None:
        if self._concerned(optimizer):
            self._updating, self._updated = False, True
            if self._region is None:
                FOLLOWERS[threading.get_ident()] = self

    @property
    def ended(self) -> bool:
        """Whether the next operation is of another region."""
        return self._updated and not self._updating

    def stop(self) -> None:
        """End what there is; nothing is followed until an optimizer steps again."""
        region = self._region
        if region is not None:
            region.keep()
        self.left()

    def left(self) -> None:
        """The region has left its path, or can have none."""
        self._region = None
        if FOLLOWERS.get(threading.main_thread().ident or 0) is self:
            del FOLLOWERS[threading.main_thread().ident or 0]

    def idle(self) -> None:
        """The region has ended: the next operation begins another."""
        self._region = None
        FOLLOWERS[threading.main_thread().ident or 0] = self

    # --- as a listener: between regions ---

    def keep(self) -> None:
        """Nothing was promised."""

    def operation(self, cls: Any, func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        """The first operation of a region; another layout of what is there is none."""
        handler = HANDLERS.get(func)
        if handler is not None and handler.__module__ == views.__name__ and not func._schema.is_mutable:
            self.busy = True
            try:
                return cls.__torch_dispatch__(func, (), args, kwargs)
            finally:
                self.busy = False
        self._updated = False
        self.left()
        session = _session_of((args, kwargs))
        if session is not None and not ledger.kept() and not WATCHERS and _unfit(session) is None:
            flush(session)
            for known in session.loops:
                region = _LoopFollowing(self, known, session)
                if region.begins(func, args, kwargs):
                    self._region = region
                    region.__enter__()
                    return region.operation(cls, func, args, kwargs)
            if self._pause:
                self._pause -= 1
            else:
                self._region = noting = _LoopNoting(self, session)
                noting.__enter__()
                return noting.operation(cls, func, args, kwargs)
        return cls.__torch_dispatch__(func, (), args, kwargs)

    def diverged(self, known: _Known | None = None) -> None:
        """What was noted does not serve."""
        self.repeats, self.reason = False, "operations or public numbers have changed"
        self._failures = min(self._failures + 1, 6)
        self._pause = (1 << self._failures) - 2

    def served(self) -> None:
        """It did."""
        self._failures = 0


class _LoopNoting(Noting):
    """The first time of a region."""

    def __init__(self, loops: Loops, session: Session) -> None:
        super().__init__(session)
        self._loops = loops

    def operation(self, cls: Any, func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        """Carry one out and note it, if it is of this region."""
        if self._loops.ended:
            self._finish()
        elif self.path.refused is None:
            return super().operation(cls, func, args, kwargs)
        else:
            self.keep()
        return cls.__torch_dispatch__(func, (), args, kwargs)

    def keep(self) -> None:
        """Somebody looks: that ends a region, but in the midst of a backward pass."""
        if not in_backward():
            self._finish()
            return
        self.__exit__()
        self._loops.left()

    def _finish(self) -> None:
        self.__exit__()
        self.end_open()
        if self.path.refused is None and self.path.nodes:
            self._session.loops.insert(0, _Known(self.path))
            del self._session.loops[PATHS:]
        self._loops.idle()


class _LoopFollowing(Following):
    """A region that was noted before."""

    def __init__(self, loops: Loops, known: _Known, session: Session) -> None:
        super().__init__(known.path, session, ())
        self._loops, self._kept = loops, known

    def begins(self, func: Any, args: Any, kwargs: dict[str, Any]) -> bool:
        """Whether this is the first operation of the path."""
        return self._fits(self._nodes[0], func, args, kwargs)

    def operation(self, cls: Any, func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        """The promise of its result, or the result."""
        with self._session.lock:
            if not self.over and self._loops.ended:
                self.keep()
            if not self.over:
                return super().operation(cls, func, args, kwargs)
        return cls.__torch_dispatch__(func, (), args, kwargs)

    def keep(self) -> None:
        """Run the segment, if the region has ended and is as it was; else compute it operation by operation."""
        with self._session.lock:
            here = self._at == self._length and not in_backward()
            if self.over or not (self._loops.ended or here):
                if not self.over:
                    self._loops.left()
                    self._loops.diverged(self._kept)
                super().keep()
                return
            try:
                done = self._at == self._length and _unfit(self._session) is None and self._finish()
                if not done:
                    if not self.over:
                        super().keep()
                    self._loops.repeats = False
            finally:
                self._loops.idle()

    def _finish(self) -> bool:
        """Whether all was done by a segment, or is recorded."""
        alive = tuple(self._alive())
        path = self._path
        inputs = [SecretTensor(self._known[self._numbers[v]], *self._layouts[v]) for v in path.inputs]
        inputs += [_whole(self._known[number], self._dtype(number)) for number in path.wholes]
        changed = {number for node in self._path.nodes for number in node.changed}
        states = [self._known[n] for n in sorted(changed) if type(self._path.cells[n]) is TensorStorage]
        self._restore()
        if any(map(_odd, inputs)) or any(map(_taught, states)):
            self._loops.reason = "what it reads was opened or is still to be made"
            return False
        key = (*map(kind, inputs), alive)
        if key in self._kept.never:
            return False
        segment, checked = self._kept.segments.get(key, (None, False))
        if segment is not None and not segment.fits():
            segment, checked = None, False
        self._leave()
        self.over = True
        if segment is not None and checked:
            self._run(segment, inputs, alive)
        else:
            self._record(key, segment, inputs, states, alive)
        return True

    def _run(self, segment: Segment, inputs: list[SecretTensor], alive: tuple[int, ...]) -> None:
        try:
            outs = segment.run_all(inputs)
        except BaseException as error:
            self.fail(error)
            raise
        for number, out in zip(alive, outs, strict=True):
            found = self._cells[number]
            promise = None if found is None else found()
            if promise is not None:
                self._take(promise, out.cell)
                promise._body.shape = tuple(self._layout_of(number)[0])
        self._loops.repeats, self._loops.reason = True, None
        self._loops.served()

    def _record(
        self,
        key: Any,
        before: Segment | None,
        inputs: list[SecretTensor],
        states: list[TensorStorage],
        alive: tuple[int, ...],
    ) -> None:
        self._loops.repeats, self._loops.reason = False, "the loop is being recorded"
        new = Segment(self._session, inputs, states, log=before is not None)
        parts = len(self._path.inputs)
        self._stands = {v: mine.value for v, mine in zip(self._path.inputs, new.inputs[:parts], strict=True)}
        for number, mine in zip(self._path.wholes, new.inputs[parts:], strict=True):
            self._known[number] = mine.value.cell
        try:
            with new.traced():
                self.compute(lambda func, args, kwargs: new.seen.look(func, args, kwargs))
                flush(self._session)
                results = [_whole(self._known[n], self._dtype(n)) for n in alive]
                new.end(*results, openings=True)
                graph = not self._loops.ended  # the backward pass is still to come: that uses what values know
                if graph and any(x.numel() > 1 and _knows(x.cell.body) for x in self._forward(alive, results)):
                    new.refused = new.refused or "what came of it knows what saves messages later"
        except BaseException as error:
            self.fail(error)
            raise
        same = before is None or new.refused is not None or before.confirms(new)
        new.first_all(inputs)
        if new.refused is not None or not same:
            self._loops.reason = new.refused or "the loop is not the same each time"
            self._kept.never.add(key)
            self._kept.segments.pop(key, None)
        elif before is not None:
            self._kept.segments[key] = before, True
        else:
            new.compile()
            if len(self._kept.segments) >= PATHS:
                del self._kept.segments[next(iter(self._kept.segments))]
            self._kept.segments[key] = new, False

    def _forward(self, alive: tuple[int, ...], results: list[SecretTensor]) -> list[SecretTensor]:
        """Those results that the forward pass made."""
        made = (out.value for node in self._path.nodes if not node.context.backward for out in node.made)
        numbers = {self._numbers[value] for value in made}
        return [x for number, x in zip(alive, results, strict=True) if number in numbers]

    def _layout_of(self, number: int) -> Any:
        return self._layouts[self._numbers.index(number)]

    def _dtype(self, number: int) -> torch.dtype:
        dtype: torch.dtype = self._layout_of(number)[-1]
        return dtype


def _odd(x: SecretTensor) -> bool:
    """Whether a segment's copy would lack what is known of an argument."""
    bodies = x.cell.body, source(x).body
    return unread(x.cell) or any(body.zeros or _knows(body) for body in bodies)


def _knows(body: Any) -> bool:
    return any(getattr(body, name) is not None for name in _LEARNED)


def _taught(cell: TensorStorage) -> bool:
    """Whether something is known of a state that saves an opening, or is still to be made of it."""
    body = cell.body
    return body.opened is not None or unread(cell) or cell.scale > cell.unit.scale or _knows(body)


def _whole(cell: TensorStorage, dtype: torch.dtype) -> SecretTensor:
    """All of a cell."""
    return SecretTensor(cell, (cell.body.n,), (1,), 0, dtype)


def _session_of(values: Any) -> Session | None:
    for x in tree_leaves(values):
        if isinstance(x, SecretTensor):
            return x.cell.session
    return None


def _unfit(session: Session) -> str | None:
    """Why no loop of a session is followed."""
    if session.eager:
        return "the parties compute each operation where it stands (eager=True)"
    return "loops of a driver of workers are not followed" if session.recorder is not None else unfit(session)


LOOPS = Loops()
LOOPS.install()


@contextmanager
def following(enabled: bool = True) -> Iterator[Loops]:
    """While within, loops of the main thread are followed, or not.

    >>> with following():
    ...     for x, y in batches:
    ...         optimizer.zero_grad()
    ...         loss(model(x), y).backward()
    ...         optimizer.step()
    """
    before = LOOPS.enabled
    LOOPS.stop()
    LOOPS.begin_anew()
    LOOPS.enabled = enabled
    try:
        yield LOOPS
    finally:
        try:
            LOOPS.stop()
        finally:
            LOOPS.enabled = before
