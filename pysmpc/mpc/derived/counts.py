"""Reciprocals of small positive whole numbers, by a table that a public number turns.

What divides a gradient among equal maxima is their number, which is secret but at most the
number of elements that were compared.
"""

from __future__ import annotations

import torch

from pysmpc.mpc.additive.sharing import public
from pysmpc.mpc.interfaces import LOCAL, Cost, Party, declares_openings, opening
from pysmpc.ring import z2k
from pysmpc.ring.prg import KeySet
from pysmpc.ring.shares import Share

BITS = 24  # of a reciprocal


def reciprocals(most: int) -> torch.Tensor:
    """2^BITS / k to the nearest integer, for k modulo a power of two: [2^w] for the least that has room for most."""
    size = 1 << (most - 1).bit_length()
    return torch.tensor([((2 << BITS) + k) // (2 * k) for k in (size, *range(1, size))])


def _deal(keys: KeySet, base: int, w: int, n: int, out: torch.Tensor) -> None:
    """Dealer: one-hot vectors of the upper w bits of r, all entries but the last."""
    upper = (keys.total(base, n) >> (64 - w)) & ((1 << w) - 1)
    out.view((1 << w) - 1, n).copy_(upper == torch.arange((1 << w) - 1).view(-1, 1))
    keys.take(base + 1, out)


@declares_openings("mask")
def count_reciprocals(party: Party, x: Share, most: int) -> Share:
    """2^BITS / x to the nearest integer, for whole numbers x from 1 to most.  One round, none for most = 1.

    1. Open c = 2^(64 - w) x + r, where most <= 2^w: the upper w bits of c are x + (those of r) mod 2^w,
       and its others those of r.
    2. The dealer shares the one-hot vector of the upper bits of r.  Each entry is multiplied by the
       reciprocal of what x is if that entry is set.
    8 bytes an element to each other holder, less than 16 for each of `most` from the dealer.
    """
    w, n = (most - 1).bit_length(), x.numel
    table = reciprocals(most)
    if w == 0:
        return public(party, torch.full(x.shape, int(table)), 1)
    base, keys = party.dealer.streams(2), party.dealer.keys
    entries = (1 << w) - 1
    corrections = party.dealer.corrections(entries * n, lambda keys, out: _deal(keys, base, w, n, out))
    # 1. open
    message = z2k.truncate_mask(keys, base, 0, x.words(), 1 << (64 - w))
    [c] = party.channel.open([message], "mask", [x.shape])
    # 2. turn the table
    places = ((c >> (64 - w)).unsqueeze(1) - torch.arange(entries + 1).view(1, -1, 1)) & entries
    turned = table[places]
    dealt = keys.draw(base + 1, entries * n, corrections).view(party.rows, entries, n)
    out = (dealt * (turned[:, :-1] - turned[:, -1:])).sum(1)
    if party.lead is not None:
        out[party.lead] += turned[0, -1]
    return Share.of(out, x.shape)


def count_reciprocals_cost(holders: int, n: int, most: int) -> Cost:
    """Of n numbers from 1 to most."""
    w = (most - 1).bit_length()
    return opening(holders, n) + Cost(dealt=8 * ((1 << w) - 1) * n) if w else LOCAL
