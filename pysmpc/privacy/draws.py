"""Rows that an owner draws for a batch, in slots whose number is public: how many she drew, and which, is not.

Each row takes part with the same probability, for itself.  What was drawn goes to the first slots, the others are
padding.  So many slots are there that more rows are drawn with a probability of less than 2^-50; then some have none.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch

from pysmpc.ring.prg import KeySet, fresh_key

#: A draw has more rows than slots with a probability of less than this.
FAILURE = 2.0**-50
_BITS = 53  # of a rate


class Drawn(NamedTuple):
    """rows: [slots] their numbers, 0 for padding.  present: [slots] whether there is one."""

    rows: torch.Tensor
    present: torch.Tensor


def takes_part(n: int, rate: float) -> torch.Tensor:
    """[n] whether each of n rows is in a batch, by a generator that nobody can seed."""
    words = KeySet([fresh_key()]).draw(0, n)[0]
    return ((words >> 11) & ((1 << _BITS) - 1)) < round(rate * 2.0**_BITS)


def slots_for(n: int, rate: float) -> int:
    """The fewest slots of which Chernoff's bound says that they are enough, but for FAILURE."""
    low, high = math.floor(n * rate), n
    while low < high:
        middle = (low + high) // 2
        if _tail(n, rate, middle + 1) < FAILURE:
            high = middle
        else:
            low = middle + 1
    return max(1, high)


def _tail(n: int, rate: float, least: int) -> float:
    """Above the probability that `least` rows of n or more are drawn: e^(-n D(least/n || rate))."""
    part = least / n
    if part > 1 or rate == 0:
        return 0.0
    if part <= rate:
        return 1.0
    divergence = part * math.log(part / rate)
    if part < 1:
        divergence += (1 - part) * (math.log1p(-part) - math.log1p(-rate))
    return math.exp(-n * divergence)


def draw(n: int, rate: float, slots: int) -> Drawn:
    """Rows of n for one batch.  The same operations on the same shapes, whatever is drawn."""
    taken = takes_part(n, rate)
    place = torch.where(taken, torch.cumsum(taken, 0) - 1, slots).clamp(max=slots)
    index = torch.zeros(slots + 1, dtype=torch.int64)
    index.scatter_(
        0, place, torch.arange(n)
    )  # what is not drawn, or one too many, goes to the last, which nobody reads
    present = torch.arange(slots) < taken.sum()
    return Drawn(torch.where(present, index[:slots], 0), present)
