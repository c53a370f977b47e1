"""Truth values and the bits of integers: results and costs in every setting."""

import pytest
import torch
from settings import random_words

from pysmpc.mpc.additive import boolean
from pysmpc.ring.shares import Share

LENGTHS = [0, 1, 63, 64, 65, 200, 1025]


def truths(n):
    return torch.randint(0, 2, (n,))


@pytest.mark.parametrize("n", LENGTHS)
def test_logic(setting, n):
    a, b = truths(n), truths(n)
    for name, expected in (("logical_and", a & b), ("logical_xor", a ^ b)):
        opened, cost = setting.run(lambda suite, party, x, y: getattr(suite, name)(party, x, y), a, b)  # noqa: B023
        assert torch.equal(opened, expected)
        assert cost == setting.costs(getattr(boolean, f"{name}_cost")(setting.holders, n))


def test_an_exclusive_or_selects(setting, rng):
    """Its bit is public under a mask, as that of a comparison."""
    a, b, c = truths(100), truths(100), random_words(rng, 100)

    def operation(suite, party, x, y, z):
        both = suite.logical_xor(party, x, y)
        if not setting.secret:
            return suite.mul(party, both, z)
        return suite.select(party, both.body.bit.flipped(), z)

    opened, _ = setting.run(operation, a, b, c)
    assert torch.equal(opened, torch.where((a ^ b == 1) ^ setting.secret, c, 0))


@pytest.mark.parametrize("n", LENGTHS)
def test_integers(setting, n, rng):
    a, b, mask = random_words(rng, n), random_words(rng, n), random_words(rng, n)
    holders = setting.holders
    opened, cost = setting.run(lambda suite, party, x, y: suite.bitwise_and(party, x, y), a, b)
    assert torch.equal(opened, a & b)
    assert cost == setting.costs(boolean.bitwise_and_cost(holders, n))
    opened, cost = setting.run(lambda suite, party, x: suite.bitwise_and_public(party, x, mask), a)
    assert torch.equal(opened, a & mask)
    bits = 64 if n != 1 else int(mask).bit_count() if int(mask) >= 0 else 64 - (~int(mask)).bit_count()
    assert cost == setting.costs(boolean.bitwise_and_public_cost(holders, n, bits))
    opened, cost = setting.run(lambda suite, party, x: suite.bitwise_and_public(party, x, torch.tensor(0xF0F)), a)
    assert torch.equal(opened, a & 0xF0F)
    assert cost == setting.costs(boolean.bitwise_and_public_cost(holders, n, 8))
    by = torch.arange(n) % 64
    opened, cost = setting.run(lambda suite, party, x: suite.shift_right_each(party, x, by), a)
    assert torch.equal(opened, a >> by)
    assert cost == setting.costs(boolean.bitwise_and_public_cost(holders, n))


def test_bits_are_remembered(setting, rng):
    """A second use costs no decomposition: of operands, of results, and of windows on them."""
    a, b = random_words(rng, 6, 5), random_words(rng, 6, 5)
    costs = []

    def operation(suite, party, x, y):
        both = suite.bitwise_and(party, x, y)
        before = party.channel.stats.copy()
        again = suite.bitwise_and(party, both, x)
        turned = Share(x.body, (5, 3), 1, (1, 10), 5)
        odd = suite.bitwise_and_public(party, turned, torch.tensor(1))
        costs.append((party.channel.stats - before).cost)
        return again, odd

    (again, odd), _ = setting.run(operation, a, b)
    assert torch.equal(again, a & b)
    assert torch.equal(odd, a[1::2].t() & 1)
    n = setting.holders
    whole = boolean.bitwise_and_cost(n, 30)
    once = boolean.decompose_cost(n, 60)
    assert costs[0].rounds == setting.costs(whole).rounds - setting.costs(once).rounds + setting.secret
    assert costs[0].dealt == setting.costs(whole).dealt - setting.costs(once).dealt + 8 * 15 * setting.secret
