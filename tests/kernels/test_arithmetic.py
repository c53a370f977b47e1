"""Elementwise kernels and Beaver combines against Python integers."""

import pytest
import torch
from kernel_oracles import LENGTHS, TILES, WORD, Guarded, samples, unsigned

from pysmpc import _beaver, _ring, ring
from pysmpc.prg import KeySet, fresh_key

BINARY = {
    "add": (_ring.add, lambda x, y: x + y),
    "sub": (_ring.sub, lambda x, y: x - y),
    "mul": (_ring.mul, lambda x, y: x * y),
}


def ints(rng, n):
    return dict(samples(rng, n))["random"]


@pytest.mark.parametrize("n", LENGTHS)
@pytest.mark.parametrize("name", BINARY)
def test_binary(name, n, rng):
    kernel, oracle = BINARY[name]
    for (_, x), (_, y) in zip(samples(rng, n), samples(rng, n), strict=True):
        expected = [oracle(a, b) & WORD for a, b in zip(x, y, strict=True)]
        for offset in (0, 1, 3):
            a, b, out = Guarded(x, offset), Guarded(y, 2 * offset), Guarded([0] * n, offset)
            kernel(a.address, b.address, out.address, n)
            assert out.values() == expected
            kernel(a.address, b.address, b.address, n)
            assert b.values() == expected
            again = Guarded(y, 2 * offset)
            kernel(a.address, again.address, a.address, n)
            assert a.values() == expected


@pytest.mark.parametrize("n", LENGTHS)
@pytest.mark.parametrize("factor", [0, 1, 3, WORD, 1 << 63, 0x9E3779B97F4A7C15])
def test_scale(factor, n, rng):
    for _, x in samples(rng, n):
        a = Guarded(x, 1)
        _ring.scale(a.address, factor, a.address, n)
        assert a.values() == [factor * v & WORD for v in x]


@pytest.mark.parametrize("n", LENGTHS)
@pytest.mark.parametrize("rows", [1, 2, 3, 5])
def test_rows(rows, n, rng):
    x = ints(rng, rows * n)
    source, out = Guarded(x, 1), Guarded([0] * n, 3)
    columns = [x[i::n] for i in range(n)]
    _ring.rows_sum(source.address, rows, out.address, n)
    assert out.values() == [sum(column) & WORD for column in columns]
    _ring.rows_xor(source.address, rows, out.address, n)
    for i, value in enumerate(out.values()):
        expected = 0
        for v in columns[i]:
            expected ^= v
        assert value == expected
    assert source.values() == x


def test_no_rows_no_sum():
    assert ring.rows_sum(ring.empty(0, 5)).shape == (0, 5)
    assert ring.rows_xor(ring.empty(0, 5)).shape == (0, 5)


@pytest.mark.parametrize("n", LENGTHS + TILES)
def test_beaver(n, rng):
    keys = KeySet([fresh_key(), fresh_key()], lead=0, target=1)
    draw = {"random": lambda k: ints(rng, k), "ones": lambda k: [WORD] * k}
    for kind in draw.values():
        d, e, y, a, z = kind(n), kind(n), kind(2 * n), kind(2 * n), kind(2 * n)
        buffers = [Guarded(v, 1) for v in (d, y, a, e, z)]
        _beaver.beaver_mul(keys.native, *(b.address for b in buffers), n)
        assert buffers[-1].values() == [(z[i] + d[i % n] * y[i] + a[i] * e[i % n]) & WORD for i in range(2 * n)]
        buffers = [Guarded(v, 1) for v in (d, y, a, z)]
        _beaver.beaver_square(keys.native, *(b.address for b in buffers), n)
        assert buffers[-1].values() == [(z[i] + d[i % n] * (y[i] + a[i])) & WORD for i in range(2 * n)]


@pytest.mark.parametrize(
    "call",
    [
        lambda: ring.add(torch.zeros(3), torch.zeros(3)),
        lambda: ring.add(torch.zeros(3, dtype=torch.int64), torch.zeros(4, dtype=torch.int64)),
        lambda: ring.add(torch.zeros((3, 3), dtype=torch.int64).t(), torch.zeros((3, 3), dtype=torch.int64)),
        lambda: ring.sub(torch.zeros(3, dtype=torch.int64), torch.zeros(3, dtype=torch.int32)),
    ],
)
def test_what_kernels_do_not_take_is_refused(call):
    with pytest.raises((TypeError, ValueError)):
        call()


def test_wrap():
    assert ring.wrap(1 << 63) == -(1 << 63)
    assert ring.wrap(-1) == -1
    assert ring.wrap((1 << 64) + 5) == 5
    assert unsigned(torch.tensor([ring.wrap(WORD)])) == [WORD]
