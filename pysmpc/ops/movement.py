"""Operations that move elements without computing: each holder moves its shares."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch

from pysmpc.errors import RevealError
from pysmpc.mpc.functions.known_values import note_copy
from pysmpc.ops.core import aten, axis, finer, float_unit, moved, promoted, rescale, result, session_of
from pysmpc.ops.public_operands import public
from pysmpc.ops.registering import implements
from pysmpc.ops.scales import ALIGN
from pysmpc.ops.secret_positions import gathered, rows_at, the_only
from pysmpc.ring.fixedpoint import INTEGER
from pysmpc.ring.shares import Share
from pysmpc.tensor.secret import HANDLERS, SecretTensor
from pysmpc.tensor.storage import TensorStorage


@implements(aten.clone.default)
def clone(x: SecretTensor, *, memory_format: Any = None) -> SecretTensor:
    """A value of its own; contiguous, as a mask belongs to an order of elements."""
    if x.window().dense:
        return SecretTensor(
            TensorStorage(x.cell.body, x.cell.scale, x.cell.unit, x.cell.session), x.size(), x.stride(), 0, x.dtype
        )
    out = moved(x, lambda words: words)
    note_copy(out.window(), x.window())
    return out


@implements(aten._to_copy.default)
def to_copy(
    x: SecretTensor,
    *,
    dtype: torch.dtype | None = None,
    layout: Any = None,
    device: Any = None,
    pin_memory: bool = False,
    non_blocking: bool = False,
    memory_format: Any = None,
) -> SecretTensor:
    """Another dtype: real values stay fixed point, integers stay exact; a truth value is whether x is not 0.

    A real secret becomes an integer as in torch, by rounding toward zero: 10 rounds, exactly.
    """
    if device is not None and torch.device(device).type != "cpu":
        raise NotImplementedError(f"secret tensors live on the CPU, not on {device}")
    wanted = dtype or x.dtype
    if wanted == torch.bool != x.dtype:
        truth: SecretTensor = HANDLERS[aten.ne.Scalar](x, 0)
        return truth
    if wanted.is_complex:
        raise NotImplementedError(
            f"a secret of {x.dtype} cannot become {wanted}: secrets are real; keep real and imaginary parts as two"
        )
    if x.dtype.is_floating_point and not wanted.is_floating_point:
        whole = HANDLERS[aten.trunc.default](x)
        return result(rescale(x.session, whole.window(), 1), x.session, INTEGER, wanted)
    out = clone(x)
    cell = TensorStorage(out.cell.body, out.cell.scale, float_unit(x.unit, wanted), x.session)
    return SecretTensor(cell, out.size(), out.stride(), 0, wanted)


def one_scale(tensors: Sequence[Any]) -> tuple[list[SecretTensor], torch.dtype]:
    """Secrets of one session at one scale, from a list that may hold plain tensors."""
    session = session_of(*tensors)
    unit = max((x.unit for x in tensors if isinstance(x, SecretTensor)), key=lambda u: u.scale)
    dtype = promoted(*tensors)
    unit = float_unit(unit, dtype)
    secrets = []
    for x in tensors:
        plain = public(x, session, unit)
        if plain is None:
            secrets.append(x)
        else:
            share = session.arithmetic.public(session.party, plain.values.contiguous(), plain.scale)
            secrets.append(result(share, session, finer(unit, plain.unit), dtype))
    if len({x.cell.scale for x in secrets}) > 1:
        for x in secrets:
            x.cell.settle()
    scales = {x.cell.scale for x in secrets}
    scale = math.lcm(*scales)
    if scale.bit_length() > ALIGN:
        scale = max(scales)
    return [result(rescale(session, x.window(), scale), session, unit, dtype) for x in secrets], dtype


def _joined(tensors: Sequence[Any], join: Any) -> SecretTensor:
    secrets, dtype = one_scale(tensors)
    scales = {x.cell.scale for x in secrets}
    assert len(scales) == 1, scales
    words = [x.window().window(x.cell.body.words) for x in secrets]
    out = join(words).contiguous()
    shape = out.shape[1:]
    first = secrets[0]
    unit = max((x.unit for x in secrets), key=lambda u: u.scale)
    share = Share.of(out.reshape(out.shape[0], shape.numel()), shape, first.cell.scale)
    return result(share, first.session, unit, dtype)


@implements(aten.cat.default)
def cat(tensors: Sequence[Any], dim: int = 0) -> SecretTensor:
    """Concatenation."""
    for i, x in enumerate(tensors):
        if x.dim() == 0:
            raise RuntimeError(f"zero-dimensional tensor (at position {i}) cannot be concatenated; use torch.stack")
    along = axis(dim, max(x.dim() for x in tensors))
    used = [x for x in tensors if x.shape != (0,)] or list(tensors)
    return _joined(used, lambda words: torch.cat(words, along + 1))


@implements(aten.stack.default)
def stack(tensors: Sequence[Any], dim: int = 0) -> SecretTensor:
    """Stacking."""
    along = axis(dim, tensors[0].dim() + 1)
    return _joined(tensors, lambda words: torch.stack(words, along + 1))


def as_secret(*indices: Any) -> bool:
    """Whether a position is secret; RevealError for a secret mask, by which a result would have a secret size."""
    found = [each for each in indices if isinstance(each, SecretTensor)]
    if any(each.dtype == torch.bool for each in found):
        raise RevealError(
            "a secret mask would show how many elements it chooses; use torch.where, or x * mask, and count with "
            "mask.sum()"
        )
    return bool(found)


@implements(aten.index.Tensor)
def index(x: SecretTensor, indices: Sequence[Any]) -> SecretTensor:
    """x[indices] for public indices and masks, or for one secret index."""
    if x.dim() == 0:
        raise IndexError("a secret scalar cannot be indexed")
    if as_secret(*indices):
        dim = the_only(indices)
        picked = rows_at(x.movedim(dim, 0), indices[dim], wraps=True)
        at = indices[dim].dim()
        return picked.movedim(list(range(at)), list(range(dim, dim + at)))
    return moved(x, lambda words: aten.index.Tensor(words.movedim(0, -1), list(indices)).movedim(-1, 0))


@implements(aten.index_select.default)
def index_select(x: SecretTensor, dim: int, index: Any) -> SecretTensor:
    """Rows of x."""
    along = axis(dim, x.dim())
    if as_secret(index):
        if x.dim() == 0:
            return rows_at(x.view(1), index).view(_lone(index, "index_select()"))
        return rows_at(x.movedim(along, 0), index.reshape(-1)).movedim(0, along)
    if x.dim() == 0:  # one row of one element, of which there is one again
        return index_select(x.view(1), 0, index).view(_lone(index, "index_select()"))
    return moved(x, lambda words: words.index_select(along + 1, index))


@implements(aten.gather.default)
def gather(x: SecretTensor, dim: int, index: Any, *, sparse_grad: bool = False) -> SecretTensor:
    """Elements at positions along a dimension."""
    along = axis(dim, x.dim())
    if as_secret(index):
        return gathered(x, along, index)
    if x.dim() == 0:
        return gather(x.view(1), 0, index.reshape(-1)).view(index.shape)
    return moved(x, lambda words: words.gather(along + 1, index.unsqueeze(0).expand(words.shape[0], *index.shape)))


def _lone(index: Any, what: str) -> tuple[int, ...]:
    """The shape of a scalar; RuntimeError unless an index is of one element."""
    if index.numel() != 1:
        raise RuntimeError(f"{what} of a scalar takes an index of one element, not of {index.numel()}")
    return ()


@implements(aten.flip.default)
def flip(x: SecretTensor, dims: Sequence[int]) -> SecretTensor:
    """Reversed along dims."""
    axes = [axis(d, x.dim()) + 1 for d in dims]
    return moved(x, lambda words: words.flip(axes if x.dim() else []))


@implements(aten.roll.default)
def roll(x: SecretTensor, shifts: Any, dims: Any = ()) -> SecretTensor:
    """Rotated along dims, or flat."""
    if not dims:
        return moved(x, lambda words: words.reshape(words.shape[0], x.numel()).roll(shifts, 1).reshape(words.shape))
    if x.dim() == 0:
        raise IndexError(f"dimension {dims[0]} was given, but a scalar has none to roll along")
    axes = [axis(d, x.dim()) + 1 for d in dims]
    return moved(x, lambda words: words.roll(shifts, axes))


@implements(aten.repeat.default)
def repeat(x: SecretTensor, repeats: Sequence[int]) -> SecretTensor:
    """Tiled."""
    lead = (1,) * (len(repeats) - x.dim())
    return moved(x, lambda words: words.reshape(words.shape[0], *lead, *x.shape).repeat(1, *repeats))


@implements(aten.constant_pad_nd.default)
def constant_pad_nd(x: SecretTensor, pad: Sequence[int], value: Any = 0) -> SecretTensor:
    """Padded with a public number."""
    out = moved(x, lambda words: aten.constant_pad_nd.default(words, pad, 0))
    if value:
        border = aten.constant_pad_nd.default(torch.zeros(x.shape, dtype=x.dtype), pad, value)
        return out + border
    return out


def _triangle(overload: Any) -> None:
    @implements(overload)
    def handler(x: SecretTensor, diagonal: int = 0) -> SecretTensor:
        return moved(x, lambda words: overload(words, diagonal))


_triangle(aten.tril.default)
_triangle(aten.triu.default)


def _zeros(x: SecretTensor, shape: Sequence[int]) -> torch.Tensor:
    return torch.zeros((x.cell.body.rows, *shape), dtype=torch.int64)


def _placed(grad: SecretTensor, sizes: Sequence[int], region: Any) -> SecretTensor:
    """Zeros of a shape, with grad in the region that a view of it covers."""

    def place(words: torch.Tensor) -> torch.Tensor:
        out = _zeros(grad, sizes)
        region(out).copy_(words)
        return out

    return moved(grad, place)


@implements(aten.slice_backward.default)
def slice_backward(grad: SecretTensor, sizes: Sequence[int], dim: int, start: int, end: int, step: int) -> SecretTensor:
    """Gradient of a slice."""
    return _placed(grad, sizes, lambda out: aten.slice.Tensor(out, dim % len(sizes) + 1, start, end, step))


@implements(aten.select_backward.default)
def select_backward(grad: SecretTensor, sizes: Sequence[int], dim: int, index: int) -> SecretTensor:
    """Gradient of a selection."""
    return _placed(grad, sizes, lambda out: out.select(dim % len(sizes) + 1, index))


@implements(aten.diagonal_backward.default)
def diagonal_backward(grad: SecretTensor, sizes: Sequence[int], offset: int, dim1: int, dim2: int) -> SecretTensor:
    """Gradient of a diagonal."""
    n = len(sizes)
    return _placed(grad, sizes, lambda out: out.diagonal(offset, dim1 % n + 1, dim2 % n + 1))


@implements(aten.unfold_backward.default)
def unfold_backward(grad: SecretTensor, sizes: Sequence[int], dim: int, size: int, step: int) -> SecretTensor:
    """Gradient of sliding windows: sums where they overlap."""

    def place(words: torch.Tensor) -> torch.Tensor:
        out = torch.zeros((words.shape[0], *sizes), dtype=words.dtype)
        along = axis(dim, len(sizes)) + 1
        for i in range(words.shape[along]):
            out.narrow(along, i * step, size).add_(words.select(along, i).movedim(-1, along))
        return out

    if not sizes:
        return grad.view(())
    return moved(grad, place, -(-size // step))
