"""Millions of products and comparisons of values of every size: no error above one step, no
wrong bit.  The slow ones have the sizes that are promised; the others at most one in sixteen."""

import pytest
import torch
from settings import Setting, bounded_words, random_words

STEP = 1 << 16
CHUNK = 1 << 17


def sized(full, quick):
    return pytest.mark.parametrize("n", [quick, pytest.param(full, marks=pytest.mark.slow)])


@sized(1 << 22, 1 << 18)
@pytest.mark.parametrize("holders", [2, 3])
def test_products(holders, n, rng):
    """|x| up to 2^45, y as large as |x y| < 2^62 allows; each truncated by 2^16."""
    setting = Setting("virtual", holders)
    for _ in range(n // CHUNK):
        x = bounded_words(rng, 45, CHUNK)
        room = ((1 << 62) - STEP) // x.abs().clamp(min=1)
        y = (torch.from_numpy(rng.random(CHUNK)) * room.clamp(max=1 << 45)).long()
        y = torch.where(torch.from_numpy(rng.random(CHUNK) < 0.1), room.clamp(max=1 << 45), y)
        y = torch.where(torch.from_numpy(rng.random(CHUNK) < 0.5), y, -y)
        opened, _ = setting.run(
            lambda suite, party, a, b: suite.truncate(party, suite.mul(party, a, b), STEP), (x, STEP), (y, STEP)
        )
        exact = x * y
        above = opened - torch.div(exact, STEP, rounding_mode="floor")
        assert bool(((above == 0) | (above == 1)).all())
        assert bool((above[exact % STEP == 0] == 0).all())


@sized(1 << 22, 1 << 18)
@pytest.mark.parametrize("holders", [2, 3])
def test_comparisons(holders, n, rng):
    """Signs of the whole ring; and x < y for |x|, |y| up to 2^45, of which many differ by a step."""
    setting = Setting("virtual", holders)

    def signs(suite, party, a):
        return suite.bit_share(party, suite.negative(party, a), a.shape)

    for index in range(n // CHUNK):
        x = random_words(rng, CHUNK)
        if index % 2:
            x = bounded_words(rng, 45, CHUNK)
            near = torch.from_numpy(rng.integers(-2, 3, CHUNK))
            x = x - torch.where(torch.from_numpy(rng.random(CHUNK) < 0.5), x + near, bounded_words(rng, 45, CHUNK))
        bits, _ = setting.run(signs, x)
        assert torch.equal(bits, (x < 0).to(torch.int64))


@sized(1 << 22, 1 << 17)
@pytest.mark.parametrize("holders", [2, 3])
def test_relus(holders, n, rng):
    setting = Setting("virtual", holders)
    for _ in range(n // CHUNK):
        z = bounded_words(rng, 61, CHUNK)
        opened, _ = setting.run(lambda suite, party, a: suite.relu(party, a, STEP), (z, STEP))
        above = opened - torch.div(z.clamp(min=0), STEP, rounding_mode="floor")
        assert bool(((above == 0) | (above == 1)).all())
        assert bool((opened[z <= 0] == 0).all())
