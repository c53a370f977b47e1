"""Comparisons of integers and of single steps.  The rest is in the table (op_cases.py)."""

import operator

import pytest
import torch
from op_checks import encrypted, parties

import pysmpc as sy

COMPARE = [operator.lt, operator.le, operator.gt, operator.ge, operator.eq, operator.ne]


@pytest.mark.parametrize("fn", COMPARE, ids=lambda f: f.__name__)
def test_integer_comparisons(fn):
    edge = (1 << 62) - 1
    a = torch.tensor([edge, -edge, edge, 0, -1, 5, edge, 1 - edge])
    b = torch.tensor([edge, -edge, -edge + 1, 0, 0, 4, edge - 1, -edge])
    x, y = sy.encrypt(a, parties()), sy.encrypt(b, parties())
    for out in (fn(x, y), fn(x, b), fn(a, y)):
        assert out.dtype == torch.bool
        assert torch.equal(sy.decrypt(out), fn(a, b))


def test_integers_between_real_bounds():
    a = torch.tensor([-3, 0, 1, 5])
    x = sy.encrypt(a, parties())
    for bounds in ((0, 3), (-0.5, 2.5), (None, 0.5)):
        found, expected = x.clamp(*bounds), a.clamp(*bounds)
        assert found.dtype == expected.dtype
        assert torch.equal(sy.decrypt(found), expected)


def test_thresholds():
    """A comparison is of the encoded values: no rounding turns it."""
    steps = torch.arange(-4, 5).double() / (1 << 16)
    x = encrypted(steps)
    for shift in (0, 1, -1, 3):
        assert torch.equal(sy.decrypt(x > shift / (1 << 16)), steps > shift / (1 << 16))
    product = x * encrypted(torch.full((9,), 2.0**-16))  # below a step until it is settled
    assert torch.equal(sy.decrypt(product > 0), steps > 0)
    assert torch.equal(sy.decrypt(product == 0), steps == 0)
