"""Powers of e in integers: the algorithm in Python's integers, and exact series."""

from fractions import Fraction
from math import factorial

import pytest
import torch
from kernel_oracles import LENGTHS, TILES, WORD, Guarded, samples, signed

from pysmpc import _ring
from pysmpc._ring import launch
from pysmpc.ring import integer_functions

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


def parts(y, segments):
    """(segment, what is left of it) of a word that goes once round the window."""
    return y >> 64 - segments, (y >> 31 - segments & (1 << 33) - 1) - ONE


def dealt(r, step, segments, bits):
    """src/c/powers.inc.h for one word of a mask."""
    segment, rest = parts(r * step & WORD, segments)
    power = definition(-rest) + (1 << 39 - bits) >> 40 - bits
    return [power if plane == segment else 0 for plane in range(1 << segments)]


def public(c, start, step, segments, mantissas, shifts):
    """The same for one opened word."""
    segment, rest = parts((c - start) * step & WORD, segments)
    power = definition(rest) >> 11
    at = [segment - plane & (1 << segments) - 1 for plane in range(1 << segments)]
    return [mantissas[i] * power + (1 << shifts[i] - 1) >> shifts[i] for i in at]


def planes(rows, count):
    """Of lists by element, the words by plane."""
    return [row[plane] for plane in range(count) for row in rows]


@pytest.mark.parametrize("n", LENGTHS + TILES[:3])
@pytest.mark.parametrize("segments", [1, 4, 5])
def test_every_target_computes_the_definition(n, segments, rng):
    count, step, start, bits = 1 << segments, odd(rng), odd(rng), int(rng.integers(10, 40))
    mantissas = [int(v) for v in rng.integers(0, 1 << 29, count)]
    shifts = [int(v) for v in rng.integers(1, 63, count)]
    tables = Guarded(mantissas, 1), Guarded(shifts, 2)
    for _, x in samples(rng, n):
        x = [v & WORD for v in x]
        given, out = Guarded(x, 1), Guarded([5] * (count * n), 3)
        launch(_ring.powers_dealt, given.view, signed(step), segments, 40 - bits, out.view, n)
        assert out.values() == planes([dealt(v, step, segments, bits) for v in x], count)
        launch(
            _ring.powers_public, given.view, signed(start), signed(step), segments, *(t.view for t in tables),
            out.view, n,
        )  # fmt: skip
        assert out.values() == planes([public(v, start, step, segments, mantissas, shifts) for v in x], count)
        assert given.values() == x


def odd(rng):
    """A number of any size below 2^64."""
    return int(rng.integers(0, 1 << 63)) * 2 + 1 >> int(rng.integers(0, 64))


def exponents(rng, n):
    """Of every magnitude from one step to one."""
    yield [int(v) for v in rng.integers(-ONE, ONE, n, endpoint=True)]
    yield [int(v * s) for v, s in zip(ONE >> rng.integers(0, 33, n), rng.choice((-1, 1), n), strict=True)]
    yield ([0, ONE, -ONE, 1, -1, ONE - 1, 1 - ONE] * (n // 7 + 1))[:n]


def test_how_far_off_the_definition_is(rng):
    for x in exponents(rng, 300):
        assert all(abs(Fraction(definition(v), 1 << 40) - exact(v)) < OFF for v in x)
    assert definition(0) == 1 << 40


def test_tensors(threads, rng):
    """A product of the two is a power of the difference, in the row where both are."""
    n, segments = 3 * 4096 + 77, 4
    step = 1 << 64 - 16 - 5  # numbers at 2^16, once round 32
    tables = torch.full((16,), 1 << 28), torch.full((16,), 28)  # each segment counts as the same
    c = torch.from_numpy(rng.integers(-(1 << 62), 1 << 62, n))
    r = c - torch.from_numpy(rng.integers(-ONE, ONE, n) >> 17)
    product = (
        integer_functions.powers_dealt(r, step, segments, 24)
        * integer_functions.powers_public(c, 0, step, segments, *tables)
    ).sum(0)
    rest = [((v * step >> 64 - 37) & (1 << 33) - 1).double() / ONE - 1 for v in (c, r)]
    assert float((product.double() / 2**53 - (rest[0] - rest[1]).exp()).abs().max()) < 2**-20
    assert integer_functions.powers_dealt(r[:0], step, 4, 24).shape == (16, 0)
    for wrong in ((0, 24), (32, 24), (4, 40), (4, -1)):
        with pytest.raises(ValueError, match="powers of"):
            integer_functions.powers_dealt(r, step, *wrong)
    with pytest.raises(ValueError, match="ring elements of shape"):
        integer_functions.powers_public(c, 0, step, 5, *tables)
