"""A smooth function of a secret: opening, regions, the sum, and the choice between sum and asymptote."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

from pysmpc.errors import EncodingError
from pysmpc.mpc.additive.affine_values import note_with_bit
from pysmpc.mpc.additive.comparison import select_cost
from pysmpc.mpc.additive.truncation import divisor
from pysmpc.mpc.functions.characters import BITS, Fit, ends, evaluate, evaluate_cost
from pysmpc.mpc.functions.known_values import REMEMBERED, Opened, distinct, elements, known_of
from pysmpc.mpc.functions.regions import regions_cost
from pysmpc.mpc.interfaces import Cost, Party, opening
from pysmpc.ring import z2k
from pysmpc.ring.fixedpoint import LIMIT
from pysmpc.ring.shares import Share


def opened(suite: Any, party: Party, x: Share) -> Opened:
    """x under a mask that the dealer knows; remembered with x's body."""
    openings, key = known_of(x.body).openings, elements(x)
    found = openings.get(key)
    if found is None:
        # the words in order: the opening runs parallel to them
        flat = x if x.dense else Share.of(x.words(), x.shape, x.scale)
        found = openings[key] = Opened(suite.mask_open(party, flat), flat, x.body)
        spare = REMEMBERED * x.body.n - sum(each.masked.n for each in openings.values())
        while spare < 0 and len(openings) > 1:  # which ones stay depends on the program alone
            spare += openings.pop(next(iter(openings))).masked.n
    return found


def opened_beside(
    suite: Any, party: Party, x: Share, dividends: Sequence[tuple[Share, int]], factors: Sequence[Share] = ()
) -> list[Share]:
    """Open x for functions of it, and divide others and open factors in the same round; the quotients."""
    core, _ = distinct(x)
    openings, key = known_of(core.body).openings, elements(core)
    if key in openings:
        _, found = suite.together(party, (), dividends, factors)
    else:
        flat = core if core.dense else Share.of(core.words(), core.shape, core.scale)
        [masked], found = suite.together(party, [flat], dividends, factors)
        openings[key] = Opened(masked, flat, core.body)
    quotients: list[Share] = found
    return quotients


def smooth(
    suite: Any,
    party: Party,
    x: Share,
    fit: Fit,
    scale: int,
    stretch: Fraction = Fraction(1),
    bounded: bool = False,
    over: Fraction = Fraction(1),
    until: Fraction | None = None,
    bound: float | None = None,
) -> Share:
    """fit(stretch x) / over at `scale`, on the whole domain.  Five rounds by default, of which four serve x.

    1. Open c = x + r.
    2. The bits x < lo and x < hi: three rounds.
    3. The trigonometric sum: linear in dealt words.
    4. inside * sum / by: one round.
    5. Add the asymptotes: the constants times the bits, and x * above, which takes a round more where x has a
       finer scale than the result.

    stretch: positive.  bounded: the caller knows that x is in the interval: steps 2 and 5 fall away, and 4 is
    a truncation: two rounds.  bound: publicly known of |x|, which comes to the same where it is in the interval, also
    for other functions of the same opening.  until: stretch x from which on the function is its asymptote, where that
    is before the fit ends; it still belongs to the interval itself.
    """
    core, back = distinct(x)
    found = opened(suite, party, core)
    flat = found.x.at(x.scale)
    by = round(Fraction(1 << BITS) * over / scale)
    if by < 2:
        raise EncodingError(f"{fit.name}: results of scale {scale} leave no room for a factor of {float(1 / over):.3g}")
    limit = found.bounded(x.scale, bound)
    if bounded or (limit is not None and is_inside(limit, interval(fit, x.scale, stretch, until))):
        out = suite.truncate(party, evaluate(suite, party, found.masked, flat, fit, stretch), by)
        return back(out.at(scale))
    # 2. regions
    where = regions_of(suite, party, found, flat, fit, stretch, until)
    # 3. the sum
    value = evaluate(suite, party, found.masked, flat, fit, stretch)
    # 4. choose
    out = where.choose(suite, party, value, by).at(scale)
    # 5. asymptotes
    return back(_asymptotes(suite, party, out, where, flat, fit, scale, stretch, over))


def interval(fit: Fit, scale: int, stretch: Fraction, until: Fraction | None) -> tuple[int, int]:
    """Where stretch x is in the interval of a fit, in integers of x: from the first to below the second."""
    lo, hi = ends(fit, scale, stretch)
    if until is not None and until / stretch * scale < hi:
        hi = int(until / stretch * scale // 1) + 1
        lo = min(lo, hi)
    return lo, hi


def is_inside(limit: int, between: tuple[int, int]) -> bool:
    """Whether all integers up to a magnitude are in an interval."""
    return between[0] <= -limit and limit < between[1]


def regions_of(
    suite: Any, party: Party, found: Opened, x: Share, fit: Fit, stretch: Fraction, until: Fraction | None = None
) -> Any:
    """Where the elements lie, compared once for each pair of ends."""
    lo, hi = interval(fit, x.scale, stretch, until)
    if max(abs(lo), abs(hi)) >= LIMIT:
        raise EncodingError(f"{fit.name}: the factor {float(stretch):.3g} is too small for a secret of scale {x.scale}")
    if (lo, hi) not in found.regions:
        found.regions[lo, hi] = suite.regions(party, found.masked, x, lo, hi)
    return found.regions[lo, hi]


def _asymptotes(
    suite: Any, party: Party, out: Share, where: Any, x: Share, fit: Fit, scale: int, stretch: Fraction, over: Fraction
) -> Share:
    if stretch <= 0 or fit.below:
        raise ValueError(
            f"{fit.name}: fits are 0 below, and stretched by positive factors; add the constant afterwards"
        )
    if fit.above == "x":
        if stretch != over:
            raise ValueError(f"{fit.name}: what grows like x takes x itself, or is divided by the factor of x")
        part = rescaled(suite, party, where.above_times(suite, party, x), scale)
        return suite.add(party, out, part)
    if fit.above:
        above, weight = where.is_above(suite, party), round(Fraction(fit.above) / over * scale)
        part = suite.scale_by(party, above, weight)
        whole: Share = suite.add(party, out, Share(part.body, out.shape, scale))
        note_with_bit(whole, out, above, weight)
        return whole
    return out


def function_cost(holders: int, n: int, fit: Fit, finer: bool = False) -> Cost:
    """Of `smooth` with the default suite; finer: for an argument of finer scale, by a power of two.

    24.5 bytes an element and peer, and from the dealer 101 and 16 for each of the terms.
    """
    cost = evaluate_cost(holders, n, fit.terms) + regions_cost(holders, n) + derivative_cost(holders, n)
    if fit.above == "x":
        cost += Cost(dealt=8 * n)
        if finer:
            cost += opening(holders, n) + Cost(dealt=8 * z2k.truncate_words(divisor(1 << 16), n))
    return cost


def derivative_cost(holders: int, n: int) -> Cost:
    """Of another function of the same argument, ends, period and terms: one round, 32 bytes an element dealt."""
    return select_cost(holders, n, True)


def minus_x(suite: Any, party: Party, x: Share, fit: Fit, scale: int, bound: float | None = None) -> Share:
    """x - fit(x) at `scale`, for a fit that grows like x: 0 above its interval, x below it.  Rounds of `smooth`."""
    core, back = distinct(x)
    found = opened(suite, party, core)
    flat = found.x.at(x.scale)
    limit = found.bounded(x.scale, bound)
    if limit is not None and is_inside(limit, ends(fit, x.scale, Fraction(1))):
        part = suite.truncate(
            party, evaluate(suite, party, found.masked, flat, fit), round(Fraction(1 << BITS) / scale)
        )
        return back(suite.sub(party, rescaled(suite, party, flat, scale), part.at(scale)))
    where = regions_of(suite, party, found, flat, fit, Fraction(1))
    value = evaluate(suite, party, found.masked, flat, fit)
    inside = where.choose(suite, party, value, round(Fraction(1 << BITS) / scale)).at(scale)
    rest = suite.sub(party, flat, where.above_times(suite, party, flat))
    return back(suite.sub(party, rescaled(suite, party, rest, scale), inside))


def rescaled(suite: Any, party: Party, x: Share, scale: int) -> Share:
    """x at another scale, of which one is a multiple of the other; a round where it becomes coarser."""
    if x.scale == scale:
        return x
    if scale % x.scale == 0:
        out: Share = suite.scale_by(party, x, scale // x.scale)
        return out.at(scale)
    out = suite.truncate(party, x, x.scale // scale)
    return out.at(scale)
