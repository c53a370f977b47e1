"""Sharing, opening, and what needs no message."""

import pytest
import torch
from settings import PLAINTEXT, random_words

from pysmpc.mpc.additive import sharing
from pysmpc.mpc.interfaces import LOCAL, Cost, opening
from pysmpc.ring.shares import Share
from pysmpc.session.session import virtual_session

SHAPES = [(), (1,), (3,), (0,), (2, 5), (4, 1, 3), (65,), (600,)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_share_and_reveal(setting, shape, rng):
    values = random_words(rng, *shape)
    opened, cost = setting.run(lambda suite, party, x: x, values)
    assert torch.equal(opened, values)
    assert cost == LOCAL


def test_costs_of_share_and_reveal(setting, rng):
    x, y = random_words(rng, 7), random_words(rng, 2, 3)

    def program(session, owner):
        before = session.stats.copy()
        a = session.suite.share(session.party, x if owner else None, x.shape)
        b = session.suite.share(session.party, y if owner else None, y.shape)
        shared = session.stats.copy()
        opened = session.suite.reveal(session.party, a, b)
        return (shared - before).cost, (session.stats - shared).cost, opened

    n = setting.holders
    for session, (sharing_cost, opening_cost, opened) in setting.everywhere(program):
        assert sharing_cost == setting.costs(sharing.share_cost(n, 7) + sharing.share_cost(n, 6))
        assert opening_cost == setting.costs(sharing.reveal_cost(n, 13))  # both in one round
        if session.party.rows:
            assert torch.equal(opened[0], x)
            assert torch.equal(opened[1], y)


def test_shares_are_fresh_and_uniform_apart(secret_setting, rng):
    """Holders' shares of one value, twice: no word of them is equal, or that of the value."""
    values = random_words(rng, 50)

    def program(session, owner):
        share = session.suite.share
        return [share(session.party, values if owner else None, values.shape).body.words for _ in range(2)]

    found = secret_setting.everywhere(program)
    rows = [row for _, words in found for w in words for row in w]
    assert len(rows) == 2 * secret_setting.holders
    for i, a in enumerate([*rows, values]):
        for b in [*rows, values][:i]:
            assert not bool((a == b).any())


def test_the_owner_must_know_its_input():
    session = virtual_session(["a", "b"])
    with pytest.raises(ValueError, match="owner"):
        session.suite.share(session.party, None, (3,))


def test_refresh(setting, rng):
    values = random_words(rng, 3, 40)
    opened, cost = setting.run(lambda suite, party, x: suite.refresh(party, x), values)
    assert torch.equal(opened, values)
    assert cost == LOCAL


def test_refresh_changes_every_share(secret_setting, rng):
    values = random_words(rng, 60)

    def program(session, owner):
        x = session.suite.share(session.party, values if owner else None, values.shape)
        fresh = [session.suite.refresh(session.party, x) for _ in range(2)]
        return [s.body.words for s in (x, *fresh)]

    for _, (old, first, second) in secret_setting.everywhere(program):
        assert not bool((old == first).any() or (old == second).any() or (first == second).any())


def test_refresh_of_a_window(setting, rng):
    values = random_words(rng, 4, 5)

    def operation(suite, party, x):
        return suite.refresh(party, Share(x.body, (5, 2), 1, (1, 5), 5))

    opened, cost = setting.run(operation, values)
    assert torch.equal(opened, values.t()[:, 1:3])
    assert cost == LOCAL


BROADCASTS = [((3,), (3,)), ((), (2, 3)), ((2, 1), (1, 3)), ((4, 1, 3), (2, 1)), ((0, 3), (1, 3)), ((600,), (600,))]


@pytest.mark.parametrize("shapes", BROADCASTS, ids=str)
@pytest.mark.parametrize("name", ["add", "sub"])
def test_add_and_sub(setting, name, shapes, rng):
    x, y = (random_words(rng, *shape) for shape in shapes)
    opened, cost = setting.run(lambda suite, party, a, b: getattr(suite, name)(party, a, b), x, y)
    assert torch.equal(opened, x + y if name == "add" else x - y)
    assert cost == LOCAL


def test_linear_chain_is_exact(setting, rng):
    x, y = random_words(rng, 5, 7), random_words(rng, 7)

    def operation(suite, party, a, b):
        t = suite.sub(party, suite.neg(party, a), suite.scale_by(party, b, -3))
        return suite.add(party, suite.scale_by(party, t, 1 << 40), a)

    opened, cost = setting.run(operation, x, y)
    assert torch.equal(opened, (-x + 3 * y) * (1 << 40) + x)
    assert cost == LOCAL


@pytest.mark.parametrize("factor", [0, 1, -1, 3, 1 << 63, (1 << 64) - 1, -(1 << 70) + 5])
def test_scale_by(setting, factor, rng):
    x = random_words(rng, 33)
    opened, _ = setting.run(lambda suite, party, a: suite.scale_by(party, a, factor), x)
    wrapped = (factor + (1 << 63)) % (1 << 64) - (1 << 63)
    assert torch.equal(opened, x * wrapped)


@pytest.mark.parametrize("shapes", BROADCASTS, ids=str)
def test_mul_public(setting, shapes, rng):
    x, y = (random_words(rng, *shape) for shape in shapes)
    opened, cost = setting.run(lambda suite, party, a: suite.mul_public(party, a, y), x)
    assert torch.equal(opened, x * y)
    assert cost == LOCAL


def test_public(setting, rng):
    x, y = random_words(rng, 4, 3), random_words(rng, 3)

    def operation(suite, party, a):
        return suite.add(party, a, suite.public(party, y)), suite.public(party, y, 8)

    (total, plain), cost = setting.run(operation, x)
    assert torch.equal(total, x + y)
    assert torch.equal(plain, y)
    assert cost == LOCAL


@pytest.mark.parametrize(
    "shapes",
    [
        ((3, 4), (4, 5)),
        ((2, 3, 4), (4, 5)),
        ((3, 4), (2, 4, 1)),
        ((2, 1, 3, 4), (5, 4, 2)),
        ((0, 4), (4, 2)),
        ((3, 0), (0, 2)),
    ],
    ids=str,
)
@pytest.mark.parametrize("left", [True, False])
def test_matmul_public(setting, shapes, left, rng):
    a, b = (random_words(rng, *shape) for shape in shapes)
    secret, plain = (a, b) if left else (b, a)
    opened, cost = setting.run(lambda suite, party, x: suite.matmul_public(party, x, plain, 1, left), secret)
    assert torch.equal(opened, torch.matmul(a, b))
    assert cost == LOCAL


def test_matmul_public_of_windows(setting, rng):
    a, b = random_words(rng, 6, 8), random_words(rng, 3, 9)
    plain = b[:, ::3].t()

    def operation(suite, party, x):
        return suite.matmul_public(party, Share(x.body, (8, 3), 1, (1, 16), 8), plain)

    opened, _ = setting.run(operation, a)
    assert torch.equal(opened, a[1::2].t() @ plain)


def test_scales_travel_with_values(setting, rng):
    x = random_words(rng, 3)

    def operation(suite, party, a):
        scales = [
            suite.add(party, a, a), suite.neg(party, a), suite.scale_by(party, a, 5), suite.refresh(party, a),
            suite.mul_public(party, a, x, 10), suite.mul(party, a, a), suite.square(party, a),
        ]  # fmt: skip
        assert [s.scale for s in scales] == [1000, 1000, 1000, 1000, 10_000, 1_000_000, 1_000_000]
        return a

    setting.run(operation, (x, 1000))


def test_costs_add_up():
    one = Cost(1, 2, 3, 4)
    assert one + one * 2 == Cost(3, 6, 9, 12)
    assert opening(5, 10) == Cost(1, 320)


def test_the_oracle_holds_values(rng):
    x = random_words(rng, 5)
    [(session, share)] = PLAINTEXT.everywhere(lambda s, owner: s.suite.share(s.party, x, x.shape))
    assert session.party.rows == 1
    assert torch.equal(share.body.words[0], x)
