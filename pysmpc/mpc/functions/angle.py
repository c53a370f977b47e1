"""The angle of a point in the plane: the smaller coordinate over the larger one, and in which quarter it lies."""

from __future__ import annotations

from fractions import Fraction

from pysmpc.errors import EncodingError
from pysmpc.mpc.additive.comparison import negative_cost
from pysmpc.mpc.additive.exact import constant
from pysmpc.mpc.additive.products import product_cost
from pysmpc.mpc.additive.truncation import truncate_cost
from pysmpc.mpc.functions import fits, piecewise_fits
from pysmpc.mpc.functions.characters import BITS, evaluate, evaluate_cost
from pysmpc.mpc.functions.normaliser import TOP, sum_of_steps
from pysmpc.mpc.functions.piecewise_polynomials import stacked
from pysmpc.mpc.functions.regions import thresholds_cost
from pysmpc.mpc.interfaces import Cost, Party, opening
from pysmpc.mpc.operations import Suite
from pysmpc.ring.shares import Share

PI = Fraction(884279719003555, 1 << 48)  # to 2^-50
MINOR_BITS = 26  # of the smaller coordinate, as a part of the power of four below the larger
INVERSE_BITS = 30  # of the inverse of the larger one
ATAN = piecewise_fits.ATAN_OF_QUOTIENT.pieces[0]


def angle(suite: Suite, party: Party, y: Share, x: Share, scale: int) -> Share:
    """The angle of (x, y) from the x axis, in (-pi, pi], at `scale`, for any common scale of x and y; 0 for (0, 0).

    Fifteen rounds.  |x| + |y| is below 2^62 steps.

    1. The bits right = (y <= x), down = (y < -x) and below = (y < 0).
    2. The plane is turned by quarters until the point is near the positive axis.  Of the turned point,
       m = x (right - down) + y (1 - right - down) = max(|x|, |y|) and n = y (right - down) - x (1 - right - down): one
       round.  Meanwhile (1 - right) down, the quarter around the negative axis.
    3. The power p = 4^(top - j) with m p in [4^top, 4^(top + 1)): four rounds.  m p and n p: one round.
    4. 1 / (m p) by its trigonometric sum, from one opening; that and n p shortened: two rounds.
    5. Their product, n / m: one round.  Meanwhile the sign of the half turn.
    6. atan of n / m by its trigonometric sum, from one opening; plus the turns; divided: two rounds.
    """
    by = round(Fraction(1 << BITS) / scale)
    if by < 2:
        raise EncodingError(f"angles of scale {scale} have no room; use fewer fractional bits")
    inner, size = suite.probabilistic, y.numel
    ys, xs = (Share.of(v.words(), (size,)) for v in (y, x))
    one = constant(inner, party, (size,), 1, 1)
    # 1. bits
    gap, total = inner.sub(party, inner.sub(party, ys, xs), one), inner.add(party, ys, xs)
    found = inner.bit_share(party, inner.negative(party, stacked([gap, total, ys])), (3 * size,))
    right, down, below = rows(found, 3)
    # 2. turn
    along, across = inner.sub(party, right, down), inner.sub(party, inner.sub(party, one, right), down)
    left = [along, along, across, across, inner.sub(party, one, right)]
    products = rows(inner.mul(party, stacked(left), stacked([xs, ys, ys, xs, down])), 5)
    m, n = inner.add(party, products[0], products[2]), inner.sub(party, products[1], products[3])
    behind = products[4]
    # 3. normalise
    reached = inner.thresholds(party, m, [4**j for j in range(TOP + 1)])
    power = sum_of_steps(inner, party, reached, [4 ** (TOP - j) for j in range(TOP + 1)])
    first = Share.of(Share(reached.body, (size,), 1, (1,), 0).words(), (size,))
    both = Share.of(stacked([m, n]).words(), (2, size))
    v, minor = rows(inner.mul(party, both, Share(power.body, (1, size))), 2)
    v = inner.add(party, v, inner.scale_by(party, inner.sub(party, one, first), 4**TOP))
    # 4. inverse
    inverse = evaluate(inner, party, inner.mask_open(party, v), v.at(4**TOP), fits.RECIPROCAL)
    shorter = [(inverse.at(1), 1 << BITS - INVERSE_BITS), (minor, 1 << 2 * TOP - MINOR_BITS)]
    inverse, minor = (part.at(1) for part in inner.truncate_all(party, shorter))
    # 5. quotient
    sign = inner.sub(party, one, inner.scale_by(party, below, 2))
    quotient, half = rows(inner.mul(party, stacked([inverse, behind]), stacked([minor, sign])), 2)
    # 6. angle
    q = quotient.at(1 << INVERSE_BITS + MINOR_BITS)
    out = evaluate(inner, party, inner.mask_open(party, q), q, ATAN).at(1)
    for part, turn in ((across, PI / 2), (half, PI)):
        out = inner.add(party, out, inner.scale_by(party, part, round(turn * (1 << BITS))))
    out = suite.truncate(party, out, by)
    return Share(out.body, y.shape, scale)


def angle_cost(holders: int, n: int, scale: int = 1 << 16) -> Cost:
    """With the default suite and a binary scale."""
    turned = negative_cost(holders, 3 * n) + product_cost(holders, 10 * n, 5 * n)
    normalised = thresholds_cost(holders, n, TOP + 1) + product_cost(holders, 3 * n, 2 * n)
    shorter = opening(holders, 2 * n) + Cost(
        dealt=sum(truncate_cost(holders, n, 1 << p).dealt for p in (BITS - INVERSE_BITS, 2 * TOP - MINOR_BITS))
    )
    inverse = evaluate_cost(holders, n, fits.RECIPROCAL.terms) + shorter
    quotient = product_cost(holders, 4 * n, 2 * n)
    last = truncate_cost(holders, n, round(Fraction(1 << BITS) / scale))
    return turned + normalised + inverse + quotient + evaluate_cost(holders, n, ATAN.terms) + last


def rows(x: Share, count: int) -> list[Share]:
    """The parts of what was stacked."""
    n = x.body.n // count
    return [Share.of(Share(x.body, (n,), 1, (1,), i * n).words(), (n,)) for i in range(count)]
