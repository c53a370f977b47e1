"""Products without a round, however many dealt words they take, and openings that travel together."""

import pytest
import torch
from settings import bounded_words, random_words

from pysmpc.mpc.additive import affine
from pysmpc.mpc.additive.affine_values import note_shifted
from pysmpc.mpc.additive.products import product_cost
from pysmpc.mpc.additive.truncation import truncate_cost
from pysmpc.mpc.functions import fits
from pysmpc.mpc.functions.characters import evaluate
from pysmpc.mpc.functions.smooth import smooth
from pysmpc.mpc.interfaces import LOCAL, Cost, opening
from pysmpc.ring.shares import Share

SCALE = 1 << 16
SELECTION, QUOTIENT, FUNCTION = 5, 2, 6  # dealt words


@pytest.mark.parametrize("by", [1000, 1 << 16])
@pytest.mark.parametrize("flip", [False, True])
def test_products_of_selections(setting, by, flip, rng):
    x, y, z = bounded_words(rng, 40, 70), bounded_words(rng, 40, 70), bounded_words(rng, 40, 70)

    def chosen(suite, party, a, b):
        bit = suite.negative(party, a)
        return suite.select(party, bit.flipped() if flip else bit, b, by)

    def operation(suite, party, a, b, c):
        first, [second] = chosen(suite, party, a, b), suite.truncate_all(party, [(c, by)])
        before = party.channel.stats.copy() if setting.secret else None
        left = suite.mul_at_once(party, first, second)
        whole = suite.mul_at_once(party, first, first)
        assert before is None or party.channel.stats.rounds == before.rounds
        return first, second, left, whole

    (first, second, left, whole), _ = setting.run(operation, x, y, z)
    kept = (x < 0) != flip
    assert ((first - torch.where(kept, torch.div(y, by, rounding_mode="floor"), 0)).abs() <= 1).all()
    assert not bool(first[~kept].any())
    assert torch.equal(left, first * second)
    assert torch.equal(whole, first * first)


def test_products_of_functions(setting, rng):
    """What a sigmoid gives, a selection and a bit; less a public number, and windows on it."""
    x, y = bounded_words(rng, 21, 60), bounded_words(rng, 30, 20)

    def operation(suite, party, a, b):
        out = smooth(suite, party, a.at(SCALE), fits.SIGMOID, SCALE)
        less = suite.add(party, out, suite.public(party, torch.full((60,), -500), SCALE))
        note_shifted(less, out, -500)
        part = Share(less.body, (3, 20), SCALE)
        [other] = suite.truncate_all(party, [(b, 4)])
        return out, other, suite.mul_at_once(party, part, other.at(SCALE))

    (out, other, found), _ = setting.run(operation, x, y)
    assert ((out.double() / SCALE - torch.sigmoid(x.double() / SCALE)).abs() < 2.0**-15).all()
    assert torch.equal(found, (out - 500).view(3, 20) * other)


@pytest.mark.parametrize("n", [1, 65])
def test_cost_of_products(setting, n, rng):
    x, y = bounded_words(rng, 40, n), bounded_words(rng, 40, n)
    costs = {}

    def operation(suite, party, a, b):
        bit = suite.negative(party, a)
        first, [second] = suite.select(party, bit, b, 1000), suite.truncate_all(party, [(a, 8)])
        stats = party.channel.stats if setting.secret else None
        for name, pair in {"selections": (first, first), "both": (first, second), "fresh": (a, b)}.items():
            before = None if stats is None else stats.copy()
            suite.mul_at_once(party, *pair)
            costs[name] = None if stats is None else (stats - before).rounds
        return first

    _, total = setting.run(operation, x, y)
    if setting.secret:
        assert costs == {"selections": 0, "both": 0, "fresh": 1}

    def without(suite, party, a, b):
        bit = suite.negative(party, a)
        suite.truncate_all(party, [(a, 8)])
        return suite.select(party, bit, b, 1000)

    _, others = setting.run(without, x, y)
    words = SELECTION * SELECTION + SELECTION * QUOTIENT
    more = affine.product_cost(n, words) + product_cost(setting.holders, 2 * n, n)
    assert total == (others + more if setting.secret else LOCAL)


def test_without_elements_or_words(setting, rng):
    x = random_words(rng, 0)
    found, _ = setting.run(lambda suite, party, a: suite.mul_at_once(party, a, a), x)
    assert found.shape == (0,)


def test_together(setting, rng):
    """An argument, two divisions and a factor: one round; nothing at all: none."""
    x, y, z = bounded_words(rng, 18, 40), bounded_words(rng, 50, 30), bounded_words(rng, 50, 30)

    def operation(suite, party, a, b, c):
        assert suite.together(party) == ([], [])
        [masked], quotients = suite.together(party, [a.at(SCALE)], [(b, 1000), (c, 1 << 16)], [b])
        value = evaluate(suite, party, masked, a.at(SCALE), fits.SIGMOID)
        return *quotients, suite.mul(party, b, b), value

    (one, other, square, value), cost = setting.run(operation, x, y, z)
    assert ((one - torch.div(y, 1000, rounding_mode="floor")).abs() <= 1).all()
    assert ((other - (z >> 16)).abs() <= 1).all()
    assert torch.equal(square, y * y)
    assert ((value.double() / 2.0**54 - torch.sigmoid(x.double() / SCALE)).abs() < 2.0**-15).all()
    n = setting.holders
    dealt = truncate_cost(n, 30, 1000).dealt + truncate_cost(n, 30, 1 << 16).dealt
    declared = opening(n, 40 + 30 + 30 + 30) + Cost(dealt=dealt + 8 * 30 + 16 * 40 * fits.SIGMOID.terms)
    assert cost == setting.costs(declared)


def test_together_begins_products(setting, rng):
    """Of matrices that nobody has read: their factors are opened in a round before."""
    x, y = bounded_words(rng, 20, 4, 5), bounded_words(rng, 20, 5, 3)

    def operation(suite, party, a, b):
        product = suite.matmul(party, a, b)
        return suite.together(party, (), [(product, 16)])[1][0]

    found, cost = setting.run(operation, x, y)
    assert ((found - ((x @ y) >> 4)).abs() <= 1).all()
    assert not setting.secret or cost.rounds == 2
