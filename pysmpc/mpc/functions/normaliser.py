"""Logarithms, roots and reciprocals: a secret brought to [1, 4) by a secret power of four.

The bits x >= 4^j tell the power, p = 4^(top - j): it is linear in them, and so are 2^(top - j) and j.
v = x p is in [4^top, 4^(top + 1)): a smooth function on an interval of one size, whatever x was, that a
trigonometric sum gives from one more opening (`characters`).  Then log x = log v + j log 4,
x^(1/2) = v^(1/2) 2^j, and x^-1 = v^-1 4^-j.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import lru_cache

from pysmpc.errors import EncodingError
from pysmpc.mpc.additive import affine
from pysmpc.mpc.additive.products import product_cost
from pysmpc.mpc.additive.truncation import truncate_cost
from pysmpc.mpc.functions import fits
from pysmpc.mpc.functions.characters import BITS, Fit, evaluate, evaluate_cost, evaluate_short
from pysmpc.mpc.functions.known_values import distinct, note_inverse
from pysmpc.mpc.functions.masked import Masked
from pysmpc.mpc.functions.regions import thresholds_cost
from pysmpc.mpc.functions.threshold_sums import steps_between, weighted_sums
from pysmpc.mpc.interfaces import Cost, Party
from pysmpc.mpc.operations import Suite
from pysmpc.ring.shares import Share

TOP = 30  # 4^(TOP + 1) is the end of what truncation takes
PRODUCT_BITS = 60  # of a power of v times a power of two, before it is truncated
ROOT_BITS = 26  # of a power of v, before it is multiplied by a power of two
RECIPROCAL_BITS = 20  # the same, where the powers of two leave no more


@dataclass(eq=False)
class Inverse:
    """What gives 1 / y for a y [n] of which v is open: fit(v) 2^54 * power / ratio.

    bits: of the largest power.  scale: of the y that is meant.  of_root: whether y is a square root.
    """

    suite: Suite
    v: Share
    opened: Masked
    fit: Fit
    power: Share
    bits: int
    ratio: Fraction
    scale: int
    of_root: bool = False
    found: dict[int, Share] = field(default_factory=dict)

    def at(self, party: Party, scale: int) -> Share:
        """1 / y [n] at a scale, to 2^-17 of it and a step.  Three rounds, the first time."""
        if scale not in self.found:
            fine = evaluate(self.suite, party, self.opened, self.v, self.fit)
            self.found[scale] = _shrunk(self.suite, self.suite, party, fine, self.power, self.ratio / scale, self.bits)
        return Share(self.found[scale].body, self.found[scale].shape, scale)


@dataclass(eq=False)
class Normal:
    """v = x 4^(top - j) in [4^top, 4^(top + 1)), and the bits [thresholds, n] of x >= 4^j for j from `low` on.

    What is below 4^low counts as 4^low.
    """

    v: Share
    reached: Share
    low: int
    top: int
    masked: Masked | None = None  # v, once it is open

    def opened(self, suite: Suite, party: Party) -> Masked:
        """v under a mask.  One round, the first time."""
        if self.masked is None:
            self.masked = suite.mask_open(party, self.v)
        return self.masked

    def sums(self, suite: Suite, party: Party, values: Sequence[Callable[[int], int]]) -> list[Share]:
        """value(j) for the largest j with x >= 4^j, value(low) below: linear in the bits.  No message."""
        return weighted_sums(suite, party, self.reached, [self.column(value) for value in values])

    def column(self, value: Callable[[int], int]) -> tuple[int, list[int]]:
        """The least value, and what each bit adds to it."""
        least, *others = (value(self.low + i) for i in range(self.reached.shape[0]))
        return least, steps_between([0, *(v - least for v in others)])

    def sum(self, suite: Suite, party: Party, value: Callable[[int], int]) -> Share:
        """One of those."""
        return self.sums(suite, party, [value])[0]


def levels(top: int, limit: int | None, low: int = 0) -> int:
    """The largest j <= top with 4^j <= limit, which integers in magnitude are known not to exceed; `low` at least."""
    return top if limit is None else min(top, max(low, (limit.bit_length() - 1) // 2))


def normalise(
    suite: Suite,
    party: Party,
    x: Share,
    low: int = 0,
    top: int = TOP,
    limit: int | None = None,
    dealt_products: bool = False,
) -> Normal:
    """x in [4^low, 4^(top + 1)) as v and the bits that say by what it was multiplied; below, as if it were 4^low.

    Five rounds: four for the comparisons, one for the product.  dealt_products: without that one, where the suite
    has `scaled_thresholds`, for 8 bytes a bit.

    1. The bits x >= 4^j for j = low .. top.
    2. The power p = 4^(top - j), 0 where x is less than 4^low: linear in the bits.
    3. v = x p, and 4^top where x is less than 4^low.

    limit: no integer of x is publicly known to be larger, so that thresholds above it are left out.
    """
    suite = suite.probabilistic
    flat = Share.of(x.words(), (x.numel,))
    last = levels(top, limit, low)
    # 1. bits
    ends, powers = [4**j for j in range(low, last + 1)], [4 ** (top - j) for j in range(low, last + 1)]
    steps, of_nothing = steps_between(powers), (4**top, [-(4**top), *[0] * (len(ends) - 1)])
    if dealt_products and suite.scaled_thresholds is not None:
        reached, whole = suite.scaled_thresholds(party, flat, ends, steps)
        [nothing] = weighted_sums(suite, party, reached, [of_nothing])
    else:
        reached = suite.thresholds(party, flat, ends)
        # 2. power
        power, nothing = weighted_sums(suite, party, reached, [(0, steps), of_nothing])
        # 3. product
        whole = suite.mul(party, flat, power)
    return Normal(suite.add(party, whole.at(1), nothing).at(flat.scale), reached, low, top)


def normalise_cost(holders: int, n: int, low: int = 0, top: int = TOP) -> Cost:
    """With the default suite: x and p are opened for the product."""
    return thresholds_cost(holders, n, top - low + 1) + product_cost(holders, 2 * n, n)


def _of_v(suite: Suite, party: Party, normal: Normal, fit: Fit) -> Share:
    """fit(v 4^-top) at 2^54.  One round."""
    return evaluate(suite, party, normal.opened(suite, party), normal.v.at(4**normal.top), fit)


@lru_cache(maxsize=64)
def natural_logarithm(x: int) -> Fraction:
    """log x to 2^-60 and better, from log 2 = sum 1 / (k 2^k): floating point may differ from machine to machine."""
    two = sum((Fraction(1, k << k) for k in range(1, 90)), Fraction(0))
    size = x.bit_length()
    rest = Fraction(x, 1 << size) - 1  # in [-1/2, 0)
    total, power = Fraction(0), Fraction(1)
    for k in range(1, 90):
        power = Fraction(round(power * rest * (1 << 120)), 1 << 120)
        total += power / k if k % 2 else -power / k
    return total + size * two


@lru_cache(maxsize=64)
def _logarithms(scale: int, low: int, count: int) -> tuple[int, ...]:
    """Of 4^j / scale for `count` j from `low` on, at 2^54."""
    four, offset = natural_logarithm(4), natural_logarithm(scale)
    return tuple(round((j * four - offset) * (1 << BITS)) for j in range(low, low + count))


def logarithm(
    suite: Suite, party: Party, x: Share, low: int = 0, top: int = TOP, slope: int = 0, limit: int | None = None
) -> Share:
    """log x at scale 2^54 for x of scale s at least 4^low / s; below, the logarithm of that.  Six rounds.

    1. Normalise: five rounds.
    2. log of v 4^-top, from one opening.
    3. Add j log 4 - log s.

    slope: a scale at which 1 / x is to be had from the same opening (`Inverse`), where it has room.  limit: as for
    `normalise`.
    """
    # 1. normalise
    core, back = distinct(x)
    normal = normalise(suite, party, core, low, top, limit)
    # 2. of the mantissa
    out = _of_v(suite, party, normal, fits.LOG)
    # 3. the power
    logarithms = _logarithms(x.scale, low, normal.reached.shape[0])
    last = _slope_bits(core.scale, slope) if slope else None
    values = [lambda j: logarithms[j - low]]
    power, *slopes = normal.sums(suite, party, values if last is None else [*values, _slopes(last)])
    out = suite.add(party, out, power.at(1 << BITS))
    if last is not None:
        _note_slope(suite, party, core, normal, last, slopes[0])
    return back(Share(out.body, core.shape, 1 << BITS))


def logarithm_cost(holders: int, n: int, low: int = 0, top: int = TOP) -> Cost:
    """Of `logarithm` with the default suite."""
    return normalise_cost(holders, n, low, top) + evaluate_cost(holders, n, fits.LOG.terms)


def _slope_bits(s: int, scale: int) -> int | None:
    """Half the bits of the largest power by which 1 / x follows from v, at a scale: None where there is no room."""
    last = math.ceil((2 * s * scale).bit_length() / 2)
    if 2 * last > PRODUCT_BITS - 16:
        last = PRODUCT_BITS // 2 - 9
        if 4**last < s << 20:
            return None
    return last


def _slopes(last: int) -> Callable[[int], int]:
    """The power for every j; less than 2^-20 may be 0."""
    return lambda j: 4 ** (last - j) if j <= last else 0


def _note_slope(suite: Suite, party: Party, x: Share, normal: Normal, last: int, slopes: Share) -> None:
    """Note how 1 / x follows from v and sums of `_slopes`."""
    inner = suite.probabilistic
    ratio = Fraction((1 << BITS) * 4**last, x.scale)
    opened, v = normal.opened(inner, party), normal.v.at(4**normal.top)
    note_inverse(x, Inverse(inner, v, opened, fits.RECIPROCAL, slopes, 2 * last, ratio, x.scale))


def invert(suite: Suite, party: Party, x: Share, scale: int) -> None:
    """Open what gives 1 / x for an x of 1 or more (`Inverse`), at a scale, where that has room.  Six rounds."""
    core, _ = distinct(x)
    low = (max(1, x.scale).bit_length() - 1) // 2
    normal, last = normalise(suite, party, core, low), _slope_bits(core.scale, scale)
    if last is not None:
        _note_slope(suite, party, core, normal, last, normal.sum(suite, party, _slopes(last)))


def _shrunk(
    suite: Suite, last: Suite, party: Party, fine: Share, power: Share, ratio: Fraction, bits: int = TOP
) -> Share:
    """fine * power / ratio for a fine at 2^54 and powers up to 2^bits.  Three rounds: to shorten, multiply, shorten.

    The divisor of the first truncation takes up what is no power of two.  last: the suite of the second one.
    """
    least = 1 << max(BITS - ROOT_BITS, BITS + bits - PRODUCT_BITS)
    power_of_two = 1 << max(0, (ratio / least).__floor__().bit_length() - 1)
    mantissa = suite.truncate(party, fine.at(1), round(ratio / power_of_two)).at(1)
    out = suite.mul(party, Share(mantissa.body, power.shape), power)
    return last.truncate(party, out.at(1), power_of_two) if power_of_two > 1 else out


def _check_room(ratio: Fraction, scale: int) -> None:
    """Raise EncodingError, before anything is computed, where there is nothing to divide by in the end."""
    if ratio < 2:
        raise EncodingError(f"a root of a secret of scale {scale} has no room: use fewer fractional bits")


def _root_of_scale(s: int) -> Fraction:
    """The square root of a public number, to 2^-40."""
    return Fraction(math.isqrt(s << 80), 1 << 40)


def inverse_root(suite: Suite, party: Party, x: Share, scale: int, low: int = 0, limit: int | None = None) -> Share:
    """x^(-1/2) at `scale` for x of scale s, relative error 2^-22; less than 4^low / s counts as that.  Nine rounds.

    1. Normalise: five rounds.
    2. v^(-1/2) of the mantissa, at 26 bits: two rounds.
    3. Times 2^(top - j), which is one round, and sqrt(s) 2^-top as a public divisor: one round.
    """
    ratio = (1 << (BITS + TOP)) / _root_of_scale(x.scale) / scale
    _check_room(ratio, x.scale)
    core, back = distinct(x)
    inner = suite.probabilistic
    normal = normalise(inner, party, core, low, limit=limit)
    power = normal.sum(inner, party, lambda j: 1 << (TOP - j))
    out = _shrunk(inner, suite, party, _of_v(inner, party, normal, fits.RSQRT), power, ratio)
    return back(Share(out.body, core.shape, scale))


def inverse_root_short(suite: Suite, party: Party, x: Share, scale: int, low: int) -> Share:
    """`inverse_root` to a relative error of 2^-15, in two rounds less: seven.

    1. Normalise, with dealt products: four rounds.
    2. v^(-1/2) of the mantissa, as short as the product with 2^(top - j) leaves room: one round.
    3. That product, and the division: two rounds.
    """
    bits = min(40, 61 - (TOP - low))
    ratio = (1 << (bits + TOP)) / _root_of_scale(x.scale) / scale
    if bits < 36 or ratio < 1 << 16:
        return inverse_root(suite, party, x, scale, low)
    core, back = distinct(x)
    inner = suite.probabilistic
    # 1. normalise
    normal = normalise(inner, party, core, low, dealt_products=True)
    # 2. mantissa
    v = normal.v.at(4**normal.top)
    mantissa = evaluate_short(inner, party, normal.opened(inner, party), v, fits.RSQRT, bits)
    # 3. product
    power = normal.sum(inner, party, lambda j: 1 << (TOP - j))
    whole = inner.mul(party, Share(mantissa.body, power.shape), power)
    out = suite.truncate(party, whole.at(1), round(ratio))
    return back(Share(out.body, core.shape, scale))


def root(suite: Suite, party: Party, x: Share, scale: int, limit: int | None = None) -> Share:
    """x^(1/2) at `scale` for x of scale s, relative error 2^-22; 0 and less give 0.  Nine rounds.

    Its inverse comes from the same opening (`Inverse`); that of 0 is that of the root of a step of x.
    """
    s = _root_of_scale(x.scale)
    _check_room((1 << BITS) * s / scale, x.scale)
    core, back = distinct(x)
    inner = suite.probabilistic
    normal = normalise(inner, party, core, limit=limit)
    # 0 for the root of 0, of which there is an inverse all the same
    powers = (0, steps_between([1 << j for j in range(normal.reached.shape[0])]))
    power, inverse = weighted_sums(inner, party, normal.reached, [powers, normal.column(lambda j: 1 << (TOP - j))])
    out = _shrunk(inner, suite, party, _of_v(inner, party, normal, fits.SQRT), power, (1 << BITS) * s / scale)
    out = Share(out.body, core.shape, scale)
    opened, v = normal.opened(inner, party), normal.v.at(4**TOP)
    note_inverse(out, Inverse(inner, v, opened, fits.RSQRT, inverse, TOP, (1 << (BITS + TOP)) / s, scale, True))
    return back(out)


def root_cost(holders: int, n: int, fit: Fit = fits.SQRT, by: int = 1 << 18) -> Cost:
    """Of `root` and, with another fit, of `inverse_root`, with the default suite.

    by: the last divisor, at binary scales a power of two; 2^18 at 16 fractional bits (2^32 of an inverse, which costs
    the same).
    """
    mantissa = evaluate_cost(holders, n, fit.terms) + truncate_cost(holders, n, 1 << (BITS - ROOT_BITS))
    return normalise_cost(holders, n) + mantissa + product_cost(holders, 2 * n, n) + truncate_cost(holders, n, by)


def _top_of_reciprocal(s: int, scale: int) -> int:
    """From 4^(top + 1) integers of scale s on, 1 / x is at most half a step of a result at `scale`."""
    return ((2 * s * scale - 1).bit_length() + 1) // 2 - 1


def reciprocal_has_room(s: int, scale: int) -> bool:
    """Whether `reciprocal_fast` has as many bits as it says."""
    return 2 * _top_of_reciprocal(s, scale) + RECIPROCAL_BITS <= 2 * TOP


def reciprocal_fast(suite: Suite, party: Party, x: Share, scale: int, limit: int | None = None) -> Share:
    """1 / x at `scale` for x of scale s, relative error 2^-19 and a step; 1 / 0 is 0.  Eight rounds.

    The error is 2^-17 where s * scale is above 2^34.  `pysmpc.mpc.derived.division` is exact, in 35 rounds.

    1. The bits x >= 4^j and x <= -4^j, for j = 0 .. top + 1, of one opening: four rounds.  From
       4^(top + 1) on, the result is at most half a step.
    2. The power p = 4^(top - j) with the sign of x, and v = x p; 4^top where x is 0: one round.
    3. 1 / v of the mantissa, at 20 to 26 bits: two rounds.
    4. Times p, and s 4^-top as a public divisor: one round, as p is open and the mantissa was truncated.
    """
    inner = suite.probabilistic
    flat = Share.of(x.words(), (x.numel,))
    s = x.scale
    if not reciprocal_has_room(s, scale):
        raise EncodingError(f"1 / x of a secret of scale {s} at scale {scale} has no room: use fewer fractional bits")
    top = _top_of_reciprocal(s, scale)
    mantissa_bits = min(ROOT_BITS, 2 * TOP - 2 * top)
    # 1. bits
    ends = [4**j for j in range(levels(top + 1, limit) + 1)]
    bits = inner.thresholds(party, flat, [*ends, *(1 - end for end in ends)])
    # 2. power: of each bit the step, with its sign, and 4^top for neither of the first two
    steps, rest = steps_between([4 ** (top - j) if j <= top else 0 for j in range(len(ends))]), [0] * (len(ends) - 1)
    columns = [(-sum(steps), [*steps, *steps]), (0, [-(4**top), *rest, 4**top, *rest])]
    power, nothing = weighted_sums(inner, party, bits, columns)
    v = inner.add(party, inner.mul(party, flat, power), nothing)
    # 3. mantissa
    by = 1 << (BITS - mantissa_bits)
    fine = evaluate(inner, party, inner.mask_open(party, v), v.at(4**top), fits.RECIPROCAL)
    mantissa = inner.truncate(party, fine, by).at(1)
    # 4. out = x^-1 2^mantissa_bits 4^top / s
    by = round(Fraction((1 << mantissa_bits) * 4**top, s * scale))
    out = suite.truncate(party, inner.mul(party, mantissa, power).at(1), by)
    return Share(out.body, x.shape, scale)


def reciprocal_fast_cost(holders: int, n: int, s: int = 1 << 16, scale: int = 1 << 16) -> Cost:
    """Of `reciprocal_fast` with the default suite, at scales that are powers of two; p is opened once."""
    top = _top_of_reciprocal(s, scale)
    thresholds = thresholds_cost(holders, n, 2 * (top + 2))
    products = product_cost(holders, 2 * n, n) + affine.product_cost(n, 2)
    mantissa_bits = min(ROOT_BITS, 2 * TOP - 2 * top)
    last = round(Fraction((1 << mantissa_bits) * 4**top, s * scale))
    truncations = truncate_cost(holders, n, 1 << (BITS - mantissa_bits)) + truncate_cost(holders, n, last)
    return thresholds + products + evaluate_cost(holders, n, fits.RECIPROCAL.terms) + truncations


def sum_of_steps(suite: Suite, party: Party, reached: Share, values: Sequence[int]) -> Share:
    """values[j] of the largest j that was reached, with its sign; 0 for none."""
    return weighted_sums(suite, party, reached, [(0, steps_between(values))])[0]
