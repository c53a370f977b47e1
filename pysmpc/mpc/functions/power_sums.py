"""Sums of powers of magnitudes, over the power of the largest of them: what norms of any exponent are made of.

With the gaps d = log |x| - log m to the largest magnitude m, or for a negative p the smallest, the sum S of e^(p d) is
in [1, N] whatever x was, and so neither overflows nor vanishes.  The norm is m S^(1/p), its gradient
sign(x) e^((p - 1) d) S^((1 - p) / p).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

from pysmpc.errors import EncodingError
from pysmpc.mpc.additive.exact import constant
from pysmpc.mpc.functions import fits
from pysmpc.mpc.functions.characters import BITS, evaluate
from pysmpc.mpc.functions.normaliser import natural_logarithm, normalise
from pysmpc.mpc.functions.piecewise_polynomials import stacked
from pysmpc.mpc.functions.softmax import quotients
from pysmpc.mpc.interfaces import Party
from pysmpc.mpc.operations import Suite
from pysmpc.ring.shares import Share

GAP_BITS = 26  # of the gaps
EXPONENT_BITS = 20  # of p
LARGEST = 512  # exponent: the gaps reach 32, and 2^15 steps to one are left of 2^62
NOTHING = 64  # what is taken from the exponent of 0, whose logarithm is that of a step


@dataclass(eq=False)
class PowerSum:
    """gaps [rows, n] at 2^26; zero [rows, n]: the bits |x| < 1 step; log_sum [rows, 1]: log S at 2^54."""

    gaps: Share
    zero: Share
    log_sum: Share


def power_sum(suite: Suite, party: Party, size: Share, most: Share, p: Fraction) -> PowerSum:
    """For magnitudes [rows, n] and the largest of each row (p < 0: the smallest) [rows, 1].  Eighteen rounds.

    1. The logarithms of magnitudes and of the largest: six rounds, with all bits they have.
    2. Their gaps, at 26 bits: one round.
    3. p times the gaps; where x is 0 so little that its power is 0.
    4. The logarithm of the sum of powers of e (`softmax.quotients`): eleven rounds.
    """
    if abs(p) > LARGEST:
        raise EncodingError(f"norms are for exponents up to {LARGEST}, and infinity, not for p = {float(p):.6g}")
    inner, (rows, n) = suite.probabilistic, size.shape
    if math.log(n) / abs(p) > 17:
        raise EncodingError(f"a norm of p = {float(p):.3g} of {n} elements has no room: use a larger p")
    # 1. logarithms
    flat = stacked([size, most])
    normal = normalise(inner, party, flat)
    out = evaluate(inner, party, normal.opened(inner, party), normal.v.at(4**normal.top), fits.LOG).at(1)
    steps = normal.sum(inner, party, lambda j: round(j * natural_logarithm(4) * (1 << BITS)))
    logs = inner.add(party, out, steps)
    # 2. gaps
    of_sizes = Share.of(Share(logs.body, (rows * n,)).words(), (rows, n))
    of_most = Share.of(Share(logs.body, (rows, 1), 1, (1, 1), rows * n).words(), (rows, 1)).expand((rows, n))
    gaps = inner.truncate(party, inner.sub(party, of_sizes, of_most), 1 << BITS - GAP_BITS)
    gaps = Share(gaps.body, (rows, n), 1 << GAP_BITS)
    reached = Share.of(Share(normal.reached.body, (rows, n), 1, (n, 1), 0).words(), (rows, n))
    zero = inner.sub(party, constant(inner, party, (rows, n), 1, 1), reached)
    # 3. exponents
    scale = 1 << GAP_BITS + EXPONENT_BITS
    z = inner.scale_by(party, gaps.at(1), round(p * (1 << EXPONENT_BITS)))
    if p > 0:
        z = inner.sub(party, z, inner.scale_by(party, zero, NOTHING * scale))
    # 4. their sum
    found = quotients(suite, party, Share.of(z.words(), (rows, n), scale), rounded=True)
    return PowerSum(gaps, zero, found.log_sum)
