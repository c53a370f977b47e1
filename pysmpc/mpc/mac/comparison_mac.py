"""Comparisons with codes: a circuit on bits, each the lowest of a number mod 2^64.

Modulo 2 the sum of two such numbers is the exclusive or of the bits; products open one
bit of each factor.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from pysmpc.mpc.interfaces import Cost, Party, declares_openings, opening
from pysmpc.mpc.mac.dealt import (
    BIT_COST,
    BIT_MASK_COST,
    JOIN_COST,
    MASK_COST,
    VALUE_COST,
    Bits,
    constant,
    deal,
    deal_bit_masks,
    deal_mask,
    loose,
    share_of,
    state,
)
from pysmpc.mpc.mac.opening import open_bits, open_words
from pysmpc.mpc.mac.sharing_mac import neg
from pysmpc.ring import z2k, z2k_128
from pysmpc.ring.prg import KeySet
from pysmpc.ring.shares import MaskedBit, Share, ShareStorage

PAIRS = z2k_128.LEAVES
DEALT = z2k_128.DEALT_BITS  # an element


_NOTHING = torch.empty((0, 0), dtype=torch.int64)


class Truth(MaskedBit):
    """Shared bits, as authenticated shares of 0 and 1; nothing of them is public."""

    def __init__(self, share: Share, flip: bool = False) -> None:
        super().__init__(_NOTHING, _NOTHING, None, flip)
        self.share = share

    def flipped(self) -> Truth:
        """not(bit), for nothing."""
        return Truth(self.share, not self.flip)


@dataclass(repr=False)
class Signs:
    """Bits beta ^ rho: public beta [n], the dealt numbers rho, tight [rows * 2, 2, n], and the stream of their bits."""

    beta: torch.Tensor
    rho: torch.Tensor
    stream: int

    def public(self, inverted: bool) -> tuple[torch.Tensor, torch.Tensor]:
        """Public u and w with u + w rho the bits, or one less the bits."""
        u = 1 - self.beta if inverted else self.beta
        return u, 1 - 2 * u


def _signs(party: Party, x: Share) -> Signs:
    """The bits x < 0, for any x in [-2^63, 2^63).  Seven rounds.

    1. Open c = x + r.  The dealer shares r_63 and, of 2 r mod 2^64, every bit and the product
       of the two bits of every pair.
    2. less and equal of the pairs of 2 c and 2 r are linear in those.
    3. Five times: two neighbours join, less = less_1 + equal_1 less_0, equal = equal_1 equal_0.
    4. x < 0 is c_63 + r_63 + [2 c < 2 r] mod 2; open it under a dealt bit rho.
    """
    n, own, keys = x.numel, state(party), party.dealer.keys
    # 1. open
    stream, mask = deal_mask(party, n)
    base = party.dealer.streams(2)
    dealt = party.dealer.corrections(
        2 * DEALT * n, lambda keys, out: z2k_128.leaves_deal(keys, stream, base, n, own.alpha(keys), out)
    )
    [c] = open_words(party, [z2k_128.pack(loose(party, x.words()), mask)], "compare", [x.shape])
    c = c.reshape(-1) if party.rows else torch.zeros(n, dtype=torch.int64)
    # 2. pairs
    ones = (own.ones, own.key)
    sent = (None, None) if dealt is None else dealt.view(2, DEALT * n)
    found = [z2k_128.leaves(keys, base + i, sent[i], ones[i], c) for i in range(2)]
    tree = Bits(found[0][0], found[1][0])
    del dealt, sent
    # 3. join
    size = PAIRS * n
    while size > n:
        size //= 2
        tree = _join(party, tree, size)
    # 4. the sign, under rho
    top = (c >> 63) & 1
    under, rho = deal_bit_masks(party, n)
    share, code = (
        less[:, :n] + r + top * one.unsqueeze(1) - m
        for less, (_, r), m, one in zip(tree.parts, found, rho.parts, ones, strict=True)
    )
    number = deal(party, n, lambda keys: keys.total(under, n) & 1)
    packed = z2k.empty(party.rows, z2k.packed_words(n))
    for row, words in zip(packed, share, strict=True):
        row.copy_(z2k.pack_bits(words))
    beta = open_bits(party, packed, share >> 1, code, "compare", (n,)) & 1
    return Signs(beta if party.rows else torch.zeros(n, dtype=torch.int64), number, under)


@declares_openings("compare", "check")
def negative(party: Party, x: Share) -> Truth:
    """The bits x < 0, for any x in [-2^63, 2^63): beta + (1 - 2 beta) rho.  Seven rounds."""
    signs = _signs(party, x)
    u, w = signs.public(inverted=False)
    return Truth(share_of(z2k_128.scaled(signs.rho, w) + constant(party, u), (x.numel,)))


def _join(party: Party, tree: Bits, n: int) -> Bits:
    """less and equal [rows, 2 n] of neighbours in a tree [rows, 4 n]: less_0, less_1, equal_0, equal_1.  One round.

    1. The dealer gives masks a, b, c and the bits of a b and a c, with codes.
    2. Open equal_1, less_0 and equal_0 under those.
    3. less_1 + equal_1 less_0 and equal_1 equal_0 are linear in what was dealt.
    """
    own, keys = state(party), party.dealer.keys
    # 1. masks and products
    masks, products = party.dealer.streams(2), party.dealer.streams(2)
    dealt = party.dealer.corrections(
        z2k_128.JOIN_WORDS * n, lambda keys, out: z2k_128.join_deal(keys, masks, products, n, own.alpha(keys), out)
    )
    codes, *sent = (None, None, None) if dealt is None else dealt.split([3 * n, 2 * n, 2 * n])
    # 2. open
    opened = open_bits(party, *z2k_128.factors(keys, masks, codes, *tree.parts), "compare", (3 * n,))
    if not party.rows:
        return Bits(*(part[:, : 2 * n] for part in tree.parts))
    # 3. combine
    under = ((masks, None), (masks + 1, codes))
    return Bits(
        *(
            z2k_128.join(keys, mask, (products + i, sent[i]), part, opened)
            for i, (mask, part) in enumerate(zip(under, tree.parts, strict=True))
        )
    )


def negative_cost(holders: int, n: int) -> Cost:
    """Signs of n elements: about 20 bytes an element and peer, 3.3 kB from the dealer."""
    cost = opening(holders, n) + Cost(dealt=(MASK_COST + BIT_COST * DEALT) * n)
    size = PAIRS * n
    while size > n:
        size //= 2
        cost += opening(holders, z2k.packed_words(3 * size))
        cost += Cost(dealt=JOIN_COST * size)
    return cost + opening(holders, z2k.packed_words(n)) + Cost(dealt=(BIT_MASK_COST + VALUE_COST) * n)


@declares_openings("compare", "check")
def zero(party: Party, x: Share) -> Share:
    """x == 0 as 0 and 1, for any x.  Seven rounds.

    1. The signs of x and -x, in one comparison of 2 n elements: both are set for -2^63, none for 0.
    2. The dealer shares the products of their bits rho.
    3. (1 - s) (1 - t), linear in those.
    """
    n = x.numel
    # 1. signs
    flat = Share(ShareStorage(x.words()), (n,))
    both = torch.cat([flat.words(), neg(party, flat).words()], 1)
    signs = _signs(party, Share.of(both, (2 * n,)))

    # 2. products
    def products(keys: KeySet) -> torch.Tensor:
        one, two = keys.total(signs.stream, 2 * n).split(n)
        return one & two & 1

    product = deal(party, n, products)
    # 3. neither
    (u, v), (w, z) = (part.split(n) for part in signs.public(inverted=True))
    first, second = (half.contiguous() for half in signs.rho.split(n, 2))
    terms = z2k_128.scaled(first, w * v) + z2k_128.scaled(second, u * z) + z2k_128.scaled(product, w * z)
    return share_of(terms + constant(party, u * v), x.shape)


def zero_cost(holders: int, n: int) -> Cost:
    """Two signs an element, and a product."""
    return negative_cost(holders, 2 * n) + Cost(dealt=VALUE_COST * n)


def _not(party: Party, bits: Share, shape: tuple[int, ...]) -> Share:
    """1 - bit of 0 and 1."""
    one = constant(party, torch.ones(1, dtype=torch.int64))
    return share_of(one - loose(party, bits.words()), shape)


def bit_share(party: Party, bit: MaskedBit, shape: tuple[int, ...]) -> Share:
    """The bits as shares of 0 and 1.  No message."""
    assert isinstance(bit, Truth), "bits of other protocols have no codes"
    out = _not(party, bit.share, shape) if bit.flip else Share(bit.share.body, shape)
    out.body.bit = bit
    return out
