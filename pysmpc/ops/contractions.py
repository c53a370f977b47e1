"""Sums of products, and moments, beyond matrix products."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from pysmpc.ops.arithmetic import add, mul, number
from pysmpc.ops.core import aten, implements, times
from pysmpc.ops.linear import matrix_product, mean_dim, sum_dim, var
from pysmpc.tensor import SecretTensor


@implements(aten.addbmm.default)
def addbmm(bias: Any, x: Any, y: Any, *, beta: Any = 1, alpha: Any = 1) -> SecretTensor:
    """beta * bias + alpha * the sum of x[i] @ y[i], as one matrix product."""
    batch, rows, inner = x.shape
    wide, tall = x.transpose(0, 1).reshape(rows, batch * inner), y.reshape(batch * inner, y.shape[-1])
    if isinstance(x, SecretTensor) or isinstance(y, SecretTensor):
        out = matrix_product(wide, tall)
        out = out if alpha == 1 else times(out, number(alpha))
    else:
        out = wide @ tall * alpha
    return out if beta == 0 else add(out, bias if beta == 1 else bias * beta)


@implements(aten._trilinear.default)
def trilinear(
    a: Any,
    b: Any,
    c: Any,
    expand1: Sequence[int],
    expand2: Sequence[int],
    expand3: Sequence[int],
    sumdim: Sequence[int],
    unroll_dim: int = 1,
) -> SecretTensor:
    """a * b * c, each with dimensions added, summed over some: two products."""
    first, second, third = a, b, c
    for dim in expand1:
        first = first.unsqueeze(dim)
    for dim in expand2:
        second = second.unsqueeze(dim)
    for dim in expand3:
        third = third.unsqueeze(dim)
    out = mul(mul(first, second) if _any(first, second) else first * second, third)
    return sum_dim(out, list(sumdim)) if len(sumdim) else out


def _any(*operands: Any) -> bool:
    return any(isinstance(x, SecretTensor) for x in operands)


@implements(aten.var_mean.correction)
def var_mean(
    x: SecretTensor, dim: Any = None, *, correction: Any = None, keepdim: bool = False
) -> tuple[SecretTensor, SecretTensor]:
    """Variance and mean over dimensions."""
    return var(x, dim, correction=correction, keepdim=keepdim), mean_dim(x, dim, keepdim)


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
    return (d.abs() ** p).sum(-1) ** (1 / p)


def _slope(d: Any, p: float, norm: Any) -> Any:
    """The gradient of the p-norm along the last dimension with respect to each element."""
    if p == 0:
        return torch.zeros(d.shape, dtype=d.dtype)
    if p == 1:
        return d.sign()
    if p == 2:
        wide = norm.unsqueeze(-1)
        return torch.where(wide == 0, torch.zeros((), dtype=d.dtype), d / (wide + (wide == 0).to(d.dtype)))
    raise NotImplementedError(f"the gradient of distances with p={p} is not implemented for secret tensors; p=1 is")


@implements(aten._cdist_forward.default)
def cdist(x: Any, y: Any, p: float, compute_mode: Any) -> Any:
    """Distances between the rows of two matrices, in the p-norm: p = 0, 1, 2 and infinity."""
    return _norm(_difference(x, y), p)


@implements(aten._cdist_backward.default)
def cdist_backward(grad: Any, x: Any, y: Any, p: float, distances: Any) -> Any:
    """The gradient with respect to the rows of the first."""
    d = _difference(x, y)
    return (_slope(d, p, distances) * grad.unsqueeze(-1)).sum(-2)


def _pairs(n: int) -> tuple[torch.Tensor, torch.Tensor]:
    first, second = torch.triu_indices(n, n, 1)
    return first, second


@implements(aten._pdist_forward.default)
def pdist(x: SecretTensor, p: float = 2) -> Any:
    """Distances between any two rows of a matrix, in the p-norm: as `cdist`."""
    first, second = _pairs(x.shape[0])
    return _norm(x.index_select(0, first) - x.index_select(0, second), p)


@implements(aten._pdist_backward.default)
def pdist_backward(grad: Any, x: SecretTensor, p: float, distances: Any) -> Any:
    """The gradient with respect to the rows."""
    first, second = _pairs(x.shape[0])
    part = _slope(x.index_select(0, first) - x.index_select(0, second), p, distances) * grad.unsqueeze(-1)
    return torch.index_add(torch.index_add(torch.zeros(x.shape, dtype=x.dtype), 0, first, part), 0, second, -part)
