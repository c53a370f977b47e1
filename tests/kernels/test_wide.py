"""Numbers mod 2^128: Python's integers are the oracle."""

import numpy as np
import pytest
import torch

from pysmpc.ring import z2k, z2k_128
from pysmpc.ring.prg import KeySet, fresh_key

MODULUS, WORD = 1 << 128, 1 << 64
SIZES = [1, 7, 300, 9000]


def words(rng, *shape):
    return torch.from_numpy(rng.integers(-(1 << 63), 1 << 63, shape))


def unsigned(x):
    return [v % WORD for v in x.reshape(-1).tolist()]


def value(x):
    """Tight or loose [sets, k, n] as a list of lists of integers."""
    step = 64 if x.shape[1] == 2 else 32
    return [
        [sum(v << (step * j) for j, v in enumerate(column)) % MODULUS for column in zip(*s.tolist(), strict=True)]
        if step == 32
        else [low + (high << 64) for low, high in zip(unsigned(s[0]), unsigned(s[1]), strict=True)]
        for s in x
    ]


def sparse(rng, *shape):
    """Words of every size, with the edges among them."""
    out = words(rng, *shape) >> torch.from_numpy(rng.integers(0, 64, shape))
    flat = out.view(-1)
    for i, edge in enumerate((0, -1, 1, -(1 << 63), (1 << 63) - 1)):
        flat[i * 3 % len(flat)] = edge
    return out


@pytest.mark.parametrize("n", SIZES)
def test_forms(n, rng):
    x, m = sparse(rng, 3, 4, n), sparse(rng, 3, 2, n)
    x >>= 20
    for subtract in (False, True):
        found = value(z2k_128.pack(x, m, subtract))
        assert found == [
            [(a - b if subtract else a + b) % MODULUS for a, b in zip(*both, strict=True)]
            for both in zip(value(x), value(m), strict=True)
        ]
    loose = z2k_128.loosen(m)
    assert value(loose) == value(m)
    assert int(loose.min()) >= 0
    assert int(loose.max()) < 1 << 32
    assert torch.equal(z2k_128.pack(loose), m)
    assert z2k_128.pack(x[:0]).shape == (0, 2, n)


@pytest.mark.parametrize("n", SIZES)
def test_combinations(n, rng):
    z, a, x = sparse(rng, 3, 2, n), sparse(rng, 3, 2, n), sparse(rng, 3, 4, n) >> 20
    d, e = sparse(rng, n), sparse(rng, n)
    found = value(z2k_128.combine(z, x, d, a, e))
    alone = value(z2k_128.combine(None, x, d))
    assert value(z2k_128.scaled(a, e)) == value(z2k_128.combine(None, torch.zeros_like(x), d, a, e))
    u, v = unsigned(d), unsigned(e)
    for out, only, zs, xs, as_ in zip(found, alone, value(z), value(x), value(a), strict=True):
        assert out == [(p + q * i + r * j) % MODULUS for p, q, i, r, j in zip(zs, xs, u, as_, v, strict=True)]
        assert only == [q * i % MODULUS for q, i in zip(xs, u, strict=True)]


@pytest.mark.parametrize("n", SIZES)
def test_public_numbers(n, rng):
    factors, v, c, dealt = words(rng, 3), sparse(rng, n), sparse(rng, n), sparse(rng, 3, 2, 2 * n)
    for factor, alone, found, both in zip(
        unsigned(factors),
        value(z2k_128.affine(factors, v)),
        value(z2k_128.affine(factors, v, dealt, c)),
        value(dealt),
        strict=True,
    ):
        assert alone == [factor * i % MODULUS for i in unsigned(v)]
        terms = zip(unsigned(v), both[:n], both[n:], c.tolist(), strict=True)
        assert found == [(factor * i - q + (j if s >= 0 else 0)) % MODULUS for i, q, j, s in terms]


@pytest.mark.parametrize("holders", [2, 3])
@pytest.mark.parametrize("n", [1, 130, 5001])
def test_dealing(holders, n, rng):
    keys = KeySet([fresh_key() for _ in range(holders)])
    drawn = keys.draw(9, 4 * n).view(holders, 2, 2, n)
    sums = [sum(column) % MODULUS for column in zip(*value(drawn[:, 0]), strict=True)]
    assert value(z2k_128.total(keys, 9, n).unsqueeze(0)) == [sums]
    factor = int.from_bytes(rng.bytes(9)) % (3 << 64)
    for values in (sparse(rng, n), sparse(rng, 2, n)):
        out = torch.empty(2 * n, dtype=torch.int64)
        z2k_128.deal(keys, 9, 2 * n, values, factor, out)
        others = [sum(column) for column in zip(*value(drawn[:-1, 1]), strict=True)]
        plain = unsigned(values) if values.dim() == 1 else value(values.unsqueeze(0))[0]
        assert value(out.view(1, 2, n))[0] == [(factor * v - o) % MODULUS for v, o in zip(plain, others, strict=True)]


EDGES = [0, 1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65]


def products_of(rng, batch, m, n, k, left, ones=False):
    """Tight z of three sets, and what it should be after y is multiplied by d, of strided matrices."""
    rows, cols = ((m, k), (k, n)) if left else ((k, n), (m, k))
    d = words(rng, cols[1], batch, cols[0] + 1)[:, :, 1:].permute(1, 2, 0)
    y = words(rng, 3, rows[1] + 2, batch, 2, rows[0])[:, 2:].permute(0, 3, 2, 4, 1)
    z = words(rng, 3, 2, batch * m * n)
    if ones:
        d, y = torch.full_like(d, -1), torch.full_like(y, -1)
    expected = []
    for before, numbers in zip(value(z), y.reshape(3, 2, -1), strict=True):
        [flat] = value(numbers.unsqueeze(0))
        one = np.array(unsigned(d), dtype=object).reshape(d.shape)
        other = np.array(flat, dtype=object).reshape(batch, *rows)
        both = [a @ b for a, b in (zip(other, one, strict=True) if left else zip(one, other, strict=True))]
        found = np.array(both, dtype=object).reshape(-1) if k else [0] * (batch * m * n)
        expected.append([(p + int(q)) % MODULUS for p, q in zip(before, found, strict=True)])
    z2k_128.add_matmul(z, d, y, left=left)
    return value(z), expected


@pytest.mark.parametrize("left", [False, True])
@pytest.mark.parametrize("place", range(3))
def test_matrix_products(left, place, rng):
    """Every size at lengths about the widths of vectors, the others small."""
    for size in EDGES:
        sizes = [2, 3, 2]
        sizes[place] = size
        found, expected = products_of(rng, 2, *sizes, left)
        assert found == expected


@pytest.mark.parametrize("left", [False, True])
@pytest.mark.parametrize("k", [127, 128, 129, 1000, 1003])
def test_long_matrix_products(left, k, rng):
    for ones in (False, True):
        found, expected = products_of(rng, 1, 9, 5, k, left, ones)
        assert found == expected


def test_matrix_products_that_do_not_fit(rng):
    d, y, z = words(rng, 1, 3, 4), words(rng, 2, 2, 1, 5, 2), words(rng, 2, 2, 6)
    with pytest.raises(ValueError, match="products of"):
        z2k_128.add_matmul(z, d, y)
    with pytest.raises(ValueError, match="expected ring elements"):
        z2k_128.add_matmul(z[:, :, 1:], d[:, :, 1:], words(rng, 2, 2, 1, 3, 2))
    before = z.clone()
    z2k_128.add_matmul(z[:0], d, y[:0, :, :, 1:])
    assert torch.equal(z, before)


@pytest.mark.parametrize("n", [1, 500, 3000])
def test_sums_of_sets(n, rng):
    coins, low, high = words(rng, n), sparse(rng, n), sparse(rng, n)
    found = value(z2k_128.sums(coins, [(low, high), (low, None)]))
    both = [unsigned(low), unsigned(high)]
    for k in range(z2k_128.SUMS):
        chosen = [i for i, c in enumerate(unsigned(coins)) if c >> k & 1]
        assert found[0][k] == sum(both[0][i] + (both[1][i] << 64) for i in chosen) % MODULUS
        assert found[1][k] == sum(both[0][i] for i in chosen) % WORD
    assert z2k_128.sums(coins, []).shape == (0, 4, z2k_128.SUMS)


def key_set(holders):
    return KeySet([fresh_key() for _ in range(holders)], 0, holders - 1)


def drawn(keys, stream, corrections):
    """Shares [holders, n] and their sums [n] of what was dealt."""
    found = keys.draw(stream, len(corrections), corrections)
    return found, found.sum(0)


@pytest.mark.parametrize("holders", [2, 3])
@pytest.mark.parametrize("n", [1, 9, 511, 600, 4099])
def test_bits_of_a_mask(holders, n, rng):
    """What is dealt of r, the total of a stream: pairs of bits of 2 r and their products, with codes."""
    keys, alpha = key_set(holders), int(words(rng, 1))
    out = torch.empty(2 * 97 * n, dtype=torch.int64)
    z2k_128.leaves_deal(keys, 5, 7, n, alpha, out)
    doubled = [2 * v for v in unsigned(keys.total(5, n))]
    order = [int(f"{p:05b}"[::-1], 2) for p in range(32)]
    high, low = ([[v >> (2 * p + i) & 1 for v in doubled] for p in order] for i in (1, 0))
    both = [[h & w for h, w in zip(*row, strict=True)] for row in zip(high, low, strict=True)]
    expected = torch.tensor([*high, *low, *both, [v >> 64 for v in doubled]]).reshape(-1)
    for i, half in enumerate(out.split(97 * n)):
        assert torch.equal(drawn(keys, 7 + i, half)[1], expected * (alpha if i else 1))


@pytest.mark.parametrize("n", [1, 9, 511, 600])
def test_leaves_of_codes(n, rng):
    """The same combination of codes as of shares, with a holder's word of the key for a public 1."""
    keys, c, own = key_set(3), words(rng, n), words(rng, 3)
    corrections = [words(rng, 97 * n) for _ in range(2)]
    for stream, sent in zip((4, 9), corrections, strict=True):
        dealt = keys.draw(stream, 97 * n, sent).view(3, 97, n)
        high, low, both, [top] = dealt[:, :32], dealt[:, 32:64], dealt[:, 64:96], dealt[:, 96:].unbind(1)
        order = torch.tensor([int(f"{p:05b}"[::-1], 2) for p in range(32)]).unsqueeze(1)
        first, second = (1 - (c >> (2 * order) & 1)), (1 - (c << 1 >> (2 * order) & 1))
        less = first * high + first * second * low + second * both
        equal = first * second * own[:, None, None] + first * low + second * high + both
        found, last = z2k_128.leaves(keys, stream, sent, own, c)
        assert torch.equal(found, torch.cat([less, equal], 1).reshape(3, -1))
        assert torch.equal(last, top)


@pytest.mark.parametrize("holders", [2, 3])
@pytest.mark.parametrize("n", [1, 9, 170, 171, 511, 600, 1366, 4099])
def test_trees_of_bits(holders, n, rng):
    """2 c < 2 r of shared bits, mod 2, as Python compares; codes are alpha times the shares, mod 2^64."""
    keys, own = key_set(holders), words(rng, holders)
    alpha, ones = int(own.sum()), torch.tensor([1, *[0] * (holders - 1)])
    c, r = sparse(rng, n), keys.total(1, n)
    c[: n // 3] = r[: n // 3] ^ (torch.from_numpy(rng.integers(0, 4, n // 3)) << 30)
    out = torch.empty(2 * 97 * n, dtype=torch.int64)
    z2k_128.leaves_deal(keys, 1, 2, n, alpha, out)
    sent = out.split(97 * n)
    tree = [z2k_128.leaves(keys, 2 + i, sent[i], (ones, own)[i], c)[0] for i in range(2)]
    size, stream = 32 * n, 10
    while size > n:
        size, stream = size // 2, stream + 10
        assert torch.equal(tree[0].sum(0) * alpha, tree[1].sum(0))
        dealt = torch.empty(7 * size, dtype=torch.int64)
        z2k_128.join_deal(keys, stream, stream + 5, size, alpha, dealt)
        codes, *products = dealt.split([3 * size, 2 * size, 2 * size])
        masks = keys.draw(stream, 3 * size), keys.draw(stream + 1, 3 * size, codes)
        a, x, y = masks[0].sum(0).split(size)
        assert torch.equal(masks[1].sum(0), masks[0].sum(0) * alpha)
        for i in range(2):
            assert torch.equal(drawn(keys, stream + 5 + i, products[i])[1], (torch.cat([a & x, a & y]) & 1) * alpha**i)
        packed, rest, code = z2k_128.factors(keys, stream, codes, *tree)
        less0, _, equal0, equal1 = tree[0].split(size, 1)
        plain = torch.cat([equal1, less0, equal0], 1) - masks[0]
        assert torch.equal(rest, plain >> 1)
        assert torch.equal(packed, torch.stack([z2k.pack_bits(row) for row in plain]))
        less0, _, equal0, equal1 = tree[1].split(size, 1)
        assert torch.equal(code, torch.cat([equal1, less0, equal0], 1) - masks[1])
        opened = z2k_128.count_bits(packed, 3 * size)
        assert torch.equal(opened, (plain & 1).sum(0))
        under = ((stream, None), (stream + 1, codes))
        tree = [z2k_128.join(keys, under[i], (stream + 5 + i, products[i]), tree[i], opened) for i in range(2)]
    less, equal = (tree[0].sum(0) & 1).split(n)
    doubled, both = ([2 * v % WORD for v in unsigned(each)] for each in (r, c))
    assert less.tolist() == [int(v < w) for v, w in zip(both, doubled, strict=True)]
    assert equal.tolist() == [int(v == w) for v, w in zip(both, doubled, strict=True)]


def test_bits_where_no_holder_is(rng):
    nobody, none = KeySet([]), torch.empty((0, 4 * 9), dtype=torch.int64)
    assert [x.shape[0] for x in z2k_128.factors(nobody, 1, None, none, none)] == [0, 0, 0]
    assert [x.shape for x in z2k_128.leaves(nobody, 1, None, words(rng, 0), words(rng, 9))] == [(0, 64 * 9), (0, 9)]
    assert z2k_128.count_bits(none[:, :1], 9).shape == (0,)
