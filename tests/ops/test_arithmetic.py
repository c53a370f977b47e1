"""What is special in + - * / **: writes, dtypes, scales, refusals.  The rest is in the table (op_cases.py)."""

from dataclasses import replace

import pytest
import torch
from op_checks import check_op, cost_of, encrypted, parties

import pysmpc as sy
from pysmpc.program.loop import following

PLAIN = torch.tensor([0.5, -1.25, 2.0])


def test_in_place_through_a_view():
    """A write to a view is seen through every other view of the cell."""

    def in_place(x):
        y = x.clone()
        y[1:].mul_(2)
        y[:, 0] = 0.5
        y.t()[1].add_(y[:, 2])
        return y, y[0], y.reshape(-1)

    check_op(in_place, [(3, 4)], steps=3, grad=False)
    check_op(in_place, [(3, 4)], steps=3)


def test_a_write_makes_openings_and_signs_void():
    """An opened value, once overwritten, is not the value any more."""

    def in_place(x):
        y = x.clone()
        first = y * y
        y += 1
        second = y * y
        relu = torch.relu(y)
        relu *= -1
        return first, second, relu, relu * 2, torch.relu(relu)

    check_op(in_place, [(5,), (2, 3)], steps=3, grad=False)


def test_writing_into_plain_tensors_is_refused():
    x = encrypted(PLAIN)
    for change in (torch.Tensor.add_, torch.Tensor.mul_, torch.Tensor.copy_):
        with pytest.raises(TypeError):
            change(torch.zeros(3), x)
    with pytest.raises((TypeError, NotImplementedError)):
        torch.add(x, x, out=torch.zeros(3))


def test_integers_stay_exact():
    a, b = torch.tensor([5, -3, 1 << 40, 0]), torch.tensor([7, 11, -3, 1])
    x, y = sy.encrypt(a, parties()), sy.encrypt(b, parties())
    for fn in (torch.add, torch.sub, torch.mul):
        out = fn(x, y)
        assert out.dtype == torch.int64
        assert torch.equal(sy.decrypt(out), fn(a, b))
        assert torch.equal(sy.decrypt(fn(x, b)), fn(a, b))
        assert torch.equal(sy.decrypt(fn(a, y)), fn(a, b))
    for k in (3, -1, 1 << 20):
        assert torch.equal(sy.decrypt(x * k), a * k)
        assert torch.equal(sy.decrypt(k - x), k - a)
    assert torch.equal(sy.decrypt(x.sum()), a.sum())
    assert torch.equal(sy.decrypt(y**3), b**3)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64, torch.int32, torch.int64, torch.bool])
def test_mixed_dtypes(dtype):
    a = torch.tensor([1.5, -2.25, 0.5])
    b = torch.tensor([1, 0, 3]).to(dtype)
    x, y = sy.encrypt(a, parties()), sy.encrypt(b, parties())
    for fn in (torch.add, torch.mul):
        for out in (fn(x, y), fn(y, x), fn(x, b), fn(b, x), fn(a, y), fn(y, a)):
            assert out.dtype.is_floating_point
            assert torch.allclose(sy.decrypt(out).double(), fn(a, b).double(), atol=2**-15)


def test_integers_meet_real_numbers():
    a = torch.tensor([1, -2, 3])
    x = sy.encrypt(a, parties())
    for fn in (lambda v: v + 0.5, lambda v: v * 0.5, lambda v: v / 4, lambda v: 1.25 - v, lambda v: v * PLAIN):
        out = fn(x)
        assert out.dtype == torch.float32
        assert torch.allclose(sy.decrypt(out), fn(a), atol=2**-14)


def test_mixed_scales():
    """Tensors of different precision combine at the finer one."""
    a, b = torch.tensor([1.5, -0.25, 3.0]), torch.tensor([0.125, 2.5, -1.0])
    coarse = sy.encrypt(a, parties(), precision_fractional=3)
    fine = sy.encrypt(b, parties())
    finest = sy.encrypt(b, parties(), frac_bits=20)
    for x, y in ((coarse, fine), (fine, coarse), (fine, finest), (coarse, finest)):
        left = b if x is fine else a
        right = a if y is coarse else b
        for fn in (
            torch.add,
            torch.sub,
            torch.mul,
            torch.dot,
            lambda u, v: torch.cat([u, v]),
            lambda u, v: torch.where(u < v, u, v),
        ):
            out = fn(x, y)
            assert torch.allclose(sy.decrypt(out), fn(left, right), atol=3e-4), fn
        assert (x + y).unit.scale == max(x.unit.scale, y.unit.scale)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 1e30])
def test_what_the_ring_cannot_hold_is_refused(value):
    x = encrypted(PLAIN)
    operations = [lambda: x + value, lambda: x * value, lambda: value - x]
    if value == 1e30:  # beside infinities and NaN a comparison is torch's: test_thresholds.py
        operations.append(lambda: x > value)
    for operation in [*operations, lambda: x + torch.tensor([value] * 3)]:
        with pytest.raises((ValueError, TypeError)):
            sy.decrypt(operation())  # minus infinity is what masks add before a softmax, and is refused when it is read


def test_division_by_zero_is_refused():
    x = encrypted(PLAIN)
    for zero in (0, 0.0, torch.zeros(3), torch.tensor([1.0, 0.0, 2.0]), torch.tensor(0)):
        with pytest.raises(ZeroDivisionError):
            x / zero


def test_an_average_costs_a_step_nothing():
    """Its gradient comes as an expanded product of public numbers: a constant, which is no reason to truncate."""
    costs = []
    for divisor in (1, 64):
        layer = sy.encrypt(torch.nn.Linear(8, 4), parties(2))
        optimizer = torch.optim.SGD(layer.parameters(), lr=0.02)
        x, y = encrypted(torch.randn(64, 8)), encrypted(torch.randn(64, 4))

        def step(x, layer=layer, optimizer=optimizer, y=y, divisor=divisor):
            optimizer.zero_grad()
            (((layer(x) - y) ** 2).sum() / divisor).backward()
            optimizer.step()

        with following(False):  # or the first step ends within the second
            costs.append(cost_of(step, x)[0])
    # by what is divided by 64 a truncation is one by a power of two, and its result is opened again by fewer bytes
    assert replace(costs[1], sent=costs[0].sent) == costs[0]
    assert costs[1].sent <= costs[0].sent
