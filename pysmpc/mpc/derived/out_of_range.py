"""Whether any of many secrets is larger than it may be: one word, which is 0 where none is and uniform where one is.

|x| <= t is two signs: y = x + t is not negative, and y - (2 t + 1) is.  Both are read off one opening of y by the
circuits of comparisons, and stay under dealt bits.  The bits b_i that say "too large" are then added over Z_2^64 as a
vector space over Z_2, each times a word w_i that is uniform and that nobody knows:

    v = xor over i of b_i w_i

is 0 where all b_i are 0.  Where one is 1 it is uniform, whichever and however many they are: who sees v opened learns
whether a value was too large, and nothing else.  It is 0 in spite of one with probability 2^-64.
"""

from __future__ import annotations

import torch

from pysmpc.mpc.additive import comparison
from pysmpc.mpc.additive.truncation import MATERIAL, RHO
from pysmpc.mpc.interfaces import Cost, Party, declares_openings, opening
from pysmpc.ring import comparison_kernels, z2k
from pysmpc.ring.fixedpoint import LIMIT
from pysmpc.ring.prg import KeySet

MOST = LIMIT - 1  # what may be tested: 2 t + 1 must be in the upper half of the ring
NODES = comparison_kernels.NODES


@declares_openings("compare")
def outside(party: Party, words: torch.Tensor, most: torch.Tensor) -> torch.Tensor:
    """Binary shares [rows, 1] of v, for secrets [rows, n] and public bounds [n] from 0 to 2^62 - 1.  Four rounds.

    1. Open c = y + r, y = x + most.
    2. The signs of y and of y - (2 most + 1), under dealt bits rho: beta = sign ^ rho.  Three rounds.
    3. b = beta ^ rho, for the second sign not beta ^ rho.  Holders add the words w of which beta says so; the dealer
       shares the sum of those of which rho does.
    """
    n = words.shape[1]
    keys = party.dealer.keys
    base = party.dealer.streams(2 * MATERIAL + 3)
    again, weights = base + MATERIAL, base + 2 * MATERIAL
    first, second = (comparison_kernels.compare_sizes(n, NODES, known)[4] for known in (False, True))

    def deal(keys: KeySet, out: torch.Tensor) -> None:
        comparison.deal(base, n, NODES, keys, out[:first])
        comparison.deal(again, n, NODES, keys, out[first : first + second], True)
        word = z2k.rows_xor(keys.draw(weights + 2, 1))
        for place, own in enumerate((base, again)):
            rho = z2k.rows_xor(keys.draw(own + RHO, z2k.packed_words(n)))
            word ^= _chosen(z2k.rows_xor(keys.draw(weights + place, n)), z2k.unpack_bits(rho[0], n))
        out[-1:] = word[0]

    dealt = party.dealer.corrections(first + second + 1, deal)
    # 1. open
    shifted = words.clone()
    if party.lead is not None:
        shifted[party.lead] += most
    [c] = party.channel.open([z2k.truncate_mask(keys, base, 0, shifted)], "compare", [(n,)])
    # 2. signs
    one, other = (None, None) if dealt is None else (dealt[:first], dealt[first : first + second])
    pieces: list[comparison.Piece] = [
        (base, one, None, None, c, 0, NODES),
        (again, other, base, one, c - (2 * most + 1), 0, NODES),
    ]
    below, within = comparison.open_signs(party, pieces, [[0], [1]])
    # 3. add
    out = keys.draw(weights + 2, 1)
    if dealt is not None:
        out[-1] ^= dealt[-1]  # the receiver of corrections is the last holder
    if party.rows:
        out ^= _chosen(keys.draw(weights, n), z2k.unpack_bits(below[0].contiguous(), n))
        out ^= _chosen(keys.draw(weights + 1, n), 1 - z2k.unpack_bits(within[0].contiguous(), n))
    return out


def _chosen(words: torch.Tensor, bits: torch.Tensor) -> torch.Tensor:
    """The exclusive or [rows, 1] of the words [rows, n] whose bits [n] are set."""
    left = words & -bits
    while left.shape[1] > 1:
        half = left.shape[1] // 2
        rest = left[:, 2 * half :]
        left = left[:, :half] ^ left[:, half : 2 * half]
        if rest.shape[1]:
            left[:, :1] ^= rest
    return left


def outside_cost(holders: int, n: int) -> Cost:
    """Of n values, from one: 16.5 bytes an element and peer, 53 from the dealer."""
    first, second = (comparison_kernels.compare_sizes(n, NODES, known) for known in (False, True))
    cost = opening(holders, n)
    for a, b in zip(first[1:4], second[1:4], strict=True):
        cost += opening(holders, a + b)
    return cost + Cost(dealt=8 * (first[4] + second[4] + 1))
