"""Protocols with codes: the results of the default suite, and what they cost."""

import pytest
import torch
from settings import Setting, bounded_words, random_words

from pysmpc.mpc.additive import exact
from pysmpc.mpc.interfaces import LOCAL
from pysmpc.mpc.mac.comparison_mac import negative_cost, zero_cost
from pysmpc.mpc.mac.products_mac import product_cost
from pysmpc.mpc.mac.selection import relu_cost
from pysmpc.mpc.mac.sharing_mac import reveal_cost, share_cost
from pysmpc.mpc.mac.truncation_mac import truncate_cost
from pysmpc.mpc.suite import authenticated_default
from pysmpc.ring.shares import Share
from pysmpc.session.session import virtual_session
from pysmpc.transport import threads


class Authenticated(Setting):
    """Where programs run with codes."""

    def sessions(self):
        names = [f"holder{i}" for i in range(self.holders)]
        if self.name == "threads":
            return threads.sessions(names, suite=authenticated_default)
        return [virtual_session(names, suite=authenticated_default)]


SETTINGS = [Authenticated(name, n) for name in ("virtual", "threads") for n in (2, 3)]


@pytest.fixture(params=SETTINGS, ids=str)
def setting(request):
    return request.param


def linear(suite, party, x, y):
    return (
        suite.add(party, x, y),
        suite.sub(party, x, y),
        suite.neg(party, x),
        suite.scale_by(party, x, -3),
        suite.scale_by(party, x, 1 << 63),
        suite.mul_public(party, x, torch.tensor([[5], [-7]])),
        suite.add(party, suite.public(party, torch.tensor([-9])), x),
        suite.refresh(party, x),
    )


def test_without_messages(setting, rng):
    a, b = random_words(rng, 2, 6), random_words(rng, 6)
    opened, cost = setting.run(linear, a, b)
    expected = (a + b, a - b, -a, a * -3, a * torch.tensor(-(1 << 63)), a * torch.tensor([[5], [-7]]), a - 9, a)
    for found, value in zip(opened, expected, strict=True):
        assert torch.equal(found, value)
    assert cost == LOCAL


def test_products(setting, rng):
    a, b = random_words(rng, 3, 4), random_words(rng, 4, 5)
    n = setting.holders

    def products(suite, party, x, y):
        before = party.channel.stats.copy()
        both = suite.matmul(party, x, y)
        assert (party.channel.stats - before).cost == product_cost(n, 12 + 20, 15)
        before = party.channel.stats.copy()
        turned = Share(x.body, (4, 3), 1, (1, 4))
        again = suite.mul(party, turned, Share(y.body, (4, 1), 1, (5, 1)))
        assert (party.channel.stats - before).cost == product_cost(n, 4, 12)  # a column is a value of its own
        public = suite.matmul_public(party, x, b), suite.matmul_public(party, y, a, left=False)
        return both, again, suite.square(party, x), *public

    opened, _ = setting.run(products, a, b)
    for found, value in zip(opened, (a @ b, a.t() * b[:, :1], a * a, a @ b, a @ b), strict=True):
        assert torch.equal(found, value)


@pytest.mark.parametrize("by", [2, 1 << 16, 1000, (1 << 61) - 1])
def test_truncation(setting, by, rng):
    z = bounded_words(rng, 61, 60).clamp(by - (1 << 62), (1 << 62) - by)
    opened, cost = setting.run(lambda suite, party, x: suite.truncate(party, x, by), (z, by * 3))
    above = opened - torch.div(z, by, rounding_mode="floor")
    assert bool(((above == 0) | (above == 1)).all())
    assert cost == truncate_cost(setting.holders, 60)
    rounded, _ = setting.run(lambda suite, party, x: exact.nearest(suite).truncate(party, x, by), z)
    assert rounded.tolist() == [(2 * v + by) // (2 * by) for v in z.tolist()]


def test_signs(setting, rng):
    a = torch.cat([random_words(rng, 40), torch.tensor([0, 1, -1, (1 << 63) - 1, -(1 << 63), 1 << 62])])
    n = setting.holders

    def signs(suite, party, x):
        before = party.channel.stats.copy()
        bit = suite.negative(party, x)
        assert (party.channel.stats - before).cost == negative_cost(n, x.numel)
        return suite.bit_share(party, bit, x.shape), suite.bit_share(party, bit.flipped(), x.shape)

    (below, above), _ = setting.run(signs, a)
    assert torch.equal(below, (a < 0).to(torch.int64))
    assert torch.equal(above, (a >= 0).to(torch.int64))


@pytest.mark.parametrize("by", [1, 1 << 16])
def test_relu_and_select(setting, by, rng):
    a = bounded_words(rng, 60, 4, 10)
    n = setting.holders

    def program(suite, party, x):
        before = party.channel.stats.copy()
        out = suite.relu(party, x, by)
        assert (party.channel.stats - before).cost == relu_cost(n, x.numel, by > 1)
        return out, suite.select(party, out.body.sign, x, by), suite.select(party, out.body.sign.flipped(), x, by)

    opened, _ = setting.run(program, a)
    for found, value in zip(opened, (a.clamp(min=0), a.clamp(min=0), a.clamp(max=0)), strict=True):
        above = found - torch.div(value, by, rounding_mode="floor")
        assert bool(((above == 0) | (above == 1)).all()) if by > 1 else torch.equal(found, value)


def test_equality_and_updates(setting, rng):
    a = torch.tensor([0, 1, -1, (1 << 63) - 1, -(1 << 63), 1 << 62])
    found, cost = setting.run(lambda suite, party, x: suite.zero(party, x), a)
    assert torch.equal(found, (a == 0).to(torch.int64))
    assert cost == zero_cost(setting.holders, 6)
    own, z = bounded_words(rng, 40, 7), bounded_words(rng, 40, 7) << 10
    found, _ = setting.run(lambda suite, party, x, y: suite.update_all(party, [(x, y, -3, 1 << 10)])[0], own, z)
    assert torch.equal(found, own - 3 * (z >> 10))


def test_logic(setting):
    a, b = torch.tensor([0, 0, 1, 1]), torch.tensor([0, 1, 0, 1])
    both, _ = setting.run(lambda s, p, x, y: (s.logical_and(p, x, y), s.logical_xor(p, x, y)), a, b)
    assert torch.equal(both[0], a & b)
    assert torch.equal(both[1], a ^ b)


def test_inputs_and_results_cost(setting, rng):
    a = random_words(rng, 30)
    n = setting.holders

    def program(session, owner):
        suite, party = session.suite, session.party
        before = session.stats.copy()
        x = suite.share(party, a if owner else None, a.shape)
        shared = (session.stats - before).cost
        before = session.stats.copy()
        [opened] = suite.reveal(party, x)
        return shared, (session.stats - before).cost, opened

    for session, (shared, revealed, opened) in setting.everywhere(program):
        assert shared == share_cost(n, 30)
        assert revealed == reveal_cost(n, 30)
        assert torch.equal(opened, a) if session.party.rows else opened.shape == (0, 30)
