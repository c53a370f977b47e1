"""Division of secrets with a whole result, remainders, and shifts, by public numbers.

All of them are exact (`pysmpc.protocols.exact`).  Quotients and remainders take |x| < 2^62 steps, which is what can
be encrypted; for a divisor p / q in lowest terms, |x q| < 2^62 steps.  What arithmetic made larger gets a wrong
result, not an error, as nobody sees it.  Divisors that are out of range raise EncodingError.  Shifts take every
value of the ring.
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import torch

from pysmpc.errors import EncodingError
from pysmpc.fixedpoint import LIMIT
from pysmpc.ops.arithmetic import add, mul, neg, sub
from pysmpc.ops.core import Public, aten, implements, is_number, like, promoted
from pysmpc.ops.movement import clone, index_select
from pysmpc.ops.operands import Number, operand, with_unit
from pysmpc.protocols import exact
from pysmpc.shares import Share, broadcast
from pysmpc.tensor import SecretTensor


def _divisor(x: Any, y: Any) -> Fraction | torch.Tensor:
    """The public divisor: a number, exactly, or a tensor of integers, or of one real number, rounded to a step."""
    if not isinstance(x, SecretTensor) or (isinstance(y, SecretTensor) and not y.session.plain):
        raise NotImplementedError(
            "whole quotients, remainders and shifts by a secret are not implemented; x / y is, for real secrets"
        )
    other = operand(y, x)
    by: Fraction | torch.Tensor
    if isinstance(other, Public):
        constant = other.constant
        if constant is None and (other.scale != 1 or x.dtype.is_floating_point):
            raise NotImplementedError("a secret is divided by tensors of integers, or by a number, to a whole result")
        by = other.values if constant is None else constant
    else:
        assert isinstance(other, Number)
        by = other
    if bool(by == 0) if isinstance(by, Fraction) else bool((by == 0).any()):
        raise ZeroDivisionError("division of a secret by zero")
    return by


def _whole(x: SecretTensor, share: Share, dtype: torch.dtype) -> SecretTensor:
    """Integers as a tensor of dtype."""
    return with_unit(like(x, share.at(1), dtype), dtype)


def _floor(x: SecretTensor, by: Fraction | torch.Tensor, dtype: torch.dtype) -> SecretTensor:
    """floor(x / by), for |x q| < 2^62 steps, q the denominator of by."""
    suite, party = x.session.suite, x.session.party
    if isinstance(by, torch.Tensor):
        return _floor_each(x, by, dtype)
    share = x.window()
    p, q = by.numerator * share.scale, by.denominator
    common = math.gcd(p, q)
    p, q = p // common, q // common
    if abs(p) >= LIMIT // 2 or q >= 1 << 32:
        raise EncodingError(f"{float(by):.4g} is out of range for the divisor of a secret of scale {share.scale}")
    if q > 1:
        share = suite.scale_by(party, share, q)
    return _whole(x, exact.floor(suite, party, share, p), dtype)


def _floor_each(x: SecretTensor, by: torch.Tensor, dtype: torch.dtype) -> SecretTensor:
    """floor(x / by) elementwise: elements of one divisor together, all in five rounds."""
    suite, party = x.session.suite, x.session.party
    x.cell.settle()
    shape = broadcast(x.shape, by.shape)
    divisors = by.expand(shape).reshape(-1)
    x = mul(x.expand(shape), by.sign())
    sizes, inverse, counts = divisors.abs().unique(return_inverse=True, return_counts=True)
    order = inverse.argsort(stable=True)
    share = index_select(x.reshape(-1), 0, order).window()
    parts, at = [], 0
    for size, count in zip(sizes.tolist(), counts.tolist(), strict=True):
        parts.append((Share(share.body, (count,), 1, None, share.offset + at), size))
        at += count
    found = iter(exact.floor_all(suite, party, [part for part in parts if part[1] > 1]))
    words = torch.cat([(next(found) if size > 1 else part).words() for part, size in parts], 1)
    out = words[:, order.argsort()].contiguous()
    return like(x, Share.of(out, shape), dtype)


def _truncated(x: SecretTensor, by: Fraction | torch.Tensor, dtype: torch.dtype) -> SecretTensor:
    """x / by rounded toward zero, for what `_floor` takes: the sign of the magnitude's quotient put back."""
    sign = add(mul((x < 0).to(torch.int64), -2), 1)
    size = _floor(mul(x, sign), by.abs() if isinstance(by, torch.Tensor) else abs(by), dtype)
    signs = by.sign() if isinstance(by, torch.Tensor) else 1 if by > 0 else -1
    return mul(mul(sign, signs), size).to(dtype)


@implements(aten.floor_divide.default)
def floor_divide(x: Any, y: Any) -> SecretTensor:
    """floor(x / y) for a public y = p / q and |x q| < 2^62 steps; five rounds."""
    by = _divisor(x, y)
    return _floor(x, by, promoted(x, y))


@implements(aten.div.Tensor_mode)
def div_mode(x: Any, y: Any, *, rounding_mode: str | None = None) -> Any:
    """x / y with torch's rounding modes, for what `floor_divide` takes."""
    if rounding_mode is None:
        return x / y
    by = _divisor(x, y)
    return (_floor if rounding_mode == "floor" else _truncated)(x, by, promoted(x, y))


def _rest(x: SecretTensor, y: Any, quotient: Any) -> SecretTensor:
    by, dtype = _divisor(x, y), promoted(x, y)
    return sub(with_unit(x, dtype), mul(quotient(x, by, dtype), by))


@implements(aten.remainder.Tensor)
def remainder(x: Any, y: Any) -> SecretTensor:
    """x - y floor(x / y): of the sign of the divisor; for what `floor_divide` takes, five rounds."""
    return _rest(x, y, _floor)


@implements(aten.fmod.Tensor)
def fmod(x: Any, y: Any) -> SecretTensor:
    """x - y trunc(x / y): of the sign of x; for what `floor_divide` takes."""
    return _rest(x, y, _truncated)


@implements(aten.floor.default)
def floor(x: SecretTensor) -> SecretTensor:
    """The integer below, for |x| < 2^62 steps; five rounds."""
    return _floor(x, Fraction(1), x.dtype) if x.dtype.is_floating_point else clone(x)


@implements(aten.ceil.default)
def ceil(x: SecretTensor) -> SecretTensor:
    """The integer above, as `floor`."""
    return neg(floor(neg(x)))


@implements(aten.trunc.default)
def trunc(x: SecretTensor) -> SecretTensor:
    """The integer toward zero, as `floor`."""
    return _truncated(x, Fraction(1), x.dtype) if x.dtype.is_floating_point else clone(x)


@implements(aten.frac.default)
def frac(x: SecretTensor) -> SecretTensor:
    """x - trunc(x)."""
    return sub(x, trunc(x))


def _bits(x: Any, y: Any) -> int | torch.Tensor:
    """By how much to shift: a number, or a tensor of them."""
    if not isinstance(x, SecretTensor) or isinstance(y, SecretTensor):
        raise NotImplementedError("shifts by a secret number of bits are not implemented; those by a public one are")
    if x.dtype.is_floating_point or x.dtype == torch.bool or (isinstance(y, torch.Tensor) and y.is_floating_point()):
        raise RuntimeError(f"shifts are for integers, not for {x.dtype}")
    x.cell.settle()
    if is_number(y):
        return int(y)
    found: torch.Tensor = y.to(torch.int64)
    return int(found.reshape(-1)[0]) if found.numel() == 1 and found.dim() <= x.dim() else found


@implements(aten.__lshift__.Tensor, aten.bitwise_left_shift.Tensor)
def shift_left(x: Any, y: Any) -> SecretTensor:
    """x << y: what leaves the word is lost.  No message."""
    bits, dtype = _bits(x, y), promoted(x, y)
    if isinstance(bits, int):
        bits = torch.tensor(bits)
    width = 8 * dtype.itemsize
    inside = (bits >= 0) & (bits < width)
    powers = torch.where(inside, torch.ones_like(bits) << bits.clamp(0, 63), 0)
    share = x.session.suite.mul_public(x.session.party, x.window(), powers)
    return like(x, share, dtype)


@implements(aten.__rshift__.Tensor, aten.bitwise_right_shift.Tensor)
def shift_right(x: Any, y: Any) -> SecretTensor:
    """x >> y, which keeps the sign; nine rounds, eight for a y that differs between elements."""
    bits, dtype = _bits(x, y), promoted(x, y)
    suite, party, width = x.session.suite, x.session.party, 8 * dtype.itemsize
    if isinstance(bits, torch.Tensor):
        shape = broadcast(x.shape, bits.shape)
        bits = torch.where((bits >= 0) & (bits < width), bits, width - 1).expand(shape).contiguous()
        return like(x, suite.shift_right_each(party, x.window().expand(shape), bits), dtype)
    bits = bits if 0 <= bits < width else width - 1  # as torch does: only the sign is left
    return like(x, exact.shift_right(suite, party, x.window(), bits), dtype)
