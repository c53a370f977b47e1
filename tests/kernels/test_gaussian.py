"""Counting thresholds below words, against Python's integers."""

import pytest
import torch
from kernel_oracles import LENGTHS, TILES, WORD, Guarded, samples

from pysmpc import _ring
from pysmpc._ring import launch
from pysmpc.ring import integer_functions

TOP = (1 << 63) - 1


def run(words, thresholds, factor, z):
    """(z, tied)."""
    n = len(words)
    given, table, sums, tied = Guarded(words, 1), Guarded(thresholds, 2), Guarded(z, 3), Guarded([7] * n, 5)
    launch(_ring.gaussian, given.view, table.view, len(thresholds), factor, sums.view, tied.view, n)
    assert given.values() == words
    assert table.values() == thresholds
    return sums.values(), tied.values()


@pytest.mark.parametrize("count", [0, 1, 76])
@pytest.mark.parametrize("n", [*LENGTHS, *TILES[:3]])
def test_every_target_counts_thresholds(n, count, rng):
    thresholds = sorted(int(x) for x in rng.integers(0, TOP, count, endpoint=True))
    factor = int(rng.integers(1, 1 << 40))
    for _, words in samples(rng, n):
        # some words are equal to a threshold, or next to one
        near = [x + int(d) & TOP for x, d in zip(thresholds, rng.integers(-1, 2, count), strict=True)]
        words = [near[i % count] | (word & 1 << 63) if count and i % 3 == 0 else word for i, word in enumerate(words)]
        before = [int(x) for x in rng.integers(0, WORD, n, endpoint=True, dtype="uint64")]
        found, tied = run(words, thresholds, factor, before)
        below = [sum(t < (word & TOP) for t in thresholds) for word in words]
        parts = [-b if word >> 63 else b for b, word in zip(below, words, strict=True)]
        assert found == [z + factor * part & WORD for z, part in zip(before, parts, strict=True)]
        assert tied == [thresholds.count(word & TOP) for word in words]


def test_threads_agree(threads, rng):
    words = torch.from_numpy(rng.integers(-(1 << 63), 1 << 63, 3 * 4096 + 77))
    thresholds = torch.from_numpy(rng.integers(0, 1 << 63, 50, dtype="uint64").view("int64"))
    results = []
    for count in (1, 2, 3):
        threads(count)
        z = torch.zeros_like(words)
        assert not integer_functions.add_gaussian(words, thresholds, 3, z).any()
        results.append(z)
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2])
    assert -150 <= int(results[0].min()) < int(results[0].max()) <= 150
