"""Ring products against Python integers: odd shapes, strides, long sums, threads."""

import itertools

import numpy as np
import pytest
import torch
from kernel_oracles import WORD, tensor, unsigned

from pysmpc.ring import product_kernels, z2k

SIDES = [1, 2, 3, 5, 7, 8, 9, 15, 17, 31, 33, 65]
SHAPES = [
    *((m, n, k) for m, n, k in itertools.product([1, 3, 8, 17], repeat=3)),
    *((m, 4, 5) for m in SIDES),
    *((3, n, 5) for n in SIDES),
    *((3, 4, k) for k in SIDES),
    (1, 1, 513),
    (65, 1, 64),
    (1, 65, 64),
    (64, 10, 64),
    (33, 65, 31),
    (40, 129, 7),
    (5, 3, 1000),
]


def words(rng, *shape):
    return torch.from_numpy(rng.integers(-(1 << 63), 1 << 63, shape, dtype=np.int64))


def product(a, b):
    """a @ b in Python integers."""
    x = np.array(unsigned(a), dtype=object).reshape(a.shape)
    y = np.array(unsigned(b), dtype=object).reshape(b.shape)
    if a.shape[-1] == 0:
        return torch.zeros((a.shape[0], b.shape[1]), dtype=torch.int64)
    return tensor([int(v) & WORD for v in (x @ y).reshape(-1)]).reshape(a.shape[0], b.shape[1])


def layouts(rng, rows, cols):
    """The same kind of matrix in every memory layout that a window can have."""
    yield "row major", words(rng, rows, cols)
    yield "column major", words(rng, cols, rows).t()
    yield "slice", words(rng, rows + 3, cols + 5)[1 : rows + 1, 2 : cols + 2]
    yield "strided", words(rng, 2 * rows, 3 * cols)[::2, ::3]
    yield "transposed strided", words(rng, 3 * cols, 2 * rows)[::3, ::2].t()
    yield "one row", words(rng, 1, cols).expand(rows, cols)
    yield "one column", words(rng, rows, 1).expand(rows, cols)
    yield "one value", words(rng, 1, 1).expand(rows, cols)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_shapes(shape, rng):
    m, n, k = shape
    a, b, c = words(rng, m, k), words(rng, k, n), words(rng, m, n)
    expected = product(a, b)
    assert torch.equal(product_kernels.matmul(a, b, z2k.empty(m, n)), expected)
    assert torch.equal(product_kernels.matmul(a, b, c.clone(), accumulate=True), c + expected)


@pytest.mark.parametrize("shape", [(7, 9, 11), (33, 8, 17), (1, 65, 16)], ids=str)
def test_layouts(shape, rng):
    m, n, k = shape
    for (_, a), (_, b) in itertools.product(layouts(rng, m, k), layouts(rng, k, n)):
        start = words(rng, m, n)
        out = product_kernels.matmul(a, b, start.clone(), accumulate=True)
        assert torch.equal(out, start + product(a, b))


@pytest.mark.parametrize("shape", [(0, 3, 4), (3, 0, 4), (3, 4, 0), (0, 0, 0)], ids=str)
def test_nothing_to_sum(shape, rng):
    m, n, k = shape
    a, b, c = words(rng, m, k), words(rng, k, n), words(rng, m, n)
    assert torch.equal(product_kernels.matmul(a, b, words(rng, m, n)), torch.zeros((m, n), dtype=torch.int64))
    assert torch.equal(product_kernels.matmul(a, b, c.clone(), accumulate=True), c)


@pytest.mark.parametrize("k", [255, 256, 257, 1023, 1025, 4096, 20_000])
def test_long_sums_of_the_largest_digits(k):
    """Every limb at its maximum: an accumulator that is too narrow overflows here."""
    for value in (-1, 0x7F7F7F7F7F7F7F7F, -(0x0101010101010101 << 7), 1 << 63):
        word = z2k.wrap(value)
        a = torch.full((5, k), word, dtype=torch.int64)
        b = torch.full((k, 9), word, dtype=torch.int64)
        assert set(unsigned(product_kernels.matmul(a, b, z2k.empty(5, 9)))) == {k * word * word & WORD}


@pytest.mark.parametrize("batch", [(1,), (3,), (2, 3), (0,)], ids=str)
def test_batches(batch, rng):
    a, b = words(rng, *batch, 5, 7), words(rng, *batch, 9, 7).transpose(-1, -2)
    for left, right in ((a, b), (a[:1].expand(*a.shape) if batch[0] else a, b)):
        out = product_kernels.matmul(left, right, z2k.empty(*batch, 5, 9))
        for index in itertools.product(*(range(size) for size in batch)):
            assert torch.equal(out[index], product(left[index], right[index]))


@pytest.mark.parametrize("shape", [(96, 80, 784), (257, 130, 130), (64, 10, 9000), (4, 600, 2000)], ids=str)
def test_threads_agree(shape, rng, threads):
    """Large enough to be split; numpy's wrapping product is the oracle."""
    m, n, k = shape
    a, b, c = words(rng, m, k), words(rng, n, k).t(), words(rng, m, n)
    expected = torch.from_numpy(a.numpy() @ b.numpy())
    for count in (1, 2):
        threads(count)
        assert torch.equal(product_kernels.matmul(a, b, z2k.empty(m, n)), expected)
        assert torch.equal(product_kernels.matmul(a, b, c.clone(), accumulate=True), c + expected)


def test_shapes_are_checked(rng):
    a, b = words(rng, 3, 4), words(rng, 5, 6)
    with pytest.raises(ValueError, match="matmul of"):
        product_kernels.matmul(a, b, z2k.empty(3, 6))
    with pytest.raises(ValueError, match="matmul of"):
        product_kernels.matmul(a, words(rng, 4, 6), z2k.empty(6, 3))
    with pytest.raises(TypeError, match="contiguous"):
        product_kernels.matmul(a, words(rng, 4, 6), z2k.empty(6, 3).t())
