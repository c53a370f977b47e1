"""Secret Gaussian noise that nobody knows, or that the provider deals.

`holders_noise`: each holder adds full noise of her own to her share.  Whoever lacks one holder's share of it faces the
full variance; the sum has n times the variance.  `dealt_noise`: the provider draws it once and shares it; no holder
knows anything of it, and the provider knows it, as it knows all masks.

Noise is drawn of a key that the operating system gives for it alone, and that nobody else has.  To a recorded program
that is like a message from outside: each run draws anew.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from pysmpc.mpc.derived.discrete_gaussian import Sampler
from pysmpc.mpc.functions.masked import Masked
from pysmpc.mpc.interfaces import Cost, Party
from pysmpc.ring.prg import KeySet, fresh_key
from pysmpc.ring.recording import perform
from pysmpc.ring.shares import Share

if TYPE_CHECKING:
    from pysmpc.mpc.operations import Suite


def _draw(sigma: float, out: torch.Tensor) -> None:
    """out [rows, n]: in each row noise of a fresh key."""
    sampler = Sampler(sigma)
    for row in out:
        row.copy_(sampler.draw(fresh_key(), row.numel()))


def _drawn(sigma: float, rows: int, n: int) -> torch.Tensor:
    """[rows, n] of noise; in a recorded program, new noise in each run."""
    Sampler(sigma)  # raises for a deviation that there is not, also where nothing is drawn
    out = torch.empty((rows, n), dtype=torch.int64)
    perform(_draw, sigma, into=[out])
    return out


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
    # 1. her share
    words = _drawn(sigma, party.rows, math.prod(shape))
    # 2. the same sum
    return suite.refresh(party, Share.of(words, shape, scale))


def holders_noise_cost(holders: int, n: int) -> Cost:
    """Nothing."""
    return Cost()


@dataclass(eq=False, repr=False)
class _Noise(Masked):
    """What the dealer knows of an opening of nothing: noise of sigma steps, in the place of a mask."""

    sigma: float = 1.0

    def mask(self, keys: KeySet) -> torch.Tensor:
        """Dealer: new noise, [n]."""
        return _drawn(self.sigma, 1, self.n)[0]


def dealt_noise(suite: Suite, party: Party, shape: Sequence[int], sigma: float, scale: int = 1) -> Share:
    """Shares of discrete Gaussian noise of sigma steps, which the provider draws.  No message between holders.

    1. The provider draws it from a fresh key of its own.
    2. It deals shares of it.
    """
    Sampler(sigma)  # raises for a deviation that there is not, also at who draws nothing
    n = math.prod(shape)
    if suite.plaintext:  # the oracle, whose dealer deals nothing
        return Share.of(_drawn(sigma, party.rows, n), shape, scale)
    nothing = torch.zeros((min(party.rows, 1), n), dtype=torch.int64)
    word = _Noise(-1, nothing, tuple(shape), sigma=sigma)
    dealt = suite.deal_words(party, word, 1, lambda noise: noise.unsqueeze(0))
    ones: Share = suite.combine(party, word, dealt, lambda c: torch.ones((1, c.numel()), dtype=torch.int64), 0, scale)
    return ones


def dealt_noise_cost(holders: int, n: int) -> Cost:
    """A word an element from the dealer."""
    return Cost(dealt=8 * n)
