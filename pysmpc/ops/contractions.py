"""Sums of products, and moments, beyond matrix products."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pysmpc.ops.arithmetic import add, mul, number, sub
from pysmpc.ops.core import aten
from pysmpc.ops.linear import matrix_product, mean_dim, sum_dim, var
from pysmpc.ops.registering import implements
from pysmpc.ops.scales import times
from pysmpc.tensor.secret import SecretTensor


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


@implements(aten.lerp.Tensor)
def lerp(x: Any, end: Any, weight: Any) -> SecretTensor:
    """x + weight * (end - x); one product."""
    return add(x, mul(sub(end, x) if _any(end, x) else end - x, weight))


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
