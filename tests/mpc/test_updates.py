"""own + factor * z / by, where z may be a product whose last part is never dealt."""

from dataclasses import replace

import pytest
import torch
from settings import bounded_words

from pysmpc.mpc.additive import products, truncation
from pysmpc.ring import z2k
from pysmpc.ring.prg import KeySet, fresh_key

SIDE = 128  # SIDE * SIDE is products.LATE


def check(opened, own, z, by, spare=0.0):
    """opened - own is z / by, rounded either way; spare: within so much more of a step."""
    quotient = torch.div(z, by, rounding_mode="floor")
    rest = (z - quotient * by).double() / by
    above = opened - own - quotient
    assert bool(((above - rest > -1 - spare) & (above - rest < 1 + spare)).all())


def halves(holders, by):
    """By how much more of a step an update may be off that opens upper halves only."""
    spare = (2 * holders - 1) * 2**31 / by if truncation.halved(holders, by) else 0.0
    assert spare <= 1 / 8
    return spare


@pytest.mark.parametrize("factor", [1, -1, 5, -41943])
@pytest.mark.parametrize("by", [1 << 16, 1 << 36, 1 << 37, 1 << 40, 3 << 37, 1000])
def test_update(setting, by, factor, rng):
    own, z = bounded_words(rng, 40, 150), bounded_words(rng, 45, 150)
    opened, cost = setting.run(
        lambda suite, party, x, y: tuple(suite.update_all(party, [(x, y, factor, by), (y, x, 1, by)])), own, z
    )
    check(opened[0], own, factor * z, by, halves(setting.holders, by))
    check(opened[1], z, own, by, halves(setting.holders, by))
    declared = truncation.update_cost(setting.holders, 150, by)
    assert cost == setting.costs(replace(declared + declared, rounds=1))


@pytest.mark.parametrize("by", [1 << 37, 3 << 40])
def test_upper_halves_over_the_whole_range(setting, by, rng):
    """No catastrophe however large the dividend, an odd number of elements, and no lean to either side."""
    n, most = 100_001, 2**62 - 2**36
    z = torch.from_numpy(rng.integers(-most, most, (n,), endpoint=True))
    z[:4] = torch.tensor([most, -most, most - 1, 1 - most])
    own = bounded_words(rng, 30, n)
    [opened], cost = setting.run(lambda suite, party, x, y: tuple(suite.update_all(party, [(x, y, 1, by)])), own, z)
    check(opened, own, z, by, halves(setting.holders, by))
    assert cost == setting.costs(truncation.update_cost(setting.holders, n, by))
    assert truncation.update_cost(2, n, by).sent == 4 * (n + 1)
    quotient = torch.div(z, by, rounding_mode="floor")
    error = (opened - own - quotient).double() - (z - quotient * by).double() / by
    if setting.name == "plaintext":  # rounds down
        return
    for every_second in (error[::2], error[1::2]):  # lower and upper halves of words; 7 deviations of a mean
        assert abs(float(every_second.mean())) < 7 * float(error.std()) / (n / 2) ** 0.5


def test_halves_need_what_they_are_added_to():
    keys, words = KeySet([fresh_key()]), torch.zeros((1, 4), dtype=torch.int64)
    with pytest.raises(ValueError, match="hand over x"):
        z2k.truncate_finish(keys, 0, truncation.divisor(1 << 40), words, None, halves=2)


def test_a_late_product(setting, rng):
    """A matrix product that an update reads first costs the dealer nothing of its own."""
    own, x, y = (bounded_words(rng, 20, SIDE, SIDE) for _ in range(3))

    def operation(suite, party, s, a, b):
        z = suite.matmul(party, a, b)
        return suite.update_all(party, [(s, z, -3, 1 << 20)])[0]

    opened, cost = setting.run(operation, own, x, y)
    check(opened, own, -3 * (x @ y), 1 << 20)
    n = SIDE * SIDE
    declared = truncation.truncate_cost(setting.holders, n, 1 << 20)
    opening = products.product_cost(setting.holders, 2 * n, 0)
    assert cost == setting.costs(declared + opening)


@pytest.mark.parametrize("before", [False, True], ids=["read after", "read before"])
def test_a_late_product_that_is_read(setting, before, rng):
    """Read by anything else, it is completed: once, before or after the update."""
    own, x, y = (bounded_words(rng, 20, SIDE, SIDE) for _ in range(3))

    def operation(suite, party, s, a, b):
        z = suite.matmul(party, a, b)
        if before:
            assert z.words().shape[1] == z.numel
        out = suite.update_all(party, [(s, z, 1, 1000)])[0]
        return out, z, suite.add(party, z, z)

    (opened, z, twice), cost = setting.run(operation, own, x, y)
    assert torch.equal(z, x @ y)
    assert torch.equal(twice, 2 * z)
    check(opened, own, z, 1000)
    n = SIDE * SIDE
    declared = truncation.truncate_cost(setting.holders, n, 1000) + products.product_cost(setting.holders, 2 * n, n)
    assert cost == setting.costs(declared)


def test_a_part_of_a_late_product(setting, rng):
    """A window takes the whole product's words."""
    own, x, y = bounded_words(rng, 20, SIDE), *(bounded_words(rng, 20, SIDE, SIDE) for _ in range(2))

    def operation(suite, party, s, a, b):
        z = suite.matmul(party, a, b)
        row = type(z)(z.body, (SIDE,), z.scale, (1,), 3 * SIDE)
        return suite.update_all(party, [(s, row, 1, 1 << 16)])[0]

    opened, _ = setting.run(operation, own, x, y)
    check(opened, own, (x @ y)[3], 1 << 16)
