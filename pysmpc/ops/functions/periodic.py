"""sin, cos and tan: the wrap of the ring is their period."""

from __future__ import annotations

import math
from fractions import Fraction

from pysmpc.mpc.functions.characters import BITS, Fit, evaluate
from pysmpc.mpc.functions.known_values import distinct
from pysmpc.mpc.functions.normaliser import reciprocal_fast, reciprocal_has_room
from pysmpc.mpc.functions.smooth import opened, smooth
from pysmpc.ops.core import aten
from pysmpc.ops.functions.argument import argument, made
from pysmpc.ops.registering import implements, in_place
from pysmpc.ring.shares import Share
from pysmpc.tensor.secret import SecretTensor

COSINE_BITS = 25
SINE = 8  # by how much a sine is finer than the tangent


def _wave(name: str, cosine: float, sine: float) -> Fit:
    turn = 2 * math.pi
    return Fit(name, -turn, turn, turn, 0.0, 0.0, (cosine,), (sine,), 0.0, 0.0, 2**-24)


SIN, COS = _wave("sin", 0.0, 1.0), _wave("cos", 1.0, 0.0)


def _applied(x: SecretTensor, fit: Fit) -> SecretTensor:
    x = argument(x, fit.name, finest=0)
    session = x.session
    return made(x, smooth(session.suite, session.party, x.window(), fit, x.unit.scale, bounded=True))


@implements(aten.sin.default)
def sin(x: SecretTensor) -> SecretTensor:
    """sin x to 1.1 steps, and 2^-46 |x| for the rounded length of a turn: 2^-13 at |x| = 2^33, for 16 fractional bits.

    Two rounds; 16 bytes an element and peer, 29 dealt.  x K mod 2^64, with K the integer nearest to
    2^64 / (2 pi scale), is the angle; sin(c - r) = sin c cos r - cos c sin r for the opened c = x + r.
    cos, which is also the derivative, takes the same opening and dealt words: one round.
    """
    return _applied(x, SIN)


@implements(aten.cos.default)
def cos(x: SecretTensor) -> SecretTensor:
    """cos x, as `sin`."""
    return _applied(x, COS)


@implements(aten.tan.default)
def tan(x: SecretTensor) -> SecretTensor:
    """sin x / cos x, to 2.5 steps, 2^-16 of the result and 2^-23 of its square; and what `sin` says about |x|.

    Ten rounds; 259 bytes an element and peer, 1161 dealt.  The cosine is taken at 25 fractional bits, or as many as
    leave its inverse room, which is that of `torch.reciprocal`.  0 within 2^-26 of a pole.
    """
    x = argument(x, "tan", finest=0)
    session, unit = x.session, x.unit.scale
    suite, party = session.suite, session.party
    finer = 1 << COSINE_BITS
    while finer > unit and not reciprocal_has_room(finer, unit):
        finer >>= 1
    core, back = distinct(x.window())
    found = opened(suite, party, core)
    values = [evaluate(suite, party, found.masked, found.x.at(x.cell.scale), fit).at(1) for fit in (COS, SIN)]
    divisors = [round(Fraction(1 << BITS) / scale) for scale in (finer, unit * SINE)]
    cosine, sine = suite.probabilistic.truncate_all(party, list(zip(values, divisors, strict=True)))
    inverse = reciprocal_fast(suite, party, cosine.at(finer), unit)
    out = suite.mul(party, sine.at(unit * SINE), inverse)
    return made(x, back(Share(out.body, core.shape, out.scale)))


in_place(aten.sin_.default, sin)
in_place(aten.cos_.default, cos)
