"""Comparison and what follows from it: sign bits, selection, ReLU, maxima.

The sign of x is read off a masked opening c = x + r by a bit-sliced circuit over the
shared bits of r, three rounds after c (src/c/compare.inc.h).  It comes back as a
`Bit`: public under a dealt bit rho whose arithmetic shares are dealt too, so that
turning it into a share is free and multiplying by it costs one opening of the other
factor.  A ReLU needs not even that: c serves the truncation of x, its comparison and
the selection.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch

from pysmpc import ring
from pysmpc.prg import KeySet
from pysmpc.protocols.interfaces import Cost, Party, opening, opens
from pysmpc.protocols.sharing import add, sub
from pysmpc.protocols.truncation import MATERIAL, RHO, RHO_SHARES, divisor
from pysmpc.shares import Bit, Share


def nodes_of(bits: int) -> int:
    """Nodes of the circuit for values of so many bits."""
    return min(-(-bits // 16), ring.NODES)


def _deal(keys: KeySet, base: int, n: int, nodes: int, out: torch.Tensor) -> None:
    """Dealer: everything a sign needs."""
    circuit = ring.compare_sizes(n, nodes)[4]
    ring.compare_deal(keys, base, n, out[:circuit], nodes)
    ring.bit_deal(keys, base + RHO, base + RHO_SHARES, out[circuit:])


def circuit(
    party: Party, base: int, corrections: torch.Tensor | None, c: torch.Tensor, offset: int, nodes: int
) -> torch.Tensor:
    """The bits c - offset - r < 0 under those of stream base + RHO, packed.  Three rounds, two for one node."""
    keys, n = party.dealer.keys, c.shape[1]
    # 1. inputs of the nodes, under masks
    state, message = ring.compare_chunks(keys, base, corrections, c, offset, nodes)
    [opened] = party.channel.open_xor([message], "compare")
    # 2. inputs of the root; of one node, the sign
    sign, message = ring.compare_nodes(keys, base, corrections, opened, state, n, nodes)
    [beta] = party.channel.open_xor([message], "compare")
    # 3. the sign, under rho
    if nodes > 1:
        message = ring.compare_root(keys, base, corrections, beta, sign, n, nodes)
        [beta] = party.channel.open_xor([message], "compare")
    return beta


def _sign_bit(
    party: Party, base: int, corrections: torch.Tensor | None, c: torch.Tensor, offset: int, nodes: int
) -> Bit:
    """The bit c - offset - r < 0, from the opened c.  Rounds of the circuit."""
    keys, n = party.dealer.keys, c.shape[1]
    beta = circuit(party, base, corrections, c, offset, nodes)
    at = ring.compare_sizes(n, nodes)[4]
    words = None if corrections is None else corrections[at : at + n]
    return Bit(beta, keys.draw(base + RHO_SHARES, n, words), base + RHO)


@opens("compare")
def negative(party: Party, x: Share, bits: int = 64) -> Bit:
    """The bits x < 0, for any x in [-2^(bits - 1), 2^(bits - 1)).  Four rounds, three for up to 16 bits."""
    words, nodes = x.words(), nodes_of(bits)
    n = words.shape[1]
    base = party.dealer.streams(MATERIAL)
    corrections = party.dealer.corrections(
        ring.compare_sizes(n, nodes)[4] + n, lambda keys, out: _deal(keys, base, n, nodes, out)
    )
    [c] = party.channel.open([ring.truncate_mask(party.dealer.keys, base, 0, words)], "compare", [x.shape])
    return _sign_bit(party, base, corrections, c, 0, nodes)


def _deal_products(bit: Bit, stream: int, keys: KeySet, out: torch.Tensor) -> None:
    """Dealer: of the first half of dealt bits with the second."""
    assert bit.stream is not None
    n = out.numel()
    rho = ring.unpack_bits(ring.rows_xor(keys.draw(bit.stream, ring.packed_words(2 * n)))[0], 2 * n)
    keys.take(stream, torch.mul(rho[:n], rho[n:], out=out))


def zero_by(negative: Callable[..., Bit]) -> Callable[..., Share]:
    """The test for zero by a protocol for signs."""

    @opens(*negative.__dict__["opens"], asks=negative.__dict__["asks"])
    def zero(party: Party, x: Share, *options: int) -> Share:
        """The bits x = 0 as shares of 0 and 1, for every x; rounds of one batch of signs.

        1. The signs s of x and t of -x: both are set for -2^63, neither for 0.
        2. The dealer shares the products of the bits rho under which both are open.
        3. (1 - s) (1 - t), linear in those.
        """
        words = x.words()
        n = words.shape[1]
        # 1. signs
        sign = negative(party, Share.of(torch.cat([words, ring.scale(words, -1)], 1), (2 * n,)), *options)
        # 2. products
        stream, keys = party.dealer.streams(), party.dealer.keys
        products = party.dealer.corrections(n, partial(_deal_products, sign, stream))
        # 3. neither
        signs = bit_share(party, sign, (2 * n,)).body.words
        out = keys.draw(stream, n, products)
        if party.rows:
            beta = ring.unpack_bits(sign.beta[0].contiguous(), 2 * n)
            s, t = beta[:n], beta[n:]
            out *= (1 - 2 * s) * (1 - 2 * t)
            out += (t - 1) * signs[:, :n] + (s - 1) * signs[:, n:]
            if party.lead is not None:
                out[party.lead] += 1 - s * t
        return Share.of(out, x.shape)

    return zero


zero = zero_by(negative)


def bit_share(party: Party, bit: Bit, shape: tuple[int, ...]) -> Share:
    """The bits as shares of 0 and 1.  No message."""
    words = ring.bit_share(party.dealer.keys, bit.beta, bit.rho)
    out = Share.of(words, shape)
    if bit.flip:
        words.neg_()
        if party.lead is not None:
            words[party.lead] += 1
    out.body.bit = bit
    return out


@opens("relu", "compare")
def relu(party: Party, x: Share, by: int = 1, bits: int = 64) -> Share:
    """max(x, 0) / by, with the bits x > 0 left on the result's body.  Rounds of a sign.

    Takes any x above -2^(bits - 1) and below its opposite; with a truncation, what that takes.

    1. Open c = x + offset + r.
    2. The sign of x - 1 (three rounds): x > 0, so that the slope at 0 is 0.
    3. Select: linear in what the dealer shared of rho, r and their products.
    """
    by_ = divisor(by) if by > 1 else None
    offset = by_.offset if by_ else 0
    words, nodes = x.words(), nodes_of(bits)
    n = words.shape[1]
    base = party.dealer.streams(MATERIAL)
    corrections = party.dealer.corrections(
        ring.compare_sizes(n, nodes)[4] + n, lambda keys, out: _deal(keys, base, n, nodes, out)
    )
    [c] = party.channel.open([ring.truncate_mask(party.dealer.keys, base, offset, words)], "relu", [x.shape])
    bit = _sign_bit(party, base, corrections, c, offset + 1, nodes).flipped()
    del corrections  # before as much again is dealt
    corrections = party.dealer.corrections(
        ring.select_rows(by_) * n, lambda keys, out: ring.select_deal(keys, base, base + RHO, by_, out)
    )
    out = ring.select_finish(party.dealer.keys, base, by_, True, c, bit.beta, bit.rho, corrections)
    result = Share.of(out, x.shape, x.scale // by)
    result.body.sign = bit
    return result


def larger_by(relu: Callable[..., Share]) -> Callable[[Party, Share, Share], tuple[Share, Bit]]:
    """The larger of two by a protocol for ReLUs."""

    @opens(*relu.__dict__["opens"], asks=relu.__dict__["asks"])
    def larger(party: Party, x: Share, y: Share) -> tuple[Share, Bit]:
        """The larger of x and y, of equal shape and scale, and the bits y > x; rounds of a ReLU.

        x + max(y - x, 0): the opening for the sign serves the choice.
        """
        above = relu(party, sub(party, y, x))
        assert above.body.sign is not None
        return add(party, x, above), above.body.sign

    return larger


larger = larger_by(relu)


@opens("select")
def select(party: Party, bit: Bit, x: Share, by: int = 1) -> Share:
    """bit * x / by, elementwise.  One round, in which x is opened under a mask."""
    assert bit.stream is not None, "the dealer does not know the mask of this bit"
    by_, stream = divisor(by) if by > 1 else None, bit.stream
    words = x.words()
    n = words.shape[1]
    base = party.dealer.streams(MATERIAL)
    corrections = party.dealer.corrections(
        ring.select_rows(by_) * n, lambda keys, out: ring.select_deal(keys, base, stream, by_, out)
    )
    message = ring.truncate_mask(party.dealer.keys, base, by_.offset if by_ else 0, words)
    [c] = party.channel.open([message], "select", [x.shape])
    out = ring.select_finish(party.dealer.keys, base, by_, bit.flip, c, bit.beta, bit.rho, corrections)
    return Share.of(out, x.shape, x.scale // by)


def circuit_cost(holders: int, n: int, bits: int = 64) -> Cost:
    """Of the circuit for n elements, without their opening and shares of their bits."""
    nodes = nodes_of(bits)
    _, first, second, third, dealt = ring.compare_sizes(n, nodes)
    rounds = opening(holders, first) + opening(holders, second)
    if nodes > 1:
        rounds += opening(holders, third)
    return rounds + Cost(dealt=8 * dealt)


def negative_cost(holders: int, n: int, bits: int = 64) -> Cost:
    """Signs of n elements: 12.4 bytes an element and peer, 49 from the dealer; of 32 bits 10.5 and 29."""
    return opening(holders, n) + circuit_cost(holders, n, bits) + Cost(dealt=8 * n)


def zero_cost(holders: int, n: int) -> Cost:
    """Two signs an element, and 8 bytes more from the dealer."""
    return negative_cost(holders, 2 * n) + Cost(dealt=8 * n)


def relu_cost(holders: int, n: int, truncated: bool, bits: int = 64) -> Cost:
    """As a sign; 8 or (with truncation) 32 bytes more an element from the dealer."""
    return negative_cost(holders, n, bits) + Cost(dealt=(32 if truncated else 8) * n)


def select_cost(holders: int, n: int, truncated: bool) -> Cost:
    """Cost of selecting n elements by bits that are at hand."""
    return opening(holders, n) + Cost(dealt=(32 if truncated else 8) * n)
