"""Comparison and what follows from it: sign bits, selection, ReLU, maxima.

The sign of x is read off a masked opening c = x + r by a bit-sliced circuit over the
shared bits of r, three rounds after c (src/c/compare.inc.h).  It comes back as a
`MaskedBit`: public under a dealt bit rho whose arithmetic shares are dealt too, so that
turning it into a share is free and multiplying by it costs one opening of the other
factor.  A ReLU needs not even that: c serves the truncation of x, its comparison and
the selection.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from functools import partial

import torch

from pysmpc.mpc.additive.affine_values import KEPT, Selected, Truncated
from pysmpc.mpc.additive.truncation import MATERIAL, RHO, RHO_SHARES, divisor
from pysmpc.mpc.interfaces import Cost, Party, declares_openings, opening, opens_as
from pysmpc.mpc.signatures import NarrowNegative, NarrowZero, Negative
from pysmpc.ring import comparison_kernels, z2k
from pysmpc.ring.prg import KeySet
from pysmpc.ring.shares import MaskedBit, Share


def nodes_of(bits: int) -> int:
    """Nodes of the circuit for values of so many bits."""
    return min(-(-bits // 16), comparison_kernels.NODES)


def deal(base: int, n: int, nodes: int, keys: KeySet, out: torch.Tensor, known: bool = False) -> None:
    """Dealer: the circuit of a sign, and what turns the bit under rho to a number where `out` has room for it.

    known: without the monomials of r, which were dealt for another sign.
    """
    circuit = comparison_kernels.compare_sizes(n, nodes, known)[4]
    comparison_kernels.compare_deal(keys, base, n, out[:circuit], nodes, known)
    if out.numel() > circuit:
        comparison_kernels.bit_deal(keys, base + RHO, base + RHO_SHARES, out[circuit:])


#: base and corrections of a sign; of the sign whose monomials of r it uses (None: its own); c, offset, nodes
Piece = tuple[int, torch.Tensor | None, int | None, torch.Tensor | None, torch.Tensor, int, int]


def _circuit(keys: KeySet, piece: Piece) -> Generator[torch.Tensor, torch.Tensor, torch.Tensor]:
    """A sign: yields its message of each round, is sent what that opened to, returns the bits under rho, packed."""
    base, corrections, other, others, c, offset, nodes = piece
    n, known = c.shape[1], other is not None and other != base
    # 1. inputs of the nodes, under masks
    state, message = comparison_kernels.compare_chunks(
        keys, base, others if known else corrections, c, offset, nodes, other
    )
    opened = yield message
    # 2. inputs of the root; of one node, the sign
    sign, message = comparison_kernels.compare_nodes(keys, base, corrections, opened, state, n, nodes, known)
    beta = yield message
    # 3. the sign, under rho
    if nodes > 1:
        beta = yield comparison_kernels.compare_root(keys, base, corrections, beta, sign, n, nodes, known)
    return beta


def _bit(keys: KeySet, piece: Piece, beta: torch.Tensor) -> MaskedBit:
    """The sign whose circuit came to beta."""
    base, corrections, other, _, c, _, nodes = piece
    n, known = c.shape[1], other is not None and other != base
    circuit = comparison_kernels.compare_sizes(n, nodes, known)[4]
    words = None if corrections is None else corrections[circuit : circuit + n]
    return MaskedBit(beta, keys.draw(base + RHO_SHARES, n, words), base + RHO)


def open_signs(party: Party, pieces: Sequence[Piece], groups: Sequence[Sequence[int]]) -> list[torch.Tensor]:
    """Of each group of pieces the exclusive or of the bits c - offset - r < 0, of an opened c, packed.  Three rounds.

    Pieces of whole words (nodes = 4), of one size.  Those with the same r may share the monomials of it; everything
    under which something is opened is of the piece's own base.  What comes back is under the rho of a group's first.

    1. The inputs of the nodes of every circuit.
    2. The inputs of their roots.
    3. The signs.  Those of a group are added first, and the rho of its first piece alone hides the sum.
    """
    keys = party.dealer.keys
    circuits = [_circuit(keys, piece) for piece in pieces]
    messages = [next(circuit) for circuit in circuits]
    # 1. and 2.
    for _ in range(2):
        opened = party.channel.open_xor(messages, "compare")
        messages = [circuit.send(values) for circuit, values in zip(circuits, opened, strict=True)]
    # 3. each sign is under its own rho: that of all but the first is taken away
    sums = []
    for first, *others in groups:
        message = messages[first]
        for j in others:
            base, c = pieces[j][0], pieces[j][4]
            message = message ^ messages[j] ^ keys.draw(base + RHO, z2k.packed_words(c.shape[1]))
        sums.append(message)
    return party.channel.open_xor(sums, "compare")


def sign_bits(party: Party, pieces: Sequence[Piece], groups: Sequence[Sequence[int]]) -> list[MaskedBit]:
    """As `open_signs`, with the shares that turn each into a number.  Three rounds."""
    betas = open_signs(party, pieces, groups)
    return [_bit(party.dealer.keys, pieces[first], beta) for (first, *_), beta in zip(groups, betas, strict=True)]


def circuit(
    party: Party, base: int, corrections: torch.Tensor | None, c: torch.Tensor, offset: int, nodes: int
) -> torch.Tensor:
    """The bits c - offset - r < 0 under those of stream base + RHO, packed.  Three rounds, two for one node."""
    rounds = _circuit(party.dealer.keys, (base, corrections, None, None, c, offset, nodes))
    message = next(rounds)
    try:
        while True:
            [opened] = party.channel.open_xor([message], "compare")
            message = rounds.send(opened)
    except StopIteration as done:
        beta: torch.Tensor = done.value
        return beta


def opened_signs(party: Party, base: int, corrections: torch.Tensor | None, c: torch.Tensor) -> torch.Tensor:
    """The bits c - r < 0 themselves, which all holders see: [n], [0] where none is.  Three rounds.

    For what may be known (pysmpc.mpc.derived.arranging).  The last message is that of `circuit` less the bits that
    would hide the sign, under a fresh sharing of zero: it says the sign alone.
    """
    n, keys = c.shape[1], party.dealer.keys
    words, zero = z2k.packed_words(n), party.dealer.streams()
    rounds = _circuit(keys, (base, corrections, None, None, c, 0, comparison_kernels.NODES))
    message = next(rounds)
    for _ in range(2):
        [opened] = party.channel.open_xor([message], "compare")
        message = rounds.send(opened)
    for each in (keys.draw(base + RHO, words), party.own.draw(zero, words), party.next.draw(zero, words)):
        message = message ^ each
    [signs] = party.channel.open_xor([message], "arrange")
    return z2k.unpack_bits(signs[0], n) if signs.shape[0] else z2k.empty(0)


def _sign_bit(
    party: Party, base: int, corrections: torch.Tensor | None, c: torch.Tensor, offset: int, nodes: int
) -> MaskedBit:
    """The bit c - offset - r < 0, from the opened c.  Rounds of the circuit."""
    beta = circuit(party, base, corrections, c, offset, nodes)
    return _bit(party.dealer.keys, (base, corrections, None, None, c, offset, nodes), beta)


@declares_openings("compare")
def negative(party: Party, x: Share, bits: int = 64) -> MaskedBit:
    """The bits x < 0, for any x in [-2^(bits - 1), 2^(bits - 1)).  Four rounds, three for up to 16 bits."""
    words, nodes = x.words(), nodes_of(bits)
    n = words.shape[1]
    base = party.dealer.streams(MATERIAL)
    corrections = party.dealer.corrections(
        comparison_kernels.compare_sizes(n, nodes)[4] + n, partial(deal, base, n, nodes)
    )
    [c] = party.channel.open([z2k.truncate_mask(party.dealer.keys, base, 0, words)], "compare", [x.shape])
    return _sign_bit(party, base, corrections, c, 0, nodes)


def _deal_products(bit: MaskedBit, stream: int, keys: KeySet, out: torch.Tensor) -> None:
    """Dealer: of the first half of dealt bits with the second."""
    assert bit.stream is not None
    n = out.numel()
    rho = z2k.unpack_bits(z2k.rows_xor(keys.draw(bit.stream, z2k.packed_words(2 * n)))[0], 2 * n)
    keys.take(stream, torch.mul(rho[:n], rho[n:], out=out))


def zero_by(negative: Negative | NarrowNegative) -> NarrowZero:
    """The test for zero by a protocol for signs."""

    @opens_as(negative)
    def zero(party: Party, x: Share, *options: int) -> Share:
        """The bits x = 0 as shares of 0 and 1, for every x; rounds of one batch of signs.

        1. The signs s of x and t of -x: both are set for -2^63, neither for 0.
        2. The dealer shares the products of the bits rho under which both are open.
        3. (1 - s) (1 - t), linear in those.
        """
        words = x.words()
        n = words.shape[1]
        # 1. signs
        sign = negative(party, Share.of(torch.cat([words, z2k.scale(words, -1)], 1), (2 * n,)), *options)
        # 2. products
        stream, keys = party.dealer.streams(), party.dealer.keys
        products = party.dealer.corrections(n, partial(_deal_products, sign, stream))
        # 3. neither
        signs = bit_share(party, sign, (2 * n,)).body.words
        out = keys.draw(stream, n, products)
        if party.rows:
            beta = z2k.unpack_bits(sign.beta[0].contiguous(), 2 * n)
            s, t = beta[:n], beta[n:]
            out *= (1 - 2 * s) * (1 - 2 * t)
            out += (t - 1) * signs[:, :n] + (s - 1) * signs[:, n:]
            if party.lead is not None:
                out[party.lead] += 1 - s * t
        return Share.of(out, x.shape)

    return zero


zero = zero_by(negative)


def bit_share(party: Party, bit: MaskedBit, shape: tuple[int, ...]) -> Share:
    """The bits as shares of 0 and 1.  No message."""
    words = comparison_kernels.bit_share(party.dealer.keys, bit.beta, bit.rho)
    out = Share.of(words, shape)
    if bit.flip:
        words.neg_()
        if party.lead is not None:
            words[party.lead] += 1
    out.body.bit = bit
    return out


@declares_openings("relu", "compare")
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
        comparison_kernels.compare_sizes(n, nodes)[4] + n, partial(deal, base, n, nodes)
    )
    [c] = party.channel.open([z2k.truncate_mask(party.dealer.keys, base, offset, words)], "relu", [x.shape])
    bit = _sign_bit(party, base, corrections, c, offset + 1, nodes).flipped()
    del corrections  # before as much again is dealt
    corrections = party.dealer.corrections(
        comparison_kernels.select_rows(by_) * n,
        lambda keys, out: comparison_kernels.select_deal(keys, base, base + RHO, by_, out),
    )
    out = comparison_kernels.select_finish(party.dealer.keys, base, by_, True, c, bit.beta, bit.rho, corrections)
    result = Share.of(out, x.shape, x.scale // by)
    result.body.sign = bit
    return result


@declares_openings("select")
def select(party: Party, bit: MaskedBit, x: Share, by: int = 1) -> Share:
    """bit * x / by, elementwise.  One round, in which x is opened under a mask."""
    assert bit.stream is not None, "the dealer does not know the mask of this bit"
    by_, stream = divisor(by) if by > 1 else None, bit.stream
    words = x.words()
    n = words.shape[1]
    base = party.dealer.streams(MATERIAL)
    corrections = party.dealer.corrections(
        comparison_kernels.select_rows(by_) * n,
        lambda keys, out: comparison_kernels.select_deal(keys, base, stream, by_, out),
    )
    message = z2k.truncate_mask(party.dealer.keys, base, by_.offset if by_ else 0, words)
    [c] = party.channel.open([message], "select", [x.shape])
    words = comparison_kernels.select_finish(party.dealer.keys, base, by_, bit.flip, c, bit.beta, bit.rho, corrections)
    out = Share.of(words, x.shape, x.scale // by)
    if by_ is not None and n <= KEPT:
        out.body.gate = Selected(Truncated(base, by_, c), bit.beta, stream, bit.flip)
    return out


def circuit_cost(holders: int, n: int, bits: int = 64) -> Cost:
    """Of the circuit for n elements, without their opening and shares of their bits."""
    nodes = nodes_of(bits)
    _, first, second, third, dealt = comparison_kernels.compare_sizes(n, nodes)
    rounds = opening(holders, first) + opening(holders, second) + Cost(dealt=8 * dealt)
    return rounds + opening(holders, third) if nodes > 1 else rounds


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
