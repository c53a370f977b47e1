"""`sy.TrainStep`: a training step that is recorded once, and then repeated without the Python in between.

A step is the same operations on the same shapes again and again.  Torch's autograd, its
modules and the handlers of this package find out which; once that is known, only the
work on shares is left (compare CUDA graphs).  Each party's work, its randomness and its
messages are the same as without.

A step is recorded at the third call.  The fourth is recorded beside it, and the first
recording is held against it, by every party for itself: with the same randomness it must
send the same messages and come to the same shares, to the bit, and a driver must have
asked for the same operations.  Where that is not so, as when the learning rate of each
step is another, or where a step cannot be repeated (a ledger or a profile being kept),
it simply runs as it is written.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch

from pysmpc.ops.dropout import masks_are_secret
from pysmpc.program.segment import Segment
from pysmpc.program.state import kind
from pysmpc.runtime import ledger
from pysmpc.runtime.session import Session
from pysmpc.surroundings import counters, snapshot
from pysmpc.tensor import WATCHERS, Cell, SecretTensor, flush, lock_of

WARM = 2  # calls before a step is recorded: optimizers make their state in the first
KINDS = 16  # of arguments, of which the recordings are kept


class TrainStep:
    """One step of training: `loss = step(x, y)`.

    model, optimizer: whose parameters are secrets.  loss(model(x), y) is differentiated,
    and returned as a secret, outside the graph.  Gradients are dropped after each step.
    Rounds and bytes are those of the same lines in a loop; the time is less, by the Python
    that they take.  `repeats` tells whether the last call was a repetition, `reason` why not.

    What Python decides must stay as it was when the step was recorded.  The attributes, buffers and
    hooks of modules, the settings, state and hooks of the optimizer, and what `loss` refers to are
    compared at each call, also within lists and objects of your own (`pysmpc.surroundings`), and a step
    that has changed is recorded anew.  Where a step depends on anything else, such as a file or the
    time, do not use TrainStep.
    """

    def __init__(
        self, model: torch.nn.Module, optimizer: torch.optim.Optimizer, loss: Callable[[Any, Any], torch.Tensor]
    ) -> None:
        self.model, self.optimizer, self.loss = model, optimizer, loss
        self.repeats = False
        self.reason: str | None = "the first steps run as they are written"
        self._calls = 0
        self._known: dict[Any, Segment] = {}
        self._settings: Any = None
        self._never: str | None = None
        self._checked: set[Any] = set()
        self._counted: list[int] = []  # what a step adds to the counters of batch normalisations

    def __deepcopy__(self, memo: dict[int, Any]) -> TrainStep:
        """A step of a copy of the model, with a copy of the optimizer over it; it records anew."""
        out = memo[id(self)] = object.__new__(type(self))
        out.__init__(*(copy.deepcopy(x, memo) for x in (self.model, self.optimizer, self.loss)))  # type: ignore[misc]
        return out

    def __call__(self, x: Any, y: Any) -> torch.Tensor:
        """Zero the gradients, go forward, backward, and update."""
        with lock_of((x, y)):  # of all of it: another thread's numbers are none of the step's
            return self._step(x, y)

    def _step(self, x: Any, y: Any) -> torch.Tensor:
        self._calls += 1
        self.repeats = False
        self.reason = self._obstacle(x, y)
        if self.reason is not None:
            return self._plainly(x, y)
        flush(x.session)
        bodies = [p.cell.body for p in self._parameters() if isinstance(p, SecretTensor)]
        if any(body.opened is not None or body.functions is not None for body in bodies):
            self.reason = "a parameter was opened under its mask since the last step, as by an evaluation: that serves"
            return self._plainly(x, y)
        key = kind(x), kind(y)
        known = self._known.get(key)
        if known is not None and not known.fits():
            del self._known[key]
            known = None
        if known is None:
            self._checked.discard(key)
        if key not in self._checked:
            if x.session.recorder is not None and not x.session.recorder.room:
                self.reason = "the workers keep as many recorded steps as they take"
                return self._plainly(x, y)
            return self._record(key, x, y)
        assert known is not None
        self.repeats = True
        counts = self._counts()
        out = known.run((x, y))
        self._set_counts([a + b for a, b in zip(counts, self._counted, strict=True)])
        if x.session.recorder is not None:
            x.session.recorder.repeat(known, (x, y), out)
        self.optimizer.zero_grad()
        return out

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
        bounds = [cell.bound for cell in self._cells()]
        return snapshot(bounds, self._parameters(), self.model, self.optimizer, self.loss, masks_are_secret())

    def _counts(self) -> list[int]:
        return [int(each) for each in counters(self.model)]

    def _set_counts(self, counts: list[int]) -> None:
        for each, count in zip(counters(self.model), counts, strict=True):
            each.fill_(count)

    # --- recording, checking ---

    def _cells(self) -> list[Cell]:
        """What a step may change."""
        found: dict[int, Cell] = {}
        kept = [v for state in self.optimizer.state.values() for v in state.values()]
        for each in [*self._parameters(), *self.model.buffers(), *kept]:
            if isinstance(each, SecretTensor) and not each.session.plain:
                found[id(each.cell)] = each.cell
        return list(found.values())

    def _record(self, key: Any, x: SecretTensor, y: SecretTensor) -> torch.Tensor:
        """A step as written, recorded; if one was before, that one is held against it."""
        recorder, before = x.session.recorder, self._known.get(key)
        self.optimizer.zero_grad()
        new = Segment(x.session, (x, y), self._cells(), noted=recorder is None, log=before is not None)
        counts = self._counts()
        with recorder.region(new, (x, y), before) if recorder else nullcontext():
            with new.traced():
                loss = self._plainly(*(mine.value for mine in new.inputs))
                assert isinstance(loss, SecretTensor)
                new.end(loss)
            self.optimizer.zero_grad()
            after = self._counts()
            self._counted = [a - b for a, b in zip(after, counts, strict=True)]
            same = before is None or new.refused is not None or before.confirms(new)
            out = new.first((x, y))
            if recorder is not None:
                same = recorder.recorded(new, loss, out, before) and same
        self._set_counts(after)  # holding one recording against the other may have counted once more
        for arg, mine, written in zip((x, y), new.inputs, new.written, strict=True):
            if written:
                with torch.no_grad():
                    arg.copy_(mine.value)
        self._never = new.refused or (None if same else _NEVER)
        if self._never is not None:
            self._known.clear()
        elif before is not None:
            self._checked.add(key)
        else:
            new.compile()
            if len(self._known) >= KINDS:
                del self._known[next(iter(self._known))]
            self._known[key] = new
        return out


_NEVER = "a step is not the same each time: it uses random or changing public values"


def _unfit(session: Session) -> str | None:
    channel, dealer = session.party.channel, session.party.dealer
    elsewhere = session.party.rows < session.party.holders
    if session.plain or dealer.dealt_ahead or (elsewhere and session.recorder is None):
        return "steps are repeated by a driver of workers, or where all parties are in this process"
    if not session.suite.repeatable:
        return "what integrity='mac' checks is kept from call to call"
    if session.flags is not None:
        return "tests of ranges wait for an opening, which is no part of a step"
    if getattr(channel, "observer", None) is not None or getattr(dealer, "observer", None) is not None:
        return "somebody observes the messages"
    return None
