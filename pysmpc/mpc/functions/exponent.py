"""Powers of e over a window, in one opening.

With y = x - lo in segments of two, and c = y + r mod 32 (in units of one, wherever the ring's wrap
is put there): y = 2 (c_hi - r_hi) + (c_lo - r_lo), where hi is the number of a segment, lo what is
left of it, and hi is counted mod the number of segments.  So

    e^x = sum_i [i = r_hi] e^(1 - r_lo) * e^(lo + 2 (c_hi - i) + c_lo - 1),

whose first factors the dealer shares and whose second are public.  It holds on the window less its
top segment: c_hi - i is right, as a number and not mod 16 alone, wherever y is at least one segment
below the end.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

import torch

from pysmpc.errors import EncodingError
from pysmpc.mpc.additive.comparison import select_cost
from pysmpc.mpc.functions.known_values import distinct
from pysmpc.mpc.functions.masked import PIECE, Dealt, Masked, deal_words_cost, mask_open_cost
from pysmpc.mpc.functions.regions import regions_cost
from pysmpc.mpc.functions.smooth import opened
from pysmpc.mpc.interfaces import Cost, Party
from pysmpc.mpc.operations import Suite
from pysmpc.ring import integer_functions
from pysmpc.ring.fixedpoint import LIMIT
from pysmpc.ring.power_kernels import Segmented
from pysmpc.ring.prg import KeySet
from pysmpc.ring.shares import Share

SEGMENT = 2  # so that powers of what is left of one are those of numbers from -1 to 1


@dataclass(frozen=True)
class Window:
    """Where a power of e is right: lo <= x <= hi; 2^segments segments from lo on.

    dealt, factor: fractional bits of the dealt words and of the public factors.  e^hi 2^(dealt + factor)
    is below 2^62.
    """

    lo: int
    segments: int
    dealt: int
    factor: int

    @property
    def length(self) -> int:
        """Units of the whole window."""
        return SEGMENT << self.segments

    @property
    def hi(self) -> int:
        """Its upper end, less the top segment."""
        return self.lo + self.length - SEGMENT

    @property
    def bits(self) -> int:
        """Fractional bits of the result."""
        return self.dealt + self.factor


#: e^x for results at 16 fractional bits: below -12 they are 0.
GENERAL = Window(-12, 4, 18, 17)
#: The same of x that is publicly known to be between.
NEAR = Window(-15, 4, 18, 17)
#: e^x of x <= 0, for sums of up to 2^13 of them.
FALLING = Window(-30, 4, 24, 24)
#: The same for x that is a logarithm of such a quotient, which may come out a little above 0.
QUOTIENT = Window(-60, 5, 24, 24)
STEP_BITS = 24  # of the public factor of x, whose rounding moves a power by 30 / 2^24 of it at most


@lru_cache(maxsize=64)
def _table(window: Window, more: Fraction) -> tuple[torch.Tensor, torch.Tensor]:
    """Integers (mantissas, shifts): e^(lo + more + 2 i) at the scale of the factors is mantissa 2^(29 - shift).

    more: less than a step of the argument, which may be a whole one.
    """
    mantissas, shifts = [], []
    little = _series(more)
    for i in range(1 << window.segments):
        power = _power_of_e(window.lo + SEGMENT * i) * little
        size = _magnitude(power)
        shift = 2 * integer_functions.TABLE_BITS - size - window.factor
        small = shift > 62  # such a factor is less than half a step of the factors
        mantissas.append(0 if small else round(power * Fraction(2) ** (integer_functions.TABLE_BITS - size)))
        shifts.append(max(1, min(shift, 62)))  # of what is beyond the window any number will do
    return torch.tensor(mantissas), torch.tensor(shifts)


def _series(x: Fraction) -> Fraction:
    """e^x for x >= 0 to 2^-100 of it, by its series: floating point may differ from machine to machine."""
    total, term, k = Fraction(0), Fraction(1), 0
    while term > Fraction(1, 1 << 120):
        total += term
        k += 1
        term = Fraction(round(term * x / k * (1 << 160)), 1 << 160)
    return total


@lru_cache(maxsize=256)
def _power_of_e(n: int) -> Fraction:
    """e^n to 2^-80 of it."""
    power = _series(Fraction(abs(n)))
    return power if n >= 0 else 1 / power


def _magnitude(x: Fraction) -> int:
    """The least k with x < 2^k."""
    k = x.numerator.bit_length() - x.denominator.bit_length()
    return k + 1 if x >= Fraction(2) ** k else k


def step_of(window: Window, scale: int, stretch: Fraction = Fraction(1)) -> int:
    """The integer by which integers of x are multiplied so that 2^64 is the whole window.

    Rounded down: what is in the window stays there.
    """
    return (1 << 64) * stretch // (window.length * scale)


def start_of(window: Window, scale: int, stretch: Fraction = Fraction(1)) -> int:
    """The first integer of x in the window."""
    return math.ceil(window.lo * scale / stretch)


def ends_of(window: Window, scale: int, stretch: Fraction = Fraction(1)) -> tuple[int, int]:
    """Where powers are right, in integers of x: from the first to below the second."""
    return start_of(window, scale, stretch), math.ceil(window.hi * scale / stretch)


def is_near(bound: float | None, scale: int, stretch: Fraction = Fraction(1)) -> bool:
    """Whether powers of all x up to a magnitude are in the window of those, `NEAR`."""
    if bound is None or not has_room(scale, stretch, NEAR):
        return False
    lo, hi = ends_of(NEAR, scale, stretch)
    limit = math.ceil(bound * scale)
    return lo <= -limit and limit < hi


def has_room(scale: int, stretch: Fraction = Fraction(1), window: Window = GENERAL) -> bool:
    """Whether x of a scale has a public factor of enough bits, and ends in the range of comparisons."""
    exact = ((1 << 64) * stretch / (window.length * scale)).denominator == 1
    step = step_of(window, scale, stretch)
    return step > 0 and (exact or step >> STEP_BITS > 0) and window.length * scale / stretch < LIMIT


@dataclass(frozen=True)
class DealtPowers:
    """Powers of what is left of a segment by r step, at 2^bits in the plane of its segment: what `deal_words` takes."""

    step: int
    segments: int
    bits: int

    def __call__(self, r: torch.Tensor, /) -> torch.Tensor:
        return integer_functions.powers_dealt(r, self.step, self.segments, self.bits)

    def deal(self, keys: KeySet, mask: int, stream: int, corrections: torch.Tensor, n: int) -> None:
        Segmented(self.step, self.segments, PIECE).deal(keys, mask, stream, self.bits, corrections, n)


@dataclass(frozen=True, eq=False, repr=False)
class PowerFactors:
    """What dealt powers are multiplied by, from mantissas and shifts for every segment: what `combine` takes."""

    start: int
    step: int
    segments: int
    table: tuple[torch.Tensor, torch.Tensor]

    def __call__(self, c: torch.Tensor, /) -> torch.Tensor:
        return integer_functions.powers_public(c, self.start, self.step, self.segments, *self.table)

    def combine(self, keys: KeySet, dealt: Dealt, c: torch.Tensor, constant: int) -> torch.Tensor:
        segmented = Segmented(self.step, self.segments, PIECE)
        return segmented.combine(keys, dealt.stream, dealt.corrections, c, self.start, self.table, constant)


def exponential(
    suite: Suite, party: Party, masked: Masked, scale: int, window: Window, stretch: Fraction = Fraction(1)
) -> Share:
    """e^(stretch x) at window.bits where stretch x is in the window, some number elsewhere.  No message.

    scale: of the x that was opened.  128 or 256 bytes an element from the dealer (4 or 5 bits of segments).
    """
    if not has_room(scale, stretch, window):
        factor = "" if stretch == 1 else f"the factor {float(stretch):.3g} of an exponent is too small, or "
        raise EncodingError(f"{factor}a scale of {scale} is too fine for powers: use fewer fractional bits")
    step, start = step_of(window, scale, stretch), start_of(window, scale, stretch)
    factors = PowerFactors(start, step, window.segments, _table(window, start * stretch / scale - window.lo))
    key = ("powers of e", step, window)
    if key not in masked.known:
        words = DealtPowers(step, window.segments, window.dealt)
        masked.known[key] = suite.deal_words(party, masked, 1 << window.segments, words)
    return suite.combine(party, masked, masked.known[key], factors, 0, 1 << window.bits)


def exponential_cost(holders: int, n: int, window: Window = GENERAL) -> Cost:
    """Of what the dealer shares, without the opening."""
    return deal_words_cost(holders, n, 1 << window.segments)


def power(
    suite: Suite, party: Party, x: Share, scale: int, stretch: Fraction = Fraction(1), bounded: bool = False
) -> Share:
    """e^(stretch x) at `scale`: 0 below -12, e^18 from 18 on.  Five rounds; two between -15 and 15 (bounded).

    1. Open c = x + r.
    2. The bits stretch x < -12 and stretch x < 18: three rounds.
    3. The powers: linear in dealt words.
    4. inside * power / by: one round.
    5. Add e^18 times the bit of what is above.
    """
    core, back = distinct(x)
    # 1. open
    found = opened(suite, party, core)
    flat, window = found.x.at(x.scale), NEAR if bounded else GENERAL
    by = round(Fraction(1 << window.bits) / scale)
    if by < 2:
        raise EncodingError(f"e^x has no results of scale {scale}: use at most {window.bits - 1} fractional bits")
    # 3. powers
    value = exponential(suite, party, found.masked, x.scale, window, stretch)
    if bounded:
        return back(suite.truncate(party, value, by).at(scale))
    # 2. regions
    lo, hi = ends_of(window, x.scale, stretch)
    if (lo, hi) not in found.regions:
        found.regions[lo, hi] = suite.regions(party, found.masked, flat, lo, hi)
    where = found.regions[lo, hi]
    # 4. choose
    out = where.choose(suite, party, value, by).at(scale)
    # 5. what is above
    part = suite.scale_by(party, where.is_above(suite, party), round(_power_of_e(window.hi) * scale))
    return back(suite.add(party, out, Share(part.body, out.shape, scale)))


def power_cost(holders: int, n: int) -> Cost:
    """Of `power` with the default suite, and not bounded: 24.5 bytes an element and peer, 229 dealt."""
    return (
        mask_open_cost(holders, n)
        + regions_cost(holders, n)
        + exponential_cost(holders, n)
        + select_cost(holders, n, True)
    )
