"""Numbers mod 2^132 in lanes: Python's integers are the oracle."""

import torch

from pysmpc import wide

MODULUS = 1 << 132


def numbers(rng, *shape):
    """Python integers of every size, with the edges among them."""
    size = int(torch.tensor(shape).prod())
    out = [int.from_bytes(rng.bytes(17)) % MODULUS >> int(rng.integers(0, 132)) for _ in range(size)]
    for i, edge in enumerate((0, MODULUS - 1, 1 << 131, 1 << 64, (1 << 64) - 1)):
        if i < size:
            out[i] = edge
    return out


def lanes(values):
    return torch.tensor([[(v >> (wide.BITS * j)) & wide.MASK for v in values] for j in range(wide.LANES)])


def integers(x):
    return [sum(int(x[j, i]) << (wide.BITS * j) for j in range(x.shape[0])) % MODULUS for i in range(x.shape[1])]


def words(rng, n):
    return torch.from_numpy(rng.integers(-(1 << 63), 1 << 63, n))


def test_sums_and_differences_carry(rng):
    a, b, c = numbers(rng, 50), numbers(rng, 50), numbers(rng, 50)
    x = wide.normal(lanes(a) - 5 * lanes(b) + (lanes(c) << 30))
    assert int(x.min()) >= 0
    assert int(x.max()) <= wide.MASK
    assert integers(x) == [(i - 5 * j + (k << 30)) % MODULUS for i, j, k in zip(a, b, c, strict=True)]


def test_words(rng):
    w = words(rng, 40)
    unsigned = [v % (1 << 64) for v in w.tolist()]
    assert integers(wide.extended(wide.split(w))) == unsigned
    assert torch.equal(wide.low(wide.extended(wide.split(w))), w)
    a = numbers(rng, 40)
    assert [v % (1 << 64) for v in wide.low(lanes(a)).tolist()] == [v % (1 << 64) for v in a]


def test_products(rng):
    a, w = numbers(rng, 60), words(rng, 60)
    expected = [(i * (j % (1 << 64))) % MODULUS for i, j in zip(a, w.tolist(), strict=True)]
    assert integers(wide.mul(lanes(a), wide.split(w))) == expected
    b = numbers(rng, 60)
    assert integers(wide.mul(lanes(a), lanes(b))) == [i * j % MODULUS for i, j in zip(a, b, strict=True)]


def test_packing_survives_sums(rng):
    rows = [numbers(rng, 30) for _ in range(5)]
    packed = sum(wide.pack(lanes(row)) for row in rows)
    assert integers(wide.normal(wide.unpack(packed))) == [sum(column) % MODULUS for column in zip(*rows, strict=True)]


def test_matrix_products(rng):
    m, k, n = 3, 40, 5
    d, y = words(rng, m * k), numbers(rng, k, n)
    out = torch.zeros(wide.LANES, 1, m, n, dtype=torch.int64)
    wide.matmul(wide.split(d).reshape(3, 1, m, k), lanes(y).reshape(wide.LANES, 1, k, n), out)
    found = integers(wide.normal(out.reshape(wide.LANES, m * n)))
    unsigned = [v % (1 << 64) for v in d.tolist()]
    assert found == [
        sum(unsigned[i * k + t] * y[t * n + j] for t in range(k)) % MODULUS for i in range(m) for j in range(n)
    ]
