"""Maxima and minima of equals, of nothing, of integers; what many cost.  The rest is in the table (op_cases.py)."""

import pytest
import torch
from op_checks import check_op, encrypted, parties

import pysmpc as sy
from pysmpc.mpc.additive.comparison import negative_cost, relu_cost, select_cost
from pysmpc.mpc.additive.products import product_cost
from pysmpc.mpc.derived.counts import count_reciprocals_cost
from pysmpc.mpc.interfaces import LOCAL
from pysmpc.ops import tournament


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


def few(shape):
    """Of every value, several."""
    return torch.randint(-1, 2, shape).double() * 1.5


SHARING = {
    "max": lambda x: x.max(),
    "min": lambda x: x.min(),
    "amax": lambda x: x.amax(1),
    "amin of several": lambda x: x.amin((0, -1), keepdim=True),
    "amax of all": lambda x: x.amax(),
    "the chosen place": lambda x: x.max(1).values,
    "the chosen place of the smallest": lambda x: x.min(0, keepdim=True).values,
    "of products": lambda x: (x * x).max() + (x * 2 * x).amin(0),
    "of views": lambda x: x.t().max() + x[1:].amax(0) + x.flatten()[::2].min(),
}


@pytest.mark.parametrize("name", SHARING)
def test_equals_share_a_gradient(name):
    """As in torch: max(dim) gives it to the place that it tells, all others to every one of the equals."""
    check_op(SHARING[name], [(4, 3), (6, 7), (2, 1)], values=few, steps=2, grad_steps=12)


WAYS = [
    {"rounding": "nearest"}, {"protocol": "fss"}, {"protocol": "snn"}, {"integrity": "mac"},
    {"compare_bits": 30}, {"frac_bits": 20},
]  # fmt: skip


@pytest.mark.parametrize("way", WAYS, ids=str)
@pytest.mark.parametrize("name", ["max", "amin of several", "the chosen place"])
def test_equals_share_a_gradient_under(way, name):
    parties = sy.virtual("alice", "bob")
    a = few((4, 5))
    x, a = sy.encrypt(a, parties, **way).requires_grad_(), a.requires_grad_()
    weight = torch.rand(SHARING[name](a).shape).double()
    (SHARING[name](x) * weight).sum().backward()
    (SHARING[name](a) * weight).sum().backward()
    torch.testing.assert_close(sy.decrypt(x.grad).double(), a.grad, rtol=0, atol=6 * 2**-16)


@pytest.mark.parametrize("way", [{}, {"frac_bits": 20}, {"base": 10, "precision_fractional": 3}], ids=str)
def test_a_public_gradient_is_shared_out(way):
    """Products of public numbers have more digits than there is room for beside a reciprocal."""
    parties, step = sy.virtual("alice", "bob"), 1e-3 if "base" in way else 2.0**-16
    for size in (1e-3, 0.95, 1.0, 600.0):
        a = few((4, 5))
        x, a = sy.encrypt(a, parties, **way).requires_grad_(), a.requires_grad_()
        weight = (0.9 + 0.1 * torch.rand(()).double()) * size
        (x.max() * weight).sum().backward()
        (a.max() * weight).sum().backward()
        torch.testing.assert_close(sy.decrypt(x.grad).double(), a.grad, rtol=2**-16, atol=3 * step)


def spent(f):
    before = parties().stats.copy()
    f()
    return (parties().stats - before).cost


def by_pairs(k, n):
    """What a tree of the larger of two costs."""
    cost = LOCAL
    while k > 1:
        cost += relu_cost(2, k // 2 * n, False)
        k = (k + 1) // 2
    return cost


@pytest.mark.parametrize("k", [2, 3, 4, 5, 10, 16, 17, 64, 65, 1000])
@pytest.mark.parametrize("n", [1, 64])
def test_rounds_and_bytes(k, n):
    """4 ceil(log4 k) rounds, one more for a position of more than four; at most twice the bytes of a tree of pairs."""
    x = encrypted(torch.randn(n, k))
    levels = next(level for level in range(1, 9) if 4**level >= k)
    cost = spent(lambda: x.max(1))
    assert cost.rounds == 4 * levels
    assert spent(lambda: x.argmax(1)).rounds == 4 * levels + (levels > 1)
    if n == 64:  # the bits of fewer do not fill a word
        assert cost.sent <= 2 * by_pairs(k, n).sent
    x = encrypted(torch.randn(n, k)).requires_grad_()
    found = x.max(1)
    assert spent(lambda: found.values.backward(torch.ones(n))).rounds == levels
    assert spent(lambda: found.indices.reveal()).rounds == levels


@pytest.mark.parametrize("many", [0, 4, 30, 60])
def test_levels_of_many_are_by_pairs(many, monkeypatch):
    """Values, positions and gradients are what they are, whatever the levels are by."""
    monkeypatch.setattr(tournament, "MANY", many)
    rows = torch.randint(0, 6, (3, 19)).double()
    x = encrypted(rows).requires_grad_()
    assert torch.equal(sy.decrypt(x.argmax(1)), rows.argmax(1))
    found = x.max(1)
    assert torch.equal(sy.decrypt(found.values).double(), rows.max(1).values)
    assert torch.equal(sy.decrypt(found.indices), rows.max(1).indices)
    found.values.backward(torch.ones(3))
    assert torch.equal(sy.decrypt(x.grad).long(), torch.nn.functional.one_hot(rows.argmax(1), 19))


@pytest.mark.parametrize("secret", [False, True], ids=["public", "secret"])
def test_what_sharing_a_gradient_costs(secret):
    """A sign an element, the reciprocal of a count, and two products, of which one divides."""
    n = 100
    x = encrypted(torch.randn(n)).requires_grad_()
    top = x.max()
    grad = encrypted(torch.tensor(2.0)) if secret else torch.tensor(2.0)
    shared = product_cost(2, 2, 1) if secret else LOCAL
    expected = negative_cost(2, n) + count_reciprocals_cost(2, 1, n) + shared + select_cost(2, n, True)
    assert spent(lambda: top.backward(grad)) == expected
    assert expected.rounds == 6 + secret


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


OUT_OF_RANGE = {
    "max": lambda x, d: x.max(d),
    "min": lambda x, d: x.min(d, keepdim=True),
    "argmax": lambda x, d: x.argmax(d),
    "argmin": lambda x, d: x.argmin(d),
    "amax": lambda x, d: x.amax(d),
    "amin of several": lambda x, d: x.amin((0, d)),
}


@pytest.mark.parametrize("name", OUT_OF_RANGE)
@pytest.mark.parametrize("shape", [(), (3,), (2, 3)])
def test_dimensions_out_of_range(name, shape):
    """Refused before anything is sent, of a scalar too, which has one dimension as in torch."""
    x = encrypted(torch.randn(shape))
    span = max(len(shape), 1)
    before = parties().stats.copy()
    for dim in (span, -span - 1, span + 5):
        with pytest.raises(IndexError, match=f"range of \\[{-span}, {span - 1}\\], but got {dim}"):
            OUT_OF_RANGE[name](x, dim)
    assert (parties().stats - before).cost == LOCAL


@pytest.mark.parametrize("dim", [0, -1])
def test_a_scalar_has_one_dimension(dim):
    value = torch.randint(-9, 9, ()).double()
    x = encrypted(value)
    for found in (x.amax(dim), x.amin(dim), x.max(dim).values, x.min(dim).values):
        assert torch.equal(sy.decrypt(found).double(), value)
    assert int(sy.decrypt(x.argmax(dim))) == int(sy.decrypt(x.max(dim).indices)) == 0


@pytest.mark.parametrize("recorded", [False, True], ids=["no gradient", "gradient"])
def test_rounds_of_softmax(recorded):
    """A maximum costs what it costs alone: no positions, no places of equals."""
    x = encrypted(torch.randn(64, 10)).requires_grad_(recorded)
    assert spent(lambda: x.amax(1)).rounds == 8
    assert spent(lambda: x.softmax(1)).rounds == 8 + 13
    assert spent(lambda: x.log_softmax(1)).rounds == 8 + 12
    assert spent(lambda: x.logsumexp(1)).rounds == 8 + 12
