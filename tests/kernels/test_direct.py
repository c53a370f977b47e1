"""Products whose windows lie in runs of consecutive words, against integer arithmetic: every shape of a tile, runs that
end within a vector, maps with public zeros, runs along the contracted axis, one thread and several."""

import pytest
import torch

from pysmpc.ring import product_kernels
from pysmpc.ring.matrix_layout import Layout
from pysmpc.ring.prg import KeySet, fresh_key

A, B, C = 1 << 20, (1 << 20) + 1, 1 << 21  # streams of the masks, and of the product


def mapped(layout, n, rng):
    """The layout over the same words in another order, every fifth of them a public zero."""
    found = torch.from_numpy(rng.permutation(n))
    found[::5] = -1
    layout.map, layout.row, layout.col = found, 0, 0
    return layout


def agrees(left, size_x, right, size_y, rng, threads):
    """Of two holders in one process, on one thread and on three."""
    keys = KeySet([fresh_key() for _ in range(2)], 0, 1)
    x, y = (torch.from_numpy(rng.integers(-(1 << 63), 1 << 63, (2, size))) for size in (size_x, size_y))
    d = x.sum(0, keepdim=True) - keys.total(A, size_x)
    e = y.sum(0, keepdim=True) - keys.total(B, size_y)
    exact = left.take(x.sum(0)).numpy() @ right.take(y.sum(0)).numpy()
    whole = left.take(keys.total(A, size_x)).numpy() @ right.take(keys.total(B, size_y)).numpy()
    for count in (1, 3):
        threads(count)
        product = product_kernels.Product(product_kernels.Factor(x, d, A, left), product_kernels.Factor(y, e, B, right))
        corrections = torch.empty(product.size, dtype=torch.int64)
        product.deal(keys, C, corrections)
        assert torch.equal(product.combine(keys, C, corrections).sum(0), torch.from_numpy(exact).reshape(-1))
        assert torch.equal(product.masks(keys), torch.from_numpy(whole).reshape(-1))


@pytest.mark.parametrize("with_map", [False, True])
@pytest.mark.parametrize("m", [1, 2, 3, 4, 5, 6, 7, 13])
@pytest.mark.parametrize("run", [8, 13, 24, 41])
def test_lanes(m, run, with_map, rng, threads):
    batch, k, runs = 2, 5, 3
    size_x, step = batch * m * k, run + 3
    left = Layout([(m, k)], [(k, 1)], [(batch, m * k)])
    rows, reach = [(k, 2 * step)], 2 * step * k + runs * step
    right = Layout(rows, [(runs, step), (run, 1)], [(batch, reach)])
    size_y = batch * reach
    agrees(left, size_x, mapped(right, size_y, rng) if with_map else right, size_y, rng, threads)


@pytest.mark.parametrize("with_map", [False, True])
@pytest.mark.parametrize("m", [1, 2, 3, 4, 5, 6, 7, 13, 30])
@pytest.mark.parametrize("run", [32, 45, 1100])
def test_dots(m, run, with_map, rng, threads):
    batch, n, runs = 2, 7, 3
    step = run + 2
    size_x = batch * m * runs * run
    left = Layout([(m, runs * run)], [(runs * run, 1)], [(batch, m * runs * run)])
    reach = runs * step + n
    right = Layout([(runs, step), (run, 1)], [(n, 1)], [(batch, reach)])
    size_y = batch * reach
    if with_map:
        left, right = mapped(Layout([(m, runs * run)], [(runs, run), (run, 1)], [(batch, 0)]), size_x, rng), right
        left.rows, left.cols = torch.arange(m) * runs * run, torch.arange(runs * run)
        right = mapped(right, size_y, rng)
    agrees(left, size_x, right, size_y, rng, threads)


@pytest.mark.parametrize("with_map", [False, True])
@pytest.mark.parametrize("run", [1, 7, 8, 41])
def test_blocks(run, with_map, rng, threads):
    """More rows than are multiplied where they lie; more columns, and more of the inner axis, than a block has."""
    batch, m, k = 2, 67, 390
    runs, step = 300 // run, run + 3
    left = Layout([(m, k)], [(k, 1)], [(batch, m * k)])
    right = Layout([(k, 2)], [(runs, step), (run, 1)], [(batch, 5)])
    right.rows, right.cols = torch.arange(k) * 2, (torch.arange(runs)[:, None] * step + torch.arange(run)).reshape(-1)
    size_y = 2 * k + runs * step + 5
    agrees(left, batch * m * k, mapped(right, size_y, rng) if with_map else right, size_y, rng, threads)


@pytest.mark.parametrize("run", [1, 7, 40])
def test_blocks_of_rows(run, rng, threads):
    """The first factor is gathered, the second is not; and more columns than threads leave whole."""
    batch, n, k = 1, 90, 400
    runs, step = 200 // run, run + 1
    left = Layout([(runs, step), (run, 1)], [(k, 3)], [(batch, 0)])
    left.rows, left.cols = (torch.arange(runs)[:, None] * step + torch.arange(run)).reshape(-1), torch.arange(k) * 3
    right = Layout([(k, n)], [(n, 1)], [(batch, k * n)])
    agrees(left, runs * step + 3 * k, right, k * n, rng, threads)
