"""Convolutions and pooling against torch, values and gradients."""

import itertools

import pytest
import torch
import torch.nn.functional as F

import pysmpc as sy
from pysmpc.mpc.additive.comparison import relu_cost, select_cost
from pysmpc.mpc.additive.maxima import largest_cost
from pysmpc.mpc.additive.products import product_cost
from pysmpc.mpc.additive.sharing import reveal_cost
from pysmpc.ops import pooling

PARTIES = {n: sy.virtual(*(f"p{i}" for i in range(n))) for n in (2, 3)}
CLOSE = 2**-9


def close(secret, plain):
    torch.testing.assert_close(sy.decrypt(secret), plain.detach(), rtol=0, atol=CLOSE)


CASES = [  # n, in, height, width, out, kernel, stride, padding, dilation, groups
    (2, 3, 8, 9, 4, (3, 3), 1, 0, 1, 1),
    (2, 3, 8, 9, 4, (3, 3), 1, 1, 1, 1),
    (2, 4, 9, 9, 6, (3, 3), 2, 1, 1, 2),
    (1, 2, 10, 11, 2, (3, 2), (2, 1), (0, 1), (2, 1), 1),
    (3, 4, 7, 7, 8, (1, 1), 1, 0, 1, 4),
    (2, 1, 6, 6, 2, (5, 5), 1, 2, 1, 1),
    (2, 3, 7, 7, 4, (3, 3), 3, 2, 1, 1),
    (64, 3, 12, 12, 5, (5, 5), 1, 0, 1, 1),  # several gathered blocks
]


@pytest.mark.parametrize("holders", [2, 3])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_convolution_and_its_gradients(case, holders):
    n, inside, height, width, outside, kernel, stride, padding, dilation, groups = case
    options = (stride, padding, dilation, groups)
    plain = [
        torch.randn(n, inside, height, width),
        torch.randn(outside, inside // groups, *kernel) / 4,
        torch.randn(outside),
    ]
    secret = [sy.encrypt(p, PARTIES[holders]).requires_grad_() for p in plain]
    for p in plain:
        p.requires_grad_()
    expected, found = F.conv2d(*plain, *options), F.conv2d(*secret, *options)
    close(found, expected)
    direction = torch.randn_like(expected) / 8
    (expected * direction).sum().backward()
    (found * sy.encrypt(direction, PARTIES[holders])).sum().backward()
    for p, s in zip(plain, secret, strict=True):
        close(s.grad, p.grad)


@pytest.mark.parametrize("which", ["image", "weight"])
def test_convolution_with_one_public_operand(which):
    x, weight = torch.randn(2, 3, 8, 8), torch.randn(4, 3, 3, 3)
    hidden = {"image": (sy.encrypt(x, PARTIES[2]), weight), "weight": (x, sy.encrypt(weight, PARTIES[2]))}[which]
    before = PARTIES[2].stats.copy()
    found = F.conv2d(*hidden, padding=1)
    assert (PARTIES[2].stats - before).rounds == 0
    close(found, F.conv2d(x, weight, padding=1))


def test_convolution_in_one_and_three_dimensions():
    for dims in (1, 3):
        x, weight = torch.randn(2, 3, *[7] * dims), torch.randn(4, 3, *[3] * dims) / 4
        convolve = {1: F.conv1d, 3: F.conv3d}[dims]
        close(convolve(sy.encrypt(x, PARTIES[2]), sy.encrypt(weight, PARTIES[2])), convolve(x, weight))


def test_image_and_filter_are_opened_once():
    x, weight = sy.encrypt(torch.randn(2, 3, 8, 8), PARTIES[2]), sy.encrypt(torch.randn(4, 3, 3, 3), PARTIES[2])
    before = PARTIES[2].stats.copy()
    F.conv2d(x, weight, padding=1)
    F.conv2d(x, weight)
    spent = PARTIES[2].stats - before
    assert (spent.rounds, spent.sent) == (1, 8 * (x.numel() + weight.numel()))


@pytest.mark.parametrize("window", [(2, 2, 0), (3, 3, 0), (3, 2, 1), (3, 1, 1), (2, 1, 0)], ids=str)
@pytest.mark.parametrize("pool", [F.max_pool2d, F.avg_pool2d])
def test_pooling_and_its_gradient(pool, window):
    x = torch.randn(2, 3, 8, 9) - 2  # mostly negative: padding with zero would win
    secret = sy.encrypt(x, PARTIES[2]).requires_grad_()
    x.requires_grad_()
    expected, found = pool(x, *window), pool(secret, *window)
    close(found, expected)
    direction = torch.randn_like(expected)
    (expected * direction).sum().backward()
    (found * direction).sum().backward()
    close(secret.grad, x.grad)


def test_max_pool_positions():
    x = torch.randn(2, 3, 8, 9)
    expected = F.max_pool2d(x, 3, 2, 1, return_indices=True)
    found = F.max_pool2d(sy.encrypt(x, PARTIES[2]), 3, 2, 1, return_indices=True)
    close(found[0], expected[0])
    assert torch.equal(sy.decrypt(found[1]), expected[1])


def test_what_max_pooling_of_few_windows_costs():
    """All four candidates of a window at once; nothing for positions that nobody reads; a product back."""
    x = sy.encrypt(torch.randn(2, 3, 8, 8), PARTIES[2]).requires_grad_()
    n, stats = 2 * 3 * 4 * 4, PARTIES[2].stats
    before = stats.copy()
    y, where = F.max_pool2d(x, 2, return_indices=True)
    assert (stats - before).cost == largest_cost(2, 4, n)
    assert largest_cost(2, 4, n).rounds == 4
    before = stats.copy()
    y.backward(torch.ones(y.shape))
    assert (stats - before).cost == product_cost(2, 4 * n, 3 * n)
    before = stats.copy()
    sy.decrypt(where)
    assert (stats - before).cost == reveal_cost(2, n)


def test_what_max_pooling_costs(monkeypatch):
    """A ReLU of half the candidates a level; nothing for positions that nobody reads; a selection a level back."""
    monkeypatch.setattr(pooling, "FEW", 0)
    x = sy.encrypt(torch.randn(2, 3, 8, 8), PARTIES[2]).requires_grad_()
    n, stats = 2 * 3 * 4 * 4, PARTIES[2].stats
    before = stats.copy()
    y, where = F.max_pool2d(x, 2, return_indices=True)
    assert (stats - before).cost == relu_cost(2, 2 * n, False) + relu_cost(2, n, False)
    before = stats.copy()
    y.backward(torch.ones(y.shape))
    assert (stats - before).cost == select_cost(2, n, False) + select_cost(2, 2 * n, False)
    before = stats.copy()
    sy.decrypt(where)
    assert (stats - before).cost == select_cost(2, n, False) + reveal_cost(2, n)


@pytest.mark.parametrize("few", [0, 1 << 13], ids=["pairs", "groups"])
@pytest.mark.parametrize("window", [(2, 2, 0), (3, 2, 1), (2, 1, 0), (1, 1, 0), ((3, 2), 2, 0)], ids=str)
def test_the_first_of_equals_wins_a_window(window, few, monkeypatch):
    """Values, positions and gradients as torch's, of images in any order of memory, with one row or many holders."""
    monkeypatch.setattr(pooling, "FEW", few)
    values = torch.randint(0, 3, (2, 3, 8, 9)).double()
    for order in ((0, 1, 2, 3), (2, 3, 1, 0), (0, 2, 3, 1)):
        image = values.permute(*order).contiguous().permute(*(order.index(axis) for axis in range(4)))
        x = sy.encrypt(values.permute(*order).contiguous(), PARTIES[3])
        x = x.permute(*(order.index(axis) for axis in range(4))).detach().requires_grad_()
        image.requires_grad_()
        (found, where), (expected, there) = (F.max_pool2d(t, *window, return_indices=True) for t in (x, image))
        assert torch.equal(sy.decrypt(found), expected)
        assert torch.equal(sy.decrypt(where), there)
        direction = torch.randint(-4, 5, expected.shape).double()
        found.backward(direction)
        expected.backward(direction)
        assert torch.equal(sy.decrypt(x.grad), image.grad)


@pytest.mark.parametrize(
    "refused",
    [
        lambda x: torch.special.i1(x),
        lambda x: torch.special.i0(x),
    ],
)
def test_what_is_not_implemented_says_so(refused):
    with pytest.raises(NotImplementedError):
        refused(sy.encrypt(torch.randn(1, 3, 8, 8), PARTIES[2]))


@pytest.mark.parametrize("order", [(0, 2, 3, 1), (2, 3, 1, 0), (0, 3, 2, 1), (1, 2, 3, 0)], ids=str)
def test_images_in_any_order_of_memory(order):
    """A window's words follow one another in ways that depend on channels, sizes and the order: results do not."""
    back = tuple(order.index(axis) for axis in range(4))
    for channels, size in itertools.product((2, 3, 4), ((1, 2), (2, 1), (3, 3))):
        image, weight = (
            torch.randint(-8, 8, (1, channels, 6, 8)).double(),
            torch.randint(-4, 4, (5, channels, *size)).double(),
        )
        x = sy.encrypt(image.permute(order).contiguous(), PARTIES[2]).permute(back).detach().requires_grad_()
        w = sy.encrypt(weight, PARTIES[2]).requires_grad_()
        found, expected = F.conv2d(x, w), F.conv2d(image.requires_grad_(), weight.requires_grad_())
        direction = torch.randint(-2, 3, expected.shape).double()
        found.backward(direction)
        expected.backward(direction)
        for own, twin in ((found, expected), (x.grad, image.grad), (w.grad, weight.grad)):
            torch.testing.assert_close(sy.decrypt(own).double(), twin.detach(), rtol=0, atol=2**-14)
