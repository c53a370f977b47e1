"""Discrete Gaussian numbers: integers x with probability proportional to e^(-x^2 / (2 sigma^2)).

A fixed number of table look-ups serves every sample ("CDT sampler"): each compares 63 uniform bits with all thresholds
of a table, so that neither branches nor addresses depend on what is drawn.  Canonne, Kamath, Steinke 2020 ("The
Discrete Gaussian for Differential Privacy") is about the distribution; their own sampler rejects, and its time varies.

Wide distributions are sums: if x and y are discrete Gaussians of s and t, x + k y is one of sqrt(s^2 + k^2 t^2), but
for a factor within 1 +- e of each probability, where s t / sqrt(s^2 + k^2 t^2), over the integers, is so wide that
Poisson summation bounds e (Micciancio, Walter 2017, "Gaussian Sampling over the Integers").

How far from exact: see `Sampler.distance` and `Sampler.ratio`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from decimal import Decimal, localcontext
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import torch

from pysmpc.prg import KeySet

HALF = 63  # bits of a word that are compared; the other is the sign
TOP = (1 << HALF) - 1
SMALLEST = 8.0  # standard deviation of a table's numbers, where several are added
LARGEST = 2.0**45
_SMOOTH = 1.89  # in standard deviations: 2 e^(-2 pi^2 1.89^2) < 2^-100
BLOCK = 1 << 13  # samples at a time: they stay in cache

Words = npt.NDArray[np.int64]


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

    def magnitudes(self, high: Words, low: object) -> Words:
        """Of uniform words of 63 bits.  low(): as many more of them, wanted in one of 2^50 blocks or less."""
        few = np.zeros(high.shape, dtype=np.uint8)  # fewer than 256 thresholds are below TOP
        tied = high == TOP
        flag, same = np.empty(high.shape, dtype=bool), np.empty(high.shape, dtype=bool)
        for threshold in self.high:
            if threshold == TOP:
                break  # from here on a second word decides
            np.greater(high, threshold, out=flag)
            np.equal(high, threshold, out=same)
            np.add(few, flag.view(np.uint8), out=few)
            np.logical_or(tied, same, out=tied)
        count: Words = few.astype(np.int64)
        if tied.any():
            assert callable(low)
            rest: Words = low()
            for threshold, more in zip(self.high, self.low, strict=True):
                count += (high == threshold) & (rest >= more)
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
        keys = KeySet([key])
        out = np.zeros(n, dtype=np.int64)
        for i, factor in enumerate(self.factors):
            words = keys.draw(2 * i, n)[0].numpy()
            for first in range(0, n, BLOCK):
                at = slice(first, min(first + BLOCK, n))

                def low(stream: int = 2 * i + 1, at: slice = at) -> Words:
                    found: Words = keys.draw(stream, n)[0].numpy()[at] & TOP
                    return found

                found = self._table.magnitudes(words[at] & TOP, low)
                out[at] += factor * (found * (1 + 2 * (words[at] >> HALF)))
        return torch.from_numpy(out)
