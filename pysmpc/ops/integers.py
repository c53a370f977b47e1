"""Division of secrets with a whole result, remainders, and shifts.

All of them are exact: by public numbers (`pysmpc.mpc.additive.exact`), and quotients and remainders by secrets, too
(`pysmpc.mpc.derived.division.floor_divide`).  They take |x| < 2^62 steps, which is what can be encrypted; for a divisor
p / q in lowest terms, |x q| < 2^62 steps.  What arithmetic made larger gets a wrong result, not an error, as nobody
sees it.  Public divisors that are out of range raise EncodingError; a secret divisor of 0 gives 0, or -1 below a
negative number.  Shifts are by public numbers, and take every value of the ring.
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import torch

from pysmpc.errors import EncodingError
from pysmpc.mpc.additive import exact
from pysmpc.mpc.derived.division import floor_divide as floor_divide_shares
from pysmpc.ops.arithmetic import add, mul, neg, sub
from pysmpc.ops.core import aten, is_number, like, promoted
from pysmpc.ops.movement import clone, index_select, one_scale
from pysmpc.ops.operands import Number, operand, with_unit
from pysmpc.ops.public_operands import Public
from pysmpc.ops.registering import implements
from pysmpc.ring.fixedpoint import LIMIT
from pysmpc.ring.shares import Share, broadcast
from pysmpc.tensor.secret import SecretTensor

Divisor = Fraction | Public | SecretTensor


def _divisor(x: Any, y: Any) -> Divisor:
    """The divisor: a number, exactly, a public tensor, rounded to steps, or a secret, beside which x may be public."""
    if isinstance(y, SecretTensor) and not (y.session.plain and isinstance(x, SecretTensor)):
        return y
    other = operand(y, x)
    by = other.constant if isinstance(other, Public) else other
    if bool((other.values == 0).any()) if isinstance(other, Public) and by is None else by == 0:
        raise ZeroDivisionError("division of a secret by zero")
    assert isinstance(other, Public | Number)
    return other if by is None else by


def _whole(x: SecretTensor, share: Share, dtype: torch.dtype) -> SecretTensor:
    """Integers as a tensor of dtype."""
    return with_unit(like(x, share.at(1), dtype), dtype)


def _floor(x: Any, by: Divisor, dtype: torch.dtype) -> SecretTensor:
    """floor(x / by), for |x q| < 2^62 steps, q the denominator of by."""
    if isinstance(by, SecretTensor):
        return _floor_by_secret(x, by, dtype)
    if isinstance(by, Public):
        return _floor_each(x, by, dtype)
    suite, party = x.session.suite, x.session.party
    share = x.window()
    p, q = by.numerator * share.scale, by.denominator
    common = math.gcd(p, q)
    p, q = p // common, q // common
    if abs(p) >= LIMIT // 2 or q >= 1 << 32:
        raise EncodingError(f"{float(by):.4g} is out of range for the divisor of a secret of scale {share.scale}")
    if q > 1:
        share = suite.scale_by(party, share, q)
    return _whole(x, exact.floor(suite, party, share, p), dtype)


def _floor_by_secret(x: Any, by: SecretTensor, dtype: torch.dtype) -> SecretTensor:
    """floor(x / by) elementwise for a secret divisor: of the integers under a scale that both have, exactly."""
    given = [each if isinstance(each, torch.Tensor) else torch.tensor(each) for each in (x, by)]
    for each in given:
        if isinstance(each, SecretTensor):
            each.cell.settle()
    (x, y), _ = one_scale(given)
    session, shape = y.session, broadcast(x.shape, y.shape)
    found = floor_divide_shares(session.suite, session.party, x.window().expand(shape), y.window().expand(shape))
    return _whole(y, found, dtype)


def _floor_each(x: SecretTensor, by: Public, dtype: torch.dtype) -> SecretTensor:
    """floor(x / by) elementwise: elements of one divisor together, all in five rounds."""
    suite, party = x.session.suite, x.session.party
    x.cell.settle()
    shape = broadcast(x.shape, by.values.shape)
    given = x.cell.scale
    scale = math.lcm(given, by.scale)
    x = like(x, x.window().at(1), torch.int64)  # integers from here on
    more = scale // by.scale
    if int(by.values.abs().max() if by.values.numel() else 0) * more >= LIMIT:
        raise EncodingError(f"a divisor is out of range for a secret of scale {scale}; use fewer fractional bits")
    divisors = (by.values * more).expand(shape).reshape(-1)
    x = mul(x.expand(shape), by.values.sign() * (scale // given))
    sizes, inverse, counts = divisors.abs().unique(return_inverse=True, return_counts=True)
    order = inverse.argsort(stable=True)
    share = index_select(x.reshape(-1), 0, order).window()
    parts, at = [], 0
    for size, count in zip(sizes.tolist(), counts.tolist(), strict=True):
        parts.append((Share(share.body, (count,), 1, None, share.offset + at), size))
        at += count
    if not parts:
        return _whole(x, x.window(), dtype)
    longer = [part for part in parts if part[1] > 1]
    found = iter(exact.floor_all(suite, party, longer) if longer else [])
    words = torch.cat([(next(found) if size > 1 else part).words() for part, size in parts], 1)
    out = words[:, order.argsort()].contiguous()
    return _whole(x, Share.of(out, shape), dtype)


def _magnitude(x: Any) -> tuple[Any, Any]:
    """(sign, |x|) of a divisor or dividend."""
    if isinstance(x, Public):
        return x.values.sign(), Public(x.values.abs(), x.scale, x.unit)
    if isinstance(x, SecretTensor):
        sign = add(mul((x < 0).to(torch.int64), -2), 1)
        return sign, mul(x, sign)
    if isinstance(x, torch.Tensor):
        return torch.where(x < 0, -1, 1), x.abs()
    return (1 if x > 0 else -1), abs(x)


def _truncated(x: Any, by: Divisor, dtype: torch.dtype) -> Any:
    """x / by rounded toward zero, for what `_floor` takes: the sign of the magnitude's quotient put back."""
    sign, size = _magnitude(x)
    other, divisor = _magnitude(by)
    out: Any = mul(sign * other, _floor(size, divisor, dtype))
    return out.to(dtype)


@implements(aten.floor_divide.default)
def floor_divide(x: Any, y: Any) -> SecretTensor:
    """floor(x / y) for a public y = p / q and |x q| < 2^62 steps, five rounds; for a secret one, 50."""
    by = _divisor(x, y)
    return _floor(x, by, promoted(x, y))


@implements(aten.div.Tensor_mode)
def div_mode(x: Any, y: Any, *, rounding_mode: str | None = None) -> Any:
    """x / y with torch's rounding modes, for what `floor_divide` takes."""
    if rounding_mode is None:
        return x / y
    by = _divisor(x, y)
    return (_floor if rounding_mode == "floor" else _truncated)(x, by, promoted(x, y))


def _rest(x: Any, y: Any, quotient: Any) -> SecretTensor:
    by, dtype = _divisor(x, y), promoted(x, y)
    whole = with_unit(x, dtype) if isinstance(x, SecretTensor) else x
    part = mul(quotient(x, by, dtype), y if isinstance(by, Public) else by)
    return add(neg(part), whole)


@implements(aten.remainder.Tensor)
def remainder(x: Any, y: Any) -> SecretTensor:
    """x - y floor(x / y): of the sign of the divisor; for what `floor_divide` takes, and a product."""
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
