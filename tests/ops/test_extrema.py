"""Maxima, minima, their positions and gradients."""

import math
from functools import partial

import pytest
import torch
from op_checks import check_op, encrypted, parties

import pysmpc as sy


def distinct(shape):
    """No two of equal magnitude, nor nearly: where equals share a gradient, torch divides it."""
    n = math.prod(shape)
    return ((torch.randperm(n) + 1) * (1 - 2 * torch.randint(0, 2, (n,))) * 0.25).double().reshape(shape)


check = partial(check_op, values=distinct)

SHAPES = [(1,), (2,), (7,), (3, 4), (2, 3, 5), (65,)]


@pytest.mark.parametrize("fn", [torch.max, torch.min], ids=lambda f: f.__name__)
def test_of_all(fn):
    check(fn, [*SHAPES, ()], steps=2)
    check(lambda x: fn(x) * x, [(7,), (3, 4)], steps=3)


@pytest.mark.parametrize("keepdim", [False, True])
@pytest.mark.parametrize("name", ["max", "min"])
def test_along(name, keepdim):
    def values(x):
        return getattr(x, name)(-1, keepdim=keepdim).values

    def first(x):
        return getattr(x, name)(0, keepdim=keepdim)[0]

    def where(x):
        return getattr(x, name)(0, keepdim=keepdim).indices

    for fn in (values, first):
        check(fn, SHAPES, steps=2)
    check(where, SHAPES, grad=False)
    check(where, SHAPES)


@pytest.mark.parametrize("name", ["argmax", "argmin"])
def test_positions(name):
    check(lambda x: getattr(x, name)(), SHAPES, grad=False)
    check(lambda x: getattr(x, name)(-1), SHAPES, grad=False)
    check(lambda x: getattr(x, name)(0, keepdim=True), SHAPES, grad=False)


def test_the_first_of_equals_wins():
    rows = torch.randint(0, 3, (40, 9)).double()
    for requires_grad in (False, True):
        x = encrypted(rows).requires_grad_(requires_grad)
        assert torch.equal(sy.decrypt(x.argmax(1)), rows.argmax(1))
        assert torch.equal(sy.decrypt(x.argmin(1)), rows.argmin(1))
        assert torch.equal(sy.decrypt(x.max(1).indices), rows.max(1).indices)
        assert torch.equal(sy.decrypt(x.min(1).indices), rows.min(1).indices)


def test_equal_to_a_maximum():
    """x == x.max() is what torch says: for ties, for views of x, and when a gradient is recorded."""
    a = torch.tensor([[1.0, 5.0, 2.0], [5.0, 0.0, 3.0], [0.5, 4.0, 2.5]])
    x = encrypted(a).requires_grad_()
    top, expected = x.max(), a.max()
    for view in (lambda v: v, lambda v: v.t(), lambda v: v[:2], lambda v: v.flatten()):
        assert torch.equal(sy.decrypt(view(x) == top), view(a) == expected)
    with torch.no_grad():
        assert torch.equal(sy.decrypt(x.t() == top), a.t() == expected)
        assert int(sy.decrypt((x == top).sum())) == 2


def test_gradients_through_views():
    check(lambda x: x.t().max(), [(3, 4)], steps=2)
    check(lambda x: x.t().max(0).values, [(3, 4)], steps=2)
    check(lambda x: x[1:].max() + x.min(), [(5,), (3, 4)], steps=3)
    check(lambda x: (x * x).max(1).values, [(3, 4)], steps=3, grad_steps=4)


def test_amax_and_amin():
    check(lambda x: x.amax(1), [(3, 4)], grad=False)
    check(lambda x: x.amin((0, 1), keepdim=True), [(3, 4)], grad=False)


def test_nothing_has_no_maximum():
    x = encrypted(torch.zeros(0))
    for fn in (torch.max, torch.min, torch.argmax, lambda v: v.max(0)):
        with pytest.raises((IndexError, RuntimeError)):
            fn(x)


def test_integers():
    a = torch.tensor([[5, -(1 << 50), 3], [7, 7, 1 << 50]])
    x = sy.encrypt(a, parties())
    assert torch.equal(sy.decrypt(x.max()), a.max())
    assert torch.equal(sy.decrypt(x.min(1).values), a.min(1).values)
    assert torch.equal(sy.decrypt(x.argmax(0)), a.argmax(0))
