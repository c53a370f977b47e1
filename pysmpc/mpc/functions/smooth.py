"""A smooth function of a secret: opening, regions, the sum, and the choice between sum and asymptote."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from pysmpc.errors import EncodingError
from pysmpc.mpc.additive.affine import note_with_bit
from pysmpc.mpc.additive.comparison import select_cost
from pysmpc.mpc.additive.truncation import divisor
from pysmpc.mpc.functions.characters import BITS, Fit, ends, evaluate, evaluate_cost
from pysmpc.mpc.functions.masked import Masked
from pysmpc.mpc.functions.regions import regions_cost
from pysmpc.mpc.interfaces import Cost, Party, opening
from pysmpc.ring import z2k
from pysmpc.ring.fixedpoint import LIMIT
from pysmpc.ring.shares import Share, ShareStorage, dense_strides

#: Elements of openings that a body remembers, in multiples of its own.
REMEMBERED = 2

#: Functions whose results are known to be theirs after a truncation, too.
AT_EVERY_SCALE = frozenset(("attention", "normalised"))


@dataclass(eq=False, repr=False)
class Opened:
    """An opened value and its regions, for all functions of it that have the same ends.

    limit: no integer of it is larger in magnitude, where that is publicly known.
    """

    masked: Masked
    x: Share
    regions: dict[object, Any]
    limit: int | None = None

    def bounded(self, scale: int, bound: float | None) -> int | None:
        """The limit, from now on that of a public bound of x at a scale, if there is one."""
        if bound is not None:
            self.limit = math.ceil(bound * scale)
        return self.limit


@dataclass(eq=False, repr=False)
class Known:
    """What is known of a body for the sake of nonlinear functions (`ShareStorage.functions`).

    openings: the latest, by the elements of the body that were opened, in which order.
    source: where the body is the result of a function: its name, layout and scale of the result, the argument, whose
    opening serves the derivative, or what else the derivative needs.
    finer: the whole value as it was before it was truncated, where that was opened, or with more digits of a public
    number that was added.
    inverses: by elements, how 1 / x follows from what a logarithm or a root has opened.
    multiple: the share of which the body is a public multiple, and the factor, where that has such an inverse.
    copied: what the body is a copy of, for the same.
    sums: x plus a public number, where that sum was the argument of a function.
    kept: functions of the body that are asked for again and again.
    A body is never written, so none of this is ever stale.
    """

    openings: dict[object, Opened] = field(default_factory=dict)
    source: tuple[str, object, Any] | None = None
    finer: Share | None = None
    inverses: dict[object, Any] = field(default_factory=dict)
    multiple: tuple[Share, Fraction] | None = None
    copied: Share | None = None
    sums: dict[object, Share] = field(default_factory=dict)
    kept: dict[object, Any] = field(default_factory=dict)

    def truncated(self, whole: Share) -> Known | None:
        """What is known of a body that `whole` was truncated to, as far as it serves functions of that."""
        finer = whole if self.openings or self.inverses else self.finer
        source = self.source if self.source is not None and self.source[0] in AT_EVERY_SCALE else None
        return None if finer is None and source is None else Known(finer=finer, source=source)

    def undo(self) -> Callable[[], None]:
        """What makes this forget all that is learned from now on."""
        parts: list[Any] = [self, *self.openings.values(), *(each.masked for each in self.openings.values())]
        parts += [where for each in self.openings.values() for where in each.regions.values()]
        parts += [part for each in self.inverses.values() for part in (each, each.opened)]
        kept = [{k: dict(v) if isinstance(v, dict) else v for k, v in vars(part).items()} for part in parts]

        def forget() -> None:
            for part, values in zip(parts, kept, strict=True):
                vars(part).update(values)

        return forget


def known_of(body: ShareStorage) -> Known:
    """What is known of a body, to be added to."""
    found: Known = body.functions if body.functions is not None else Known()
    body.functions = found
    return found


def note_source(out: Share, name: str, x: Any) -> None:
    """Note that `out`, a share with a body of its own, is the function `name` of x, or what serves its derivative."""
    known_of(out.body).source = name, (out.layout, out.scale), x


def source_of(out: Share, name: str) -> Any:
    """The x of which `out` is the function `name`, if it is the whole result of it."""
    known: Known | None = out.body.functions
    if known is None or known.source is None or known.source[:2] != (name, (out.layout, out.scale)):
        return None
    return known.source[2]


def is_argument(x: Share) -> bool:
    """Whether some of x's body was opened for a function."""
    known: Known | None = x.body.functions
    return known is not None and bool(known.openings or known.finer)


def note_argument(x: Share, name: str) -> None:
    """Note that the function `name` was taken of x, so that its derivative is known to be one."""
    known_of(x.body).kept["argument of", name, elements(x)] = True


def is_argument_of(x: Share, name: str) -> bool:
    """Whether the function `name` was taken of x."""
    known: Known | None = x.body.functions
    return known is not None and ("argument of", name, elements(x)) in known.kept


def note_inverse(x: Share, found: Any) -> None:
    """Note how 1 / x follows from what is open (`normaliser.Inverse`)."""
    known_of(x.body).inverses[elements(x)] = found


def inverse_of(x: Share) -> tuple[Any, Fraction] | None:
    """How 1 / y follows from what is open, and the public number k with x = k y, where that is known."""
    known: Known | None = x.body.functions
    if known is None:
        return None
    if known.finer is not None:
        found = inverse_of(finest(x))
        if found is not None:
            return found
    found = known.inverses.get(elements(x))
    if found is not None:
        return found, Fraction(found.scale, x.scale)
    if known.multiple is None:
        return None
    whole, factor = known.multiple  # the body's words are factor * the other's, at the scale that is noted there
    found = inverse_of(Share(whole.body, x.shape, whole.scale, x.strides, x.offset))
    return None if found is None else (found[0], found[1] * factor / x.scale)


def is_root(x: Share) -> bool:
    """Whether x consists of square roots, none of which is negative."""
    core, _ = distinct(copied_from(x))
    found = inverse_of(core)
    return found is not None and bool(found[0].of_root) and found[1] > 0


def note_multiple(out: Share, x: Share, factor: Fraction) -> None:
    """Note that `out` is factor * x, for the sake of quotients."""
    known: Known | None = x.body.functions
    if known is None or not (known.inverses or known.multiple) or out.body is x.body or not factor:
        return
    if out.layout == x.layout:
        known_of(out.body).multiple = Share(x.body, (x.body.n,), x.scale), factor * out.scale


def note_copy(out: Share, x: Share) -> None:
    """Note that `out` has the elements of x in their order, for the sake of quotients."""
    known: Known | None = x.body.functions
    if known is not None and (known.inverses or known.multiple):
        known_of(out.body).copied = x


def copied_from(x: Share) -> Share:
    """What x is a copy of, where x has an inverse for that reason; x elsewhere."""
    known: Known | None = x.body.functions
    if known is None or known.copied is None or not x.dense:
        return x
    whole = known.copied
    spans = [(size, step) for size, step in zip(whole.shape, whole.strides, strict=True) if size != 1]
    if [size for size, _ in spans] != [size for size in x.shape if size != 1]:
        return x
    steps = iter(spans)
    strides = [next(steps)[1] if size != 1 else 0 for size in x.shape]
    return Share(whole.body, x.shape, x.scale, strides, whole.offset)


def note_sum(x: Share, value: Fraction, out: Share) -> None:
    """Note that `out` is x + value, so that it is not made anew."""
    known_of(x.body).sums[x.layout, x.scale, value] = out


def sum_of(x: Share, value: Fraction) -> Share | None:
    """x + value, if it was the argument of a function."""
    known: Known | None = x.body.functions
    return None if known is None else known.sums.get((x.layout, x.scale, value))


def note_finer(out: Share, finer: Share) -> None:
    """Note the same elements at a finer scale, for functions of them."""
    if out.layout == finer.layout and finer.body.n == out.body.n:
        known_of(out.body).finer = finer


def finest(x: Share) -> Share:
    """x, or the same elements at a finer scale, where those are at hand (`Known.finer`)."""
    known: Known | None = x.body.functions
    if known is None or known.finer is None:
        return x
    return Share(known.finer.body, x.shape, known.finer.scale, x.strides, x.offset)


def distinct(x: Share) -> tuple[Share, Callable[[Share], Share]]:
    """The elements of x without repetitions and in the order of its body; what turns a result back to x's shape.

    An expanded or a transposed value costs what the value itself does, and shares its opening.
    """
    if x.dense:
        return x, lambda out: Share(out.body, x.shape, out.scale)
    if not x.numel:
        return Share.of(x.words(), x.shape, x.scale), lambda out: Share(out.body, x.shape, out.scale)
    span = [i for i, (step, size) in enumerate(zip(x.strides, x.shape, strict=True)) if step and size > 1]
    span.sort(key=lambda i: -x.strides[i])
    shape = tuple(x.shape[i] for i in span)
    core = Share(x.body, shape, x.scale, [x.strides[i] for i in span], x.offset)
    steps, row_major = dict(zip(span, dense_strides(shape), strict=True)), dense_strides(x.shape)
    strides = [steps.get(i, 0 if size > 1 else row_major[i]) for i, size in enumerate(x.shape)]
    return core, lambda out: Share(out.body, x.shape, out.scale, strides)


def elements(x: Share) -> tuple[object, ...]:
    """Which elements of the body in which order, whatever the shape: sizes and steps, adjacent ones merged."""
    merged: list[tuple[int, int]] = []
    for size, step in zip(x.shape, x.strides, strict=True):
        if size == 1:
            continue
        if merged and merged[-1][1] == size * step:
            merged[-1] = merged[-1][0] * size, step
        else:
            merged.append((size, step))
    return *merged, x.offset


def opened(suite: Any, party: Party, x: Share) -> Opened:
    """x under a mask that the dealer knows; remembered with x's body."""
    openings, key = known_of(x.body).openings, elements(x)
    found = openings.get(key)
    if found is None:
        # the words in order: the opening runs parallel to them
        flat = x if x.dense else Share.of(x.words(), x.shape, x.scale)
        found = openings[key] = Opened(suite.mask_open(party, flat), flat, {})
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
        openings[key] = Opened(masked, flat, {})
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
