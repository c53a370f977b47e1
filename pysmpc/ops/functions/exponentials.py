"""Powers and logarithms, and powers with real exponents.

Source: powers of e from the digits of one opening, logarithms of a secret brought to [1, 4)
(`pysmpc.protocols.functions.exponent` and `normaliser`).  Bounds are for results with 16 fractional bits.
"""

from __future__ import annotations

from fractions import Fraction
from functools import lru_cache
from typing import Any

import torch

from pysmpc.errors import EncodingError
from pysmpc.ops.arithmetic import add_number, mul, number, pow_scalar
from pysmpc.ops.core import FACTOR, aten, implements, times
from pysmpc.ops.decompositions import composes
from pysmpc.ops.functions.argument import argument, made
from pysmpc.ops.functions.sigmoidal import bell
from pysmpc.protocols.functions.characters import BITS
from pysmpc.protocols.functions.exponent import power
from pysmpc.protocols.functions.normaliser import inverse_root, logarithm, reciprocal_fast, root
from pysmpc.protocols.functions.normaliser import natural_logarithm as exact_log
from pysmpc.protocols.functions.smooth import finest, note_source, note_sum
from pysmpc.shares import Share
from pysmpc.tensor import SecretTensor

FINE = 30  # bits of a logarithm that is multiplied before it is used


def _power(x: SecretTensor, stretch: Fraction = Fraction(1)) -> SecretTensor:
    session = x.session
    return made(x, power(session.suite, session.party, finest(x.window()), x.unit.scale, stretch))


@implements(aten.exp.default)
def exp(x: SecretTensor) -> SecretTensor:
    """e^x for x below 18, and e^18 from there on: to 1.7 steps, and 2^-16 of the result.

    Five rounds; 24.5 bytes an element and peer, 229 dealt.
    """
    x = argument(x, "exp")
    found = bell(x)
    if found is not None:
        return found
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


def _logarithm(x: SecretTensor, scale: int) -> SecretTensor:
    """log x at a scale."""
    session = x.session
    fine = logarithm(session.suite, session.party, finest(x.window()), slope=x.unit.scale * FACTOR)
    out = session.suite.truncate(session.party, fine, round(Fraction(1 << BITS) / scale))
    return made(x, Share(out.body, x.shape, scale, out.strides, out.offset))


def _fine(x: SecretTensor) -> SecretTensor:
    """log x with bits to spare."""
    scale = x.unit.scale * (1 << max(0, FINE + 1 - x.unit.scale.bit_length()))
    return _logarithm(x, scale)


@implements(aten.log.default)
def log(x: SecretTensor) -> SecretTensor:
    """The natural logarithm of x of one step or more, to one step; what is less, 0 and below, counts as one step.

    Seven rounds; 164 bytes an element and peer, about 770 dealt.
    """
    x = argument(x, "log")
    return _logarithm(x, x.unit.scale)


@lru_cache(maxsize=4)
def _over_log(base: int) -> Fraction:
    return 1 / exact_log(base)


@implements(aten.log2.default)
def log2(x: SecretTensor) -> SecretTensor:
    """The logarithm to base 2, as `log`."""
    return times(_fine(argument(x, "log2")), _over_log(2))


@implements(aten.log10.default)
def log10(x: SecretTensor) -> SecretTensor:
    """The logarithm to base 10, as `log`."""
    return times(_fine(argument(x, "log10")), _over_log(10))


@implements(aten.log1p.default)
def log1p(x: SecretTensor) -> SecretTensor:
    """log(1 + x), as `log`: the error is absolute."""
    x = argument(x, "log1p")
    more = add_number(x, Fraction(1))
    note_sum(x.window(), Fraction(1), more.window())
    return log(more)


def _of(x: SecretTensor, name: str, protocol: Any, finer: int = 1) -> SecretTensor:
    x = argument(x, name)
    session = x.session
    return made(x, protocol(session.suite, session.party, finest(x.window()), x.unit.scale * finer))


@implements(aten.sqrt.default)
def sqrt(x: SecretTensor) -> SecretTensor:
    """The square root of x of one step or more, to a step and 2^-16 of it; 0 of what is less.

    Nine rounds; 196 bytes an element and peer, about 820 dealt.
    """
    return _of(x, "sqrt", root)


@implements(aten.rsqrt.default)
def rsqrt(x: SecretTensor) -> SecretTensor:
    """x^(-1/2) to 2^-16 of it, and 2^-8 of a step where it is multiplied before it is settled; else as `sqrt`."""
    out = _of(x, "rsqrt", inverse_root, FACTOR)
    note_source(out.window(), "inverse root", out.window())
    return out


@implements(aten.reciprocal.default)
def reciprocal(x: SecretTensor) -> SecretTensor:
    """1 / x to a step and 2^-16 of it; 0 for 0.  Nine rounds; 200 bytes an element and peer, about 880 dealt.

    `/` is exact, in 39 rounds.
    """
    return _of(x, "reciprocal", reciprocal_fast)


@implements(aten.pow.Tensor_Scalar)
def power_of_secret(x: SecretTensor, exponent: Any) -> Any:
    """x ** p: for integers p by repeated squaring, for others of x > 0.

    sqrt and rsqrt for 1/2 and -1/2; e^(p log x) elsewhere, to a step and |p| 2^-16 of it; x of less than
    one step counts as one step.
    """
    p = number(exponent)
    if p.denominator == 1 and p >= 0:
        return pow_scalar(x, exponent)
    if p.denominator == 1:
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
    x = argument(x, "pow")
    if b == 1:
        return torch.ones_like(x)  # type: ignore[return-value]
    log_b = exact_log(b.numerator) - exact_log(b.denominator)
    if log_b < 0:
        return _power(-x, -log_b)
    return _power(x, log_b)


@implements(aten.pow.Tensor_Tensor)
def power_of_tensors(x: Any, y: Any) -> SecretTensor:
    """x ** y elementwise, x > 0: e^(y log x); x of less than one step counts as one step."""
    if not isinstance(x, SecretTensor):
        if bool((x <= 0).any()):
            raise EncodingError("a public base of a secret power has to be positive")
        return exp(mul(y, torch.log(x.double())))
    fine = _fine(argument(x, "pow"))
    if not isinstance(y, SecretTensor):
        return exp(mul(fine, y.double()))
    return exp(mul(fine, y))


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
        return x * _fine(argument(y, "xlogy"))
    if not bool((y > 0).all()):
        raise EncodingError("xlogy of a public y that is not positive may be infinite or NaN; mask those elements")
    return x * torch.log(y)


@composes(aten.sinh.default)
def sinh(x: SecretTensor) -> Any:
    """(e^x - e^-x) / 2, as `exp`: for |x| below 18, to a step and 2^-16 of the result.  Ten rounds."""
    return (torch.exp(x) - torch.exp(-x)) * 0.5


@composes(aten.cosh.default)
def cosh(x: SecretTensor) -> Any:
    """(e^x + e^-x) / 2, as `sinh`."""
    return (torch.exp(x) + torch.exp(-x)) * 0.5
