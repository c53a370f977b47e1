"""Sums, products, powers, and scaling by public numbers."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import torch

from pysmpc.errors import EncodingError
from pysmpc.mpc.additive.affine_values import note_shifted
from pysmpc.mpc.functions.known_values import (
    distinct,
    elements,
    is_argument_of,
    known_of,
    note_finer,
    note_multiple,
    note_source,
    source_of,
    sum_of,
)
from pysmpc.ops import known as publicly
from pysmpc.ops.core import aten, finer, like, promoted, result, same_value, same_window, window
from pysmpc.ops.infinite import is_infinite, total
from pysmpc.ops.norm_parts import KEY, PowerNorm, has_part, note_part, part_of, unchecked
from pysmpc.ops.operands import Number, pair, sides
from pysmpc.ops.operands import number as number
from pysmpc.ops.operands import with_unit as with_unit
from pysmpc.ops.public_operands import COARSE, Public, factor
from pysmpc.ops.registering import implements, plain_target
from pysmpc.ops.scales import UPDATE, aligned, aligned_public, settles, times
from pysmpc.ops.writing import assign, deferred
from pysmpc.ring import told
from pysmpc.ring.fixedpoint import LIMIT
from pysmpc.ring.shares import MaskedBit, Share, broadcast
from pysmpc.session.session import Session
from pysmpc.tensor.secret import SecretTensor

#: Functions whose derivatives torch makes of the square of their argument.
SQUARED = ("atan", "asinh", "acosh", "atanh")


ADDED = 1 << 6  # how much finer than a secret is a small number that is added, for functions of the sum


def _shifted(session: Session, x: Share, word: int) -> Share:
    constant = session.arithmetic.public(session.party, torch.full(x.shape, word, dtype=torch.int64), x.scale)
    out: Share = session.arithmetic.add(session.party, x, constant)
    return out


def add_number(x: SecretTensor, value: Fraction) -> SecretTensor:
    """x + value, the number rounded at the scale of x.

    A small one as log(x + eps) has it loses digits by that: logarithms, roots and their inverses take it finer.
    """
    session = x.session
    scale = x.cell.scale
    share = x.window()
    found = sum_of(share, value)
    if found is not None:
        return like(x, found)
    if scale < x.unit.scale and value.denominator != 1:
        share = session.arithmetic.scale_by(session.party, share, x.unit.scale // scale).at(x.unit.scale)
        scale = x.unit.scale
    word = round(value * scale)
    if abs(word) >= LIMIT:
        raise EncodingError(f"{float(value):.4g} is out of range for a secret of scale {scale}")
    out = like(x, _shifted(session, share, word))
    if not session.suite.plaintext:
        note_shifted(out.window(), share, word)
    if scale == x.unit.scale and abs(word) < COARSE and word != value * scale:
        fine = session.arithmetic.scale_by(session.party, share, ADDED).at(scale * ADDED)
        note_finer(out.window(), _shifted(session, fine, round(value * scale * ADDED)))
    for name in ("exp", "abs", "square") if value == 1 else ("square",) if value == -1 else ():
        of = source_of(x.window(), name)
        if of is not None:
            note_source(out.window(), f"one and {name}" if value == 1 else "square less one", of)
    return out


def _sum(x: Any, y: Any, sign: int) -> SecretTensor:
    """x + sign * y where at least one is a secret."""
    session, dtype, secret, other, first = pair(x, y)
    arithmetic, party = session.arithmetic, session.party
    if not first and sign < 0:
        secret, sign = neg(secret), 1
    if isinstance(other, Number):
        return add_number(secret, other if sign > 0 else -other)
    if isinstance(other, Public):
        a, values = aligned_public(secret, other)
        b = arithmetic.public(party, values.expand(broadcast(a.shape, values.shape)).contiguous(), a.scale)
    else:
        a, b = aligned(session, secret, other)
    out = (arithmetic.add if sign > 0 else arithmetic.sub)(party, a, b)
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
    if is_infinite(x) or is_infinite(y):
        return total(add, x, y, alpha)
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
    out = like(x, x.session.arithmetic.neg(x.session.party, x.window()))
    square = source_of(x.window(), "square")
    if square is not None:
        note_source(out.window(), "minus square", square)
    return out


implements(aten.positive.default)(lambda x: x)


def _bit(x: SecretTensor) -> MaskedBit | None:
    """The bits behind a tensor of truth values, where they are at hand in order."""
    return x.cell.body.bit if x.cell.scale == 1 and x.window().dense else None


def _original(x: SecretTensor, factor: Fraction) -> tuple[SecretTensor, Fraction]:
    """What x is a public multiple of, and the factor that it then takes, where that needs no truncation.

    2 v / 64 is v / 32, whose integers are v's and what v was opened for serves it.
    """
    of = x.cell.body.multiple
    if of is None or x.cell.body.functions is not None or of[0].layout != x.window().layout:
        return x, factor
    whole, before = of
    source = like(x, whole.at(x.cell.scale))
    source.cell.finer = x.cell.finer
    return (x, factor) if settles(source, before * factor) else (source, before * factor)


def multiple(x: SecretTensor, factor: Fraction) -> SecretTensor:
    """factor * x, of which quotients know what they know of x; a multiple of a multiple is one of what that is of."""
    x, factor = _original(x, factor)
    share, factors = x.window(), _factors(x)
    if source_of(share, "inverse root") is not None:
        x = same_value(x, x.cell.scale)  # what settles it leaves the other as fine as it is
    out = publicly.multiple(x, factor) if x.session.plain and settles(x, factor) else times(x, factor)
    note_multiple(out.window(), share, factor)
    if factors is not None and out.cell.body is not share.body:
        _note_factors(out, times(factors[0], factor), factors[1])
    return out


def _with_public(x: SecretTensor, y: Public, dtype: torch.dtype) -> SecretTensor:
    constant = y.constant
    if constant is not None:
        shape = broadcast(x.shape, y.values.shape)
        return multiple(x if shape == tuple(x.shape) else x.expand(shape), constant)
    share = window(x)
    out = x.session.arithmetic.mul_public(x.session.party, share, y.values, y.scale)
    return result(out, x.session, finer(x.unit, y.unit), dtype)


def _factors(x: Any) -> tuple[SecretTensor, SecretTensor] | None:
    """(a, r) where x is known to be a r for an inverse root r: with another factor, a takes that first.

    r^3 is less than a step for r = 0.02, and so is a r, where what torch makes of them is not.
    """
    if not isinstance(x, SecretTensor):
        return None
    known = x.cell.body.functions
    if known is None or known.source is None or known.source[0] != "times inverse root":
        return None
    core, back = distinct(x.window())
    n = core.body.n
    if elements(core) not in (((n, 1), 0), (0,)):
        return None
    a, r, scale = known.source[2]
    first, second = (result(back(Share(f.body, core.shape, f.scale)), x.session, x.unit, x.dtype) for f in (a, r))
    return first if scale == x.cell.scale else times(first, Fraction(scale, x.cell.scale)), second


def _note_factors(out: SecretTensor, a: SecretTensor, r: SecretTensor) -> None:
    n = out.cell.body.n
    flat = [Share.of(core.words(), (core.numel,), core.scale) for core in (distinct(f.window())[0] for f in (a, r))]
    if distinct(out.window())[0].numel != n or any(f.numel != n for f in flat):
        return
    note_source(out.window(), "times inverse root", (*flat, out.cell.scale))


def _careful(x: Any, y: Any) -> SecretTensor | None:
    """x * y where one is the cube of an inverse root, or its multiple: derivatives of roots take this way."""
    for one, other in ((x, y), (y, x)):
        if not isinstance(one, SecretTensor) or not isinstance(other, SecretTensor):
            continue
        root, scale = source_of(one.window(), "cube of inverse root") or (None, 0)
        if root is not None and scale == one.cell.scale and tuple(other.shape) == root.shape:
            r = result(root, one.session, one.unit, one.dtype)
            part = mul(mul(other, r), r)
            part.cell.settle()
            out = mul(part, r)
            _note_factors(out, part, r)
            return out
        factors = _factors(one)
        if factors is not None:
            return mul(mul(factors[0], other), factors[1])
    return None


def _of_norm(x: Any, y: Any) -> SecretTensor | None:
    """x * y where one is a part of the derivative of a p-norm (`pysmpc.ops.norm_parts`)."""
    if not (has_part(x) or has_part(y)):
        return None
    for one, other in ((x, y), (y, x)):
        weight = part_of(one, "weight")
        if weight is not None:
            whole = weight.of.p > 2
            if whole and not _is_argument_of_norm(other, weight.rest):
                return None
            known_of(one.cell.body).kept.pop(KEY)
            with unchecked(one.session):
                return note_part(mul(other, one), "product", weight.of, None if whole else other)
        product, quotient = part_of(one, "product"), part_of(other, "quotient")
        if product is not None and quotient is not None and product.of is quotient.of:
            sign = aten.sign.default(quotient.of.argument) if product.rest is None else product.rest
            slope = mul(sign, quotient.of.sizes())
            return slope if quotient.rest is None else mul(slope, _reshaped(quotient.rest, other))
        if product is not None and product.of.p < 1:
            known_of(one.cell.body).kept.pop(KEY)
            with unchecked(one.session):
                return note_part(mul(one, other), "product", product.of, mul(product.rest, other))
        if product is None and quotient is not None and quotient.rest is not None:
            root, count = _root_of_power(quotient.of, other.shape)
            for _ in range(count):
                if isinstance(one, SecretTensor):
                    one.cell.settle()
                one = mul(one, root)
            return mul(one, _reshaped(quotient.rest, other))
    return None


def _is_argument_of_norm(x: Any, argument: Share) -> bool:
    """Whether x is what a norm was taken of: the same elements in the same order, no other view of them."""
    if not isinstance(x, SecretTensor) or x.window().body is not argument.body:
        return False
    own = x.window()
    one = own.numel == argument.numel == 1 and own.offset == argument.offset  # a scalar counts as a vector
    return one or own.layout == argument.layout


def _reshaped(rest: Any, other: SecretTensor) -> Any:
    """The dividend of what `other` may be another shape of."""
    return rest.reshape(other.shape) if isinstance(rest, torch.Tensor) else rest


def _root_of_power(of: PowerNorm, shape: Any) -> tuple[SecretTensor, int]:
    """(r, k) with r^k = norm^(1 - p) and r not much below norm^(-1/2): where the argument of a norm was made anew."""
    exponent = Fraction(of.p) - 1
    count = max(1, math.ceil(2 * exponent))
    norm = of.norm.reshape(shape)
    if 2 * exponent == count:
        return aten.rsqrt.default(norm), count
    return aten.exp.default(times(aten.log.default(norm), -exponent / count)), count


@implements(aten.mul.Tensor)
def mul(x: Any, y: Any) -> SecretTensor:
    """x * y; one round where an operand has not been opened under its mask."""
    careful = _careful(x, y)
    if careful is None:
        careful = _of_norm(x, y)
    if careful is not None:
        return careful
    session, dtype, x, y, _ = sides(x, y)
    if not isinstance(y, torch.Tensor):
        return multiple(with_unit(x, dtype), number(y))
    known = publicly.product(x, y, dtype) if session.plain else None
    if known is not None:
        return known
    plain, power = factor(y, session, x.unit)
    if plain is not None:
        out = _with_public(with_unit(x, dtype), plain, dtype)
        return out if power == 1 else times(out, power)
    assert isinstance(y, SecretTensor)  # what is not public
    unit = finer(x.unit, y.unit)
    for bits, other in ((x, y), (y, x)):
        bit = _bit(bits)
        if bit is not None and broadcast(bits.shape, other.shape) == tuple(bits.shape):
            return result(choose(bit, other.window().expand(bits.shape), other), session, unit, dtype)
    if same_window(x, y):
        out = result(session.arithmetic.square(session.party, window(x)), session, unit, dtype)
        if any(is_argument_of(x.window(), name) for name in SQUARED):
            note_source(out.window(), "square", x.window())
        return out
    return result(session.arithmetic.mul(session.party, window(x), window(y)), session, unit, dtype)


def choose(bit: MaskedBit, share: Share, other: SecretTensor) -> Share:
    """bit * share, elements of other, settled: one round for the product and the truncation."""
    session = other.session
    by = share.scale // other.unit.scale if share.scale > other.unit.scale else 1
    out: Share = session.arithmetic.select(session.party, bit, share, by)
    return out


@implements(aten.addcmul.default)
def addcmul(x: Any, a: Any, b: Any, *, value: Any = 1) -> SecretTensor:
    """x + value * a * b."""
    return add(x, a * b, alpha=value)


@implements(aten.lerp.Scalar)
def lerp(x: Any, end: Any, weight: Any) -> SecretTensor:
    """x + weight * (end - x)."""
    return add(x, times(sub(end, x), number(weight)))


def _taken_from_one(x: SecretTensor, y: Any) -> Share | None:
    """z where x is one everywhere and y is z^2 for a z of which `atanh` was taken: torch's derivative is made so."""
    known = x.cell.body.functions
    if not isinstance(y, SecretTensor) or known is None or known.kept.get("constant") != 1 or not x.whole:
        return None
    z: Share | None = source_of(y.window(), "square")
    return z if z is not None and is_argument_of(z, "atanh") else None


def _added_in_place(sign: int) -> Any:
    def handler(x: Any, y: Any, *, alpha: Any = 1) -> Any:
        if not isinstance(x, SecretTensor):
            raise plain_target("adding in place")
        one_less, _ = told.follow(lambda factor: (sign * factor == -1, ()), alpha)
        of = _taken_from_one(x, y) if one_less else None
        if of is not None or not isinstance(y, SecretTensor) or not deferred(x, y, alpha, sign):
            told.refuse("a public number changes by which something is added at once", alpha)
            assign(x, add(x, y, alpha=sign * told.now(alpha)))
        if of is not None:
            note_source(x.window(), "one less square", of)
        return x

    return handler


implements(aten.add_.Tensor)(_added_in_place(1))
implements(aten.sub_.Tensor)(_added_in_place(-1))
