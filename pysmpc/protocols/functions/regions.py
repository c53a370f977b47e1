"""Where a value lies: below, in, or above an interval of public ends, from one opening of it.

Outside of the interval on which it is approximated a function is its asymptote.  The bits x < lo and
x < hi come from the opening c = x + r that serves the function itself, three rounds after it; both
comparisons use the same dealt products of bits of r.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from pysmpc import ring
from pysmpc.prg import KeySet
from pysmpc.protocols import comparison
from pysmpc.protocols.functions.masked import Masked
from pysmpc.protocols.interfaces import Cost, Party, opening, opens
from pysmpc.protocols.truncation import MATERIAL, RHO, RHO_SHARES
from pysmpc.shares import Bit, Share


@opens("compare")
def threshold_bits(
    party: Party, x: Masked, thresholds: Sequence[int], groups: Sequence[Sequence[int]] | None = None
) -> list[Bit]:
    """The bits x < t for public integers t with |x - t| < 2^63; of each group, their exclusive or.  Three rounds.

    groups: positions in `thresholds`, a list for every result; by default one for each threshold.
    No two groups begin with the same position.

    1. For every threshold, the inputs of the nodes of its circuit, from c - t and the dealt products
       of the bits of r (which all thresholds share), under masks of its own.
    2. The inputs of its root, under masks of its own.
    3. The signs, under dealt bits rho: those of a group are added first, and one rho hides the sum.
    """
    groups = groups or [[j] for j in range(len(thresholds))]
    heads = {group[0] for group in groups}
    assert len(heads) == len(groups), "two groups begin with the same threshold"
    keys, n = party.dealer.keys, x.n
    bases, known, dealt = [], [], []
    for j in range(len(thresholds)):
        again = x.compared
        base = party.dealer.streams(MATERIAL) if again else x.base
        circuit = ring.compare_sizes(n, known=again)[4]
        found = party.dealer.corrections(circuit + n * (j in heads), _dealing(base, n, circuit, again))
        if not again:
            x.compared, x.chunks = True, found
        bases.append(base)
        known.append(again)
        dealt.append(found)
    # 1. inputs of the nodes
    states, messages = [], []
    for base, again, t in zip(bases, known, thresholds, strict=True):
        source = x.base if again else None
        state, message = ring.compare_chunks(keys, base, x.chunks, x.c, t % (1 << 64), known=source)
        states.append(state)
        messages.append(message)
    opened = party.channel.open_xor(messages, "compare")
    # 2. inputs of the roots
    signs, messages = [], []
    for base, again, corrections, state, seen in zip(bases, known, dealt, states, opened, strict=True):
        sign, message = ring.compare_nodes(keys, base, corrections, seen, state, n, known=again)
        signs.append(sign)
        messages.append(message)
    opened = party.channel.open_xor(messages, "compare")
    # 3. signs
    roots = [
        ring.compare_root(keys, base, corrections, seen, sign, n, known=again)
        for base, again, corrections, sign, seen in zip(bases, known, dealt, signs, opened, strict=True)
    ]
    messages = []
    for first, *others in groups:
        message = roots[first]
        for j in others:  # each sign is under its own rho: take that away, so that the first one's is left
            message = message ^ roots[j] ^ keys.draw(bases[j] + RHO, ring.packed_words(n))
        messages.append(message)
    out = []
    for (first, *_), beta in zip(groups, party.channel.open_xor(messages, "compare"), strict=True):
        corrections = dealt[first]
        own = None if corrections is None else corrections[-n:] if n else corrections[:0]
        out.append(Bit(beta, keys.draw(bases[first] + RHO_SHARES, n, own), bases[first] + RHO))
    return out


def _dealing(base: int, n: int, circuit: int, known: bool) -> Any:
    def deal(keys: KeySet, out: torch.Tensor) -> None:
        ring.compare_deal(keys, base, n, out[:circuit], known=known)
        if out.numel() > circuit:
            ring.bit_deal(keys, base + RHO, base + RHO_SHARES, out[circuit:])

    return deal


def threshold_bits_cost(holders: int, n: int, thresholds: int, results: int, again: bool = False) -> Cost:
    """Without the opening of x; again: if x was compared with others before."""
    cost = Cost()
    rounds = [0, 0, 0]
    for j in range(thresholds):
        _, *messages, dealt = ring.compare_sizes(n, known=again or j > 0)
        rounds = [a + b for a, b in zip(rounds, messages, strict=True)]
        cost += Cost(dealt=8 * dealt)
    rounds[2] = ring.packed_words(n) * results
    for words in rounds:
        cost += opening(holders, words)
    return cost + Cost(dealt=8 * n * results)


@dataclass(eq=False)
class Regions:
    """Bits of an opened value: inside lo <= x < hi, and above x >= hi; by the default's comparisons."""

    suite: Any
    party: Party
    x: Masked
    inside: Bit
    above: Bit | None

    def choose(self, value: Share, by: int) -> Share:
        """inside * value / by.  One round."""
        out: Share = self.suite.select(self.party, self.inside, value, by)
        return out

    def is_above(self) -> Share:
        """Whether x >= hi, as 0 and 1.  No message."""
        assert self.above is not None
        return comparison.bit_share(self.party, self.above, self.x.shape)

    def above_times(self, x: Share) -> Share:
        """above * x, for the x that was opened.  No message: linear in c and the dealt product of r and a bit."""
        assert self.above is not None and self.above.stream is not None
        if "above" not in self.x.known:
            keys, n, base, rho = self.party.dealer.keys, self.x.n, self.x.base, self.above.stream
            dealt = self.party.dealer.corrections(
                n, lambda keys, out: ring.select_deal(keys, base, rho, None, out)
            )
            bit = self.above
            self.x.known["above"] = ring.select_finish(keys, base, None, bit.flip, self.x.c, bit.beta, bit.rho, dealt)
        return Share.of(self.x.known["above"], x.shape, x.scale)


def regions(suite: Any, party: Party, opened: Masked, x: Share, lo: int | None, hi: int | None) -> Any:
    """The regions of an opened x for public ends in its integers; None for an end that is not there.  Three rounds."""
    ends = [t for t in (lo, hi) if t is not None]
    groups = [[0, 1], [1]] if len(ends) == 2 else [[0]]
    bits = threshold_bits(party, opened, ends, groups)
    if len(ends) == 2:
        return Regions(suite, party, opened, bits[0], bits[1].flipped())
    if hi is None:
        return Regions(suite, party, opened, bits[0].flipped(), None)
    return Regions(suite, party, opened, bits[0], bits[0].flipped())


def regions_cost(holders: int, n: int, ends: int = 2) -> Cost:
    """Of one end or two."""
    return threshold_bits_cost(holders, n, ends, ends)


@dataclass(eq=False)
class CompareRegions:
    """The same from comparisons that open differences of their own, for every suite."""

    suite: Any
    party: Party
    x: Share
    below: Bit  # x < end, for both ends after one another
    lo: bool
    hi: bool

    def _halves(self, both: Share) -> tuple[Share | None, Share | None]:
        n = self.x.numel
        parts = [Share(both.body, self.x.shape, both.scale, None, i * n) for i in range(self.lo + self.hi)]
        first = parts.pop(0) if self.lo else None
        return first, parts.pop(0) if self.hi else None

    def choose(self, value: Share, by: int) -> Share:
        """inside * value / by.  Rounds of a selection: for two ends, of twice the elements."""
        suite, party, words = self.suite, self.party, value.words()
        both = Share.of(torch.cat([words] * (self.lo + self.hi), 1), ((self.lo + self.hi) * value.numel,), value.scale)
        if self.lo and self.hi:
            low, high = self._halves(suite.select(party, self.below, both, by))
            assert low is not None and high is not None
            out: Share = suite.sub(party, high, low)
            return out
        bit = self.below.flipped() if self.lo else self.below
        out = suite.select(party, bit, both, by)
        return Share(out.body, self.x.shape, out.scale)

    def is_above(self) -> Share:
        """Whether x >= hi, as 0 and 1."""
        n = (self.lo + self.hi) * self.x.numel
        _, high = self._halves(self.suite.bit_share(self.party, self.below.flipped(), (n,)))
        assert high is not None
        return Share.of(high.words(), self.x.shape)

    def above_times(self, x: Share) -> Share:
        """above * x, by a product."""
        out: Share = self.suite.mul(self.party, self.is_above(), x)
        return out


def compare_regions(suite: Any, party: Party, opened: Masked, x: Share, lo: int | None, hi: int | None) -> Any:
    """The regions by the suite's own comparisons.  Rounds of one comparison."""
    shifted = [
        suite.sub(party, x.at(1), suite.public(party, torch.tensor([t]))).words() for t in (lo, hi) if t is not None
    ]
    words = torch.cat(shifted, 1)
    bit = suite.negative(party, Share.of(words, (len(shifted) * x.numel,)))
    return CompareRegions(suite, party, x, bit, lo is not None, hi is not None)
