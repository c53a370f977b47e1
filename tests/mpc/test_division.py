"""Division by a secret: Python's fractions are the oracle, over the whole range."""

from collections import defaultdict
from fractions import Fraction

import pytest
import torch
from settings import Setting

from pysmpc.errors import EncodingError
from pysmpc.mpc.additive import exact
from pysmpc.mpc.derived import division
from pysmpc.mpc.suite import default
from pysmpc.ring.shares import Share
from pysmpc.session.session import virtual_session

SCALES = [1, 1000, 1 << 10, 1 << 16, 10**5, 1 << 20]
LIMIT = (1 << 62) - 1
SETTINGS = [Setting("plaintext", 1), Setting("virtual", 2), Setting("virtual", 3)]


def divisors(rng, n):
    """Both signs and every magnitude below 2^62; the powers of two and their neighbours."""
    edges = [sign * ((1 << k) + d) for k in range(63) for d in (-1, 0, 1) for sign in (1, -1)]
    magnitudes = rng.integers(1 << 61, 1 << 62, n) >> rng.integers(0, 62, n)
    values = [*edges, *(int(m) * (1 - 2 * int(b)) for m, b in zip(magnitudes, rng.integers(0, 2, n), strict=True))]
    return torch.tensor([v for v in values if 0 < abs(v) <= LIMIT])


def dividends(rng, y, s):
    """Of every magnitude for which the quotient by y is below 2^62, with the largest among them."""
    out = []
    for i, v in enumerate(y.tolist()):
        bound = min(LIMIT, (LIMIT * abs(v)) // s)
        size = bound >> (0 if i % 3 == 0 else int(rng.integers(0, 63)))
        x = int(rng.integers(0, size + 1)) if i % 2 else size
        out.append(x if rng.integers(2) else -x)
    return torch.tensor(out)


def check(opened, x, y, s):
    """Within half a step, and what the estimate of the last digit adds."""
    allowed = Fraction(1, 2) + Fraction(1, 64)
    for q, a, b in zip(opened.tolist(), x.tolist(), y.tolist(), strict=True):
        assert abs(q - Fraction(a * s, b)) <= allowed, (a, b, s, q)


@pytest.mark.parametrize("s", SCALES)
@pytest.mark.parametrize("setting", SETTINGS, ids=str)
def test_quotients_over_the_whole_range(setting, s, rng):
    y = divisors(rng, 1500)
    x = dividends(rng, y, s)
    opened, _ = setting.run(lambda suite, party, a, b: division.divide(suite, party, a, b, s), (x, s), (y, s))
    check(opened, x, y, s)


@pytest.mark.parametrize("s", SCALES)
@pytest.mark.parametrize("setting", SETTINGS, ids=str)
def test_reciprocals_over_the_whole_range(setting, s, rng):
    y = divisors(rng, 1500)
    opened, _ = setting.run(lambda suite, party, a: division.reciprocal(suite, party, a, s), (y, s))
    check(opened, torch.full_like(y, s), y, s)


@pytest.mark.parametrize("s", [1000, 1 << 16])
def test_results_and_costs(setting, s, rng):
    y = divisors(rng, 20)[-20:].reshape(4, 5)
    x = dividends(rng, y.reshape(-1), s).reshape(4, 5)
    n = setting.holders
    costs = defaultdict(list)  # by party: several run at once

    def operation(suite, party, a, b):
        def counted(run):
            before = party.channel.stats.copy()
            out = run()
            costs[id(party)].append((party.channel.stats - before).cost)
            return out

        first = counted(lambda: division.divide(suite, party, a, b, s))
        again = counted(lambda: division.divide(suite, party, a, b, s))
        window = Share(b.body, (5, 2), s, (1, 10))
        one = counted(lambda: division.reciprocal(suite, party, window, s))
        assert (first.scale, one.scale) == (s, s)
        return first, again, one

    (first, again, one), _ = setting.run(operation, (x, s), (y, s))
    for opened in (first, again):
        assert opened.shape == y.shape
        check(opened.reshape(-1), x.reshape(-1), y.reshape(-1), s)
    window = y[::2].t().reshape(-1)
    check(one.reshape(-1), torch.full_like(window, s), window, s)
    if setting.secret:
        for found in costs.values():
            assert found[0] == division.divide_cost(n, 20, s)
            assert found[1] == division.divide_cost(n, 20, s, again=True)
            assert found[2] == division.reciprocal_cost(n, 10)


@pytest.mark.parametrize("setting", SETTINGS, ids=str)
def test_whole_quotients_over_the_whole_range(setting, rng):
    """Python's, of every magnitude, and around multiples of the divisor; in 50 rounds."""
    y = divisors(rng, 300)
    pairs = []
    for a, b in zip(dividends(rng, y, 1).tolist(), y.tolist(), strict=True):
        near = (a // b) * b + int(rng.integers(-1, 2))
        pairs += [(a, b), (near if abs(near) <= LIMIT else a, b)]
    x, y = torch.tensor(pairs).t().contiguous()
    opened, cost = setting.run(division.floor_divide, (x, 1), (y, 1))
    assert opened.tolist() == [a // b for a, b in pairs]
    if setting.secret:
        assert cost.rounds == 50


@pytest.mark.parametrize("setting", SETTINGS, ids=str)
def test_division_by_zero_is_zero(setting):
    s = 1 << 16
    x = torch.tensor([0, 1, -1, s, LIMIT, -LIMIT])
    opened, _ = setting.run(lambda suite, party, a, b: division.divide(suite, party, a, b, s), (x, s), x * 0)
    assert torch.equal(opened, x * 0)
    opened, _ = setting.run(lambda suite, party, b: division.reciprocal(suite, party, b, s), x * 0)
    assert torch.equal(opened, x * 0)
    opened, _ = setting.run(division.floor_divide, x, x * 0)
    assert torch.equal(opened, -(x < 0).to(torch.int64))


def test_with_exact_rounding(rng):
    """The suite that rounds to nearest divides as its base does, in as many rounds."""
    y = divisors(rng, 50)
    x = dividends(rng, y, 1000)

    def operation(suite, party, a, b):
        return division.divide(exact.nearest(default), party, a, b, 1000)

    opened, cost = Setting("virtual", 2).run(operation, (x, 1000), (y, 1000))
    check(opened, x, y, 1000)
    assert cost == division.divide_cost(2, y.numel(), 1000)


def test_scales_out_of_range():
    session = virtual_session(["a", "b"])
    x = session.suite.share(session.party, torch.tensor([5]), (1,))
    with pytest.raises(EncodingError, match="fewer fractional bits"):
        division.reciprocal(session.suite, session.party, x, 1 << 23)
