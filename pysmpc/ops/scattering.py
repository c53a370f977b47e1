"""Writing at positions: scatter_add, index_add, index_put, masked writes, and tensors of one number."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from pysmpc.errors import RevealError
from pysmpc.ops.core import aten, axis, in_range, like, moved
from pysmpc.ops.infinite import LOWEST, masked, parted
from pysmpc.ops.movement import as_secret, one_scale
from pysmpc.ops.norm_parts import note_part, part_of
from pysmpc.ops.registering import implements, in_place
from pysmpc.ops.secret_positions import added_at, added_rows, put_rows, the_only
from pysmpc.ops.writing import write
from pysmpc.tensor.secret import SecretTensor


@implements(aten.scatter_add.default)
def scatter_add(x: Any, dim: int, index: Any, values: Any) -> SecretTensor:
    """x with values added at positions along dim: the gradient of gather."""
    if as_secret(index):
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
    if as_secret(index) and x.dim():
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
    if as_secret(*indices):
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


in_place(aten._index_put_impl_.default, lambda x, i, v, accumulate=False, unsafe=False: index_put(x, i, v, accumulate))
implements(aten.fill_.Tensor)(copy_)
