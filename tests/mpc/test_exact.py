"""Division without error: Python's integers are the oracle."""

from dataclasses import replace

import pytest
import torch
from settings import SECRET, Setting, bounded_words

from pysmpc.mpc.additive import exact
from pysmpc.mpc.suite import default, plaintext
from pysmpc.ring.shares import Share
from pysmpc.session.session import plain_session, virtual_session

DIVISORS = [2, 3, 7, 1000, 1 << 16, (1 << 31) - 1, 1 << 37, 10**12, (1 << 61) - 1, 1 << 61]
FEW = [Setting("plaintext", 1), *(s for s in SECRET if s.holders < 4)]


def dividends(rng, by, n):
    """Values of every magnitude, and those at which a quotient changes."""
    bound = (1 << 62) - by
    z = bounded_words(rng, 61, n).clamp(-bound, bound)
    half = by // 2
    edges = {0, bound, -bound}
    for k in (0, 1, -1, 2, -2, bound // by, -(bound // by)):
        edges |= {k * by + d for d in (-1, 0, 1, half - 1, half, half + 1, -half, by - 1)}
    edges = sorted(e for e in edges if abs(e) <= bound)
    return torch.cat([torch.tensor(edges), z])


def floors(z, by):
    return torch.tensor([v // by for v in z.tolist()])


def nearest(z, by):
    """floor(z / by + 1/2) over the integers."""
    return torch.tensor([(2 * v + by) // (2 * by) for v in z.tolist()])


@pytest.mark.parametrize("setting", FEW, ids=str)
@pytest.mark.parametrize("by", DIVISORS)
def test_floor(setting, by, rng):
    z = dividends(rng, by, 150)
    ends = torch.tensor([s * ((1 << 62) - 1 - d) for s in (1, -1) for d in (0, 1, 2, by - 1, by // 2)])
    z = torch.cat([z, ends, ends + 1 - ends.sign()])
    opened, cost = setting.run(lambda suite, party, x: exact.floor(suite, party, x, by), z)
    assert torch.equal(opened, floors(z, by))
    opened, _ = setting.run(lambda suite, party, x: exact.floor(suite, party, x, -by), z)
    assert torch.equal(opened, floors(-z, by))
    assert cost == setting.costs(exact.floor_cost(setting.holders, z.numel(), by))


def under(setting):
    return exact.nearest(default if setting.secret else plaintext)


@pytest.mark.parametrize("setting", FEW, ids=str)
@pytest.mark.parametrize("by", DIVISORS)
def test_truncation_to_nearest(setting, by, rng):
    z = dividends(rng, by, 150)
    opened, cost = setting.run(lambda suite, party, x: under(setting).truncate(party, x, by), (z, by * 7))
    assert torch.equal(opened, nearest(z, by))
    assert cost == setting.costs(exact.nearest_cost(setting.holders, z.numel(), by))


@pytest.mark.parametrize("holders", [2, 3])
@pytest.mark.parametrize("by", [1 << 16, 1000])
def test_many(holders, by, rng):
    session = virtual_session([str(i) for i in range(holders)])
    z = torch.from_numpy(rng.integers(-(1 << 61), 1 << 61, 1 << 17))
    x = session.suite.share(session.party, z, z.shape)
    [opened] = session.suite.reveal(session.party, exact.nearest(default).truncate(session.party, x, by))
    assert torch.equal(opened, nearest(z, by))


@pytest.mark.parametrize("setting", FEW, ids=str)
def test_several_in_the_rounds_of_one(setting, rng):
    """Windows, too, and every scale its own."""
    a, b = bounded_words(rng, 60, 4, 5), bounded_words(rng, 50, 30)

    def operation(suite, party, x, y):
        turned = Share(x.body, (5, 4), x.scale, (1, 5))
        one, two = under(setting).truncate_all(party, [(turned, 1000), (y, 1 << 20)])
        assert (one.scale, two.scale) == (3, 5)
        return one, two

    (one, two), cost = setting.run(operation, (a, 3000), (b, 5 << 20))
    assert torch.equal(one.reshape(-1), nearest(a.t().reshape(-1), 1000))
    assert torch.equal(two, nearest(b, 1 << 20))
    declared = exact.nearest_cost(setting.holders, 50)
    declared = replace(declared, dealt=declared.dealt - 8 * (30 - 15 - 4))  # 30 of them by a power of two
    assert cost == setting.costs(declared)
    assert under(setting).truncate_all(None, []) == []


@pytest.mark.parametrize("setting", FEW, ids=str)
@pytest.mark.parametrize("by", [1, 1 << 16, 1000])
def test_relu_and_select(setting, by, rng):
    z = dividends(rng, max(by, 2), 100)

    def relu(suite, party, x):
        out = under(setting).relu(party, x, by)
        return out, suite.bit_share(party, out.body.sign, x.shape)

    (out, sign), cost = setting.run(relu, (z, by))
    assert torch.equal(out, nearest(z.clamp(min=0), by) if by > 1 else z.clamp(min=0))
    assert torch.equal(sign, (z > 0).to(torch.int64))
    n = setting.holders
    if by > 1:
        assert cost == setting.costs(exact.nearest_relu_cost(n, z.numel(), by))

    def select(suite, party, x, y):
        bit = suite.negative(party, x)
        before = party.channel.stats.copy()
        out = under(setting).select(party, bit, y, by)
        if by > 1:
            assert (party.channel.stats - before).cost == setting.costs(exact.nearest_select_cost(n, z.numel(), by))
        return out

    bits = torch.arange(z.numel()) % 2 * -1
    out, _ = setting.run(select, bits, (z, by))
    assert torch.equal(out, nearest(z * -bits, by) if by > 1 else z * -bits)


def test_a_suite_is_made_once():
    assert exact.nearest(default) is exact.nearest(default)
    assert plain_session.under(plaintext) is plain_session
