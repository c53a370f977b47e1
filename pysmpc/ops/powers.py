"""Products of all elements, and of all up to each: trees of products, a round or two a level."""

from __future__ import annotations

from typing import Any

import torch

from pysmpc.ops.arithmetic import mul, with_unit
from pysmpc.ops.core import aten
from pysmpc.ops.movement import cat
from pysmpc.ops.registering import implements
from pysmpc.tensor.secret import SecretTensor


def _wanted(x: SecretTensor, dtype: torch.dtype | None, what: str) -> SecretTensor:
    wanted = dtype or (x.dtype if x.dtype.is_floating_point else torch.int64)
    if x.dtype.is_floating_point and not wanted.is_floating_point:
        raise NotImplementedError(f"{what} of {x.dtype} as {wanted} is not implemented: rounding needs a protocol")
    return with_unit(x, wanted)


@implements(aten.prod.dim_int)
def prod_dim(x: SecretTensor, dim: int, keepdim: bool = False, *, dtype: torch.dtype | None = None) -> SecretTensor:
    """Product along a dimension, neighbours first: ceil(log2 n) products one after another.

    Each of them is rounded to a step, so that what is in the end relative to the whole is relative to its parts.
    Products must stay below 2^62 steps, as everywhere.
    """
    x = _wanted(x, dtype, "a product")
    if x.dim() == 0:
        return x.clone()
    last: Any = x.movedim(dim, -1)
    if last.shape[-1] == 0:
        last = x.new_ones((*last.shape[:-1], 1))
    while last.shape[-1] > 1:
        half = last.shape[-1] // 2
        pairs = mul(last[..., : 2 * half : 2], last[..., 1 : 2 * half : 2])
        last = cat([pairs, last[..., 2 * half :]], -1) if last.shape[-1] % 2 else pairs
    out = last.squeeze(-1)
    return out.unsqueeze(dim) if keepdim else out.clone()


@implements(aten.prod.default)
def prod(x: SecretTensor, *, dtype: torch.dtype | None = None) -> SecretTensor:
    """Product of all elements, as `prod_dim`."""
    return prod_dim(x.reshape(-1), 0, dtype=dtype)


@implements(aten.cumprod.default)
def cumprod(x: SecretTensor, dim: int, *, dtype: torch.dtype | None = None) -> Any:
    """Products of all up to each: ceil(log2 n) products one after another, each of up to n elements."""
    x = _wanted(x, dtype, "products")
    if x.dim() == 0 or x.shape[dim] < 2:
        return x.clone()
    last = x.movedim(dim, -1)
    step = 1
    while step < last.shape[-1]:
        last = cat([last[..., :step], mul(last[..., step:], last[..., :-step])], -1)
        step *= 2
    return last.movedim(-1, dim).contiguous()


class CumulativeProduct(torch.autograd.Function):
    """Products of all up to each, whose derivative divides by none of the factors, so that any may be 0.

    The gradient at k is the product before k times T_k = g_k + x_(k+1) T_(k+1), a recurrence that is solved in
    ceil(log2 n) steps of two products, as torch's own for tensors like these takes n products of products.
    """

    @staticmethod
    def forward(ctx: Any, x: Any, dim: int) -> Any:
        with torch._C._AutoDispatchBelowAutograd():
            out = aten.cumprod.default(x, dim)
        ctx.save_for_backward(x, out)
        ctx.dim = dim
        return out

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        x, out = ctx.saved_tensors
        if not x.dim() or x.shape[ctx.dim] < 2:
            return grad, None
        lines, products, total = (each.movedim(ctx.dim, -1) for each in (x, out, grad))
        n, factors = lines.shape[-1], lines[..., 1:]  # of T_k in T_(k-1)
        step = 1
        while step < n:
            kept = n - step
            total = torch.cat([total[..., :kept] + factors[..., :kept] * total[..., step:], total[..., kept:]], -1)
            factors = factors[..., : kept - step] * factors[..., step:] if kept > step else factors[..., :0]
            step *= 2
        before = torch.cat([torch.ones(lines.shape[:-1], dtype=x.dtype).unsqueeze(-1), products[..., :-1]], -1)
        return (before * total).movedim(-1, ctx.dim), None


def running_product(input: Any, dim: int, *, dtype: torch.dtype | None = None, out: Any = None) -> Any:
    """Products of all up to each along a dimension, as `CumulativeProduct`."""
    if out is not None:
        return aten.cumprod.out(input, dim, dtype=dtype, out=out)
    wanted = input if dtype is None else input.to(dtype)
    if not wanted.is_floating_point():
        return aten.cumprod.default(wanted, dim)
    return CumulativeProduct.apply(wanted, dim)
