"""Elements put to, or taken from, public positions.

Which element of which operand each element of the result is, torch says itself: the operation runs on the elements'
numbers, and every holder moves its words accordingly.  No message, nothing rounded.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import torch

from pysmpc.errors import RevealError
from pysmpc.ops.arithmetic import mul
from pysmpc.ops.core import aten, implements, result, times
from pysmpc.ops.movement import one_scale, scatter_add
from pysmpc.shares import Share
from pysmpc.tensor import SecretTensor


def check_public(*positions: Any) -> None:
    """RevealError for secret positions."""
    if any(isinstance(x, SecretTensor) for x in positions):
        raise RevealError(
            "a secret position would show which element is meant; use torch.where, or multiply by a one-hot vector"
        )


def rearranged(operation: Callable[..., torch.Tensor], *operands: Any) -> SecretTensor:
    """operation(*operands), which only moves elements of its operands, of which at least one is a secret."""
    secrets, dtype = one_scale(operands)
    numbers, words, first = [], [], 0
    for x in secrets:
        numbers.append(torch.arange(first, first + x.numel()).reshape(x.shape))
        share = x.window()
        own = share.window(share.body.words)
        words.append(own.reshape(own.shape[0], x.numel()))
        first += x.numel()
    place = operation(*numbers)
    whole = torch.cat(words, 1) if len(words) > 1 else words[0]
    out = whole.index_select(1, place.reshape(-1))
    unit = max((x.unit for x in secrets), key=lambda u: u.scale)
    scale = secrets[0].cell.scale
    return result(Share.of(out, tuple(place.shape), scale), secrets[0].session, unit, dtype)


def _value(x: Any, value: Any) -> torch.Tensor:
    """A public number among elements of x, of its dtype."""
    return torch.as_tensor(value).to(x.dtype)


def scatter_public(x: Any, dim: int, index: torch.Tensor, src: Any) -> SecretTensor:
    """x with elements of src at public positions along a dimension."""
    check_public(index)
    return rearranged(lambda a, b: a.scatter(dim, index, b), x, src)


@implements(aten.scatter.value)
def scatter_value(x: SecretTensor, dim: int, index: Any, value: Any) -> SecretTensor:
    """x with a public number at public positions along a dimension."""
    check_public(index)
    return rearranged(lambda a, b: a.scatter(dim, index, b.expand(index.shape)), x, _value(x, value))


@implements(aten.masked_select.default)
def masked_select(x: SecretTensor, mask: Any) -> SecretTensor:
    """The elements where a public mask is set."""
    check_public(mask)
    return rearranged(lambda a: a.masked_select(mask), x)


@implements(aten.masked_scatter.default)
def masked_scatter(x: Any, mask: Any, source: Any) -> SecretTensor:
    """x with elements of source, in order, where a public mask is set."""
    check_public(mask)
    return rearranged(lambda a, b: a.masked_scatter(mask, b), x, source)


@implements(aten.take.default)
def take(x: SecretTensor, index: Any) -> SecretTensor:
    """Elements of x, as if it were flat, at public positions."""
    check_public(index)
    return rearranged(lambda a: a.take(index), x)


@implements(aten.put.default)
def put(x: Any, index: Any, source: Any, accumulate: bool = False) -> SecretTensor:
    """x, as if it were flat, with elements of source put, or added, at public positions."""
    check_public(index)
    if not accumulate:
        return rearranged(lambda a, b: a.put(index, b), x, source)
    flat = index.reshape(-1)
    places = torch.where(flat < 0, flat + x.numel(), flat)
    return scatter_add(x.reshape(-1), 0, places, source.reshape(-1)).reshape(x.shape)


@implements(aten.index_copy.default)
def index_copy(x: Any, dim: int, index: Any, source: Any) -> SecretTensor:
    """x with rows of source at public positions along a dimension."""
    check_public(index)
    return rearranged(lambda a, b: a.index_copy(dim, index, b), x, source)


@implements(aten.index_fill.int_Scalar, aten.index_fill.int_Tensor)
def index_fill(x: Any, dim: int, index: Any, value: Any) -> SecretTensor:
    """x with one value at public positions along a dimension."""
    check_public(index)
    chosen = torch.zeros(x.shape, dtype=torch.bool).index_fill(dim, index, True)
    value = value if isinstance(value, torch.Tensor) else _value(x, value)
    return rearranged(lambda a, b: torch.where(chosen, b, a), x, value)


def _scattered(overload: Any) -> None:
    @implements(overload)
    def handler(x: Any, source: Any, *where: Any, **more: Any) -> SecretTensor:
        check_public(*where)
        return rearranged(lambda a, b: overload(a, b, *where, **more), x, source)


for _overload in (
    aten.as_strided_scatter.default,
    aten.diagonal_scatter.default,
    aten.select_scatter.default,
    aten.slice_scatter.default,
):
    _scattered(_overload)


# --- sums and means at public positions ----------------------------------------------


def _over_counts(x: SecretTensor, counts: torch.Tensor) -> SecretTensor:
    """x over public whole numbers."""
    return mul(x, 1 / counts.double()) if counts.numel() > 1 else times(x, Fraction(1, int(counts)))


def _gathered(x: Any, dim: int, index: torch.Tensor, src: Any, reduce: str, include_self: bool) -> SecretTensor:
    check_public(index)
    if reduce not in ("sum", "mean"):
        raise NotImplementedError(f"reduction '{reduce}' to positions is not implemented for secret tensors; 'sum' and "
                                  "'mean' are")  # fmt: skip
    counts = torch.zeros(x.shape, dtype=torch.int64)
    counts = counts.scatter_add(dim, index, torch.ones(index.shape, dtype=torch.int64))
    if not include_self:
        x = mul(x, (counts == 0).to(torch.int64)) if isinstance(x, SecretTensor) else x * (counts == 0)
    shape = tuple(index.shape)
    out = scatter_add(x, dim, index, src[tuple(slice(0, n) for n in shape)] if src.shape != index.shape else src)
    if reduce == "sum":
        return out
    return _over_counts(out, (counts + 1 if include_self else counts).clamp(min=1))


@implements(aten.scatter_reduce.two)
def scatter_reduce(
    x: Any, dim: int, index: Any, src: Any, reduce: str, *, include_self: bool = True
) -> SecretTensor:
    """x with elements of src added, or averaged, at public positions along a dimension."""
    return _gathered(x, dim, index, src, reduce, include_self)


@implements(aten.index_reduce.default)
def index_reduce(x: Any, dim: int, index: Any, source: Any, reduce: str, *, include_self: bool = True) -> SecretTensor:
    """x with rows of source averaged at public positions along a dimension."""
    check_public(index)
    if not source.dim():
        source, index = source.reshape(1), index.reshape(1)
    wide: list[int] = [1] * source.dim()
    wide[dim] = -1
    spread = index.view(wide).expand(source.shape)
    shaped = x.reshape(1) if not x.dim() else x
    return _gathered(shaped, dim, spread, source, reduce, include_self).reshape(x.shape)

