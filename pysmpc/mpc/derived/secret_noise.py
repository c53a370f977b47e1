"""Secret Gaussian noise that nobody knows, or that the provider deals.

`holders_noise`: each holder adds full noise of her own to her share.  Whoever lacks one holder's share of it faces the
full variance; the sum has n times the variance.  `dealt_noise`: the provider draws it once and shares it; no holder
knows anything of it, and the provider knows it, as it knows all masks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from pysmpc.mpc.derived.discrete_gaussian import Sampler
from pysmpc.mpc.functions.masked import Masked
from pysmpc.mpc.interfaces import Cost, Party
from pysmpc.ring.prg import fresh_key
from pysmpc.ring.shares import Share

if TYPE_CHECKING:
    from pysmpc.mpc.operations import Suite


def holders_noise(suite: Suite, party: Party, shape: Sequence[int], sigma: float, scale: int = 1) -> Share:
    """Shares of a sum of discrete Gaussians of sigma steps, one of each holder.  No message.

    1. Each holder draws her noise from a fresh key of her own: it is her share.
    2. The shares are refreshed, so that an opening shows the sum alone.

    Raises NotImplementedError where shares do not add up (integrity="mac").
    """
    if not suite.additive:
        raise NotImplementedError(
            f"holders cannot add noise of their own under '{suite.name}': it would not have a code.  Let the provider "
            'deal it: noise="provider"'
        )
    n, sampler = math.prod(shape), Sampler(sigma)
    words = torch.zeros((party.rows, n), dtype=torch.int64)
    # 1. her share
    for row in range(party.rows):
        words[row] = sampler.draw(fresh_key(), n)
    # 2. the same sum
    return suite.refresh(party, Share.of(words, shape, scale))


def holders_noise_cost(holders: int, n: int) -> Cost:
    """Nothing."""
    return Cost()


def dealt_noise(suite: Suite, party: Party, shape: Sequence[int], sigma: float, scale: int = 1) -> Share:
    """Shares of discrete Gaussian noise of sigma steps, which the provider draws.  No message between holders.

    1. The provider draws it from a fresh key of its own.
    2. It deals shares of it.
    """
    n, sampler = math.prod(shape), Sampler(sigma)
    nothing = torch.zeros((min(party.rows, 1), n), dtype=torch.int64)

    def drawn(r: torch.Tensor) -> torch.Tensor:
        return sampler.draw(fresh_key(), r.numel()).unsqueeze(0)

    word = Masked(party.dealer.streams(), nothing, tuple(shape))
    dealt = suite.deal_words(party, word, 1, drawn)
    ones: Share = suite.combine(party, word, dealt, lambda c: torch.ones((1, c.numel()), dtype=torch.int64), 0, scale)
    return ones


def dealt_noise_cost(holders: int, n: int) -> Cost:
    """A word an element from the dealer."""
    return Cost(dealt=8 * n)
