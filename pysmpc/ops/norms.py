"""Norms and distances whose gradients are right for vectors of every size: p = 0, 1, 2 and plus or minus infinity.

Other powers of fixed-point numbers are not: x^(p - 1) underflows, or runs out of range, where the norm itself does not.
"""

from __future__ import annotations

import math
from typing import Any

import torch

from pysmpc.ops.arithmetic import known_inverse
from pysmpc.ops.core import aten
from pysmpc.ops.decompositions import composes
from pysmpc.ops.linear import MANY_IN_A_STEP, sum_of_squares
from pysmpc.tensor import SecretTensor, not_implemented


def _axes(dim: Any) -> list[int]:
    return [] if dim is None else [dim] if isinstance(dim, int) else list(dim)


@composes(aten.linalg_vector_norm.default)
def vector_norm(
    x: SecretTensor, ord: Any = 2, dim: Any = None, keepdim: bool = False, *, dtype: torch.dtype | None = None
) -> Any:
    """The p-norm along dimensions: sums of |x| or of x^2, a count, or the extremum of |x|."""
    x = x.to(dtype) if dtype is not None else x
    if not x.dim():
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
    raise not_implemented(aten.linalg_vector_norm.default, f"norms are for p = 0, 1, 2 and infinity, not for p = {ord}")


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
    raise not_implemented(aten._cdist_forward.default, f"distances are for p = 0, 1, 2 and infinity, not for p = {p}")


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
    raise not_implemented(aten._cdist_backward.default, f"gradients are for p = 0, 1 and 2, not for p = {p}")


@composes(aten._cdist_forward.default)
def cdist(x: Any, y: Any, p: float, compute_mode: Any) -> Any:
    """Distances between the rows of two matrices, in the p-norm: p = 0, 1, 2 and infinity."""
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
