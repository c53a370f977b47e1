"""Sorting and what follows from it: argsort, top-k, k-th values, medians, quantiles, modes.

Rows are shuffled in secret, compared, and the outcome is opened (`pysmpc.mpc.derived.arranging`): a round for each
holder and four, whatever the size of a short row.  Under protocols that cannot shuffle (integrity="mac") ranks are
counted, and elements are put by one-hot vectors of their ranks, for rows of up to RANKED.  Nothing is rounded.
Equals stay in their order, also where a row is sorted from the largest down: sorts are stable.

Positions are shares of where the elements stood, dealt when somebody reads them.  To put other values in the same
order (`gather` by the positions), or a gradient back from it, takes the same permutations again: a round for each
holder.
"""

from __future__ import annotations

import math
from typing import Any

import torch

from pysmpc.errors import RangeError
from pysmpc.mpc.derived.arranging import plan
from pysmpc.mpc.signatures import Arranged
from pysmpc.ops.arithmetic import neg
from pysmpc.ops.core import aten, axis, like, result
from pysmpc.ops.decompositions import composes
from pysmpc.ops.ranks import Ranks, some_of
from pysmpc.ops.registering import implements
from pysmpc.ring.fixedpoint import INTEGER, LIMIT
from pysmpc.ring.shares import Share
from pysmpc.session.session import Session
from pysmpc.tensor.secret import SecretTensor

#: Elements of a row whose ranks are counted.
RANKED = 256
#: Elements of a row of which torch tells the last place of a mode.
MODES = 16


class Counted:
    """How rows were sorted, by one-hot vectors [rows, n, n] of the element of each rank."""

    def __init__(self, session: Session, chosen: Share) -> None:
        self._session, self._chosen = session, chosen

    def places(self) -> Share:
        """Where the element of each rank stood."""
        suite, party, (rows, n, _) = self._session.suite, self._session.party, self._chosen.shape
        weighed = suite.matmul_public(
            party, self._chosen, torch.arange(n).view(1, n, 1).expand(rows, n, 1).contiguous()
        )
        return Share(weighed.body, (rows, n))

    def forward(self, x: Share) -> Share:
        """Elements in that order."""
        return self._product(self._chosen, x)

    def back(self, x: Share) -> Share:
        """Elements back from that order."""
        c = self._chosen
        n = c.shape[1]
        return self._product(Share(c.body, c.shape, 1, (n * n, 1, n)), x)

    def _product(self, chosen: Share, x: Share) -> Share:
        suite, party = self._session.suite, self._session.party
        wide = Share(x.body, (*x.shape, 1), x.scale, (*x.strides, 1), x.offset)
        out = suite.matmul(party, chosen, wide)
        return Share(out.body, x.shape, x.scale)


def _counted(session: Session, x: Share) -> tuple[Share, Arranged]:
    """Each row of x [rows, n] sorted by the ranks of its elements, of which nothing is opened."""
    suite, party = session.suite, session.party
    rows, n = x.shape
    first, second = torch.triu_indices(n, n, 1)
    spread = torch.zeros((first.numel(), n), dtype=torch.int64)
    number = torch.arange(first.numel())
    spread[number, first], spread[number, second] = -1, 1
    # x_j - x_i of each pair, and whether it is negative
    apart = session.arithmetic.matmul_public(party, x, spread.t().contiguous())
    less = suite.bit_share(party, suite.negative(party, apart), (rows, first.numel()))
    ranks = suite.matmul_public(party, less, -spread)
    before = torch.arange(n).expand(rows, n).contiguous()
    ranks = suite.add(party, Share(ranks.body, (rows, n)), suite.public(party, before))
    wide = Share(ranks.body, (rows, n, n), 1, (n, 0, 1))
    places = torch.arange(n).view(1, n, 1).expand(rows, n, n).contiguous()
    chosen = suite.zero(party, suite.sub(party, wide, suite.public(party, places)))
    how = Counted(session, Share(chosen.body, (rows, n, n)))
    return how.forward(x), how


class Alone:
    """Rows of one element, or none."""

    def __init__(self, session: Session, rows: int, n: int) -> None:
        self._session, self._shape = session, (rows, n)

    def places(self) -> Share:
        """Zeros."""
        return self._session.suite.public(self._session.party, torch.zeros(self._shape, dtype=torch.int64))

    def forward(self, x: Share) -> Share:
        """x."""
        return x

    def back(self, x: Share) -> Share:
        """x."""
        return x


def _lines(x: SecretTensor, dim: int) -> tuple[Share, tuple[int, ...]]:
    """x as dense rows [rows, n] along a dimension; the shape of the others."""
    lines = x.movedim(dim, -1) if x.dim() else x.reshape(1)
    share, shape = lines.window(), tuple(lines.shape)
    return Share.of(share.words(), (math.prod(shape[:-1]), shape[-1]), share.scale), shape[:-1]


def _arranged(session: Session, rows: Share) -> tuple[Share, Arranged]:
    n = rows.shape[1]
    if n < 2 or not rows.shape[0]:
        return rows, Alone(session, *rows.shape)
    if session.suite.arrange is not None:
        return session.suite.arrange(session.party, rows)
    if n > RANKED:
        raise NotImplementedError(
            f"a row of {n} elements is sorted after a secret shuffle, for which there is no protocol under "
            f"'{session.suite.name}'; up to {RANKED} elements are sorted by their ranks: leave integrity out"
        )
    return _counted(session, rows)


def _check_room(x: SecretTensor, rows: Share) -> None:
    """RangeError, where that can be told, for elements of long rows that leave no room for their positions."""
    if not plan(*rows.shape).sample or x.session.suite.arrange is None or x.session.plain:
        return
    limit = LIMIT >> (rows.shape[1] - 1).bit_length()
    if x.cell.bound is not None and x.cell.bound * x.cell.scale >= limit:
        raise RangeError(
            f"rows of {rows.shape[1]} elements are sorted for magnitudes below {limit / x.cell.scale:.4g}, and the "
            f"bound of these is {x.cell.bound:.4g}; divide them first, or use fewer fractional bits"
        )
    if x.session.checks is not None:
        x.session.checks.below(rows, limit, "an element of a long row")


def sorted_along(
    x: SecretTensor, dim: int, descending: bool = False, first: int = 0, count: int | None = None
) -> tuple[SecretTensor, SecretTensor]:
    """(Elements of `count` ranks from `first` on, along a dimension, and where they stood); all ranks by default."""
    dim = axis(dim, x.dim())
    x.cell.settle()
    session = x.session
    given = neg(x) if descending else x
    rows, rest = _lines(given, dim)
    _check_room(x, rows)
    found, how = _arranged(session, rows)
    count = rows.shape[1] if count is None else count
    some = some_of(found, first, count)
    values = like(x, Share(some.body, (*rest, count), some.scale))
    places = Ranks(how, (rows.shape[0], rows.shape[1]), first, count, some.body.rows)
    where = result(Share(places, (*rest, count)), session, INTEGER, torch.int64)
    if descending:
        values = neg(values)
    if not x.dim():
        return values.reshape(()), where.reshape(())
    return values.movedim(-1, dim), where.movedim(-1, dim)


@implements(aten.sort.default)
def sort(x: SecretTensor, dim: int = -1, descending: bool = False) -> tuple[SecretTensor, SecretTensor]:
    """Sorted along a dimension, and where the elements stood.  Stable."""
    return sorted_along(x, dim, descending)


@implements(aten.sort.stable)
def sort_stable(
    x: SecretTensor, *, stable: bool | None = None, dim: int = -1, descending: bool = False
) -> tuple[SecretTensor, SecretTensor]:
    """The same."""
    return sorted_along(x, dim, descending)


@implements(aten.topk.default)
def topk(
    x: SecretTensor, k: int, dim: int = -1, largest: bool = True, sorted: bool = True
) -> tuple[SecretTensor, SecretTensor]:
    """The k largest (smallest) along a dimension, and where they stood; always sorted, the first of equals first."""
    n = x.shape[dim] if x.dim() else 1
    if not 0 <= k <= n:
        raise RuntimeError(f"selected index k out of range: {k} of {n}")
    return sorted_along(x, dim, largest, 0, k)


def _ranked(x: SecretTensor, rank: int, dim: int, keepdim: bool) -> tuple[SecretTensor, SecretTensor]:
    values, where = sorted_along(x, dim, False, rank, 1)
    if keepdim or not x.dim():
        return values, where
    return values.squeeze(dim), where.squeeze(dim)


@implements(aten.kthvalue.default)
def kthvalue(x: SecretTensor, k: int, dim: int = -1, keepdim: bool = False) -> tuple[SecretTensor, SecretTensor]:
    """The k-th smallest along a dimension, counted from 1, and where it stood."""
    n = x.shape[dim] if x.dim() else 1
    if not 1 <= k <= n:
        raise RuntimeError(f"kthvalue(): selected number k out of range for dimension {dim}: {k} of {n}")
    return _ranked(x, k - 1, dim, keepdim)


@implements(aten.median.dim, aten.nanmedian.dim)
def median_along(x: SecretTensor, dim: int = -1, keepdim: bool = False) -> tuple[SecretTensor, SecretTensor]:
    """The median along a dimension (of an even number, the lower one), and where it stood."""
    n = x.shape[dim] if x.dim() else 1
    if n == 0:
        raise IndexError("median(): expected a dimension with elements")
    return _ranked(x, (n - 1) // 2, dim, keepdim)


@implements(aten.median.default, aten.nanmedian.default)
def median(x: SecretTensor) -> SecretTensor:
    """The median of all elements (of an even number, the lower one)."""
    if not x.numel():
        raise NotImplementedError("the median of no elements is NaN, which no secret is")
    return median_along(x.reshape(-1), 0)[0]


@composes(aten.mode.default)
def mode(x: Any, dim: int = -1, keepdim: bool = False) -> tuple[Any, Any]:
    """The most frequent value along a dimension, of several the smallest, and the last of its places.

    Each element of a sorted row is compared with those before it; how many are equal is largest at the end of the
    longest run.  A sort, a comparison for each pair, an extremum and two products.
    """
    lines = x.movedim(dim, -1) if x.dim() else x.reshape(1)
    n = lines.shape[-1]
    if n > MODES:
        raise NotImplementedError(
            f"modes are of up to {MODES} elements, not {n}: of more, torch has no rule which of the places of a mode "
            "it tells; count equals with (s.unsqueeze(-1) == s.unsqueeze(-2)).sum(-1)"
        )
    values, places = lines.sort(-1)
    if n > 1:
        equal = values.unsqueeze(-2) >= values.unsqueeze(-1)  # [..., i, j]: j is not less than i
        counts = (equal * torch.ones(n, n, dtype=torch.int64).tril()).sum(-1)
        at = counts.argmax(-1, keepdim=True)
        values, places = values.gather(-1, at), places.gather(-1, at)
    if not x.dim():
        return values.reshape(()), places.reshape(())
    return tuple(each.movedim(-1, dim) if keepdim else each.squeeze(-1) for each in (values, places))
