"""Many ends of one opening: as so many comparisons word for word, and sums of their bits in Python integers."""

import pytest
import torch
from kernel_oracles import LENGTHS, TILES, WORD, dealt_share, signed, total, total_xor, unpack, unsigned

from pysmpc.ring import comparison_kernels as single
from pysmpc.ring import threshold_kernels as many
from pysmpc.ring import z2k
from pysmpc.ring.prg import KeySet, fresh_key

FIRST, REST, APART, RHO_SHARES, RHO = 1 << 36, 1 << 37, 21, 5, 14


def words(values):
    return torch.tensor([signed(v) for v in values], dtype=torch.int64)


def numbers(rng, ends, nodes, n):
    """At, below and above the ends, and anywhere within what so many nodes take."""
    half = 1 << 16 * nodes - 2
    anywhere = [int(v) for v in rng.integers(-half, half, n)]
    near = [ends[int(rng.integers(len(ends)))] + int(rng.integers(-1, 2)) for _ in range(n)]
    return [a if rng.integers(2) else b for a, b in zip(anywhere, near, strict=True)]


def some_ends(rng, nodes, count):
    """Powers of four, and others, some of them negative."""
    limit = 16 * nodes - 3
    kinds = [
        lambda: 4 ** int(rng.integers(limit // 2)),
        lambda: int(rng.integers(-(1 << limit), 1 << limit)),
        lambda: 0,
    ]
    return [kinds[int(rng.integers(3))]() for _ in range(count)]


def one_by_one(keys, everyone, ends, offsets, c):
    """Corrections, messages of every round and openings by a comparison for each end."""
    n, nodes, dealt, rounds = ends.n, ends.nodes, [], ([], [], [], [])
    monomials = owner = None
    for j, offset in enumerate(offsets):
        base, known = (ends.rest + (j - 1) * APART if j else ends.first), bool(j)
        size = single.compare_sizes(n, nodes, known)[4]
        corrections = torch.zeros(size + n, dtype=torch.int64)
        single.compare_deal(everyone, base, n, corrections[:size], nodes, known)
        single.bit_deal(everyone, base + RHO, base + RHO_SHARES, corrections[size:])
        monomials, owner = (corrections, base) if monomials is None else (monomials, owner)
        state, first = single.compare_chunks(keys, base, monomials, c, offset, nodes, owner)
        sign, second = single.compare_nodes(keys, base, corrections, z2k.rows_xor(first), state, n, nodes, known)
        third = single.compare_root(keys, base, corrections, z2k.rows_xor(second), sign, n, nodes, known)
        dealt.append(corrections)
        for found, message in zip(rounds, (first, second, third, z2k.rows_xor(third)), strict=True):
            found.append(message)
    return torch.cat(dealt), [torch.cat(each, 1) for each in rounds]


def columns_of(rng, count):
    """Sums of any weights, of one end alone, and of none."""
    return [
        (int(rng.integers(-(1 << 62), 1 << 62)), [int(v) for v in rng.integers(-(1 << 62), 1 << 62, count)]),
        (0, [int(j == count - 1) for j in range(count)]),
        (5, [0] * count),
    ]


@pytest.mark.parametrize("n", LENGTHS + TILES[:3])
@pytest.mark.parametrize(("holders", "nodes", "count"), [(2, 4, 3), (3, 2, 2), (2, 3, 1)])
def test_as_so_many_comparisons(holders, nodes, count, n, rng):
    secret = [fresh_key() for _ in range(holders)]
    keys, everyone = KeySet(secret, 0, holders - 1), KeySet(secret)
    ends, offsets = many.Ends(FIRST, REST, APART, count, n, nodes), some_ends(rng, nodes, count)
    x = numbers(rng, offsets, nodes, n)
    c = words([v + r for v, r in zip(x, total(secret, FIRST, n), strict=True)]).view(1, n)
    expected, messages = one_by_one(keys, everyone, ends, offsets, c)
    dealt = torch.full((ends.corrections(),), 7)
    many.deal(everyone, ends, dealt)
    assert torch.equal(dealt, expected)
    state, message = many.chunks(keys, ends, FIRST, dealt, c, many.words_of(tuple(offsets)))
    assert torch.equal(message, messages[0])
    sign, message = many.nodes(keys, ends, dealt, z2k.rows_xor(message), state)
    assert torch.equal(message, messages[1])
    message = many.root(keys, ends, dealt, z2k.rows_xor(message), sign)
    assert torch.equal(message, messages[2])
    betas = z2k.rows_xor(message)
    check_sums(secret, keys, ends, offsets, x, dealt, betas, rng)


def check_sums(secret, keys, ends, offsets, x, dealt, betas, rng):
    """Every holder's words by their definition, and what they add up to."""
    n, count, packed = ends.n, ends.count, z2k.packed_words(ends.n)
    columns = columns_of(rng, count)
    found = many.sums(keys, ends, RHO_SHARES, dealt, betas, columns)
    by_holder = many.sums(keys, ends, RHO_SHARES, dealt, betas, columns, by_holder=True)
    assert torch.equal(by_holder, found.transpose(0, 1))
    reached = [[int(v >= end) for v in x] for end in offsets]
    circuits = ends.corrections() - count * n
    others = single.compare_sizes(n, ends.nodes, True)[4]
    for (constant, weights), rows in zip(columns, found, strict=True):
        result = [constant] * n
        for i, row in enumerate(rows):
            share = [constant if i == 0 else 0] * n
            for j, weight in enumerate(weights):
                base = ends.rest + (j - 1) * APART if j else ends.first
                at = circuits - (count - 1 - j) * others + j * n
                rho = dealt_share(secret, i, base + RHO_SHARES, n, unsigned(dealt[at : at + n]))
                beta = unpack(unsigned(betas[0, j * packed : (j + 1) * packed]), n)
                bits = [(b * (i == 0) + (1 - 2 * b) * s) for b, s in zip(beta, rho, strict=True)]
                share = [s + weight * ((i == 0) - b) for s, b in zip(share, bits, strict=True)]
            assert unsigned(row) == [v & WORD for v in share]
        for weight, bits in zip(weights, reached, strict=True):
            result = [r + weight * b for r, b in zip(result, bits, strict=True)]
        assert unsigned(z2k.rows_sum(rows)) == [v & WORD for v in result]
    rho = unpack(total_xor(secret, ends.first + RHO, packed), n)
    beta = unpack(unsigned(betas[0, :packed]), n)
    assert [1 - (a ^ b) for a, b in zip(rho, beta, strict=True)] == reached[0]


def test_another_comparison_dealt_the_monomials(threads, rng):
    """Their corrections are not among those of the ends then; over several tasks, with any number of threads."""
    n, secret = 3000, [fresh_key(), fresh_key()]
    keys, everyone = KeySet(secret, 0, 1), KeySet(secret)
    offsets = some_ends(rng, 4, 3)
    x = numbers(rng, offsets, 4, n)
    before = many.Ends(FIRST, FIRST, APART, 1, n)
    monomials = torch.zeros(before.corrections(), dtype=torch.int64)
    many.deal(everyone, before, monomials)
    c = words(x).view(1, n) + everyone.total(FIRST, n)
    ends = many.Ends(REST, REST + APART, APART, 3, n, known=True)
    dealt = torch.zeros(ends.corrections(), dtype=torch.int64)
    many.deal(everyone, ends, dealt)
    state, message = many.chunks(keys, ends, FIRST, monomials, c, many.words_of(tuple(offsets)))
    sign, message = many.nodes(keys, ends, dealt, z2k.rows_xor(message), state)
    betas = z2k.rows_xor(many.root(keys, ends, dealt, z2k.rows_xor(message), sign))
    [found] = many.sums(keys, ends, RHO_SHARES, dealt, betas, [(0, [1, 1, 1])])
    assert z2k.rows_sum(found)[0].tolist() == [sum(v >= end for end in offsets) for v in x]


def test_sizes():
    secret = [fresh_key(), fresh_key()]
    with pytest.raises(ValueError, match="ring elements of shape"):
        many.deal(KeySet(secret), many.Ends(1, 100, APART, 2, 64), torch.zeros(3, dtype=torch.int64))
    nobody = KeySet([])
    ends = many.Ends(1, 100, APART, 2, 64)
    state, message = many.chunks(nobody, ends, 1, None, z2k.empty(0, 64), many.words_of((1, 2)))
    assert (state.shape[0], message.shape[0]) == (0, 0)
    assert many.sums(nobody, ends, 6, None, z2k.empty(0, 2), [(1, [1, 1])]).shape == (1, 0, 64)
