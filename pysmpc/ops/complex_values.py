"""Complex secrets: what torch asks of them, made of operations on the real secret of their parts.

A part is an element [..., 0] (real) or [..., 1] (imaginary) of `torch.view_as_real(x)`.  Where public complex
numbers meet real secrets the result is complex, too.  An operation that is not here raises, and says what to write.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import torch

from pysmpc.ops.core import aten, axis, dims
from pysmpc.ops.norms import slope
from pysmpc.tensor.complex_tensor import COMPLEX, INSTEAD, PARTS, ComplexTensor
from pysmpc.tensor.secret import SecretTensor
from pysmpc.tensor.secret_errors import not_implemented

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
        x = cast(x, torch.empty(0, dtype=torch.get_default_dtype()))
    return torch.stack([x, torch.zeros(x.shape, dtype=x.dtype)], -1)


def _last(x: Any) -> Any:
    """A real operand beside pairs."""
    return x.unsqueeze(-1) if isinstance(x, torch.Tensor) else x


def _typed(pair: Any, *operands: Any) -> Any:
    """The complex secret of a pair, in the dtype that torch gives the result of these operands."""
    dtype = functools.reduce(torch.promote_types, [torch.result_type(operands[0], y) for y in operands])
    return joined(cast(pair, torch.empty(0, dtype=dtype.to_real())))


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
        return add(x, y * alpha if not isinstance(y, SecretTensor) else mul(y, alpha))
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
        x = x if dtype is None or dtype == x.dtype else COMPLEX[aten._to_copy](x, dtype=dtype)
        return joined(reduce(x.pair, _axes(dim, x), keepdim)) if x.dim() else x.clone()

    return way


of(aten.sum)(_reduced(torch.sum))
of(aten.mean)(_reduced(torch.mean))


@of(aten.linalg_vector_norm)
def vector_norm(x: Any, ord: Any = 2, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Any:
    """Norms along dimensions, of magnitudes."""
    if ord in (float("inf"), float("-inf")):  # of whose gradient torch asks which magnitude it is, rounded anew
        raise not_implemented(aten.linalg_vector_norm.default, f"write x.abs().am{'ax' if ord > 0 else 'in'}(dim)")
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
        re, im = (_times(x, cast(y, x)) for x, y in zip(first, second, strict=True))
    return _typed(torch.stack([re, im], -1), a, b)


def cast(x: Any, beside: Any) -> Any:
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
