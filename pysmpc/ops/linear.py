"""Matrix products and sums."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import torch

from pysmpc.ops.arithmetic import add, mul, sub
from pysmpc.ops.core import aten, axis, dims, finer, in_range, kept, like, result, window
from pysmpc.ops.divisions import square
from pysmpc.ops.dropout import LIBRARY
from pysmpc.ops.operands import number, sides, with_unit
from pysmpc.ops.public_operands import factor
from pysmpc.ops.registering import implements
from pysmpc.ops.scales import times
from pysmpc.ring.shares import Share
from pysmpc.tensor.secret import SecretTensor

SHORT = (torch.float16, torch.bfloat16)


def check_same_dtype(x: Any, y: Any) -> None:
    """RuntimeError where one factor alone is of a short real dtype: torch multiplies no such matrices."""
    if x.dtype != y.dtype and (x.dtype in SHORT or y.dtype in SHORT):
        raise RuntimeError(
            f"factors must have the same dtype, and are of {x.dtype} and {y.dtype}; convert one with .to(), or compute "
            "under torch.autocast"
        )


def matrix_product(x: Any, y: Any) -> SecretTensor:
    """x @ y of matrices or batches of them, at least one secret."""
    check_same_dtype(x, y)
    if x.shape[-1] != y.shape[-2]:
        raise RuntimeError(f"shapes {tuple(x.shape)} and {tuple(y.shape)} cannot be multiplied")
    session, dtype, secret, other, left = sides(x, y)
    arithmetic, party = session.arithmetic, session.party
    secret = with_unit(secret, dtype)
    plain, power = factor(other, session, secret.unit)
    if plain is not None:
        share = arithmetic.matmul_public(party, window(secret), plain.values, plain.scale, left)
        product = result(share, session, finer(secret.unit, plain.unit), dtype)
        return product if power == 1 else times(product, power)
    out = arithmetic.matmul(party, window(x), window(y))
    return result(out, session, finer(x.unit, y.unit), dtype)


implements(aten.mm.default, aten.bmm.default)(matrix_product)


@implements(aten.mv.default)
def mv(x: Any, y: Any) -> SecretTensor:
    """Matrix times vector."""
    return matrix_product(x, y.unsqueeze(1)).squeeze(1)


@implements(aten.dot.default, aten.vdot.default)
def dot(x: Any, y: Any) -> SecretTensor:
    """Inner product of vectors."""
    return matrix_product(x.unsqueeze(0), y.unsqueeze(1)).view(())


@implements(aten.addmm.default, aten.baddbmm.default)
def addmm(bias: Any, x: Any, y: Any, *, beta: Any = 1, alpha: Any = 1) -> SecretTensor:
    """beta * bias + alpha * x @ y."""
    if not isinstance(x, SecretTensor) and not isinstance(y, SecretTensor):
        return add(bias * beta, torch.matmul(x, y) * alpha)
    out = matrix_product(x, y)
    if alpha != 1:
        out = times(out, number(alpha))
    if beta == 0:
        return out
    return add(out, bias if beta == 1 else bias * beta)


@implements(aten.addmv.default)
def addmv(bias: Any, x: Any, y: Any, *, beta: Any = 1, alpha: Any = 1) -> SecretTensor:
    """beta * bias + alpha * x @ y for a vector y."""
    if not isinstance(x, SecretTensor) and not isinstance(y, SecretTensor):
        return add(bias * beta, torch.mv(x, y) * alpha)
    out = mv(x, y) * alpha
    return out if beta == 0 else add(out, bias * beta)


def _summed(x: SecretTensor, dim: Any, keepdim: bool, dtype: torch.dtype) -> SecretTensor:
    axes = dims(dim, x.dim())
    share = x.window()
    words = share.window(share.body.words)

    def total(values: torch.Tensor) -> torch.Tensor:
        return values.sum(axes, keepdim=keepdim) if axes else values

    check = in_range(x, total, _count(x.shape, dim))
    out = words.sum([a + 1 for a in axes], keepdim=keepdim) if axes else words
    shape = out.shape[1:]
    out = out.contiguous().reshape(out.shape[0], shape.numel())
    return like(x, kept(x, Share.of(out, shape, share.scale), check), dtype)


def _sum_dtype(x: SecretTensor, dtype: torch.dtype | None) -> torch.dtype:
    if dtype is not None and x.dtype.is_floating_point and not dtype.is_floating_point:
        raise NotImplementedError(f"a sum of {x.dtype} as {dtype} is not implemented: rounding needs a protocol")
    return dtype or (x.dtype if x.dtype.is_floating_point else torch.int64)


@implements(aten.sum.default)
def sum_all(x: SecretTensor, *, dtype: torch.dtype | None = None) -> Any:
    """Sum of all elements."""
    return sum_dim(x, None, dtype=dtype)


@implements(aten.sum.dim_IntList)
def sum_dim(x: SecretTensor, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> SecretTensor:
    """Sum over dimensions."""
    wanted = _sum_dtype(x, dtype)
    out = _summed(with_unit(x, wanted), dim, keepdim, wanted)
    ties = x.cell.body.ties
    if ties is not None and x.cell.scale == 1 and x.window().dense:
        shape, along = ties
        if shape == tuple(x.shape) and set(along) <= set(dims(dim, x.dim())):
            out.cell.body.most = _count(x.shape, dim)
    return out


#: Elements from which a mean of squares is taken of fewer digits, so that their sum has room: in statistics, and in
#: what steps of training compute, where room for values as large as 181 is enough below.
MANY = 1 << 12
MANY_IN_A_STEP = 1 << 16


def sum_of_squares(x: SecretTensor, dim: Any = None, keepdim: bool = False, many: int = MANY) -> SecretTensor:
    """The sum of x * x over dimensions.

    From n = `many` elements on each is rounded to 2^-k first, 4^k <= n, which leaves the sum of n squares
    the room that it leaves to one, below 2^31 at 16 fractional bits.  What is lost is made up by their number:
    an element is rounded twice, independently, and without bias, and one multiplied with the other, so that the
    mean of the squares is off by less than a step times the root of that mean.  Rounds are those of the square
    of what owes a truncation; another one, else.  Twice the bytes of that.
    """
    n = _count(x.shape, dim)
    session, unit = x.session, x.unit
    less = _digits_to_spare(x, n) if n >= many else 0
    if not less:
        return sum_dim(square(x), dim, keepdim)
    scale = unit.scale >> less
    share, by = x.window(), x.cell.scale // scale
    one, other = (
        result(each.at(scale), session, unit, x.dtype)
        for each in session.arithmetic.truncate_all(session.party, [(share, by), (share, by)])
    )
    axes = dims(dim, x.dim())
    kept_axes = [a for a in range(x.dim()) if a not in axes]
    rows = [each.permute([*kept_axes, *axes]).reshape(-1, 1, n) for each in (one, other)]
    total = matrix_product(rows[0], rows[1].transpose(1, 2))
    shape = [1 if a in axes else size for a, size in enumerate(x.shape) if keepdim or a not in axes]
    return total.reshape(shape)


LIBRARY.define("sum_of_squares(Tensor x, int[] dim, bool keepdim) -> Tensor")
squares_summed: Any = torch.ops.pysmpc.sum_of_squares.default


@implements(squares_summed)
def _squares_summed(x: SecretTensor, dim: Any, keepdim: bool) -> SecretTensor:
    """`sum_of_squares` as an operation of its own: workers of other machines are sent those."""
    return sum_of_squares(x, dim, keepdim, MANY_IN_A_STEP)


def _digits_to_spare(x: SecretTensor, n: int) -> int:
    """Binary digits that each of n elements can do without; 0 where they are not rounded at random."""
    suite, unit = x.session.suite, x.unit.scale
    less = (n.bit_length() - 1) // 2
    while less and (unit % (1 << less) or x.cell.scale % (unit >> less)):
        less -= 1
    return 0 if suite.plaintext or suite.exact_rounding or not x.dtype.is_floating_point else less


def _count(shape: Sequence[int], dim: Any) -> int:
    n = 1
    for each in dims(dim, len(shape)):
        n *= shape[each]
    return n


def _floating(x: SecretTensor, dtype: torch.dtype | None, what: str) -> torch.dtype:
    wanted = dtype or x.dtype
    if not wanted.is_floating_point:
        raise RuntimeError(f"{what} of {wanted} is not defined; call .float() first")
    return wanted


@implements(aten.mean.dim)
def mean_dim(x: SecretTensor, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> SecretTensor:
    """Mean over dimensions; the division is a change of scale."""
    wanted = _floating(x, dtype, "mean")
    total = _summed(with_unit(x, wanted), dim, keepdim, wanted)
    n = _count(x.shape, dim)
    if n == 0:
        raise ZeroDivisionError("mean of no elements")
    return times(total, Fraction(1, n))


@implements(aten.mean.default)
def mean_all(x: SecretTensor, *, dtype: Any = None) -> SecretTensor:
    """Mean of all elements."""
    return mean_dim(x, None, dtype=dtype)


@implements(aten.var.correction)
def var(x: SecretTensor, dim: Any = None, *, correction: Any = None, keepdim: bool = False) -> SecretTensor:
    """Variance over dimensions."""
    _floating(x, None, "var")
    n, less = _count(x.shape, dim), 1 if correction is None else correction
    if n - less <= 0:
        raise ZeroDivisionError(f"the variance of {n} elements with correction {less} has no value")
    mean = mean_dim(x, dim, True)
    if n < MANY and x.cell.scale <= x.unit.scale:
        mean.cell.settle()  # what it is off, squared, is far below a step; finer differences have less room
    centred = sub(x, mean)
    if n < MANY:
        centred.cell.settle()
    return times(sum_of_squares(centred, dim, keepdim), 1 / number(n - less))


@implements(aten.cumsum.default)
def cumsum(x: SecretTensor, dim: int, *, dtype: torch.dtype | None = None) -> SecretTensor:
    """Running sums."""
    wanted = _sum_dtype(x, dtype)
    x = with_unit(x, wanted)
    share = x.window()
    words = share.window(share.body.words)
    along = axis(dim, x.dim())
    check = in_range(x, lambda values: values.cumsum(along) if x.dim() else values, x.shape[along] if x.dim() else 1)
    out = words.cumsum(along + 1) if x.dim() else words
    out = out.contiguous().reshape(out.shape[0], x.numel())
    return like(x, kept(x, Share.of(out, x.shape, share.scale), check))


REDUCTIONS = {0: lambda x: x, 1: lambda x: x.mean(), 2: lambda x: x.sum()}


@implements(aten.mse_loss.default)
def mse_loss(x: Any, target: Any, reduction: int = 1) -> SecretTensor:
    """Squared error."""
    gap = sub(x, target)
    if reduction == 0:
        return square(gap)
    total = sum_of_squares(gap, many=MANY_IN_A_STEP)
    return total if reduction == 2 else times(total, Fraction(1, gap.numel()))


@implements(aten.mse_loss_backward.default)
def mse_loss_backward(grad: Any, x: Any, target: Any, reduction: int) -> SecretTensor:
    """2 (x - target) grad, over the number of elements for a mean."""
    slope = times(sub(x, target), Fraction(2, x.numel() if reduction == 1 else 1))
    return mul(slope, grad)
