"""`sy.TrainStep`: a training step that is recorded once, and then repeated without the Python in between.

A step is the same operations on the same shapes again and again.  Torch's autograd, its
modules and the handlers of this package find out which; once that is known, only the
work on shares is left (compare CUDA graphs).  Each party's work, its randomness and its
messages are the same as without.

A step is recorded at the third call, and repeated beside an ordinary one at the fourth,
with the same randomness: all parameters must come out equal to the bit.  Where they do
not, as when the learning rate of each step is another, or where a step cannot be
repeated (workers of other machines, a ledger or a profile being kept), it simply runs
as it is written.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, cast

import torch

from pysmpc.runtime import ledger
from pysmpc.runtime.channel import Local
from pysmpc.runtime.dealer import SeedDealer
from pysmpc.runtime.session import Session
from pysmpc.runtime.stats import Stats
from pysmpc.shares import Body, Share
from pysmpc.tape import Fresh, Given, Tape, recording
from pysmpc.tensor import WATCHERS, Cell, SecretTensor, flush

WARM = 2  # calls before a step is recorded: optimizers make their state in the first

_SLOTS = [name for name in Body.__slots__ if name not in ("words", "n", "serial", "shape", "__weakref__")]


@dataclass
class _Input:
    """An argument of a recorded step: the memory that it is copied to."""

    value: SecretTensor
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
        copy = SecretTensor(cell, x.shape, Share(body, x.shape).strides, 0, x.dtype)
        return cls(copy, body.words, opened)

    def take(self, x: SecretTensor) -> int:
        """Copy another argument in; the stream of its mask, if it was opened."""
        share = _source(x)
        self.words.copy_(share.words())
        if self.opened is None:
            return 0
        assert share.body.opened is not None
        assert share.body.mask is not None
        self.opened.copy_(share.body.opened)
        return share.body.mask

    def give(self, x: SecretTensor, shift: int) -> None:
        """The opening that a step made of its argument stays with the argument."""
        share, body = _source(x), self.value.cell.body
        if self.opened is None and body.opened is not None and share.dense and share.body.opened is None:
            assert body.mask is not None
            share.body.opened, share.body.mask = body.opened.clone(), int(body.mask) + shift


def _source(x: SecretTensor) -> Share:
    return x.window().compact()


@dataclass
class _State:
    """A cell that a step changes: the memory it is read from, and that it ends in."""

    cell: Cell
    words: torch.Tensor
    scale: int
    shape: tuple[int, ...]
    end: torch.Tensor = field(default_factory=lambda: torch.empty(0))
    given: Body | None = None

    @classmethod
    def of(cls, cell: Cell) -> _State:
        cell.settle()
        body = Body(cell.body.words.clone())
        body.shape = cell.body.shape
        cell.replace(body, cell.scale)
        return cls(cell, body.words, cell.scale, body.shape)

    def hand_out(self) -> None:
        """Give the cell the result, in memory of its own: what is read from it must never change."""
        self.given = Body(self.end.clone())
        self.given.shape = self.shape
        self.cell.replace(self.given, self.scale)


class _Recording:
    """A step with arguments of certain shapes."""

    def __init__(self, inputs: list[_Input], states: list[_State], tape: Tape) -> None:
        self.inputs, self.states, self.tape = inputs, states, tape
        self.loss: SecretTensor
        self.cost = Stats()
        self.streams = 0
        self.others: list[tuple[Cell, Body]] = []
        self.checked = False

    def fits(self) -> bool:
        """Whether what the step reads beside its arguments is what it was, or can be copied in."""
        for state in self.states:
            cell = state.cell
            if cell.pending or cell._scale != state.scale or cell._body.n != state.words.shape[1]:
                return False
        return all(not cell.pending and cell._body is body for cell, body in self.others)

    def run(self, arguments: Sequence[SecretTensor], first: int) -> None:
        """Repeat the step: `end` of each state, and the loss, are its results."""
        given = [mine.take(x) for mine, x in zip(self.inputs, arguments, strict=True)]
        for state in self.states:
            if state.cell._body is not state.given:
                state.words.copy_(state.cell.body.words)
        self.tape.run(first, given)

    def finish(self) -> SecretTensor:
        """Hand out the results."""
        for state in self.states:
            state.words.copy_(state.end)
            state.hand_out()
        return _copy(self.loss)


def _copy(x: SecretTensor) -> SecretTensor:
    share = x.window()
    return SecretTensor.of(Share.of(share.words().clone(), x.shape, share.scale), x.session, x.unit, x.dtype)


class TrainStep:
    """One step of training: `loss = step(x, y)`.

    model, optimizer: whose parameters are secrets.  loss(model(x), y) is differentiated,
    and returned as a secret, outside the graph.  Gradients are dropped after each step.
    Rounds and bytes are those of the same lines in a loop; the time is less, by the Python
    that they take.  `repeats` tells whether the last call was a repetition, `reason` why not.

    What Python decides must stay as it was when the step was recorded.  Settings of the optimizer,
    numbers among the attributes of modules, and numbers that `loss` refers to by name are
    compared at each call; where a step depends on anything else, such as a number in a list or
    in an object of your own, make a new TrainStep when that changes.
    """

    def __init__(
        self, model: torch.nn.Module, optimizer: torch.optim.Optimizer, loss: Callable[[Any, Any], torch.Tensor]
    ) -> None:
        self.model, self.optimizer, self.loss = model, optimizer, loss
        self.repeats = False
        self.reason: str | None = "the first steps run as they are written"
        self._calls = 0
        self._known: dict[Any, _Recording] = {}
        self._settings: Any = None
        self._never: str | None = None

    def __call__(self, x: Any, y: Any) -> torch.Tensor:
        """Zero the gradients, go forward, backward, and update."""
        self._calls += 1
        self.repeats = False
        self.reason = self._obstacle(x, y)
        if self.reason is not None:
            return self._plainly(x, y)
        flush(x.session)
        if any(isinstance(p, SecretTensor) and p.cell.body.opened is not None for p in self._parameters()):
            self.reason = "a parameter was opened under its mask since the last step, as by an evaluation: that serves"
            return self._plainly(x, y)
        key = tuple(_kind(each) for each in (x, y))
        known = self._known.get(key)
        if known is not None and not known.fits():
            known = None
        if known is None:
            return self._record(key, x, y)
        if not known.checked:
            return self._check(key, known, x, y)
        self.repeats = True
        session = x.session
        known.run((x, y), first := session.party.dealer.streams(known.streams))
        session.stats.__dict__.update((session.stats + known.cost).__dict__)
        for mine, each in zip(known.inputs, (x, y), strict=True):
            mine.give(each, first - known.tape.first)
        self.optimizer.zero_grad()
        return known.finish()

    def _plainly(self, x: Any, y: Any) -> torch.Tensor:
        self.optimizer.zero_grad()
        loss = self.loss(self.model(x), y)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        if isinstance(loss, SecretTensor):
            flush(loss.session)
        return loss.detach()

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
        if (found := _unfit(x.session)) is not None:
            return found
        settings = self._now()
        if settings != self._settings:  # another learning rate, evaluation mode, frozen parameters
            first, self._settings = self._settings is None, settings
            self._known.clear()
            if not first:  # recorded once they stay
                return "settings or public numbers have changed since the last step"
        return None

    def _parameters(self) -> list[Any]:
        return [p for group in self.optimizer.param_groups for p in group["params"]]

    def _now(self) -> Any:
        groups = [{k: v for k, v in group.items() if k != "params"} for group in self.optimizer.param_groups]
        cells = [(id(p), id(getattr(p, "cell", None)), p.requires_grad) for p in self._parameters()]
        return groups, cells, [_numbers(vars(module)) for module in self.model.modules()], _numbers_of(self.loss)

    # --- recording, checking ---

    def _states(self) -> list[_State]:
        found: dict[int, Cell] = {}
        kept = [v for state in self.optimizer.state.values() for v in state.values()]
        for each in [*self._parameters(), *self.model.buffers(), *kept]:
            if isinstance(each, SecretTensor) and not each.session.plain:
                found[id(each.cell)] = each.cell
        return [_State.of(cell) for cell in found.values()]

    def _record(self, key: Any, x: SecretTensor, y: SecretTensor) -> torch.Tensor:
        session, dealer = x.session, _dealer(x.session)
        self.optimizer.zero_grad()
        inputs, states = [_Input.of(each, place) for place, each in enumerate((x, y))], self._states()
        tape = Tape(dealer.next_stream)
        known = _Recording(inputs, states, tape)
        seen = _Seen([mine.value.cell for mine in inputs], states)
        before = session.stats.copy()
        with dealer.marked(Fresh), recording(tape, SecretTensor, seen):
            loss = self._plainly(*(mine.value for mine in inputs))
            assert isinstance(loss, SecretTensor)
            known.loss = loss
            loss.window().words()
            for state in states:
                state.cell.settle()
                state.end = state.cell.body.words
        known.cost = session.stats - before
        known.streams = dealer.next_stream - tape.first
        known.others = seen.end()
        for mine, each in zip(inputs, (x, y), strict=True):
            mine.give(each, 0)
        self.optimizer.zero_grad()
        changed = next((s for s in states if s.cell.scale != s.scale or s.end.shape != s.words.shape), None)
        self._never = tape.refused or seen.refused or ("a state changes its scale or size" if changed else None)
        if self._never is None:
            openings = [body.opened for mine in inputs if (body := mine.value.cell.body).opened is not None]
            tape.pack([*(state.end for state in states), loss.window().body.words, *openings])
            self._known[key] = known
        return known.finish()

    def _check(self, key: Any, known: _Recording, x: SecretTensor, y: SecretTensor) -> torch.Tensor:
        """An ordinary step, then its repetition under the same streams: both must agree in every word."""
        dealer = _dealer(x.session)
        self.optimizer.zero_grad()
        first = dealer.next_stream
        copies = [_Input.of(each, place) for place, each in enumerate((x, y))]
        starts = [state.cell.body.words for state in known.states]
        loss = self._plainly(*(mine.value for mine in copies))
        assert isinstance(loss, SecretTensor)
        used = dealer.next_stream - first
        ends = [state.cell.body.words for state in known.states]
        for state, words in zip(known.states, starts, strict=True):
            state.words.copy_(words)
            state.given = state.cell.body
        known.run((x, y), first)
        same = used == known.streams and torch.equal(loss.window().words(), known.loss.window().words())
        same = same and all(torch.equal(s.end, end) for s, end in zip(known.states, ends, strict=True))
        for mine, each in zip(copies, (x, y), strict=True):
            mine.give(each, 0)
        self.optimizer.zero_grad()
        known.checked = same
        if same:
            return known.finish()
        del self._known[key]
        self._never = "a step is not the same each time: it uses random or changing public values"
        return loss


def _unfit(session: Session) -> str | None:
    channel, dealer = session.party.channel, session.party.dealer
    if session.plain or session.recorder is not None or type(channel) is not Local or type(dealer) is not SeedDealer:
        return "steps are repeated where all parties are in this process, and the provider deals as it goes"
    if session.suite.lanes != 1:
        return "what integrity='mac' checks is kept from call to call"
    if channel.observer is not None or dealer.observer is not None:
        return "somebody observes the messages"
    return None


def _numbers(names: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in names.items() if isinstance(value, int | float | str | None)}


def _numbers_of(function: Any) -> list[Any]:
    """Public numbers that a function refers to by name, or a module has among its attributes."""
    code = getattr(function, "__code__", None)
    if code is None:
        return [_numbers(vars(each)) for each in getattr(function, "modules", lambda: [])()]
    found = {name: function.__globals__[name] for name in code.co_names if name in function.__globals__}
    for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
        with suppress(ValueError):  # not bound yet
            found[name] = cell.cell_contents
    return [_numbers(found), function.__defaults__]


def _dealer(session: Session) -> SeedDealer:
    return cast(SeedDealer, session.party.dealer)


def _kind(x: SecretTensor) -> Any:
    share = _source(x)
    return tuple(x.shape), x.dtype, x.cell.scale, x.unit, share.dense and share.body.opened is not None


class _Seen:
    """Dispatches operations on secrets, and keeps track of those that were there before."""

    def __init__(self, inputs: list[Cell], states: list[_State]) -> None:
        self.refused: str | None = None
        self._limit = Body(torch.empty((0, 0), dtype=torch.int64)).serial
        self._mine = {id(cell.body) for cell in [*inputs, *(state.cell for state in states)]}
        self._others: dict[int, tuple[Cell, Body, dict[str, Any]]] = {}

    def __call__(self, func: Any, types: Any, args: Any, kwargs: Any) -> Any:
        for x in torch.utils._pytree.tree_leaves((args, kwargs)):
            if isinstance(x, SecretTensor) and not x.session.plain:
                cell = x.cell
                if id(cell) not in self._others and id(cell.body) not in self._mine and cell.body.serial < self._limit:
                    facts = {name: getattr(cell.body, name) for name in _SLOTS}
                    facts["compacted"] = dict(cell.body.compacted)
                    self._others[id(cell)] = cell, cell.body, facts
        return SecretTensor.__torch_dispatch__(func, types, args, kwargs)

    def end(self) -> list[tuple[Cell, Body]]:
        """The others; what was learned of them during the recording is forgotten, as its memory will be used again."""
        for cell, body, facts in self._others.values():
            if cell._body is not body:
                self.refused = "a step changes a secret that is neither a parameter nor state of the optimizer"
            for name, value in facts.items():
                setattr(body, name, value)
        return [(cell, body) for cell, body, _ in self._others.values()]
