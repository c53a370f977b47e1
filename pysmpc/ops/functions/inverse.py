"""atan, asin, acos, atan2, asinh, acosh, atanh, and their derivatives.

Source: a Fourier extension on each of several intervals of one opening (`pysmpc.mpc.functions.piecewise_polynomials`).
Bytes are those for 16 fractional bits: a finer argument has more intervals.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import torch

from pysmpc.mpc.functions import piecewise_fits as fits
from pysmpc.mpc.functions.angle import PI, angle
from pysmpc.mpc.functions.known_values import is_argument_of, note_argument, source_of
from pysmpc.mpc.functions.normaliser import natural_logarithm
from pysmpc.mpc.functions.piecewise_polynomials import Table, piecewise
from pysmpc.ops.arithmetic import add_number, mul, neg
from pysmpc.ops.core import aten, finer, float_unit, result
from pysmpc.ops.functions.argument import argument, made
from pysmpc.ops.operands import pair
from pysmpc.ops.public_operands import Public
from pysmpc.ops.registering import implements
from pysmpc.ops.scales import aligned, aligned_public
from pysmpc.ring.shares import broadcast
from pysmpc.tensor.secret import SecretTensor


def _applied(x: SecretTensor, name: str, table: Table, beyond: Fraction | None = None) -> SecretTensor:
    x = argument(x, name, finest=0)
    session, share = x.session, x.window()
    out = made(x, piecewise(session.suite, session.party, share, table, x.unit.scale, beyond=beyond))
    note_argument(share, name)
    return out


def inverse_root_of_square(y: SecretTensor) -> SecretTensor | None:
    """y^(-1/2) where y is known to be x^2 + 1 of an argument of `asinh`, or x^2 - 1 of one of `acosh`.

    x^2 leaves the range of numbers before x does.  Of x^2 + 1 it is the derivative of asinh, from its opening: two
    rounds; of x^2 - 1 the product of those of x - 1 and x + 1, in the rounds of `rsqrt` and of a product.
    """
    share, session = y.window(), y.session
    x = source_of(share, "one and square")
    if x is not None and is_argument_of(x, "asinh"):
        return made(y, piecewise(session.suite, session.party, x, fits.ASINH_DERIVATIVE, y.unit.scale))
    x = source_of(share, "square less one")
    if x is None or not is_argument_of(x, "acosh"):
        return None
    z = made(y, x)
    roots: Any = aten.rsqrt.default(torch.stack([add_number(z, Fraction(-1)), add_number(z, Fraction(1))]))
    return mul(roots[0], roots[1])


@implements(aten.atan.default)
def atan(x: SecretTensor) -> SecretTensor:
    """The angle whose tangent is x, everywhere, to 1.5 steps.

    Six rounds; 243 bytes an element and peer, 1074 dealt.  The derivative takes two rounds and a product.
    """
    return _applied(x, "atan", fits.ATAN)


@implements(aten.asin.default)
def asin(x: SecretTensor) -> SecretTensor:
    """The angle whose sine is x, to 1.5 steps; below -1 that of -1, above 1 that of 1.

    Six rounds; 243 bytes an element and peer, 914 dealt.  Up to 26 fractional bits.
    """
    return _applied(x, "asin", fits.ASIN)


@implements(aten.acos.default)
def acos(x: SecretTensor) -> SecretTensor:
    """pi / 2 - asin(x) to 2 steps, as `asin`."""
    return add_number(neg(_applied(x, "acos", fits.ASIN)), PI / 2)


@implements(aten.asinh.default)
def asinh(x: SecretTensor) -> SecretTensor:
    """log(x + sqrt(x^2 + 1)), everywhere, to 1.4 steps.

    Six rounds; 446 bytes an element and peer, 2266 dealt.
    """
    return _applied(x, "asinh", fits.ASINH)


@implements(aten.acosh.default)
def acosh(x: SecretTensor) -> SecretTensor:
    """log(x + sqrt(x^2 - 1)) for x from 1 on, to 1.4 steps; 0 for what is less.

    Six rounds; 344 bytes an element and peer, 2478 dealt.  Up to 26 fractional bits.
    """
    return _applied(x, "acosh", fits.ACOSH)


@implements(aten.atanh.default)
def atanh(x: SecretTensor) -> SecretTensor:
    """log((1 + x) / (1 - x)) / 2 to 1.4 steps; 1 and above counts as a step less than 1, and so for -1.

    Six rounds; 243 bytes an element and peer, 1170 dealt.  Up to 26 fractional bits.
    """
    scale = argument(x, "atanh").unit.scale
    return _applied(x, "atanh", fits.ATANH, beyond=natural_logarithm(2 * scale - 1) / 2)


@implements(aten.atan2.default)
def atan2(y: Any, x: Any) -> SecretTensor:
    """The angle of the point (x, y), in (-pi, pi], to 1.5 steps; 0 for (0, 0).

    Fifteen rounds; 353 bytes an element and peer, 1164 dealt (`pysmpc.mpc.functions.angle`).  |x| + |y| is
    below 2^62 steps.  `pysmpc.ops.composites.atan2` has the gradient.
    """
    session, dtype, secret, other, first = pair(y, x)
    if not dtype.is_floating_point:
        dtype = torch.get_default_dtype()
    if isinstance(other, SecretTensor):
        a, b = aligned(session, secret, other)
        unit = finer(secret.unit, other.unit)
    else:
        assert isinstance(other, Public)
        a, values = aligned_public(secret, other)
        b = session.suite.public(session.party, values.contiguous(), a.scale)
        unit = finer(secret.unit, other.unit)
        a, b = (a, b) if first else (b, a)
    shape = broadcast(a.shape, b.shape)
    unit = float_unit(unit, dtype)
    return result(
        angle(session.suite, session.party, a.expand(shape), b.expand(shape), unit.scale), session, unit, dtype
    )
