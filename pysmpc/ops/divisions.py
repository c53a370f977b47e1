"""Quotients, inverses and powers of secrets."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any, cast

import torch

from pysmpc.errors import RangeError
from pysmpc.mpc.derived import counts, division
from pysmpc.mpc.derived.range_checks import RING
from pysmpc.mpc.functions import piecewise_fits
from pysmpc.mpc.functions.known_values import (
    copied_from,
    distinct,
    finest,
    inverse_of,
    is_argument,
    is_argument_of,
    note_source,
    source_of,
)
from pysmpc.mpc.functions.normaliser import invert
from pysmpc.mpc.functions.piecewise_polynomials import piecewise
from pysmpc.ops.arithmetic import SQUARED, add, add_number, mul, multiple, neg
from pysmpc.ops.core import FACTOR, aten, finer, float_unit, rescale, result, same_value, window, within
from pysmpc.ops.norm_parts import note_part, part_of, unchecked
from pysmpc.ops.operands import Number, operand, sides
from pysmpc.ops.operands import number as number
from pysmpc.ops.operands import with_unit as with_unit
from pysmpc.ops.public_operands import Public, public
from pysmpc.ops.registering import implements, plain_target
from pysmpc.ops.scales import times
from pysmpc.ops.writing import assign
from pysmpc.ring.shares import Share, broadcast
from pysmpc.tensor.secret import SecretTensor


@implements(aten.div.Tensor)
def div(x: Any, y: Any) -> SecretTensor:
    """x / y: by a public number a change of scale; by a secret the exact quotient, in 35 rounds.

    Where y is known to be a square root (a norm, a standard deviation), the argument of a logarithm, or a public
    multiple of one, as in their derivatives, its inverse comes from what they opened: four rounds, to a step, 2^-17
    of the quotient and 2^-25 of x.  By 1 + |z| it takes eleven rounds, with the same errors; by 1 + e^z it is a
    product with the sigmoid of -z, by 1 + z^2 or 1 - z^2 of a z of which `atan` or `atanh`
    was taken one with that derivative.
    """
    _, dtype, secret, _, first = sides(x, y)
    if not dtype.is_floating_point:
        dtype = torch.get_default_dtype()
    by = operand(y, secret) if first else y
    if isinstance(by, SecretTensor):
        counted = by.cell.body.most is not None and by.cell.scale == 1 and by.window().dense
        if counted and by.session.suite.count_reciprocals is not None:
            return _shared_out(x, by, dtype)
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


def _shared_out(x: Any, y: SecretTensor, dtype: torch.dtype) -> SecretTensor:
    """x / y for y that are whole numbers from 1 to no more than was counted: two rounds, one for a public x.

    The result owes a division by 2^24, and is off by |x| 2^-25 and a step when that is done; |x| < 2^22 where its
    integers have 16 fractional bits (2^(38 - bits), if they have more or less).
    """
    session, suite, party = y.session, y.session.suite, y.session.party
    unit = float_unit(x.unit if isinstance(x, SecretTensor) else y.unit, dtype)
    share = Share(y.cell.body, y.shape, 1)
    most = y.cell.body.most
    assert suite.count_reciprocals is not None
    assert most is not None
    inverse = suite.count_reciprocals(party, share, most)
    known = public(x if isinstance(x, torch.Tensor) else torch.tensor(x, dtype=torch.float64), session, unit)
    if known is not None:
        if known.scale > known.unit.scale:
            known = known.shortened()  # beside a reciprocal there is no room for the digits of a product
        part = session.arithmetic.mul_public(party, inverse, known.values, known.scale)
    else:
        part = session.arithmetic.mul(party, window(with_unit(cast(SecretTensor, x), dtype), 1), inverse)
    return result(part.at(part.scale << counts.BITS), session, unit, dtype)


def quotient(x: Any, y: SecretTensor, dtype: torch.dtype) -> SecretTensor:
    """x / y for a secret y, to the nearest step; see pysmpc.mpc.derived.division."""
    session = y.session
    y = with_unit(y, dtype)
    of = source_of(y.window(), "one and exp")
    if of is not None:
        rest = aten.sigmoid.default(result(of, session, y.unit, y.dtype))
        return mul(x, add_number(neg(rest), Fraction(1))).to(dtype)
    part = part_of(y, "power")
    if part is not None:
        log = aten.log.default(part.of.norm).reshape(y.shape)
        inverse = aten.exp.default(times(log, 1 - Fraction(part.of.p)))
        with unchecked(session):
            out = mul(x, inverse).to(dtype)
            if isinstance(x, torch.Tensor) and x.shape != out.shape:
                x = x.expand(out.shape)
            return note_part(out, "quotient", part.of, x)
    slope = _slope_of_inverse(y)
    if slope is not None:
        return mul(x, slope).to(dtype)
    if source_of(y.window(), "one and abs") is not None and inverse_of(y.window()) is None:
        invert(session.suite, session.party, y.window(), y.unit.scale * FACTOR)
    found = known_inverse(y)
    if found is not None:
        inverse, factor = found
        out = _by_inverse(x, inverse).to(dtype)
        return out if factor == 1 else times(out, factor)
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
    within(x, y)
    shape = broadcast(x.shape, y.shape)
    divisor = rescale(session, window(y, 1), unit.scale)
    out = division.divide(session.suite, session.party, dividend.expand(shape), divisor.expand(shape), unit.scale)
    return result(out, session, unit, dtype)


def _by_inverse(x: Any, inverse: SecretTensor) -> SecretTensor:
    """x * inverse; a RangeError says what the divisor is, how large its quotients may be, and what to write."""
    try:
        return mul(x, inverse)
    except RangeError as error:
        scale = x.cell.scale if isinstance(x, SecretTensor) else inverse.unit.scale
        limit = math.log2(RING // (scale * inverse.cell.scale))
        raise RangeError(
            f"{error}; a quotient by the argument of a logarithm, a root or a norm, as in its derivative "
            f"(target / input in F.poisson_nll_loss with log_input=False), must be below 2^{limit:.0f}: keep that "
            "argument away from 0, as with input.clamp(min=2**-10)"
        ) from None


def _slope_of_inverse(y: SecretTensor) -> SecretTensor | None:
    """1 / y where y is known to be 1 + x^2 of an argument of `atan`, or 1 - x^2 of one of `atanh`.

    The first is from the opening of `atan`, in two rounds.  The second is (1 / (1 - x) + 1 / (1 + x)) / 2, in nine, as
    little is left of a 1 - x^2 that was rounded.
    """
    x, session = source_of(y.window(), "one and square"), y.session
    if x is not None and is_argument_of(x, "atan"):
        out = piecewise(session.suite, session.party, x, piecewise_fits.ATAN_DERIVATIVE, y.unit.scale)
        return result(out, session, y.unit, y.dtype)
    x = source_of(y.window(), "one less square")
    if x is None:
        return None
    z = result(x, session, y.unit, y.dtype)
    ends: Any = aten.stack.default([add_number(neg(z), Fraction(1)), add_number(z, Fraction(1))])
    inverses = aten.reciprocal.default(ends)
    return times(add(inverses[0], inverses[1]), Fraction(1, 2))


def known_inverse(y: SecretTensor) -> tuple[SecretTensor, Fraction] | None:
    """A secret z and a public number k with 1 / y = k z, where a function has opened what gives them."""
    core, back = distinct(copied_from(y.window()))
    found = inverse_of(core)
    if found is None:
        return None
    inverse, factor = found
    share = back(Share(inverse.at(y.session.party, y.unit.scale * FACTOR).body, core.shape, y.unit.scale * FACTOR))
    return result(share, y.session, y.unit, y.dtype), 1 / factor


def reciprocal(x: SecretTensor) -> SecretTensor:
    """1 / x for a secret x, to half a step: what `1 / x` is.  35 rounds; see pysmpc.mpc.derived.division."""
    dtype = x.dtype if x.dtype.is_floating_point else torch.get_default_dtype()
    x = with_unit(x, dtype)
    session, unit = x.session, x.unit
    share = rescale(session, window(x, 1), unit.scale)
    within(x)
    return result(division.reciprocal(session.suite, session.party, share, unit.scale), session, unit, dtype)


def divided(x: SecretTensor, by: Fraction) -> SecretTensor:
    """x / by for a public number."""
    if by == 0:
        raise ZeroDivisionError("division of a secret by zero")
    return multiple(x, 1 / by)


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
    half = x if n < 4 else pow_scalar(x, n // 2)
    out = mul(half, half)
    if n == 2 and is_argument(x.window()):
        exact = any(is_argument_of(x.window(), name) for name in SQUARED)
        note_source(out.window(), "square", x.window() if exact else finest(x.window()))
    if n == 3 and source_of(x.window(), "inverse root") is not None:
        root = x.window()
        out = mul(out, x)
        note_source(out.window(), "cube of inverse root", (root, out.cell.scale))
        return out
    return mul(out, x) if n % 2 else out


@implements(aten.div_.Tensor)
@implements(aten.div_.Scalar)
def div_(x: Any, y: Any) -> Any:
    """x / y in place: by a public number, but for parameters, which keep their scale, a change of scale."""
    if not isinstance(x, SecretTensor):
        raise plain_target("dividing in place")
    out = div(x, y)
    if x.whole and not x.requires_grad and out.cell.finer > 1 and out.dtype == x.dtype:
        x.cell.replace(out.cell.body, out.cell.scale)
        x.cell.finer = out.cell.finer
    else:
        assign(x, out)
    return x
