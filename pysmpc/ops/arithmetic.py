"""Sums, products, powers, and scaling by public numbers."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import torch

from pysmpc.errors import EncodingError
from pysmpc.fixedpoint import LIMIT
from pysmpc.ops.core import (
    UPDATE,
    Public,
    aligned,
    aligned_public,
    assign,
    aten,
    deferred,
    factor,
    finer,
    implements,
    like,
    plain_target,
    promoted,
    rescale,
    result,
    same_value,
    same_window,
    times,
    window,
)
from pysmpc.ops.operands import Number, operand, pair, sides
from pysmpc.ops.operands import number as number
from pysmpc.ops.operands import with_unit as with_unit
from pysmpc.protocols import division
from pysmpc.protocols.functions.smooth import finest, is_argument, note_source, source_of
from pysmpc.shares import Bit, Share, broadcast
from pysmpc.tensor import SecretTensor


def add_number(x: SecretTensor, value: Fraction) -> SecretTensor:
    """x + value, the number rounded at the scale of x."""
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


def _sum(x: Any, y: Any, sign: int) -> SecretTensor:
    """x + sign * y where at least one is a secret."""
    session, dtype, secret, other, first = pair(x, y)
    suite, party = session.suite, session.party
    if not first and sign < 0:
        secret, sign = neg(secret), 1
    if isinstance(other, Number):
        return add_number(secret, other if sign > 0 else -other)
    if isinstance(other, Public):
        a, values = aligned_public(secret, other)
        b = suite.public(party, values.expand(broadcast(a.shape, values.shape)).contiguous(), a.scale)
    else:
        a, b = aligned(session, secret, other)
    out = (suite.add if sign > 0 else suite.sub)(party, a, b)
    return result(out, session, finer(secret.unit, other.unit), dtype)


def _scaled_operand(y: Any, alpha: Any, x: Any) -> Any:
    """alpha * y, beside x."""
    if alpha == 1:
        return y
    if isinstance(alpha, float) and not promoted(x, y).is_floating_point:
        raise RuntimeError("for integral operands, argument alpha must not be a floating point number")
    if isinstance(y, SecretTensor):
        return times(y, number(alpha), UPDATE)
    return y * alpha


@implements(aten.add.Tensor)
def add(x: Any, y: Any, *, alpha: Any = 1) -> SecretTensor:
    """x + alpha * y."""
    return _sum(x, _scaled_operand(y, alpha, x), 1)


@implements(aten.sub.Tensor)
def sub(x: Any, y: Any, *, alpha: Any = 1) -> SecretTensor:
    """x - alpha * y."""
    return _sum(x, _scaled_operand(y, alpha, x), -1)


@implements(aten.rsub.Tensor)
def rsub(x: Any, y: Any, alpha: Any = 1) -> SecretTensor:
    """y - alpha * x."""
    return _sum(neg(_scaled_operand(x, alpha, y)), y, 1)


@implements(aten.neg.default)
def neg(x: Any) -> Any:
    """-x."""
    if not isinstance(x, SecretTensor):
        return -x
    out = like(x, x.session.suite.neg(x.session.party, x.window()))
    square = source_of(x.window(), "square")
    if square is not None:
        note_source(out.window(), "minus square", square)
    return out


implements(aten.positive.default)(lambda x: x)


def _bit(x: SecretTensor) -> Bit | None:
    """The bits behind a tensor of truth values, where they are at hand in order."""
    return x.cell.body.bit if x.cell.scale == 1 and x.window().dense else None


def _with_public(x: SecretTensor, y: Public, dtype: torch.dtype) -> SecretTensor:
    constant = y.constant
    if constant is not None:
        shape = broadcast(x.shape, y.values.shape)
        return times(x if shape == tuple(x.shape) else x.expand(shape), constant)
    share = window(x)
    out = x.session.suite.mul_public(x.session.party, share, y.values, y.scale)
    return result(out, x.session, finer(x.unit, y.unit), dtype)


@implements(aten.mul.Tensor)
def mul(x: Any, y: Any) -> SecretTensor:
    """x * y; one round where an operand has not been opened under its mask."""
    session, dtype, x, y, _ = sides(x, y)
    if not isinstance(y, torch.Tensor):
        return times(with_unit(x, dtype), number(y))
    operand, power = factor(y, session, x.unit)
    if operand is not None:
        out = _with_public(with_unit(x, dtype), operand, dtype)
        return out if power == 1 else times(out, power)
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


@implements(aten.div.Tensor)
def div(x: Any, y: Any) -> SecretTensor:
    """x / y: by a public number a change of scale; by a secret a reciprocal."""
    _, dtype, secret, _, first = sides(x, y)
    if not dtype.is_floating_point:
        dtype = torch.get_default_dtype()
    by = operand(y, secret) if first else y
    if isinstance(by, SecretTensor):
        return quotient(x, by, dtype)
    x = with_unit(secret, dtype)
    if isinstance(by, Number):
        return divided(x, by)
    if by.constant is not None:
        return divided(x.expand(broadcast(x.shape, y.shape)), by.constant)
    if isinstance(y, SecretTensor):
        inverse = by.scale / by.values.double()
    else:
        inverse = 1.0 / y.double()
    if bool((inverse.isinf()).any()):
        raise ZeroDivisionError("division of a secret by a public tensor that contains zero")
    return mul(x, inverse.to(torch.float64)).to(dtype)


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
        if not isinstance(x, torch.Tensor):
            x = torch.tensor(x, dtype=torch.float64)
        if not isinstance(x, SecretTensor) and x.numel() == 1 and bool(x == 1):
            return reciprocal(y).expand(broadcast(x.shape, y.shape))
        top = operand(x if isinstance(x, SecretTensor) else x.double(), y)
        assert isinstance(top, Public)
        plain = session.suite.public(session.party, top.values.contiguous(), top.scale)
        dividend = rescale(session, plain, unit.scale)
    shape = broadcast(x.shape, y.shape)
    divisor = rescale(session, window(y, 1), unit.scale)
    out = division.divide(session.suite, session.party, dividend.expand(shape), divisor.expand(shape), unit.scale)
    return result(out, session, unit, dtype)


def reciprocal(x: SecretTensor) -> SecretTensor:
    """1 / x for a secret x, to the nearest step, in 39 rounds; see pysmpc.protocols.division."""
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
    if n == 2 and is_argument(x.window()):
        note_source(out.window(), "square", finest(x.window()))
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
            raise plain_target("adding in place")
        if not isinstance(y, SecretTensor) or not deferred(x, y, number(sign * alpha)):
            assign(x, add(x, y, alpha=sign * alpha))
        return x

    return handler


implements(aten.add_.Tensor)(_added_in_place(1))
implements(aten.sub_.Tensor)(_added_in_place(-1))
