"""A step of a program that is recorded once and then repeated, at one process of a session.

What it reads and changes has memory of its own, which nothing outside refers to: arguments
are copied in, and what it leaves behind is copied out, so that nothing a user holds ever changes.  In between runs
a tape, under fresh stream numbers.  All processes of a session record the same steps:
a driver, who has no share, only keeps account of scales, streams and openings.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, cast

import torch

from pysmpc.modes import undisturbed
from pysmpc.ops.infinite import InfiniteCell
from pysmpc.protocols.products import Unfinished
from pysmpc.runtime.dealer import SeedDealer
from pysmpc.runtime.session import Session
from pysmpc.runtime.stats import Stats
from pysmpc.shares import Body, Share
from pysmpc.tape import Fresh, Given, Tape, recording, watching
from pysmpc.tensor import Cell, SecretTensor

_SLOTS = [name for name in Body.__slots__ if name not in ("words", "n", "serial", "shape", "__weakref__")]


@dataclass
class _Input:
    """An argument of a recorded step: the memory that it is copied to.

    value: what the step is recorded with.  body: its content, as the step begins.
    """

    value: SecretTensor
    body: Body
    words: torch.Tensor
    opened: torch.Tensor | None

    @classmethod
    def of(cls, x: SecretTensor, place: int) -> _Input:
        """Memory for arguments like x, with what is in x now."""
        share = _source(x)
        body = Body(share.words().clone())
        body.shape = tuple(x.shape)
        opened = None
        if share.dense and share.body.opened is not None:
            assert share.body.mask is not None
            opened = body.opened = share.body.opened.clone()
            body.mask = Given(share.body.mask, place)
        cell = Cell(body, x.cell.scale, x.cell.unit, x.session)
        cell.bound = x.cell.bound
        copy = SecretTensor(cell, x.shape, Share(body, x.shape).strides, 0, x.dtype)
        return cls(copy, body, body.words, opened)

    def take(self, share: Share) -> int:
        """Copy another argument in; the stream of its mask, if it was opened."""
        self.words.copy_(share.words())
        if self.opened is None:
            return 0
        assert share.body.opened is not None
        assert share.body.mask is not None
        self.opened.copy_(share.body.opened)
        return share.body.mask

    def give(self, x: SecretTensor, moved: Callable[[int], int]) -> None:
        """The opening that a step made of its argument stays with the argument."""
        share, body = _source(x), self.body
        if self.opened is None and body.opened is not None and share.dense and share.body.opened is None:
            assert body.mask is not None
            share.body.opened, share.body.mask = body.opened.clone(), moved(int(body.mask))

    def leave(self) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Go on with memory of its own: [(what it had, what it has)].  Others may keep what was recorded with."""
        body = Body(self.words.clone())
        moved = [(self.words, body.words)]
        if self.body.opened is not None:
            body.opened, body.mask = self.body.opened.clone(), self.body.mask
            moved.append((self.body.opened, body.opened))
        self.body, self.words = body, body.words
        if self.opened is not None:
            self.opened = body.opened
        return moved


def _source(x: SecretTensor) -> Share:
    return x.window().compact()


class Loan(Body):
    """What a step came to, where it came to it.  It is copied once it is read, or kept until that memory is needed."""

    __slots__ = ("_held", "_source")

    def __init__(self, source: torch.Tensor) -> None:
        self._source: torch.Tensor | None = source
        self._held = source
        super().__init__(source)

    @property
    def rows(self) -> int:
        """Hosted holders."""
        return self._held.shape[0]

    @property
    def words(self) -> torch.Tensor:
        """A copy that stays."""
        if self._source is not None:
            self._held, self._source = self._source.clone(), None
        return self._held

    @words.setter
    def words(self, words: torch.Tensor) -> None:
        self._held = words


class _State:
    """A cell that a step changes: two pieces of memory, of which each run reads one and writes the other.

    An interrupted run leaves the cell as it was.
    """

    def __init__(self, cell: Cell) -> None:
        cell.settle()
        self.cell = cell
        self.shape = cell.body.shape
        self.scale = cell.scale
        self.bound = cell.bound  # as a run leaves it
        self.words = cell.body.words.clone()
        self.end = self.words
        self._lent: list[weakref.ref[Loan] | None] = [None, None]
        self._begin = body = Body(self.words)
        body.shape = self.shape
        self._range: Any = None  # of what it ends with, where that is checked (pysmpc.protocols.ranges)
        cell.replace(body, self.scale)
        cell.bound = self.bound

    @property
    def pair(self) -> tuple[torch.Tensor, torch.Tensor]:
        """What an odd run reads and writes, an even one writes and reads."""
        return self.words, self.end

    def ended(self, made: set[int], ranges: Mapping[Body, Any]) -> None:
        """The recording has come to its end.

        made: where memory starts that the recording made, and that no other state ends in.  ranges: of the bodies.
        """
        self.cell.settle()
        self.bound = self.cell.bound
        end = self.cell.body.words
        if (begins := ranges.get(self._begin)) is not None:
            begins.before = self._range = ranges.get(self.cell.body)
        start = end.untyped_storage().data_ptr()
        whole = end.storage_offset() == 0 and end.untyped_storage().nbytes() == self.words.untyped_storage().nbytes()
        if whole and start in made and end.is_contiguous():
            made.remove(start)
            self.end = end
        else:  # what did not change, or is what another value was
            self.end = end.clone()

    def leave(self) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Go on with memory of its own: [(what it had, what it has)].  Others may keep what the recording made."""
        had = self.pair
        self.words, self.end = (each.clone() for each in had)
        return list(zip(had, self.pair, strict=True))

    def take(self, turn: int) -> None:
        """Have the cell's value in one of the pair, and the other free."""
        body = self.cell.body
        if body is not self._lent_of(turn):
            self.other()
            self._keep(turn)
            self.pair[turn].copy_(body.words)
        self._keep(1 - turn)

    def other(self) -> None:
        """What the next run begins with is not what the last one ended with."""
        if self._range is not None:
            self._range.forget()

    def free(self) -> None:
        """Have both free."""
        self.other()
        self._keep(0)
        self._keep(1)

    def _lent_of(self, turn: int) -> Loan | None:
        lent = self._lent[turn]
        return lent() if lent is not None else None

    def _keep(self, turn: int) -> None:
        """Whoever still refers to what was lent gets a copy."""
        if (loan := self._lent_of(turn)) is not None:
            _ = loan.words

    def lend(self, turn: int) -> None:
        """Give the cell what is in one of the pair: what is read from it must never change."""
        loan = Loan(self.pair[turn])
        loan.shape = self.shape
        self.cell.replace(loan, self.scale)
        self.cell.bound = self.bound
        self._lent[turn] = weakref.ref(loan)


class _Result:
    """What a step comes to.  source: where.  told: of a copy, as soon as there is one."""

    def __init__(self, recorded: SecretTensor) -> None:
        share = recorded.window()
        self.source, self._scale, self._bound = share.words(), share.scale, recorded.cell.bound
        self.told: Callable[[SecretTensor], None] | None = None
        self._like = recorded
        self._copy: SecretTensor | None = None

    def came(self, words: torch.Tensor) -> None:
        """It is there, in these words, which may change later."""
        x = self._like
        self._copy = SecretTensor.of(Share.of(words.clone(), x.shape, self._scale), x.session, x.unit, x.dtype)
        self._copy.cell.bound = self._bound
        if self.told is not None:
            self.told(self._copy)

    def taken(self) -> SecretTensor:
        """The copy, once."""
        copy, self._copy = self._copy, None
        assert copy is not None
        return copy


class Recording:
    """A step with arguments of certain kinds, at this process.

    inputs: what stands for its arguments while it is recorded.  states: what it changes.
    noted: whether this process has work to repeat; a driver has none.  log: keep the
    messages that are moved, for `confirms`.  refused: why it cannot be repeated, if it cannot.
    written: which of its arguments it changes in place; such a step is refused.
    """

    @undisturbed
    def __init__(
        self,
        session: Session,
        arguments: Sequence[SecretTensor],
        cells: Sequence[Cell],
        noted: bool = True,
        log: bool = False,
    ) -> None:
        self.session = session
        self.kinds = [kind(x) for x in arguments]
        self.inputs = [_Input.of(x, place) for place, x in enumerate(arguments)]
        self.states = [_State(cell) for cell in cells]
        self._turn = 0  # of each state's pair, which one is read next
        self.seen = Seen([mine.value.cell for mine in self.inputs], self.states)
        self.refused: str | None = None
        self.written = [False] * len(self.inputs)
        self.cost = Stats()
        self.streams = 0
        self._dealer = cast(SeedDealer, session.party.dealer)
        self._before = self._dealer.next_stream
        self._tape = Tape(self._dealer.next_number, log)
        self._noted = noted
        self._result: _Result
        self._others: list[tuple[Cell, Body]] = []

    @contextmanager
    def recorded(self) -> Iterator[None]:
        """While the step runs on the inputs; `end` comes within."""
        before = self.session.stats.copy()
        with ExitStack() as stack:
            stack.enter_context(self._dealer.marked(Fresh, self._tape.epochs))
            if self._noted:
                stack.enter_context(recording(self._tape, SecretTensor, self.seen))
            else:
                stack.enter_context(watching(self._tape, SecretTensor))
            yield
        self.cost = self.session.stats - before
        self.streams = self._dealer.next_stream - self._before
        for mine in self.inputs:
            if mine.body.mask is not None:
                mine.body.mask = int(mine.body.mask)  # whoever keeps it has no part in repetitions
        self._others = self.seen.end()
        changed = any(s.cell.scale != s.scale or s.end.shape != s.words.shape for s in self.states)
        self.written = [mine.value.cell in self.seen.written for mine in self.inputs]
        found = self._tape.refused or self.seen.refused or ("a state changes its scale or size" if changed else None)
        self.refused = self.refused or found

    @undisturbed
    def end(self, result: SecretTensor) -> None:
        """All of the step has run, and this came of it."""
        self._result = _Result(result)
        self._tape.note_early(self._result.source, self._result.came)
        made = self._tape.made()
        for state in self.states:
            state.ended(made, self._tape.ranges)

    @undisturbed
    def first(self, arguments: Sequence[SecretTensor]) -> SecretTensor:
        """What came of the recording itself, given to its arguments; the result.  Once, after `recorded`."""
        self._result.came(self._result.source)
        self._give(arguments, lambda stream: stream)
        return self._finish()

    @undisturbed
    def pack(self) -> None:
        """Use memory anew within the step, and none that others refer to.  Once, after `first`."""
        moved = [pair for mine in self.inputs for pair in mine.leave()]
        moved += [pair for state in self.states for pair in state.leave()]
        self._tape.pack(moved, [state.pair for state in self.states])

    def fits(self) -> bool:
        """Whether what the step reads beside its arguments is what it was, or can be copied in."""
        for state in self.states:
            cell = state.cell
            if cell.pending or cell._scale != state.scale or cell._body.n != state.words.shape[1]:
                return False
        return all(not cell.pending and cell._body is body for cell, body in self._others)

    @undisturbed
    def again(
        self, arguments: Sequence[SecretTensor], told: Callable[[SecretTensor], None] | None = None
    ) -> SecretTensor:
        """Do the step with other arguments; the result.

        told: of the result, as soon as it is there: what is left of the step may still be done.
        """
        first = self._dealer.streams(self.streams)
        self.session.stats.add(self.cost)  # before anybody is told: it is a result of the whole step
        self._result.told = told
        self._run(arguments, first)
        self._result.told = None
        self._give(arguments, lambda stream: self._tape.moved(stream, first))
        return self._finish()

    def _run(self, arguments: Sequence[SecretTensor], first: int) -> None:
        """Repeat the work, with streams from `first` on."""
        given = [mine.take(_source(x)) for mine, x in zip(self.inputs, arguments, strict=True)]
        for state in self.states:
            state.take(self._turn)
        try:
            self._tape.run(first, given, turned=bool(self._turn))
        except BaseException:
            for state in self.states:
                state.other()
            raise

    @undisturbed
    def confirms(self, other: Recording) -> bool:
        """Whether a repetition with what another, as it was written, ran on would have sent, and come to, the same.

        The other kept its messages, and is not finished.  Nothing is sent.
        """
        bodies = [each.body for each in other.inputs]
        given = [mine.take(Share(body, (body.n,))) for mine, body in zip(self.inputs, bodies, strict=True)]
        self._turn = 0
        for mine, theirs in zip(self.states, other.states, strict=True):
            mine.free()
            mine.words.copy_(theirs.words)
        log = other._tape
        same = self.streams == other.streams and self._tape.run(log.first, given, log.log, log.epochs)
        same = same and torch.equal(self._result.taken().window().words(), other._result.source)
        return same and all(torch.equal(a.end, b.end) for a, b in zip(self.states, other.states, strict=True))

    def _finish(self) -> SecretTensor:
        """Hand out what came of the step."""
        self._turn = 1 - self._turn
        for state in self.states:
            state.lend(self._turn)
        return self._result.taken()

    def _give(self, arguments: Sequence[SecretTensor], moved: Callable[[int], int]) -> None:
        for mine, x in zip(self.inputs, arguments, strict=True):
            mine.give(x, moved)


def kind(x: SecretTensor) -> Any:
    """What a recording supposes of an argument."""
    share = _source(x)
    facts = id(x.session), tuple(x.shape), x.dtype, x.cell.scale, x.unit, x.cell.bound
    return *facts, share.dense and share.body.opened is not None


class Seen:
    """Dispatches operations on secrets, and keeps track of those that were there before."""

    def __init__(self, inputs: list[Cell], states: list[_State]) -> None:
        self.refused: str | None = None
        self.written: set[Cell] = set()
        self._limit = Body(torch.empty((0, 0), dtype=torch.int64)).serial
        self._inputs = set(inputs)
        self._own = {*inputs, *(state.cell for state in states)}
        self._mine = {id(cell.body) for cell in self._own}
        self._others: dict[int, tuple[Cell, Body, dict[str, Any]]] = {}
        self._undo: list[Callable[[], None]] = []  # the same, of what openings for functions know

    def __call__(self, func: Any, types: Any, args: Any, kwargs: Any) -> Any:
        self.look(func, args, kwargs)
        return SecretTensor.__torch_dispatch__(func, types, args, kwargs)

    def look(self, func: Any, args: Any, kwargs: Any) -> None:
        """An operation is about to run on these arguments."""
        for x in torch.utils._pytree.tree_leaves((args, kwargs)):
            if isinstance(x, SecretTensor) and not x.session.plain:
                cell: Any = x.cell.inner if isinstance(x.cell, InfiniteCell) else x.cell
                if not x.session.suite.repeatable:
                    self.refused = "what integrity='mac' checks is kept from call to call"
                known = cell in self._own or id(cell) in self._others or id(cell.body) in self._mine
                if not known and cell.body.serial < self._limit:
                    facts = {name: getattr(cell.body, name) for name in _SLOTS}
                    facts["compacted"] = dict(cell.body.compacted)
                    if cell.body.functions is not None:
                        self._undo.append(cell.body.functions.undo())
                    self._others[id(cell)] = cell, cell.body, facts
                    if isinstance(cell.body, Unfinished) and cell.body.unread:
                        self.refused = "it reads a product that nothing has read before"
        if func._schema.is_mutable:
            self.written |= self._inputs & {x.cell for x in changed(func, args, kwargs)}
            if self.written:
                self.refused = "a step changes its arguments in place"

    def end(self) -> list[tuple[Cell, Body]]:
        """The others; what was learned of them during the recording is forgotten, as its memory will be used again."""
        for cell, body, facts in self._others.values():
            if cell._body is not body:
                self.refused = "a step changes a secret that is neither a parameter nor state of the optimizer"
            for name, value in facts.items():
                setattr(body, name, value)
        for forget in self._undo:
            forget()
        return [(cell, body) for cell, body, _ in self._others.values()]


def changed(func: Any, args: Any, kwargs: Any) -> list[SecretTensor]:
    """The secrets that an operation writes to."""
    found = [
        kwargs.get(arg.name) if place >= len(args) else args[place]
        for place, arg in enumerate(func._schema.arguments)
        if arg.alias_info is not None and arg.alias_info.is_write
    ]
    return [x for x in torch.utils._pytree.tree_leaves(found) if isinstance(x, SecretTensor)]
