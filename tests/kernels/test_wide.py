"""Numbers mod 2^128: Python's integers are the oracle."""

import numpy as np
import pytest
import torch

from pysmpc.ring import z2k_128
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


@pytest.mark.parametrize("n", [1, 9, 600])
def test_trees_of_bits(n, rng):
    """2 c < 2 r of shared bits, mod 2, as Python compares."""
    c, r = sparse(rng, n), sparse(rng, n)
    c[: n // 3] = r[: n // 3] ^ (torch.from_numpy(rng.integers(0, 4, n // 3)) << 30)
    order = [int(f"{p:05b}"[::-1], 2) for p in range(32)]
    doubled = [2 * v % WORD for v in unsigned(r)]
    pairs = [[(v >> (2 * p + 1) & 1, v >> (2 * p) & 1) for v in doubled] for p in order]
    bits = [[h for h, _ in row] for row in pairs], [[w for _, w in row] for row in pairs]
    plain = torch.tensor([*bits[0], *bits[1], *[[h & w for h, w in row] for row in pairs], [0] * n]).reshape(-1)

    def shared(values):
        one = words(rng, len(values))
        return torch.stack([one, values - one])

    tree = z2k_128.leaves(torch.tensor([1, 0]), c, shared(plain))
    size = 32 * n
    while size > n:
        size //= 2
        masks = words(rng, 2, 3 * size)
        a, x, y = masks.sum(0).split(size)
        less0, _, equal0, equal1 = tree.split(size, 1)
        opened = (torch.cat([equal1, less0, equal0], 1) - masks).sum(0) & 1
        tree = z2k_128.join(tree, masks, opened, shared(torch.cat([a & x, a & y]) & 1))
    less, equal = (tree.sum(0) & 1).split(n)
    both = [2 * v % WORD for v in unsigned(c)]
    assert less.tolist() == [int(v < w) for v, w in zip(both, doubled, strict=True)]
    assert equal.tolist() == [int(v == w) for v, w in zip(both, doubled, strict=True)]
