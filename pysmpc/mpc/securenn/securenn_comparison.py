"""SecureNN: comparison by a third party (Wagh, Gupta, Chandran, PoPETs 2019).

P0 and P1 are the two holders, P2 is the crypto provider, which takes part: it is asked,
and answers with fresh shares.  What it is shown is uniform but for a bit that is itself
under a uniform bit (`private_compare`).  Bits are shared over Z_67; comparisons of
uniform numbers in the odd ring Z_(2^64 - 1), where the highest bit of a is the lowest
of 2 a, give the sign.  Works for every 64-bit value.

Where this differs from the paper:
* P2 deals in seeds: one holder's share of what it sends is a stream.
* ComputeMSB returns msb(a) = beta' ^ x[0] ^ beta ^ r[0], of which P2 knows beta' ^ x[0]
  and both holders beta ^ r[0].  P2 opens its part under a dealt bit to both, as in
  `pysmpc.mpc.additive.comparison`: steps 7 to 10 of algorithm 5, with their product, and
  two rounds of algorithm 7 are not needed.
* Places are permuted by i -> i ^ rho for a uniform rho of 6 bits: of the 64 numbers one
  at most is zero, and all others are multiplied by uniform units, so that all P2 can
  learn from the order is where the zero is; it is anywhere with the same probability.
* Both messages to P2 are hidden by symbols that cancel (the paper's "shares of zero"):
  it dealt the shares of x, and the quotient of the two would tell it the bits of r.
* The paper keeps values in a part of the ring, since 2^64 - 1 is 0 in the odd ring.
  Here the two neighbours that become one are chosen on the same side of the answer
  (`NEGATIVE`, `POSITIVE`), and r - 1 and r + 1 are carried in 65 bits.

MatMul (algorithm 1) is the Beaver product of `pysmpc.mpc.additive.products`: P2
deals the triple, and one mask a value saves what was opened before.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from pysmpc.errors import PartyError
from pysmpc.mpc.additive.comparison import zero_by
from pysmpc.mpc.additive.products import mul
from pysmpc.mpc.additive.sharing import add, sub
from pysmpc.mpc.additive.truncation import MATERIAL, RHO, RHO_SHARES, divisor
from pysmpc.mpc.interfaces import Cost, Party, asking, declares_openings, opening
from pysmpc.ring import comparison_kernels, odd_ring, z2k
from pysmpc.ring.prg import KeySet
from pysmpc.ring.shares import MaskedBit, Share

HOLDERS = 2

# Streams from the base of a piece of material, under the keys with P2 and under the pair's.
OWN_BITS, OWN_CARRY, OWN_X = 0, 1, 3  # the answer to a comparison follows that of the carry
PAIR_MASKS, PAIR_CONTROL = 0, 2  # two masks; control, factors and hiding symbols
STREAMS = 8

#: (before, after): what to add to a before it is converted and after, so that msb is a < 0 or a > 0.
#: 2^64 - 1 and 0 become one in the odd ring: these are -2 and -1, or -2^63 and 1 - 2^63.
NEGATIVE = (1, -1)
POSITIVE = ((1 << 63) - 1, 0)


@dataclass(eq=False, repr=False)
class Odd:
    """Shares in Z_(2^64 - 1): words [rows, n] from 0 to 2^64 - 2."""

    words: torch.Tensor
    shape: tuple[int, ...]


@dataclass(eq=False, repr=False)
class BitShares:
    """Shares over Z_67 of all bits of numbers from 0 to 2^64 - 1.

    The first holder's is a stream under `keys`; share: the last one's, where it is hosted.
    """

    keys: KeySet
    stream: int
    share: torch.Tensor | None
    shape: tuple[int, ...]


def pair_of(party: Party) -> KeySet:
    """The key that P0 and P1 have in common, and P2 has not, once for each hosted holder."""
    if party.holders != HOLDERS:
        raise PartyError(
            f"SecureNN is for two holders and the provider, not for {party.holders} holders; "
            "the default protocol takes any number"
        )
    return odd_ring.pair_keys(party.own, party.next, party.ranks)


def share_bits(party: Party, values: torch.Tensor | None, shape: Sequence[int]) -> BitShares:
    """Bits over Z_67 of numbers that the owner knows (None elsewhere); 7 bytes a bit and 64 numbers."""
    n = torch.Size(shape).numel()

    def deal(keys: KeySet, out: torch.Tensor) -> None:
        if values is None:
            raise ValueError("the owner of an input must pass its values")
        odd_ring.deal_bits(keys, stream, values.reshape(-1).contiguous(), out)

    stream = party.owner.streams()
    share = party.owner.corrections(odd_ring.symbol_words(n), deal)
    return BitShares(party.owner.keys, stream, share, tuple(shape))


def private_compare(party: Party, x: BitShares, r: torch.Tensor) -> MaskedBit:
    """x > r for public r, both read as 0 to 2^64 - 1 (algorithm 3).  Two rounds.

    1. P0 and P1 draw a bit beta, a place rho, and for each bit a unit s_i and a hiding u_i.
    2. beta = 0: c_i = r_i - x_i + 1 + sum_{k > i} (x_k ^ r_k) is zero, at one i, iff x > r.
       beta = 1: the same for x < r + 1; r = 2^64 - 1 is put in by hand.
    3. P2 gets shares of s_i c_i, hidden by u_i and permuted; beta' = (there is a zero).
    4. P2 sends beta' under a dealt bit to both.
    """
    n = r.numel()
    pair = pair_of(party)
    base, own = party.dealer.streams(MATERIAL), party.dealer.streams(STREAMS)
    known: list[torch.Tensor] = []

    def deal(keys: KeySet, out: torch.Tensor) -> None:
        known.append(rho_bits(keys, base, n))
        comparison_kernels.bit_deal(keys, base + RHO, base + RHO_SHARES, out)

    shares = party.dealer.corrections(n, deal)
    copies = r.reshape(1, -1).expand(party.rows, n).contiguous()
    message = odd_ring.compare(x.keys, x.stream, pair, own + PAIR_CONTROL, x.share, copies, False)
    return answered(party, message, known, pair, base, own, n, shares, None)


def rho_bits(keys: KeySet, base: int, n: int) -> torch.Tensor:
    """P2: the packed dealt bits."""
    return z2k.rows_xor(keys.draw(base + RHO, z2k.packed_words(n)))[0]


def answered(
    party: Party,
    message: torch.Tensor,
    known: list[torch.Tensor],
    pair: KeySet,
    base: int,
    own: int,
    n: int,
    shares: torch.Tensor | None,
    r: torch.Tensor | None,
) -> MaskedBit:
    """P2 finds beta' and opens it, under the packed bits that it keeps in `known`; less beta and r[0]."""

    def answer(keys: KeySet, asked: torch.Tensor, out: torch.Tensor) -> None:
        torch.bitwise_xor(odd_ring.found(asked, n), known.pop(), out=out)

    packed = party.dealer.ask(message, "compare", z2k.packed_words(n), answer, public=True)
    beta = odd_ring.control_bits(pair, own + PAIR_CONTROL, n)[:1]
    if packed is not None:
        beta = beta ^ packed
    if r is not None and party.rows:
        beta = beta ^ z2k.pack_bits(r[0])
    return MaskedBit(beta, party.dealer.keys.draw(base + RHO_SHARES, n, shares), base + RHO)


def share_convert(party: Party, a: Share, shift: tuple[int, int] = (0, 0)) -> Odd:
    """(a + shift[0] mod 2^64) + shift[1] in Z_(2^64 - 1) (algorithm 4).  Four rounds.

    1. P0 and P1 draw r_0 and r_1, r = r_0 + r_1, and send a_j + r_j to P2.
    2. P2 has x = a + r and the carry delta; it shares the bits of x, and delta.
    3. Both compare x > r - 1 under a bit eta''; P2 finds eta' and shares it.
    4. a_0 + a_1 wrapped theta = beta_0 + beta_1 - alpha - 1 + delta + eta times, with the
       carries beta_j of a_j + r_j and alpha of r_0 + r_1; a_j - theta_j is the share.

    2^64 - 1 is 0 in the odd ring.
    """
    keys, pair, words = party.dealer.keys, pair_of(party), a.words()
    n = words.shape[1]
    symbols = odd_ring.symbol_words(n)
    base = party.dealer.streams(STREAMS)
    # 1. under masks of their own
    first, second = pair.draw(base + PAIR_MASKS, n), pair.draw(base + PAIR_MASKS + 1, n)
    message = torch.empty_like(words)
    for row, rank in enumerate(party.ranks):
        torch.add(words[row], second[row] if rank else first[row] + z2k.wrap(shift[0]), out=message[row])
    r = z2k.add(first, second)

    # 2. P2: bits of the sum, and its carry
    def convert(everyone: KeySet, asked: torch.Tensor, out: torch.Tensor) -> None:
        x = odd_ring.carry_sum(everyone, base + OWN_CARRY, asked, out[symbols:])
        odd_ring.deal_bits(everyone, base + OWN_BITS, x, out[:symbols])

    sent = party.dealer.ask(message, "convert", symbols + n, convert)
    bits, delta = (None, None) if sent is None else (sent[:symbols], sent[symbols:])
    # 3. x > r - 1
    message = odd_ring.compare(keys, base + OWN_BITS, pair, base + PAIR_CONTROL, bits, r, True)

    def answer(everyone: KeySet, asked: torch.Tensor, out: torch.Tensor) -> None:
        odd_ring.answer_bits(everyone, base + OWN_CARRY + 1, odd_ring.found(asked, n), out)

    eta = party.dealer.ask(message, "compare", n, answer)
    # 4. without what wrapped
    return Odd(odd_ring.finish(keys, base + OWN_CARRY, pair, base, shift, words, delta, eta), a.shape)


@dataclass(eq=False, repr=False)
class Material:
    """What P2 deals ahead for one ComputeMSB: bits of x, a dealt bit rho, and more for a selection.

    known: x[0] ^ rho, at P2.
    """

    base: int
    own: int
    bits: torch.Tensor | None
    shares: torch.Tensor | None
    more: torch.Tensor | None
    known: list[torch.Tensor]


def _deal(party: Party, n: int, select: bool = False, by: z2k.Divisor | None = None) -> Material:
    base, own = party.dealer.streams(MATERIAL), party.dealer.streams(STREAMS)
    symbols, more = odd_ring.symbol_words(n), comparison_kernels.select_rows(by) * n if select else 0
    known: list[torch.Tensor] = []

    def deal(keys: KeySet, out: torch.Tensor) -> None:
        x = odd_ring.total(keys, own + OWN_X, n)
        odd_ring.deal_bits(keys, own + OWN_BITS, x, out[:symbols])
        known.append(z2k.pack_bits(x) ^ rho_bits(keys, base, n))
        comparison_kernels.bit_deal(keys, base + RHO, base + RHO_SHARES, out[symbols : symbols + n])
        if select:
            comparison_kernels.select_deal(keys, base, base + RHO, by, out[symbols + n :])

    dealt = party.dealer.corrections(symbols + n + more, deal)
    bits, shares, rest = (None, None, None) if dealt is None else dealt.split([symbols, n, more])
    return Material(base, own, bits, shares, rest, known)


def _msb(
    party: Party, y: Odd, material: Material, beside: list[torch.Tensor], cause: str
) -> tuple[MaskedBit, torch.Tensor]:
    """The bit, and the openings of messages that go in the same round as r."""
    keys, pair, own = party.dealer.keys, pair_of(party), material.own
    n = y.words.shape[1]
    # 1. x is a sum of streams; r = 2 y + x
    message = odd_ring.double(keys, own + OWN_X, y.words)
    [total, *others] = party.channel.open([message, *beside], cause)
    r = odd_ring.opened(total, message)
    # 2. x > r, at P2 under beta
    message = odd_ring.compare(keys, own + OWN_BITS, pair, own + PAIR_CONTROL, material.bits, r, False)
    # 3. msb = beta' ^ x[0] ^ beta ^ r[0]
    bit = answered(party, message, material.known, pair, material.base, own, n, material.shares, r)
    return bit, others[0] if others else total


@declares_openings("compare", asks=("compare",))
def compute_msb(party: Party, y: Odd) -> MaskedBit:
    """The highest bit of y, which is the lowest of 2 y mod 2^64 - 1 (algorithm 5).  Three rounds.

    1. With x uniform, its bits shared by P2: open r = 2 y + x in the odd ring.
    2. 2 y = r - x, plus the odd modulus where x > r: lowest bit r[0] ^ x[0] ^ [x > r].
    3. Compare under beta; P2 opens beta' ^ x[0] under a dealt bit.
    """
    return _msb(party, y, _deal(party, y.words.shape[1]), [], "compare")[0]


@declares_openings("compare", asks=("convert", "compare"))
def negative(party: Party, x: Share) -> MaskedBit:
    """The bits x < 0, for every x (1 less algorithm 6).  Seven rounds: ShareConvert, ComputeMSB.

    `pysmpc.mpc.securenn.securenn_signs` needs three.
    """
    material = _deal(party, x.numel)
    return _msb(party, share_convert(party, x, NEGATIVE), material, [], "compare")[0]


zero = zero_by(negative)


@declares_openings("relu", asks=("convert", "compare"))
def relu(party: Party, x: Share, by: int = 1) -> Share:
    """max(x, 0) / by, with the bits x > 0 left on the result's body (algorithm 7).  Seven rounds.

    Takes every x; with a truncation, what that takes.

    1. ShareConvert, such that the highest bit is x > 0.
    2. ComputeMSB; c = x + offset + r is opened with its r.
    3. SelectShare: linear in c and in what P2 shared of the dealt bit, of the mask and
       of their products.
    """
    by_ = divisor(by) if by > 1 else None
    words, keys = x.words(), party.dealer.keys
    material = _deal(party, words.shape[1], True, by_)
    y = share_convert(party, x, POSITIVE)
    message = z2k.truncate_mask(keys, material.base, by_.offset if by_ else 0, words)
    bit, c = _msb(party, y, material, [message], "relu")
    out = comparison_kernels.select_finish(keys, material.base, by_, False, c, bit.beta, bit.rho, material.more)
    result = Share.of(out, x.shape, x.scale // by)
    result.body.sign = bit
    return result


@declares_openings("reveal")
def reveal_odd(party: Party, y: Odd) -> torch.Tensor:
    """The elements [1 or 0, n] behind y, to every hosting process.  One round."""
    [total] = party.channel.open([y.words], "reveal", [y.shape])
    return odd_ring.opened(total, y.words)[:1]


@declares_openings("mask")
def select_share(party: Party, bit: Share, x: Share, y: Share) -> Share:
    """x where the shared bit is 0, y where it is 1 (algorithm 2).  One round."""
    return add(party, x, mul(party, bit, sub(party, y, x)).at(x.scale))


def private_compare_cost(holders: int, n: int) -> Cost:
    """Dealt ahead: 8 bytes an element; then 7 bytes a bit and 64 elements from each holder to P2."""
    words = z2k.packed_words(n)
    return Cost(dealt=8 * n) + asking(holders, odd_ring.symbol_words(n), words, True)


def share_convert_cost(holders: int, n: int) -> Cost:
    """Each holder sends P2 64 bytes an element, which sends one of them 72."""
    symbols = odd_ring.symbol_words(n)
    return asking(holders, n, symbols + n) + asking(holders, symbols, n)


def compute_msb_cost(holders: int, n: int) -> Cost:
    """8 bytes an element between the holders, 56 to P2, 64 dealt ahead, a bit back."""
    symbols = odd_ring.symbol_words(n)
    answer = asking(holders, symbols, z2k.packed_words(n), True)
    return Cost(dealt=8 * (symbols + n)) + opening(holders, n) + answer


def negative_cost(holders: int, n: int) -> Cost:
    """Signs of n elements."""
    return share_convert_cost(holders, n) + compute_msb_cost(holders, n)


def relu_cost(holders: int, n: int, truncated: bool) -> Cost:
    """As a sign, and 8 bytes more an element between the holders, 8 or (with truncation) 32 from P2."""
    return negative_cost(holders, n) + Cost(sent=8 * n * (holders - 1), dealt=(32 if truncated else 8) * n)


def select_share_cost(holders: int, n: int) -> Cost:
    """A product of n bits, not opened before, with as many differences."""
    return opening(holders, 2 * n) + Cost(dealt=8 * n)
