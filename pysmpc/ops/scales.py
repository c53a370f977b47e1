"""Scales of secrets: multiplying by a public number, and bringing two operands to one scale.

Scales.  A cell's nominal resolution is its `unit`; its scale may be a multiple of that
after products and divisions.  Operations take fine scales as they are where a bound
allows it, because each truncation avoided is a round and eight bytes an element:
    FACTOR  how much finer than its unit an operand of a product may be,
    ALIGN   bits of scale up to which sums are aligned without truncating.
A value of magnitude below 2**(62 - bits of scale) is represented exactly, so results
below 2**22 never overflow; settled values and products of settled values have more.
"""

from __future__ import annotations

import math
from fractions import Fraction
from functools import lru_cache

import torch

from pysmpc.errors import EncodingError
from pysmpc.ops.core import FACTOR, like, rescale, same_value
from pysmpc.ops.public_operands import SIGNIFICANT, Public
from pysmpc.ring.fixedpoint import LIMIT, Precision, rational
from pysmpc.ring.shares import Share
from pysmpc.session.session import Session
from pysmpc.tensor.secret import SecretTensor
from pysmpc.tensor.storage import whole_multiple

ALIGN = 40
UPDATE = 48  # bits, for the scaled gradient of an optimizer's update
RATE_DIGITS = 14
SHORT = 40  # of the largest power of two by which updates are divided with a jump of 40 bits (src/c/truncate.inc.h)


def times(x: SecretTensor, factor: Fraction, bits: int = ALIGN) -> SecretTensor:
    """factor * x for a public factor: a change of scale where that is enough.

    bits: of scale and factor together; what is left of 62 is room for |x|.
    """
    if factor == 0 or (factor.denominator == 1 != factor and not x.dtype.is_floating_point):
        return like(x, x.session.arithmetic.scale_by(x.session.party, x.window(), int(factor)))  # integers stay exact
    cell = x.cell
    settle, p, q = plan(cell.scale, cell.unit, factor, bits)
    if settle:
        cell.settle()
    if p == 0:
        return _shrunk(x, factor)
    scale, unit = int(cell.scale * q), cell.unit.scale
    up = whole_multiple(scale, unit)  # of truth values, which become finer than others
    if up > 1 and scale * up % unit == 0:
        p, q = p * up, q * up
    out = same_value(x, int(cell.scale * q))
    if p != 1:
        share = out.window()
        out = like(out, x.session.arithmetic.scale_by(x.session.party, share, p).at(share.scale))
        if share.dense:
            out.cell.body.multiple = share, p
    if q > 2 * p > 0:
        out.cell.finer = min(FACTOR, 1 << int(q // p).bit_length() - 1)
    return out


def settles(x: SecretTensor, factor: Fraction) -> bool:
    """Whether `times` would first divide out what x is finer than its encoding."""
    scaled = factor != 0 and (factor.denominator != 1 or factor == 1 or x.dtype.is_floating_point)
    return scaled and plan(x.cell.scale, x.cell.unit, factor, ALIGN)[0]


@lru_cache(maxsize=4096)
def plan(scale: int, unit: Precision, factor: Fraction, bits: int) -> tuple[bool, int, int | Fraction]:
    """(settle first, p, q): multiply the integers by p and the scale by q, factor ~ p / q; p = 0: see `_shrunk`."""
    needed = 11 if bits == UPDATE else 20  # significant bits of an inexact factor
    if factor.denominator > 1 and abs(factor - round(factor)) * 2**52 < abs(factor):
        factor = Fraction(round(factor))  # the inverse of a float such as 1e-8
    for settle in (False, True):
        held = min(scale, unit.scale) if settle else scale
        room = bits + 1 - held.bit_length()
        if (short := _by_scale(held, factor)) is not None:
            return settle, *short
        whole = factor.denominator == 1 and abs(factor.numerator).bit_length() <= SIGNIFICANT
        if not whole and abs(factor.numerator).bit_length() > room and room < needed and not settle:
            if (coarser := _cancelled(held, unit, factor, bits)) is not None:
                return coarser
            continue
        digits = max(min(room, SIGNIFICANT), needed)
        near = factor if whole else rational(float(factor), unit.base, digits)
        if abs(factor.numerator).bit_length() <= room and factor.denominator.bit_length() <= SIGNIFICANT:
            near = factor
        p, q = near.numerator, near.denominator
        if bits == UPDATE and near is not factor and unit.base == 2:
            p, q = _steady(factor, held // unit.scale, digits)
        if held * q < LIMIT >> 2 and held * abs(p) < LIMIT:
            return settle, p, q
        if (coarser := _cancelled(held, unit, factor, bits)) is not None:
            return coarser
    if abs(factor) < 1 and _shrinking(held, unit, factor) is not None:
        return True, 0, 1
    raise EncodingError(
        f"the factor {float(factor):.3g} is out of range for a secret whose integers have scale {scale}; "
        "rescale the data or use fewer fractional bits"
    )


def _steady(factor: Fraction, excess: int, digits: int) -> tuple[int, int]:
    """(p, q) near a rate, where q follows from its power of two alone, so that rates of the same size are alike.

    excess: what an update is divided by beside q.  p has all digits, or as many, down to 14, as let the update be
    divided by 2^40, of which less is dealt.
    """
    power = digits - math.frexp(float(factor))[1]
    over = power + excess.bit_length() - 1 - SHORT
    power -= max(0, min(over, digits - RATE_DIGITS))
    return (round(factor * (1 << power)), 1 << power) if power >= 0 else (round(factor), 1)


def _cancelled(held: int, unit: Precision, factor: Fraction, bits: int) -> tuple[bool, int, Fraction] | None:
    """A plan that divides the scale by what a factor has in common with its excess over the nominal one."""
    short = factor.denominator.bit_length() <= SIGNIFICANT  # what is left of others would be a scale without room
    common = math.gcd(held // unit.scale, factor.numerator) if short and held % unit.scale == 0 else 1
    if common == 1:
        return None
    settle, p, q = plan(held // common, unit, factor / common, bits)
    return None if settle else (False, p, Fraction(q, common))


def _by_scale(held: int, factor: Fraction) -> tuple[int, int] | None:
    """(p, q) of a tiny factor that the scale takes up: 1 / q is as near to it as its significant bits."""
    if abs(factor) >= Fraction(1, 1 << SIGNIFICANT - 1):
        return None
    q = round(1 / abs(factor))
    return (1 if factor > 0 else -1, q) if held * q < LIMIT >> 2 else None


def _shrinking(held: int, unit: Precision, factor: Fraction) -> tuple[int, int] | None:
    """(divisor, scale after) of a factor so tiny that no scale takes it up: a truncation to the finest there is."""
    scale = unit.scale << LIMIT.bit_length() - 4 - unit.scale.bit_length()
    while round(held / (abs(factor) * scale)) < 1 << SIGNIFICANT:
        scale //= 2
    by = round(held / (abs(factor) * scale))
    return (by, scale) if by < LIMIT >> 1 else None


def _shrunk(x: SecretTensor, factor: Fraction) -> SecretTensor:
    """factor * x for a factor so small that most of x's digits are lost: one truncation."""
    found = _shrinking(x.cell.scale, x.unit, factor)
    assert found is not None
    by, scale = found
    out = x.session.arithmetic.truncate(x.session.party, x.window(), by).at(scale)
    return like(x, out if factor > 0 else x.session.arithmetic.neg(x.session.party, out).at(scale))


def aligned(session: Session, x: SecretTensor, y: SecretTensor) -> tuple[Share, Share]:
    """Two secrets of a session at one scale."""
    a, b = x.cell, y.cell
    if a.scale != b.scale:
        scale = math.lcm(a.scale, b.scale)
        if scale.bit_length() > ALIGN:
            a.settle()
            b.settle()
            scale = math.lcm(a.scale, b.scale)
            if scale.bit_length() > ALIGN:
                scale = max(a.scale, b.scale)
        return rescale(session, x.window(), scale), rescale(session, y.window(), scale)
    return x.window(), y.window()


def aligned_public(x: SecretTensor, values: Public) -> tuple[Share, torch.Tensor]:
    """A secret and a public operand at one scale."""
    if values.scale == x.cell.scale:
        return x.window(), values.values
    scale = math.lcm(x.cell.scale, values.scale)
    if scale.bit_length() > ALIGN:
        x.cell.settle()
        scale = math.lcm(x.cell.scale, values.scale)
    return rescale(x.session, x.window(), scale), values.values * (scale // values.scale)
