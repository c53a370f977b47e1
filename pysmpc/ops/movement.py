"""Operations that move elements without computing: each holder moves its shares."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import torch

from pysmpc.errors import RevealError
from pysmpc.mpc.functions.smooth import known_of, note_copy
from pysmpc.ops.core import aten, axis, finer, float_unit, in_range, like, moved, promoted, rescale, result, session_of
from pysmpc.ops.infinite import LOWEST, masked, parted
from pysmpc.ops.norm_parts import note_part, part_of
from pysmpc.ops.public_operands import public
from pysmpc.ops.registering import implements, in_place
from pysmpc.ops.scales import ALIGN
from pysmpc.ops.secret_positions import added_at, added_rows, gathered, put_rows, rows_at, the_only
from pysmpc.ops.writing import write
from pysmpc.ring.fixedpoint import INTEGER
from pysmpc.ring.shares import Share
from pysmpc.session.session import plain_session
from pysmpc.tensor.secret import HANDLERS, SecretTensor, TensorStorage


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


def _secret(*indices: Any) -> bool:
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
    if _secret(*indices):
        dim = the_only(indices)
        picked = rows_at(x.movedim(dim, 0), indices[dim], wraps=True)
        at = indices[dim].dim()
        return picked.movedim(list(range(at)), list(range(dim, dim + at)))
    return moved(x, lambda words: aten.index.Tensor(words.movedim(0, -1), list(indices)).movedim(-1, 0))


@implements(aten.index_select.default)
def index_select(x: SecretTensor, dim: int, index: Any) -> SecretTensor:
    """Rows of x."""
    along = axis(dim, x.dim())
    if _secret(index):
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
    if _secret(index):
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


@implements(aten.scatter_add.default)
def scatter_add(x: Any, dim: int, index: Any, values: Any) -> SecretTensor:
    """x with values added at positions along dim: the gradient of gather."""
    if _secret(index):
        return added_at(x, dim, index, values)
    along = axis(dim, x.dim()) + 1
    if x.dim() == 0 or values.dim() == 0 or index.dim() == 0:
        if max(x.dim(), values.dim(), index.dim()) > 1:
            raise RuntimeError(
                f"Index tensor must have the same number of dimensions as self tensor: {index.dim()}, and {x.dim()}"
            )
        return scatter_add(x.view(-1), 0, index.view(-1), values.view(-1)).view(x.shape)
    (x, values), dtype = one_scale([x, values])
    own = values.window()
    words = own.window(own.body.words)

    def added(target: torch.Tensor, words: torch.Tensor) -> torch.Tensor:
        rows = words.shape[0]
        spread = index.unsqueeze(0).unsqueeze(-1).expand(*index.unsqueeze(0).shape, rows)
        source = words.movedim(0, -1).unsqueeze(0)
        return target.movedim(0, -1).unsqueeze(0).scatter_add(along, spread, source).squeeze(0).movedim(-1, 0)

    in_range(values, lambda a, b: added(a.unsqueeze(0), b.unsqueeze(0)).squeeze(0), index.shape[along - 1], x)
    return like(x, moved(x, lambda target: added(target, words)).window(), dtype)


@implements(aten.index_add.default)
def index_add(x: Any, dim: int, index: Any, source: Any, *, alpha: Any = 1) -> SecretTensor:
    """x with rows added at positions along dim: the gradient of index_select."""
    along = axis(dim, x.dim())
    if _secret(index) and x.dim():
        given = (source if alpha == 1 else source * alpha).movedim(along, 0)
        return added_rows(x.movedim(along, 0), index.reshape(-1), given).movedim(0, along)
    if source.dim() != x.dim():
        raise RuntimeError(f"source tensor shape must match self tensor shape: {tuple(source.shape)}, {tuple(x.shape)}")
    wide = [1] * source.dim()
    if wide:
        wide[along] = -1
    if not index.dim():
        index = index.reshape(1)
    return scatter_add(x, dim, index.view(wide).expand(source.shape), source if alpha == 1 else source * alpha)


@implements(aten.index_put.default)
def index_put(x: Any, indices: Sequence[Any], values: Any, accumulate: bool = False) -> SecretTensor:
    """x with positions replaced by (or added to) values; a secret mask may choose where one value goes."""
    masks = [each for each in indices if isinstance(each, SecretTensor) and each.dtype == torch.bool]
    if len(masks) == 1 and len(indices) == 1:
        return _put_masked(x, masks[0], values, accumulate)
    if _secret(*indices):
        dim = the_only(indices)
        lines, given = x.movedim(dim, 0), values
        wide = (*x.shape[:dim], *indices[dim].shape, *x.shape[dim + 1 :])
        at = indices[dim].dim()
        given = values.expand(wide).movedim(list(range(dim, dim + at)), list(range(at)))
        done = added_rows(lines, indices[dim], given, True) if accumulate else put_rows(lines, indices[dim], given)
        return done.movedim(0, dim)
    (x, values), dtype = one_scale([x, values])
    put = values.window()
    wide = torch.empty(x.shape)[tuple(slice(None) if i is None else i for i in indices)].shape
    words = put.expand(wide).window(put.body.words)

    def changed(own: torch.Tensor, words: torch.Tensor) -> torch.Tensor:
        source = words.movedim(0, -1)
        return aten.index_put.default(own.movedim(0, -1), list(indices), source, accumulate).movedim(-1, 0)

    if accumulate:
        spread = values.expand(wide)
        in_range(spread, lambda a, b: changed(a.unsqueeze(0), b.unsqueeze(0)).squeeze(0), spread.numel(), x)
    return like(x, moved(x, lambda own: changed(own, words)).window(), dtype)


def _put_masked(x: Any, mask: SecretTensor, values: Any, accumulate: bool) -> SecretTensor:
    """x where a secret mask is not set, one value (or one for each of the last dimensions) where it is."""
    rest = tuple(x.shape[mask.dim() :])
    if tuple(x.shape[: mask.dim()]) != tuple(mask.shape):
        raise IndexError(f"a mask of shape {tuple(mask.shape)} does not match a tensor of shape {tuple(x.shape)}")
    shape = (1,) * max(0, 1 + len(rest) - values.dim()) + tuple(values.shape)
    if values.dim() > 1 + len(rest) or shape[0] != 1:
        raise RevealError(
            "a secret mask would show how many values it takes; give one value for all places, or use torch.where with "
            "a value for each"
        )
    wide = mask.reshape(*mask.shape, *[1] * len(rest))
    given = values.reshape(shape[1:])
    out: Any = torch.where(wide, x + given if accumulate else given, x)
    return out


in_place(aten._index_put_impl_.default, lambda x, i, v, accumulate=False, unsafe=False: index_put(x, i, v, accumulate))


@implements(aten.copy_.default)
def copy_(target: Any, source: Any, non_blocking: bool = False) -> Any:
    """target = source."""
    if not isinstance(target, SecretTensor):
        raise RevealError("copying a secret into a plain tensor would open it; use sy.decrypt(x)")
    write(target, source)
    return target


@implements(aten.masked_fill.Scalar)
def masked_fill(x: SecretTensor, mask: Any, value: Any) -> Any:
    """A public number where the mask is set."""
    if not x.dtype.is_floating_point and value != int(value):
        raise RuntimeError(f"{value} cannot be converted to {x.dtype}")
    if value < LOWEST and not isinstance(mask, SecretTensor):
        finite, places = parted(x)
        return masked(finite, mask if places is None else mask | places)
    out: Any = torch.where(mask, torch.tensor(value, dtype=x.dtype), x)
    part = part_of(x, "quotient") or part_of(x, "weight")
    # where a norm or its argument is 0, so is all that its derivative makes of it
    return out if part is None or value != 0 else note_part(out, part.role, part.of, part.rest)


def constant(
    x: SecretTensor, value: Any, shape: Sequence[int], secret: bool, dtype: torch.dtype, like: Any = None
) -> SecretTensor:
    """A tensor of one public value: as shares, or (if it will not be written) in the clear.

    like: a tensor whose elements are in memory as those of the result are to be.
    """
    session = x.session if secret else plain_session
    unit = x.unit if dtype.is_floating_point else INTEGER
    unit = float_unit(unit, dtype)
    word = int(Fraction(value) * unit.scale)
    values = torch.full((), word, dtype=torch.int64)
    if secret:
        share = session.arithmetic.public(session.party, values.expand(tuple(shape)).contiguous(), unit.scale)
        if like is not None and (order := Share(share.body, shape, 1, like.stride()).order) is not None:
            share = Share.ordered(share.body.words, shape, order, unit.scale)
    else:
        share = session.arithmetic.public(session.party, values, unit.scale).expand(tuple(shape))
    share.body.zeros = secret and word == 0
    return result(share, session, unit, dtype)


def _like(overload: Any, value: Any, secret: bool) -> None:
    @implements(overload)
    def handler(
        x: SecretTensor,
        *,
        dtype: torch.dtype | None = None,
        layout: Any = None,
        device: Any = None,
        pin_memory: Any = None,
        memory_format: Any = None,
    ) -> SecretTensor:
        return constant(x, value, x.shape, secret, dtype or x.dtype, None if x.is_contiguous() else x)


_like(aten.zeros_like.default, 0, True)
_like(aten.empty_like.default, 0, True)
_like(aten.ones_like.default, 1, False)


def _new(overload: Any, value: Any) -> None:
    @implements(overload)
    def handler(
        x: SecretTensor,
        size: Sequence[int],
        *,
        dtype: torch.dtype | None = None,
        layout: Any = None,
        device: Any = None,
        pin_memory: Any = None,
    ) -> SecretTensor:
        return constant(x, value, size, True, dtype or x.dtype)


_new(aten.new_zeros.default, 0)
_new(aten.new_empty.default, 0)
_new(aten.new_ones.default, 1)


@implements(aten.full_like.default)
def full_like(
    x: SecretTensor,
    value: Any,
    *,
    dtype: torch.dtype | None = None,
    layout: Any = None,
    device: Any = None,
    pin_memory: Any = None,
    memory_format: Any = None,
) -> SecretTensor:
    """A public number everywhere, as shares."""
    return constant(x, value, x.shape, True, dtype or x.dtype)


@implements(aten.new_empty_strided.default)
def new_empty_strided(
    x: SecretTensor,
    size: Sequence[int],
    stride: Sequence[int],
    *,
    dtype: torch.dtype | None = None,
    layout: Any = None,
    device: Any = None,
    pin_memory: Any = None,
) -> SecretTensor:
    """Zeros in a memory layout: where autograd keeps the gradient of a leaf of that layout."""
    last = sum((n - 1) * step for n, step in zip(size, stride, strict=True)) if math.prod(size) else -1
    flat = constant(x, 0, (last + 1,), True, dtype or x.dtype)
    return SecretTensor(flat.cell, size, stride, 0, flat.dtype)


def _filled(x: SecretTensor, value: Any) -> SecretTensor:
    out = constant(x, value, x.shape, True, x.dtype)
    known_of(out.cell.body).kept["constant"] = value
    return out


in_place(aten.zero_.default, lambda x: _filled(x, 0))
in_place(aten.fill_.Scalar, _filled)
implements(aten.fill_.Tensor)(copy_)
