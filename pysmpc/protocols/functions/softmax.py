"""Softmax, its logarithm and log-sum-exp, of values less their largest.

With z = x - max x, the sum S of e^z is in [1, N] whatever x was: it is taken from untruncated powers,
at 48 fractional bits, and its logarithm by the few bits that tell its power of four.  Softmax is
e^(z - log S), from one more opening: no quotient, and no second maximum.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from pysmpc.errors import EncodingError
from pysmpc.protocols.functions.characters import BITS
from pysmpc.protocols.functions.exponent import FALLING, QUOTIENT, Window, exponential
from pysmpc.protocols.functions.masked import Masked
from pysmpc.protocols.functions.normaliser import TOP, logarithm
from pysmpc.protocols.functions.regions import Regions
from pysmpc.protocols.interfaces import Party
from pysmpc.protocols.operations import Suite
from pysmpc.shares import Share


@dataclass(eq=False)
class Quotients:
    """What is known of rows z [rows, N] after log S: z itself, where it is above the window, and log S at 2^54."""

    z: Share
    inside: Regions | None
    log_sum: Share  # [rows, 1]


def _window(n: int) -> Window:
    """Powers of z whose sum over n has room: S at 4^24, less where n is large."""
    spare = TOP + 1 - FALLING.bits // 2  # digits in base 4 above 1
    more = max(0, (n - 1).bit_length() - 2 * spare + 1)
    more += more % 2  # the scale of S stays a power of 4
    if more >= FALLING.factor - 8:
        raise EncodingError(f"softmax over {n} values has no room for their sum; at most 2**28 are possible")
    return replace(FALLING, factor=FALLING.factor - more)


def quotients(suite: Suite, party: Party, z: Share, bounded: bool = False) -> Quotients:
    """log of the sum of e^z over rows z [rows, N] of numbers of which none is above 0 and one a row is 0.

    Eleven rounds; seven where no z is below -30 (bounded).

    1. Open z under a mask.  The bits z >= -30: three rounds.
    2. e^z, linear; where it is below, 0: one round.
    3. S, the sum over the rows, and log S: six rounds.
    """
    rows, n = z.shape
    window = _window(n)
    # 1. open, compare
    opened: Masked = suite.mask_open(party, z)
    inside = None if bounded else suite.regions(party, opened, z, window.lo * z.scale, None)
    # 2. powers
    powers = exponential(suite, party, opened, z.scale, window)
    if inside is not None:
        powers = inside.choose(suite.probabilistic, party, powers, 1)
    # 3. log of their sum
    words = powers.words().reshape(-1, rows, n).sum(2)
    total = Share.of(words.contiguous(), (rows, 1), 1 << window.bits)
    low = window.bits // 2
    log_sum = logarithm(suite, party, total, low, low + math.ceil((n - 1).bit_length() / 2) if n > 1 else low)
    return Quotients(z, inside, log_sum)


def softmax(suite: Suite, party: Party, q: Quotients, scale: int) -> Share:
    """e^(z - log S) at `scale`.  Two rounds.

    1. Open y = z - log S at 2^54: y >= -30 - log N wherever z is above the window.
    2. e^y by the dealt words; where z is below, 0; a truncation: one round.
    """
    z = q.z
    fine = suite.scale_by(party, z, (1 << BITS) // z.scale) if (1 << BITS) % z.scale == 0 else _refined(suite, party, z)
    y = suite.sub(party, fine.at(1 << BITS), q.log_sum)
    # 1. open
    opened = suite.mask_open(party, Share.of(y.words(), z.shape, 1 << BITS))
    # 2. power
    power = exponential(suite, party, opened, 1 << BITS, QUOTIENT)
    by = round((1 << QUOTIENT.bits) / scale)
    out = suite.truncate(party, power, by) if q.inside is None else q.inside.choose(suite, party, power, by)
    return Share(out.body, z.shape, scale)


def _refined(suite: Suite, party: Party, z: Share) -> Share:
    """z at 2^54 from a scale that does not divide it: the factor is rounded, an error of 2^-44 of z at most."""
    return suite.scale_by(party, z, round((1 << BITS) / z.scale))


def log_softmax(suite: Suite, party: Party, q: Quotients) -> Share:
    """z - log S at the scale of z.  One round."""
    return suite.sub(party, q.z, log_of_sum(suite, party, q, q.z.scale))


def log_of_sum(suite: Suite, party: Party, q: Quotients, scale: int) -> Share:
    """log S [rows, 1] at a scale.  One round."""
    out = suite.truncate(party, q.log_sum, round((1 << BITS) / scale))
    return Share(out.body, q.log_sum.shape, scale)
