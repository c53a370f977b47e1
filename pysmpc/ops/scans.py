"""Running extrema, and where values belong in sorted ones: comparisons with what is before, or with every bound.

A running extremum takes ceil(log2 n) levels, each of which compares every element with one that is twice as far
before it: a comparison and a product a level, of two openings an element.
"""

from __future__ import annotations

from typing import Any

import torch

from pysmpc.ops.arithmetic import neg
from pysmpc.ops.comparing import comparing
from pysmpc.ops.core import aten, axis, like, result
from pysmpc.ops.decompositions import composes
from pysmpc.ops.registering import implements
from pysmpc.ring.shares import Share
from pysmpc.tensor.secret import SecretTensor
from pysmpc.tensor.secret_errors import not_implemented


def _running(x: SecretTensor, dim: int, least: bool) -> tuple[SecretTensor, SecretTensor]:
    along = axis(dim, x.dim())
    x.cell.settle()
    lines = (neg(x) if least else x).movedim(along, 0) if x.dim() else (neg(x) if least else x).reshape(1)
    share = lines.window()
    n, shape = lines.shape[0], tuple(lines.shape)
    width = lines.numel() // n if n else 0
    session, suite, party = x.session, x.session.suite, x.session.party
    values = Share.of(share.words(), (n, width), share.scale)
    places = suite.public(party, torch.arange(n).unsqueeze(1).expand(n, width).contiguous())
    step = 1
    while step < n:
        later, earlier = (_part(values, at, n - step) for at in (step, 0))
        found, bit = comparing(session).larger(party, later, earlier)  # of equals, the later one
        own, other = (_part(places, at, n - step) for at in (step, 0))
        moved = suite.select(party, bit, suite.sub(party, other, own))
        places = _joined(places, suite.add(party, own, moved.at(1)), step)
        values = _joined(values, found, step)
        step *= 2
    out = like(x, Share(values.body, shape, values.scale))
    where = result(Share(places.body, shape), session, x.unit, torch.int64)
    out = neg(out) if least else out
    return (out.movedim(0, along), where.movedim(0, along)) if x.dim() else (out.reshape(()), where.reshape(()))


def _part(x: Share, first: int, count: int) -> Share:
    """Rows of a dense [n, width], flat."""
    width = x.shape[1]
    part = Share(x.body, (count * width,), x.scale, (1,), first * width)
    return Share.of(part.words(), part.shape, x.scale)


def _joined(x: Share, rest: Share, step: int) -> Share:
    """The first rows of x [n, width], then the rest."""
    words = torch.cat([_part(x, 0, step).words(), rest.words()], 1)
    return Share.of(words, x.shape, x.scale)


@implements(aten.cummax.default)
def cummax(x: SecretTensor, dim: int) -> tuple[SecretTensor, SecretTensor]:
    """The largest up to each element along a dimension, and the last place of it."""
    return _running(x, dim, False)


@implements(aten.cummin.default)
def cummin(x: SecretTensor, dim: int) -> tuple[SecretTensor, SecretTensor]:
    """The smallest up to each element along a dimension, and the last place of it."""
    return _running(x, dim, True)


@composes(aten.aminmax.default)
def aminmax(x: Any, *, dim: int | None = None, keepdim: bool = False) -> tuple[Any, Any]:
    """The smallest and the largest."""
    dims = [] if dim is None else [dim]
    if keepdim and dim is None:
        dims = list(range(x.dim()))
    return torch.amin(x, dims, keepdim), torch.amax(x, dims, keepdim)


def _below(bounds: Any, values: Any, right: bool) -> Any:
    """How many of the last dimension of bounds are below (right: or equal to) each value."""
    found = bounds.unsqueeze(-2) <= values.unsqueeze(-1) if right else bounds.unsqueeze(-2) < values.unsqueeze(-1)
    return found.sum(-1)


@composes(aten.searchsorted.Tensor, aten.searchsorted.Scalar)
def searchsorted(
    bounds: Any, values: Any, *, out_int32: bool = False, right: bool = False, side: str | None = None,
    sorter: Any = None,
) -> Any:  # fmt: skip
    """Where values belong in sorted bounds, by a comparison with each of them."""
    if side is not None:
        if side not in ("left", "right"):
            raise RuntimeError(f"side is 'left' or 'right', not {side!r}")
        if right and side == "left":
            raise RuntimeError("side and right contradict each other: leave one out")
        right = side == "right"
    if sorter is not None:
        bounds = torch.gather(bounds, -1, sorter)
    given = values if isinstance(values, torch.Tensor) else torch.tensor(values)
    if bounds.dim() == 1:
        found = _below(bounds, given.reshape(-1), right).reshape(given.shape)
    else:
        found = _below(bounds, given, right)
    return found.to(torch.int32) if out_int32 else found


@composes(aten.bucketize.Tensor)
def bucketize(values: Any, bounds: Any, *, out_int32: bool = False, right: bool = False) -> Any:
    """In which of the intervals between sorted bounds values are."""
    return searchsorted(bounds, values, out_int32=out_int32, right=right)


@composes(aten.isin.Tensor_Tensor)
def isin(elements: Any, test: Any, *, assume_unique: bool = False, invert: bool = False) -> Any:
    """Which elements equal one of some others: a test for equality with each."""
    found = (elements.unsqueeze(-1) == test.reshape(-1)).any(-1)
    return ~found if invert else found


@composes(aten.isin.Tensor_Scalar)
def isin_number(elements: Any, test: Any, *, assume_unique: bool = False, invert: bool = False) -> Any:
    """The same with one number."""
    return elements != test if invert else elements == test


MOST_COUNTS = 1 << 16  # of a bound that comes of arithmetic and was not stated


@composes(aten.bincount.default)
def bincount(x: Any, weights: Any = None, minlength: int = 0) -> Any:
    """How often each number is there: as many counts as a public bound of x says, and at least `minlength`.

    Truth values as integers are bounded by 1, others by `sy.bounded(x, n - 1)`.  Torch's result ends with the largest
    number that is there, which its size would show; here what is not there counts 0.
    """
    bound = x.cell.bound if isinstance(x, SecretTensor) else None
    if not isinstance(x, SecretTensor) or bound is None or bound >= MOST_COUNTS:
        raise not_implemented(
            aten.bincount.default,
            "the size of its result would show the largest value; say how large values are: "
            "torch.bincount(sy.bounded(x, n - 1), minlength=n), or count (x.unsqueeze(1) == torch.arange(n)).sum(0)",
        )
    found = x.unsqueeze(1) == torch.arange(max(minlength, int(bound) + 1))
    return found.sum(0) if weights is None else (found.to(weights.dtype) * weights.unsqueeze(1)).sum(0)


@composes(aten.hypot.default)
def hypot(x: Any, y: Any) -> Any:
    """sqrt(x^2 + y^2), as a norm of two elements."""
    shape = torch.broadcast_shapes(x.shape, y.shape)
    return torch.linalg.vector_norm(torch.stack([x.expand(shape), y.expand(shape)], -1), 2, -1)
