"""Sums, products, powers, and scaling by public numbers."""

from __future__ import annotations

from fractions import Fraction
from functools import lru_cache
from typing import Any

import torch

from pysmpc.errors import EncodingError
from pysmpc.fixedpoint import BINARY16, LIMIT
from pysmpc.ops.core import (
    UPDATE,
    Public,
    aligned,
    aligned_public,
    aten,
    deferred,
    finer,
    float_unit,
    implements,
    in_place,
    is_number,
    like,
    promoted,
    public,
    rescale,
    result,
    same_value,
    same_window,
    session_of,
    times,
    window,
    write,
)
from pysmpc.protocols import counts, division
from pysmpc.shares import Bit, Share, broadcast
from pysmpc.tensor import Cell, SecretTensor


def number(value: Any) -> Fraction:
    """A Python number, exactly; NaN and infinity raise."""
    return value if isinstance(value, Fraction) else _number(value)


@lru_cache(maxsize=4096)
def _number(value: Any) -> Fraction:
    if isinstance(value, complex):
        raise EncodingError("complex numbers cannot meet secrets")
    try:
        return Fraction(value)
    except (ValueError, OverflowError):
        raise EncodingError(f"{value} cannot be encoded") from None


def with_unit(x: SecretTensor, dtype: torch.dtype) -> SecretTensor:
    """x as a tensor of dtype: an integer secret becomes fixed point where needed."""
    unit = float_unit(x.unit, dtype)
    if unit is x.unit and dtype == x.dtype:
        return x
    cell = Cell(x.cell.body, x.cell.scale, unit, x.session)
    return SecretTensor(cell, x.size(), x.stride(), x.storage_offset(), dtype)


def add_number(x: SecretTensor, value: Fraction, dtype: torch.dtype) -> SecretTensor:
    """x + value, the number rounded at the scale of x."""
    x = with_unit(x, dtype)
    session = x.session
    scale = x.cell.scale
    share = x.window()
    if scale < x.unit.scale and value.denominator != 1:
        share = session.suite.scale_by(session.party, share, x.unit.scale // scale).at(x.unit.scale)
        scale = x.unit.scale
    word = round(value * scale)
    if abs(word) >= LIMIT:
        raise EncodingError(f"{float(value):.4g} is out of range for a secret of scale {scale}")
    constant = session.suite.public(session.party, torch.full(x.shape, word, dtype=torch.int64), scale)
    return like(x, session.suite.add(session.party, share, constant))


def _public_or_number(y: Any, session: Any, unit: Any) -> Public | Fraction | None:
    if is_number(y):
        return number(y)
    operand = public(y, session, unit)
    return operand


def _sum(x: Any, y: Any, sign: int) -> SecretTensor:
    """x + sign * y where at least one is a secret."""
    session = session_of(x, y)
    suite, party = session.suite, session.party
    dtype = promoted(x, y)
    if not isinstance(x, SecretTensor) or x.session is not session:
        return _sum(y if sign > 0 else neg(y), x, 1)
    operand = _public_or_number(y, session, x.unit)
    if isinstance(operand, Fraction):
        return add_number(x, sign * operand, dtype)
    if operand is None:
        assert isinstance(y, SecretTensor)
        a, b = aligned(session, x, y)
        out = (suite.add if sign > 0 else suite.sub)(party, a, b)
        return result(out, session, finer(x.unit, y.unit), dtype)
    x = with_unit(x, dtype)
    a, values = aligned_public(x, operand)
    shape = broadcast(a.shape, values.shape)
    constant = suite.public(party, values.expand(shape).contiguous(), a.scale)
    out = (suite.add if sign > 0 else suite.sub)(party, a, constant)
    return result(out, session, finer(x.unit, operand.unit), dtype)


def _scaled_operand(y: Any, alpha: Any) -> Any:
    if alpha == 1:
        return y
    if isinstance(y, SecretTensor):
        return times(y, number(alpha), UPDATE)
    return y * alpha


@implements(aten.add.Tensor)
def add(x: Any, y: Any, *, alpha: Any = 1) -> SecretTensor:
    """x + alpha * y."""
    return _sum(x, _scaled_operand(y, alpha), 1)


@implements(aten.sub.Tensor)
def sub(x: Any, y: Any, *, alpha: Any = 1) -> SecretTensor:
    """x - alpha * y."""
    return _sum(x, _scaled_operand(y, alpha), -1)


@implements(aten.rsub.Scalar, aten.rsub.Tensor)
def rsub(x: Any, y: Any, alpha: Any = 1) -> SecretTensor:
    """y - alpha * x."""
    return _sum(neg(_scaled_operand(x, alpha)), y, 1)


implements(aten.add.Scalar)(lambda x, y, alpha=1: add(x, y * alpha))
implements(aten.sub.Scalar)(lambda x, y, alpha=1: sub(x, y * alpha))


@implements(aten.neg.default)
def neg(x: Any) -> Any:
    """-x."""
    if not isinstance(x, SecretTensor):
        return -x
    return like(x, x.session.suite.neg(x.session.party, x.window()))


implements(aten.positive.default)(lambda x: x)


def _bit(x: SecretTensor) -> Bit | None:
    """The bits behind a tensor of truth values, where they are at hand in order."""
    return x.cell.body.bit if x.cell.scale == 1 and x.window().dense else None


def _with_public(x: SecretTensor, y: Public, dtype: torch.dtype) -> SecretTensor:
    constant = y.constant
    if constant is not None:
        shape = broadcast(x.shape, y.values.shape)
        wide = x if shape == tuple(x.shape) else x.expand(shape)
        return times(with_unit(wide, dtype), constant)
    x = with_unit(x, dtype)
    share = window(x)
    out = x.session.suite.mul_public(x.session.party, share, y.values, y.scale)
    return result(out, x.session, finer(x.unit, y.unit), dtype)


@implements(aten.mul.Tensor, aten.mul.Scalar)
def mul(x: Any, y: Any) -> SecretTensor:
    """x * y; one round where an operand has not been opened under its mask."""
    session = session_of(x, y)
    dtype = promoted(x, y)
    if not isinstance(x, SecretTensor) or x.session is not session:
        x, y = y, x
    operand = _public_or_number(y, session, x.unit)
    if isinstance(operand, Fraction):
        return times(with_unit(x, dtype), operand)
    if operand is not None:
        return _with_public(x, operand, dtype)
    unit = finer(x.unit, y.unit)
    for bits, other in ((x, y), (y, x)):
        bit = _bit(bits)
        if bit is not None and broadcast(bits.shape, other.shape) == tuple(bits.shape):
            return result(choose(bit, other.window().expand(bits.shape), other), session, unit, dtype)
    if same_window(x, y):
        return result(session.suite.square(session.party, window(x)), session, unit, dtype)
    return result(session.suite.mul(session.party, window(x), window(y)), session, unit, dtype)


def choose(bit: Bit, share: Share, other: SecretTensor) -> Share:
    """bit * share, elements of other, settled: one round for the product and the truncation."""
    session = other.session
    by = share.scale // other.unit.scale if share.scale > other.unit.scale else 1
    out: Share = session.suite.select(session.party, bit, share, by)
    return out


@implements(aten.div.Tensor, aten.div.Scalar)
def div(x: Any, y: Any) -> SecretTensor:
    """x / y: by a public number a change of scale; by a secret a reciprocal."""
    session = session_of(x, y)
    dtype = promoted(x, y)
    if not dtype.is_floating_point:
        dtype = torch.get_default_dtype()
    if is_number(y):
        return divided(with_unit(x, dtype), number(y))
    operand = public(y, session, x.unit if isinstance(x, SecretTensor) else BINARY16)
    if operand is None:
        counted = y.cell.body.most is not None and y.cell.scale == 1 and y.window().dense
        if counted and session.suite.count_reciprocals is not None:
            return _shared_out(x, y, dtype)
        return quotient(x, y, dtype)
    constant = operand.constant
    shape = broadcast(x.shape, y.shape)
    if constant is not None:
        return divided(with_unit(x.expand(shape), dtype), constant)
    if isinstance(y, SecretTensor):
        inverse = operand.scale / operand.values.double()
    else:
        inverse = 1.0 / y.double()
    if bool((inverse.isinf()).any()):
        raise ZeroDivisionError("division of a secret by a public tensor that contains zero")
    return mul(with_unit(x, dtype), inverse.to(torch.float64)).to(dtype)


def _shared_out(x: Any, y: SecretTensor, dtype: torch.dtype) -> SecretTensor:
    """x / y for y that are whole numbers from 1 to no more than was counted: two rounds, one for a public x.

    The result owes a division by 2^24, and is off by |x| 2^-25 and a step when that is done; |x| < 2^22 where its
    integers have 16 fractional bits (2^(38 - bits), if they have more or less).
    """
    session, suite, party = y.session, y.session.suite, y.session.party
    unit = float_unit(x.unit if isinstance(x, SecretTensor) else y.unit, dtype)
    share = Share(y.cell.body, y.shape, 1)
    assert suite.count_reciprocals is not None
    inverse = suite.count_reciprocals(party, share, y.cell.body.most)
    known = public(x if isinstance(x, torch.Tensor) else torch.tensor(x, dtype=torch.float64), session, unit)
    if known is not None:
        part = suite.mul_public(party, inverse, known.values, known.scale)
    else:
        part = suite.mul(party, window(with_unit(x, dtype), 1), inverse)
    return result(part.at(part.scale << counts.BITS), session, unit, dtype)


def quotient(x: Any, y: SecretTensor, dtype: torch.dtype) -> SecretTensor:
    """x / y for a secret y, to the nearest step; see pysmpc.protocols.division."""
    session = y.session
    y = with_unit(y, dtype)
    unit = y.unit
    if isinstance(x, SecretTensor) and x.session is session:
        x = with_unit(x, dtype)
        unit = finer(x.unit, unit)
        dividend = rescale(session, window(x, 1), unit.scale)
    else:
        if is_number(x):
            x = torch.tensor(x, dtype=torch.float64)
        operand = public(x.double() if not isinstance(x, SecretTensor) else x, session, unit)
        assert operand is not None
        plain = session.suite.public(session.party, operand.values.contiguous(), operand.scale)
        dividend = rescale(session, plain, unit.scale)
    shape = broadcast(x.shape, y.shape)
    divisor = rescale(session, window(y, 1), unit.scale)
    out = division.divide(session.suite, session.party, dividend.expand(shape), divisor.expand(shape), unit.scale)
    return result(out, session, unit, dtype)


@implements(aten.reciprocal.default)
def reciprocal(x: SecretTensor) -> SecretTensor:
    """1 / x for a secret x; see pysmpc.protocols.division."""
    dtype = x.dtype if x.dtype.is_floating_point else torch.get_default_dtype()
    x = with_unit(x, dtype)
    session, unit = x.session, x.unit
    share = rescale(session, window(x, 1), unit.scale)
    return result(division.reciprocal(session.suite, session.party, share, unit.scale), session, unit, dtype)


def divided(x: SecretTensor, by: Fraction) -> SecretTensor:
    """x / by for a public number."""
    if by == 0:
        raise ZeroDivisionError("division of a secret by zero")
    return times(x, 1 / by)


@implements(aten.square.default)
def square(x: SecretTensor) -> SecretTensor:
    """x * x."""
    return mul(x, x)


@implements(aten.pow.Tensor_Scalar)
def pow_scalar(x: SecretTensor, exponent: Any) -> Any:
    """x ** n for a public integer n, by repeated squaring."""
    power = number(exponent)
    if power.denominator != 1:
        raise NotImplementedError(f"a secret to the power {exponent} is not implemented; integer powers are")
    n = int(power)
    if n < 0:
        return pow_scalar(reciprocal(x), -n)
    if n == 0:
        return torch.ones_like(x)
    if n == 1:
        return same_value(x, x.cell.scale)
    half = pow_scalar(x, n // 2)
    out = mul(half, half)
    return mul(out, x) if n % 2 else out


@implements(aten.addcmul.default)
def addcmul(x: Any, a: Any, b: Any, *, value: Any = 1) -> SecretTensor:
    """x + value * a * b."""
    return add(x, a * b, alpha=value)


@implements(aten.lerp.Scalar)
def lerp(x: Any, end: Any, weight: Any) -> SecretTensor:
    """x + weight * (end - x)."""
    return add(x, times(sub(end, x), number(weight)))


def _added_in_place(sign: int) -> Any:
    def handler(x: Any, y: Any, *, alpha: Any = 1) -> Any:
        if not isinstance(x, SecretTensor):
            raise TypeError("a secret cannot be added to a plain tensor in place; use the out-of-place form")
        if not isinstance(y, SecretTensor) or not deferred(x, y, number(sign * alpha)):
            write(x, add(x, y, alpha=sign * alpha))
        return x

    return handler


implements(aten.add_.Tensor)(_added_in_place(1))
implements(aten.sub_.Tensor)(_added_in_place(-1))

for _overload, _functional in (
    (aten.add_.Scalar, add),
    (aten.sub_.Scalar, sub),
    (aten.mul_.Tensor, mul),
    (aten.mul_.Scalar, mul),
    (aten.div_.Tensor, div),
    (aten.div_.Scalar, div),
    (aten.neg_.default, neg),
    (aten.pow_.Scalar, pow_scalar),
    (aten.addcmul_.default, addcmul),
    (aten.lerp_.Scalar, lerp),
):
    in_place(_overload, _functional)
