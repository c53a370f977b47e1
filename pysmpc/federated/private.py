"""Rounds in which the sum of updates has noise: who takes part with what data is hidden, worker by worker.

Each worker clips her update to `max_norm`, counts the same as any other, and adds her part of the noise before she
shares it, so that the sum is noised and nobody ever sees it without.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from pysmpc.errors import PrivacyError
from pysmpc.federated.updates import BITS, FEWEST, Terms
from pysmpc.privacy.engine import Engine

_EXACT = 1 + 2.0**-20  # of the norm that clipping in float64 leaves


def sensitivity(max_norm: float, numbers: int, bits: int) -> float:
    """The most that one worker changes the sum: her clipped norm, and half a step of rounding in each number."""
    return max_norm * _EXACT + math.sqrt(numbers) * 2.0 ** -(bits + 1)


def private_terms(
    engine: Engine, shapes: Mapping[str, tuple[int, ...]], clients: int, fewest: int, max_norm: float, max_value: float
) -> Terms:
    """Terms of a round with the engine's noise.  fewest: workers without whom nothing is opened.

    Raises PrivacyError where so few workers are not more than those that may work together.
    """
    sharers = fewest - engine.colluding
    if sharers < 1:
        raise PrivacyError(
            f"sums of {fewest} workers are opened, and {engine.colluding} may work together: nobody would be left who "
            "adds noise; ask for more, strategy=FedAvg(min_workers=...)"
        )
    assert engine.noise_multiplier is not None
    numbers = sum(math.prod(shape) for shape in shapes.values())
    for bits in range(BITS, FEWEST - 1, -1):
        noise = engine.noise_multiplier * sensitivity(max_norm, numbers, bits)
        terms = Terms(shapes, clients, max_norm, max_value, 1, noise, sharers)
        if terms.precision.digits >= bits:
            break
    return terms
