"""Comparison by function secret sharing: one round, for two holders.

x is opened as c = x + r under a dealt mask r.  The dealer, who knows r, sends both
holders a key of the function c -> sign of c - r; each evaluates its own at c, and the
results are shares of the bit by exclusive or (Boyle, Gilboa, Ishai, TCC 2019, section 4;
AriaNN, PoPETs 2022).  The sign of x is c_63 ^ r_63 ^ [c < r on 63 bits], so a key of one
comparison on 63 bits is exact for every x.  Both keys are the same corrections under
seeds that the holders have in common with the dealer alone: src/c/fss_bits.inc.h, and
`pysmpc.fss` for other uses.

Everything that is not compared is the default's.  A bit is opened under a dealt bit
where it selects, beside the value, or where it becomes a number; it is then what a bit
of the default is.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch

from pysmpc.mpc.additive import comparison
from pysmpc.mpc.additive.truncation import MATERIAL, RHO, RHO_SHARES, divisor
from pysmpc.mpc.interfaces import Cost, Party, declares_openings, opening
from pysmpc.ring import comparison_kernels, fss_keys, z2k
from pysmpc.ring.prg import KeySet
from pysmpc.ring.shares import MaskedBit, Share, ShareStorage

SALT = 9  # streams of a key, from the base: its salt, then its seeds
PART = 2 * fss_keys.FSS_BITS_GRAIN  # elements of one key: what is dealt is used while it is in cache
SIGN = z2k.Function(63, 1, True)
ZERO = z2k.Function(64, 1, False)


class Hidden(MaskedBit):
    """Bits of which the holders have shares by exclusive or: packed, [rows, ceil(n / 64)].

    `opened`: the same bits (flip apart) under a dealt bit, once they were opened.
    """

    def __init__(self, own: torch.Tensor, n: int) -> None:
        super().__init__(own[:0], own[:0], None)
        self.own, self.n = own, n
        self.opened: list[MaskedBit] = []

    def flipped(self) -> Hidden:
        """not(bit), for nothing; opening the one opens the other."""
        out = Hidden(self.own, self.n)
        out.flip, out.opened = not self.flip, self.opened
        return out

    def under(self, base: int, keys: KeySet) -> torch.Tensor:
        """The message that opens the bits under the dealt bits rho."""
        out = keys.draw(base + RHO, self.own.shape[1])
        return out.bitwise_xor_(self.own)

    def known(self, beta: torch.Tensor, rho: torch.Tensor, base: int) -> MaskedBit:
        """What was opened, and shares of rho."""
        self.opened.append(MaskedBit(beta, rho, base + RHO))
        return self.bit

    @property
    def bit(self) -> MaskedBit:
        """The bits as the default has them, where they were opened."""
        [bit] = self.opened
        return bit.flipped() if self.flip else bit


class Truth(ShareStorage):
    """Bits as shares of 0 and 1, which are made when they are first read: one round.

    Where a selection reads the bits first, there is no such round.  Which it is follows
    from the program, so all processes agree.
    """

    __slots__ = ("_party", "_words")

    def __init__(self, party: Party, bit: Hidden) -> None:
        self._party = party
        self._words: torch.Tensor | None = None
        super().__init__(torch.empty((party.rows, bit.n), dtype=torch.int64, device="meta"))
        self._words, self.bit = None, bit

    @property
    def rows(self) -> int:
        """Hosted holders."""
        return self._party.rows

    @property
    def held(self) -> torch.Tensor:
        """The words, or before they are made the shares by exclusive or, an element a word."""
        if self._words is not None:
            return self._words
        assert isinstance(self.bit, Hidden)
        rows = [z2k.unpack_bits(row, self.n) for row in self.bit.own]
        return torch.stack(rows) if rows else z2k.empty(0, self.n)

    @property
    def words(self) -> torch.Tensor:
        """Shares of 0 and 1."""
        if self._words is None:
            assert isinstance(self.bit, Hidden)
            self._words = comparison.bit_share(self._party, _opened(self._party, self.bit), (self.n,)).body.words
        return self._words

    @words.setter
    def words(self, words: torch.Tensor) -> None:
        self._words = words


def _evaluate(party: Party, base: int, f: z2k.Function, c: torch.Tensor, shift: int) -> torch.Tensor:
    """Packed shares [rows, ceil(n / 64)] of f at c - shift, from keys of the mask of c.  No message."""
    n = c.shape[1]
    out = z2k.empty(party.rows, z2k.packed_words(n))
    for first in range(0, n, PART):
        last = min(first + PART, n)
        deal = partial(_deal_key, base, f, first, last)
        key = party.dealer.broadcast(fss_keys.fss_bits_words(f, last - first), deal)
        if key is not None:
            fss_keys.fss_bits_eval(party.dealer.keys, base + SALT, f, key, c, shift, first, last, out)
    return out


def _deal_key(base: int, f: z2k.Function, first: int, last: int, keys: KeySet, key: torch.Tensor) -> None:
    fss_keys.fss_bits_deal(keys, base, base + SALT, f, first, last, key)


def _sign(party: Party, base: int, c: torch.Tensor, shift: int) -> Hidden:
    """Whether c - shift - r is negative, from the opened c.  No message."""
    own = _evaluate(party, base, SIGN, c, shift)
    if party.lead is not None:
        own[party.lead] ^= z2k.pack_bits((c[0] - z2k.wrap(shift)) >> 63)
    return Hidden(own, c.shape[1])


@declares_openings("compare")
def negative(party: Party, x: Share) -> Hidden:
    """The bits x < 0, for any x in [-2^63, 2^63).  One round.

    1. Open c = x + r.
    2. Shares of u from the key; the bit is c_63 ^ u.
    """
    words = x.words()
    base = party.dealer.streams(MATERIAL)
    [c] = party.channel.open([z2k.truncate_mask(party.dealer.keys, base, 0, words)], "compare", [x.shape])
    return _sign(party, base, c, 0)


@declares_openings("compare")
def zero(party: Party, x: Share) -> Share:
    """The bits x = 0, for every x.  One round.

    1. Open c = x + r.
    2. Shares of [c = r] from the key of a point.
    """
    words = x.words()
    base = party.dealer.streams(MATERIAL)
    [c] = party.channel.open([z2k.truncate_mask(party.dealer.keys, base, 0, words)], "compare", [x.shape])
    return bit_share(party, Hidden(_evaluate(party, base, ZERO, c, 0), words.shape[1]), x.shape)


@declares_openings("compare")
def bit_share(party: Party, bit: MaskedBit, shape: tuple[int, ...]) -> Share:
    """The bits as shares of 0 and 1.  One round of a bit an element when they are read; none where they were opened."""
    if isinstance(bit, Hidden):
        if not bit.opened:
            body = Truth(party, bit)
            body.shape = shape
            return Share(body, shape)
        bit = bit.bit
    return comparison.bit_share(party, bit, shape)


def _opened(party: Party, bit: Hidden) -> MaskedBit:
    """The bits as the default has them.  One round where they were not opened."""
    if not bit.opened:
        base, n, keys = party.dealer.streams(MATERIAL), bit.n, party.dealer.keys
        corrections = party.dealer.corrections(n, partial(_deal_rho, base))
        [beta] = party.channel.open_xor([bit.under(base, keys)], "compare")
        return bit.known(beta, keys.draw(base + RHO_SHARES, n, corrections), base)
    return bit.bit


def _deal_rho(base: int, keys: KeySet, out: torch.Tensor) -> None:
    comparison_kernels.bit_deal(keys, base + RHO, base + RHO_SHARES, out)


Deal = Callable[[KeySet, torch.Tensor], None]


def _selection(base: int, n: int, by: z2k.Divisor | None) -> tuple[int, Deal]:
    """Words that the dealer sends for a selection by bits under a fresh rho, and how it finds them."""

    def deal(keys: KeySet, out: torch.Tensor) -> None:
        comparison_kernels.bit_deal(keys, base + RHO, base + RHO_SHARES, out[:n])
        comparison_kernels.select_deal(keys, base, base + RHO, by, out[n:])

    return n * (1 + comparison_kernels.select_rows(by)), deal


def _selected(
    party: Party, base: int, by: z2k.Divisor | None, dealt: torch.Tensor | None, c: torch.Tensor, beta: torch.Tensor,
    bit: Hidden,
) -> torch.Tensor:  # fmt: skip
    """bit times the (truncated) value that was opened as c, from what `_selection` dealt; notes the opened bit."""
    keys, n = party.dealer.keys, bit.n
    own, rest = (None, None) if dealt is None else (dealt[:n], dealt[n:])
    found = bit.known(beta, keys.draw(base + RHO_SHARES, n, own), base)
    return comparison_kernels.select_finish(keys, base, by, found.flip, c, beta, found.rho, rest)


@declares_openings("relu", "compare")
def relu(party: Party, x: Share, by: int = 1) -> Share:
    """max(x, 0) / by, with the bits x > 0 left on the result's body.  Two rounds.

    Takes any x above -2^63; with a truncation, what that takes.

    1. Open c = x + offset + r.
    2. Shares of the sign of x - 1 from the key: x > 0, so that the slope at 0 is 0.
    3. Open it under rho.
    4. Select: linear in what the dealer shared of rho, r and their products.
    """
    by_ = divisor(by) if by > 1 else None
    offset = by_.offset if by_ else 0
    words, keys = x.words(), party.dealer.keys
    base = party.dealer.streams(MATERIAL)
    dealt = party.dealer.corrections(*_selection(base, words.shape[1], by_))
    # 1. open
    [c] = party.channel.open([z2k.truncate_mask(keys, base, offset, words)], "relu", [x.shape])
    # 2. evaluate
    bit = _sign(party, base, c, offset + 1).flipped()
    # 3. open the bit
    [beta] = party.channel.open_xor([bit.under(base, keys)], "compare")
    # 4. select
    result = Share.of(_selected(party, base, by_, dealt, c, beta, bit), x.shape, x.scale // by)
    result.body.sign = bit.bit
    return result


@declares_openings("select")
def select(party: Party, bit: MaskedBit, x: Share, by: int = 1) -> Share:
    """bit * x / by, elementwise.  One round, in which x, and the bit where it was not, are opened under masks.

    1. Open c = x + offset + r and beta = bit ^ rho.
    2. As the default, linear in what the dealer shared of rho, r and their products.
    """
    if isinstance(bit, Hidden) and bit.opened:
        bit = bit.bit
    if not isinstance(bit, Hidden):
        return comparison.select(party, bit, x, by)
    by_ = divisor(by) if by > 1 else None
    words, keys = x.words(), party.dealer.keys
    base = party.dealer.streams(MATERIAL)
    dealt = party.dealer.corrections(*_selection(base, words.shape[1], by_))
    # 1. open
    masked = z2k.truncate_mask(keys, base, by_.offset if by_ else 0, words)
    [c], [beta] = party.channel.open_both([masked], [bit.under(base, keys)], "select", [x.shape])
    # 2. combine
    return Share.of(_selected(party, base, by_, dealt, c, beta, bit), x.shape, x.scale // by)


def _key_cost(f: z2k.Function, n: int) -> Cost:
    """The same keys to both holders."""
    sizes = (min(PART, n - first) for first in range(0, n, PART))
    return Cost(dealt=2 * 8 * sum(fss_keys.fss_bits_words(f, size) for size in sizes))


def negative_cost(holders: int, n: int) -> Cost:
    """Signs of n elements: 8 bytes an element and peer; 912 and a bit from the dealer to each holder."""
    return opening(holders, n) + _key_cost(SIGN, n)


def zero_cost(holders: int, n: int) -> Cost:
    """Tests of n elements: 8 bytes an element and peer; 928 and a bit from the dealer to each holder."""
    return opening(holders, n) + _key_cost(ZERO, n)


def bit_share_cost(holders: int, n: int) -> Cost:
    """n bits that were not opened: a bit an element and peer, 8 bytes from the dealer."""
    return opening(holders, z2k.packed_words(n)) + Cost(dealt=8 * n)


def relu_cost(holders: int, n: int, truncated: bool) -> Cost:
    """As a sign; a round of a bit an element and peer, and 16 or (with truncation) 40 bytes more from the dealer."""
    return negative_cost(holders, n) + opening(holders, z2k.packed_words(n)) + Cost(dealt=(40 if truncated else 16) * n)


def select_cost(holders: int, n: int, truncated: bool, opened: bool = False) -> Cost:
    """8 bytes an element and peer; of bits that were not opened, a bit more, and 8 bytes more from the dealer."""
    if opened:
        return comparison.select_cost(holders, n, truncated)
    return opening(holders, n + z2k.packed_words(n)) + Cost(dealt=(40 if truncated else 16) * n)
