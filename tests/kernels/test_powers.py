"""Powers of e in integers: the algorithm in Python's integers, and exact series."""

from fractions import Fraction
from math import factorial

import pytest
import torch
from kernel_oracles import LENGTHS, TILES, WORD, Guarded, samples, signed

from pysmpc import _ring
from pysmpc._ring import launch
from pysmpc.ring import z2k

ONE = 1 << 32
OFF = Fraction(1, 1 << 40) * Fraction(2, 3)  # more than 2^-40.8, less than 2^-40.5
SERIES = 40
COEFFICIENTS = [
    2453628832,
    29490666509,
    317649852313,
    3176380721829,
    28594327327549,
    228754724641562,
    1601279852103090,
    9607679071388084,
    48038396027854552,
    192153584117860467,
    576460752303262841,
    1152921504606249585,
    1152921504606848616,
]


def definition(x):
    """src/c/powers.inc.h for one word, which may be any."""
    v = signed(x << 30)
    total = COEFFICIENTS[0]
    for coefficient in COEFFICIENTS[1:]:
        total = signed(coefficient + (total * v >> 62))
    return ((total & WORD) + (1 << 19) & WORD) >> 20


def exact(x):
    """e^(x / 2^32) by its series, to below 2^-150."""
    value = Fraction(x, ONE)
    return sum(value**k / factorial(k) for k in range(SERIES))


def run(x):
    given, out = Guarded(x, 1), Guarded([5] * len(x), 3)
    launch(_ring.powers_of_e, given.view, out.view, len(x))
    assert given.values() == [v & WORD for v in x]
    launch(_ring.powers_of_e, given.view, given.view, len(x))
    assert given.values() == out.values(), "out may be x"
    return out.values()


def exponents(rng, n):
    """Of every magnitude from one step to one."""
    yield [int(v) for v in rng.integers(-ONE, ONE, n, endpoint=True)]
    yield [int(v * s) for v, s in zip(ONE >> rng.integers(0, 33, n), rng.choice((-1, 1), n), strict=True)]
    yield ([0, ONE, -ONE, 1, -1, ONE - 1, 1 - ONE] * (n // 7 + 1))[:n]


@pytest.mark.parametrize("n", LENGTHS + TILES[:3])
def test_every_target_computes_the_definition(n, rng):
    for x in exponents(rng, n):
        assert run(x) == [definition(v) for v in x]
    for _, x in samples(rng, n):  # out of its domain: some word, the same everywhere
        assert run(x) == [definition(v) for v in x]


def test_how_far_off_it_is(rng):
    for x in exponents(rng, 300):
        assert all(abs(Fraction(p, 1 << 40) - exact(v)) < OFF for p, v in zip(run(x), x, strict=True))


def test_tensors(threads, rng):
    x = torch.from_numpy(rng.integers(-ONE, ONE, 3 * 4096 + 77, endpoint=True))
    expected = (x.double() / ONE).exp() * (1 << z2k.POWER_BITS)
    for count in (1, 2, 3):
        threads(count)
        assert float((z2k.powers_of_e(x) - expected).abs().max()) < 0.7
    assert z2k.powers_of_e(torch.zeros(3, dtype=torch.int64)).tolist() == [1 << z2k.POWER_BITS] * 3
    assert z2k.powers_of_e(x[:0]).shape == (0,)
