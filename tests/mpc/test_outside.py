"""Whether any of many values is too large: against Python's integers, in one process and in a thread a party."""

import random

import pytest
import torch
from settings import Setting

from pysmpc.mpc.derived.out_of_range import MOST, outside, outside_cost
from pysmpc.ring.shares import Share

RING = 1 << 63
#: Bounds of every size, both ends among them.
BOUNDS = [0, 1, 2, 1 << 20, (1 << 31) - 1, (1 << 40) + 7, 1 << 61, MOST - 1, MOST]


def beyond(most):
    """An integer of the ring that is too large: next to the bound, at the other side of the ring, or anywhere."""
    return random.choice(
        [most + 1, -most - 1, RING - 1, -RING, RING - 1 - most, most - RING, random.randint(most + 1, RING - 1)]
    )


def words_of(setting, values, most):
    """What is opened of one test, and its cost."""

    def run(suite, party, x):
        share = outside(party, x.words(), torch.tensor(most))
        [word] = party.channel.open_xor([share], "range")
        out = Share.of(torch.zeros_like(share), (1,))
        if party.rows:
            out = suite.public(party, word[0])
        return out

    return setting.run(run, torch.tensor(values))


@pytest.mark.parametrize("n", [1, 2, 63, 64, 65, 300])
def test_a_word_says_whether_any_is_too_large(secret_setting, n):
    for one in (False, True):
        most = [random.choice(BOUNDS) for _ in range(n)]
        values = [random.choice([t, -t, 0, random.randint(-t, t)]) for t in most]
        if one:
            place = random.randrange(n)
            values[place] = beyond(most[place])
        word, cost = words_of(secret_setting, values, most)
        assert bool(word.any()) == one, (values, most)
        assert cost.rounds == outside_cost(secret_setting.holders, n).rounds + 1
        assert cost.sent == outside_cost(secret_setting.holders, n).sent + 8 * (secret_setting.holders - 1)
        assert cost.dealt == outside_cost(secret_setting.holders, n).dealt


def test_both_ends_of_every_bound():
    for most in BOUNDS:
        for value in (most, -most, most + 1, -most - 1):
            word, _ = words_of(Setting("virtual", 2), [value], [most])
            assert bool(word.any()) == (abs(value) > most), (value, most)


@pytest.mark.parametrize("places", [[0], [7], [0, 1], list(range(16))])
def test_the_word_does_not_say_which_or_how_many(places):
    """Bits of a uniform word: 64 in each of 64 runs, of which between 1700 and 2400 are set."""
    values = [(1 << 50) if i in places else 0 for i in range(16)]
    words = [int(words_of(Setting("virtual", 2), values, [1 << 40] * 16)[0]) for _ in range(64)]
    count = sum(bin(word & (2**64 - 1)).count("1") for word in words)
    assert 1700 < count < 2400  # eleven standard deviations
    assert len(set(words)) == 64
