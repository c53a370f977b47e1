"""Integer secrets: torch's results for int64 and int32, division and shifts among them."""

import operator
from dataclasses import replace

import pytest
import torch
from op_checks import check_op, parties
from whole_numbers import integers, same

import pysmpc as sy
from pysmpc.errors import EncodingError
from pysmpc.mpc.additive import exact

LIMIT = (1 << 62) - 1
KINDS = [(n, dtype) for n in (2, 3) for dtype in (torch.int64, torch.int32)]


@pytest.mark.parametrize(("n", "dtype"), KINDS, ids=str)
def test_ring_operations_wrap_as_torch_does(n, dtype):
    a, b = integers(dtype, 6, 7), integers(dtype, 6, 7)
    x, y = sy.encrypt(a, parties(n)), sy.encrypt(b, parties(n))
    assert x.dtype == dtype
    same(x, a)
    for fn in (operator.add, operator.sub, operator.mul):
        same(fn(x, y), fn(a, b))
        same(fn(x, b), fn(a, b))
        same(fn(3, x), fn(3, a))
        same(fn(x, 3), fn(a, 3))
    same(x @ y.t(), a @ b.t())
    same(-x, -a)
    same(x.sum(0), a.sum(0))
    same((x * x)[1:, ::2].t(), (a * a)[1:, ::2].t())
    same(torch.cat([x, y]), torch.cat([a, b]))
    same(x.long(), a.long())
    c, z = a.clone(), x.clone()
    c *= 5
    z *= 5
    c += b
    z += y
    same(z, c)


@pytest.mark.parametrize(("n", "dtype"), KINDS, ids=str)
def test_comparisons(n, dtype):
    a, b = integers(dtype, 30, bits=30), integers(dtype, 30, bits=30)
    a[:10] = b[:10]
    x, y = sy.encrypt(a, parties(n)), sy.encrypt(b, parties(n))
    for fn in (operator.lt, operator.ge, operator.eq, operator.ne):
        same(fn(x, y), fn(a, b))
    same(torch.maximum(x, y), torch.maximum(a, b))
    same(x.abs(), a.abs())
    same(torch.where(x < y, x, y), torch.where(a < b, a, b))
    same(x.clamp(min=-5, max=100), a.clamp(min=-5, max=100))


DIVISORS = [1, -1, 2, -2, 3, 7, -10, 1000, 1 << 16, (1 << 31) - 1]
LARGE = [1 << 40, -(10**15), (1 << 61) - 1]


@pytest.mark.parametrize(("n", "dtype"), KINDS, ids=str)
def test_whole_quotients_and_remainders(n, dtype):
    for by in DIVISORS + (LARGE if dtype == torch.int64 else []):
        a = integers(dtype, 40)
        a[4:7] = torch.tensor([by, -by, by + 1])
        if dtype == torch.int64:
            a[7:11] = torch.tensor([LIMIT, -LIMIT, LIMIT - 1, abs(by) - 1 - LIMIT])
        x = sy.encrypt(a, parties(n))
        same(x // by, a // by)
        same(x % by, a % by)
        same(torch.div(x, by, rounding_mode="trunc"), torch.div(a, by, rounding_mode="trunc"))
        same(torch.fmod(x, by), torch.fmod(a, by))


def test_by_a_tensor():
    a = integers(torch.int64, 5, 8, bits=60)
    by = torch.tensor([1, -1, 2, -3, 1000, 1000, 7, -(1 << 40)])
    x = sy.encrypt(a, parties())
    for fn in (operator.floordiv, operator.mod, torch.fmod):
        same(fn(x, by), fn(a, by))
        same(fn(x, by[:5].unsqueeze(1)), fn(a, by[:5].unsqueeze(1)))
        same(fn(x.t(), torch.tensor(3)), fn(a.t(), torch.tensor(3)))
        same(fn(x[:, :1], by), fn(a[:, :1], by))
    before = parties().stats.copy()
    x // by
    # those by 1 and -1 are free
    quotients = exact.truncate_cost(2, 20, 3) + exact.truncate_cost(2, 5, 2) * 2
    signs = exact.negative_cost(2, 2 * 20 + 5 * 2)
    assert (parties().stats - before).cost == replace(quotients + signs, rounds=5)


@pytest.mark.parametrize(("n", "dtype"), KINDS, ids=str)
def test_shifts(n, dtype):
    a = integers(dtype, 50)
    x = sy.encrypt(a, parties(n))
    for bits in (0, 1, 7, 31, 32, 40, 62, 63, 64, -1):
        same(x << bits, a << bits)
        same(x >> bits, a >> bits)
    by = torch.arange(50) - 1
    same(x << by.to(dtype), a << by.to(dtype))
    if dtype == torch.int64:  # of the whole ring, not only what can be encrypted
        for bits in (1, 20, 61, 62, 63):
            same((x << 7) >> bits, (a << 7) >> bits)
            before = parties(n).stats.copy()
            x >> bits
            assert (parties(n).stats - before).cost == exact.shift_right_cost(n, 50, bits)


def test_in_place():
    a = integers(torch.int64, 20, bits=50)
    x = sy.encrypt(a, parties())
    for fn in (operator.ifloordiv, operator.imod, operator.ilshift, operator.irshift):
        mine, theirs = x.clone(), a.clone()
        fn(mine, 3)
        fn(theirs, 3)
        same(mine, theirs)


def test_fixed_point():
    """Whole parts of real secrets are exact, too."""
    for fn in (torch.floor, torch.ceil, torch.trunc, torch.frac, lambda x: x // 0.75, lambda x: x % 3):
        check_op(fn, [(9,), (2, 5), (0,), ()], low=-9, high=9, steps=0, grad=False)
    edges = torch.tensor([0.0, 1.0, -1.0, 0.5, -0.5, 2.0**-16, -(2.0**-16), 1000.0, -999.5], dtype=torch.float64)
    for fn in (torch.floor, torch.ceil, torch.trunc, lambda x: x // 2):
        check_op(fn, [(9,)], values=lambda shape: edges, steps=0, grad=False)


def test_divisors_of_a_step_and_none_at_all():
    x = sy.encrypt(torch.tensor([1.5, -2.25, 0.0]), parties())
    for by in (2.0**-16, -(2.0**-16)):
        found = sy.decrypt(x // torch.full((3,), by))
        assert torch.equal(found, torch.tensor([1.5, -2.25, 0.0]) / by)
    assert sy.decrypt(x[:0] // torch.ones(0)).shape == (0,)
    assert sy.decrypt(x[:0] % x[:0]).shape == (0,)


def test_refusals():
    x = sy.encrypt(torch.tensor([5, 6]), parties())
    for wrong in (lambda: x // 0, lambda: x % torch.tensor([1, 0]), lambda: torch.fmod(x, 0)):
        with pytest.raises(ZeroDivisionError):
            wrong()
    with pytest.raises(NotImplementedError):
        x >> x
    with pytest.raises(EncodingError, match="out of range"):
        sy.encrypt(torch.ones(2), parties()) // torch.tensor([1 << 40, 1 << 50])
    with pytest.raises(RuntimeError, match="integers"):
        sy.encrypt(torch.ones(2), parties()) << 1
