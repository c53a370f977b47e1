"""The sampler of noise: its distribution, its thresholds, and how ties are decided."""

import math
import random

import numpy as np
import pytest
import torch

from pysmpc.mpc.derived.discrete_gaussian import HALF, TOP, Sampler, Table
from pysmpc.ring.prg import KeySet, fresh_key


def probabilities(sigma, reach):
    weights = np.exp(-(np.arange(-reach, reach + 1.0) ** 2) / (2 * sigma**2))
    return weights / weights.sum()


@pytest.mark.parametrize("sigma", [0.3, 1.0, 6.5, 11.4])
def test_thresholds_are_those_of_the_distribution(sigma):
    table = Table.of(sigma)
    exact = probabilities(sigma, 400)
    reached = [(high << HALF | low) / 2.0 ** (2 * HALF) for high, low in zip(table.high, table.low, strict=True)]
    for j, value in enumerate(reached):
        assert value == pytest.approx(exact[400 - j : 401 + j].sum(), abs=1e-14)
    # what is left beyond the last threshold, in steps of 2^-126, by the ratio of neighbours far out
    left = (1 << 2 * HALF) - (table.high[-1] << HALF | table.low[-1])
    last = len(reached) - 1
    beyond = 2 * math.exp(-((last + 1) ** 2) / (2 * sigma**2)) / sum(exact) * exact[400]
    assert left <= max(beyond * 2.0 ** (2 * HALF) * 3, 2)


@pytest.mark.parametrize("sigma", [0.7, 3.0, 15.0, 20.0, 33.0, 77.7])
def test_frequencies(sigma):
    n = 40_000
    found = Sampler(sigma).draw(fresh_key(), n).numpy()
    reach = math.ceil(12 * sigma)
    exact = probabilities(sigma, reach)
    counts = np.bincount(found + reach, minlength=2 * reach + 1)
    often = n * exact > 10
    chi2 = float((((counts - n * exact) ** 2) / (n * exact + 1e-300))[often].sum())
    freedom = int(often.sum())
    assert abs(chi2 - freedom) < 6.5 * math.sqrt(2 * freedom) + 20
    assert abs(counts[~often].sum() - n * exact[~often].sum()) < 7 * math.sqrt(n * exact[~often].sum() + 1) + 5


@pytest.mark.parametrize("sigma", [2.0**10, 65536 * 1.37, 2.0**30])
def test_wide_ones_have_their_moments_and_shape(sigma):
    n = 20_000
    found = Sampler(sigma).draw(fresh_key(), n).double() / sigma
    assert abs(float(found.mean())) < 6 / math.sqrt(n)
    assert abs(float(found.square().mean()) - 1) < 6 * math.sqrt(2 / n)
    assert distance(found) < 2.6 / math.sqrt(n)


def distance(found):
    """Of Kolmogorov and Smirnov, from the standard normal distribution."""
    ordered = torch.special.ndtr(found.sort().values)
    ideal = torch.arange(len(found) + 1) / len(found)
    return float(torch.maximum((ordered - ideal[:-1]).abs(), (ordered - ideal[1:]).abs()).max())


@pytest.mark.slow
@pytest.mark.parametrize("sigma", [2.0**12, 2.0**17 * 1.1, 2.0**40])
def test_kolmogorov_and_smirnov(sigma):
    n = 1_000_000
    found = Sampler(sigma).draw(fresh_key(), n).double() / sigma
    assert distance(found) < 2.6 / math.sqrt(n)  # a false alarm once in 10^5


def test_parts_make_up_the_whole():
    for sigma in [0.2, 8.0, 16.0, 17.3, 90.0, 65536.0, 1e6, 2.0**44.3, 2.0**45]:
        sampler = Sampler(sigma)
        assert sampler.base * math.sqrt(sum(k * k for k in sampler.factors)) == pytest.approx(sigma, rel=1e-12)
        partial = sampler.base
        for k in sampler.factors[1:]:
            # Poisson summation: the relative error of each probability
            width = partial * sampler.base / math.sqrt(partial**2 + (k * sampler.base) ** 2)
            assert 2 * math.exp(-2 * (math.pi * width) ** 2) < 2.0**-99
            partial = math.sqrt(partial**2 + (k * sampler.base) ** 2)
        assert sampler.distance < 2.0**-110
        assert sampler.ratio < 2.0**-90


def test_a_tie_is_decided_by_the_second_word(monkeypatch):
    """Words that are equal to a threshold, in each part of a wide number, beside the definition in integers."""
    sampler = Sampler(50.0)
    table, n = sampler._table, 400
    assert sampler.draws == 3
    first = [j for j, high in enumerate(table.high) if high < TOP]
    streams = {}
    for i in range(sampler.draws):
        words, second = torch.randint(TOP, (n,)), torch.randint(TOP, (n,))
        for at in range(0, n, 3):
            j = random.choice(first)
            words[at] = table.high[j]
            second[at] = table.low[j] + random.randint(-1, 1)
        words[7], second[7] = TOP, random.choice(table.low)  # beyond all first words
        signs = torch.randint(2, (n,)) << 63
        streams[2 * i], streams[2 * i + 1] = words | signs, second | torch.randint(2, (n,)) << 63
    monkeypatch.setattr(KeySet, "draw", lambda self, stream, n: streams[stream].unsqueeze(0))

    def exact(word, more):
        u = (word & TOP) << HALF | (more & TOP)
        count = sum(u >= (h << HALF | x) for h, x in zip(table.high, table.low, strict=True))
        return -count if word < 0 else count

    expected = [
        sum(f * exact(int(streams[2 * i][at]), int(streams[2 * i + 1][at])) for i, f in enumerate(sampler.factors))
        for at in range(n)
    ]
    assert sampler.draw(fresh_key(), n).tolist() == expected


def test_second_words_are_drawn_for_ties_alone(monkeypatch):
    asked = []
    draw = KeySet.draw

    def noted(self, stream, n):
        asked.append(stream)
        return draw(self, stream, n)

    monkeypatch.setattr(KeySet, "draw", noted)
    sampler = Sampler(1000.0)
    sampler.draw(fresh_key(), 5000)
    assert asked == [2 * i for i in range(sampler.draws)]


def test_signs_and_keys():
    sampler = Sampler(1000.0)
    key = fresh_key()
    assert torch.equal(sampler.draw(key, 9000), sampler.draw(key, 9000))
    assert not torch.equal(sampler.draw(key, 9000), sampler.draw(fresh_key(), 9000))
    flipped = [KeySet([key]).draw(2 * i, 9000)[0] < 0 for i in range(sampler.draws)]
    assert abs(float(flipped[0].double().mean()) - 0.5) < 6 / math.sqrt(4 * 9000)
    assert sampler.draw(key, 0).shape == (0,)


@pytest.mark.parametrize("sigma", [0.0, -1.0, 2.0**46, math.nan, math.inf])
def test_bad_deviations(sigma):
    with pytest.raises(ValueError, match="standard deviation of noise"):
        Sampler(sigma)
