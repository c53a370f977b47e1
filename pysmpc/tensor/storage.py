"""What torch views of one secret tensor share: its value, its scale and its session, and the updates that wait for it.

An update such as `weight -= rate * gradient` needs a truncation.  `TensorStorage.defer` keeps it, and `flush` truncates
all that wait in one round, when one of their values is read.
"""

from __future__ import annotations

import math
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from pysmpc.ring.fixedpoint import Precision
from pysmpc.ring.shares import Share, ShareStorage
from pysmpc.session.session import Session
from pysmpc.tensor.watching import WATCHERS, run_watched
from pysmpc.torch_modes import keep_promises, undisturbed

#: What a cell has once its content is computed.
FACTS = frozenset(("_body", "_scale", "bound", "finer", "pending", "inner", "places"))


class Estimate(float):
    """A bound (`TensorStorage.bound`) of sums of many elements at their worst, which such sums seldom come near.

    Other bounds are direct: they were stated for a value, or follow element by element from such bounds and from
    public numbers.
    """


class TensorStorage:
    """What torch views of one another have in common: the value, its scale, its session.

    scale: steps to one at the moment; a multiple of unit.scale after products, until
    `settle` divides it out.
    finer: how much finer than unit.scale it may stay then: what a public number divided off, since its integers
    are no larger for it than those of the dividend.
    bound: no element is larger in magnitude, where that is publicly known (`pysmpc.ops.bounds`).

    Its content is replaced, never written, so that what an in-place operation invalidates goes with it.
    A cell may be a promise (`pysmpc.program.follow`): it has none of `FACTS` yet, and asking for one makes them all.
    """

    __slots__ = (
        "__weakref__", "_body", "_scale", "bound", "finer", "pending", "promise", "provenance", "session", "slot",
        "unit",
    )  # fmt: skip

    promise: Any  # who computes the content when it is asked for (pysmpc.program.follow)
    slot: int  # of the value at workers of other machines, where it is there
    provenance: Any  # at such a worker: where the value came from (pysmpc.remote.worker.origins)

    def __init__(self, body: ShareStorage, scale: int, unit: Precision, session: Session) -> None:
        self._body = body
        self._scale = scale
        self.unit = unit
        self.session = session
        self.pending = False
        self.finer = 1
        self.bound: float | None = None
        session.register(body)

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            """Called for a fact that is not there: whoever promised it makes it."""
            if name in FACTS and (promise := getattr(self, "promise", None)) is not None:
                promise.keep()
            return object.__getattribute__(self, name)

    @property
    def body(self) -> ShareStorage:
        """The value; updates that wait are applied first."""
        if self.pending:
            flush(self.session)
        return self._body

    @property
    def scale(self) -> int:
        """Steps to one."""
        if self.pending:
            flush(self.session)
        return self._scale

    def replace(self, body: ShareStorage, scale: int) -> None:
        """New content; everything known about the old (opening, signs, bound, what was divided off) is gone."""
        if self.pending:
            flush(self.session)
        self._body = body
        self._scale = scale
        self.bound, self.finer = None, 1
        self.session.register(body)

    def defer(self, delta: Share, factor: int, by: int) -> None:
        """Add factor / by times a share, whose scale is `by` times the nominal one, later: truncated with others."""
        if self.pending:
            flush(self.session)
        self.pending = True
        self.bound = None
        self.session.waiting.append((self, delta, factor, by))

    def settle(self, headroom: int = 1) -> None:
        """Truncate to the nominal scale, unless the scale is at most `headroom` times it."""
        unit = self.unit.scale
        if self.scale > unit * headroom:
            plain = self.finer == 1 and self.scale % unit == 0
            up, scale = (1, unit) if plain else self.kept(min(self.finer, headroom))
            arithmetic, party = self.session.arithmetic, self.session.party
            whole = Share(self.body, (self.body.n,), self.scale)
            if up > 1:
                whole = arithmetic.scale_by(party, whole, up).at(whole.scale * up)
            out = arithmetic.truncate(party, whole, (2 * whole.scale + scale) // (2 * scale))
            if whole.body.functions is not None:
                out.body.functions = whole.body.functions.truncated(whole)
            bound = self.bound
            self.replace(out.body, scale)
            if bound is not None:  # which rounding may exceed by a step
                self.bound = type(bound)(bound + 1 / unit)

    def kept(self, finer: int) -> tuple[int, int]:
        """(a factor, the scale to which `factor` times the integers is truncated), at most `finer` times nominal."""
        unit = self.unit.scale
        while finer > 1:
            up = unit * finer // math.gcd(self.scale, unit * finer)
            if self.scale * up <= 2 * unit**2:  # as large as products may be
                return up, unit * finer
            finer //= 2
        return whole_multiple(self.scale, unit), unit


def whole_multiple(scale: int, unit: int) -> int:
    """The factor that makes a scale above a nominal one a multiple of it, or one to 2^-22 where integers lack room."""
    if scale <= unit:
        return 1
    up = unit // math.gcd(scale, unit)
    return up if scale * up < 1 << 52 else max(1, (unit << 22) // scale)


def flush(session: Session) -> None:
    """Apply the updates that wait: one round for all.

    Where it happens depends on the program alone, so all processes agree.
    """
    if session.recorder is not None and session.waiting and session.recorder.flush(session):
        return
    if session.waiting:
        _update(session)


@undisturbed
def _update(session: Session) -> None:
    keep_promises()
    with nullcontext() if session.plain else session.lock:
        if WATCHERS:
            run_watched("update", _add_deferred, (session,), {})
        else:
            _add_deferred(session)


def _add_deferred(session: Session) -> None:
    waiting, session.waiting = session.waiting, []
    for cell, *_ in waiting:
        cell.pending = False
    arithmetic, party = session.arithmetic, session.party
    updates = []
    for cell, delta, factor, by in waiting:
        cell.settle()
        scale = cell.unit.scale
        own = Share(cell.body, (cell.body.n,), cell.scale)
        if own.scale != scale:
            own = arithmetic.scale_by(party, own, scale // own.scale).at(scale)
        updates.append((own, delta, factor, by))
    if updates:
        checks = session.checks
        cells = [cell for cell, *_ in waiting]
        found = arithmetic.update_all(party, updates) if checks is None else checks.pay(party, cells, updates)
        for cell, share in zip(cells, found, strict=True):
            cell.replace(share.body, cell.unit.scale)
