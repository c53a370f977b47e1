"""Cosines and sines in integers: the algorithm in Python's integers, and exact series."""

from fractions import Fraction
from functools import cache

import pytest
import torch
from kernel_oracles import LENGTHS, TILES, WORD, Guarded, samples, signed, turn

from pysmpc import _ring
from pysmpc._ring import launch
from pysmpc.ring import integer_functions

OFF = 1.4142  # 2^-29.5 in steps of 2^-30


@cache
def pi():
    """Machin's formula, to 2^-200."""

    def arctan(inverse):
        return sum(Fraction((-1) ** k, (2 * k + 1) * inverse ** (2 * k + 1)) for k in range(80))

    return Fraction(round((16 * arctan(5) - 4 * arctan(239)) * (1 << 200)), 1 << 200)


def exact(phase):
    """2^30 cos and 2^30 sin of a phase by their series, to far below a step."""
    angle = 2 * pi() * signed(phase) / (1 << 64)
    angle = Fraction(round(angle * (1 << 90)), 1 << 90)
    term, sums = Fraction(1 << 30), [Fraction(0), Fraction(0)]
    for k in range(1, 40):
        sums[(k - 1) % 2] += term * (-1) ** ((k - 1) // 2)
        term = Fraction(round(term * angle / k * (1 << 70)), 1 << 70)
    return sums


def phases(rng, n):
    """Words of every kind, and those around each eighth of a turn."""
    yield from (values for _, values in samples(rng, n))
    borders = [(k << 61) + d & WORD for k in range(8) for d in (-1, 0, 1, -(1 << 29), (1 << 29) - 1)]
    yield (borders * (n // len(borders) + 1))[:n]


def run(phase, count):
    """Rows of cosines and sines, as signed integers."""
    n = len(phase)
    given, out = Guarded(phase, 1), Guarded([5] * (2 * count * n), 3)
    launch(_ring.turns, given.view, count, out.view, n)
    assert given.values() == phase
    values = [signed(v) for v in out.values()]
    return [values[row * n : row * n + n] for row in range(2 * count)]


@pytest.mark.parametrize("n", [*LENGTHS[:-2], 255, 256, 257, *TILES[:3]])
def test_every_target_computes_the_turn(n, rng):
    for phase in phases(rng, n):
        rows = run(phase, 3)
        for k in (1, 2, 3):
            expected = [turn(k * p & WORD) for p in phase]
            assert list(zip(rows[2 * k - 2], rows[2 * k - 1], strict=True)) == expected


@pytest.mark.parametrize("count", [1, 16, 32])
def test_how_far_off_it_is(count, rng):
    phase = [int(v) for v in rng.integers(0, WORD, 16, endpoint=True, dtype="uint64")]
    phase += [(k << 61) + int(d) & WORD for k in range(8) for d in rng.integers(-(1 << 40), 1 << 40, 2)]
    rows = run(phase, count)
    for k in {1, count // 2 or 1, count}:
        for p, *found in zip(phase, rows[2 * k - 2], rows[2 * k - 1], strict=True):
            assert all(abs(a - b) < OFF for a, b in zip(found, exact(k * p & WORD), strict=True))


def test_the_definition_holds_everywhere(rng):
    """Its error over many phases, by floats, which are exact enough; and no sum that is biased."""
    draws = rng.integers(0, WORD, 20000, endpoint=True, dtype="uint64")
    out = integer_functions.turns(torch.from_numpy(draws.view("int64")), 1).double()
    angle = torch.from_numpy(draws.view("int64")).double() * (3.141592653589793 / 2**63)
    off = out - torch.stack([angle.cos(), angle.sin()]) * (1 << integer_functions.TURNS_BITS)
    assert float(off.abs().max()) < OFF
    assert float(off.mean(1).abs().max()) < 0.05


def test_whole_turns():
    """Quarter turns are exact: 0 and 1 are themselves, and the sine of nearly nothing is nothing."""
    phase = torch.tensor([0, 1 << 62, -(1 << 63), -(1 << 62)])
    cosines, sines = integer_functions.turns(phase, 1)
    one = 1 << integer_functions.TURNS_BITS
    assert cosines.tolist() == [one, 0, -one, 0]
    assert sines.tolist() == [0, one, 0, -one]
    assert integer_functions.turns(phase, 4)[6:].tolist() == [[one] * 4, [0] * 4]


def test_nothing_to_do():
    assert integer_functions.turns(torch.empty(0, dtype=torch.int64), 3).shape == (6, 0)
    assert integer_functions.turns(torch.zeros(5, dtype=torch.int64), 0).shape == (0, 5)


def test_threads_agree(threads, rng):
    phase = torch.from_numpy(rng.integers(-(1 << 63), 1 << 63, 3 * 4096 + 77))
    results = []
    for count in (1, 2, 3):
        threads(count)
        results.append(integer_functions.turns(phase, 5))
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2])
