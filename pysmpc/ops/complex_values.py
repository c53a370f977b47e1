"""Complex secrets: what torch asks of them, made of operations on the real secret of their parts.

A part is an element [..., 0] (real) or [..., 1] (imaginary) of `torch.view_as_real(x)`.  Where public complex
numbers meet real secrets the result is complex, too.  An operation that is not here raises, and says what to write.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import torch

from pysmpc.ops import views
from pysmpc.ops.core import aten, axis, dims
from pysmpc.ops.infinite import InfiniteStorage
from pysmpc.ops.norms import slope
from pysmpc.tensor.complex_tensor import COMPLEX, INSTEAD, PARTS, RESHAPES, VIEWS, ComplexTensor
from pysmpc.tensor.secret import HANDLERS, MAY_BE_COMPLEX, SecretTensor, not_implemented

Way = Callable[..., Any]

QUOTIENT = "of a complex divisor w that is secret; write x * w.conj() / (w.real ** 2 + w.imag ** 2)"

INSTEAD.update(
    {
        "angle": "write torch.atan2(x.imag, x.real)",
        "exp": "write torch.polar(torch.exp(x.real), x.imag)",
        "log": "write torch.complex(torch.log(x.abs()), torch.atan2(x.imag, x.real))",
        "reciprocal": QUOTIENT,
        "eq": "compare the parts, (x.real == y.real) & (x.imag == y.imag)",
        "ne": "compare the parts, (x.real != y.real) | (x.imag != y.imag)",
        "sort": "complex numbers have no order; sort x.abs()",
    }
)


def of(*packets: Any) -> Callable[[Way], Way]:
    """Register what operations with complex operands are made of."""

    def register(way: Way) -> Way:
        COMPLEX.update(dict.fromkeys(packets, way))
        return way

    return register


# --- pairs -------------------------------------------------------------------------------


def joined(pair: Any) -> Any:
    """The complex secret of a real one [..., 2]: on the same cell where real and imaginary parts are side by side."""
    steps = pair.stride()
    if steps[-1] != 1 or any(step % 2 for step in steps[:-1]) or pair.storage_offset() % 2:
        pair = pair.clone(memory_format=torch.contiguous_format)
        steps = pair.stride()
    size = pair.shape[:-1]
    return ComplexTensor(
        pair.cell, size, [step // 2 for step in steps[:-1]], int(pair.storage_offset()) // 2, pair.dtype.to_complex()
    )


def is_complex(x: Any) -> bool:
    """Whether an operand is complex: a secret, a public tensor or a number."""
    return x.dtype.is_complex if isinstance(x, torch.Tensor) else isinstance(x, complex)


def pair_of(x: Any) -> Any:
    """Parts [..., 2] of a complex operand, or of a real one, whose imaginary part is 0."""
    if isinstance(x, ComplexTensor):
        return x.pair
    if not isinstance(x, torch.Tensor):
        return torch.tensor([complex(x).real, complex(x).imag], dtype=torch.float64)
    if x.dtype.is_complex:
        return torch.view_as_real(x.detach().resolve_conj())
    if not x.is_floating_point():
        x = _cast(x, torch.empty(0, dtype=torch.get_default_dtype()))
    return torch.stack([x, torch.zeros(x.shape, dtype=x.dtype)], -1)


def _last(x: Any) -> Any:
    """A real operand beside pairs."""
    return x.unsqueeze(-1) if isinstance(x, torch.Tensor) else x


def _typed(pair: Any, *operands: Any) -> Any:
    """The complex secret of a pair, in the dtype that torch gives the result of these operands."""
    dtype = functools.reduce(torch.promote_types, [torch.result_type(operands[0], y) for y in operands])
    return joined(_cast(pair, torch.empty(0, dtype=dtype.to_real())))


def _axes(dim: Any, x: Any) -> list[int]:
    return dims(dim, x.dim())


# Below autograd torch hands on what it is made of, reshape and matmul among them, as it is called; what follows calls
# no such operation, so that whoever notes a program meets those that have handlers.


def shaped(x: Any, size: Sequence[int]) -> Any:
    """The elements of x in order, in another shape."""
    if not x.is_contiguous():
        x = x.clone(memory_format=torch.contiguous_format)
    return aten.view.default(x, size)


def to_last(x: Any, dim: int, last: int = -1) -> Any:
    """x with a dimension moved to the last place, or to another."""
    order = [i for i in range(x.dim()) if i != dim % x.dim()]
    order.insert(last % x.dim(), dim % x.dim())
    return x.permute(order)


def _part(pair: Any, k: int) -> Any:
    return pair.select(-1, k)


# --- arithmetic --------------------------------------------------------------------------


@of(aten.mul)
def mul(x: Any, y: Any) -> Any:
    """A product.  Of two complex secrets one round; 16 bytes an element of each and peer."""
    if is_complex(x) and is_complex(y):
        all_four = pair_of(x).unsqueeze(-1) * pair_of(y).unsqueeze(-2)
        (rr, ri), (ir, ii) = (row.unbind(-1) for row in all_four.unbind(-2))
        re, im = rr - ii, ri + ir
        return _typed(torch.stack([re, im], -1), x, y)
    return _typed(pair_of(x) * _last(y) if is_complex(x) else _last(x) * pair_of(y), x, y)


@of(aten.add)
def add(x: Any, y: Any, *, alpha: Any = 1) -> Any:
    """x + alpha * y.  No message."""
    if isinstance(alpha, complex):
        return add(x, mul(y, alpha))
    return _typed(torch.add(pair_of(x), pair_of(y), alpha=alpha), x, y)


@of(aten.sub)
def sub(x: Any, y: Any, *, alpha: Any = 1) -> Any:
    """x - alpha * y.  No message."""
    return add(x, y, alpha=-alpha)


@of(aten.rsub)
def rsub(x: Any, y: Any, alpha: Any = 1) -> Any:
    """y - alpha * x.  No message."""
    return add(y, x, alpha=-alpha)


@of(aten.div)
def div(x: Any, y: Any, *, rounding_mode: Any = None) -> Any:
    """A quotient by a real secret or by public numbers, as of its parts.

    NotImplementedError for a complex divisor that is secret: the way out is a real one, the square of its magnitude.
    """
    if rounding_mode is not None:
        raise not_implemented(aten.div.Tensor_mode, "complex numbers are not rounded; " + PARTS)
    if isinstance(y, ComplexTensor):
        raise not_implemented(aten.div.Tensor, QUOTIENT)
    if is_complex(y):
        wide = y.detach().to(torch.complex128) if isinstance(y, torch.Tensor) else y
        return _typed(mul(x, 1 / wide).pair, x, y)
    return _typed(pair_of(x) / _last(y), x, y)


@of(aten.neg)
def neg(x: Any) -> Any:
    """-x.  No message."""
    return joined(-x.pair)


@of(aten.conj, aten._conj, aten.conj_physical, aten._conj_physical)
def conj(x: Any) -> Any:
    """The conjugate, as a value of its own: what is written to it in place does not reach x.  No message."""
    re, im = x.pair.unbind(-1)
    return joined(torch.stack([re, -im], -1))


@of(aten.pow)
def pow(x: Any, exponent: Any) -> Any:
    """Powers 1 to 4, by products; NotImplementedError for others.  A round for each."""
    if not isinstance(exponent, int | float) or exponent not in (1, 2, 3, 4):
        raise not_implemented(aten.pow.Tensor_Scalar, "complex secrets have powers 1, 2, 3 and 4; " + PARTS)
    half = mul(x, x) if exponent > 1 else x.clone()
    return half if exponent < 3 else mul(half, x if exponent == 3 else half)


@of(aten.abs)
def abs(x: Any) -> Any:
    """Magnitudes, real: the root of the sum of both squares, as accurate as `torch.linalg.vector_norm`."""
    found = aten.linalg_vector_norm.default(x.pair, 2, [-1])
    x.modulus = x._version, found
    return found


@of(aten.sgn)
def sgn(x: Any) -> Any:
    """x over its magnitude, 0 where x is 0."""
    known = x.modulus
    size = (
        known[1] if known is not None and known[0] == x._version else aten.linalg_vector_norm.default(x.pair, 2, [-1])
    )
    return joined(slope(x.pair, 2, size))


# --- sums and products of matrices -------------------------------------------------------


def _reduced(reduce: Any) -> Way:
    def way(x: Any, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Any:
        x = x if dtype is None or dtype == x.dtype else to_copy(x, dtype=dtype)
        return joined(reduce(x.pair, _axes(dim, x), keepdim)) if x.dim() else x.clone()

    return way


of(aten.sum)(_reduced(torch.sum))
of(aten.mean)(_reduced(torch.mean))


@of(aten.linalg_vector_norm)
def vector_norm(x: Any, ord: Any = 2, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Any:
    """Norms along dimensions, of magnitudes."""
    if dtype is not None or ord != 2 or not x.dim():
        dtype = None if dtype is None else dtype.to_real()
        return aten.linalg_vector_norm.default(abs(x), ord, dim, keepdim, dtype=dtype)
    out = aten.linalg_vector_norm.default(x.pair, 2, [*_axes(dim, x), x.dim()], keepdim)
    return out.squeeze(-1) if keepdim else out


@of(aten.cumsum)
def cumsum(x: Any, dim: int, *, dtype: Any = None) -> Any:
    """Sums so far.  No message."""
    return joined(x.pair.cumsum(axis(dim, x.dim()))) if x.dim() else x.clone()


def _times(a: Any, b: Any) -> Any:
    """A product of two matrices, or of two batches of them."""
    return (aten.mm if a.dim() == 2 else aten.bmm).default(a, b)


@of(aten.mm, aten.bmm)
def matmul(a: Any, b: Any) -> Any:
    """A product of matrices, or of batches of them, of which either may be real.

    Of two secrets one round; 16 bytes an element of each complex one and peer, as all four products are of one
    opening.
    """
    if is_complex(a) and is_complex(b):
        (ar, ai), (br, bi) = (x.unbind(-1) for x in (pair_of(a), pair_of(b)))
        re = _times(ar, br) - _times(ai, bi)
        im = _times(ar, bi) + _times(ai, br)
    else:
        first, second = (pair_of(x).unbind(-1) if is_complex(x) else (x, x) for x in (a, b))
        re, im = (_times(x, _cast(y, x)) for x, y in zip(first, second, strict=True))
    return _typed(torch.stack([re, im], -1), a, b)


def _cast(x: Any, beside: Any) -> Any:
    return x if x.dtype == beside.dtype else aten._to_copy.default(x, dtype=beside.dtype)


@of(aten.mv)
def mv(a: Any, b: Any) -> Any:
    """A matrix times a vector."""
    return matmul(a, b.unsqueeze(-1)).select(-1, 0)


@of(aten.dot)
def dot(a: Any, b: Any) -> Any:
    """The sum of products of two vectors."""
    return matmul(a.unsqueeze(0), b.unsqueeze(-1)).select(0, 0).select(0, 0)


@of(aten.vdot)
def vdot(a: Any, b: Any) -> Any:
    """`dot` with the conjugate of the first."""
    return dot(conj(a) if isinstance(a, ComplexTensor) else a.conj(), b)


@of(aten.addmm, aten.baddbmm)
def addmm(x: Any, a: Any, b: Any, *, beta: Any = 1, alpha: Any = 1) -> Any:
    """beta * x + alpha * a @ b."""
    return add(x if beta == 1 else x * beta, _times(a, b), alpha=alpha)


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
        pairs = [_cast(pair_of(x), torch.empty(0, dtype=dtype)) for x in tensors]
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
    """One public number everywhere."""
    return value if isinstance(value, torch.Tensor) else torch.tensor(value, dtype=x.dtype)


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
