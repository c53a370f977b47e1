"""Discrete Gaussian numbers: integers x with probability proportional to e^(-x^2 / (2 sigma^2)).

A fixed number of table look-ups serves every sample ("CDT sampler"): each compares 63 uniform bits with all thresholds
of a table (src/c/gaussian.inc.h), so that neither branches nor addresses depend on what is drawn.  Canonne, Kamath,
Steinke 2020 ("The Discrete Gaussian for Differential Privacy") is about the distribution; their own sampler rejects,
and its time varies.

Wide distributions are sums: if x and y are discrete Gaussians of s and t, x + k y is one of sqrt(s^2 + k^2 t^2), but
for a factor within 1 +- e of each probability, where s t / sqrt(s^2 + k^2 t^2), over the integers, is so wide that
Poisson summation bounds e (Micciancio, Walter 2017, "Gaussian Sampling over the Integers").

How far from exact: see `Sampler.distance` and `Sampler.ratio`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from decimal import Decimal, localcontext
from functools import cached_property, lru_cache

import torch

from pysmpc.ring import integer_functions
from pysmpc.ring.prg import KeySet

HALF = 63  # bits of a word that are compared; the other is the sign
TOP = (1 << HALF) - 1
SMALLEST = 8.0  # standard deviation of a table's numbers, where several are added
LARGEST = 2.0**45
_SMOOTH = 1.89  # in standard deviations: 2 e^(-2 pi^2 1.89^2) < 2^-100


@dataclass(frozen=True)
class Table:
    """Thresholds of the magnitude of a discrete Gaussian: 126 bits in two words each.

    A magnitude is the number of thresholds that a uniform number of 126 bits reaches.
    """

    high: tuple[int, ...]
    low: tuple[int, ...]

    @classmethod
    def of(cls, sigma: float) -> Table:
        """Thresholds 2^126 P(|x| <= j), rounded down, up to a tail of less than 2^-126."""
        with localcontext() as context:
            context.prec = 60
            exponent = -1 / (2 * Decimal(sigma) ** 2)
            weights = [Decimal(1)]
            while weights[-1] > Decimal(2) ** -140 or len(weights) < 2:
                weights.append(2 * (exponent * len(weights) ** 2).exp())
            total = sum(weights, Decimal(0))
            thresholds: list[int] = []
            sum_ = Decimal(0)
            for weight in weights:
                sum_ += weight
                reached = int(sum_ / total * (1 << 2 * HALF))
                if reached >= (1 << 2 * HALF) - 1:
                    break
                thresholds.append(reached)
        return cls(tuple(x >> HALF for x in thresholds), tuple(x & TOP for x in thresholds))

    @cached_property
    def first(self) -> torch.Tensor:
        """What the first words are compared with.  Where a word is equal to one of them, a second decides.

        Among them is the largest word: it stands for all thresholds beyond it.
        """
        return torch.tensor([*(x for x in self.high if x < TOP), TOP], dtype=torch.int64)

    def magnitudes(self, high: torch.Tensor, low: torch.Tensor) -> torch.Tensor:
        """Of uniform words of 63 bits and as many second ones: the definition."""
        count = torch.zeros_like(high)
        for threshold, more in zip(self.high, self.low, strict=True):
            count += (high > threshold) | ((high == threshold) & (low >= more))
        return count


@lru_cache(maxsize=64)
def _plan(sigma: float) -> tuple[float, tuple[int, ...]]:
    """(standard deviation of the table, factors of the numbers that are added)."""
    if sigma < 2 * SMALLEST:
        return sigma, (1,)
    factors, squares = [1], 1
    while True:
        partial = SMALLEST * math.sqrt(squares)
        # the widest step at which x + k y is smooth: (1 / partial^2 + 1 / (k SMALLEST)^2)^(-1/2) >= k _SMOOTH
        largest = math.floor(partial * math.sqrt(1 / _SMOOTH**2 - 1 / SMALLEST**2))
        wanted = math.floor(math.sqrt(max((sigma / SMALLEST) ** 2 - squares, 0)))
        if wanted < 1:
            break
        factors.append(min(largest, wanted))
        squares += factors[-1] ** 2
        if wanted <= largest:
            break  # a table that is a little wider makes up for what is left
    return sigma / math.sqrt(squares), tuple(factors)


@lru_cache(maxsize=64)
def _table(sigma: float) -> Table:
    return Table.of(sigma)


class Sampler:
    """Draws discrete Gaussian integers of standard deviation (parameter) sigma, in the same time whatever they are."""

    def __init__(self, sigma: float) -> None:
        if not 0 < sigma <= LARGEST:
            raise ValueError(f"the standard deviation of noise is from 0 to 2^45 steps, not {sigma:g}")
        self.sigma = float(sigma)
        self.base, self.factors = _plan(self.sigma)
        self._table = _table(self.base)

    @property
    def draws(self) -> int:
        """Table look-ups for each sample."""
        return len(self.factors)

    @property
    def distance(self) -> float:
        """Bound of the total variation between a sample and one whose probabilities have the `ratio`.

        Each of the thresholds and the tail of a table contribute 2^-126.
        """
        return self.draws * (len(self._table.high) + 2) * 2.0**-126

    @property
    def ratio(self) -> float:
        """Bound of the logarithm of a probability's ratio to the exact one, which adding numbers causes."""
        return (self.draws - 1) * 2.0**-98

    def draw(self, key: bytes, n: int) -> torch.Tensor:
        """[n] samples, int64, of a key that is used for nothing else."""
        keys, out = KeySet([key]), torch.zeros(n, dtype=torch.int64)
        for i, factor in enumerate(self.factors):
            words = keys.draw(2 * i, n)[0]
            tied = integer_functions.add_gaussian(words, self._table.first, factor, out)
            if tied.any():
                at = tied.nonzero().squeeze(1)
                out[at] += factor * self._decided(words[at], keys.draw(2 * i + 1, n)[0, at])
        return out

    def _decided(self, words: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
        """What is missing where first words did not decide."""
        high = words & TOP
        counted = (high.unsqueeze(1) > self._table.first).sum(1)
        return (self._table.magnitudes(high, second & TOP) - counted) * (1 + 2 * (words >> HALF))
