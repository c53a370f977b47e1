"""Powers and logarithms, and powers with real exponents.

Source: powers of e from the digits of one opening, logarithms of a secret brought to [1, 4)
(`pysmpc.mpc.functions.exponent` and `normaliser`).  Bounds are for results with 16 fractional bits.
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import torch

from pysmpc.errors import EncodingError
from pysmpc.mpc.functions.characters import BITS
from pysmpc.mpc.functions.exponent import has_room, is_near, power
from pysmpc.mpc.functions.known_values import finest, note_source, note_sum, source_of
from pysmpc.mpc.functions.normaliser import inverse_root, logarithm, reciprocal_fast, reciprocal_has_room, root
from pysmpc.mpc.functions.normaliser import natural_logarithm as exact_log
from pysmpc.ops.arithmetic import add_number, mul, number
from pysmpc.ops.bounds import of_kind
from pysmpc.ops.core import FACTOR, aten, like, rescale
from pysmpc.ops.decompositions import composes
from pysmpc.ops.divisions import pow_scalar
from pysmpc.ops.functions.argument import argument, made
from pysmpc.ops.functions.inverse import inverse_root_of_square
from pysmpc.ops.functions.sigmoidal import bell
from pysmpc.ops.norm_parts import norm_of, note_part, part_of, unchecked
from pysmpc.ops.registering import implements
from pysmpc.ops.scales import times
from pysmpc.ring.shares import Share
from pysmpc.tensor.secret import SecretTensor

FINE = 30  # bits of a logarithm that is multiplied by a number before it is used
FACTOR_BITS = 20  # the same, by a tensor


def _power(x: SecretTensor, stretch: Fraction = Fraction(1)) -> SecretTensor:
    session = x.session
    if not has_room(x.cell.scale, stretch):
        x.cell.settle()
    share = finest(x.window())
    if not has_room(share.scale, stretch):
        share = x.window()
    near = is_near(x.cell.bound, share.scale, stretch)
    return made(x, power(session.suite, session.party, share, x.unit.scale, stretch, near))


@implements(aten.exp.default)
def exp(x: SecretTensor) -> SecretTensor:
    """e^x for x below 18, and e^18 from there on: to 1.7 steps, and 2^-16 of the result.

    Five rounds; 24.5 bytes an element and peer, 229 dealt.
    """
    found = bell(x)  # of a square, which need not be in range
    if found is not None:
        return found
    x = argument(x, "exp")
    out = _power(x)
    note_source(out.window(), "exp", x.window())
    return out


@implements(aten.exp2.default)
def exp2(x: SecretTensor) -> SecretTensor:
    """2^x, as `exp` of x log 2."""
    return _power(argument(x, "exp2"), exact_log(2))


@implements(aten.expm1.default)
def expm1(x: SecretTensor) -> SecretTensor:
    """e^x - 1, as `exp`; the error is absolute."""
    x = argument(x, "expm1")
    return add_number(_power(x), Fraction(-1))


def _stepped(x: SecretTensor) -> Share:
    """x as finely as it was opened, integers in the steps of real numbers: what is less than one step counts as one."""
    share = finest(x.window())
    return rescale(x.session, share, x.unit.scale) if share.scale < x.unit.scale else share


def _limit(x: SecretTensor, scale: int) -> int | None:
    """What integers of x at a scale do not exceed, where that is publicly known."""
    bound = x.cell.bound
    return None if bound is None else math.ceil(bound * scale)


def _logarithm(x: SecretTensor, scale: int, over: Fraction = Fraction(1)) -> SecretTensor:
    """log x / over at a scale."""
    session = x.session
    share = _stepped(x)
    slope = x.unit.scale * FACTOR
    fine = logarithm(session.suite, session.party, share, slope=slope, limit=_limit(x, share.scale))
    out = session.arithmetic.truncate(session.party, fine, round((1 << BITS) * over / scale))
    return made(x, Share(out.body, x.shape, scale, out.strides, out.offset))


def _fine(x: SecretTensor, bits: int = FINE) -> SecretTensor:
    """log x with bits to spare."""
    scale = x.unit.scale * (1 << max(0, bits + 1 - x.unit.scale.bit_length()))
    return _logarithm(x, scale)


def _factor(x: SecretTensor) -> SecretTensor:
    """log x with as many bits as leave room for products with a secret or a tensor, below 2^26."""
    return _fine(x, min(FACTOR_BITS, x.unit.scale.bit_length() - 1 + FACTOR.bit_length() - 1))


@implements(aten.log.default)
def log(x: SecretTensor) -> SecretTensor:
    """The natural logarithm of x of one step or more, to 1.1 steps; what is less, 0 and below, counts as one step.

    Seven rounds; 172 bytes an element and peer, 798 dealt.
    """
    x = argument(x, "log")
    return _logarithm(x, x.unit.scale)


@implements(aten.log2.default)
def log2(x: SecretTensor) -> SecretTensor:
    """The logarithm to base 2, as `log`."""
    x = argument(x, "log2")
    return _logarithm(x, x.unit.scale, exact_log(2))


@implements(aten.log10.default)
def log10(x: SecretTensor) -> SecretTensor:
    """The logarithm to base 10, as `log`."""
    x = argument(x, "log10")
    return _logarithm(x, x.unit.scale, exact_log(10))


@implements(aten.log1p.default)
def log1p(x: SecretTensor) -> SecretTensor:
    """log(1 + x), as `log`: the error is absolute."""
    x = argument(x, "log1p")
    more = add_number(x, Fraction(1))
    more.cell.bound = None if x.cell.bound is None else of_kind(x.cell.bound + 1, x.cell.bound)
    note_sum(x.window(), Fraction(1), more.window())
    return log(more)


def _of(x: SecretTensor, name: str, protocol: Any, finer: int = 1) -> SecretTensor:
    x = argument(x, name)
    session, share = x.session, _stepped(x)
    limit = _limit(x, share.scale)
    return made(x, protocol(session.suite, session.party, share, x.unit.scale * finer, limit=limit))


@implements(aten.sqrt.default)
def sqrt(x: SecretTensor) -> SecretTensor:
    """The square root of x of one step or more, to 1.1 steps and 2^-21 of it; 0 of what is less.

    Nine rounds; 196 bytes an element and peer, 819 dealt.
    """
    return _of(x, "sqrt", root)


@implements(aten.rsqrt.default)
def rsqrt(x: SecretTensor) -> SecretTensor:
    """x^(-1/2) to 2^-16 of it, and 2^-8 of a step where it is multiplied before it is settled; else as `sqrt`."""
    known = inverse_root_of_square(x)
    if known is not None:
        return known
    out = _of(x, "rsqrt", inverse_root, FACTOR)
    note_source(out.window(), "inverse root", out.window())
    return out


@implements(aten.reciprocal.default)
def reciprocal(x: SecretTensor) -> SecretTensor:
    """1 / x to 1.1 steps and 2^-19 of it; 0 for 0.  Eight rounds; 201 bytes an element and peer, 927 dealt.

    With 17 to 20 fractional bits, to 2^-17 of it.  `/` is exact, in 35 rounds.
    """
    x = argument(x, "reciprocal")
    scale = x.unit.scale
    if not reciprocal_has_room(x.cell.scale, scale):
        x.cell.settle()
    share = x.window()
    limit = _limit(x, share.scale)
    return made(x, reciprocal_fast(x.session.suite, x.session.party, share, scale, limit))


def _refuse_integers(dtype: torch.dtype, what: str) -> None:
    if not dtype.is_floating_point:
        raise NotImplementedError(f"an integer to a {what} is not implemented; write x.float() for its real value")


@implements(aten.pow.Tensor_Scalar)
def power_of_secret(x: SecretTensor, exponent: Any) -> Any:
    """x ** p: for integers p by repeated squaring, for others of x > 0.

    sqrt and rsqrt for 1/2 and -1/2; e^(p log x) elsewhere, to 1.7 steps and (1 + |p|) 2^-16 of it; x of less than
    one step counts as one step.
    """
    p = number(exponent)
    part = part_of(x, "norm")
    if part is not None and float(exponent) == part.of.p - 1:
        with unchecked(x.session):
            return note_part(_power_of_secret(x, exponent, p), "power", part.of)
    if part is not None and part.of.p < 1 and float(exponent) == 1 - part.of.p:
        with unchecked(x.session):
            return note_part(_power_of_secret(x, exponent, p), "quotient", part.of)
    argument_of_norm = source_of(x.window(), "abs")
    of = None if argument_of_norm is None else norm_of(argument_of_norm)
    if of is not None and float(exponent) == of.p - (2 if of.p > 2 else 1):
        with unchecked(x.session):
            out = _power_of_secret(x, exponent, p)
            if out.cell.body is x.cell.body:
                out = like(x, x.session.suite.scale_by(x.session.party, x.window(), 1))
            return note_part(out, "weight", of, argument_of_norm)
    return _power_of_secret(x, exponent, p)


def _power_of_secret(x: SecretTensor, exponent: Any, p: Fraction) -> Any:
    if p.denominator == 1 and p >= 0:
        return pow_scalar(x, exponent)
    if p.denominator == 1:
        _refuse_integers(x.dtype, "negative power")
        return pow_scalar(reciprocal(x), -exponent)
    if p in (Fraction(1, 2), Fraction(-1, 2)):
        return sqrt(x) if p > 0 else rsqrt(x)
    return exp(times(_fine(argument(x, "pow")), p))


@implements(aten.pow.Scalar)
def power_of_number(base: Any, x: SecretTensor) -> SecretTensor:
    """base ** x for a positive number, as `exp` of x log base."""
    b = number(base)
    if b <= 0:
        raise EncodingError(f"{base} to a secret power is not a real number everywhere; the base has to be positive")
    _refuse_integers(torch.result_type(base, x), "secret integer power")
    x = argument(x, "pow")
    if b == 1:
        return torch.ones_like(x)  # type: ignore[return-value]
    log_b = exact_log(b.numerator) - exact_log(b.denominator)
    if log_b < 0:
        return _power(-x, -log_b)
    return _power(x, log_b)


@implements(aten.pow.Tensor_Tensor)
def power_of_tensors(x: Any, y: Any) -> SecretTensor:
    """x ** y elementwise, x > 0: e^(y log x) to 1.7 steps and (1 + |y| / 8) 2^-16 of it, for |y log x| below 2^26.

    x of less than one step counts as one step.
    """
    dtype = torch.result_type(x, y)
    _refuse_integers(dtype, "power of several integers")
    if not isinstance(x, SecretTensor):
        if not bool((x > 0).all()):
            raise EncodingError("a public base of a secret power has to be positive")
        exponent = mul(y, _public_logarithm(x) * PUBLIC_FINER)
        return exp(times(exponent, Fraction(1, PUBLIC_FINER))).to(dtype)
    fine = _factor(argument(x, "pow"))
    return exp(mul(fine, y if isinstance(y, SecretTensor) else y.double())).to(dtype)


PUBLIC_FINER = 16  # how much finer than its encoding the logarithm of a public base is taken
LOG_2, ROOT_HALF = 0.6931471805599453, 0.7071067811865476
TERMS = 11  # of the series of atanh, up to 0.172


def _public_logarithm(x: torch.Tensor) -> torch.Tensor:
    """log x in float64, the same on every machine: single operations that IEEE 754 rounds, and none of libm's."""
    mantissa, power = torch.frexp(x.double())
    t = (mantissa - ROOT_HALF) / (mantissa + ROOT_HALF)
    square, total = t * t, torch.zeros_like(t)
    for k in reversed(range(TERMS)):
        total = total * square
        total = total + 1 / (2 * k + 1)
    total = total * t
    return (power.double() - 0.5) * LOG_2 + 2 * total


@composes(aten.logaddexp.default)
def logaddexp(x: Any, y: Any) -> Any:
    """log(e^x + e^y) = y + softplus(x - y) to 1.3 steps, for every x and y.  Five rounds."""
    return y + aten.softplus.default(x - y)


@composes(aten.logit.default)
def logit(x: SecretTensor, eps: float | None = None) -> Any:
    """log(x / (1 - x)) = log x - log(1 - x), for x in (0, 1), to two steps.  Fourteen rounds."""
    inner: Any = x if eps is None else x.clamp(eps, 1 - eps)
    return torch.log(inner) - torch.log(1 - inner)


@composes(aten.logit_backward.default)
def logit_backward(grad: Any, x: SecretTensor, eps: float | None = None) -> Any:
    """grad / (x (1 - x)); 0 where x was moved to eps or 1 - eps."""
    slope = grad * (torch.reciprocal(x) + torch.reciprocal(1 - x))
    return slope if eps is None else slope * ((x >= eps) & (x <= 1 - eps)).to(x.dtype)


@composes(aten.xlogy.Tensor)
def xlogy(x: Any, y: Any) -> Any:
    """x log y, and 0 where x is 0, for y of one step or more.  Rounds of `log` and a product."""
    if isinstance(y, SecretTensor):
        return x * _factor(argument(y, "xlogy"))
    if not bool((y > 0).all()):
        raise EncodingError("xlogy of a public y that is not positive may be infinite or NaN; mask those elements")
    return x * _public_logarithm(y)


@composes(aten.special_xlog1py.default)
def xlog1py(x: Any, y: Any) -> Any:
    """x log(1 + y), as `xlogy`: for y above -1."""
    return xlogy(x, y + 1)


@composes(aten.special_entr.default)
def entr(x: SecretTensor) -> Any:
    """-x log x, and 0 for 0, for x of one step or more: to a step and 2^-18 of x.  Rounds of `log` and a product.

    A negative x, for which torch has minus infinity, gives -x times the logarithm of a step.
    """
    x = argument(x, "entr")
    return -(x * _factor(x))


@composes(aten.sinh.default)
def sinh(x: SecretTensor) -> Any:
    """(e^x - e^-x) / 2, as `exp`: for |x| below 18, to a step and 2^-16 of the result.  Ten rounds."""
    return (torch.exp(x) - torch.exp(-x)) * 0.5


@composes(aten.cosh.default)
def cosh(x: SecretTensor) -> Any:
    """(e^x + e^-x) / 2, as `sinh`."""
    return (torch.exp(x) + torch.exp(-x)) * 0.5
