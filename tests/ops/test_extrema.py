"""Maxima and minima of equals, of nothing, of integers.  The rest is in the table (op_cases.py)."""

import pytest
import torch
from op_checks import encrypted, parties

import pysmpc as sy


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
