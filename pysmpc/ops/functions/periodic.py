"""sin and cos: the wrap of the ring is their period."""

from __future__ import annotations

import math

from pysmpc.ops.core import aten, implements, in_place
from pysmpc.ops.functions.argument import argument, made
from pysmpc.protocols.functions.characters import Fit
from pysmpc.protocols.functions.smooth import smooth
from pysmpc.tensor import SecretTensor


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


in_place(aten.sin_.default, sin)
in_place(aten.cos_.default, cos)
