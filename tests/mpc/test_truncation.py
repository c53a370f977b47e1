"""Division by public numbers: within one step of the quotient for the whole range."""

import pytest
import torch
from settings import SECRET, bounded_words, random_words

from pysmpc.errors import PartyError
from pysmpc.mpc.additive import truncation
from pysmpc.mpc.interfaces import LOCAL
from pysmpc.ring import z2k
from pysmpc.ring.shares import Share
from pysmpc.session.session import virtual_session

DIVISORS = [2, 1 << 16, 1 << 20, 1 << 37, 1 << 61, 3, 10, 1000, 10**9, (1 << 31) - 1, (1 << 61) - 1]


def check(opened, z, by):
    """Floor or the integer above it; exact where z is a multiple."""
    floor = torch.div(z, by, rounding_mode="floor")
    above = opened - floor
    assert bool(((above == 0) | (above == 1)).all())
    assert bool((above[floor * by == z] == 0).all())


@pytest.mark.parametrize("by", DIVISORS)
def test_truncate(setting, by, rng):
    offset = z2k.Divisor(by).offset
    z = bounded_words(rng, 61, 200)
    z[:6] = torch.tensor([offset, -offset, offset - 1, 1 - offset, by, -by])
    opened, cost = setting.run(lambda suite, party, x: suite.truncate(party, x, by), (z, by * 7))
    check(opened, z, by)
    assert cost == setting.costs(truncation.truncate_cost(setting.holders, 200, by))


@pytest.mark.parametrize("shape", [(), (0,), (1,), (64,), (65,), (2, 3), (1000,)], ids=str)
def test_shapes(setting, shape, rng):
    z = bounded_words(rng, 61, *shape)
    opened, cost = setting.run(lambda suite, party, x: suite.truncate(party, x, 1 << 16), (z, 1 << 32))
    assert opened.shape == z.shape
    check(opened, z, 1 << 16)
    assert cost == setting.costs(truncation.truncate_cost(setting.holders, z.numel(), 1 << 16))


def test_a_window_is_truncated_alone(setting, rng):
    z = bounded_words(rng, 61, 6, 5)

    def operation(suite, party, x):
        return suite.truncate(party, Share(x.body, (5, 3), 1000, (1, 10), 5), 1000)

    opened, cost = setting.run(operation, z)
    check(opened, z[1::2].t(), 1000)
    assert cost == setting.costs(truncation.truncate_cost(setting.holders, 15))


def test_the_scale_follows(setting, rng):
    def operation(suite, party, x):
        out = suite.truncate(party, x, 1000)
        assert out.scale == 1000
        return out

    setting.run(operation, (bounded_words(rng, 40, 3), 1_000_000))


@pytest.mark.parametrize("by", [1 << 16, 1000])
@pytest.mark.parametrize("holders", [2, 3])
def test_rounding_is_unbiased(holders, by, rng):
    """A remainder of a fraction p of the divisor is rounded up with probability p."""
    session = virtual_session([str(i) for i in range(holders)])
    n = 40_000
    for part in (0.1, 0.5, 0.9):
        z = torch.from_numpy(rng.integers(-(1 << 40), 1 << 40, n)) * by + int(part * by)
        x = session.suite.share(session.party, z, z.shape, by)
        [opened] = session.suite.reveal(session.party, session.suite.truncate(session.party, x, by))
        ups = int((opened - torch.div(z, by, rounding_mode="floor")).sum())
        p = int(part * by) / by
        assert abs(ups - n * p) < 7 * (n * p * (1 - p)) ** 0.5


@pytest.mark.parametrize("setting", [s for s in SECRET if s.holders == 2], ids=str)
@pytest.mark.parametrize("bits", [1, 16, 20])
def test_truncate_local(setting, bits, rng):
    """Wrong with probability |z| / 2^64: values here are too small for that to be seen."""
    z = bounded_words(rng, 20, 200)
    opened, cost = setting.run(lambda suite, party, x: truncation.truncate_local(party, x, 1 << bits), (z, 1 << bits))
    floor = torch.div(z, 1 << bits, rounding_mode="floor")
    assert bool(((opened - floor >= 0) & (opened - floor <= 1)).all())
    assert cost == LOCAL


@pytest.mark.parametrize("setting", [s for s in SECRET if s.holders != 2], ids=str)
def test_truncate_local_is_for_two(setting, rng):
    with pytest.raises(PartyError, match="two holders"):
        setting.run(lambda suite, party, x: truncation.truncate_local(party, x, 2), random_words(rng, 3))


def test_truncate_local_wants_a_power_of_two(rng):
    session = virtual_session(["a", "b"])
    x = session.suite.share(session.party, random_words(rng, 3), (3,))
    with pytest.raises(ValueError, match="powers of two"):
        truncation.truncate_local(session.party, x, 1000)


@pytest.mark.parametrize("by", [0, 1, -4, 1 << 62])
def test_divisors_out_of_range(by, rng):
    session = virtual_session(["a", "b"])
    x = session.suite.share(session.party, random_words(rng, 3), (3,))
    with pytest.raises(ValueError, match="divisor"):
        session.suite.truncate(session.party, x, by)
