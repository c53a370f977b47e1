"""Powers of e in one opening: the public tables, the windows, and what they cost."""

from decimal import Decimal, localcontext
from fractions import Fraction

import pytest
import torch
from settings import PLAINTEXT, SECRET, Setting, bounded_words
from torch.utils._python_dispatch import TorchDispatchMode

import pysmpc as sy
from pysmpc.errors import EncodingError
from pysmpc.mpc.functions import exponent
from pysmpc.mpc.functions.exponent import (
    FALLING,
    GENERAL,
    QUOTIENT,
    SEGMENT,
    ends_of,
    exponential,
    exponential_cost,
    has_room,
    power,
    power_cost,
    start_of,
    step_of,
)
from pysmpc.mpc.functions.masked import Masked, mask_open_cost
from pysmpc.mpc.functions.normaliser import natural_logarithm
from pysmpc.mpc.suite import suites
from pysmpc.ring import integer_functions
from pysmpc.session.session import virtual_session

SCALE = 1 << 16
WINDOWS = {"general": GENERAL, "falling": FALLING, "quotient": QUOTIENT}
windows = pytest.mark.parametrize("window", WINDOWS.values(), ids=WINDOWS)
ALL = [PLAINTEXT, *SECRET, *(Setting(where, 2, name) for where in ("virtual", "threads") for name in ("fss", "snn"))]
everywhere = pytest.mark.parametrize("where", ALL, ids=str)


class OnlyIntegers(TorchDispatchMode):
    """Fails where an operation takes or makes floating point."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for each in (*args, out):
            assert not isinstance(each, torch.Tensor) or not each.dtype.is_floating_point, f"{func}: floating point"
        return out


def exact(x):
    """e^x for a fraction."""
    with localcontext() as context:
        context.prec = 60
        return (Decimal(x.numerator) / Decimal(x.denominator)).exp()


# --- tables ----------------------------------------------------------------------------


@windows
@pytest.mark.parametrize("more", [Fraction(0), Fraction(1, 3000), Fraction(7, 10), Fraction(11)], ids=str)
def test_tables_are_rounded_powers(window, more):
    mantissas, shifts = exponent._table(window, more)
    for i, (mantissa, shift) in enumerate(zip(mantissas.tolist(), shifts.tolist(), strict=True)):
        wanted = exact(window.lo + SEGMENT * i + more)
        if window.lo + SEGMENT * i + more > window.hi + SEGMENT:
            continue
        assert 0 <= mantissa <= 1 << integer_functions.TABLE_BITS
        found = Decimal(mantissa) * Decimal(2) ** (integer_functions.TABLE_BITS - shift - window.factor)
        half = wanted / 2**integer_functions.TABLE_BITS if mantissa else Decimal(2) ** (-window.factor - 1)
        assert abs(found - wanted) <= half
        assert 1 <= shift <= 62


def test_powers_of_integers():
    for n in range(-64, 20):
        found, wanted = exponent._power_of_e(n), exact(Fraction(n))
        assert abs(Decimal(found.numerator) / Decimal(found.denominator) / wanted - 1) < Decimal(2) ** -80


def test_magnitudes(rng):
    for x in [
        Fraction(1),
        Fraction(2),
        Fraction(1, 2),
        Fraction(3),
        *(Fraction(int(v), 1 << 30) for v in rng.integers(1, 1 << 60, 99)),
    ]:
        k = exponent._magnitude(x)
        assert Fraction(2) ** (k - 1) <= x < Fraction(2) ** k


@windows
def test_windows_have_room(window):
    """No word of the sum leaves what truncation takes, and no product of a factor 64 bits."""
    top = exact(Fraction(window.hi + SEGMENT))
    assert exact(Fraction(window.hi)) * 2**window.bits < 2**62
    assert top * 2**window.factor < 2**62
    assert 4**integer_functions.TABLE_BITS * exact(Fraction(1)) < 2**63
    assert window.dealt <= integer_functions.POWER_BITS


# --- numbers in one opening --------------------------------------------------------------


def opened_power(window, stretch=Fraction(1)):
    return lambda suite, party, x: exponential(suite, party, suite.mask_open(party, x), x.scale, window, stretch)


def ends(window, scale, stretch=Fraction(1), near=40):
    """Every integer near the ends of a window, within it, and some between."""
    lo, hi = start_of(window, scale, stretch), int(window.hi * scale // stretch)
    between = torch.linspace(lo, hi, 300, dtype=torch.float64).long()
    return torch.cat([lo + torch.arange(near), hi - torch.arange(near), between]).clamp(lo, hi)


STRETCHES = [Fraction(1), natural_logarithm(2), Fraction(7, 3), Fraction(1, 900)]


@windows
@pytest.mark.parametrize("scale", [1, 1000, SCALE, 10**6, 1 << 32])
@pytest.mark.parametrize("stretch", STRETCHES, ids=lambda s: f"{float(s):.3g}")
def test_powers_up_to_the_ends_of_the_window(window, scale, stretch):
    """Many times, since at an end one mask in many would show what is beyond."""
    if not has_room(scale, stretch, window):
        pytest.skip("refused")
    where = Setting("virtual", 2)
    x = ends(window, scale, stretch).repeat(30)
    opened, _ = where.run(opened_power(window, stretch), (x, scale))
    wanted = (x.double() * float(stretch) / scale).exp()
    error = (opened.double() / 2.0**window.bits - wanted).abs()
    bits = min(window.dealt, window.factor)
    assert bool((error <= 2.0 ** (3 - bits) + 2.0**-16.5 * wanted).all()), float((error / wanted).max())


@everywhere
def test_what_it_costs(where, rng):
    x = torch.from_numpy(rng.integers(-12 << 16, 18 << 16, 200))
    opened, cost = where.run(opened_power(GENERAL), (x, SCALE))
    wanted = (x.double() / SCALE).exp()
    assert bool(((opened.double() / 2.0**GENERAL.bits - wanted).abs() <= 2.0**-14.5 + 2.0**-16 * wanted).all())
    assert cost == where.costs(mask_open_cost(where.holders, 200) + exponential_cost(where.holders, 200))
    assert cost.rounds == where.secret


@pytest.mark.parametrize("scale", [1000, SCALE, 1 << 30])
@pytest.mark.parametrize("stretch", STRETCHES, ids=lambda s: f"{float(s):.3g}")
def test_ends_are_within_the_window(scale, stretch):
    """From the first integer to the last one before the second end, x step is at most all but the top segment."""
    lo, hi = ends_of(GENERAL, scale, stretch)
    step = step_of(GENERAL, scale, stretch)
    top = (GENERAL.length - SEGMENT) * (1 << 64) // GENERAL.length
    assert (hi - 1 - lo) * step <= top
    assert Fraction(lo - 1) * stretch / scale < GENERAL.lo <= Fraction(lo) * stretch / scale
    assert Fraction(hi - 1) * stretch / scale < GENERAL.hi <= Fraction(hi) * stretch / scale


def test_scales_without_room_are_refused():
    session = virtual_session(["alice", "bob"])
    assert has_room(SCALE)
    assert has_room(1 << 54, window=QUOTIENT)
    assert not has_room(10**12)
    assert not has_room(SCALE, Fraction(1, 1 << 50))
    x = session.suite.share(session.party, torch.arange(3), (3,), 10**12)
    with pytest.raises(EncodingError, match="fewer fractional bits"):
        power(session.suite, session.party, x, SCALE)
    y = session.suite.share(session.party, torch.arange(3), (3,), SCALE)
    with pytest.raises(EncodingError, match="fractional bits"):
        power(session.suite, session.party, y, 1 << 40)


def test_public_factors_are_integers_throughout():
    """They multiply uniform words: the last bit of a float may differ between machines."""
    session = virtual_session(["alice", "bob"])
    seen = []

    def combine(party, x, dealt, factors, constant=0, scale=1):
        with OnlyIntegers():
            seen.append(factors(x.c[0]))
        return session.suite.combine(party, x, dealt, factors, constant, scale)

    def deal_words(party, x, planes, words):
        def integral(r):
            with OnlyIntegers():
                return words(r)

        return session.suite.deal_words(party, x, planes, integral)

    suite = _Replaced(session.suite, combine=combine, deal_words=deal_words)
    for window in WINDOWS.values():
        x = session.suite.share(session.party, torch.arange(-50, 1) * 1000, (51,), SCALE)
        exponential(
            suite, session.party, session.suite.mask_open(session.party, x), SCALE, window, natural_logarithm(2)
        )
    assert [each.dtype for each in seen] == [torch.int64] * 3


class _Replaced:
    """A suite of which some protocols are others."""

    def __init__(self, suite, **others):
        self._suite = suite
        vars(self).update(others)

    def __getattr__(self, name):
        return getattr(self._suite, name)


def test_words_are_dealt_once_for_an_opening_and_a_factor():
    session = virtual_session(["alice", "bob"])
    suite, party = session.suite, session.party
    x = suite.share(party, torch.arange(9), (9,), SCALE)
    masked: Masked = suite.mask_open(party, x)
    for _ in range(2):
        for stretch in (Fraction(1), natural_logarithm(2)):
            exponential(suite, party, masked, SCALE, GENERAL, stretch)
    assert len(masked.known) == 2
    streams = [each.stream for each in masked.known.values()]
    assert len(set(streams)) == 2


# --- the whole function ----------------------------------------------------------------


@everywhere
def test_power(where, rng):
    x = torch.cat(
        [
            bounded_words(rng, 46, 100),
            torch.from_numpy(rng.integers(-13 << 16, 19 << 16, 300)),
            ends(GENERAL, SCALE)[:80],
        ]
    )
    n = len(x)
    opened, cost = where.run(lambda suite, party, a: power(suite, party, a, SCALE), (x, SCALE))
    wanted = (x.double() / SCALE).clamp(max=18).exp()
    assert bool(((opened.double() / SCALE - wanted).abs() <= 1.7 / SCALE + wanted / SCALE).all())
    if where.protocol == "default":
        assert cost == where.costs(power_cost(where.holders, n))
        assert cost.rounds == 5 * where.secret


@everywhere
def test_a_value_that_is_known_to_be_inside_takes_two_rounds(where, rng):
    x = torch.from_numpy(rng.integers(-15 << 16, 15 << 16, 300))
    opened, cost = where.run(lambda suite, party, a: power(suite, party, a, SCALE, bounded=True), (x, SCALE))
    wanted = (x.double() / SCALE).exp()
    assert bool(((opened.double() / SCALE - wanted).abs() <= 1.7 / SCALE + wanted / SCALE).all())
    if where.protocol == "default":
        assert cost.rounds == 2 * where.secret


@pytest.mark.parametrize("name", suites)
def test_powers_open_for_the_declared_causes(name, rng):
    session = virtual_session(["alice", "bob"], suite=suites[name])
    x = session.suite.share(session.party, bounded_words(rng, 40, 20), (20,), SCALE)
    with sy.ledger() as kept:
        power(session.suite, session.party, x, SCALE)
    assert "function" in kept.causes
    assert kept.causes <= {"function", "compare", "mask", "truncate", "select"}
