"""Complex secrets: their elements moved and written, new ones, and those that real secrets become."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import torch

from pysmpc.ops import views
from pysmpc.ops.complex_values import Way, add, cast, joined, of, pair_of, shaped, to_last
from pysmpc.ops.core import aten, axis
from pysmpc.ops.infinite import InfiniteStorage
from pysmpc.tensor.complex_tensor import COMPLEX, PARTS, RESHAPES, VIEWS, ComplexTensor
from pysmpc.tensor.secret import HANDLERS, MAY_BE_COMPLEX, SecretTensor
from pysmpc.tensor.secret_errors import not_implemented

# --- moving ------------------------------------------------------------------------------


@of(aten.clone)
def clone(x: Any, *, memory_format: Any = None) -> Any:
    """A value of its own, in order."""
    return joined(x.pair.clone())


@of(aten._to_copy)
def to_copy(x: Any, *, dtype: Any = None, **others: Any) -> Any:
    """Another dtype: of a real secret the complex one without imaginary part, of a complex one its real part."""
    wanted = dtype or x.dtype
    if wanted.is_complex:
        return joined(aten._to_copy.default(pair_of(x), dtype=wanted.to_real(), **others))
    if not wanted.is_floating_point:
        raise not_implemented(aten._to_copy.default, f"complex numbers are not of {wanted}; " + PARTS)
    return aten._to_copy.default(x.pair.select(-1, 0), dtype=wanted, **others)


def _joined_all(join: Any, more: int) -> Way:
    def way(tensors: Sequence[Any], dim: int = 0) -> Any:
        dtype = functools.reduce(torch.promote_types, [x.dtype for x in tensors]).to_real()
        pairs = [cast(pair_of(x), torch.empty(0, dtype=dtype)) for x in tensors]
        return joined(join(pairs, axis(dim, max(x.dim() for x in tensors) + more)))

    return way


of(aten.cat)(_joined_all(torch.cat, 0))
of(aten.stack)(_joined_all(torch.stack, 1))


@of(aten.flip)
def flip(x: Any, dims: Sequence[int]) -> Any:
    """Reversed along dimensions."""
    return joined(x.pair.flip([axis(d, x.dim()) for d in dims])) if x.dim() else x.clone()


@of(aten.roll)
def roll(x: Any, shifts: Any, dims: Any = ()) -> Any:
    """Rotated along dimensions, or flat."""
    if not dims:
        return joined(shaped(shaped(x.pair, (x.numel(), 2)).roll(shifts, [0]), (*x.shape, 2)))
    return joined(x.pair.roll(shifts, [axis(d, x.dim()) for d in dims]))


@of(aten.repeat)
def repeat(x: Any, repeats: Sequence[int]) -> Any:
    """Tiled."""
    return joined(x.pair.repeat(*repeats, 1))


@of(aten.index)
def index(x: Any, indices: Sequence[Any]) -> Any:
    """x[indices]."""
    if not x.dim():
        raise IndexError("a secret scalar cannot be indexed")
    return joined(aten.index.Tensor(x.pair, list(indices)))


@of(aten.index_select)
def index_select(x: Any, dim: int, index: Any) -> Any:
    """Rows of x."""
    if not x.dim():
        return x.clone()
    return joined(x.pair.index_select(axis(dim, x.dim()), index))


@of(aten.gather)
def gather(x: Any, dim: int, index: Any, *, sparse_grad: bool = False) -> Any:
    """Elements at positions along a dimension."""
    return joined(x.pair.gather(axis(dim, x.dim()), _both(index)))


def _both(index: Any) -> Any:
    """Positions of both parts."""
    return index.unsqueeze(-1).expand(*index.shape, 2)


@of(aten.scatter_add)
def scatter_add(x: Any, dim: int, index: Any, source: Any) -> Any:
    """x with what is added at positions along a dimension."""
    return joined(x.pair.scatter_add(axis(dim, x.dim()), _both(index), pair_of(source)))


@of(aten.index_add)
def index_add(x: Any, dim: int, index: Any, source: Any, *, alpha: Any = 1) -> Any:
    """x with rows added."""
    if not x.dim():
        rows = x.pair.unsqueeze(0).index_add(0, index.view(-1), pair_of(source).view(-1, 2), alpha=alpha)
        return joined(rows.select(0, 0))
    return joined(x.pair.index_add(axis(dim, x.dim()), index, pair_of(source), alpha=alpha))


@of(aten.index_put, aten._unsafe_index_put)
def index_put(x: Any, indices: Sequence[Any], values: Any, accumulate: bool = False) -> Any:
    """x with elements written at positions."""
    return joined(aten.index_put.default(x.pair, list(indices), pair_of(values), accumulate))


@of(aten.where)
def where(condition: Any, x: Any, y: Any) -> Any:
    """Elements of one or the other."""
    return joined(torch.where(condition.unsqueeze(-1), pair_of(x), pair_of(y)))


@of(aten.masked_fill)
def masked_fill(x: Any, mask: Any, value: Any) -> Any:
    """A public number where a mask is."""
    return where(mask, value if isinstance(value, torch.Tensor) else torch.tensor(value, dtype=x.dtype), x)


@of(aten.constant_pad_nd)
def constant_pad_nd(x: Any, pad: Sequence[int], value: Any = 0) -> Any:
    """Padded with a public number, as both parts are with its parts."""
    border = [0, 0, *pad]
    out = aten.constant_pad_nd.default(x.pair, border, 0)
    if value:
        frame = aten.constant_pad_nd.default(torch.zeros(x.shape, dtype=x.dtype), pad, value)
        out = out + pair_of(frame)
    return joined(out)


def _triangle(overload: Any) -> Way:
    def way(x: Any, diagonal: int = 0) -> Any:
        return joined(to_last(overload(to_last(x.pair, -1, 0), diagonal), 0))

    return way


of(aten.tril)(_triangle(torch.tril))
of(aten.triu)(_triangle(torch.triu))


def _view_backward(overload: Any, places: Sequence[int], last: bool = False) -> None:
    """The gradient of a view.  places: of its arguments that are dimensions; last: the view has a new last one."""

    @of(overload.overloadpacket)
    def way(grad: Any, sizes: Sequence[int], *args: Any) -> Any:
        given = [axis(a, len(sizes)) if i in places else a for i, a in enumerate(args)]
        pair = grad.pair.transpose(-1, -2) if last else grad.pair
        return joined(overload(pair, [*sizes, 2], *given))


_view_backward(aten.slice_backward.default, (0,))
_view_backward(aten.select_backward.default, (0,))
_view_backward(aten.diagonal_backward.default, (1, 2), last=True)
_view_backward(aten.unfold_backward.default, (0,), last=True)


# --- parts, new values and writing -------------------------------------------------------


@of(aten.view_as_real)
def view_as_real(x: Any) -> Any:
    """Both parts, [..., 2]: a view."""
    return x.pair


def view_as_complex(x: SecretTensor) -> Any:
    """The complex secret of a real one [..., 2]: a view."""
    with torch._C._DisableTorchDispatch():
        layout = aten.view_as_complex.default(x)
    if isinstance(x.cell, InfiniteStorage):
        raise not_implemented(aten.view_as_complex.default, "of a secret with infinite elements")
    return ComplexTensor(x.cell, layout.size(), layout.stride(), int(layout.storage_offset()), layout.dtype)


def complex_of(real: Any, imag: Any) -> Any:
    """The complex secret of two parts, of which one may be public.  No message."""
    if real.dtype != imag.dtype:
        raise RuntimeError(f"Expected object of scalar type {real.dtype} but got {imag.dtype} for second argument")
    shape = torch.broadcast_shapes(real.shape, imag.shape)
    return joined(torch.stack([real.expand(shape), imag.expand(shape)], -1))


def polar(size: Any, angle: Any) -> Any:
    """The complex secret of magnitudes and angles: products with the cosine and the sine."""
    return complex_of(size * torch.cos(angle), size * torch.sin(angle))


def _new(overload: Any, value: float) -> None:
    @of(overload.overloadpacket)
    def way(x: Any, size: Sequence[int], *rest: Any, dtype: Any = None, **others: Any) -> Any:
        dtype = dtype or x.dtype
        like = x.pair if isinstance(x, ComplexTensor) else x
        if not dtype.is_complex:
            return overload(like, size, *rest, dtype=dtype, **others)
        zeros = joined(aten.new_zeros.default(like, [*size, 2], dtype=dtype.to_real()))
        number = rest[0] if rest else value
        return add(zeros, number) if number else zeros


_new(aten.new_zeros.default, 0)
_new(aten.new_empty.default, 0)
_new(aten.new_ones.default, 1)
_new(aten.new_full.default, 0)


def _like(overload: Any, value: float) -> None:
    made = COMPLEX[aten.new_full]

    @of(overload.overloadpacket)
    def way(x: Any, *rest: Any, dtype: Any = None, memory_format: Any = None, **others: Any) -> Any:
        return made(x, x.shape, rest[0] if rest else value, dtype=dtype)


_like(aten.zeros_like.default, 0)
_like(aten.empty_like.default, 0)
_like(aten.ones_like.default, 1)
_like(aten.full_like.default, 0)


@of(aten.new_empty_strided)
def new_empty_strided(x: Any, size: Sequence[int], stride: Sequence[int], *, dtype: Any = None, **others: Any) -> Any:
    """Zeros in a memory layout."""
    dtype = dtype or x.dtype
    like = x.pair if isinstance(x, ComplexTensor) else x
    if not dtype.is_complex:
        return aten.new_empty_strided.default(like, size, stride, dtype=dtype)
    steps = [2 * step for step in stride]
    return joined(aten.new_empty_strided.default(like, [*size, 2], [*steps, 1], dtype=dtype.to_real()))


@of(aten.copy_)
def copy_(target: Any, value: Any, non_blocking: bool = False) -> Any:
    """Write to a secret: to a complex one both parts."""
    if not isinstance(target, ComplexTensor):
        kind = "real secret" if isinstance(target, SecretTensor) else "plain tensor"
        raise TypeError(f"a complex secret cannot be written to a {kind}; use x.real, or the out-of-place form")
    aten.copy_.default(target.pair, pair_of(value))
    return target


@of(aten.fill)
def fill(x: Any, value: Any) -> Any:
    """One number everywhere."""
    value = value if isinstance(value, torch.Tensor) else torch.tensor(value, dtype=x.dtype)
    return value.expand(x.shape)


@of(aten.zero)
def zero(x: Any) -> Any:
    """0 everywhere."""
    return fill(x, 0)


# --- where torch asks a real secret ------------------------------------------------------


def _always(overload: Any, way: Way) -> None:
    def made(args: Any, kwargs: Any) -> Any:
        return way(*args, **(kwargs or {}))

    MAY_BE_COMPLEX[overload] = made
    COMPLEX[overload.overloadpacket] = way


def _beside_public(overload: Any) -> None:
    """Of real secrets the result is complex where a public operand, or the dtype that is asked for, is."""
    way = COMPLEX[overload.overloadpacket]

    def made(args: Any, kwargs: Any) -> Any:
        for x in args:
            if x.dtype.is_complex if isinstance(x, torch.Tensor) else type(x) is complex:
                return way(*args, **(kwargs or {}))
        if kwargs and (dtype := kwargs.get("dtype")) is not None and dtype.is_complex:
            return way(*args, **kwargs)
        return NotImplemented

    MAY_BE_COMPLEX[overload] = made


_always(aten.view_as_complex.default, view_as_complex)
_always(aten.complex.default, complex_of)
_always(aten.polar.default, polar)
for _overload in (
    aten.mul.Tensor, aten.mul.Scalar, aten.add.Tensor, aten.add.Scalar, aten.sub.Tensor, aten.sub.Scalar,
    aten.rsub.Scalar, aten.div.Tensor, aten.mm.default, aten.bmm.default, aten.mv.default, aten.dot.default,
    aten.vdot.default, aten.addmm.default, aten.baddbmm.default, aten.where.self, aten._to_copy.default,
    aten.new_zeros.default, aten.new_empty.default, aten.new_ones.default, aten.new_full.default,
    aten.zeros_like.default, aten.ones_like.default, aten.empty_like.default, aten.full_like.default,
    aten.new_empty_strided.default,
):  # fmt: skip
    _beside_public(_overload)

for _overload, _handler in HANDLERS.items():
    if _handler.__module__ == views.__name__:
        (RESHAPES if _overload._schema.is_mutable else VIEWS).add(_overload)
