"""The largest of groups of up to four candidates, all pairs of a group compared at once.

Candidates are opened once, c_i = x_i + r_i, and serve every pair they are in: the sign of
x_i - x_j is that of (c_i - c_j) - (r_i - r_j), whose mask the dealer knows.  It comes out as
a public bit under a dealt bit rho.  Candidate i is the largest if the two or three bits of its
pairs have the one pattern that says so; among equals, the first is.  The dealer shares the
one-hot vector of the bits rho of these pairs, turned so that the public bits are the index
of the entry that tells whether i is the largest, and the same vector times r_i - r_0: then that
bit, and its product with x_i - x_0, are dealt words that are picked by a public index.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations

import torch

from pysmpc import ring
from pysmpc.prg import KeySet
from pysmpc.protocols.comparison import circuit, circuit_cost, nodes_of
from pysmpc.protocols.interfaces import Cost, Party, opening, opens
from pysmpc.protocols.products import masked, unopened
from pysmpc.protocols.truncation import MATERIAL, RHO
from pysmpc.shares import Share

GROUP = 4


@dataclass(frozen=True)
class Block:
    """Consecutive groups of one size among k candidates: `count` groups of `size`, from candidate `first` on."""

    first: int
    count: int
    size: int

    @property
    def pairs(self) -> list[tuple[int, int]]:
        """Which candidates of a group are compared."""
        return list(combinations(range(self.size), 2))

    @property
    def entries(self) -> int:
        """Patterns of the bits of one candidate's pairs."""
        return 1 << (self.size - 1)

    def of(self, words: torch.Tensor) -> torch.Tensor:
        """[rows, k, n] -> [rows, size, count, n]: the first candidate of each group, the second, ..."""
        rows, _, n = words.shape
        here = words[:, self.first : self.first + self.count * self.size]
        return here.reshape(rows, self.count, self.size, n).transpose(1, 2)

    def differences(self, words: torch.Tensor) -> torch.Tensor:
        """x_i - x_j of the pairs of [rows, k, n]: [rows, pairs * count * n]."""
        x = self.of(words)
        return torch.stack([x[:, i] - x[:, j] for i, j in self.pairs], 1).reshape(words.shape[0], self.numel(x))

    def numel(self, x: torch.Tensor) -> int:
        """Elements compared, of x [rows, ..., n]."""
        return len(self.pairs) * self.count * x.shape[-1]

    def patterns(self, bits: torch.Tensor) -> torch.Tensor:
        """[rows, pairs, count, n] bits -> [rows, size - 1, count, n]: those of each candidate but the first, as a number.

        Its pair with the t-th of the others is bit t.
        """
        place = {pair: at for at, pair in enumerate(self.pairs)}
        found = []
        for i in range(1, self.size):
            others = [place[min(i, j), max(i, j)] for j in range(self.size) if j != i]
            number = bits[:, others[0]].clone()
            for t, at in enumerate(others[1:], 1):
                number += bits[:, at] << t
            found.append(number)
        return torch.stack(found, 1)

    def winning(self) -> torch.Tensor:
        """[size - 1, 1, 1] patterns of a largest candidate: it beats those before it, none after it beats it."""
        return torch.tensor([(1 << i) - 1 for i in range(1, self.size)]).view(-1, 1, 1)


@lru_cache(maxsize=1024)
def blocks(k: int) -> tuple[Block, ...]:
    """The groups of k candidates: as few as there can be, of sizes that differ by one at most, the larger first."""
    groups = -(-k // GROUP)
    size, more = divmod(k, groups)
    found = Block(0, more, size + 1), Block(more * (size + 1), groups - more, size)
    return tuple(block for block in found if block.count)


def _table_words(k: int, n: int) -> int:
    return sum(2 * (b.entries - 1) * (b.size - 1) * b.count * n for b in blocks(k))


def _compared(k: int, n: int) -> int:
    return sum(len(b.pairs) * b.count * n for b in blocks(k))


def _deal(keys: KeySet, base: int, stream: int, k: int, n: int, nodes: int, out: torch.Tensor) -> None:
    """Dealer: the circuits, and the tables of each block, [one-hot or times r_i - r_0, entry, candidate, group, n]."""
    r = keys.total(base, k * n).view(1, k, n)
    compared = _compared(k, n)
    at = ring.compare_sizes(compared, nodes)[4]
    differences = torch.cat([b.differences(r) for b in blocks(k)], 1)[0]
    ring.compare_deal(keys, base, compared, out[:at], nodes, differences)
    rho = ring.unpack_bits(ring.rows_xor(keys.draw(base + RHO, ring.packed_words(compared)))[0], compared)
    tables, first = out[at:], 0
    for block, bits in _by_block(k, rho.view(1, compared), n):
        where = block.patterns(bits) ^ block.winning()
        x = block.of(r)
        shape = (2, block.entries - 1, block.size - 1, block.count, n)
        size = 2 * (block.entries - 1) * (block.size - 1) * block.count * n
        table = tables[first : first + size].view(shape)
        table[0] = where == torch.arange(block.entries - 1).view(-1, 1, 1, 1)
        torch.mul(table[0], x[:, 1:] - x[:, :1], out=table[1])
        first += size
    keys.take(stream, tables)


def _by_block(k: int, bits: torch.Tensor, n: int) -> list[tuple[Block, torch.Tensor]]:
    """Bits [rows, compared] as [rows, pairs, count, n] of each block."""
    found, at = [], 0
    for block in blocks(k):
        size = len(block.pairs) * block.count * n
        here = bits[:, at : at + size].reshape(bits.shape[0], len(block.pairs), block.count, n)
        found.append((block, here))
        at += size
    return found


@opens("compare")
def largest(party: Party, x: Share, beside: Sequence[Share] = (), bits: int = 64) -> tuple[Share, Share]:
    """The largest of each group of the k candidates x [k, n] as [groups, n], and which of them it is.

    Which: bits [groups, size - 1, n], of the candidates of a group (`blocks`) but its first; zeros for
    candidates that a smaller group has not.  For any two candidates less than 2^(bits - 1) apart.

    1. Open c = x + r.
    2. The signs of x_i - x_j for every pair of a group: three rounds, two for up to 16 bits.
    3. Pick what was dealt for these signs.
    Four rounds, three for up to 16 bits.  Of four candidates 57.5 bytes to each other holder (three
    selections of the larger of two: 36.75) and 583 from the dealer (171).

    beside: secrets that are opened under masks in the first round, for products later on.
    """
    keys, nodes = party.dealer.keys, nodes_of(bits)
    k, n = x.shape
    compared = _compared(k, n)
    words = x.words()
    base, stream = party.dealer.streams(MATERIAL), party.dealer.streams()
    at = ring.compare_sizes(compared, nodes)[4]
    corrections = party.dealer.corrections(
        at + _table_words(k, n), lambda keys, out: _deal(keys, base, stream, k, n, nodes, out)
    )
    # 1. open
    message = ring.truncate_mask(keys, base, 0, words)
    fresh = unopened(beside)
    shapes = [x.shape, *(body.shape for body in fresh)]
    c, *others = party.channel.open([message, *masked(party, fresh)], "compare", shapes)
    for body, opened in zip(fresh, others, strict=True):
        body.opened = opened
    c = c.view(c.shape[0], k, n)
    # 2. signs of all pairs
    differences = torch.cat([b.differences(c) for b in blocks(k)], 1)
    beta = circuit(party, base, corrections, differences, 0, nodes)
    public = ring.unpack_bits(beta[0], compared).view(1, compared) if beta.shape[0] else ring.empty(0, compared)
    # 3. pick
    dealt = keys.draw(stream, _table_words(k, n), None if corrections is None else corrections[at:])
    r = keys.draw(base, k * n).view(party.rows, k, n)
    found, first = [], 0
    for block, signs in _by_block(k, public, n):
        size = 2 * (block.entries - 1) * (block.size - 1) * block.count * n
        found.append(_picked(party, block, signs, block.of(c), block.of(r), dealt[:, first : first + size]))
        first += size
    most = blocks(k)[0].size
    values = torch.cat([value for value, _ in found], 1)
    wins = [torch.nn.functional.pad(won, (0, 0, 0, most - 1 - won.shape[2])) for _, won in found]
    won = torch.cat(wins, 1)
    groups = values.shape[1]
    return (
        Share.of(values.reshape(party.rows, groups * n), (groups, n), x.scale),
        Share.of(won.reshape(party.rows, groups * (most - 1) * n), (groups, most - 1, n)),
    )


def _picked(
    party: Party, block: Block, signs: torch.Tensor, c: torch.Tensor, r: torch.Tensor, dealt: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Largest [rows, count, n] and bits [rows, count, size - 1, n] of a block."""
    rows, n = party.rows, c.shape[-1]
    part = (block.size - 1, block.count, n)
    table = dealt.view(rows, 2, block.entries - 1, *part)
    # the last entry: a one-hot vector adds up to 1, and times r_i - r_0 to that
    last = torch.stack([torch.zeros_like(r[:, 1:]), r[:, 1:] - r[:, :1]], 1) - table.sum(2)
    if party.lead is not None:
        last[party.lead, 0] += 1
    table = torch.cat([table, last.unsqueeze(2)], 2)
    place = block.patterns(signs).view(signs.shape[0], 1, 1, *part).expand(rows, 2, 1, *part)
    won, owed = table.gather(2, place).squeeze(2).unbind(1)
    value = (won * (c[:, 1:] - c[:, :1]) - owed).sum(1) - r[:, 0]
    if party.lead is not None:
        value[party.lead] += c[0, 0]
    return value, won.transpose(1, 2)


def largest_cost(holders: int, k: int, n: int, bits: int = 64) -> Cost:
    """Of the groups of k candidates [k, n]."""
    tables = Cost(dealt=8 * _table_words(k, n))
    return opening(holders, k * n) + circuit_cost(holders, _compared(k, n), bits) + tables
