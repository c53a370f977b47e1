"""Means of values by powers of scores, as attention takes them: values, weights, cost."""

import pytest
import torch
from settings import bounded_words

from pysmpc.mpc.functions.attention_scores import means, means_cost, powers, powers_cost
from pysmpc.mpc.interfaces import LOCAL

SCALE, FINE = 1 << 20, 1 << 44


def scores(rng, rows, n):
    """Scores at 2^44 less the largest of each row, some far below it."""
    x = torch.tensor(rng.normal(size=(rows, n)) * rng.choice([0.1, 3.0, 40.0], size=(rows, 1)))
    return ((x - x.max(1, keepdim=True).values) * FINE).round().to(torch.int64)


def apart(found, scale, expected):
    return (found.double() / scale - expected).abs().max()


@pytest.mark.parametrize("n", [1, 2, 5, 64, 130])
def test_powers(setting, n, rng):
    if not setting.secret:
        pytest.skip("the oracle has no openings")
    z = scores(rng, 3, n)
    found, cost = setting.run(lambda suite, party, x: powers(suite, party, x), (z, FINE))
    assert apart(found, 1 << 24, (z.double() / FINE).exp()) < 2.0**-22
    assert cost == setting.costs(powers_cost(setting.holders, 3 * n))


@pytest.mark.parametrize(
    ("batch", "rows", "n", "d"), [((), 1, 1, 1), ((2,), 3, 5, 4), ((2, 2), 4, 16, 3), ((), 2, 130, 8)]
)
def test_means(setting, batch, rows, n, d, rng):
    if not setting.secret:
        pytest.skip("the oracle has no openings")
    count = max(1, 4 ** len(batch) // 2 ** len(batch))
    z = scores(rng, count * rows, n)
    v = bounded_words(rng, 24, count * n * d).view(*batch, n, d)

    def whole(suite, party, x, y):
        p = powers(suite, party, x)
        p = p.__class__(p.body, (*batch, rows, n), p.scale)
        out, how = means(suite, party, p, y.at(SCALE), suite.matmul, lambda product, by: None)
        return out, how.weights(party)

    (out, weights), _ = setting.run(whole, (z, FINE), v)
    right = (z.double() / FINE).softmax(1)
    assert apart(weights, 1 << 24, right) < 2.0**-17
    expected = right.view(*batch, rows, n) @ (v.double() / SCALE)
    off = (out.double() / (1 << 42) - expected).abs()
    assert (off <= 2.0**-17 * expected.abs() + 2.0**-17).all()


def test_cost_of_means(setting, rng):
    rows, n, d = 6, 5, 4
    z, v = scores(rng, rows, n), bounded_words(rng, 24, n * d).view(n, d)

    def both(suite, party, x, y):
        return means(suite, party, powers(suite, party, x), y.at(SCALE), suite.matmul, lambda product, by: None)[0]

    if not setting.secret:
        pytest.skip("the oracle has no openings")
    _, cost = setting.run(both, (z, FINE), v)
    declared = powers_cost(setting.holders, rows * n) + means_cost(setting.holders, rows, n, n * d, d)
    assert cost == setting.costs(declared) != LOCAL
