"""What a training has spent: epsilon for a delta, and how much noise a budget needs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from pysmpc.privacy.loss_distribution import epsilon_of_steps
from pysmpc.privacy.renyi import divergences, epsilon_of

METHODS = ("prv", "rdp")


class Accountant:
    """Counts steps of the Gaussian mechanism and says which epsilon they come to.

    method: "prv" composes distributions of privacy losses, to 0.4 % (at most 0.01) above the true epsilon; "rdp" adds
    Rényi divergences: faster, and an upper bound that is some percent larger.

    >>> accountant = Accountant()
    >>> accountant.step(noise_multiplier=1.1, sample_rate=256 / 60000, steps=2340)
    >>> accountant.epsilon(delta=1e-5)
    """

    def __init__(self, method: str = "prv") -> None:
        if method not in METHODS:
            raise ValueError(f"unknown accountant {method!r}; there are {', '.join(map(repr, METHODS))}")
        self.method = method
        self.history: dict[tuple[float, float], int] = {}
        self._known: dict[Any, float] = {}

    def __repr__(self) -> str:
        return f"Accountant({self.method!r}, {self.steps} steps)"

    @property
    def steps(self) -> int:
        """Steps so far."""
        return sum(self.history.values())

    def step(self, noise_multiplier: float, sample_rate: float = 1.0, steps: int = 1) -> None:
        """Count steps whose noise has `noise_multiplier` times the sensitivity as its standard deviation.

        sample_rate: the probability with which each example took part, drawn for each step and each example by
        itself, unseen by the adversary (Poisson sampling); 1 without sampling.
        """
        _check(noise_multiplier, sample_rate)
        if steps < 0:
            raise ValueError(f"steps cannot be {steps}: what was spent is not given back")
        key = float(noise_multiplier), float(sample_rate)
        self.history[key] = self.history.get(key, 0) + steps
        self._known.clear()

    def epsilon(self, delta: float) -> float:
        """Upper bound of epsilon for all steps so far, with an example added or removed."""
        _check_delta(delta)
        if delta not in self._known:
            self._known[delta] = _epsilon(self.method, self.history, delta)
        return self._known[delta]

    def after(self, delta: float, noise_multiplier: float, sample_rate: float = 1.0, steps: int = 1) -> float:
        """What `epsilon` would be after so many more steps."""
        other = Accountant(self.method)
        other.history = dict(self.history)
        other.step(noise_multiplier, sample_rate, steps)
        return other.epsilon(delta)

    def state_dict(self) -> dict[str, Any]:
        """For a checkpoint: numbers and names only."""
        steps = [[noise, rate, count] for (noise, rate), count in self.history.items()]
        return {"method": self.method, "steps": steps}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a checkpoint.  Raises ValueError, and changes nothing, where it is none."""
        other = Accountant(state["method"])
        for noise, rate, count in state["steps"]:
            other.step(noise, rate, int(count))
        self.method, self.history = other.method, other.history
        self._known.clear()


def _check(noise_multiplier: float, sample_rate: float) -> None:
    if not (noise_multiplier > 0 and math.isfinite(noise_multiplier)):
        raise ValueError(f"a noise multiplier is a positive number, not {noise_multiplier}: without noise there is no "
                         "differential privacy")  # fmt: skip
    if not 0 <= sample_rate <= 1:
        raise ValueError(f"a sample rate is a probability, from 0 to 1, not {sample_rate}")


def _check_delta(delta: float) -> None:
    if not 0 < delta < 1:
        raise ValueError(f"delta is between 0 and 1, and should be below one over the number of examples, not {delta}")


def _epsilon(method: str, history: Mapping[tuple[float, float], int], delta: float) -> float:
    if method == "prv":
        return epsilon_of_steps(history, delta)
    counted = [(key, count) for key, count in history.items() if count]
    if not counted:
        return 0.0
    total = divergences(*counted[0][0], counted[0][1])
    for key, count in counted[1:]:
        total = total + divergences(*key, count)
    return epsilon_of(total, delta)


def noise_multiplier_for(
    epsilon: float, delta: float, steps: int, sample_rate: float = 1.0, method: str = "prv"
) -> float:
    """A noise multiplier with which so many steps stay within (epsilon, delta), by less than 0.5 % of epsilon.

    Raises ValueError for an epsilon that is not positive or that no noise reaches.
    """
    _check_delta(delta)
    if not (epsilon > 0 and math.isfinite(epsilon)):
        raise ValueError(f"a target epsilon is a positive number, not {epsilon}")
    if steps < 1:
        raise ValueError(f"there must be at least one step, not {steps}")
    _check(1.0, sample_rate)

    def spent(noise: float, how: str) -> float:
        return _epsilon(how, {(noise, sample_rate): steps}, delta)

    low, high = 0.05, 1.0
    while spent(high, "rdp") > epsilon:  # more than enough, quickly found
        low, high = high, 2 * high
        if high > 1e7:
            raise ValueError(f"no noise multiplier below 1e7 keeps {steps} steps within epsilon {epsilon:g}")
    while high > low * 1.001:
        middle = math.sqrt(low * high)
        low, high = (low, middle) if spent(middle, "rdp") <= epsilon else (middle, high)
    if method == "rdp":
        return high
    # epsilon is close to a power of the noise multiplier: one of about -1 without sampling, a steeper one with it
    power, found = -1.5, spent(high, method)
    for _ in range(8):
        if epsilon * 0.997 <= found <= epsilon:
            break
        tried = high * (epsilon * 0.9985 / found) ** (1 / power)
        then = spent(tried, method)
        if tried != high and then != found:
            power = min(-0.5, math.log(then / found) / math.log(tried / high))
        high, found = tried, then
    while found > epsilon:
        high *= 1.001
        found = spent(high, method)
    return high
