"""own + factor * z / by, where z may be a product whose last part is never dealt."""

from dataclasses import replace

import pytest
import torch
from settings import bounded_words

from pysmpc.protocols import products, truncation

SIDE = 128  # SIDE * SIDE is products.LATE


def check(opened, own, z, by):
    above = opened - own - torch.div(z, by, rounding_mode="floor")
    assert bool(((above == 0) | (above == 1)).all())


@pytest.mark.parametrize("factor", [1, -1, 5, -41943])
@pytest.mark.parametrize("by", [1 << 16, 1 << 40, 1000])
def test_update(setting, by, factor, rng):
    own, z = bounded_words(rng, 40, 150), bounded_words(rng, 45, 150)
    opened, cost = setting.run(
        lambda suite, party, x, y: tuple(suite.update_all(party, [(x, y, factor, by), (y, x, 1, by)])), own, z
    )
    check(opened[0], own, factor * z, by)
    check(opened[1], z, own, by)
    declared = truncation.truncate_cost(setting.holders, 150, by)
    assert cost == setting.costs(replace(declared + declared, rounds=1))


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
