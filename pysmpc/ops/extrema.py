"""Maxima and minima, their positions and gradients.

Found by a tournament (pysmpc.ops.tournament): 4 ceil(log4 k) rounds for the largest of k by default, one
more for its position, which is computed when somebody reads it.  Ties go to the first, as torch's
do on the CPU.  Any two candidates must be less than 2^63 steps apart; what can be encrypted is
(docs/integers.md).

Gradients are torch's.  That of `max(dim)` goes to the position, down the levels of the
tournament.  That of `max()` and `amax` is shared evenly among equals, who are found in the backward
pass: a sign an element, their number (secret, and at most k), its reciprocal from a
table, and two products: seven rounds, some 20 bytes an element to each other holder.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Sequence
from typing import Any

import torch

from pysmpc.ops.arithmetic import neg
from pysmpc.ops.core import aten, axis, dims, like, result
from pysmpc.ops.placing import scatter_public
from pysmpc.ops.public_operands import public
from pysmpc.ops.ranks import Ranks
from pysmpc.ops.registering import implements
from pysmpc.ops.secret_positions import added_at, put_at
from pysmpc.ops.tournament import Positions, tournament
from pysmpc.ring.fixedpoint import BINARY16, INTEGER
from pysmpc.ring.shares import Extremum, Share
from pysmpc.tensor.secret import SecretTensor


def _columns(x: SecretTensor, axes: Sequence[int]) -> tuple[Share, tuple[int, ...]]:
    """Candidates [k, n] on a body of their own, settled, along these axes of x; the shape of the others."""
    x.cell.settle()
    rest = [axis for axis in range(x.dim()) if axis not in axes]
    share, order = x.window(), [*axes, *rest]
    shape = tuple(share.shape[axis] for axis in order)
    steps = [share.strides[axis] for axis in order]
    k, others = math.prod(shape[: len(axes)]), shape[len(axes) :]
    if k == 0:
        raise IndexError("a maximum of no elements has no value")
    words = Share(share.body, shape, share.scale, steps, share.offset).words()
    return Share.of(words, (k, math.prod(others)), share.scale), others


def _places(k: int, n: int) -> torch.Tensor:
    return torch.arange(k).unsqueeze(1).expand(k, n)


def _kept(shape: Sequence[int], axes: Sequence[int], keepdim: bool) -> list[int]:
    """The shape of what was found along axes."""
    return [1 if axis in axes else size for axis, size in enumerate(shape) if keepdim or axis not in axes]


def _along(x: SecretTensor, dim: int, keepdim: bool) -> tuple[SecretTensor, SecretTensor]:
    """(largest, position) along a dimension."""
    axes = dims(dim, x.dim())
    columns, _ = _columns(x, axes)
    values, levels, _ = tournament(x.session, columns)
    shape = _kept(x.shape, axes, keepdim)
    where = Share(Positions(x.session, levels, _places(*columns.shape), values.body.rows), shape)
    return like(x, Share(values.body, shape, values.scale)), result(where, x.session, INTEGER, torch.int64)


@implements(aten.max.dim)
def max_dim(x: SecretTensor, dim: int, keepdim: bool = False) -> Any:
    """Largest and its position along a dimension."""
    return _along(x, dim, keepdim)


@implements(aten.min.dim)
def min_dim(x: SecretTensor, dim: int, keepdim: bool = False) -> Any:
    """Smallest and its position along a dimension."""
    values, positions = _along(neg(x), dim, keepdim)
    return neg(values), positions


@implements(aten.argmax.default)
def argmax(x: SecretTensor, dim: int | None = None, keepdim: bool = False) -> SecretTensor:
    """Position of the largest."""
    axes = dims(dim, x.dim())
    columns, _ = _columns(x, axes)
    _, _, found = tournament(x.session, columns, _places(*columns.shape))
    assert found is not None
    return result(Share(found.body, _kept(x.shape, axes, keepdim)), x.session, INTEGER, torch.int64)


@implements(aten.argmin.default)
def argmin(x: SecretTensor, dim: int | None = None, keepdim: bool = False) -> SecretTensor:
    """Position of the smallest."""
    return argmax(neg(x), dim, keepdim)


def _extremum(x: SecretTensor, axes: Sequence[int], keepdim: bool, least: bool) -> SecretTensor:
    """Largest or smallest along axes, which remembers of what it is: the backward pass will ask."""
    x.cell.settle()
    columns, _ = _columns(neg(x) if least else x, axes)
    values, _, _ = tournament(x.session, columns)
    out = like(x, Share(values.body, _kept(x.shape, axes, keepdim), values.scale))
    if least:
        out = neg(out)
    out.cell.body.origin = Extremum(weakref.ref(x.cell.body), x.window().layout, tuple(axes), least)
    return out


implements(aten.max.default)(lambda x: _extremum(x, range(x.dim()), False, False))
implements(aten.min.default)(lambda x: _extremum(x, range(x.dim()), False, True))
implements(aten.amax.default)(lambda x, dim=(), keepdim=False: _extremum(x, dims(dim, x.dim()), keepdim, False))
implements(aten.amin.default)(lambda x, dim=(), keepdim=False: _extremum(x, dims(dim, x.dim()), keepdim, True))


@implements(aten.scatter.src)
def scatter(zeros: Any, dim: int, positions: Any, grad: Any) -> SecretTensor:
    """Elements at positions; the gradient of an extremum or a sorted row: grad where it stood.

    Of secret positions that were found by a tournament, a round for each level of it.
    """
    if not isinstance(positions, SecretTensor):
        return scatter_public(zeros, dim, positions, grad)
    body = positions.cell.body
    public_zeros = zeros.window().words() if isinstance(zeros, SecretTensor) and zeros.session.plain else zeros
    blank = zeros.cell.body.zeros if isinstance(public_zeros, SecretTensor) else not bool(public_zeros.any())
    dim = axis(dim, zeros.dim())
    rest = list(zeros.shape) or [1]
    width = rest.pop(dim)
    if (
        not isinstance(body, Positions)
        or not blank
        or not positions.window().dense
        or body.candidates != width
        or body.levels.n != math.prod(rest)
    ):
        if blank and isinstance(body, Ranks):  # no two of which are equal
            return added_at(zeros, dim, positions, grad)
        return put_at(zeros, dim, positions, grad)
    session = positions.session
    unit = zeros.unit if isinstance(zeros, SecretTensor) else BINARY16
    known = public(grad, session, unit)
    share = grad.window() if known is None else session.suite.public(session.party, known.values, known.scale)
    words = body.levels.down(session, Share.of(share.words(), (body.levels.n,), share.scale))
    spread = Share.of(words.reshape(words.shape[0], width * body.levels.n), (width, *rest), share.scale)
    unit = grad.unit if known is None else unit
    return result(spread, session, unit, grad.dtype).movedim(0, dim).reshape(zeros.shape)
