"""Softmax, its logarithm and log-sum-exp, of values less their largest, or that are publicly known to be small.

With z = x - max x, the sum S of e^z is in [1, N] whatever x was: it is taken from untruncated powers,
at 48 fractional bits, and its logarithm by the few bits that tell its power of four.  Softmax is
e^(z - log S), from one more opening: no quotient, and no second maximum.

Of an x with a public bound of a few units no maximum is needed at all: the powers of x itself have room beside one
another, at as many fractional bits as keep the digits of the smallest, and S is between N e^-bound and N e^bound.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from pysmpc.errors import EncodingError
from pysmpc.mpc.additive.comparison import select_cost
from pysmpc.mpc.additive.truncation import truncate_cost
from pysmpc.mpc.functions.characters import BITS
from pysmpc.mpc.functions.exponent import FALLING, QUOTIENT, SEGMENT, Window, exponential, exponential_cost
from pysmpc.mpc.functions.masked import Masked, mask_open_cost
from pysmpc.mpc.functions.normaliser import TOP, logarithm, logarithm_cost
from pysmpc.mpc.functions.regions import Regions, regions_cost
from pysmpc.mpc.interfaces import Cost, Party
from pysmpc.mpc.operations import Suite
from pysmpc.ring.shares import Share


@dataclass(eq=False)
class Quotients:
    """What is known of rows z [rows, N] after log S: z itself, where it is above the window, and log S at 2^54.

    inside: None where all is.
    """

    z: Share
    inside: Regions | None
    log_sum: Share  # [rows, 1]


def _window(n: int) -> Window:
    """Powers of z whose sum over n has room: S at 4^24, less where n is large."""
    spare = TOP + 1 - FALLING.bits // 2  # digits in base 4 above 1
    more = max(0, (n - 1).bit_length() - 2 * spare + 1)
    more += more % 2  # the scale of S stays a power of 4
    if more >= FALLING.factor - 8:
        raise EncodingError(f"softmax over {n} values has no room for their sum; at most 2**27 are possible")
    return replace(FALLING, factor=FALLING.factor - more)


NEAR_DEALT = 22  # bits of the dealt words for powers of small values
NEAR_DIGITS = 20  # bits of the public factor of the smallest power


def near_window(n: int, bound: float) -> Window | None:
    """Powers of x of a magnitude up to `bound`, n of which have room for their sum; None where they have not.

    Errors are 2^-20 of a power at most.
    """
    size = bound * math.log2(math.e)
    factor = NEAR_DIGITS + math.ceil(size)
    if NEAR_DEALT + factor + size + math.log2(n) > 61:
        return None
    return Window(-(FALLING.length // 2), FALLING.segments, NEAR_DEALT, factor)


def _near_levels(n: int, bound: float, window: Window) -> tuple[int, int]:
    """Powers of four between which the sum of n powers lies; a little further apart, as they are rounded."""
    middle, size = window.bits + math.log2(n), bound * math.log2(math.e) + 2.0**-10
    return int((middle - size) // 2), int((middle + size) // 2)


def _levels(n: int) -> tuple[int, int]:
    """Powers of four that the sum of n powers may reach, from 1 on."""
    low = _window(n).bits // 2
    return low, low + (n.bit_length() - 1) // 2


def quotients(
    suite: Suite, party: Party, z: Share, bounded: bool = False, rounded: bool = False, near: float | None = None
) -> Quotients:
    """log of the sum of e^z over rows z [rows, N] of numbers of which none is above 0 and one a row is 0.

    Eleven rounds; seven where no z is below -30 (bounded).  rounded: some may be a little above 0; what is below -28
    is 0 then.  near: z is any number up to this in magnitude instead, for which there is a `near_window`; seven rounds.

    1. Open z under a mask.  The bits z >= -30: three rounds.
    2. e^z, linear; where it is below, 0: one round.
    3. S, the sum over the rows, and log S: six rounds.
    """
    rows, n = z.shape
    window = _window(n) if near is None else near_window(n, near)
    if window is None:
        raise EncodingError(f"softmax over {n} values of magnitudes up to {near} has no room for their sum")
    if rounded and near is None:
        window = replace(window, lo=window.lo + SEGMENT)
    # 1. open, compare
    opened: Masked = suite.mask_open(party, z)
    inside = None if bounded or near is not None else suite.regions(party, opened, z, window.lo * z.scale, None)
    # 2. powers
    powers = exponential(suite, party, opened, z.scale, window)
    if inside is not None:
        powers = inside.choose(suite.probabilistic, party, powers, 1)
    # 3. log of their sum
    words = powers.words().reshape(-1, rows, n).sum(2)
    total = Share.of(words.contiguous(), (rows, 1), 1 << window.bits)
    log_sum = logarithm(suite, party, total, *(_levels(n) if near is None else _near_levels(n, near, window)))
    return Quotients(z, inside, log_sum)


def near_quotients_cost(holders: int, rows: int, n: int, bound: float) -> Cost:
    """With the default suite, of small values."""
    window = near_window(n, bound)
    assert window is not None
    of_elements = mask_open_cost(holders, rows * n) + exponential_cost(holders, rows * n, window)
    return of_elements + logarithm_cost(holders, rows, *_near_levels(n, bound, window))


def quotients_cost(holders: int, rows: int, n: int) -> Cost:
    """With the default suite, not bounded."""
    of_elements = (
        mask_open_cost(holders, rows * n)
        + regions_cost(holders, rows * n, 1)
        + exponential_cost(holders, rows * n, _window(n))
        + select_cost(holders, rows * n, False)
    )
    return of_elements + logarithm_cost(holders, rows, *_levels(n))


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


def softmax_cost(holders: int, rows: int, n: int) -> Cost:
    """Of `softmax` alone, with the default suite."""
    total = rows * n
    return (
        mask_open_cost(holders, total) + exponential_cost(holders, total, QUOTIENT) + select_cost(holders, total, True)
    )


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


def log_of_sum_cost(holders: int, rows: int, scale: int) -> Cost:
    """Of `log_of_sum` and of `log_softmax`, with the default suite."""
    return truncate_cost(holders, rows, round((1 << BITS) / scale))
