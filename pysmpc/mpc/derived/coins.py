"""Secret coins: bits that are 1 with a public probability, which no holder knows.

The dealer draws them as it draws masks, and shares them: whoever sees messages of the holders, or holds all shares
but one, learns nothing of them.  The dealer, who knows all masks and sees no message, knows them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from pysmpc.mpc.functions.masked import Masked
from pysmpc.mpc.interfaces import Cost, Party
from pysmpc.ring.shares import Share

if TYPE_CHECKING:
    from pysmpc.mpc.operations import Suite

BITS = 53  # of the uniform numbers that are held against a probability, which is rounded to as many


def random_bits(suite: Suite, party: Party, shape: Sequence[int], probability: float) -> Share:
    """Shares of bits of this shape, 0 and 1 at scale 1, each of which is 1 with the probability.  No message.

    1. A uniform word r, the sum of what holders and dealer draw under their keys: the dealer alone knows it.
    2. The dealer shares the bit: whether BITS bits of r, as a number, are below probability 2^BITS.
    """
    if not 0 <= probability <= 1:
        raise RuntimeError(f"a probability is from 0 to 1, not {probability}")
    end, n = round(probability * 2.0**BITS), math.prod(shape)
    if suite.plaintext:  # the oracle, whose dealer draws nothing
        return suite.public(party, torch.empty(tuple(shape)).bernoulli_(probability).long())

    def below(r: torch.Tensor) -> torch.Tensor:
        return (((r >> (64 - BITS)) & ((1 << BITS) - 1)) < end).to(torch.int64).unsqueeze(0)

    # 1. a word that nothing opens
    word = Masked(party.dealer.streams(), torch.zeros((min(party.rows, 1), n), dtype=torch.int64), tuple(shape))
    # 2. the bit
    dealt = suite.deal_words(party, word, 1, below)
    return suite.combine(party, word, dealt, lambda c: torch.ones((1, c.numel()), dtype=torch.int64))


def random_bits_cost(holders: int, n: int) -> Cost:
    """A word an element from the dealer."""
    return Cost(dealt=8 * n)
