"""What adaptive optimizers need: averages at fine scales, and a quotient by a root.

A gradient of 1e-6 has the square 1e-12, of which nothing is left at the fractional bits of a parameter, and a second
moment divides.  So gradients are taken at 26 fractional bits, means of them are kept at 36, means of their squares at
52: a gradient must be below 32 in magnitude.  The quotient m / (sqrt(v) + eps) normalises v in two stages (`blocks`)
and is made of sums over one opening of what is left.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

from pysmpc.errors import EncodingError
from pysmpc.mpc.additive.exact import constant
from pysmpc.mpc.additive.products import product_cost
from pysmpc.mpc.additive.truncation import truncate_cost
from pysmpc.mpc.functions import fits
from pysmpc.mpc.functions.blocks import (
    COARSE_ROOTS,
    FINE_ROOTS,
    ROOT,
    apart,
    bring,
    bring_cost,
    chosen,
    of_mantissa,
    products,
)
from pysmpc.mpc.functions.characters import Fit
from pysmpc.mpc.functions.masked import deal_words_cost
from pysmpc.mpc.interfaces import Cost, Party, opening
from pysmpc.mpc.operations import Suite
from pysmpc.ring.shares import Share

GRADIENT, MEAN, SQUARE = 26, 36, 52  # fractional bits
WEIGHT_BITS = 17  # of the weight of a mean
CLOSE = Fraction(1, 1 << 20)  # how near to a weight a sum of unit fractions is
TERMS = 6  # of them, at most
PHI = 37  # bits of 1 / (sqrt(x) + a), which is at most 1
BOUND = 7  # bits of the quotient, by default

#: (positive or negative divisor, ...): a weight as a sum of unit fractions.
Divisors = tuple[int, ...]


@lru_cache(maxsize=64)
def unit_fractions(weight: Fraction) -> Divisors:
    """Integers whose inverses sum to a weight, to 2^-20 of it: 0.001 is 1/1000, 0.003 is 1/333 + 1/333000."""
    found: list[int] = []
    rest = weight
    while rest and abs(rest) > weight * CLOSE:
        if len(found) == TERMS:
            raise EncodingError(f"the weight {float(weight):.6g} of an average is too small or has too many digits")
        found.append(round(1 / rest))
        if not found[-1]:
            found[-1] = 1 if rest > 0 else -1
        rest -= Fraction(1, found[-1])
    return tuple(found)


@dataclass(eq=False)
class Average:
    """old + weight * (new - old), or old + weight * new for a sum; [n] integers of one scale."""

    old: Share
    new: Share
    weight: Fraction
    sum: bool = False
    short: bool = False  # |new - old| < 2^42, so that there is room for the weight's digits


def averages(suite: Suite, party: Party, wanted: Sequence[Average]) -> list[Share]:
    """Each to a step for every unit fraction of its weight, rounded without bias.  One round for all.

    13 bytes dealt an element for a short one, 16 for each unit fraction of another.
    """
    suite = suite.probabilistic
    dividends: list[tuple[Share, int]] = []
    signs: list[list[int]] = []
    for each in wanted:
        gap = each.new if each.sum else suite.sub(party, each.new, each.old)
        if each.short and each.weight != 1:
            bits = WEIGHT_BITS + max(0, math.floor(-math.log2(each.weight)))
            dividends.append((suite.scale_by(party, gap, round(each.weight * (1 << bits))), 1 << bits))
            signs.append([1])
        else:
            parts = unit_fractions(each.weight)
            dividends += [(gap, abs(by)) for by in parts]
            signs.append([1 if by > 0 else -1 for by in parts])
    found = iter(_divided(suite, party, dividends))
    out = []
    for each, several in zip(wanted, signs, strict=True):
        total = each.old
        for sign in several:
            part = next(found).at(total.scale)
            total = suite.add(party, total, part) if sign > 0 else suite.sub(party, total, part)
        out.append(total)
    return out


def _divided(suite: Suite, party: Party, dividends: Sequence[tuple[Share, int]]) -> list[Share]:
    """Each z / by; those by one are what they were."""
    real = [(z, by) for z, by in dividends if by > 1]
    found = iter(suite.truncate_all(party, real) if real else [])
    return [next(found) if by > 1 else z for z, by in dividends]


def averages_cost(holders: int, n: int) -> Cost:
    """Of a short mean and another with one unit fraction that is no power of two."""
    return truncate_cost(holders, n, 1 << WEIGHT_BITS) + Cost(
        rounds=0, sent=truncate_cost(holders, n).sent, dealt=truncate_cost(holders, n).dealt
    )


@dataclass(frozen=True)
class Term:
    """coarse[i] fine[j] fit(x) for the block i and the smaller block j in which v is; without a fit, times 1."""

    coarse: tuple[int, ...]
    fine: tuple[int, ...]
    fit: Fit | None


@dataclass(frozen=True)
class Corrections:
    """What is added to 1 / sqrt(x) for 1 / (sqrt(x) + a), with a = eps / sqrt(the block's v).

    fit_bits, weight_bits: of a fit, and of the product of coarse and fine.
    """

    terms: tuple[Term, ...]
    fit_bits: int
    weight_bits: int


def _root_of_block(i: int, j: int) -> Fraction:
    """By what a step of sqrt(v) is multiplied where x is in [1, 6.4)."""
    return Fraction(COARSE_ROOTS[i] * FINE_ROOTS[j], ROOT << 16)


def _root(x: Fraction) -> Fraction:
    """To 2^-40 of its size, the same on every machine."""
    return Fraction(math.isqrt((x.numerator << 120) // x.denominator), 1 << 60)


MIDDLE = Fraction(12, 5)  # of a smaller block, as x


@lru_cache(maxsize=256)
def _small_eps(step: Fraction) -> Corrections:
    """For eps of at most a step of sqrt(v): one term, -w / x.

    With k steps of v, of which k + 1 are in the blocks, w is right in the middle of each smaller block of the lowest
    block; 2^-8 of it serves the next one where eps is more than half a step.
    """
    fine = []
    for j in range(len(FINE_ROOTS)):
        unit = _root_of_block(0, j)
        above = MIDDLE / unit**2  # k + 1
        gap = 1 / _root(above) - 1 / (_root(above - 1) + step)
        fine.append(-round(gap * above * unit * (1 << 8)))
    following = int(step > Fraction(1, 2))
    return Corrections((Term((1 << 8, following, 0, 0), tuple(fine), fits.WIDE_RECIPROCAL),), PHI - 16, 16)


#: Where a quadratic in sqrt(x) is fitted: Chebyshev's nodes of [1, 2.52].
NODES = (Fraction(1102, 1000), Fraction(1760, 1000), Fraction(2418, 1000))
WEIGHT = 17


def _quadratic(a: Fraction) -> tuple[Fraction, Fraction, Fraction]:
    """(c_0, c_1, c_2) with c_0 + c_1 y + c_2 y^2 = -a / (y + a) at the nodes."""
    y0, y1, y2 = NODES
    v0, v1, v2 = (-a / (y + a) for y in NODES)
    d01, d12 = (v1 - v0) / (y1 - y0), (v2 - v1) / (y2 - y1)
    d012 = (d12 - d01) / (y2 - y0)
    return v0 - d01 * y0 + d012 * y0 * y1, d01 - d012 * (y0 + y1), d012


@lru_cache(maxsize=256)
def _large_eps(step: Fraction) -> Corrections:
    """1 / (y + a) - 1 / y = (c_0 + c_1 y + c_2 y^2) / y for y = sqrt(x): terms for 1 / y, 1 and y of each block."""
    terms = []
    for i in range(len(COARSE_ROOTS)):
        if step * _root_of_block(i, 0) < Fraction(1, 1 << 12):
            break
        found = [_quadratic(step * _root_of_block(i, j)) for j in range(len(FINE_ROOTS))]
        only = tuple(int(i == k) for k in range(len(COARSE_ROOTS)))
        for power, fit in enumerate((fits.WIDE_RSQRT, None, fits.WIDE_SQRT)):
            fine = tuple(round(each[power] * (1 << WEIGHT)) for each in found)
            terms.append(Term(only, fine, fit))
    return Corrections(tuple(terms), 33, WEIGHT)


def corrections(step: Fraction) -> Corrections:
    """For eps in steps of sqrt(v)."""
    return _small_eps(step) if step <= 1 else _large_eps(step)


def over_root(
    suite: Suite, party: Party, top: Share, v: Share, eps: Fraction, bits: int, square: int, bound: int = BOUND
) -> tuple[Share, Fraction]:
    """top / (sqrt(v) + eps) as integers [n], and their scale; |quotient| < 2^bound.  15 rounds, 16 for a large eps.

    top: integers [n] at 2^bits.  v: at 2^square, an even number of bits, from 0 to 2^62 - 2^33.  eps is public, and
    large where it is more than a step of sqrt(v).  The quotient is right to 2^-9 of it and 2^(bound - 23), for a large
    eps to 2^-8 and 2^-12; where v is less than 2^12 steps, to 2^-7 and 1.2 / v of it, about what v is rounded by.
    No steps count as one for the root: 0 / 0 is 0.

    1. v + 1 in its blocks: ten rounds.
    2. x = short S_fine^2, S = S_coarse S_fine, and the weights of the terms that eps makes: one round.
    3. Open x: one round.
    4. n = top S, and the terms: one round.
    5. n, and the terms of a large eps, shortened: one round.
    6. n (1 / sqrt(x) + terms): one round.
    """
    suite = suite.probabilistic
    # 1. blocks
    found = bring(suite, party, suite.add(party, v.at(1), constant(suite, party, v.shape, 1, 1)))
    # 2. mantissa
    added = corrections(eps * (1 << (square // 2)))
    squares = [a * a for a in FINE_ROOTS]
    left = chosen(suite, party, found.coarse, COARSE_ROOTS, *(t.coarse for t in added.terms), behind=found.short)
    right = chosen(suite, party, found.fine, squares, FINE_ROOTS, *(t.fine for t in added.terms))
    x, root, *factors = apart(suite.mul(party, left, right), [top.numel] * (2 + len(added.terms)))
    # 3. open
    opened = suite.mask_open(party, x)
    # 4. numerator and terms
    several: dict[Fit | None, Share] = {}
    for term, factor in zip(added.terms, factors, strict=True):
        several[term.fit] = suite.add(party, several[term.fit], factor) if term.fit in several else factor
    parts = [(of_mantissa(suite, party, opened, fit, added.fit_bits).at(1), w) for fit, w in several.items() if fit]
    n, *made = products(suite, party, (top.at(1), root), *parts)
    if None in several:
        made.append(suite.scale_by(party, several[None], 1 << added.fit_bits).at(1))
    # 5. shorten
    down = max(0, bits - square // 2 + 12 + bound)
    more = added.fit_bits + added.weight_bits - PHI
    total = made[0]
    for part in made[1:]:
        total = suite.add(party, total, part)
    n, total = _divided(suite, party, [(n, 1 << down), (total, 1 << more)])
    # 6. quotient
    phi = suite.add(party, of_mantissa(suite, party, opened, fits.WIDE_RSQRT, PHI).at(1), total.at(1))
    [out] = products(suite, party, (n.at(1), phi))
    return out, Fraction(ROOT) * Fraction(2) ** (PHI + bits + 16 - down - square // 2)


def over_root_cost(holders: int, n: int, bits: int = MEAN, square: int = SQUARE, bound: int = BOUND) -> Cost:
    """Of a small eps, with the default suite: 330 bytes dealt an element."""
    down = bits - square // 2 + 12 + bound
    cost = bring_cost(holders, n) + product_cost(holders, 6 * n, 3 * n) + opening(holders, n)
    cost += deal_words_cost(holders, n, 2 * fits.WIDE_RSQRT.terms) + product_cost(holders, 4 * n, 2 * n)
    return cost + truncate_cost(holders, n, 1 << down) + product_cost(holders, 2 * n, n)
