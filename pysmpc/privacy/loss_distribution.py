"""The distribution of the privacy loss of many steps, by Fourier transforms ("PRV accountant").

Gopi, Lee, Wutschitz 2021, "Numerical Composition of Differential Privacy": the loss of one step is put on a grid so
that its mean is kept, grids are convolved, and the error of the result has a bound that grows with the root of the
number of steps.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np
import torch

from pysmpc.privacy.renyi import Array, divergences, epsilon_of, loss_at

#: Of the reported delta, what the grid may be wrong by.
DELTA_SHARE = 1e-3
LARGEST_GRID = 1 << 23


def _normal(x: Array) -> Array:
    """The distribution function of the standard normal distribution, in full precision far below 0, too.

    torch.special.ndtr is 0 from about -8.3 down.
    """
    found: Array = torch.special.erfc(torch.from_numpy(x * -math.sqrt(0.5))).numpy()
    return found / 2


def _shift(loss: Array, noise_multiplier: float, sample_rate: float) -> Array:
    """The x at which `loss_at` is a loss; minus infinity below the smallest."""
    if sample_rate == 1:
        found: Array = noise_multiplier**2 * loss + 0.5
        return found
    smallest = math.log1p(-sample_rate)
    above = loss > smallest
    t = np.where(above, loss, smallest + 1.0)
    # log(e^t - 1 + q), of which either form loses no digits on its side of 0
    inner = np.where(t > 1, t + np.log1p(-(1 - sample_rate) * np.exp(-np.maximum(t, 0))), 0.0)
    near = np.log(np.maximum(np.expm1(np.minimum(t, 1)) + sample_rate, 1e-300))
    exponent = np.where(t > 1, inner, near) - math.log(sample_rate)
    return np.where(above, noise_multiplier**2 * exponent + 0.5, -np.inf)


def _distribution(loss: Array, noise_multiplier: float, sample_rate: float, removed: bool) -> Array:
    """P(privacy loss <= loss) of a step, for an example that is removed, or added."""
    if removed:
        x = _shift(loss, noise_multiplier, sample_rate)
        with_it = _normal((x - 1) / noise_multiplier)
        return (1 - sample_rate) * _normal(x / noise_multiplier) + sample_rate * with_it
    x = _shift(-loss, noise_multiplier, sample_rate)
    return _normal(-x / noise_multiplier)


def _mean(noise_multiplier: float, sample_rate: float, removed: bool) -> float:
    x = np.linspace(-12 * noise_multiplier, 1 + 12 * noise_multiplier, 40001)

    def density(at: float) -> Array:
        return np.exp(-((x - at) ** 2) / (2 * noise_multiplier**2)) / (noise_multiplier * math.sqrt(2 * math.pi))

    loss = loss_at(x, noise_multiplier, sample_rate)
    weight = (1 - sample_rate) * density(0) + sample_rate * density(1) if removed else -density(0)
    return float((loss * weight).sum() * (x[1] - x[0]))


def _exact_delta(epsilon: float, shift: float) -> float:
    """Of Gaussians a shift apart (Balle, Wang 2018)."""
    a, b = _normal(np.array([shift / 2 - epsilon / shift, -shift / 2 - epsilon / shift]))
    return float(a) - math.exp(epsilon) * float(b) if epsilon < 700 else float(a)


def _smallest(delta_of: Callable[[float], float], delta: float, high: float) -> float:
    """The epsilon at which a falling function reaches delta, from above."""
    if delta_of(0.0) <= delta:
        return 0.0
    low = 0.0
    while delta_of(high) > delta:
        low, high = high, 2 * high
        if high > 1e6:
            return math.inf
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if delta_of(middle) <= delta else (middle, high)
    return high


def epsilon_of_steps(steps: Mapping[tuple[float, float], int], delta: float, error: float | None = None) -> float:
    """An upper bound of epsilon for steps by (noise multiplier, sample rate), at most `error` above the true one.

    error: by default a 300th of what Rényi divergences give, at most 0.01.
    """
    done = {key: count for key, count in steps.items() if count and key[1] > 0}
    if not done:
        return 0.0
    total = np.sum([divergences(*key, count) for key, count in done.items()], axis=0)
    rough = epsilon_of(total, delta)
    if math.isinf(rough):
        return rough
    if all(rate == 1 for _, rate in done):
        shift = math.sqrt(sum(count / noise**2 for (noise, _), count in done.items()))
        return _smallest(lambda epsilon: _exact_delta(epsilon, shift), delta, max(rough, 1e-3))
    error = min(0.01, max(rough, 0.05) / 300) if error is None else error
    number, spare = sum(done.values()), delta * DELTA_SHARE
    width = error / math.sqrt(number / 2 * math.log(12 / spare))
    single = max(epsilon_of(divergences(*key), spare / (8 * number)) for key in done)
    reach = max(epsilon_of(total, spare / 4), single, rough) + 2 * error + 1
    points = 1 << max(12, math.ceil(math.log2(2 * reach / width)))
    if points > LARGEST_GRID:
        return rough  # which is an upper bound, too
    return min(rough, max(_composed(done, delta - spare, error, width, points, side) for side in (True, False)))


def _composed(
    done: Mapping[tuple[float, float], int], delta: float, error: float, width: float, points: int, removed: bool
) -> float:
    grid: Array = (np.arange(points, dtype=np.float64) - points // 2) * width
    spectrum = np.ones(points // 2 + 1, dtype=np.complex128)
    offset = 0.0
    for (noise, rate), count in done.items():
        edges: Array = np.append(grid - width / 2, grid[-1] + width / 2)
        weights = np.diff(_distribution(edges, noise, rate, removed))
        weights /= weights.sum()
        offset += count * (_mean(noise, rate, removed) - float(grid @ weights))
        spectrum *= np.fft.rfft(np.fft.ifftshift(weights)) ** count
    weights = np.fft.fftshift(np.fft.irfft(spectrum, points)).clip(min=0)
    loss = grid + offset
    # delta(e) = sum over losses t > e of (1 - e^(e - t)) weight, by sums from the top
    mass = np.cumsum(weights[::-1])[::-1]
    tilted = np.cumsum((weights * np.exp(-np.maximum(loss, -50)))[::-1])[::-1]

    def delta_of(epsilon: float) -> float:
        at = int(np.searchsorted(loss, epsilon, side="right"))
        return 0.0 if at >= points else float(mass[at] - math.exp(epsilon) * tilted[at])

    return _smallest(delta_of, delta, float(max(loss[-1], 1e-3))) + error
