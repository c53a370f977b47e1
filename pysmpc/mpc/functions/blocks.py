"""A secret of 62 bits brought to an interval of one size in two stages: a normaliser with few thresholds.

The first stage finds out in which of four blocks of 16 bits v is, and multiplies it by the block's power, so that
16 bits are left; the second does the same with six smaller blocks.  Eight thresholds do the work of the thirty of
`normaliser`, of which the later ones look at 32 bits only, for twice the rounds.

What is multiplied are squares of public integers, S = S_coarse S_fine of both stages: roots take S itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from itertools import pairwise

import torch

from pysmpc.mpc.additive.exact import constant
from pysmpc.mpc.additive.products import product_cost
from pysmpc.mpc.additive.truncation import truncate_cost
from pysmpc.mpc.functions.characters import DealtTurns, Fit, angle_step, factors
from pysmpc.mpc.functions.masked import Masked
from pysmpc.mpc.functions.normaliser import sum_of_steps
from pysmpc.mpc.functions.regions import thresholds_cost
from pysmpc.mpc.interfaces import Cost, Party
from pysmpc.mpc.operations import Suite
from pysmpc.ring import told, z2k
from pysmpc.ring.shares import Share

COARSE = (1 << 16, 1 << 32, 1 << 48)  # where blocks of the first stage begin, but for the lowest
COARSE_ROOTS = (1 << 23, 1 << 15, 1 << 7, 1)
SHORT = 1 << 32  # divides v between the stages
FINE_ROOTS = (6504, 2581, 1024, 406, 161, 64)  # 64 * 2.52^i: six blocks of 2.52^2, which are 16 bits
ROOT = 832_210  # sqrt of where the interval begins: FINE_ROOTS[0]^2 2^14 is a little more
FINE = tuple(-(-(ROOT**2) // a**2) for a in FINE_ROOTS[1:])
DEALT_BITS = 15  # of dealt cosines and sines


@dataclass(eq=False)
class Blocks:
    """v as short = v S_coarse^2 / 2^32 and the bits of both stages, [3, n] and [5, n]."""

    short: Share
    coarse: Share
    fine: Share


def chosen(suite: Suite, party: Party, reached: Share, *tables: Sequence[int], behind: Share | None = None) -> Share:
    """values[j] where j thresholds were reached, for the values of each table: one [n] after the other.  No message.

    Linear in the bits [thresholds, n].  behind: what is to stand before them.
    """
    n = reached.shape[1]
    before = 0 if behind is None else behind.numel
    if suite.additive and not suite.plaintext:
        numbers = told.follow(partial(_steps, len(tables)), *(value for table in tables for value in table))[1]
        out = z2k.empty(party.rows, before + len(tables) * n)
        if behind is not None:
            out[:, :before] = behind.words()
        firsts, weights = told.tensor(numbers[: len(tables)]), told.tensor(numbers[len(tables) :])
        z2k.combinations(reached.words(), weights.view(len(tables), -1), firsts, party.lead, out, before)
        return Share.of(out, (out.shape[1],))
    parts = [] if behind is None else [behind]
    for least, *others in tables:
        steps = sum_of_steps(suite, party, reached, [value - least for value in others])
        parts.append(suite.add(party, steps, constant(suite, party, steps.shape, least, 1)))
    return joined(*parts)


def _steps(count: int, *values: int) -> told.Made:
    """The first values of so many tables, then by how much each other is larger than the one before."""
    width = len(values) // count
    tables = [values[at : at + width] for at in range(0, len(values), width)]
    return None, (*(table[0] for table in tables), *(b - a for table in tables for a, b in pairwise(table)))


def joined(*parts: Share) -> Share:
    """Several [n] as one, at scale 1: what is done to all of them takes the rounds of one."""
    if len(parts) == 1 and parts[0].dense:
        return parts[0].at(1)
    words = [part.window(part.body.words) for part in parts]
    return Share.of(torch.cat(words, 1), (sum(part.numel for part in parts),))


def apart(whole: Share, sizes: Sequence[int]) -> list[Share]:
    """What `joined` put together, as windows: nothing is copied before somebody asks for words in a row."""
    found, at = [], 0
    for n in sizes:
        found.append(Share(whole.body, (n,), 1, (1,), at))
        at += n
    return found


def products(suite: Suite, party: Party, *pairs: tuple[Share, Share]) -> list[Share]:
    """The products of several pairs, in one round."""
    out = suite.mul(party, joined(*(a for a, _ in pairs)), joined(*(b for _, b in pairs)))
    return apart(out, [a.numel for a, _ in pairs])


def bring(suite: Suite, party: Party, v: Share) -> Blocks:
    """The blocks in which v is, [n] integers 1 <= v <= 2^62 - 2^32.  Ten rounds.

    1. Bits v >= 2^16, 2^32, 2^48: four rounds.
    2. v S_coarse^2: one round; by 2^32: one round.
    3. Bits of the second stage: four rounds.
    """
    # 1. coarse bits
    coarse = suite.thresholds(party, v, COARSE)
    # 2. one block
    wide = suite.mul(party, v, chosen(suite, party, coarse, [a * a for a in COARSE_ROOTS]))
    short = suite.truncate(party, wide, SHORT).at(1)
    # 3. fine bits
    return Blocks(short, coarse, suite.thresholds(party, short, FINE, 32))


def bring_cost(holders: int, n: int) -> Cost:
    """With the default suite: 53.5 bytes an element and peer, 206 dealt."""
    first = thresholds_cost(holders, n, len(COARSE)) + product_cost(holders, 2 * n, n)
    return first + truncate_cost(holders, n, SHORT) + thresholds_cost(holders, n, len(FINE), 32)


def of_mantissa(suite: Suite, party: Party, opened: Masked, fit: Fit, bits: int) -> Share:
    """fit(x / ROOT^2) at 2^bits of an x that was opened: to a step and 2^-16 of its coefficients, and the fit's error.

    No message; 16 bytes from the dealer for each term, once for all fits of the same period and terms.
    """
    step = angle_step(fit.period, ROOT**2)
    key = ("short turns", step, fit.terms)
    if key not in opened.known:
        opened.known[key] = suite.deal_words(party, opened, 2 * fit.terms, DealtTurns(step, fit.terms, DEALT_BITS))
    added, words = round(Fraction(fit.constant) * (1 << bits)), opened.known[key]
    return suite.combine(party, opened, words, factors(fit, step, bits - DEALT_BITS), added, 1 << bits)
