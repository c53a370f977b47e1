"""Noise of many clients: each adds a part, so that the sum of their updates has the whole.

Kairouz, Liu, Steinke 2021, "The Distributed Discrete Gaussian Mechanism": a sum of discrete Gaussians is all but a
discrete Gaussian, where each is wide.
"""

from __future__ import annotations

import math

import torch

from pysmpc.mpc.derived.discrete_gaussian import LARGEST, Sampler
from pysmpc.ring.prg import fresh_key


def part_of(std: float, clients: int, scale: int) -> float:
    """Steps of the standard deviation of one client's part.  Raises ValueError as `noise_share` does."""
    if clients < 1:
        raise ValueError(f"there must be at least one client, not {clients}")
    sigma = std * scale / math.sqrt(clients)
    if sigma < 8:
        raise ValueError(f"noise of {sigma:.2g} steps a client is too coarse; use a finer scale than {scale}")
    if sigma > LARGEST:
        raise ValueError(f"noise of {sigma:.2g} steps a client is too wide; at most 2^45 can be drawn")
    return sigma


def noise_share(n: int, std: float, clients: int, scale: int = 1 << 16) -> torch.Tensor:
    """[n] integers at this scale, for one client to add to her update before it leaves her.

    std: of the sum over so many clients.  clients: the fewest that a sum may have, less those that may work together,
    since these can take their part away.  Raises ValueError where a part would be less than 8 steps wide: then the sum
    is no discrete Gaussian; use a finer scale.
    """
    return Sampler(part_of(std, clients, scale)).draw(fresh_key(), n)
