"""Division by a secret: within half a step of the exact quotient (and 2^-6 of one), over the whole range.

With integers X and Y of scale s, the result is X s / Y at scale s, for every |X|, |Y| below
2^62 and every quotient that is itself below 2^62.  It is long division, three digits of
up to 23 bits: a remainder R < Y is held as rho = R G, where the secret power of two G
brings |Y| to v = |Y| G in [2^60, 2^61), so that rho / v = R / Y in full words.  A digit is
estimated from the upper half of rho and a reciprocal w of v of 30 bits (Newton's
iteration), which is right to one; what it misses, the exact rest 2^23 rho - q v keeps for
the next digit.  Only the last digit is rounded, to nearest.

x / 0 is 0: nothing can be told about a secret zero, and the ring has no infinity.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch

from pysmpc.errors import EncodingError
from pysmpc.mpc.additive import affine
from pysmpc.mpc.additive.comparison import negative_cost, select_cost
from pysmpc.mpc.additive.exact import floor_all, floor_cost
from pysmpc.mpc.additive.products import product_cost
from pysmpc.mpc.additive.truncation import truncate_cost
from pysmpc.mpc.interfaces import LOCAL, Cost, Party, declares_openings
from pysmpc.mpc.operations import Suite
from pysmpc.ring.shares import MaskedBit, Share

TOP = 62  # |Y| is compared with 2^0 .. 2^61
HALF = 30  # bits of w, and of what it is multiplied by
DIGIT = 23  # bits of a digit
STEPS = 3  # of Newton: the first guess is off by 1/17 at most, each step squares that
ONE = 1 << HALF


@dataclass(frozen=True)
class Divisor:
    """What every quotient by one secret shares."""

    positive: MaskedBit
    large: Share  # whether |Y| >= 2^61: then Y, and X, are halved
    power: Share  # G
    v: Share  # |Y| G
    w: Share  # 2^91 / v
    g: Share  # 2^37 / |Y|


def check_scale(s: int) -> None:
    """Raise EncodingError for a scale of which a digit has no room."""
    if s > 1 << 20:
        raise EncodingError(f"division by a secret needs a scale of at most 2**20, not {s}; use fewer fractional bits")


def _table(suite: Suite, party: Party, reached: Share, value: Callable[[int], int]) -> Share:
    """value(k) for the highest power 2^k that was reached, 0 for none: linear in the bits."""
    values = [0, *(value(k) for k in range(TOP))]
    steps = torch.tensor([b - a for a, b in pairwise(values)]).reshape(-1, 1)
    weighted = suite.mul_public(party, reached, steps)
    return Share.of(weighted.window(weighted.body.words).sum(1), (reached.shape[1],))


def _truncate(suite: Suite, party: Party, *dividends: tuple[Share, int]) -> list[Share]:
    found: list[Share] = suite.truncate_all(party, [(z.at(1), by) for z, by in dividends])
    return found


def prepare(suite: Suite, party: Party, y: Share) -> Divisor:
    """The sign and magnitude of y, and its reciprocal to 30 bits.  25 rounds.

    1. |Y|: four rounds for the sign, one to apply it.
    2. Compare |Y| with every power of two: four rounds.  Halve it if it is 2^61 or more.
    3. G, and v = |Y| G; both are of the highest power reached.
    4. w = 48/17 - 32/17 v; w = w (2 - v w), three times.
    5. g = 2^37 / |Y| from w and a coarser power, for the digits of the dividend.
    """
    suite = suite.probabilistic
    n = y.numel
    # 1. magnitude
    positive = suite.negative(party, y).flipped()
    size = suite.sub(party, suite.scale_by(party, suite.select(party, positive, y), 2), y)
    # 2. highest bit
    powers = torch.tensor([1 << k for k in range(TOP)], dtype=torch.int64).reshape(-1, 1)
    below = suite.negative(party, suite.sub(party, size, suite.public(party, powers)))
    reached = suite.bit_share(party, below.flipped(), (TOP, n))
    large = Share.of(Share(reached.body, (n,), 1, None, (TOP - 1) * n).words(), (n,))
    [half] = _truncate(suite, party, (suite.sub(party, size, suite.public(party, torch.tensor([1]))), 2))
    size = suite.sub(party, size, suite.mul(party, large, suite.sub(party, size, half)))
    # 3. normalise
    power = _table(suite, party, reached, lambda k: 1 << max(60 - k, 0))
    v = suite.mul(party, size, power)
    # 4. reciprocal
    [upper] = _truncate(suite, party, (v, 1 << (61 - HALF)))
    guess = suite.add(party, suite.scale_by(party, upper, -32), suite.public(party, torch.tensor([48 * ONE])))
    [w] = _truncate(suite, party, (guess, 17))
    for _ in range(STEPS):
        [product] = _truncate(suite, party, (suite.mul(party, upper, w), ONE))
        error = suite.sub(party, suite.public(party, torch.tensor([2 * ONE])), product)
        [w] = _truncate(suite, party, (suite.mul(party, w, error), ONE))
    # 5. reciprocal of |Y| itself
    coarse = _table(suite, party, reached, lambda k: 1 << (29 - k) if k < HALF else 0)
    [g] = _truncate(suite, party, (suite.mul(party, coarse, w), 1 << DIGIT))
    return Divisor(positive, large, power, v, w, g)


def prepare_cost(holders: int, n: int) -> Cost:
    """Of n divisors."""
    signs = negative_cost(holders, n) + negative_cost(holders, TOP * n) + select_cost(holders, n, False)
    truncations = truncate_cost(holders, n, ONE) * (2 + 2 * STEPS)
    truncations += truncate_cost(holders, n, 2) + truncate_cost(holders, n, 17)
    # large and what it takes away; size and power; a w and an error a step, beside upper and w; coarse and the last w
    products = product_cost(holders, 2 * n, n) * (2 + STEPS + 1) + affine.product_cost(n, 4) * STEPS
    return signs + truncations + products


def _prepared(suite: Suite, party: Party, y: Share) -> Divisor:
    """As `prepare`; remembered for a y that is its whole body."""
    if not y.dense:
        return prepare(suite, party, Share.of(y.words(), (y.numel,)))
    if y.body.divisor is None:
        y.body.divisor = prepare(suite, party, Share(y.body, (y.numel,)))
    found: Divisor = y.body.divisor
    return found


def _digit(suite: Suite, party: Party, d: Divisor, rho: Share | None, a: Share | int) -> tuple[Share, Share]:
    """(q, 2^23 rho + a G - q v) with q near (2^23 rho + a G) / v; three rounds, or two at the start."""
    a_g = suite.scale_by(party, d.g, a) if isinstance(a, int) else suite.mul(party, a, d.g)
    rest = suite.scale_by(party, d.power, a) if isinstance(a, int) else suite.mul(party, a, d.power)
    if rho is not None:
        [e] = _truncate(suite, party, (rho, 1 << (61 - HALF)))
        a_g = suite.add(party, suite.mul(party, e, d.w), a_g)
        rest = suite.add(party, suite.scale_by(party, rho, 1 << DIGIT), rest)
    [q] = _truncate(suite, party, (a_g, 1 << (2 * HALF - DIGIT)))
    return q, suite.sub(party, rest, suite.mul(party, q, d.v))


def _fits(s: int) -> bool:
    """Whether X / 2^46 is below |Y| wherever X s / Y is below 2^62, so that it may be the first remainder."""
    return s >= 1 << (TOP - 2 * DIGIT)


def _digits(suite: Suite, party: Party, d: Divisor, x: Share) -> list[Share]:
    """x, halved where the divisor is, as digits of 16, 23 and 23 bits.  Four rounds."""
    n = x.numel
    flat = Share.of(x.words(), (n,))
    [half] = _truncate(suite, party, (flat, 2))
    flat = suite.sub(party, flat, suite.mul(party, d.large, suite.sub(party, flat, half)))
    digits = []
    for bits in (2 * DIGIT, DIGIT):
        [top] = _truncate(suite, party, (flat, 1 << bits))
        flat = suite.sub(party, flat, suite.scale_by(party, top, 1 << bits))
        digits.append(top)
    return [*digits, flat]


def _last(suite: Suite, party: Party, d: Divisor, rho: Share, s: int) -> Share:
    """s rho / v to the nearest integer; seven rounds."""
    [e] = _truncate(suite, party, (rho, 1 << (61 - HALF)))
    [f] = _truncate(suite, party, (suite.mul(party, e, d.w), 1 << 20))
    return floor_all(suite, party, [(suite.scale_by(party, f, s), 1 << (2 * HALF - 20))], add=True)[0]


def _signed(suite: Suite, party: Party, d: Divisor, q: Share, shape: Sequence[int], s: int) -> Share:
    out = suite.sub(party, suite.scale_by(party, suite.select(party, d.positive, q), 2), q)
    return Share(out.body, shape, s)


@declares_openings("compare", "select", "mask", "truncate")
def divide(suite: Suite, party: Party, x: Share, y: Share, s: int) -> Share:
    """X s / Y at scale s, of one shape.  43 rounds, 17 where y was divided by before; one more below s = 2^16.

    1. The divisor's sign, power and reciprocal.
    2. X in three digits.  The first is a remainder already for s of 2^16 and more.
    3. The digits of the whole part of the quotient, each with an exact rest.
    4. The last: s rho / v, rounded to nearest.
    5. The sign.
    """
    check_scale(s)
    shape = x.shape
    # 1. divisor
    d = _prepared(suite, party, y)
    suite = suite.probabilistic
    # 2. dividend
    rho: Share | None = None
    digits = _digits(suite, party, d, x)
    if _fits(s):
        rho, digits = suite.mul(party, digits[0], d.power), digits[1:]
    # 3. whole part
    whole, rho = _digit(suite, party, d, rho, digits[0])
    for a in digits[1:]:
        q, rho = _digit(suite, party, d, rho, a)
        whole = suite.add(party, suite.scale_by(party, whole, 1 << DIGIT), q)
    # 4. the rest
    q = suite.add(party, suite.scale_by(party, whole, s), _last(suite, party, d, rho, s))
    # 5. sign
    return _signed(suite, party, d, q, shape, s)


def divide_cost(holders: int, n: int, s: int, again: bool = False) -> Cost:
    """Of n quotients by secrets; again: that were divided by before."""
    known, opened = (2, 1) if again else (4, 2)  # dealt words of a product with g; what is opened where g or v is not

    def digit(words: int, opens: int, truncations: int = 2) -> Cost:
        products = affine.product_cost(n, words) + (product_cost(holders, opens * n, n) if opens else LOCAL)
        return truncate_cost(holders, n, ONE) * truncations + products

    cost = (
        truncate_cost(holders, n, 2) + truncate_cost(holders, n, 1 << DIGIT) + truncate_cost(holders, n, 1 << 2 * DIGIT)
    )
    cost += product_cost(holders, n, n)
    # the digit times g and power, e times w, q times v
    if _fits(s):
        cost += affine.product_cost(n, 2) + (digit(known + 6, 0) if again else digit(known + 4, 2))
    else:
        cost += (digit(known + 4, 0, 1) if again else digit(known + 2, 2, 1)) + digit(known + 6, 0)
    cost += digit(4, opened) + Cost(dealt=8 * n)  # the last digit is a difference, and opened
    return cost + _end_cost(holders, n) + (LOCAL if again else prepare_cost(holders, n))


def _end_cost(holders: int, n: int) -> Cost:
    last = truncate_cost(holders, n, ONE) * 2 + affine.product_cost(n, 2)
    return last + floor_cost(holders, n, 1 << (2 * HALF - 20)) + select_cost(holders, n, False)


@declares_openings("compare", "select", "mask", "truncate")
def floor_divide(suite: Suite, party: Party, x: Share, y: Share) -> Share:
    """floor(X / Y) of integers of one shape, for every |X|, |Y| below 2^62.  50 rounds.

    Of Y = 0 it is 0, and -1 for a negative X.

    1. q = X / Y to the nearest integer, by `divide`: the floor, or one more.
    2. The rest X - q Y, exactly, with the sign of Y taken off: it is negative where q is one more.
    3. q less that bit.
    """
    flat = [Share.of(each.words(), (each.numel,)) for each in (x, y)]
    # 1. nearest
    q = divide(suite, party, flat[0], flat[1], 1)
    inner = suite.probabilistic
    # 2. rest
    positive = _prepared(inner, party, flat[1]).positive
    rest = inner.sub(party, flat[0], inner.mul(party, q, flat[1]))
    rest = inner.sub(party, inner.scale_by(party, inner.select(party, positive, rest), 2), rest)
    below = inner.bit_share(party, inner.negative(party, rest), rest.shape)
    # 3. floor
    out = inner.sub(party, q, below)
    return Share(out.body, x.shape)


@declares_openings("compare", "select", "mask", "truncate")
def reciprocal(suite: Suite, party: Party, y: Share, s: int) -> Share:
    """s s / Y at scale s; 35 rounds.  As `divide`, of a dividend of one public digit."""
    check_scale(s)
    d = _prepared(suite, party, y)
    shape = y.shape
    suite = suite.probabilistic
    whole, rho = _digit(suite, party, d, None, s)
    q = suite.add(party, suite.scale_by(party, whole, s), _last(suite, party, d, rho, s))
    return _signed(suite, party, d, q, shape, s)


def reciprocal_cost(holders: int, n: int) -> Cost:
    """Of n reciprocals of secrets that nothing was divided by before."""
    digit = truncate_cost(holders, n, ONE) + product_cost(holders, 2 * n, n)
    return prepare_cost(holders, n) + digit + _end_cost(holders, n)
