"""A smooth function of a secret: opening, regions, the sum, and the choice between sum and asymptote."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import torch

from pysmpc.protocols.functions.characters import BITS, Fit, ends, evaluate
from pysmpc.protocols.functions.masked import Masked
from pysmpc.protocols.interfaces import Party
from pysmpc.shares import Share


@dataclass(eq=False)
class Opened:
    """An opened value and its regions, for all functions of it that have the same ends."""

    masked: Masked
    x: Share
    regions: dict[tuple[int, int], Any]


def opened(suite: Any, party: Party, x: Share) -> Opened:
    """x under a mask that the dealer knows; remembered with x's body."""
    known = x.body.functions
    if known is None:
        known = x.body.functions = {}
    key = x.layout
    if key not in known:
        # the words in order: the opening runs parallel to them
        flat = x if x.dense else Share.of(x.words(), x.shape, x.scale)
        known[key] = Opened(suite.mask_open(party, flat), flat, {})
    found: Opened = known[key]
    return found


def smooth(
    suite: Any, party: Party, x: Share, fit: Fit, scale: int, stretch: Fraction = Fraction(1), bounded: bool = False
) -> Share:
    """fit(stretch x) at `scale`, on the whole domain.  Five rounds with the default suite, of which four serve x.

    1. Open c = x + r.
    2. The bits x < lo and x < hi: three rounds.
    3. The trigonometric sum: linear in dealt words.
    4. inside * sum / by: one round.
    5. Add the asymptotes: the constants times the bits, and x * above.

    bounded: the caller knows that x is in the interval: steps 2 and 5 fall away, and 4 is a truncation.
    """
    found = opened(suite, party, x)
    flat = found.x.at(x.scale)
    by = round(Fraction(1 << BITS) / scale)
    if bounded:
        value = evaluate(suite, party, found.masked, flat, fit, stretch)
        out = suite.truncate(party, value, by)
        return Share(out.body, x.shape, scale)
    lo, hi = ends(fit, x.scale, stretch)
    # 2. regions
    if (lo, hi) not in found.regions:
        found.regions[lo, hi] = suite.regions(party, found.masked, flat, lo, hi)
    where = found.regions[lo, hi]
    # 3. the sum
    value = evaluate(suite, party, found.masked, flat, fit, stretch)
    # 4. choose
    out = where.choose(suite, party, value, by)
    out = Share(out.body, x.shape, scale)
    # 5. asymptotes
    return _asymptotes(suite, party, out, where, flat, fit, scale, stretch)


def _asymptotes(
    suite: Any, party: Party, out: Share, where: Any, x: Share, fit: Fit, scale: int, stretch: Fraction
) -> Share:
    below, above = (fit.below, fit.above) if stretch > 0 else (fit.above, fit.below)
    if above == "x":
        if stretch != 1:
            raise ValueError(f"{fit.name}: a function that grows like x takes x itself, not a multiple of it")
        part = where.above_times(suite, party, x)
        out = suite.add(party, out, _rescaled(suite, party, part, scale))
    elif above:
        part = suite.scale_by(party, where.is_above(suite, party), round(Fraction(above) * scale))
        out = suite.add(party, out, Share(part.body, out.shape, scale))
    if below == "x":
        raise ValueError(f"{fit.name}: nothing here grows like x below")
    if below:  # 1 - inside - above would need the inside as a number: what is added everywhere, less the rest
        raise ValueError(f"{fit.name}: fits are 0 below; add the constant to the result")
    return out


def _rescaled(suite: Any, party: Party, x: Share, scale: int) -> Share:
    if x.scale == scale:
        return x
    if scale % x.scale == 0:
        out: Share = suite.scale_by(party, x, scale // x.scale)
        return out.at(scale)
    out = suite.truncate(party, x, x.scale // scale)
    return out.at(scale)


def constant(suite: Any, party: Party, shape: tuple[int, ...], value: Fraction, scale: int) -> Share:
    """A public number everywhere."""
    out: Share = suite.public(party, torch.tensor([round(value * scale)]), scale)
    return Share(out.body, shape, scale, (0,) * len(shape))
