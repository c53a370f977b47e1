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

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations

import torch

from pysmpc.mpc.additive.comparison import circuit, circuit_cost, nodes_of
from pysmpc.mpc.additive.products import masked, unopened
from pysmpc.mpc.additive.truncation import MATERIAL, RHO
from pysmpc.mpc.interfaces import Cost, Party, declares_openings, opening
from pysmpc.ring import comparison_kernels, z2k
from pysmpc.ring.prg import KeySet
from pysmpc.ring.shares import Share

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

    def of(self, words: torch.Tensor) -> torch.Tensor:
        """[rows, k, n] -> [rows, size, count, n]: the first candidate of each group, the second, ..."""
        rows, _, n = words.shape
        here = words[:, self.first : self.first + self.count * self.size]
        return here.reshape(rows, self.count, self.size, n).transpose(1, 2)

    def compared(self, n: int) -> int:
        """Pairs, of n columns."""
        return len(self.pairs) * self.count * n

    def table(self, n: int) -> tuple[int, ...]:
        """The shape of what is dealt: [one-hot or times r_i - r_0, entry, candidate, group, n]."""
        return 2, 1 << (self.size - 1), self.size - 1, self.count, n

    def differences(self, words: torch.Tensor) -> torch.Tensor:
        """x_i - x_j of the pairs of [rows, k, n]: [rows, compared]."""
        x = self.of(words)
        found = torch.stack([x[:, i] - x[:, j] for i, j in self.pairs], 1)
        return found.reshape(words.shape[0], self.compared(words.shape[2]))

    def patterns(self, bits: torch.Tensor) -> torch.Tensor:
        """[rows, pairs, count, n] bits -> [rows, size - 1, count, n], a number for each candidate but the first.

        Bit t of it is that of its pair with the t-th of the others.
        """
        place = {pair: at for at, pair in enumerate(self.pairs)}
        found = []
        for i in range(1, self.size):
            others = [place[min(i, j), max(i, j)] for j in range(self.size) if j != i]
            number = bits[:, others[-1]]
            for at in reversed(others[:-1]):
                number = torch.add(bits[:, at], number, alpha=2)
            found.append(number)
        return torch.stack(found, 1)

    def winning(self) -> torch.Tensor:
        """[size - 1, 1, 1] patterns of a largest candidate: it beats those before it, none after it beats it."""
        return torch.tensor([(1 << i) - 1 for i in range(1, self.size)]).view(-1, 1, 1)


Part = tuple[Block, torch.Tensor, torch.Tensor]


@lru_cache(maxsize=1024)
def blocks(k: int) -> tuple[Block, ...]:
    """The groups of k >= 2 candidates: as few as can be, of sizes that differ by one at most, the larger first."""
    groups = -(-k // GROUP)
    size, more = divmod(k, groups)
    found = Block(0, more, size + 1), Block(more * (size + 1), groups - more, size)
    return tuple(block for block in found if block.count)


def _table_words(k: int, n: int) -> int:
    return sum(math.prod(block.table(n)) for block in blocks(k))


def _compared(k: int, n: int) -> int:
    return sum(block.compared(n) for block in blocks(k))


def _by_block(k: int, n: int, bits: torch.Tensor, tables: torch.Tensor) -> list[Part]:
    """Of each block of [rows, k, n]: its bits [rows, pairs, count, n] and its table [rows, *table]."""
    parts = blocks(k)
    cut = bits.split([block.compared(n) for block in parts], 1)
    dealt = tables.split([math.prod(block.table(n)) for block in parts], 1)
    return [
        (
            block,
            mine.reshape(mine.shape[0], len(block.pairs), block.count, n),
            table.view(table.shape[0], *block.table(n)),
        )
        for block, mine, table in zip(parts, cut, dealt, strict=True)
    ]


def _deal(keys: KeySet, base: int, stream: int, k: int, n: int, nodes: int, out: torch.Tensor) -> None:
    """Dealer: the circuits, and the tables of each block."""
    r = keys.total(base, k * n).view(1, k, n)
    compared = _compared(k, n)
    at = comparison_kernels.compare_sizes(compared, nodes)[4]
    differences = torch.cat([block.differences(r) for block in blocks(k)], 1)[0]
    comparison_kernels.compare_deal(keys, base, compared, out[:at], nodes, masks=differences)
    rho = z2k.unpack_bits(z2k.rows_xor(keys.draw(base + RHO, z2k.packed_words(compared)))[0], compared)
    for block, bits, table in _by_block(k, n, rho.view(1, compared), out[at:].unsqueeze(0)):
        one_hot, products = table[0]
        x, where = block.of(r), block.patterns(bits) ^ block.winning()
        torch.eq(where, torch.arange(one_hot.shape[0]).view(-1, 1, 1, 1), out=one_hot)
        torch.mul(one_hot, x[:, 1:] - x[:, :1], out=products)
    keys.take(stream, out[at:])


@declares_openings("compare")
def largest(party: Party, x: Share, beside: Sequence[Share] = (), bits: int = 64) -> tuple[Share, Share]:
    """The largest of each group of the k >= 2 candidates x [k, n] as [groups, n], and which of them it is.

    Which: bits [groups, size - 1, n], of the candidates of a group (`blocks`) but its first; zeros for
    candidates that a smaller group has not.  For any two candidates less than 2^(bits - 1) apart.

    1. Open c = x + r.
    2. The signs of x_i - x_j for every pair of a group: three rounds, two for up to 16 bits.
    3. Pick what was dealt for these signs.
    Four rounds, three for up to 16 bits.  Of four candidates 57.5 bytes to each other holder (three
    selections of the larger of two: 36.75) and 631 from the dealer (171).

    beside: secrets that are opened under masks in the first round, for products later on.
    """
    keys, nodes = party.dealer.keys, nodes_of(bits)
    k, n = x.shape
    compared = _compared(k, n)
    words = x.words()
    base, stream = party.dealer.streams(MATERIAL), party.dealer.streams()
    at = comparison_kernels.compare_sizes(compared, nodes)[4]
    corrections = party.dealer.corrections(
        at + _table_words(k, n), lambda keys, out: _deal(keys, base, stream, k, n, nodes, out)
    )
    # 1. open
    message = z2k.truncate_mask(keys, base, 0, words)
    fresh = unopened(beside)
    shapes = [x.shape, *(body.shape for body in fresh)]
    c, *factors = party.channel.open([message, *masked(party, fresh)], "compare", shapes)
    for body, opened in zip(fresh, factors, strict=True):
        body.opened = opened
    c = c.view(c.shape[0], k, n)
    # 2. signs of all pairs
    differences = torch.cat([b.differences(c) for b in blocks(k)], 1)
    beta = circuit(party, base, corrections, differences, 0, nodes)
    public = z2k.unpack_bits(beta[0], compared).view(1, compared) if beta.shape[0] else z2k.empty(0, compared)
    # 3. pick
    dealt = keys.draw(stream, _table_words(k, n), None if corrections is None else corrections[at:])
    shares = words.view(party.rows, k, n)
    found = [
        _picked(block, signs, table, block.of(c), block.of(shares))
        for block, signs, table in _by_block(k, n, public, dealt)
    ]
    values, won = (torch.cat(each, 1) for each in zip(*_alike(found), strict=True))
    groups, others = won.shape[1:3]
    return (
        Share.of(values.reshape(party.rows, groups * n), (groups, n), x.scale),
        Share.of(won.reshape(party.rows, groups * others * n), (groups, others, n)),
    )


def _picked(
    block: Block, signs: torch.Tensor, table: torch.Tensor, c: torch.Tensor, x: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Largest [rows, count, n] and bits [rows, count, size - 1, n] of a block; c and x [rows, size, count, n]."""
    rows, _, _, *part = table.shape
    place = block.patterns(signs).unsqueeze(1).unsqueeze(1).expand(rows, 2, 1, *part)
    won, owed = table.gather(2, place).squeeze(2).unbind(1)
    # x_0, and the bits times x_i - x_0
    value = x[:, 0] - owed.sum(1)
    for i in range(1, block.size):
        value.addcmul_(won[:, i - 1], c[:, i] - c[:, 0])
    return value, won.transpose(1, 2)


def _alike(found: list[tuple[torch.Tensor, torch.Tensor]]) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """The same with zeros for the candidates that smaller groups have not."""
    most = found[0][1].shape[2]
    return [
        (value, won if won.shape[2] == most else torch.nn.functional.pad(won, (0, 0, 0, most - won.shape[2])))
        for value, won in found
    ]


def largest_cost(holders: int, k: int, n: int, bits: int = 64) -> Cost:
    """Of the groups of k candidates [k, n]."""
    tables = Cost(dealt=8 * _table_words(k, n))
    return opening(holders, k * n) + circuit_cost(holders, _compared(k, n), bits) + tables
