"""Where a value lies: below, in, or above an interval of public ends, from one opening of it.

Outside of the interval on which it is approximated a function is its asymptote.  The bits x < lo and
x < hi come from the opening c = x + r that serves the function itself, three rounds after it; both
comparisons use the same dealt products of bits of r.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Protocol

import torch

from pysmpc.mpc.additive import comparison
from pysmpc.mpc.additive.truncation import MATERIAL
from pysmpc.mpc.functions.masked import Masked, mask_open
from pysmpc.mpc.functions.reached import reached
from pysmpc.mpc.interfaces import Cost, Party, declares_openings, opening, opens_as
from pysmpc.mpc.signatures import Binary, BitShare, Negative, Public
from pysmpc.ring import comparison_kernels, z2k
from pysmpc.ring.prg import KeySet
from pysmpc.ring.shares import MaskedBit, Share

if TYPE_CHECKING:
    from pysmpc.mpc.operations import Suite

RegionsOf = Callable[[Party, Masked, Share, "int | None", "int | None"], "Regions"]


@declares_openings("compare")
def threshold_bits(
    party: Party,
    x: Masked,
    thresholds: Sequence[int],
    groups: Sequence[Sequence[int]] | None = None,
    nodes: int = comparison_kernels.NODES,
) -> list[MaskedBit]:
    """The bits x < t for public integers t with |x - t| < 2^63; of each group, their exclusive or.  Three rounds.

    groups: positions in `thresholds`, a list for every result; by default one for each threshold.
    No two groups begin with the same position.  nodes: of the circuit, from two on; with fewer than four,
    |x - t| < 2^(16 nodes - 1).  They are the same for all thresholds of an opening.

    The dealt products of bits of r are dealt once for all thresholds; masks are of each threshold's own.
    """
    if not thresholds:
        return []
    groups = groups or [[j] for j in range(len(thresholds))]
    heads = {group[0] for group in groups}
    assert len(heads) == len(groups), "two groups begin with the same threshold"
    pieces: list[comparison.Piece] = []
    for j, t in enumerate(thresholds):
        again = x.compared
        base = party.dealer.streams(MATERIAL) if again else x.base
        words = comparison_kernels.compare_sizes(x.n, nodes, known=again)[4] + x.n * (j in heads)
        dealt = party.dealer.corrections(words, partial(comparison.deal, base, x.n, nodes, known=again))
        if not again:
            x.compared, x.chunks = True, dealt
        pieces.append((base, dealt, x.base if again else None, x.chunks, x.c, t, nodes))
    return comparison.sign_bits(party, pieces, groups)


def threshold_bits_cost(
    holders: int, n: int, thresholds: int, results: int, again: bool = False, nodes: int = comparison_kernels.NODES
) -> Cost:
    """Without the opening of x: 4.2 bytes an element, threshold and peer; 49 dealt for the first, 20 for each other.

    With two nodes 2.4 bytes, 29 and 14.5 dealt.  again: if x was compared with others before.
    """
    cost = Cost()
    if not thresholds:
        return cost
    rounds = [0, 0, 0]
    for j in range(thresholds):
        _, *messages, dealt = comparison_kernels.compare_sizes(n, nodes, known=again or j > 0)
        rounds = [a + b for a, b in zip(rounds, messages, strict=True)]
        cost += Cost(dealt=8 * dealt)
    rounds[2] = z2k.packed_words(n) * results
    for words in rounds:
        cost += opening(holders, words)
    return cost + Cost(dealt=8 * n * results)


class Regions(Protocol):
    """Where the elements of an opened value x lie: inside lo <= x < hi, or above: x >= hi."""

    def choose(self, suite: Suite, party: Party, value: Share, by: int) -> Share:
        """inside * value / by, rounded as the suite does it."""
        ...

    def is_above(self, suite: Suite, party: Party) -> Share:
        """Whether x >= hi, as 0 and 1."""
        ...

    def above_times(self, suite: Suite, party: Party, x: Share) -> Share:
        """above * x, for the x that was opened."""
        ...


@dataclass(eq=False, repr=False)
class OpenedRegions:
    """By comparisons of the opening itself; bits of which the dealer knows the masks."""

    x: Masked
    inside: MaskedBit
    above: MaskedBit | None
    times: Share | None = None  # above * x, once it was asked for

    def choose(self, suite: Suite, party: Party, value: Share, by: int) -> Share:
        """One round."""
        return suite.select(party, self.inside, value, by)

    def is_above(self, suite: Suite, party: Party) -> Share:
        """No message."""
        assert self.above is not None
        return comparison.bit_share(party, self.above, self.x.shape)

    def above_times(self, suite: Suite, party: Party, x: Share) -> Share:
        """No message: linear in c and the dealt product of r and a bit.

        One stream is there for that product.  Where another bit of the same opening has used it, x is
        opened again, by a selection: two products under one stream would give their difference away.
        """
        bit, base = self.above, self.x.base
        assert bit is not None
        assert bit.stream is not None
        if self.times is None:
            if self.x.multiplied:
                self.times = suite.select(party, bit, x, 1)
            else:
                self.x.multiplied = True
                keys, stream = party.dealer.keys, bit.stream
                dealt = party.dealer.corrections(
                    self.x.n, lambda keys, out: comparison_kernels.select_deal(keys, base, stream, None, out)
                )
                words = comparison_kernels.select_finish(keys, base, None, bit.flip, self.x.c, bit.beta, bit.rho, dealt)
                self.times = Share.of(words, x.shape, x.scale)
        return Share(self.times.body, x.shape, x.scale)


@declares_openings("compare")
def regions(party: Party, opened: Masked, x: Share, lo: int | None, hi: int | None) -> Regions:
    """The regions for public ends in integers of x, of which one may be missing.  Three rounds."""
    ends = [t for t in (lo, hi) if t is not None]
    bits = threshold_bits(party, opened, ends, [[0, 1], [1]] if len(ends) == 2 else [[0]])
    if len(ends) == 2:
        return OpenedRegions(opened, bits[0], bits[1].flipped())
    not_below = bits[0].flipped()
    return OpenedRegions(opened, not_below, None) if hi is None else OpenedRegions(opened, bits[0], not_below)


def regions_cost(holders: int, n: int, ends: int = 2) -> Cost:
    """Of one end or two; `above_times` takes 8 bytes more an element from the dealer."""
    return threshold_bits_cost(holders, n, ends, ends)


@dataclass(eq=False, repr=False)
class ComparedRegions:
    """By the suite's own comparisons, which open differences of their own: for every suite.

    inside, above: shares of 0 and 1.
    """

    inside: Share
    above: Share | None

    def choose(self, suite: Suite, party: Party, value: Share, by: int) -> Share:
        """A product and a truncation; two selections would differ by what each of them rounds."""
        flat = Share(self.inside.body, value.shape)
        out = suite.mul(party, flat, value)
        return out if by == 1 else suite.truncate(party, out, by)

    def is_above(self, suite: Suite, party: Party) -> Share:
        """No message."""
        assert self.above is not None
        return self.above

    def above_times(self, suite: Suite, party: Party, x: Share) -> Share:
        """A product."""
        return suite.mul(party, Share(self.is_above(suite, party).body, x.shape), x)


def regions_by(negative: Negative, bit_share: BitShare, sub: Binary, public: Public) -> RegionsOf:
    """The regions by a suite's own comparison."""

    @opens_as(negative, bit_share, sub, public)
    def regions(party: Party, opened: Masked, x: Share, lo: int | None, hi: int | None) -> Regions:
        """The regions for public ends in integers of x.  Rounds of one comparison, of twice the elements for two."""
        ends, n = [t for t in (lo, hi) if t is not None], x.numel
        shifted = [sub(party, x.at(1), public(party, torch.tensor([t]))).words() for t in ends]
        bits = bit_share(party, negative(party, Share.of(torch.cat(shifted, 1), (len(ends) * n,))), (len(ends) * n,))
        below = [Share.of(Share(bits.body, (n,), 1, None, i * n).words(), x.shape) for i in range(len(ends))]
        not_below = sub(party, public(party, torch.ones(x.shape, dtype=torch.int64)), below[-1])
        if hi is None:
            return ComparedRegions(not_below, None)
        return ComparedRegions(sub(party, below[1], below[0]) if lo is not None else below[0], not_below)

    return regions


class ThresholdsOf(Protocol):
    def __call__(
        self, party: Party, x: Share, ends: Sequence[int], bits: int = 64, opened: Masked | None = None, /
    ) -> Share:
        """Elements of x, n of them; public integers `ends`.  The bits x >= end as 0 and 1, [ends, n].

        bits: |x| and |end| are below 2^(bits - 2), at least 32; suites that gain nothing by it ignore it.
        opened: x under a mask, where it is at hand.
        """
        ...


@declares_openings("function", "compare")
def thresholds(party: Party, x: Share, ends: Sequence[int], bits: int = 64, opened: Masked | None = None) -> Share:
    """The bits x >= end of one opening.  Four rounds; 8 bytes an element and peer, and 4.2 for each end.

    From the dealer 49 bytes an element for the first end, 20 for each other; 29 and 14.5 for 32 bits.  Of an x that is
    open, three rounds, and 8 bytes less.
    """
    return reached(party, mask_open(party, x) if opened is None else opened, ends, comparison.nodes_of(bits))


class ScaledThresholdsOf(Protocol):
    def __call__(
        self, party: Party, x: Share, ends: Sequence[int], steps: Sequence[int], opened: Masked | None = None, /
    ) -> tuple[Share, Share]:
        """x of one dimension [n].  The bits x >= end, [ends, n], and x times the sum of those steps that it reaches.

        opened: x under a mask, where it is at hand.
        """
        ...


@declares_openings("function", "compare")
def scaled_thresholds(
    party: Party, x: Share, ends: Sequence[int], steps: Sequence[int], opened: Masked | None = None
) -> tuple[Share, Share]:
    """`thresholds`, and x p for the sum p of the steps whose ends x reaches, in the same four rounds, or three.

    1. c = x + r, and the bits b = beta ^ rho of x < end.
    2. The dealer shares r rho for each of them.
    3. p is linear in rho, and so is r p in r and r rho: x p = c p - r p.
    8 bytes more an element and end from the dealer.
    """
    n, keys = x.numel, party.dealer.keys
    # 1. bits
    opened = mask_open(party, x) if opened is None else opened
    bits = threshold_bits(party, opened, ends)
    words = [comparison.bit_share(party, bit.flipped(), x.shape).body.words for bit in bits]
    # 2. products
    stream = party.dealer.streams()

    def deal(keys: KeySet, out: torch.Tensor) -> None:
        r = opened.mask(keys)
        for j, bit in enumerate(bits):
            assert bit.stream is not None
            rho = z2k.unpack_bits(z2k.rows_xor(keys.draw(bit.stream, z2k.packed_words(n)))[0], n)
            torch.mul(r, rho, out=out[j * n : (j + 1) * n])
        keys.take(stream, out)

    products = keys.draw(stream, len(ends) * n, party.dealer.corrections(len(ends) * n, deal))
    # 3. x p
    p = torch.zeros_like(products[:, :n])
    out = torch.zeros_like(p)
    if party.rows:
        outside = torch.zeros(n, dtype=torch.int64)
        for j, (bit, step) in enumerate(zip(bits, steps, strict=True)):
            beta = z2k.unpack_bits(bit.beta[0].contiguous(), n)
            p += words[j] * step
            outside += (1 - beta) * step
            out += products[:, j * n : (j + 1) * n] * ((1 - 2 * beta) * step)
        out += p * opened.c[0] - keys.draw(opened.base, n) * outside
    return Share.of(torch.cat(words, 1), (len(ends), n)), Share.of(out, x.shape)


def scaled_thresholds_cost(holders: int, n: int, ends: int) -> Cost:
    """With the opening of x."""
    return thresholds_cost(holders, n, ends) + Cost(dealt=8 * n * ends)


def thresholds_cost(holders: int, n: int, ends: int, bits: int = 64) -> Cost:
    """With the opening of x."""
    return opening(holders, n) + threshold_bits_cost(holders, n, ends, ends, False, comparison.nodes_of(bits))


def thresholds_by(negative: Negative, bit_share: BitShare, sub: Binary, public: Public) -> ThresholdsOf:
    """The same by a suite's own comparison, which opens a difference for each end."""

    @opens_as(negative, bit_share, sub, public)
    def thresholds(party: Party, x: Share, ends: Sequence[int], bits: int = 64, opened: Masked | None = None) -> Share:
        """The bits x >= end.  Rounds of one comparison and of `bit_share`."""
        n = x.numel
        rest = sub(party, x.at(1), public(party, torch.tensor(ends, dtype=torch.int64).reshape(-1, 1)))
        bit = negative(party, Share.of(rest.words(), (len(ends) * n,))).flipped()
        return Share(bit_share(party, bit, (len(ends) * n,)).body, (len(ends), n))

    return thresholds
