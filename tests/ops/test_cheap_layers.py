"""pysmpc.nn: layers that cost less on secrets, against themselves on plain tensors, and what they save."""

import pytest
import torch
from op_checks import encrypted, parties, plain, twins
from torch import nn

import pysmpc as sy

LAYERS = {
    "square": sy.nn.Square,
    "polynomial": sy.nn.Polynomial,
    "cubic": lambda: sy.nn.Polynomial((0.1, 0.5, 0.2, -0.05)),
    "gelu": sy.nn.QuadraticGELU,
    "relu softmax": sy.nn.ReLUSoftmax,
    "along columns": lambda: sy.nn.ReLUSoftmax(dim=1),
    "quadratic softmax": sy.nn.QuadraticSoftmax,
    "attention": lambda: sy.nn.Attention(6, 2),
    "quadratic attention": lambda: sy.nn.Attention(6, 2, sy.nn.QuadraticSoftmax()),
}


@pytest.mark.parametrize("name", LAYERS)
def test_values_and_gradients(name):
    secret, twin = twins(LAYERS[name]())
    x = 2 * torch.randn(2, 5, 6)
    if "softmax" in name or "columns" in name:
        x[:, 0] = x[:, 0].abs()
        x[..., 0] = x[..., 0].abs() + 0.5  # no row without a part of some size, at which slopes are those of 1 / eps
    mine, theirs = encrypted(x).requires_grad_(), plain(encrypted(x)).double().requires_grad_()
    found, expected = secret(mine), twin(theirs)
    assert (plain(found.detach()) - expected).abs().max() < 2**-9
    weights = torch.rand(expected.shape)
    (found * weights).sum().backward()
    (expected * weights.double()).sum().backward()
    for a, b in zip([mine, *secret.parameters()], [theirs, *twin.parameters()], strict=True):
        assert (plain(a.grad) - b.grad).abs().max() < 2**-6 * max(1, float(b.grad.abs().max()))


@pytest.mark.parametrize("make", [sy.nn.ReLUSoftmax, sy.nn.QuadraticSoftmax])
def test_rows_add_up_and_masks_count(make):
    x, mask = torch.randn(3, 4, 4), torch.ones(4, 4).tril()
    weights = plain(make()(encrypted(x), mask))
    assert not bool(weights[:, mask == 0].any())
    assert bool((weights >= -(2.0**-15)).all())
    assert bool((weights.sum(-1) < 1.005).all())
    nothing = plain(sy.nn.ReLUSoftmax()(encrypted(-torch.rand(2, 3) - 0.1)))
    assert not bool(nothing.any())


def rounds(function, x):
    before = parties().stats.copy()
    function(encrypted(x)).cell.settle()
    return (parties().stats - before).rounds


def test_what_they_save():
    """Rounds, with the truncation of the result: fewer than those of what they replace."""
    x = torch.randn(4, 64)
    functions = {
        "relu": torch.relu,
        "square": sy.nn.Square(),
        "gelu": nn.GELU(),
        "quadratic gelu": sy.nn.QuadraticGELU(),
        "softmax": nn.Softmax(-1),
        "relu softmax": sy.nn.ReLUSoftmax(),
        "quadratic softmax": sy.nn.QuadraticSoftmax(),
    }
    counts = {name: rounds(function, x) for name, function in functions.items()}
    assert counts["square"] == counts["quadratic gelu"] == 2
    assert (counts["relu"], counts["gelu"], counts["softmax"]) == (4, 5, 25)
    assert counts["relu softmax"] <= 14
    assert counts["quadratic softmax"] <= 13


def test_refusals():
    with pytest.raises(ValueError, match="two coefficients"):
        sy.nn.Polynomial((1.0,))
    with pytest.raises(ValueError, match="eps has to be above 0"):
        sy.nn.ReLUSoftmax(eps=0.0)
    with pytest.raises(ValueError, match="7 features"):
        sy.nn.Attention(7, 2)
