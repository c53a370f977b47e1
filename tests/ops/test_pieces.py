"""Shrinking, signs, rounding, products, norms, distances, losses of classes, pools, transposed convolution."""

import pytest
import torch
from op_checks import check_op, encrypted, parties, plain
from torch.nn import functional as F

import pysmpc as sy


@pytest.mark.parametrize("function", [F.hardshrink, F.softshrink, F.relu6, F.hardtanh])
def test_straight_pieces(function):
    check_op(function, steps=1, low=-8, high=8)


def test_copysign():
    check_op(lambda x, y: torch.copysign(x, y), shapes=[[(3,), (3,)]], steps=1, grad=False)
    check_op(lambda x: torch.copysign(x, -1.0), steps=1, grad=False)


@pytest.mark.parametrize("function", [torch.fmax, torch.fmin])
def test_fmax_and_fmin(function):
    check_op(function, shapes=[[(2, 3), (3,)]], steps=1)
    with pytest.raises(NotImplementedError, match="NaN"):
        function(encrypted(torch.rand(2)), torch.tensor([0.0, float("nan")]))


def test_rounding_to_the_even_of_two():
    x = torch.tensor([-2.5, -1.5, -0.5, -0.25, 0.5, 0.75, 1.5, 2.5, 3.5, 100.5, 7.0])
    assert torch.equal(sy.decrypt(torch.round(encrypted(x))), torch.round(x))
    x = torch.tensor([-1234.0, 55.0, 1666.5])
    assert torch.equal(sy.decrypt(torch.round(encrypted(x), decimals=-2)), torch.round(x, decimals=-2))


def test_angle_and_nan_to_num():
    check_op(torch.angle, steps=2, grad=False)
    check_op(lambda x: torch.nan_to_num(x, 1.0), steps=0)


def test_products_of_all():
    check_op(lambda x: x.prod(), shapes=[(5,), (2, 3), (0,), ()], steps=24, grad_steps=60)
    check_op(lambda x: x.prod(-1, keepdim=True), shapes=[(2, 5), (3, 0)], steps=24, grad_steps=60)
    check_op(lambda x: x.cumprod(0), shapes=[(5, 2), (1, 2), ()], steps=24, grad=False)


@pytest.mark.parametrize("p", [0, 1, float("inf"), -float("inf")])
def test_norms(p):
    check_op(lambda x: torch.linalg.vector_norm(x, p, dim=-1), shapes=[(2, 5)], steps=2)


def test_distances():
    check_op(lambda x, y: torch.cdist(x, y, p=1.0), shapes=[[(3, 2), (4, 2)]], steps=4, grad_steps=8)
    check_op(lambda x: F.pdist(x, p=1.0), shapes=[(4, 2)], steps=4, grad_steps=8)


@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
def test_margins_of_classes(reduction):
    classes = torch.tensor([2, 0, 1])
    check_op(lambda x: F.multi_margin_loss(x, classes, reduction=reduction), shapes=[(3, 4)], steps=4, grad_steps=6)
    check_op(
        lambda x: F.multi_margin_loss(x, classes, p=2, reduction=reduction), shapes=[(3, 4)], steps=60, grad_steps=40
    )
    labels = torch.tensor([[3, 0, -1, 1], [0, -1, 2, 3], [-1, 0, 0, 0]])
    check_op(lambda x: F.multilabel_margin_loss(x, labels, reduction=reduction), shapes=[(3, 4)], steps=4, grad_steps=6)


POOLED = [
    (F.max_pool1d, (2, 9), (3,), {"stride": 2, "padding": 1, "dilation": 2}),
    (F.max_pool2d, (2, 5, 6), (2,), {"stride": 2, "ceil_mode": True}),
    (F.max_pool2d, (1, 2, 6, 6), (2,), {"dilation": 2}),
    (F.max_pool3d, (1, 2, 4, 4, 5), (2,), {}),
    (F.adaptive_max_pool2d, (2, 5, 7), ((3, 2),), {}),
    (F.adaptive_max_pool3d, (1, 3, 4, 5), ((2, 3, 2),), {}),
]


@pytest.mark.parametrize(("function", "shape", "arguments", "options"), POOLED)
def test_largest_of_windows(function, shape, arguments, options):
    check_op(lambda x: function(x, *arguments, **options), shapes=[shape], steps=1, low=-8, high=8)
    x = torch.randint(-3, 4, shape).float()  # ties: the first of equals
    secret, twin = encrypted(x).requires_grad_(True), x.clone().requires_grad_(True)
    options = options | {"return_indices": True}
    (values, where), (expected, places) = (function(t, *arguments, **options) for t in (secret, twin))
    assert torch.equal(sy.decrypt(where), places)
    weights = torch.randint(-3, 4, expected.shape).float()
    (values * weights).sum().backward()
    (expected * weights).sum().backward()
    assert torch.equal(plain(secret.grad).float(), twin.grad)


TRANSPOSED = [
    (F.conv_transpose1d, [(2, 4, 5), (4, 3, 3)], {"stride": 2, "padding": 1, "output_padding": 1}),
    (F.conv_transpose2d, [(1, 4, 3, 4), (4, 2, 2, 3)], {"groups": 2, "stride": (1, 2)}),
    (F.conv_transpose2d, [(1, 2, 3, 3), (2, 2, 2, 2)], {"dilation": 3, "output_padding": 2, "stride": 1}),
    (F.conv_transpose3d, [(1, 2, 2, 3, 2), (2, 1, 2, 2, 2)], {"stride": 2}),
]


@pytest.mark.parametrize(("function", "shapes", "options"), TRANSPOSED)
def test_transposed_convolution(function, shapes, options):
    check_op(lambda x, w: function(x, w, **options), shapes=[shapes], steps=20, grad_steps=20)


def test_contractions():
    check_op(torch.addbmm, shapes=[[(3, 2), (4, 3, 5), (4, 5, 2)]], steps=60, grad_steps=60)
    check_op(F.bilinear, shapes=[[(3, 2), (3, 4), (5, 2, 4)]], steps=60, grad_steps=60)
    check_op(lambda x: torch.var_mean(x, 0), shapes=[(5, 2)], steps=6, grad_steps=8)


IMAGE = torch.linspace(-3, 3, 24).reshape(1, 2, 3, 4) * torch.tensor([1.0, -1]).reshape(1, 2, 1, 1)
EVERYWHERE = {
    "largest": lambda x: F.adaptive_max_pool2d(x, 2),
    "resized": lambda x: F.interpolate(x, size=(2, 5), mode="bilinear"),
    "padded": lambda x: F.pad(x, (1, 2, 1, 1), mode="reflect"),
    "averages": lambda x: F.avg_pool2d(x, 2, ceil_mode=True),
    "transposed": lambda x: F.conv_transpose2d(x, torch.full((2, 1, 2, 2), 0.5)),
    "joined": lambda x: x.scatter_reduce(3, torch.tensor([0, 1, 0, 3]).expand(1, 2, 3, 4), x.flip(3), "amax"),
    "products": lambda x: x.prod(3),
    "rounded": torch.round,
    "distances": lambda x: torch.cdist(x[0], x[0].flip(1), p=1.0),
}


@pytest.mark.parametrize("options", [{"integrity": "mac"}, {"protocol": "fss"}, {"rounding": "nearest"}])
@pytest.mark.parametrize("name", EVERYWHERE)
def test_every_suite(name, options):
    secret = sy.encrypt(IMAGE, parties(), **options).requires_grad_(True)
    twin = sy.decrypt(secret).double().requires_grad_(True)
    found, expected = EVERYWHERE[name](secret), EVERYWHERE[name](twin.float() if name == "transposed" else twin)
    assert torch.allclose(plain(found), expected.double().detach(), atol=2**-11)
    found.sum().backward()
    expected.sum().backward()
    assert torch.allclose(plain(secret.grad), twin.grad, atol=2**-9)
