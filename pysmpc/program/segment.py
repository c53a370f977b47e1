"""A piece of a program that is traced once and then run as a compiled list, at one process of a session.

It copies its arguments in, runs the calls of the trace under fresh stream numbers, and copies what it
leaves behind out (`pysmpc.program.state`).  All processes of a session have the same segments: a driver, who has no
share, only keeps account of scales, streams and openings.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any, cast

import torch

from pysmpc.mpc.additive.products import DeferredProduct, Unopened
from pysmpc.ops.infinite import InfiniteStorage
from pysmpc.program.buffers import tensors_in
from pysmpc.program.check import sends_the_same
from pysmpc.program.compile import Compiled, moved_stream
from pysmpc.program.state import Input, Result, State, kind, source
from pysmpc.program.trace import Trace, tracing, watching
from pysmpc.ring import told, z2k
from pysmpc.ring.shares import Share, ShareStorage
from pysmpc.session.dealer import SeedDealer
from pysmpc.session.session import Session
from pysmpc.session.stats import Stats
from pysmpc.tensor.complex_tensor import ComplexTensor
from pysmpc.tensor.secret import SecretTensor
from pysmpc.tensor.storage import TensorStorage
from pysmpc.torch_modes import undisturbed

#: Writes to running statistics in training, of which its schema says nothing.
NORMALISING = torch.ops.aten.native_batch_norm.default

_SLOTS = [name for name in ShareStorage.__slots__ if name not in ("words", "n", "serial", "shape", "__weakref__")]


class Segment:
    """A piece of a program with arguments of certain kinds, at this process.

    inputs: what stands for its arguments while it is traced.  states: what it changes.
    noted: whether this process has work to repeat; a driver has none.  log: keep the
    messages that are moved, for `confirms`.  refused: why it cannot be run again, if it cannot.
    """

    @undisturbed
    def __init__(
        self,
        session: Session,
        arguments: Sequence[SecretTensor],
        cells: Sequence[TensorStorage],
        noted: bool = True,
        log: bool = False,
    ) -> None:
        self.session = session
        self.kinds = [kind(x) for x in arguments]
        self.inputs = [Input.of(x, place) for place, x in enumerate(arguments)]
        self.states = [State(cell) for cell in cells]
        self._turn = 0  # of each state's pair, which one is read next
        self.seen = Seen([mine.value.cell for mine in self.inputs], self.states)
        self.refused: str | None = None
        self.numbers = told.Numbers()
        self.cost = Stats()
        self.streams = 0
        self._dealer = cast(SeedDealer, session.party.dealer)
        self._before = self._dealer.next_stream
        self._trace = Trace(self._dealer.next_number, log)
        self._noted = noted
        self._results: list[Result] = []
        self._compiled: Compiled
        self._others: list[tuple[TensorStorage, ShareStorage]] = []

    @contextmanager
    def traced(self) -> Iterator[None]:
        """While it runs on the inputs; `end` comes within."""
        before = self.session.stats.copy()
        with ExitStack() as stack:
            stack.enter_context(self._dealer.noting_epochs(self._trace.epochs))
            if self._noted:
                stack.enter_context(tracing(self._trace, SecretTensor, self.seen))
            else:
                stack.enter_context(watching(self._trace, SecretTensor))
            yield
        self.cost = self.session.stats - before
        self.streams = self._dealer.next_stream - self._before
        for mine in self.inputs:
            mine.traced()
        self._others = self.seen.end()
        self.numbers.end()
        changed = any(s.cell.scale != s.scale or s.end.shape != s.words.shape for s in self.states)
        found = self._trace.refused or self.seen.refused or self.numbers.refused
        found = found or ("a state changes its scale or size" if changed else None)
        self.refused = self.refused or found

    @undisturbed
    def end(self, *results: SecretTensor) -> None:
        """All of it has run, and this came of it.  The opening of a result, if it was opened, stays with it."""
        self._results = [Result(each) for each in results]
        for each in self._results:
            self._trace.note_early(each.source, each.there)
        for each in self._results:
            each.keep_opening(self._trace.calls)
        if any(isinstance(x.cell.body, Unopened) and x.cell.body.operands is not None for x in results):
            self.refused = self.refused or "what came of it is still to be made"
        made = set(self._trace.made)
        for state in self.states:
            state.ended(made, self._trace.ranges)

    @undisturbed
    def first(self, arguments: Sequence[SecretTensor]) -> list[SecretTensor]:
        """What came of the trace itself, given to its arguments; its results.  Once, after `traced`."""
        for each in self._results:
            each.again()
        self._copy_out(arguments, lambda stream: stream)
        return self._finish()

    @undisturbed
    def compile(self) -> None:
        """Lay its memory out anew, with none that others refer to.  Once, after `first`."""
        moved = [pair for mine in self.inputs for pair in mine.leave()]
        moved += [pair for state in self.states for pair in state.leave()]
        moved += [pair for each in self._results for pair in each.leave()]
        self._compiled = Compiled(self._trace, moved, [state.pair for state in self.states])
        self._trace = Trace(self._trace.first)  # the memory of what was noted is free

    @undisturbed
    def fits(self, numbers: Sequence[float] = ()) -> bool:
        """True if every value that it reads beside its arguments is there, with the scale, size and bound it had.

        numbers: of the next run, where some may change: then, too, if its calls would be the same with them.
        """
        if not self.numbers.take(numbers):
            return False
        for state in self.states:
            cell = state.cell
            if cell.pending or cell._scale != state.scale or cell._body.n != state.words.shape[1]:
                return False
            if cell.bound != state.began or unread(cell):
                return False
        return all(not cell.pending and cell._body is body for cell, body in self._others)

    @undisturbed
    def run(
        self, arguments: Sequence[SecretTensor], on_result: Callable[[int, SecretTensor], None] | None = None
    ) -> list[SecretTensor]:
        """Do it with other arguments; its results.

        on_result: told the place of each result, and the result.  As soon as it is there: what is left may still be
        done; at the end where it is a product that nobody has read, since who reads that draws streams after this.
        """
        for place, each in enumerate(self._results):
            each.on_result = None if on_result is None or each.waits else partial(on_result, place)
        first = self._dealer.streams(self.streams)
        self.session.stats.add(self.cost)  # before anybody is told: it is a result of the whole segment
        given = self._run(arguments, first)

        def moved(stream: Any) -> int:
            if isinstance(stream, z2k.Stream):
                return given[stream.place]
            return moved_stream(stream, self._compiled.first, first)

        self._copy_out(arguments, moved)
        for each in self._results:
            each.moved(moved)
        outs = self._finish()
        for place, each in enumerate(self._results if on_result is not None else ()):
            if each.waits and on_result is not None:
                on_result(place, outs[place])
        return outs

    def _run(self, arguments: Sequence[SecretTensor], first: int) -> list[int]:
        """Repeat the work, with streams from `first` on; those of masks under which arguments were opened."""
        given = [mine.copy_in(source(x)) for mine, x in zip(self.inputs, arguments, strict=True)]
        for state in self.states:
            state.copy_in(self._turn)
        for each in self._results:
            each.free()
        try:
            self._compiled.run(first, given, turned=bool(self._turn))
        except BaseException:
            for state in self.states:
                state.forget_range()
            raise
        return given

    @undisturbed
    def confirms(self, other: Segment) -> bool:
        """Whether a run with what another, as it was written, ran on would have sent, and come to, the same.

        The other kept its messages, and is not finished.  Nothing is sent.
        """
        bodies = [each.body for each in other.inputs]
        given = [mine.copy_in(Share(body, (body.n,))) for mine, body in zip(self.inputs, bodies, strict=True)]
        self._turn = 0
        for each in self._results:
            each.free()
        for state, before in zip(self.states, other.states, strict=True):
            state.free()
            state.words.copy_(before.words)
        same = self.streams == other.streams and sends_the_same(self._compiled, other._trace, given)
        for mine, theirs in zip(self._results, other._results, strict=True):
            same = mine.same_as(theirs) and same
        return same and all(torch.equal(a.end, b.end) for a, b in zip(self.states, other.states, strict=True))

    def _finish(self) -> list[SecretTensor]:
        """Hand out what came of it."""
        self._turn = 1 - self._turn
        for state in self.states:
            state.copy_out(self._turn)
        return [each.copy_out() for each in self._results]

    def _copy_out(self, arguments: Sequence[SecretTensor], moved: Callable[[int], int]) -> None:
        for mine, x in zip(self.inputs, arguments, strict=True):
            mine.copy_out(x, moved)


class Seen:
    """Dispatches operations on secrets, and keeps track of those that were there before."""

    def __init__(self, inputs: list[TensorStorage], states: list[State]) -> None:
        self.refused: str | None = None
        self.written: set[TensorStorage] = set()
        self._limit = ShareStorage(torch.empty((0, 0), dtype=torch.int64)).serial
        self._inputs = set(inputs)
        self._own = {*inputs, *(state.cell for state in states)}
        self._mine = {id(cell.body) for cell in self._own}
        self._others: dict[int, tuple[TensorStorage, ShareStorage, dict[str, Any]]] = {}
        self._undo: list[Callable[[], None]] = []  # the same, of what openings for functions know

    def __call__(self, func: Any, types: Any, args: Any, kwargs: Any) -> Any:
        if any(issubclass(each, ComplexTensor) for each in types):  # made of operations that come here one by one
            return ComplexTensor.__torch_dispatch__(func, types, args, kwargs)
        self.look(func, args, kwargs)
        return SecretTensor.__torch_dispatch__(func, types, args, kwargs)

    def look(self, func: Any, args: Any, kwargs: Any) -> None:
        """An operation is about to run on these arguments."""
        for x in tensors_in((args, kwargs)):
            if isinstance(x, SecretTensor) and not x.session.plain:
                cell: Any = x.cell.inner if isinstance(x.cell, InfiniteStorage) else x.cell
                if not x.session.suite.repeatable:
                    self.refused = "what integrity='mac' checks is kept from call to call"
                known = cell in self._own or id(cell) in self._others or id(cell.body) in self._mine
                if not known and cell.body.serial < self._limit:
                    facts = {name: getattr(cell.body, name) for name in _SLOTS}
                    facts["compacted"] = dict(cell.body.compacted)
                    if cell.body.functions is not None:
                        self._undo.append(cell.body.functions.undo())
                    self._others[id(cell)] = cell, cell.body, facts
                    if unread(cell):
                        self.refused = "it reads a product that nothing has read before"
        if writes(func):
            self.written |= self._inputs & {x.cell for x in changed(func, args, kwargs)}
            if self.written:
                self.refused = "a step changes its arguments in place"

    def end(self) -> list[tuple[TensorStorage, ShareStorage]]:
        """The others; what was learned of them in the trace is forgotten, as its memory will be used again."""
        for cell, body, facts in self._others.values():
            if cell._body is not body:
                self.refused = "a step changes a secret that is neither a parameter nor state of the optimizer"
            for name, value in facts.items():
                setattr(body, name, value)
        for forget in self._undo:
            forget()
        return [(cell, body) for cell, body, _ in self._others.values()]


def unfit(session: Session) -> str | None:
    """Why no segment of a session can be repeated; None where one can."""
    channel, dealer = session.party.channel, session.party.dealer
    elsewhere = session.party.rows < session.party.holders
    if session.plain or dealer.dealt_ahead or (elsewhere and session.recorder is None and not session.spmd):
        return "steps are repeated by a driver of workers, by ranks, or where all parties are in this process"
    if not session.suite.repeatable:
        return "what integrity='mac' checks is kept from call to call"
    if session.flags is not None:
        return "tests of ranges wait for an opening, which is no part of a step"
    if getattr(channel, "observer", None) is not None or getattr(dealer, "observer", None) is not None:
        return "somebody observes the messages"
    return None


def unread(cell: TensorStorage) -> bool:
    """Whether some of the content is still to be made, which a loop does when it is first read."""
    return isinstance(cell.body, DeferredProduct) and cell.body.unread


def changed(func: Any, args: Any, kwargs: Any) -> list[SecretTensor]:
    """The secrets that an operation writes to."""
    return [x for x in written(func, args, kwargs) if isinstance(x, SecretTensor)]


def writes(func: Any) -> bool:
    """Whether an operation may write to its arguments."""
    return func._schema.is_mutable or func is NORMALISING


def written(func: Any, args: Any, kwargs: Any) -> list[torch.Tensor]:
    """The tensors that an operation writes to."""
    named = [(arg.name, arg.alias_info) for arg in func._schema.arguments]
    given = {name: args[place] if place < len(args) else kwargs.get(name) for place, (name, _) in enumerate(named)}
    found = [given[name] for name, alias in named if alias is not None and alias.is_write]
    if func is NORMALISING and given["training"]:
        found = [given["running_mean"], given["running_var"]]
    return list(tensors_in(found))
