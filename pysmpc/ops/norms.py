"""Norms and distances whose values and gradients are right for vectors of every size, whatever p is.

Powers of fixed-point numbers underflow, or run out of range, where the norm itself does not.  So those of other p than
0, 1, 2 and infinity are taken of what elements are beside the largest (`pysmpc.mpc.functions.power_sums`).
Torch's own derivative passes through such powers: what it makes of a norm is known here, step by step, and its last
product is taken of the parts that fit.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import torch

from pysmpc.mpc.functions.characters import BITS
from pysmpc.mpc.functions.power_sums import NOTHING, power_sum
from pysmpc.ops.arithmetic import mul, number, sub
from pysmpc.ops.core import aten, dims, like, result
from pysmpc.ops.decompositions import composes
from pysmpc.ops.divisions import known_inverse
from pysmpc.ops.linear import MANY_IN_A_STEP, sum_of_squares
from pysmpc.ops.norm_parts import PowerNorm, note_norm, note_part
from pysmpc.ops.registering import implements
from pysmpc.ops.scales import times
from pysmpc.tensor.secret import SecretTensor
from pysmpc.tensor.secret_errors import not_implemented


def _axes(dim: Any) -> list[int]:
    return [] if dim is None else [dim] if isinstance(dim, int) else list(dim)


@composes(aten.linalg_vector_norm.default)
def vector_norm(
    x: SecretTensor, ord: Any = 2, dim: Any = None, keepdim: bool = False, *, dtype: torch.dtype | None = None
) -> Any:
    """The p-norm along dimensions: sums of |x| or of x^2, a count, or the extremum of |x|."""
    x = x.to(dtype) if dtype is not None else x
    if not x.dim() and (ord in (0, 1, 2) or math.isinf(ord)):
        return vector_norm(x.reshape(1), ord)
    axes = _axes(dim) or list(range(x.dim()))
    if ord == 0:
        return (x != 0).to(x.dtype).sum(axes, keepdim)
    if ord == 1:
        return x.abs().sum(axes, keepdim)
    if ord == 2:
        return sum_of_squares(x, axes, keepdim, MANY_IN_A_STEP).sqrt()
    if abs(ord) == math.inf:
        size = x.abs()
        return size.amax(axes, keepdim) if ord > 0 else size.amin(axes, keepdim)
    return aten.norm.ScalarOpt_dim_dtype(x, ord, axes, keepdim, dtype=x.dtype)


# --- other powers ------------------------------------------------------------------------

FINE = 30  # bits of log S


@dataclass(frozen=True)
class Parts:
    """What a norm of rows leaves for its gradient: gaps and zeros of the elements, and log S."""

    gaps: SecretTensor
    zero: SecretTensor
    log_sum: SecretTensor


def _power_norm(rows: Any, p: float) -> tuple[Any, Parts]:
    """The p-norms [rows, 1] of rows [rows, n], and what is known of their parts."""
    session, exponent = rows.session, number(p)
    size = rows.abs()
    most = size.amax(-1, keepdim=True) if p > 0 else size.amin(-1, keepdim=True)
    for each in (size, most):
        each.cell.settle()
    found = power_sum(session.suite, session.party, size.window(), most.window(), exponent)
    fine = session.suite.truncate(session.party, found.log_sum.at(1), 1 << BITS - FINE).at(1 << FINE)
    parts = Parts(*(result(part, session, rows.unit, rows.dtype) for part in (found.gaps, found.zero, fine)))
    return mul(most, torch.exp(times(parts.log_sum, 1 / exponent))), parts


@implements(aten.norm.ScalarOpt_dim_dtype)
def norm(x: Any, p: Any, dim: Any, keepdim: bool, *, dtype: torch.dtype) -> Any:
    """The p-norm along dimensions, to a step and 2^-14 of it, wherever it is a number; p up to 512 in magnitude.

    Rounds: 4 for |x| and those of the largest, 19 for the sum of powers, 5 for its root, and a product.  Torch's
    derivative of it (`norm_parts`) is to three steps.
    """
    x = x.to(dtype)
    p = 2.0 if p is None else float(p)
    if p in (0, 1, 2) or math.isinf(p):
        return vector_norm(x, p, dim, keepdim)
    over = dims(dim, x.dim())
    kept = [i for i in range(x.dim()) if i not in over]
    order, lengths = [*kept, *over], [x.shape[i] for i in kept]
    rows: Any = x.permute(order).reshape(math.prod(lengths), math.prod(x.shape[i] for i in over))
    if not rows.numel():
        return x.abs().sum(over, keepdim)
    # of a single element the norm is its magnitude, and the derivative its sign
    out, parts = (rows.abs(), None) if rows.shape[1] == 1 else _power_norm(rows, p)

    def sizes() -> Any:
        found = torch.ones_like(rows) if parts is None else _power_slopes(p, parts)
        return found.reshape([x.shape[i] for i in order]).permute([order.index(i) for i in range(x.dim())])

    found: Any = out.reshape([1 if i in over else x.shape[i] for i in range(x.dim())] if keepdim else lengths)
    of = PowerNorm(p, like(x, x.window()), sizes, found)
    note_norm(x.window(), of)
    return note_part(found, "norm", of)


def _power_slopes(p: float, parts: Parts) -> Any:
    """Magnitudes of the gradient of the norms, |x|^(p - 1) over the same power of the norm; 0 where x is 0.

    To a step and 2^-15 of it.  Five rounds.
    """
    exponent = number(p)
    inner = sub(times(parts.gaps, exponent - 1), times(parts.log_sum, (exponent - 1) / exponent))
    return torch.exp(sub(inner, times(parts.zero, Fraction(NOTHING * (1 + abs(exponent).__ceil__())))))


@composes(aten.renorm.default)
def renorm(x: SecretTensor, p: Any, dim: int, maxnorm: Any) -> Any:
    """Parts along a dimension whose norm is above a bound, divided by it and times the bound: exact quotients."""
    over = [i for i in range(x.dim()) if i != dim % x.dim()]
    norm = torch.linalg.vector_norm(x, float(p), over, True)
    large = norm > maxnorm
    return torch.where(large, x / torch.where(large, norm, 1) * maxnorm, x)


@composes(aten.embedding_renorm.default)
def embedding_renorm(weight: Any, indices: Any, max_norm: float, norm_type: float) -> Any:
    """A table of which those rows that are looked up, at public positions, are brought to a norm of at most a bound."""
    if isinstance(indices, SecretTensor):
        raise not_implemented(
            aten.embedding_renorm.default,
            "it would show which rows are looked up; leave max_norm out, and bound all rows with torch.renorm",
        )
    rows = indices.unique()
    found = weight.index_select(0, rows)
    norm = torch.linalg.vector_norm(found, float(norm_type), 1, True)
    large = norm > max_norm
    return weight.index_copy(0, rows, torch.where(large, found / torch.where(large, norm, 1) * max_norm, found))


# --- distances ---------------------------------------------------------------------------


def _difference(x: Any, y: Any) -> Any:
    return x.unsqueeze(-2) - y.unsqueeze(-3)


def _norm(d: Any, p: float) -> Any:
    """The p-norm along the last dimension."""
    if d.shape[-1] == 0:
        return d.sum(-1)
    if p == 0:
        return (d != 0).to(d.dtype).sum(-1)
    if p == 1:
        return d.abs().sum(-1)
    if p == float("inf"):
        return d.abs().max(-1).values
    if p == 2:
        return (d * d).sum(-1).sqrt()
    if not d.numel():
        return d.sum(-1)
    return aten.norm.ScalarOpt_dim_dtype(d, p, [-1], False, dtype=d.dtype)


def _slope(d: Any, p: float, norm: Any) -> Any:
    """The gradient of the p-norm along the last dimension with respect to each element."""
    if p == 0:
        return torch.zeros(d.shape, dtype=d.dtype)
    if p == 1:
        return d.sign()
    if p == 2:
        wide = norm.unsqueeze(-1)
        if isinstance(wide, SecretTensor) and known_inverse(wide) is not None:
            return d / wide  # the inverse of 0 is finite, and d is 0 there
        return torch.where(wide == 0, torch.zeros((), dtype=d.dtype), d / (wide + (wide == 0).to(d.dtype)))
    if p == float("inf"):
        largest = (d.abs() == norm.unsqueeze(-1)).to(d.dtype)
        return d.sign() * largest
    if not d.numel():
        return d
    again = aten.norm.ScalarOpt_dim_dtype(d, p, [-1], True, dtype=d.dtype)
    # in the steps of torch's derivative of a norm, which are known by their parts
    if p > 2:
        part = d * torch.pow(d.abs(), p - 2)
    else:
        part = d.sign() * torch.pow(d.abs(), p - 1)
    if p < 1:
        return part * torch.pow(again, 1 - p)
    return part * torch.div(torch.ones(again.shape, dtype=d.dtype), torch.pow(again, p - 1))


@composes(aten._cdist_forward.default)
def cdist(x: Any, y: Any, p: float, compute_mode: Any) -> Any:
    """Distances between the rows of two matrices, in the p-norm."""
    return _norm(_difference(x, y), p)


@composes(aten._euclidean_dist.default)
def euclidean_dist(x: Any, y: Any) -> Any:
    """`cdist` for p = 2, which torch asks for by this name where there are many rows."""
    return _norm(_difference(x, y), 2)


@composes(aten._cdist_backward.default)
def cdist_backward(grad: Any, x: Any, y: Any, p: float, distances: Any) -> Any:
    """The gradient with respect to the rows of the first."""
    d = _difference(x, y)
    return (_slope(d, p, distances) * grad.unsqueeze(-1)).sum(-2)


def _pairs(n: int) -> tuple[torch.Tensor, torch.Tensor]:
    first, second = torch.triu_indices(n, n, 1)
    return first, second


@composes(aten._pdist_forward.default)
def pdist(x: SecretTensor, p: float = 2) -> Any:
    """Distances between any two rows of a matrix, in the p-norm: as `cdist`."""
    first, second = _pairs(x.shape[0])
    return _norm(x.index_select(0, first) - x.index_select(0, second), p)


@composes(aten._pdist_backward.default)
def pdist_backward(grad: Any, x: SecretTensor, p: float, distances: Any) -> Any:
    """The gradient with respect to the rows."""
    first, second = _pairs(x.shape[0])
    part = _slope(x.index_select(0, first) - x.index_select(0, second), p, distances) * grad.unsqueeze(-1)
    return torch.index_add(torch.index_add(torch.zeros(x.shape, dtype=x.dtype), 0, first, part), 0, second, -part)
