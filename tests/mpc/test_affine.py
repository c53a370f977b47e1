"""Elementwise products of what truncations opened: the same results as any product, and no opening."""

import pytest
import torch
from settings import bounded_words, random_words

from pysmpc.mpc.additive import affine, exact
from pysmpc.mpc.additive.products import product_cost
from pysmpc.mpc.additive.reopening import reopens
from pysmpc.mpc.interfaces import opening
from pysmpc.ring.reopen_kernels import lane_words
from pysmpc.ring.shares import Share
from pysmpc.session.session import virtual_session

#: Powers of two with short and long jumps, and others, among them the decimal encoding's.
DIVISORS = [2, 1 << 16, 1 << 40, 1 << 45, 1 << 61, 3, 1000, 10**6, 10**15 + 37]
N = 90


def truncated(suite, party, *dividends):
    return suite.truncate_all(party, dividends)


def measured(run):
    """run(suite, party, *shares) -> (factors, results): both, in one tuple, and what the results cost."""
    cost = {}

    def operation(suite, party, *shares):
        made = [*run[0](suite, party, *shares)]
        before = party.channel.stats.copy()
        found = [*run[1](suite, party, *made)]
        cost[id(party)] = (party.channel.stats - before).cost
        return *made, *found

    return operation, cost


@pytest.mark.parametrize("by", DIVISORS)
def test_square_of_a_quotient(setting, by, rng):
    z = bounded_words(rng, 60, N)
    operation, cost = measured(
        (
            lambda suite, party, x: truncated(suite, party, (x, by)),
            lambda suite, party, v: (suite.square(party, v), suite.square(party, suite.scale_by(party, v, -6))),
        )
    )
    (v, square, of_multiple), _ = setting.run(operation, z)
    assert torch.equal(square, v * v)
    assert torch.equal(of_multiple, 36 * v * v)
    if setting.secret:
        assert set(cost.values()) == {affine.product_cost(N, 2) * 2}


@pytest.mark.parametrize("by", DIVISORS)
def test_product_of_quotients(setting, by, rng):
    z, other = bounded_words(rng, 60, N), bounded_words(rng, 60, N)
    operation, cost = measured(
        (
            lambda suite, party, x, y: truncated(suite, party, (x, by), (y, 1000)),
            lambda suite, party, v, w: (suite.mul(party, v, w), suite.mul(party, suite.neg(party, w), v)),
        )
    )
    (v, w, product, negated), _ = setting.run(operation, z, other)
    assert torch.equal(product, v * w)
    assert torch.equal(negated, -v * w)
    if setting.secret:
        assert set(cost.values()) == {affine.product_cost(N, 4) * 2}


@pytest.mark.parametrize("by", [1 << 16, 1000])
def test_with_what_was_opened_under_a_mask(setting, by, rng):
    """Two dealt words; with what was not opened, both are opened, as any two factors."""
    z, known, fresh = bounded_words(rng, 60, N), random_words(rng, N), random_words(rng, N)

    def operation(suite, party, x, y, other):
        [v] = truncated(suite, party, (x, by))
        suite.square(party, y)
        before = party.channel.stats.copy()
        first = suite.mul(party, v, y)
        middle = party.channel.stats.copy()
        second = suite.mul(party, other, v)
        third = suite.mul(party, v, other)
        if setting.secret:
            assert (middle - before).cost == affine.product_cost(N, 2)
            words = N + (lane_words(N) if reopens(by) else N)
            opened = opening(setting.holders, words) + product_cost(setting.holders, 0, N) * 2
            assert (party.channel.stats - middle).cost == opened
        return v, first, second, third

    (v, first, second, third), _ = setting.run(operation, z, known, fresh)
    assert torch.equal(first, v * known)
    assert torch.equal(second, v * fresh)
    assert torch.equal(third, v * fresh)


@pytest.mark.parametrize("by", [1 << 16, 1 << 45, 1000])
def test_windows_and_repeated_elements(setting, by, rng):
    """A transpose is of the same body; a column that is repeated is opened, which takes fewer bytes."""
    z, other = bounded_words(rng, 50, 6, 6), bounded_words(rng, 50, 6, 1)

    def operation(suite, party, x, y):
        v, w = truncated(suite, party, (x, by), (y, 1000))
        turned = Share(v.body, (6, 6), v.scale, (1, 6))
        part = Share(v.body, (4, 6), v.scale, (6, 1), 12)
        before = party.channel.stats.copy()
        found = suite.mul(party, v, turned), suite.square(party, part)
        assert (party.channel.stats - before).rounds == 0
        repeated = suite.mul(party, v, w)
        assert (party.channel.stats - before).rounds == (1 if setting.secret else 0)
        return v, w, *found, repeated

    (v, w, turned, part, repeated), _ = setting.run(operation, z, other)
    assert torch.equal(turned, v * v.t())
    assert torch.equal(part, v[2:] * v[2:])
    assert torch.equal(repeated, v * w)


def test_no_elements(setting, rng):
    z = random_words(rng, 0, 3)

    def operation(suite, party, x):
        [v] = truncated(suite, party, (x, 1000))
        return suite.square(party, v), suite.mul(party, v, v)

    (square, product), _ = setting.run(operation, z)
    assert square.shape == product.shape == (0, 3)


@pytest.mark.parametrize("by", [1 << 16, 1000, 3])
def test_rounded_to_the_nearest(secret_setting, by, rng):
    """A square takes four dealt words, a product with what was opened three; two such factors are opened."""
    setting = secret_setting
    if setting.protocol != "default":
        pytest.skip("signs that are shared in another way")
    z, other, known = bounded_words(rng, 60, N), bounded_words(rng, 60, N), random_words(rng, N)

    def operation(suite, party, x, y, mask):
        suite = exact.nearest(suite)
        v, w = truncated(suite, party, (x, by), (y, by))
        suite.square(party, mask)
        before = party.channel.stats.copy()
        square, doubled = suite.square(party, v), suite.square(party, suite.scale_by(party, w, 2))
        assert (party.channel.stats - before).cost == affine.product_cost(N, 4) * 2
        middle = party.channel.stats.copy()
        product = suite.mul(party, mask, w)
        assert (party.channel.stats - middle).cost == affine.product_cost(N, 3)
        return v, w, square, doubled, product, suite.mul(party, v, w)

    (v, w, square, doubled, product, both), _ = setting.run(operation, z, other, known)
    assert torch.equal(v, torch.div(z + by // 2, by, rounding_mode="floor"))
    assert torch.equal(square, v * v)
    assert torch.equal(doubled, 4 * w * w)
    assert torch.equal(product, known * w)
    assert torch.equal(both, v * w)


def test_dealt_words_are_under_streams_of_their_own(rng):
    """As many numbers are taken as there are dealt words: what comes next is under others."""
    session = virtual_session(["a", "b"])
    suite, party = session.suite, session.party
    x, y = (suite.share(party, bounded_words(rng, 50, 9), (9,)) for _ in range(2))
    v, w = suite.truncate_all(party, [(x, 1 << 16), (y, 1000)])
    for words, run in ((2, lambda: suite.square(party, v)), (4, lambda: suite.mul(party, v, w))):
        before = party.dealer.next_stream
        run()
        assert party.dealer.next_stream - before == words
