"""Secrets brought to one interval by powers of four; logarithms, roots and reciprocals from there."""

import math
from decimal import Decimal, localcontext
from fractions import Fraction

import pytest
import torch
from settings import PLAINTEXT, SECRET, Setting

import pysmpc as sy
from pysmpc.errors import EncodingError
from pysmpc.mpc.functions import fits
from pysmpc.mpc.functions.characters import BITS
from pysmpc.mpc.functions.normaliser import (
    TOP,
    inverse_root,
    inverse_root_short,
    logarithm,
    logarithm_cost,
    natural_logarithm,
    normalise,
    normalise_cost,
    reciprocal_fast,
    reciprocal_fast_cost,
    reciprocal_has_room,
    root,
    root_cost,
)
from pysmpc.mpc.suite import suites
from pysmpc.session.session import virtual_session

SCALE = 1 << 16
ALL = [PLAINTEXT, *SECRET, *(Setting(where, 2, name) for where in ("virtual", "threads") for name in ("fss", "snn"))]
everywhere = pytest.mark.parametrize("where", ALL, ids=str)


def positive(rng, n, bits=61):
    """Of every magnitude, and powers of four with their neighbours."""
    x = torch.from_numpy(rng.integers(1 << 60, 1 << 61, n)) >> torch.from_numpy(rng.integers(61 - bits, 61, n))
    near = [4**j + d for j in range(bits // 2 + 1) for d in (-1, 0, 1)]
    return torch.cat([x.clamp(min=1), torch.tensor([v for v in near if 0 < v < 1 << bits])])


def nonpositive(rng, n):
    return torch.cat([torch.tensor([0, -1, -(1 << 61)]), -positive(rng, n)])


def level(x, low, top):
    """The largest j from low to top with x >= 4^j."""
    return max([j for j in range(low, top + 1) if x >= 4**j], default=low)


@everywhere
@pytest.mark.parametrize(("low", "top"), [(0, TOP), (0, 15), (24, 26), (24, 24)], ids=str)
def test_normalise(where, low, top, rng):
    x = torch.cat([positive(rng, 100, 2 * top + 2), nonpositive(rng, 20)])

    def program(suite, party, a):
        found = normalise(suite, party, a, low, top)
        return found.v, found.sum(suite, party, lambda j: 100 + j * j)

    (v, weights), cost = where.run(program, (x, SCALE))
    for value, found, weight in zip(x.tolist(), v.tolist(), weights.tolist(), strict=True):
        j = level(value, low, top)
        assert found == max(value, 4**low) * 4 ** (top - j) if value >= 4**low else found == 4**top
        assert 4**top <= found < 4 ** (top + 1)
        assert weight == 100 + j * j
    if where.protocol == "default":
        assert cost == where.costs(normalise_cost(where.holders, len(x), low, top))
        assert cost.rounds == 5 * where.secret


def test_natural_logarithms_against_decimals(rng):
    with localcontext() as context:
        context.prec = 60
        for x in [1, 2, 3, 4, 10, 1000, 65536, 10**12, *(int(v) for v in rng.integers(1, 1 << 62, 50))]:
            found = natural_logarithm(x)
            wanted = Decimal(x).ln()
            assert abs(Decimal(found.numerator) / Decimal(found.denominator) - wanted) < Decimal(2) ** -80


@everywhere
@pytest.mark.parametrize("scale", [1, 1000, SCALE, 1 << 32])
def test_logarithms(where, scale, rng):
    x = torch.cat([positive(rng, 200), nonpositive(rng, 20)])
    opened, cost = where.run(lambda suite, party, a: logarithm(suite, party, a), (x, scale))
    wanted = x.clamp(min=1).double().log() - math.log(scale)
    assert float((opened.double() / 2.0**BITS - wanted).abs().max()) < 2.0**-19.5
    if where.protocol == "default":
        assert cost == where.costs(logarithm_cost(where.holders, len(x)))
        assert cost.rounds == 6 * where.secret


ROOTS = {"root": (root, lambda x: x.sqrt(), fits.SQRT), "inverse": (inverse_root, lambda x: x.rsqrt(), fits.RSQRT)}


@everywhere
@pytest.mark.parametrize("name", ROOTS)
@pytest.mark.parametrize("scale", [1000, SCALE, 1 << 20])
def test_roots(where, name, scale, rng):
    protocol, fn, fit = ROOTS[name]
    x = torch.cat([positive(rng, 200), nonpositive(rng, 20)])
    opened, cost = where.run(lambda suite, party, a: protocol(suite, party, a, scale), (x, scale))
    wanted = fn(x.clamp(min=0 if name == "root" else 1).double() / scale) * scale
    assert bool(((opened.double() - wanted).abs() <= 1.01 + wanted * 2.0**-21).all())
    if where.protocol == "default" and scale == SCALE:
        by = 1 << 18 if name == "root" else 1 << 32
        assert cost == where.costs(root_cost(where.holders, len(x), fit, by))
        assert cost.rounds == 9 * where.secret


@everywhere
@pytest.mark.parametrize(("low", "rounds"), [(7, 7), (9, 7), (14, 7), (3, 9)])
def test_short_inverse_roots(where, low, rounds, rng):
    """In two rounds less, where the least value leaves room for it."""
    x = torch.cat([positive(rng, 200), torch.tensor([4**low, 4**low + 1, 2 * 4**low, 3])])
    opened, cost = where.run(lambda suite, party, a: inverse_root_short(suite, party, a, 1 << 24, low), (x, 1 << 32))
    wanted = x.clamp(min=4**low).double().rsqrt() * 2**40
    assert bool(((opened.double() - wanted).abs() <= 1.01 + wanted * 2.0**-15).all())
    if where.protocol == "default":
        assert cost.rounds == rounds * where.secret


@everywhere
@pytest.mark.parametrize(("s", "scale"), [(SCALE, SCALE), (1000, 1000), (1, SCALE), (1 << 20, 1 << 20), (10**6, 1000)])
def test_reciprocals(where, s, scale, rng):
    x = torch.cat([positive(rng, 200), nonpositive(rng, 200)])
    opened, cost = where.run(lambda suite, party, a: reciprocal_fast(suite, party, a, scale), (x, s))
    wanted = torch.where(x == 0, 0, float(s * scale) / x.double())
    assert bool(
        ((opened.double() - wanted).abs() <= 1.01 + wanted.abs() * 2.0 ** (-19 if s * scale <= 1 << 34 else -17)).all()
    )
    if where.protocol == "default" and s & (s - 1) == scale & (scale - 1) == 0:
        assert cost == where.costs(reciprocal_fast_cost(where.holders, len(x), s, scale))
        assert cost.rounds == 8 * where.secret


def test_results_without_room_are_refused():
    session = virtual_session(["alice", "bob"])
    suite, party = session.suite, session.party
    assert reciprocal_has_room(1 << 20, 1 << 20)
    assert not reciprocal_has_room(1 << 32, SCALE)
    x = suite.share(party, torch.arange(1, 4), (3,), 1 << 32)
    with pytest.raises(EncodingError, match="fractional bits"):
        reciprocal_fast(suite, party, x, SCALE)
    with pytest.raises(EncodingError, match="fractional bits"):
        inverse_root(suite, party, suite.share(party, torch.arange(1, 4), (3,), 1 << 60), 1 << 60)
    with pytest.raises(EncodingError, match="fractional bits"):
        root(suite, party, suite.share(party, torch.arange(1, 4), (3,), 1), 1 << 60)


def test_what_is_normalised_fits():
    """Products of a power and a mantissa, and what they are divided by, for every scale that an encoding has."""
    for bits in range(1, 21):
        assert reciprocal_has_room(1 << bits, 1 << bits)
    assert max(natural_logarithm(4**TOP), natural_logarithm(1 << 60)) < Fraction(1 << 62, 1 << BITS)


@pytest.mark.parametrize("name", suites)
def test_they_open_for_the_declared_causes(name, rng):
    session = virtual_session(["alice", "bob"], suite=suites[name])
    values = positive(rng, 20)
    x = session.suite.share(session.party, values, values.shape, SCALE)
    with sy.ledger() as kept:
        logarithm(session.suite, session.party, x)
        reciprocal_fast(session.suite, session.party, x, SCALE)
        root(session.suite, session.party, x, SCALE)
    assert "function" in kept.causes
    assert kept.causes <= {"function", "compare", "mask", "truncate", "select"}
