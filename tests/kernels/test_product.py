"""The matrix product of two secrets, one holder at a time, against integer arithmetic: strides,
positions, and positions of which some are public zeros."""

import threading

import numpy as np
import pytest
import torch
from kernel_oracles import WORD, dealt_share, drawn, stream_words, tensor, total, unsigned

from pysmpc.ring import product_kernels, z2k
from pysmpc.ring.matrix_layout import Layout
from pysmpc.ring.prg import KeySet, fresh_key

A, B, C = 1 << 20, (1 << 20) + 1, 1 << 21  # streams of the masks, and of the product


def strided(batch, height, width):
    """Transposed matrices a few words into a body."""
    return Layout([(height, 1)], [(width, height)], [(batch, height * width + 2)], 3), batch * (height * width + 2) + 3


def positions(batch, height, width):
    """Rows that are two axes, so that no one stride steps through them."""
    axes = [(height, 2 * width + 1)] if height % 2 else [(height // 2, 5 * width), (2, width)]
    layout = Layout(axes, [(width, 1)], [(batch, 0)], 1)
    return layout, 8 * (height + 1) * (width + 1)


def mapped(batch, height, width):
    """Every third position is a public zero; the others in some order, some of them twice."""
    n = batch * height * width
    found = torch.randint(0, n + 1, (n,))
    found[::3] = -1
    return Layout([(height, width)], [(width, 1)], [(batch, height * width)], 0, found), n + 1


def plain(batch, height, width):
    return Layout([(height, width)], [(width, 1)], [(batch, height * width)]), batch * height * width


def exchanged(batch, height, width):
    """Rows and columns 0, 2, 1, 3, 4, 6, 5, 7, ...: as of two channels whose words alternate, with windows of two."""

    def axes(n, step):
        return [(n // 4, 4 * step), (2, step), (2, 2 * step)] if n % 4 == 0 else [(n, step)]

    return Layout(axes(height, width), axes(width, 1), [(batch, height * width)]), batch * height * width


def integers(words):
    return np.array(unsigned(words), dtype=object)


def taken(layout, words):
    """[batch, height, width] integers of the matrices of a layout."""
    found = layout.take(words if isinstance(words, torch.Tensor) else tensor(words))
    return integers(found).reshape(found.shape)


def check(rng, make_x, make_y, batch, m, n, k, holders):
    (left, size_x), (right, size_y) = make_x(batch, m, k), make_y(batch, k, n)
    keys = [fresh_key() for _ in range(holders)]
    each = [KeySet([key], 0 if i == 0 else -1, 0 if i == holders - 1 else -1) for i, key in enumerate(keys)]
    x, y = (torch.from_numpy(rng.integers(-(1 << 63), 1 << 63, (holders, size))) for size in (size_x, size_y))
    masks = [(stream_words(key, A, size_x), stream_words(key, B, size_y)) for key in keys]
    d, e = (x.sum(0, keepdim=True), y.sum(0, keepdim=True))
    d = d - tensor(total(keys, A, size_x))
    e = e - tensor(total(keys, B, size_y))

    def product(x_words, x_open, y_words, y_open):
        return product_kernels.Product(
            product_kernels.Factor(x_words, x_open, A, left), product_kernels.Factor(y_words, y_open, B, right)
        )

    provider = product(*(z2k.empty(0, size) for size in (size_x, size_x, size_y, size_y)))
    corrections = torch.full((provider.size,), 7, dtype=torch.int64)
    provider.deal(KeySet(keys), C, corrections)
    whole = taken(left, total(keys, A, size_x)) @ taken(right, total(keys, B, size_y))
    dealt = np.array(drawn(keys, C, batch * m * n), dtype=object)
    assert unsigned(corrections) == [int(v) & WORD for v in whole.reshape(-1) - dealt]

    result = 0
    for i, holder in enumerate(each):
        own = product(x[i : i + 1].contiguous(), d, y[i : i + 1].contiguous(), e)
        z = own.combine(holder, C, corrections if i == holders - 1 else None)
        assert z.shape == (1, batch * m * n)
        c = np.array(dealt_share(keys, i, C, batch * m * n, unsigned(corrections)), dtype=object)
        if size_x <= size_y:  # its share of the mask of the smaller body is what a holder draws
            expected = taken(left, d[0]) @ taken(right, y[i]) + taken(left, masks[i][0]) @ taken(right, e[0])
        else:
            expected = taken(left, x[i]) @ taken(right, e[0]) + taken(left, d[0]) @ taken(right, masks[i][1])
        assert unsigned(z) == [int(v) & WORD for v in c + expected.reshape(-1)]
        result = result + z
    exact = taken(left, x.sum(0)) @ taken(right, y.sum(0))
    assert unsigned(result) == [int(v) & WORD for v in exact.reshape(-1)]


LAYOUTS = [strided, positions, mapped]


@pytest.mark.parametrize("make_y", LAYOUTS, ids=lambda f: f.__name__)
@pytest.mark.parametrize("make_x", LAYOUTS, ids=lambda f: f.__name__)
def test_layouts(make_x, make_y, rng):
    for batch, m, n, k in ((1, 5, 7, 9), (3, 4, 3, 2), (1, 1, 1, 1), (2, 16, 17, 33)):
        check(rng, make_x, make_y, batch, m, n, k, 2)


@pytest.mark.parametrize("holders", [1, 3, 5])
def test_holders(holders, rng):
    check(rng, strided, mapped, 2, 6, 5, 4, holders)


def together(rng, make_x, make_y, batch, m, n, k, holders, low=-(1 << 63)):
    """Holders in one process, whose products some targets compute in pairs."""
    (left, size_x), (right, size_y) = make_x(batch, m, k), make_y(batch, k, n)
    keys = KeySet([fresh_key() for _ in range(holders)], 0, holders - 1)
    x, y, d, e = (
        torch.from_numpy(rng.integers(low, 1 << 63 if low < -1 else 0, (rows, size)))
        for rows, size in ((holders, size_x), (holders, size_y), (1, size_x), (1, size_y))
    )
    own = product_kernels.Product(product_kernels.Factor(x, d, A, left), product_kernels.Factor(y, e, B, right))
    out = own.part(keys)
    if size_x <= size_y:
        x = keys.draw(A, size_x).reshape(holders, size_x)
    else:
        y = keys.draw(B, size_y).reshape(holders, size_y)
    public_x, public_y = taken(left, d[0]), taken(right, e[0])
    for i in range(holders):
        expected = taken(left, x[i]) @ public_y + public_x @ taken(right, y[i])
        assert unsigned(out[i]) == [int(v) & WORD for v in expected.reshape(-1)], (m, n, k, i)


@pytest.mark.parametrize("make_y", LAYOUTS, ids=lambda f: f.__name__)
@pytest.mark.parametrize("make_x", LAYOUTS, ids=lambda f: f.__name__)
def test_holders_in_one_process(make_x, make_y, rng):
    for batch, m, n, k in ((1, 5, 7, 9), (3, 4, 5, 2), (2, 16, 17, 33), (1, 4, 30, 100), (1, 30, 4, 1)):
        together(rng, make_x, make_y, batch, m, n, k, 2)
    together(rng, make_x, make_y, 1, 6, 9, 10, 5)


@pytest.mark.parametrize("make_y", [exchanged, plain], ids=lambda f: f.__name__)
@pytest.mark.parametrize("make_x", [exchanged, plain], ids=lambda f: f.__name__)
def test_four_words_of_which_only_the_first_and_last_are_in_order(make_x, make_y, rng):
    for batch, m, n, k in ((1, 8, 8, 4), (2, 16, 12, 100), (1, 9, 8, 8), (1, 8, 10, 12)):
        together(rng, make_x, make_y, batch, m, n, k, 2)
        check(rng, make_x, make_y, batch, m, n, k, 2)


def test_two_holders_in_blocks_of_two_threads(rng):
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        together(rng, positions, plain, 1, 70, 40, 60, 2)
        together(rng, plain, positions, 1, 40, 70, 60, 2)
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("holders", [1, 2, 3])
def test_products_of_nothing(holders, rng):
    """Bodies without words, which have no address; what is added to stays."""
    for batch, m, n, k in ((1, 5, 10, 0), (2, 4, 4, 0), (1, 1, 3, 0), (0, 5, 5, 5), (1, 0, 5, 6), (1, 5, 0, 6)):
        check(rng, plain, plain, batch, m, n, k, holders)
        together(rng, plain, plain, batch, m, n, k, holders)


@pytest.mark.parametrize("length", [1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 95, 96, 97, 1000, 1003])
def test_two_holders_at_lengths_around_vectors(length, rng):
    """Each side in turn; with words of which every bit is set."""
    for low in (-(1 << 63), -1):
        for m, n, k in ((length, 5, 6), (6, length, 5), (5, 6, length)):
            together(rng, plain, plain, 1, m, n, k, 2, low)
            together(rng, positions, plain, 1, m, n, k, 2, low)


@pytest.mark.parametrize("make_x", LAYOUTS, ids=lambda f: f.__name__)
def test_threads_agree(make_x, rng, threads):
    """Large enough to be split, over blocks of rows and of the inner dimension."""
    m, n, k = 130, 70, 900
    (left, size), right = make_x(1, m, k), Layout([(k, n)], [(n, 1)])
    keys = KeySet([fresh_key() for _ in range(2)], 0, 1)
    x, y = (torch.from_numpy(rng.integers(-(1 << 63), 1 << 63, (2, s))) for s in (size, k * n))
    d = x.sum(0, keepdim=True) - keys.total(A, size)
    e = y.sum(0, keepdim=True) - keys.total(B, k * n)
    found = []
    for count in (1, 2, 3):
        threads(count)
        product = product_kernels.Product(product_kernels.Factor(x, d, A, left), product_kernels.Factor(y, e, B, right))
        corrections = torch.empty(product.size, dtype=torch.int64)
        product.deal(keys, C, corrections)
        found.append(torch.cat([corrections.reshape(1, -1), product.combine(keys, C, corrections)]))
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])
    exact = left.take(x.sum(0))[0].numpy() @ y.sum(0).reshape(k, n).numpy()
    assert torch.equal(found[0][1:].sum(0), torch.from_numpy(exact).reshape(-1))


@pytest.mark.parametrize(("m", "n", "k"), [(7065, 4, 9), (6652, 50, 9), (1148, 16, 100)])
def test_the_last_block_has_room(m, n, k, rng):
    """A smaller last block may need more memory than a full one; that of a new thread is new, and a word too many
    is seen by the sanitizer."""
    left, size = positions(1, m, k)
    x, y = (torch.from_numpy(rng.integers(-(1 << 63), 1 << 63, (1, s))) for s in (size, k * n))
    keys, found = KeySet([fresh_key()], 0, 0), z2k.empty(1, m * n)

    def run():
        product = product_kernels.Product(
            product_kernels.Factor(x, x, A, left), product_kernels.Factor(y, y, B, Layout([(k, n)], [(n, 1)]))
        )
        found.copy_(product.part(keys))

    fresh = threading.Thread(target=run)
    fresh.start()
    fresh.join()
    masks = keys.draw(A, size), keys.draw(B, k * n)
    gathered, b = left.take(x[0])[0].numpy(), y.reshape(k, n).numpy()
    if size <= k * n:
        expected = gathered @ b + left.take(masks[0][0])[0].numpy() @ b
    else:
        expected = gathered @ b + gathered @ masks[1].reshape(k, n).numpy()
    assert torch.equal(found[0], torch.from_numpy(expected).reshape(-1))


def test_sizes_are_checked():
    a, b = Layout([(2, 3)], [(3, 1)]), Layout([(4, 2)], [(2, 1)])
    words = torch.zeros((1, 8), dtype=torch.int64)
    with pytest.raises(ValueError, match="do not fit"):
        product_kernels.Product(product_kernels.Factor(words, words, 0, a), product_kernels.Factor(words, words, 1, b))
