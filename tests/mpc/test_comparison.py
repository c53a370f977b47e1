"""Signs, bits as shares, selection and ReLU."""

import pytest
import torch
from settings import EDGES, FSS, SETTINGS, bounded_words, random_words

from pysmpc.mpc.interfaces import LOCAL
from pysmpc.ring import z2k
from pysmpc.ring.shares import Share

LENGTHS = [0, 1, 63, 64, 65, 200, 1025]


@pytest.fixture(params=[*SETTINGS, *FSS], ids=str)
def setting(request):
    return request.param


@pytest.mark.parametrize("n", LENGTHS)
def test_negative(setting, n, rng):
    x = random_words(rng, n)

    def operation(suite, party, a):
        before = party.channel.stats.copy()
        bit = suite.negative(party, a)
        cost = (party.channel.stats - before).cost
        shares = suite.bit_share(party, bit, (n,)), suite.bit_share(party, bit.flipped(), (n,))
        assert (party.channel.stats - before).cost == cost  # turning it into a share is free
        return shares

    (bits, flipped), cost = setting.run(operation, x)
    assert torch.equal(bits, (x < 0).to(torch.int64))
    assert torch.equal(flipped, (x >= 0).to(torch.int64))
    assert cost == setting.costs(setting.compares.negative_cost(setting.holders, n))


def test_negative_at_the_edges(setting):
    """Zero, its neighbours, and both ends of the ring; powers of two and their neighbours."""
    x = torch.tensor(sorted({*EDGES, *(s * (1 << k) + d for k in range(62) for s in (1, -1) for d in (-1, 0, 1))}))
    bits, _ = setting.run(lambda s, p, a: s.bit_share(p, s.negative(p, a), a.shape), x)
    assert torch.equal(bits, (x < 0).to(torch.int64))


def test_negative_of_a_window(setting, rng):
    x = random_words(rng, 5, 7)

    def operation(suite, party, a):
        return suite.bit_share(party, suite.negative(party, Share(a.body, (7, 3), 1, (1, 14))), (7, 3))

    bits, cost = setting.run(operation, x)
    assert torch.equal(bits, (x[::2].t() < 0).to(torch.int64))
    assert cost == setting.costs(setting.compares.negative_cost(setting.holders, 21))


@pytest.mark.parametrize("n", LENGTHS)
@pytest.mark.parametrize("flip", [False, True])
def test_select(setting, n, flip, rng):
    x, y = random_words(rng, n), random_words(rng, n)

    def operation(suite, party, a, b):
        bit = suite.negative(party, a)
        return suite.select(party, bit.flipped() if flip else bit, b)

    opened, cost = setting.run(operation, x, y)
    assert torch.equal(opened, torch.where((x < 0) ^ flip, y, torch.zeros_like(y)))
    n_ = setting.holders
    declared = setting.compares.negative_cost(n_, n) + setting.compares.select_cost(n_, n, truncated=False)
    assert cost == setting.costs(declared)


@pytest.mark.parametrize("by", [2, 1 << 16, 1000, 1 << 37])
@pytest.mark.parametrize("flip", [False, True])
def test_select_with_truncation(setting, by, flip, rng):
    offset = z2k.Divisor(by).offset
    x, y = random_words(rng, 150), bounded_words(rng, 61, 150)
    y[:2] = torch.tensor([offset, -offset])

    def operation(suite, party, a, b):
        bit = suite.negative(party, a)
        out = suite.select(party, bit.flipped() if flip else bit, b, by)
        assert out.scale == 3
        return out

    opened, cost = setting.run(operation, x, (y, 3 * by))
    chosen = (x < 0) ^ flip
    assert bool((opened[~chosen] == 0).all())
    above = opened[chosen] - torch.div(y[chosen], by, rounding_mode="floor")
    assert bool(((above == 0) | (above == 1)).all())
    n, declares = setting.holders, setting.compares
    assert cost == setting.costs(declares.negative_cost(n, 150) + declares.select_cost(n, 150, truncated=True))


def test_one_bit_selects_many_times(setting, rng):
    """As a ReLU's bit does, forward and backward; and a window of another shape."""
    x, y, z = random_words(rng, 90), random_words(rng, 90), random_words(rng, 10, 9)

    def operation(suite, party, a, b, c):
        bit = suite.negative(party, a)
        windowed = Share(c.body, (9, 10), 1, (1, 9))
        return suite.select(party, bit, b), suite.select(party, bit.flipped(), b), suite.select(party, bit, windowed)

    opened, cost = setting.run(operation, x, y, z)
    zero = torch.zeros_like(y)
    assert torch.equal(opened[0], torch.where(x < 0, y, zero))
    assert torch.equal(opened[1], torch.where(x < 0, zero, y))
    assert torch.equal(opened[2], torch.where(x.reshape(9, 10) < 0, z.t(), zero.reshape(9, 10)))
    n, declares = setting.holders, setting.compares
    once = {"opened": True} if setting.protocol == "fss" else {}  # whose bits are opened when they first select
    cost_of_all = declares.negative_cost(n, 90) + declares.select_cost(n, 90, truncated=False)
    assert cost == setting.costs(cost_of_all + declares.select_cost(n, 90, truncated=False, **once) * 2)


@pytest.mark.parametrize("n", LENGTHS)
def test_relu(setting, n, rng):
    x = bounded_words(rng, 62, n)
    opened, cost = setting.run(lambda suite, party, a: suite.relu(party, a), x)
    assert torch.equal(opened, x.clamp(min=0))
    assert cost == setting.costs(setting.compares.relu_cost(setting.holders, n, truncated=False))


@pytest.mark.parametrize("by", [2, 1 << 16, 1000, 1 << 37])
def test_relu_with_truncation(setting, by, rng):
    offset = z2k.Divisor(by).offset
    x = bounded_words(rng, 61, 150)
    x[:6] = torch.tensor([offset - 1, 1 - offset, 0, 1, -1, by])

    def operation(suite, party, a):
        out = suite.relu(party, a, by)
        return out, suite.bit_share(party, out.body.sign, a.shape)

    (opened, slope), cost = setting.run(operation, (x, 5 * by))
    assert bool((opened[x <= 0] == 0).all())
    above = (opened - torch.div(x, by, rounding_mode="floor"))[x > 0]
    assert bool(((above == 0) | (above == 1)).all())
    assert cost == setting.costs(setting.compares.relu_cost(setting.holders, 150, truncated=True))
    assert torch.equal(slope, (x > 0).to(torch.int64)), "the slope of a ReLU at 0 is 0, as torch's"


def test_bits_are_products_too(setting, rng):
    """Shares of bits are ordinary shares: multiplied, added, opened."""
    x, y = random_words(rng, 70), random_words(rng, 70)

    def operation(suite, party, a, b):
        p, q = (suite.bit_share(party, suite.negative(party, s), (70,)) for s in (a, b))
        both = suite.mul(party, p, q)
        return both, suite.sub(party, suite.add(party, p, q), both)

    (both, either), cost = setting.run(operation, x, y)
    assert torch.equal(both, ((x < 0) & (y < 0)).to(torch.int64))
    assert torch.equal(either, ((x < 0) | (y < 0)).to(torch.int64))
    assert cost != LOCAL or not setting.secret


def test_comparing_two_secrets(setting, rng):
    """x < y by the sign of a difference, for differences that fit."""
    x, y = bounded_words(rng, 61, 300), bounded_words(rng, 61, 300)
    y[:50] = x[:50]
    y[50:100] = x[50:100] + 1
    bits, _ = setting.run(lambda s, p, a, b: s.bit_share(p, s.negative(p, s.sub(p, a, b)), a.shape), x, y)
    assert torch.equal(bits, (x < y).to(torch.int64))


@pytest.mark.parametrize("n", LENGTHS)
def test_zero(setting, n, rng):
    x = random_words(rng, n)
    x[torch.from_numpy(rng.random(n) < 0.3)] = 0
    bits, cost = setting.run(lambda suite, party, a: suite.zero(party, a), x)
    assert torch.equal(bits, (x == 0).to(torch.int64))
    assert cost == setting.costs(setting.compares.zero_cost(setting.holders, n))


def test_zero_at_the_edges(setting):
    x = torch.tensor(sorted({*EDGES, *(s * (1 << k) for k in range(63) for s in (1, -1))}))
    assert -(1 << 63) in x
    bits, _ = setting.run(lambda suite, party, a: suite.zero(party, a), x)
    assert torch.equal(bits, (x == 0).to(torch.int64))


@pytest.mark.parametrize("n", LENGTHS)
def test_larger(setting, n, rng):
    x, y = bounded_words(rng, 60, n), bounded_words(rng, 60, n)
    y[::3] = x[::3]

    def operation(suite, party, a, b):
        out, bit = suite.larger(party, a, b)
        return out, suite.bit_share(party, bit, (n,))

    (opened, second), cost = setting.run(operation, x, y)
    assert torch.equal(opened, torch.maximum(x, y))
    assert torch.equal(second, (y > x).to(torch.int64)), "of equals, the first"
    assert cost == setting.costs(setting.compares.relu_cost(setting.holders, n, truncated=False))
