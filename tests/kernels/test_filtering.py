"""Convolutions of 3 x 3 by fewer products, against integer arithmetic: both ways through windows, sizes around tiles
of three and vectors of sixteen, blocks of filters, channels and tiles, all orders of memory; and what only looks like
windows."""

import numpy as np
import pytest
import torch
from kernel_oracles import once, unsigned

from pysmpc.mpc.additive import convolution_products as convolutions
from pysmpc.mpc.additive.convolution_products import Geometry
from pysmpc.ring import product_kernels
from pysmpc.ring.prg import KeySet, fresh_key
from pysmpc.ring.shares import dense_strides

A, B, C = 1 << 20, (1 << 20) + 1, 1 << 21  # streams of the masks, and of the product


def agrees(left, size_x, right, size_y, rng, holders=2, low=-(1 << 63)):
    """Of holders in one process; int64 arithmetic of numpy wraps around."""
    keys = KeySet([fresh_key() for _ in range(holders)], 0, holders - 1)
    high = 1 << 63 if low < -1 else 0
    x, y = (torch.from_numpy(rng.integers(low, high, (holders, size))) for size in (size_x, size_y))
    d = x.sum(0, keepdim=True) - keys.total(A, size_x)
    e = y.sum(0, keepdim=True) - keys.total(B, size_y)
    product = product_kernels.Product(product_kernels.Factor(x, d, A, left), product_kernels.Factor(y, e, B, right))
    corrections = torch.empty(product.size, dtype=torch.int64)
    product.deal(keys, C, corrections)
    found = product.combine(keys, C, corrections).sum(0)
    a, masks = left.take(x.sum(0)), left.take(keys.total(A, size_x))
    some = rows_of(a.shape[-2], rng)
    exact = a[..., some, :].numpy() @ right.take(y.sum(0)).numpy()
    whole = masks[..., some, :].numpy() @ right.take(keys.total(B, size_y)).numpy()
    for one, other in ((found, exact), (product.masks(keys), whole), (product.part(keys).sum(0), exact - whole)):
        assert torch.equal(one.view(*a.shape[:-1], -1)[..., some, :], torch.from_numpy(other))


def rows_of(count, rng):
    """At most 16 of so many: the first, the last, those beside the ends of blocks, and others."""
    if count <= 16:
        return list(range(count))
    ends = {i for end in (0, 64, 128, count) for i in (end - 1, end) if 0 <= i < count}
    return sorted(ends | set(rng.choice(count, 16 - len(ends), replace=False).tolist()))


def layouts(which, n, channels, filters, space, padding=1, stride=1, dilation=1, groups=1, order=None):
    """Both layouts and how many words their bodies have, of the product that a convolution or a gradient of it is."""
    g = Geometry(space, (3, 3), (stride,) * 2, (padding,) * 2, (dilation,) * 2, groups)
    shapes = {
        "image": (n, channels, *space),
        "filter": (filters, channels // groups, 3, 3),
        "result": (n, filters, *g.out),
    }

    def of(layout, name):
        shape = shapes[name]
        strides = dense_strides(shape)
        if name != "filter" and order:  # e.g. with the batch innermost
            steps = dense_strides(tuple(shape[i] for i in order))
            strides = tuple(steps[order.index(i)] for i in range(4))
        return layout(g, shape, strides, 0), int(np.prod(shape))

    if which == "results":
        return *of(convolutions.filters, "filter"), *of(convolutions.windows, "image")
    if which == "image":
        return *of(convolutions.channels, "filter"), *of(convolutions.reversed_windows, "result")
    return *of(convolutions.outputs, "result"), *of(convolutions.windows_turned, "image")


KINDS = ["results", "image", "filter"]
MANY = {"results": (16, 17), "image": (17, 16), "filter": (64, 65)}  # channels and filters from which on it is used


@pytest.mark.parametrize("order", [None, (1, 2, 3, 0), (0, 2, 3, 1)], ids=["as written", "batch last", "channels last"])
@pytest.mark.parametrize("which", KINDS)
def test_orders_of_memory(which, order, rng):
    """288 tiles, of which those at two edges stick out."""
    agrees(*layouts(which, 8, *MANY[which], (17, 17), order=order), rng)


@pytest.mark.parametrize("which", KINDS)
def test_sizes_around_tiles_and_vectors(which, rng):
    """Whole tiles, and tiles that stick out below, at the side, and at both."""
    for n, height, width in ((9, 15, 18), (18, 9, 16), (11, 12, 20)):
        more = 0 if which == "image" else 2
        agrees(*layouts(which, n, *MANY[which], (height + more, width + more), padding=0), rng)
    for channels, filters in ((31, 18), (65, 16), (16, 130)) if which != "filter" else ((64, 81), (130, 64)):
        agrees(*layouts(which, 16, channels, filters, (12, 12)), rng)


@pytest.mark.parametrize("which", KINDS)
def test_blocks_of_threads(which, rng, threads):
    """Holders in pairs and alone; words of which every bit is set."""
    for count, holders, low in ((1, 3, -(1 << 63)), (2, 2, -1), (3, 1, -(1 << 63))):
        threads(count)
        agrees(*layouts(which, 8, *MANY[which], (18, 18), order=(1, 2, 3, 0)), rng, holders, low)


@pytest.mark.parametrize("which", KINDS)
def test_groups(which, rng):
    channels, filters = MANY[which]
    agrees(*layouts(which, 8, 2 * channels, 2 * filters, (18, 18), groups=2), rng)


@once  # which positions are windows is found by the same code on every target
@pytest.mark.parametrize("which", KINDS)
@pytest.mark.parametrize("options", [{"stride": 2}, {"dilation": 2}, {"stride": 2, "dilation": 2}], ids=str)
def test_windows_that_move_otherwise(which, options, rng):
    """As many tiles as would do."""
    side = 24 if "stride" not in options else 48
    agrees(*layouts(which, 4, *MANY[which], (side, side), padding=options.get("dilation", 1), **options), rng)


@once
@pytest.mark.parametrize("turned", [False, True])
def test_positions_that_are_windows_but_for_one(turned, rng):
    """Positions of taps and of places in turn are others: nothing follows from those beside them."""
    which = "filter" if turned else "results"
    left, size_x, right, size_y = layouts(which, 8, *MANY[which], (20, 20), padding=0)  # 288 tiles, all of them full
    rows, cols, right.row_run, right.col_run = right.rows, right.cols, 1, 1
    for name, found in (("rows", rows), ("cols", cols)):
        for i in (2, len(found) - 1, *rng.integers(len(found), size=1 if turned else 4)):
            changed = found.clone()
            changed[i] = int(rng.integers(int(found.max()) + 1))
            setattr(right, name, changed)
            agrees(left, size_x, right, size_y, rng)
            setattr(right, name, found)


def test_python_integers(rng):
    """A whole convolution, and nothing of numpy's."""
    left, size_x, right, size_y = layouts("results", 16, 16, 16, (12, 12))
    keys = KeySet([fresh_key()], 0, 0)
    x, y = (torch.from_numpy(rng.integers(-(1 << 63), 1 << 63, (1, size))) for size in (size_x, size_y))
    product = product_kernels.Product(
        product_kernels.Factor(x, x, A, left), product_kernels.Factor(y, torch.zeros_like(y), B, right)
    )
    found = unsigned(product.part(keys))  # x @ 0 + x @ y or mask @ 0 + x @ y
    images, filters = unsigned(y[0]), unsigned(x[0])
    for f, i, j, n in ((int(rng.integers(16)), i, j, int(rng.integers(16))) for i in range(12) for j in range(12)):
        exact = sum(
            filters[f * 144 + c * 9 + 3 * a + b] * images[((n * 16 + c) * 12 + i + a - 1) * 12 + j + b - 1]
            for c in range(16)
            for a in range(3)
            for b in range(3)
            if 0 <= i + a - 1 < 12 and 0 <= j + b - 1 < 12
        )
        assert found[f * 2304 + (i * 12 + j) * 16 + n] == exact % (1 << 64)
