"""Rows of powers, and their means of other values: what attention makes of its scores.

With p = e^(score - largest score) and S the sum of p over a row, a row of the result is N / S for N = p v.  The
quotient is taken of the product and not of the weights: S is brought to [1, 4) by a power of four while N is divided
out, and N takes that power while the mantissa of S is inverted, so that nothing waits for an inverse.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

from pysmpc.mpc.additive import affine
from pysmpc.mpc.additive.comparison import select_cost
from pysmpc.mpc.additive.exact import constant
from pysmpc.mpc.additive.truncation import truncate_cost
from pysmpc.mpc.functions import fits
from pysmpc.mpc.functions.characters import BITS, evaluate
from pysmpc.mpc.functions.exponent import FALLING, exponential, exponential_cost, has_room
from pysmpc.mpc.functions.masked import mask_open_cost
from pysmpc.mpc.functions.normaliser import sum_of_steps
from pysmpc.mpc.functions.regions import regions_cost, thresholds_cost
from pysmpc.mpc.interfaces import Cost, Party, opening
from pysmpc.mpc.operations import Suite
from pysmpc.ring.shares import Share

POWER_BITS = 24  # of p
DIVIDED_BITS = 22  # of N
PART_BITS, MANTISSA_BITS = 20, 22  # of N / S before and in the inverted mantissa of S
BY_WEIGHTS = 24  # bits of p over S

#: Of N and v: (N, the divisor) before N is divided.
Divided = Callable[[Share, int], None]


def takes(scale: int) -> bool:
    """Whether powers of values of a scale have public factors of enough bits."""
    return scale & (scale - 1) == 0 and has_room(scale, window=FALLING)


def powers(suite: Suite, party: Party, z: Share) -> Share:
    """e^z at 2^24, 0 below -30, for z of which none is above 0.  Five rounds."""
    opened = suite.mask_open(party, z)
    inside = suite.regions(party, opened, z, FALLING.lo * z.scale, None)
    value = exponential(suite, party, opened, z.scale, FALLING)
    out = inside.choose(suite.probabilistic, party, value, 1 << (FALLING.bits - POWER_BITS))
    return Share(out.body, z.shape, 1 << POWER_BITS)


@dataclass(eq=False)
class Means:
    """What is open of a row's sum S: the power of four that brings it to [1, 4), and the inverse of the mantissa.

    p: [rows, n].  power, inverse: [rows].  levels: by how many powers of four sums may differ.
    """

    suite: Suite
    p: Share
    power: Share
    inverse: Share
    levels: int

    def weights(self, party: Party) -> Share:
        """p / S [rows, n] at 2^24: two rounds."""
        suite = self.suite.probabilistic
        rows, n = self.p.shape
        power, inverse = (Share(x.body, (rows, n), 1, (1, 0)) for x in (self.power, self.inverse))
        whole = suite.mul_at_once(party, Share(self.p.body, (rows, n)), power)
        up = 2 * self.levels - (POWER_BITS - BY_WEIGHTS)
        part = suite.truncate(party, whole, 1 << up) if up > 0 else whole
        out = suite.mul_at_once(party, part.at(1), inverse)
        return suite.truncate(party, out, 1 << MANTISSA_BITS).at(1 << BY_WEIGHTS)


def means(
    suite: Suite,
    party: Party,
    p: Share,
    v: Share,
    matmul: Callable[[Party, Share, Share], Share],
    divided: Divided,
) -> tuple[Share, Means]:
    """p v / S at 2^42, for p [..., rows, n] at 2^24 and v [..., n, d]; and what gives the weights p / S.  Six rounds.

    For |p v| < 2^18, where S is up to n: for means below 2^18 / n in any case.  Within 2^-19 of the mean and 2^-19.
    Scales are powers of two.

    1. Open S under a mask, p and v as factors.  N = p v.
    2. The bits S >= 4^j, and v = S 4^(top - j): three rounds.
    3. Divide N, open the power and v.
    4. N 4^(top - j), and 1 / v of the mantissa by its trigonometric sum: both are divided out.
    5. Their product, of what was divided: no round.

    matmul: of p and v, which says whether the product fits.  divided: told of N and its divisor.
    """
    inner = suite.probabilistic
    *batch, length, n = p.shape
    rows, d = math.prod(batch) * length, v.shape[-1]
    # 1. open
    total = Share.of(p.words().reshape(party.rows * suite.lanes, rows, n).sum(2).contiguous(), (rows,))
    [opened], _ = inner.together(party, [total], (), [p, v])
    product = matmul(party, p, v)
    # 2. compare
    low = POWER_BITS // 2
    levels = (n.bit_length() - 1) // 2
    top = low + levels
    ends, values = [4**j for j in range(low, top + 1)], [4 ** (top - j) for j in range(low, top + 1)]
    assert suite.scaled_thresholds is not None
    reached, whole = suite.scaled_thresholds(party, total, ends, [b - a for a, b in pairwise([0, *values])], opened)
    first = Share.of(Share(reached.body, (rows,), 1, (1,), 0).words(), (rows,))
    nothing = inner.sub(party, constant(inner, party, (rows,), 1, 1), first)
    power = inner.add(party, sum_of_steps(inner, party, reached, values), inner.scale_by(party, nothing, 4**levels))
    mantissa = inner.add(party, whole.at(1), inner.scale_by(party, nothing, 4**top)).at(4**top)
    # 3. divide and open
    by = product.scale >> DIVIDED_BITS
    divided(product, by)
    [masked], [part] = inner.together(party, [mantissa], [(product, by)], [power])
    # 4. powers
    flat = Share(part.body, (rows, d))
    part = inner.mul_at_once(party, flat, Share(power.body, (rows, d), 1, (1, 0)))
    inverse = evaluate(inner, party, masked, mantissa, fits.RECIPROCAL)
    excess = 2 * levels + (DIVIDED_BITS - PART_BITS)
    part, inverse = inner.truncate_all(party, [(part, 1 << excess), (inverse.at(1), 1 << (BITS - MANTISSA_BITS))])
    # 5. product
    out = inner.mul_at_once(party, part.at(1), Share(inverse.body, (rows, d), 1, (1, 0)))
    shaped = Share(out.body, (*batch, length, d), 1 << (PART_BITS + MANTISSA_BITS))
    return shaped, Means(suite, Share(p.body, (rows, n)), power, Share(inverse.body, (rows,)), levels)


def powers_cost(holders: int, n: int) -> Cost:
    """With the default suite: 20.3 bytes an element and peer, 372 dealt."""
    opened = mask_open_cost(holders, n) + regions_cost(holders, n, 1)
    return opened + exponential_cost(holders, n, FALLING) + select_cost(holders, n, True)


def means_cost(holders: int, rows: int, n: int, values: int, d: int) -> Cost:
    """With the default suite, of p [rows, n] and so many values of 16 bits, which are d in a row of the result."""
    results, levels = rows * d, (n.bit_length() - 1) // 2
    compared = thresholds_cost(holders, rows, levels + 1) + Cost(dealt=8 * rows * (levels + 1))
    divided = truncate_cost(holders, results, 1 << (POWER_BITS + 16 - DIVIDED_BITS)).dealt
    part = truncate_cost(holders, results, 1 << (2 * levels + DIVIDED_BITS - PART_BITS)).dealt
    inverse = truncate_cost(holders, rows, 1 << (BITS - MANTISSA_BITS)).dealt
    return (
        # 1. and 2.: S is opened with the factors, in the round that the comparisons have for it
        compared
        + Cost(sent=8 * (rows * n + values) * (holders - 1), dealt=8 * results)
        # 3.
        + opening(holders, results + 2 * rows)
        + Cost(dealt=divided + 16 * fits.RECIPROCAL.terms * rows)
        # 4. and 5.
        + opening(holders, results + rows)
        + Cost(dealt=part + inverse)
        + affine.product_cost(results, 2 + 4)
    )
