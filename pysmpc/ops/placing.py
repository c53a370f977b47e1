"""Elements put to, or taken from, public positions.

Which element of which operand each element of the result is, torch says itself: the operation runs on the elements'
numbers, and every holder moves its words accordingly.  No message, nothing rounded.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

import torch

from pysmpc.errors import RevealError
from pysmpc.ops.arithmetic import mul
from pysmpc.ops.choosing import maximum, minimum
from pysmpc.ops.core import aten, result
from pysmpc.ops.movement import cat, one_scale
from pysmpc.ops.registering import implements
from pysmpc.ops.scales import times
from pysmpc.ops.scattering import scatter_add
from pysmpc.ops.secret_positions import added_rows, put_at, put_rows, rows_at
from pysmpc.ring.shares import Share
from pysmpc.tensor.secret import SecretTensor

#: A common multiple of counts up to this is divided out exactly.
EXACT = 1 << 14


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
    """x with a public number at positions along a dimension."""
    if isinstance(index, SecretTensor):
        return put_at(x, dim, index, _value(x, value).expand(index.shape))
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
    """Elements of x, as if it were flat, at positions."""
    if isinstance(index, SecretTensor):
        return rows_at(x.reshape(-1), index, wraps=True)
    return rearranged(lambda a: a.take(index), x)


@implements(aten.put.default)
def put(x: Any, index: Any, source: Any, accumulate: bool = False) -> SecretTensor:
    """x, as if it were flat, with elements of source put, or added, at positions."""
    if isinstance(index, SecretTensor):
        flat, given = x.reshape(-1), source.reshape(index.shape)
        done = added_rows(flat, index, given, True) if accumulate else put_rows(flat, index, given)
        return done.reshape(x.shape)
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


@implements(aten.masked_scatter_backward.default)
def masked_scatter_backward(grad: SecretTensor, mask: Any, sizes: Sequence[int]) -> Any:
    """The gradient of the source of `masked_scatter`: what went to where the mask is set, zeros for the rest."""
    chosen = masked_select(grad, mask)
    if not chosen.numel():
        return grad.new_zeros(tuple(sizes))
    rest = math.prod(sizes) - chosen.numel()
    return cat([chosen, torch.zeros(rest, dtype=grad.dtype)]).reshape(tuple(sizes)) if rest else chosen.reshape(
        tuple(sizes))  # fmt: skip


# --- sums, means, products and extrema at public positions -----------------------------


def _turns(dim: int, index: torch.Tensor, shape: Sequence[int]) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """What to do one after another where several elements go to one position: [(source numbers, whether there is one)].

    Each is of the target's shape, and names at most one element of the source for each position.
    """
    target = torch.arange(math.prod(shape)).reshape(tuple(shape))
    at = target[tuple(slice(0, n) if i != dim else slice(None) for i, n in enumerate(index.shape))].gather(dim, index)
    flat = at.reshape(-1)
    order = flat.argsort(stable=True)
    ordered = flat[order]
    first = torch.searchsorted(ordered, ordered)  # where the run of equals begins
    turn = torch.empty_like(flat)
    turn[order] = torch.arange(flat.numel()) - first
    found = []
    for k in range(int(turn.max()) + 1 if flat.numel() else 0):
        mine = (turn == k).nonzero().reshape(-1)
        source = torch.zeros(math.prod(shape), dtype=torch.int64).scatter(0, flat[mine], mine)
        there = torch.zeros(math.prod(shape), dtype=torch.bool).scatter(0, flat[mine], True)
        found.append((source.reshape(tuple(shape)), there.reshape(tuple(shape))))
    return found


_JOIN: dict[str, Callable[[Any, Any], Any]] = {"prod": mul, "amax": maximum, "amin": minimum}


def _gathered(x: Any, dim: int, index: torch.Tensor, src: Any, reduce: str, include_self: bool) -> SecretTensor:
    check_public(index)
    if reduce == "prod" and torch.is_grad_enabled() and any(t.requires_grad for t in (x, src)):
        raise NotImplementedError(
            "the gradient of products at positions is not implemented for secret tensors: torch divides the product by "
            "each of its factors, which loses what was rounded; detach them, or use torch.prod along a dimension"
        )
    if not x.dim():
        return _gathered(x.reshape(1), 0, index.reshape(-1), src.reshape(-1), reduce, include_self).reshape(())
    dim %= x.dim()
    if src.shape != index.shape:
        src = src[tuple(slice(0, n) for n in index.shape)]
    counts = torch.zeros(x.shape, dtype=torch.int64)
    counts = counts.scatter_add(dim, index, torch.ones(index.shape, dtype=torch.int64))
    if reduce in ("sum", "mean"):
        if not include_self:
            x = mul(x, (counts == 0).to(torch.int64)) if isinstance(x, SecretTensor) else x * (counts == 0)
        out = scatter_add(x, dim, index, src)
        return out if reduce == "sum" else mean_of(out, (counts + 1 if include_self else counts).clamp(min=1))
    started = include_self
    for numbers, there in _turns(dim, index, x.shape):
        given = rearranged(lambda a, b, n=numbers, t=there: torch.where(t, b.reshape(-1)[n], a), x, src)
        if not started:
            x, started = given, True
        elif reduce == "prod":
            one = torch.ones((), dtype=src.dtype)
            if isinstance(src, SecretTensor):
                factor: Any = rearranged(lambda a, b, n=numbers, t=there: torch.where(t, b.reshape(-1)[n], a), one, src)
            else:
                factor = torch.where(there, src.reshape(-1)[numbers], one)
            x = mul(x, factor)
        else:
            x = _JOIN[reduce](x, given)
    return x if isinstance(x, SecretTensor) else rearranged(lambda a, b: a.clone(), x, src)


def mean_of(total: SecretTensor, counts: torch.Tensor) -> SecretTensor:
    """A sum over public whole numbers, exactly where they have a small common multiple."""
    whole = math.lcm(*counts.unique().tolist()) if counts.numel() else 1
    if whole > EXACT:
        return mul(total, 1 / counts.double())
    return times(mul(total, whole // counts) if bool((counts != whole).any()) else total, Fraction(1, whole))


@implements(aten.scatter_reduce.two)
def scatter_reduce(x: Any, dim: int, index: Any, src: Any, reduce: str, *, include_self: bool = True) -> SecretTensor:
    """x with elements of src joined to what is at public positions along a dimension.

    Sums and means take no message.  Of products, the smallest and the largest, what goes to one position is joined one
    after another.
    """
    return _gathered(x, dim, index, src, reduce, include_self)


@implements(aten.scatter.reduce)
def scatter_joined(x: Any, dim: int, index: Any, src: Any, *, reduce: str) -> SecretTensor:
    """`scatter_reduce` under older names of the reductions; torch has no derivative of it."""
    x, src = (t.detach() if isinstance(t, SecretTensor) else t for t in (x, src))
    return _gathered(x, dim, index, src, {"add": "sum", "multiply": "prod"}[reduce], True)


@implements(aten.scatter.value_reduce)
def scatter_value_joined(x: SecretTensor, dim: int, index: Any, value: Any, *, reduce: str) -> SecretTensor:
    """The same with one public number."""
    check_public(index)
    return scatter_joined(x, dim, index, _value(x, value).expand(index.shape), reduce=reduce)


@implements(aten.index_reduce.default)
def index_reduce(x: Any, dim: int, index: Any, source: Any, reduce: str, *, include_self: bool = True) -> SecretTensor:
    """x with rows of source joined to those at public positions along a dimension, as `scatter_reduce`."""
    check_public(index)
    if not source.dim():
        source = source.reshape(1)
    wide: list[int] = [1] * source.dim()
    wide[dim] = -1
    spread = index.reshape(wide).expand(source.shape)
    return _gathered(x, dim, spread, source, reduce, include_self)
