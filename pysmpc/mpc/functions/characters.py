"""Smooth functions: a trigonometric sum on an interval, the asymptotes outside of it.

On lo <= x < hi, f(x) is approximated by constant + slope x + sum_k a_k cos(k w x) + b_k sin(k w x),
whose period is longer than the interval (a Fourier extension: its error falls exponentially with the
number of terms).  With the opened c = x + r, cos k w (c - r) = cos kwc cos kwr + sin kwc sin kwr, and
the like for sin: the dealer shares cos kwr and sin kwr, and the rest is public.  `fits` has the
coefficients, tools/fit_functions.py makes them.

Angles are words: x times the integer `step` nearest to 2^64 / (period in integers of x), mod 2^64, is
the angle in turns; so the wrap of the ring is that of the angle, and any scale will do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import Any

import torch

from pysmpc.mpc.functions.masked import PIECE, Dealt, Masked, deal_words_cost, mask_open_cost
from pysmpc.mpc.interfaces import Cost, Party
from pysmpc.ring import integer_functions, z2k
from pysmpc.ring.prg import KeySet
from pysmpc.ring.shares import Share

DEALT_BITS = 30  # of the dealt cosines and sines
FACTOR_BITS = 24  # of the public factors
BITS = DEALT_BITS + FACTOR_BITS  # of their products


@dataclass(frozen=True)
class Fit:
    """An approximation of a function between lo and hi, and its asymptotes.

    below, above: the value for x < lo and for x >= hi, "x" for x itself.  error: the largest on the
    interval and beyond it, before encoding.
    """

    name: str
    lo: float
    hi: float
    period: float
    constant: float
    slope: float
    cosines: tuple[float, ...]
    sines: tuple[float, ...]
    below: float
    above: float | str
    error: float

    @property
    def terms(self) -> int:
        """Harmonics."""
        return len(self.cosines)


def angle_step(period: float, scale: int) -> int:
    """The integer by which integers of x at a scale become angles of 2^64 to a turn."""
    return round(Fraction(1 << 64) / (Fraction(period) * scale))


def turns(x: torch.Tensor, step: int, terms: int) -> torch.Tensor:
    """cos and sin of the first multiples of the angles of words x, at 2^30: [2 terms, n], cosines first."""
    found = integer_functions.turns(x * z2k.wrap(step), terms)
    return found.view(terms, 2, -1).transpose(0, 1).reshape(2 * terms, -1)


def factors_of(coefficients: torch.Tensor, shift: int, found: torch.Tensor) -> torch.Tensor:
    """Of the dealt cosines a cos + b sin, of the dealt sines a sin - b cos, at 2^24, or what the shift leaves.

    found: cosines, then sines of c.
    """
    a, b = coefficients[0].unsqueeze(1), coefficients[1].unsqueeze(1)
    cosine, sine = found.view(2, len(coefficients[0]), -1)
    if not a.any():  # an odd function, but for a constant
        out = torch.cat([b * sine, -b * cosine])
    elif not b.any():
        out = torch.cat([a * cosine, a * sine])
    else:
        out = torch.cat([(a * cosine).addcmul_(b, sine), (a * sine).addcmul_(b, cosine, value=-1)])
    return out.add_(1 << (shift - 1)).bitwise_right_shift_(shift)


@lru_cache(maxsize=256)
def integers(fit: Fit, factor_bits: int = FACTOR_BITS) -> tuple[torch.Tensor, int]:
    """(coefficients [2, terms], shift): as large as products with cosines at 2^30 allow."""
    largest = max(abs(v) for v in (*fit.cosines, *fit.sines))
    bits = 30 - max(0, int(largest).bit_length())
    rows = [[round(Fraction(v) * (1 << bits)) for v in row] for row in (fit.cosines, fit.sines)]
    return torch.tensor(rows, dtype=torch.int64), bits + 30 - factor_bits


@dataclass(frozen=True)
class DealtTurns:
    """Cosines and sines of the first multiples of r step at 2^bits: what `deal_words` takes."""

    step: int
    terms: int
    bits: int = DEALT_BITS

    def __call__(self, r: torch.Tensor, /) -> torch.Tensor:
        shift = DEALT_BITS - self.bits
        found = turns(r, self.step, self.terms)
        return (found + (1 << (shift - 1))) >> shift if shift else found

    def deal(self, keys: KeySet, mask: int, stream: int, corrections: torch.Tensor, n: int) -> None:
        multiples = integer_functions.Multiples(self.step, self.terms, PIECE)
        multiples.deal(keys, mask, stream, DEALT_BITS - self.bits, corrections, n)


@dataclass(frozen=True, eq=False, repr=False)
class Factors:
    """What dealt cosines and sines are multiplied by for a sum with these coefficients: what `combine` takes."""

    coefficients: torch.Tensor
    shift: int
    step: int

    def __call__(self, c: torch.Tensor, /) -> torch.Tensor:
        return factors_of(self.coefficients, self.shift, turns(c, self.step, self.coefficients.shape[1]))

    def combine(self, keys: KeySet, dealt: Dealt, c: torch.Tensor, constant: int) -> torch.Tensor:
        multiples = integer_functions.Multiples(self.step, self.coefficients.shape[1], PIECE)
        return multiples.combine(keys, dealt.stream, dealt.corrections, c, self.coefficients, self.shift, constant)


def factors(fit: Fit, step: int, bits: int) -> Factors:
    """For words at 2^DEALT_BITS, or fewer, and a sum at as many bits and `bits` more."""
    return Factors(*integers(fit, bits), step)


def dealt_turns(suite: Any, party: Party, opened: Masked, step: int, terms: int) -> Any:
    """Shares of the cosines and sines of multiples of the mask's angle; dealt once for an opening."""
    key = ("turns", step, terms)
    if key not in opened.known:
        opened.known[key] = suite.deal_words(party, opened, 2 * terms, DealtTurns(step, terms))
    return opened.known[key]


def evaluate(
    suite: Any, party: Party, opened: Masked, x: Share, fit: Fit, stretch: Fraction = Fraction(1), bits: int = BITS
) -> Share:
    """fit(stretch x) at scale 2^bits where stretch x is in its interval, some number elsewhere.  No message.

    stretch: a public factor.  bits: less than 2^54 makes room for larger results.  16 bytes from the dealer for each
    of the terms; none for another fit of the same period and terms.
    """
    step = angle_step(fit.period / stretch, x.scale)
    words = dealt_turns(suite, party, opened, step, fit.terms)
    constant = round(Fraction(fit.constant) * (1 << bits))
    out: Share = suite.combine(party, opened, words, factors(fit, step, bits - DEALT_BITS), constant, 1 << bits)
    if fit.slope:
        slope = round(Fraction(fit.slope) * stretch * (1 << bits) / x.scale)
        out = suite.add(party, out, suite.scale_by(party, x, slope).at(1 << bits))
    return out


def evaluate_short(suite: Any, party: Party, opened: Masked, x: Share, fit: Fit, bits: int) -> Share:
    """`evaluate` at scale 2^bits, of 36 to 40: dealt words and factors have half of them each.  No message.

    Off by at most 2^(3 - bits / 2) times the largest coefficient more.
    """
    step = angle_step(fit.period, x.scale)
    assert not fit.slope
    words = suite.deal_words(party, opened, 2 * fit.terms, DealtTurns(step, fit.terms, bits // 2))
    constant = round(Fraction(fit.constant) * (1 << bits))
    out: Share = suite.combine(party, opened, words, factors(fit, step, bits - bits // 2), constant, 1 << bits)
    return out


def ends(fit: Fit, scale: int, stretch: Fraction) -> tuple[int, int]:
    """The interval in integers of x."""
    lo, hi = sorted((Fraction(fit.lo) / stretch * scale, Fraction(fit.hi) / stretch * scale))
    return -(-lo.numerator // lo.denominator), hi.numerator // hi.denominator


def evaluate_cost(holders: int, n: int, terms: int) -> Cost:
    """What `evaluate` needs, with the opening."""
    return mask_open_cost(holders, n) + deal_words_cost(holders, n, 2 * terms)


def check_sum(fit: Fit) -> float:
    """Bound of |fit| anywhere: below 2^7, so that no sum leaves what truncation takes."""
    pairs: Sequence[tuple[float, float]] = list(zip(fit.cosines, fit.sines, strict=True))
    return abs(fit.constant) + sum((a * a + b * b) ** 0.5 for a, b in pairs)
