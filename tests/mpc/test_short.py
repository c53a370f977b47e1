"""Comparisons of values that are known to be short: right up to the last value that fits, at their cost, and refused
where they cannot be right."""

import pytest
import torch
import torch.nn.functional as F
from settings import SETTINGS, bounded_words

import pysmpc as sy
from pysmpc.errors import EncodingError, SessionMismatchError
from pysmpc.mpc.additive import comparison
from pysmpc.mpc.additive.short import short
from pysmpc.mpc.suite import snn

BITS = [2, 15, 16, 17, 32, 33, 48, 50, 63]
ROUNDS = {1: 3, 2: 4, 3: 4, 4: 4}
REAL = [s for s in SETTINGS if s.holders > 1]


@pytest.fixture(params=REAL, ids=str)
def setting(request):
    return request.param


def edges(bits, rng):
    most = (1 << bits - 1) - 1
    near = torch.tensor(sorted({v for v in (-most, 1 - most, -2, -1, 0, 1, 2, most - 1, most) if abs(v) <= most}))
    return torch.cat([near, bounded_words(rng, max(bits - 2, 0), 70).clamp(-most, most)])


@pytest.mark.parametrize("bits", BITS)
def test_signs_and_relus(setting, bits, rng):
    x = edges(bits, rng)
    n = x.numel()

    def operation(suite, party, a):
        before = party.channel.stats.copy()
        sign = comparison.negative(party, a, bits)
        assert (party.channel.stats - before).cost.rounds == ROUNDS[-(-bits // 16)]
        out = comparison.relu(party, a, 1, bits)
        return suite.bit_share(party, sign, (n,)), out, suite.bit_share(party, out.body.sign, (n,))

    (signs, relu, slope), cost = setting.run(operation, x)
    assert torch.equal(signs, (x < 0).long())
    assert torch.equal(relu, x.clamp(min=0))
    assert torch.equal(slope, (x > 0).long())
    costs = comparison.negative_cost(setting.holders, n, bits) + comparison.relu_cost(setting.holders, n, False, bits)
    assert cost == setting.costs(costs)


def test_what_they_save():
    """Bytes an element (8192 of them) and peer, and from the dealer."""
    found = {bits: comparison.negative_cost(2, 8192, bits) for bits in (64, 48, 32, 16)}
    sent = {bits: 8 * cost.sent / 8192 for bits, cost in found.items()}
    assert sent == {64: 64 + 34, 48: 64 + 27, 32: 64 + 20, 16: 64 + 7}
    assert [8 * cost.dealt // 8192 for cost in found.values()] == [64 + 329, 64 + 247, 64 + 165, 64 + 68]


@pytest.mark.parametrize("rounding", [None, "nearest"])
def test_operations(rounding):
    x, y = torch.randint(-400, 400, (2, 3, 8, 8)) / 8, torch.randint(-400, 400, (2, 3, 8, 8)) / 8
    x[0, 0, 0], y[0, 0, 0] = 3.5, 3.5
    parties = sy.virtual("alice", "bob", compare_bits=24, rounding=rounding)
    a, b = sy.encrypt(x, parties).requires_grad_(), sy.encrypt(y, parties)
    for f in (
        lambda p, q: p < q, lambda p, q: p >= q, lambda p, q: p == q, lambda p, q: p > 3.5, lambda p, q: q.sign(),
        lambda p, q: p.relu(), lambda p, q: torch.maximum(p, q), lambda p, q: F.max_pool2d(p, 3, 2, 1),
        lambda p, q: p.argmax(1), lambda p, q: p.max(), lambda p, q: q.clamp(-1, 1), lambda p, q: p // 3,
    ):  # fmt: skip
        assert torch.equal(sy.decrypt(f(a, b)).double(), f(x, y).double())
    # a product owes a truncation: there is room for the finer scale
    torch.testing.assert_close(sy.decrypt((a * 0.25 * b).relu()), (x * 0.25 * y).relu(), atol=2**-12, rtol=0)
    (F.max_pool2d(a.relu(), 2) * b[..., :4, :4]).sum().backward()
    x.requires_grad_()
    (F.max_pool2d(x.relu(), 2) * y[..., :4, :4]).sum().backward()
    torch.testing.assert_close(sy.decrypt(a.grad), x.grad, atol=2**-12, rtol=0)
    # internal comparisons keep their full width
    quotient = sy.decrypt(sy.encrypt(torch.tensor([100.0, -7.0]), parties) / b.flatten()[:2])
    torch.testing.assert_close(quotient, torch.tensor([100.0, -7.0]) / y.flatten()[:2], atol=2**-15, rtol=0)


def test_what_can_be_checked_is():
    parties = sy.virtual("alice", "bob")
    with pytest.raises(EncodingError, match="not below 128 in magnitude, as compare_bits=24"):
        sy.encrypt(torch.tensor([1.0, -128.0]), parties, compare_bits=24)
    x = sy.encrypt(torch.tensor([1.0, -127.5]), parties, compare_bits=24)
    for compare in (lambda: x < 128, lambda: torch.tensor([0.0, 128.0]) <= x, lambda: x == -200, lambda: x.ge(1e9)):
        with pytest.raises(EncodingError, match="public value beyond 128"):
            compare()
    assert sy.decrypt(x < 127.9).tolist() == [True, True]
    with pytest.raises(SessionMismatchError):
        x + sy.encrypt(torch.tensor([1.0, 2.0]), parties)


@pytest.mark.parametrize("bits", [1, 0, 65, True, 8.0])
def test_widths_that_are_none(bits):
    with pytest.raises(ValueError, match="from 2 to 64"):
        sy.virtual("alice", "bob", compare_bits=bits)


def test_protocols_that_have_none():
    with pytest.raises(NotImplementedError, match="not for 'snn'"):
        sy.virtual("alice", "bob", protocol="snn", compare_bits=32)
    with pytest.raises(NotImplementedError, match="not for 'mac'"):
        sy.encrypt(torch.ones(2), sy.virtual("alice", "bob"), integrity="mac", compare_bits=32)
    with pytest.raises(NotImplementedError):
        short(snn, 32)
    whole = sy.virtual("alice", "bob", compare_bits=64)
    assert whole.session.suite.narrow is None
