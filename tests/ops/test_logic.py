"""`& | ^ ~`, shifts by tensors, any and all: torch's results."""

import operator

import pytest
import torch
from op_checks import parties
from whole_numbers import integers, same

import pysmpc as sy

BITWISE = [operator.and_, operator.or_, operator.xor]
KINDS = [(n, dtype) for n in (2, 3) for dtype in (torch.int64, torch.int32)]


@pytest.mark.parametrize("fn", BITWISE, ids=lambda f: f.__name__)
@pytest.mark.parametrize(("n", "dtype"), KINDS, ids=str)
def test_bits_of_integers(n, dtype, fn):
    a, b = integers(dtype, 7, 9), integers(dtype, 9)
    x, y = sy.encrypt(a, parties(n)), sy.encrypt(b, parties(n))
    same(fn(x, y), fn(a, b))
    same(fn(y, x), fn(b, a))
    same(fn(x, b), fn(a, b))
    same(fn(b, x), fn(b, a))
    same(fn(x.t(), x.t()), fn(a.t(), a.t()))
    for number in (0, 1, -1, 0xFF, -8, (1 << 31) - 1):
        same(fn(x, number), fn(a, number))
        same(fn(number, x), fn(number, a))
    same(fn(x[1:, ::2], y[::2]), fn(a[1:, ::2], b[::2]))
    same(~x, ~a)
    truth = torch.rand(9) < 0.5
    same(fn(y, truth), fn(b, truth))
    same(fn(y, sy.encrypt(truth, parties(n))), fn(b, truth))


def test_the_whole_ring():
    """What only arithmetic can reach: inputs stay below 2^62."""
    a, b = integers(torch.int64, 40), integers(torch.int64, 40)
    x, y = sy.encrypt(a, parties()), sy.encrypt(b, parties())
    same((x << 5) & (y << 7), (a << 5) & (b << 7))
    same(~(x << 9) >> 9, ~(a << 9) >> 9)
    by = torch.randint(-2, 70, (40,))
    same((x << 5) >> by, (a << 5) >> by)
    same((x >> by).sum(), (a >> by).sum())


@pytest.mark.parametrize("n", [2, 3])
def test_truth_values(n):
    a, b = torch.rand(5, 6) < 0.5, torch.rand(6) < 0.5
    x, y = sy.encrypt(a, parties(n)), sy.encrypt(b, parties(n))
    compared = sy.encrypt(b.double() - 0.5, parties(n)) > 0
    both = [*BITWISE, torch.logical_and, torch.logical_or, torch.logical_xor, operator.eq, operator.ne]
    for fn in both:
        for other in (y, b, compared):
            same(fn(x, other), fn(a, b))
            same(fn(x[1:, ::2], other[::2]), fn(a[1:, ::2], b[::2]))
        same(fn(b, x), fn(b, a))
    for fn in BITWISE:
        for number in (True, False):
            same(fn(x, number), fn(a, number))
            same(fn(number, x), fn(number, a))
    same(~x, ~a)
    same(torch.where(x ^ y, x, y), torch.where(a ^ b, a, b))
    same((x & y | ~x ^ compared), (a & b | ~a ^ b))


def test_truth_of_numbers():
    a, b = torch.tensor([0, 3, -1, 0]), torch.tensor([0.0, 0.0, 0.5, 2.0])
    x, y = sy.encrypt(a, parties()), sy.encrypt(b, parties())
    for fn in (torch.logical_and, torch.logical_or, torch.logical_xor):
        same(fn(x, y), fn(a, b))
    same(torch.logical_not(y), torch.logical_not(b))
    with pytest.raises(RuntimeError, match="integers"):
        y & y
    with pytest.raises(RuntimeError, match="integers"):
        torch.bitwise_not(y)


@pytest.mark.parametrize("fn", [torch.any, torch.all], ids=["any", "all"])
def test_any_and_all(fn):
    for density in (0.1, 0.9):
        a = torch.rand(4, 3, 5) < density
        a[0], a[1] = True, False
        x = sy.encrypt(a, parties())
        same(fn(x), fn(a))
        for dim in (0, -1, (0, 2)):
            same(fn(x, dim), fn(a, dim))
        same(fn(x, 1, keepdim=True), fn(a, 1, keepdim=True))
        same(fn(x[:, 0].t()), fn(a[:, 0].t()))
    for shape in ((), (0,), (3, 0)):
        a = torch.ones(shape, dtype=torch.bool)
        same(fn(sy.encrypt(a, parties())), fn(a))
    numbers = torch.tensor([[0, 2, 0], [-1, 5, 7]])
    same(fn(sy.encrypt(numbers, parties()), 1), fn(numbers, 1))


def test_in_place():
    a, b = integers(torch.int64, 20), integers(torch.int64, 20)
    for fn in (operator.iand, operator.ior, operator.ixor):
        x, plain = sy.encrypt(a, parties()), a.clone()
        fn(x, sy.encrypt(b, parties()))
        fn(x, 12345)
        fn(plain, b)
        fn(plain, 12345)
        same(x, plain)
        t, truth = sy.encrypt(a > 0, parties()), a > 0
        fn(t, b > 0)
        fn(truth, b > 0)
        same(t, truth)
