"""Secret positions as one-hot vectors: the dealer's vector of a mask, turned by a public number."""

from __future__ import annotations

import torch

from pysmpc.mpc.interfaces import Cost, Party, declares_openings, opening
from pysmpc.ring import z2k
from pysmpc.ring.prg import KeySet
from pysmpc.ring.shares import Share


def _width(classes: int) -> int:
    return max(0, classes - 1).bit_length()


def _deal(keys: KeySet, base: int, w: int, n: int, out: torch.Tensor) -> None:
    """Dealer: one-hot vectors [n, 2^w] of the upper w bits of r."""
    upper = (keys.total(base, n) >> (64 - w)) & ((1 << w) - 1)
    out.zero_().view(n, 1 << w).scatter_(1, upper.unsqueeze(1), 1)
    keys.take(base + 1, out)


@declares_openings("position")
def one_hot(party: Party, x: Share, classes: int) -> Share:
    """Bits [*x.shape, classes], of which that at x is set, for whole numbers x from 0 to classes - 1.  One round.

    1. Open c = 2^(64 - w) x + r, where classes <= 2^w: the upper w bits of c are x + (those of r) mod 2^w.
    2. The dealer shares the one-hot vector of the upper bits of r; entry j of the result is its entry (c - j) mod 2^w.
    8 bytes an element to each other holder, 8 for each of 2^w from the dealer.

    Of x that is no class the result is that of x mod 2^w, which has no bit set if that is no class either.
    """
    w, n = _width(classes), x.numel
    shape = (*x.shape, classes)
    if w == 0:
        words = torch.zeros((party.rows, n * classes), dtype=torch.int64)
        if party.lead is not None:
            words[party.lead] = 1
        return Share.of(words, shape)
    base, keys = party.dealer.streams(2), party.dealer.keys
    corrections = party.dealer.corrections(n << w, lambda keys, out: _deal(keys, base, w, n, out))
    # 1. open
    message = z2k.truncate_mask(keys, base, 0, x.words(), 1 << (64 - w))
    [c] = party.channel.open([message], "position", [x.shape])
    # 2. turn
    places = ((c >> (64 - w)).unsqueeze(2) - torch.arange(classes)) & ((1 << w) - 1)
    dealt = keys.draw(base + 1, n << w, corrections).view(party.rows, n, 1 << w)
    words = dealt.gather(2, places.expand(party.rows, n, classes)).reshape(party.rows, n * classes)
    return Share.of(words, shape)


def one_hot_cost(holders: int, n: int, classes: int) -> Cost:
    """Of n positions."""
    w = _width(classes)
    return opening(holders, n) + Cost(dealt=8 * (n << w)) if w else Cost()
