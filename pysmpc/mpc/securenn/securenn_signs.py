"""Signs and ReLU as protocol="snn" runs them: SecureNN's PrivateCompare in Z_2^64 itself.

The paper converts to an odd ring, where the sign is a lowest bit, and compares there.
With the opened c = a + r and the bits of r shared by P2, the sign of a is
    c_63 ^ r_63 ^ [r mod 2^63 > c mod 2^63]
in Z_2^64 as well: one PrivateCompare, and no ShareConvert with another.  P2 sees less,
the rounds are 3 for the paper's 10, and c serves the truncation and the selection, as in
`pysmpc.mpc.additive.comparison`.  `pysmpc.mpc.securenn.securenn_comparison` has the paper's way.
"""

from __future__ import annotations

import torch

from pysmpc.mpc.additive.truncation import MATERIAL, RHO, RHO_SHARES, divisor
from pysmpc.mpc.interfaces import Cost, Party, declares_openings
from pysmpc.mpc.securenn.securenn_comparison import (
    OWN_BITS,
    PAIR_CONTROL,
    STREAMS,
    Material,
    answered,
    compute_msb_cost,
    pair_of,
    rho_bits,
)
from pysmpc.ring import comparison_kernels, odd_ring, z2k
from pysmpc.ring.prg import KeySet
from pysmpc.ring.shares import MaskedBit, Share

LOW = (1 << 63) - 1


def _deal(party: Party, n: int, select: bool = False, by: z2k.Divisor | None = None) -> Material:
    """P2, ahead: the lower bits of the mask r, a dealt bit, and what a selection needs."""
    base, own = party.dealer.streams(MATERIAL), party.dealer.streams(STREAMS)
    symbols, more = odd_ring.symbol_words(n), comparison_kernels.select_rows(by) * n if select else 0
    known: list[torch.Tensor] = []

    def deal(keys: KeySet, out: torch.Tensor) -> None:
        r = keys.total(base, n)
        odd_ring.deal_bits(keys, own + OWN_BITS, r & LOW, out[:symbols])
        known.append(z2k.pack_bits(r >> 63) ^ rho_bits(keys, base, n))
        comparison_kernels.bit_deal(keys, base + RHO, base + RHO_SHARES, out[symbols : symbols + n])
        if select:
            comparison_kernels.select_deal(keys, base, base + RHO, by, out[symbols + n :])

    dealt = party.dealer.corrections(symbols + n + more, deal)
    bits, shares, rest = (None, None, None) if dealt is None else dealt.split([symbols, n, more])
    return Material(base, own, bits, shares, rest, known)


def _sign(party: Party, material: Material, c: torch.Tensor, offset: int) -> MaskedBit:
    """Whether c - offset - r is negative, from the opened c.  Two rounds."""
    n, own = c.shape[1], material.own
    pair, masked = pair_of(party), c - offset
    copies = (masked & LOW).expand(party.rows, n).contiguous()
    message = odd_ring.compare(
        party.dealer.keys, own + OWN_BITS, pair, own + PAIR_CONTROL, material.bits, copies, False
    )
    return answered(party, message, material.known, pair, material.base, own, n, material.shares, masked >> 63)


@declares_openings("compare", asks=("compare",))
def negative(party: Party, x: Share) -> MaskedBit:
    """The bits x < 0, for every x.  Three rounds.

    1. Open c = x + r.
    2. P0 and P1 compare r mod 2^63 > c mod 2^63 under a bit of theirs, at P2.
    3. P2 opens what it found, less r_63, under a dealt bit.
    """
    words = x.words()
    material = _deal(party, words.shape[1])
    message = z2k.truncate_mask(party.dealer.keys, material.base, 0, words)
    [c] = party.channel.open([message], "compare")
    return _sign(party, material, c, 0)


@declares_openings("relu", asks=("compare",))
def relu(party: Party, x: Share, by: int = 1) -> Share:
    """max(x, 0) / by, with the bits x > 0 left on the result's body.  Three rounds.

    Takes any x above -2^63; with a truncation, what that takes.

    1. Open c = x + offset + r.
    2. The sign of x - 1 (two rounds): x > 0, so that the slope at 0 is 0 (in the paper, 1).
    3. Select: linear in what P2 shared of the dealt bit, r and their products.
    """
    by_ = divisor(by) if by > 1 else None
    offset = by_.offset if by_ else 0
    words, keys = x.words(), party.dealer.keys
    material = _deal(party, words.shape[1], True, by_)
    [c] = party.channel.open([z2k.truncate_mask(keys, material.base, offset, words)], "relu")
    bit = _sign(party, material, c, offset + 1).flipped()
    out = comparison_kernels.select_finish(keys, material.base, by_, True, c, bit.beta, bit.rho, material.more)
    result = Share.of(out, x.shape, x.scale // by)
    result.body.sign = bit
    return result


def negative_cost(holders: int, n: int) -> Cost:
    """8 bytes an element between the holders, 56 to P2, 64 dealt ahead, a bit back."""
    return compute_msb_cost(holders, n)


def relu_cost(holders: int, n: int, truncated: bool) -> Cost:
    """As a sign; 8 or (with truncation) 32 bytes more an element from P2."""
    return negative_cost(holders, n) + Cost(dealt=(32 if truncated else 8) * n)
