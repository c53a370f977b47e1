"""A region of a training loop: noted the first time, then followed, recorded, and run (`pysmpc.program.loop`)."""

from __future__ import annotations

import gc
from contextlib import nullcontext
from operator import attrgetter
from typing import TYPE_CHECKING, Any

import torch

from pysmpc.errors import PysmpcError
from pysmpc.mpc.additive.products import DeferredProduct
from pysmpc.program.agreeing import digest_of
from pysmpc.program.follow import Following
from pysmpc.program.known_paths import CHANGED, PATHS, KnownPath, Paths
from pysmpc.program.noting import Noting
from pysmpc.program.path import layout
from pysmpc.program.segment import Segment, unfit, unread
from pysmpc.program.state import LazyCopy, kind, source
from pysmpc.ring.shares import LaterBody, ShareStorage
from pysmpc.session.session import Session
from pysmpc.tensor.secret import SecretTensor
from pysmpc.tensor.storage import TensorStorage, flush
from pysmpc.torch_modes import in_backward

if TYPE_CHECKING:
    from pysmpc.program.loop import Loops

#: What makes later operations cheaper, beside an opening, and what a segment's copy of an argument would not have.
_learned = attrgetter(
    "bit", "sign", "binary", "divisor", "functions", "affine", "gate", "origin", "ties", "most", "multiple"
)


class NotedRegion(Noting):
    """The first time of a region."""

    def __init__(self, loops: Loops, paths: Paths, session: Session) -> None:
        super().__init__(session)
        self._loops, self._paths = loops, paths

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
        self.end()
        self._loops.repeats, self._loops.reason = False, self.path.refused or "the loop is being noted"
        self._session.note("the end of a region", len(self.path.nodes))  # before anybody waits for its next message
        if self.path.refused is None and self.path.nodes:
            self._paths.insert(0, KnownPath(self.path, digest_of(self.path) if self._session.spmd else 0))
            del self._paths[PATHS:]
        self._loops.idle()


class FollowedRegion(Following):
    """A region that was noted before."""

    def __init__(self, loops: Loops, paths: Paths, known: KnownPath, session: Session) -> None:
        super().__init__(known.path, session)
        self._loops, self._paths, self._kept = loops, paths, known
        self._check_process, self._mutex = session.lock.process.check, session.lock.mutex
        self._more = False  # whether a step whose end is told goes on where the path ends

    def begins(self, func: Any, args: Any, kwargs: dict[str, Any]) -> bool:
        """Whether this is the first operation of the path."""
        return self._fits(self._nodes[0], func, args, kwargs)

    def _freed(self) -> None:
        """Recordings of before know no such number, whatever comes of this region."""
        self._kept.forget()

    def operation(self, cls: Any, func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        """The promise of its result, or the result."""
        self._check_process()
        with self._mutex:
            if not self.over and self._at < self._length and not self._loops.ended:
                out = self._next(cls, func, args, kwargs)
                if out is not NotImplemented:
                    return out
            self._more = self._at == self._length and self._loops.within
            if not self.over:
                self.keep()
        return cls.__torch_dispatch__(func, (), args, kwargs)

    def keep(self) -> None:
        """Run the segment, if the region has ended and is as it was; else compute it operation by operation.

        Where workers of other machines are gone, nothing: whoever asks for what was promised is told.
        """
        with self._session.lock:
            recorder = self._session.recorder
            if recorder is not None and not self.over and (gone := recorder.gone()) is not None:
                self.over = True
                self._leave()
                self._restore()
                self.fail(gone)
                self._loops.idle()
                return
            here = self._at == self._length and not in_backward() and not self._more
            if self.over or not (self._loops.ended or here):
                if not self.over:
                    self._loops.left()
                    self._loops.repeats, self._loops.reason = False, CHANGED
                    self._paths.missed(self._kept)
                self._as_written()
                return
            self._kept.missed = 0
            try:
                done = self._at == self._length and unfit_for_loops(self._session) is None and self._finish()
                if not done:
                    self._loops.repeats = False
                if not done and not self.over:
                    self._as_written()
            finally:
                self._loops.idle()

    def _as_written(self) -> None:
        if not self.over:
            self._session.note("as written", self._at)  # ranks that repeat it are told at their next message
        super().keep()

    def _finish(self) -> bool:
        """Whether all was done by a segment, or is recorded."""
        path = self._path
        given = [self._given[place] for place in range(path.changing)]
        inputs = {v: SecretTensor(self._known[self._numbers[v]], *self._layouts[v]) for v in path.inputs}
        inputs |= {-1 - number: _whole(self._known[number], self._dtype(number)) for number in path.wholes}
        changed = {number for node in self._path.nodes for number in node.changed}
        changed = {n for n in changed if type(path.cells[n]) is TensorStorage}
        states = [self._known[n] for n in sorted(changed)]
        self._restore()
        opened = any(self._known[n].body.opened is not None for n in changed & self._kept.parameters)
        odd = {place: x for place, x in inputs.items() if _odd(x)}
        constants = [(place, x.cell.body.serial, layout(x)) for place, x in odd.items()]
        same, self._kept.constants = constants == self._kept.constants, constants
        if not same or not all(map(_fixed, odd.values())) or opened or any(map(_taught, states)):
            self._loops.reason = "what it reads was opened or is still to be made"
            return False
        for place in odd:
            del inputs[place]
        kinds = *map(kind, inputs.values()), tuple(constants)
        self._tidy(kinds)
        alive = tuple(self._alive())
        key = kinds, alive
        if self._refusal(key) in self._kept.never:
            self._loops.reason = self._kept.never[self._refusal(key)]
            return False
        segment, checked = self._kept.segments.get(key, (None, False))
        if segment is not None and not segment.fits(given):
            if not self._kept.pay_for_recording():
                self._loops.reason = "how it is computed changes too often with public numbers"
                return False
            segment, checked = None, False
        if self._session.recorder is not None and (reason := self._unlike(alive, bool(inputs), segment is None)):
            self._loops.reason = reason
            return False
        self._leave()
        self.over = True
        with self._session.as_one(self._kept.digest_with(given)):
            if segment is not None and checked:
                self._run(segment, list(inputs.values()), alive)
            else:
                self._record(key, segment, inputs, states, alive)
        if self._session.spmd:
            self._paths.failures = 0  # whether it was recorded here, or run
        if self._refusal(key) in self._kept.never:
            self._session.note("not repeated")
        return True

    def _tidy(self, kinds: Any) -> None:
        """Before anything is recorded at a rank: garbage would have another set of values alive at each."""
        if self._session.spmd and kinds not in self._kept.never:
            _, checked = self._kept.segments.get((kinds, tuple(self._alive())), (None, False))
            if not checked:
                gc.collect()

    def _refusal(self, key: tuple[Any, Any]) -> Any:
        """Of what a refusal is kept: of all that is alive, or ranks would go on in different ways."""
        return key[0] if self._session.spmd else key

    def _unlike(self, alive: tuple[int, ...], given: bool, new: bool) -> str | None:
        """Why workers of other machines cannot do this as a step, if they cannot."""
        if not given or any(self._path.cells[n][::2] != (TensorStorage, self._session) for n in alive):
            return "workers record what has secret arguments, and whose results are secrets of the same parties"
        if new and not self._session.recorder.steps.room:
            return "the workers keep as many recorded steps as they take"
        return None

    def _run(self, segment: Segment, inputs: list[SecretTensor], alive: tuple[int, ...]) -> None:
        self._loops.repeats, self._loops.reason = True, None
        try:
            outs = segment.run(inputs)
            if self._session.recorder is not None:
                self._session.recorder.steps.repeat(segment, inputs, outs)
        except BaseException as error:
            self.fail(error)
            raise
        self._fulfil(alive, outs)
        self._paths.failures = 0
        self._kept.earn()

    def _fulfil(self, alive: tuple[int, ...], outs: list[SecretTensor]) -> None:
        for number, out in zip(alive, outs, strict=True):
            found = self._cells[number]
            promise = None if found is None else found()
            if promise is not None:
                self._take(promise, out.cell)
                promise._body.shape = tuple(self._layout_of(number)[0])

    def _record(
        self,
        key: Any,
        before: Segment | None,
        given: dict[int, SecretTensor],
        states: list[TensorStorage],
        alive: tuple[int, ...],
    ) -> None:
        self._loops.repeats, self._loops.reason = False, "the loop is being recorded"
        there = None if self._session.recorder is None else self._session.recorder.steps
        inputs = list(given.values())
        new = Segment(self._session, inputs, states, noted=there is None, log=before is not None)
        try:
            with there.recording(new, inputs, before) if there else nullcontext():
                results = self._traced(new, given, alive)
                same = before is None or new.refused is not None or before.confirms(new)
                outs = new.first(inputs)
                if self._session.spmd and not same:
                    raise PysmpcError(
                        "a step of this loop does not come to the same when it is repeated: a fault of this package, "
                        "please report it; sy.distributed(..., eager=True) repeats none"
                    )
                if there is not None:
                    same = there.recorded(new, results, outs, before, same)
        except BaseException as error:
            self.fail(error)
            raise
        if new.refused is None:
            self._fulfil(alive, outs)
        if new.refused is not None or not same:
            self._loops.reason = new.refused or "the loop is not the same each time"
            self._kept.never[self._refusal(key)] = self._loops.reason
            self._kept.segments.pop(key, None)
        elif before is not None:
            self._kept.segments[key] = before, True
        else:
            new.compile()
            if len(self._kept.segments) >= PATHS:
                del self._kept.segments[next(iter(self._kept.segments))]
            self._kept.segments[key] = new, False

    def _traced(self, new: Segment, given: dict[int, SecretTensor], alive: tuple[int, ...]) -> list[SecretTensor]:
        """Call the handlers of what was followed, on the segment's own copies; what came of it."""
        for place, mine in zip(given, new.inputs, strict=True):
            if place < 0:
                self._known[-1 - place] = mine.value.cell
            else:
                self._stands[place] = mine.value
        here = self._session.recorder is None  # a driver's recorder looks at what it sends
        with new.traced():
            self._given = {place: new.numbers.number(self._given[place]) for place in range(self._path.changing)}
            self.compute((lambda func, args, kwargs: new.seen.look(func, args, kwargs)) if here else None)
            flush(self._session)
            whole = [_whole(self._known[n], self._dtype(n)) for n in alive]
            graph = not self._loops.ended  # the backward pass is still to come: that uses what values know
            results = [x for x in whole if _copies(x.cell.body, graph)]
            if len(results) < len(whole):
                new.refused = new.refused or "what came of it is more than its words"
            new.end(*results)
            if graph and any(x.numel() > 1 and _knows(x.cell.body) for x in self._forward(alive, whole)):
                new.refused = new.refused or "what came of it knows what saves messages later"
        return results

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
    return unread(x.cell) or any(body.zeros or _knows(body) or not _copies(body, True) for body in bodies)


def _fixed(x: SecretTensor) -> bool:
    """Whether a segment may read it where it is, in every run."""
    return isinstance(x.cell.body, LazyCopy) or type(x.cell.body) is ShareStorage


def _copies(body: Any, graph: bool) -> bool:
    """Whether a segment's copy of a value is as good.

    graph: whether a backward pass is still to come, which needs the way to a maximum, not only its place.
    """
    later = isinstance(body, LaterBody) and not graph
    return later or type(body) is ShareStorage or isinstance(body, DeferredProduct | LazyCopy)


def _knows(body: Any) -> bool:
    return any(each is not None for each in _learned(body))


def _taught(cell: TensorStorage) -> bool:
    """Whether openings for functions are known of a state, or something is still to be made of it."""
    body = cell.body
    return unread(cell) or cell.scale > cell.unit.scale or body.functions is not None or body.bit is not None


def _whole(cell: TensorStorage, dtype: torch.dtype) -> SecretTensor:
    """All of a cell."""
    return SecretTensor(cell, (cell.body.n,), (1,), 0, dtype)


def unfit_for_loops(session: Session) -> str | None:
    """Why no loop of a session is followed."""
    if session.eager:
        return "the parties compute each operation where it stands (eager=True)"
    return unfit(session)
