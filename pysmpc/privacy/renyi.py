"""Rényi differential privacy of the Gaussian mechanism, with and without Poisson sampling.

Adding one example shifts the sum by at most the sensitivity; noise is counted in sensitivities (the noise multiplier).
Mironov, Talwar, Zhang 2019, "Rényi Differential Privacy of the Sampled Gaussian Mechanism".
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

#: The orders at which divergences are kept.
ORDERS: Array = np.array(
    [1 + k / 10 for k in range(1, 100)] + list(range(11, 64)) + [2.0**k for k in range(6, 11)], dtype=np.float64
)


def loss_at(x: Array, noise_multiplier: float, sample_rate: float) -> Array:
    """log P(x) / Q(x): P with an example that is there with the rate, Q = N(0, noise_multiplier^2) without it."""
    exponent = (2 * x - 1) / (2 * noise_multiplier**2)
    if sample_rate == 1:
        return exponent
    return np.logaddexp(math.log1p(-sample_rate), math.log(sample_rate) + exponent)


@lru_cache(maxsize=256)
def _divergences(noise_multiplier: float, sample_rate: float) -> Array:
    if sample_rate == 0:
        return np.zeros_like(ORDERS)
    if sample_rate == 1:
        return ORDERS / (2 * noise_multiplier**2)
    out = np.empty_like(ORDERS)
    step = min(noise_multiplier, noise_multiplier**2) / 20
    for i, order in enumerate(ORDERS):
        # E_Q[(P/Q)^order] by the trapezoidal rule, which is exact to many digits for such integrands
        low, high = -16 * noise_multiplier, order + 16 * noise_multiplier
        points = int((high - low) / step) + 2
        if points > 2_000_000:  # tiny noise: such orders are of no use
            out[i] = math.inf
            continue
        x = np.linspace(low, high, points)
        log_density = -(x**2) / (2 * noise_multiplier**2) - math.log(noise_multiplier * math.sqrt(2 * math.pi))
        terms = order * loss_at(x, noise_multiplier, sample_rate) + log_density
        top = terms.max()
        total = float(top) + math.log(float(np.exp(terms - top).sum()) * float(x[1] - x[0]))
        out[i] = max(total, 0.0) / (order - 1)
    return out


def divergences(noise_multiplier: float, sample_rate: float = 1.0, steps: int = 1) -> Array:
    """The Rényi divergence of so many steps at each of ORDERS; they add up."""
    return steps * _divergences(noise_multiplier, sample_rate)


def epsilon_of(divergence: Array, delta: float) -> float:
    """The smallest epsilon that the divergences at ORDERS give (Canonne, Kamath, Steinke 2020, proposition 12)."""
    found = divergence + np.log1p(-1 / ORDERS) - (math.log(delta) + np.log(ORDERS)) / (ORDERS - 1)
    return max(0.0, float(np.min(found)))
