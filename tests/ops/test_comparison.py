"""Comparisons, logic, and what is decided by a sign."""

import operator

import pytest
import torch
from op_checks import check_op, encrypted, parties
from torch.nn import functional as F

import pysmpc as sy

COMPARE = [operator.lt, operator.le, operator.gt, operator.ge, operator.eq, operator.ne]


def coarse(shape):
    """Few values, so that equal ones meet; all are representable in every encoding."""
    return torch.randint(-3, 4, shape).double() / 2


@pytest.mark.parametrize("fn", COMPARE, ids=lambda f: f.__name__)
def test_comparisons(fn):
    check_op(fn, [[(9,), (9,)], [(2, 5), (5,)], [(0,), (0,)], [(), ()]], values=coarse, grad=False)
    for k in (0, 0.5, -1, 1):
        check_op(lambda x: fn(x, k), [(9,), ()], values=coarse, grad=False)  # noqa: B023
        check_op(lambda x: fn(k, x), [(9,)], values=coarse, grad=False)  # noqa: B023
    plain = torch.tensor([0.0, 0.5, -0.5], dtype=torch.float64)
    check_op(lambda x: fn(x, plain), [(3,), (4, 3)], values=coarse, grad=False)
    check_op(lambda x: fn(plain, x), [(3,)], values=coarse, grad=False)


@pytest.mark.parametrize("fn", COMPARE, ids=lambda f: f.__name__)
def test_integer_comparisons(fn):
    edge = (1 << 62) - 1
    a = torch.tensor([edge, -edge, edge, 0, -1, 5, edge, 1 - edge])
    b = torch.tensor([edge, -edge, -edge + 1, 0, 0, 4, edge - 1, -edge])
    x, y = sy.encrypt(a, parties()), sy.encrypt(b, parties())
    for out in (fn(x, y), fn(x, b), fn(a, y)):
        assert out.dtype == torch.bool
        assert torch.equal(sy.decrypt(out), fn(a, b))


def test_logic():
    a, b = torch.tensor([True, True, False, False]), torch.tensor([True, False, True, False])
    x, y = sy.encrypt(a, parties()), sy.encrypt(b, parties())
    s = sy.encrypt(b.double() - 0.5, parties()) > 0
    for fn in (torch.logical_and, torch.logical_or, torch.logical_xor, operator.and_, operator.or_, operator.xor):
        for second in (y, b, s):
            out = fn(x, second)
            assert out.dtype == torch.bool
            assert torch.equal(sy.decrypt(out), fn(a, b))
    for fn in (torch.logical_not, operator.invert):
        for v, plain in ((x, a), (s, b)):
            assert torch.equal(sy.decrypt(fn(v)), fn(plain))
            assert torch.equal(sy.decrypt(fn(fn(v))), plain)
    assert torch.equal(sy.decrypt(torch.logical_and(encrypted(torch.ones(4)), x)), a)


def test_relu():
    check_op(F.relu, [(9,), (2, 5), (0,), (), (65,)])
    check_op(torch.relu, [(9,)], values=coarse)  # zeros among them: the slope there is 0
    check_op(lambda x: F.relu(x * x - 1), [(9,), (2, 5)], steps=2, grad_steps=4)
    check_op(lambda x: F.relu(x).t(), [(3, 4)])
    check_op(lambda x: F.relu(x.t()) * 2, [(3, 4)], steps=2)
    check_op(lambda x: F.relu(x)[1:] * x[1:], [(5,)], steps=2)
    check_op(F.hardtanh, [(9,)], low=-3, high=3, steps=2)
    check_op(F.relu6, [(9,)], low=-9, high=9, steps=2)


def test_abs_and_sign():
    check_op(torch.abs, [(9,), (2, 5), (0,), ()])
    check_op(torch.abs, [(9,)], values=coarse)
    check_op(torch.sign, [(9,), (2, 5), (0,), ()], values=coarse)
    check_op(abs, [(3,)])


def test_clamp():
    for low, high in ((-1, 1), (None, 0.5), (-0.5, None), (0, 0)):
        check_op(lambda x: x.clamp(low, high), [(9,), (2, 5), (0,), ()], steps=2)  # noqa: B023
    check_op(lambda x: x.clamp(-1, 1), [(9,)], values=coarse, steps=2)
    check_op(lambda x: x.clamp_min(0.25), [(9,)], steps=2)
    check_op(lambda x: x.clamp_max(0.25), [(9,)], steps=2)
    bounds = torch.tensor([-0.5, 0.0, 0.5]), torch.tensor([0.5, 0.5, 1.0])
    check_op(lambda x: torch.clamp(x, *(b.to(x.dtype) for b in bounds)), [(3,), (2, 3)], steps=2)


def test_integers_between_real_bounds():
    a = torch.tensor([-3, 0, 1, 5])
    x = sy.encrypt(a, parties())
    for bounds in ((0, 3), (-0.5, 2.5), (None, 0.5)):
        found, expected = x.clamp(*bounds), a.clamp(*bounds)
        assert found.dtype == expected.dtype
        assert torch.equal(sy.decrypt(found), expected)


def test_maximum_and_minimum():
    shapes = [[(9,), (9,)], [(2, 5), (5,)], [(), ()], [(0,), (0,)]]
    check_op(torch.maximum, shapes, steps=2)
    check_op(torch.minimum, shapes, steps=2)
    check_op(torch.maximum, [[(9,), (9,)]], values=coarse, steps=2)
    plain = torch.tensor([0.5, -0.25, 1.0], dtype=torch.float64)
    check_op(lambda x: torch.maximum(x, plain), [(3,)], steps=2)
    check_op(lambda x: torch.minimum(plain, x), [(3,)], steps=2)


def test_where():
    condition = torch.tensor([True, False, True])
    check_op(lambda x, y: torch.where(condition, x, y), [[(3,), (3,)], [(2, 3), (3,)]], steps=2)
    check_op(lambda x, y: torch.where(x > y, x, y), [[(3,), (3,)], [(2, 3), (3,)], [(), ()]], steps=2)
    check_op(lambda x: torch.where(x > 0, x, 0), [(3,), (2, 3)], steps=2)
    check_op(lambda x: torch.where(x > 0, 1.5, x), [(3,), (2, 3)], steps=2)
    check_op(lambda x: torch.where(x > 0, x * x, -x), [(3,), (2, 3)], steps=2, grad_steps=3)
    check_op(lambda x: torch.where(x > 0, torch.tensor(1.0), torch.tensor(-1.0)) * x, [(3,)], steps=2)
    check_op(lambda x, y: torch.where(x[:, None] > y, x[:, None], y), [[(3,), (2,)]], steps=2)


def test_masked_by_secrets():
    check_op(lambda x: x * (x > 0), [(9,), (2, 5)], steps=2)
    check_op(lambda x: x.masked_fill(x < 0, 0.5), [(9,), (2, 5)], steps=2)
    check_op(lambda x: (x > 0).to(x.dtype) * 2 - 1 + x * 0, [(9,)], steps=2)


def test_thresholds():
    """A comparison is of the encoded values: no rounding turns it."""
    steps = torch.arange(-4, 5).double() / (1 << 16)
    x = encrypted(steps)
    for shift in (0, 1, -1, 3):
        assert torch.equal(sy.decrypt(x > shift / (1 << 16)), steps > shift / (1 << 16))
    product = x * encrypted(torch.full((9,), 2.0**-16))  # below a step until it is settled
    assert torch.equal(sy.decrypt(product > 0), steps > 0)
    assert torch.equal(sy.decrypt(product == 0), steps == 0)


def test_truth_of_all_and_any_is_refused_or_right():
    bits = sy.encrypt(torch.tensor([True, False]), parties())
    for fn in (torch.all, torch.any):
        try:
            out = sy.decrypt(fn(bits))
        except NotImplementedError:
            continue
        assert bool(out) == bool(fn(torch.tensor([True, False])))
