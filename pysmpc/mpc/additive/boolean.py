"""Bits: logic on shared truth values, and on the 64 bits of shared integers.

Binary shares are words [rows, n] whose exclusive or over the holders is the value, 64
truth values or the 64 bits of one integer to a word; `^` and shifts of them are local,
`&` is Beaver's product over Z_2.  They are made from arithmetic shares

    of 0 and 1     by taking the lowest bits: the sum's parity is the exclusive or;
    of integers    by `decompose`: a masked opening and a borrow-lookahead circuit,

and turned back under dealt bits rho, whose arithmetic shares are dealt too: an opened
v = b ^ rho gives b = v + (1 - 2 v) rho, which is linear.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from pysmpc.mpc.interfaces import Cost, Party, declares_openings, opening
from pysmpc.ring import comparison_kernels, z2k
from pysmpc.ring.prg import KeySet
from pysmpc.ring.shares import MaskedBit, Share

STEPS = (1, 2, 4, 8, 16, 32)  # distances over which borrows are looked ahead


def _drawn(party: Party, stream: int, n: int, corrections: torch.Tensor | None) -> torch.Tensor:
    """Binary shares [rows, n] of dealt words."""
    words = party.dealer.keys.draw(stream, n)
    if corrections is not None:
        words[-1] ^= corrections  # the receiver of corrections is the last holder
    return words


def _total(keys: KeySet, stream: int, n: int) -> torch.Tensor:
    """Dealer: the words [n] that a stream shares."""
    return z2k.rows_xor(keys.draw(stream, n))[0]


def _deal(keys: KeySet, stream: int, values: torch.Tensor, out: torch.Tensor) -> None:
    """Dealer: what corrects the shares of a stream to those of `values`."""
    out.copy_(values ^ _total(keys, stream, values.numel()))


def _packed(x: Share) -> torch.Tensor:
    """Binary shares [rows, ceil(n / 64)] of truth values.  No message."""
    words = x.words()
    packed = [z2k.pack_bits(row) for row in words]
    return torch.stack(packed) if packed else z2k.empty(0, z2k.packed_words(words.shape[1]))


def _unpacked(packed: torch.Tensor, n: int) -> torch.Tensor:
    """Public bits [1 or 0, words] as 0 and 1, [1 or 0, n]."""
    return z2k.unpack_bits(packed[0], n).reshape(1, n) if packed.shape[0] else z2k.empty(0, n)


def _at_lead(party: Party, shares: torch.Tensor, public: torch.Tensor) -> torch.Tensor:
    """shares, to which the leading holder has added a public [1, n]."""
    if party.lead is not None:
        shares[party.lead] += public[0]
    return shares


@declares_openings("bits")
def logical_xor(party: Party, x: Share, y: Share) -> Share:
    """x ^ y of shared 0 and 1 of one shape.  One round, one bit an element.

    1. The lowest bits are binary shares; their exclusive or is local.
    2. Open it under a dealt bit rho, which makes it a `MaskedBit`.
    """
    n = x.numel
    stream = party.dealer.streams(2)
    corrections = party.dealer.corrections(
        n, lambda keys, out: comparison_kernels.bit_deal(keys, stream, stream + 1, out)
    )
    mask = party.dealer.keys.draw(stream, z2k.packed_words(n))
    [beta] = party.channel.open_xor([_packed(x) ^ _packed(y) ^ mask], "bits")
    bit = MaskedBit(beta, party.dealer.keys.draw(stream + 1, n, corrections), stream)
    out = Share.of(comparison_kernels.bit_share(party.dealer.keys, beta, bit.rho), x.shape)
    out.body.bit = bit
    return out


def logical_xor_cost(holders: int, n: int) -> Cost:
    """A bit an element to each peer, 8 bytes from the dealer."""
    return opening(holders, z2k.packed_words(n)) + Cost(dealt=8 * n)


@declares_openings("bits")
def logical_and(party: Party, x: Share, y: Share) -> Share:
    """x & y of shared 0 and 1 of one shape.  One round, two bits an element.

    1. Open d = x ^ a and e = y ^ b; the dealer shares the bits a, b and a b as integers.
    2. (d + (1 - 2d) a) (e + (1 - 2e) b) is linear in those.
    """
    n = x.numel
    words = z2k.packed_words(n)
    keys = party.dealer.keys
    masks = party.dealer.streams(5)

    def deal(keys: KeySet, out: torch.Tensor) -> None:
        a, b = (z2k.unpack_bits(_total(keys, masks + i, words), n) for i in range(2))
        for i, bits in enumerate((a, b, a & b)):
            out[i * n : (i + 1) * n] = keys.take(masks + 2 + i, bits)

    corrections = party.dealer.corrections(3 * n, deal)
    # 1. open
    messages = [_packed(x) ^ keys.draw(masks, words), _packed(y) ^ keys.draw(masks + 1, words)]
    d, e = (_unpacked(opened, n) for opened in party.channel.open_xor(messages, "bits"))
    # 2. combine
    a, b, ab = (
        keys.draw(masks + 2 + i, n, None if corrections is None else corrections[i * n : (i + 1) * n]) for i in range(3)
    )
    u, v = 1 - 2 * d, 1 - 2 * e
    return Share.of(_at_lead(party, e * u * a + d * v * b + u * v * ab, d * e), x.shape)


def logical_and_cost(holders: int, n: int) -> Cost:
    """Two bits an element to each peer, 24 bytes from the dealer."""
    return opening(holders, 2 * z2k.packed_words(n)) + Cost(dealt=24 * n)


# --- the bits of integers -------------------------------------------------------------


@declares_openings("bits")
def decompose(party: Party, *secrets: Share) -> list[torch.Tensor]:
    """Binary shares [rows, numel] of each, a word an element.  Seven rounds for all.

    1. Open c = x + r; the dealer shares the bits of r.
    2. x = c - r bit by bit: a position makes a borrow where g = not c and r, hands one on
       where p = not (c ^ r).  Six times, positions learn of those 1, 2, 4 .. 32 below:
       g ^= p & (g << k), p &= p << k.  p and g are opened once a step, under masks a and
       b, which serve both products: the dealer shares a & (b << k) and a & (a << k).
    3. x = c ^ r ^ (g << 1).
    """
    wanted = [x for x in secrets if x.body.binary is None]
    if not wanted:
        return [_known(x) for x in secrets]
    words = torch.cat([x.words() for x in wanted], 1)
    n = words.shape[1]
    keys = party.dealer.keys
    # 1. open
    base = party.dealer.streams(2)
    dealt = party.dealer.corrections(n, lambda keys, out: _deal(keys, base + 1, keys.total(base, n), out))
    [c] = party.channel.open([z2k.add(words, keys.draw(base, n))], "bits", [(n,)])
    r = _drawn(party, base + 1, n, dealt)
    # 2. borrows
    g, p = ~c & r, r.clone()
    if party.lead is not None:
        p[party.lead] ^= ~c[0]
    for step in STEPS:
        g, p = _lookahead(party, g, p, step)
    # 3. the difference
    out = r ^ (g << 1)
    if party.lead is not None:
        out[party.lead] ^= c[0]
    parts = iter(out.split([x.numel for x in wanted], 1))
    found = [_known(x) if x.body.binary is not None else next(parts).contiguous() for x in secrets]
    for x, binary in zip(secrets, found, strict=True):
        if x.dense:
            x.body.binary = binary
    return found


def _known(x: Share) -> torch.Tensor:
    assert x.body.binary is not None
    return x.gather(x.body.binary)


def _lookahead(party: Party, g: torch.Tensor, p: torch.Tensor, step: int) -> tuple[torch.Tensor, torch.Tensor]:
    """(g ^ p & (g << step), p & (p << step)); the second is not needed after the last step."""
    n = g.shape[1]
    products = 1 if step == STEPS[-1] else 2
    base = party.dealer.streams(4)
    keys = party.dealer.keys

    def deal(keys: KeySet, out: torch.Tensor) -> None:
        a = _total(keys, base, n)
        for i, other in enumerate((_total(keys, base + 1, n), a)[:products]):
            _deal(keys, base + 2 + i, a & (other << step), out[i * n : (i + 1) * n])

    dealt = party.dealer.corrections(products * n, deal)
    a, b = keys.draw(base, n), keys.draw(base + 1, n)
    d, e = party.channel.open_xor([p ^ a, g ^ b], "bits")
    out = []
    for i, (opened, mask) in enumerate(((e, b), (d, a))[:products]):
        z = _drawn(party, base + 2 + i, n, None if dealt is None else dealt[i * n : (i + 1) * n])
        z ^= (d & (mask << step)) ^ (a & (opened << step))
        if party.lead is not None:
            z[party.lead] ^= (d & (opened << step))[0]
        out.append(z)
    return g ^ out[0], out[-1]


def decompose_cost(holders: int, n: int) -> Cost:
    """104 bytes an element to each peer, 96 from the dealer."""
    cost = opening(holders, n) + opening(holders, 2 * n) * len(STEPS)
    return cost + Cost(dealt=8 * n * (2 * len(STEPS)))


@declares_openings("bits")
def recompose(party: Party, binary: torch.Tensor, bits: Sequence[int] = range(64)) -> torch.Tensor:
    """Arithmetic shares [rows, n] of the integers with these bits.  One round.

    1. Open v = x ^ rho.
    2. The sum of 2^i (v_i + (1 - 2 v_i) rho_i) over the bits; others are taken for zero.
    """
    n = binary.shape[1]
    keys = party.dealer.keys
    base = party.dealer.streams(65)

    def deal(keys: KeySet, out: torch.Tensor) -> None:
        rho = _total(keys, base, n)
        for row, i in enumerate(bits):
            out[row * n : (row + 1) * n] = keys.take(base + 1 + i, (rho >> i) & 1)

    dealt = party.dealer.corrections(len(bits) * n, deal)
    # 1. open
    [v] = party.channel.open_xor([binary ^ keys.draw(base, n)], "bits")
    # 2. combine
    out = torch.zeros_like(binary)
    kept = 0
    for row, i in enumerate(bits):
        rho = keys.draw(base + 1 + i, n, None if dealt is None else dealt[row * n : (row + 1) * n])
        out += (rho * (1 - 2 * ((v >> i) & 1))) << i
        kept |= 1 << i
    return _at_lead(party, out, v & z2k.wrap(kept))


def recompose_cost(holders: int, n: int, bits: int = 64) -> Cost:
    """8 bytes an element to each peer, 8 for each of its bits from the dealer."""
    return opening(holders, n) + Cost(dealt=8 * bits * n)


def _integers(party: Party, binary: torch.Tensor, shape: tuple[int, ...], bits: Sequence[int] = range(64)) -> Share:
    out = Share.of(recompose(party, binary, bits), shape)
    out.body.binary = binary
    return out


@declares_openings("bits")
def bitwise_and(party: Party, x: Share, y: Share) -> Share:
    """x & y of integers of one shape.  Nine rounds; two where both were decomposed before.

    1. Decompose both.
    2. Open d = x ^ a and e = y ^ b: d & e ^ d & b ^ e & a ^ (a & b), which the dealer shares.
    3. Recompose.
    """
    # 1. bits
    one, two = decompose(party, x, y)
    # 2. product over Z_2
    n = x.numel
    keys = party.dealer.keys
    base = party.dealer.streams(3)
    dealt = party.dealer.corrections(
        n, lambda keys, out: _deal(keys, base + 2, _total(keys, base, n) & _total(keys, base + 1, n), out)
    )
    a, b = keys.draw(base, n), keys.draw(base + 1, n)
    d, e = party.channel.open_xor([one ^ a, two ^ b], "bits")
    z = _drawn(party, base + 2, n, dealt) ^ (d & b) ^ (e & a)
    if party.lead is not None:
        z[party.lead] ^= (d & e)[0]
    # 3. back
    return _integers(party, z, x.shape)


def bitwise_and_cost(holders: int, n: int) -> Cost:
    """Of two integers that were not decomposed before."""
    return decompose_cost(holders, 2 * n) + opening(holders, 2 * n) + Cost(dealt=8 * n) + recompose_cost(holders, n)


@declares_openings("bits")
def bitwise_and_public(party: Party, x: Share, mask: torch.Tensor) -> Share:
    """x & mask for public integers, of x's shape or a single one.  Eight rounds; one where x was decomposed before."""
    [binary] = decompose(party, x)
    flat = mask.reshape(1, -1)
    bits = [i for i in range(64) if flat.shape[1] != 1 or (int(flat) >> i) & 1]
    return _integers(party, binary & flat, x.shape, bits)


def bitwise_and_public_cost(holders: int, n: int, bits: int = 64) -> Cost:
    """Of integers that were not decomposed before, by a mask of so many bits."""
    return decompose_cost(holders, n) + recompose_cost(holders, n, bits)


@declares_openings("bits")
def shift_right_each(party: Party, x: Share, bits: torch.Tensor) -> Share:
    """x >> bits, elementwise by public numbers in 0 .. 63; the sign is kept.  As `bitwise_and_public`."""
    [binary] = decompose(party, x)
    return _integers(party, binary >> bits.reshape(1, -1), x.shape)
