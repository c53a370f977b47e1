"""Averages at fine scales, and the quotient by a root in two stages."""

from fractions import Fraction

import pytest
import torch
from settings import PLAINTEXT, SECRET, Setting

from pysmpc.errors import EncodingError
from pysmpc.mpc.functions import blocks, fits
from pysmpc.mpc.functions.moments import (
    MEAN,
    SQUARE,
    Average,
    averages,
    averages_cost,
    over_root,
    over_root_cost,
    unit_fractions,
)
from pysmpc.mpc.functions.regions import thresholds_cost

ALL = [PLAINTEXT, *SECRET, *(Setting(where, 2, name) for where in ("virtual", "threads") for name in ("fss", "snn"))]
everywhere = pytest.mark.parametrize("where", ALL, ids=str)


def second_moments(rng, n):
    """Of every magnitude, with the edges of both stages and their neighbours."""
    x = torch.from_numpy(rng.integers(1 << 60, 1 << 61, n)) >> torch.from_numpy(rng.integers(0, 61, n))
    edges = [edge + d for edge in (1 << 16, 1 << 32, 1 << 48) for d in (-2, -1, 0, 1)]
    fine = [(edge << 16) + d for edge in blocks.FINE for d in (-1, 0, 1)]
    return torch.cat([x, torch.tensor([0, 1, 2, 3, (1 << 62) - (1 << 33), *edges, *fine])])


@everywhere
def test_blocks(where, rng):
    v = second_moments(rng, 200) + 1

    def program(suite, party, a):
        found = blocks.bring(suite, party, a.at(1))
        squares = [root**2 for root in blocks.FINE_ROOTS]
        rest = blocks.chosen(suite, party, found.fine, squares, blocks.FINE_ROOTS, behind=found.short)
        coarse = blocks.chosen(suite, party, found.coarse, blocks.COARSE_ROOTS)
        short, square, fine = blocks.apart(rest, [len(v)] * 3)
        return short, square, coarse, fine

    (short, square, coarse, fine), cost = where.run(program, v)
    assert torch.equal(square, fine * fine)
    for value, low, s, a, b in zip(
        v.tolist(), short.tolist(), square.tolist(), coarse.tolist(), fine.tolist(), strict=True
    ):
        assert abs(low - value * a * a / (1 << 32)) <= 1
        assert 0.99 < low * s / blocks.ROOT**2 < 6.42
        assert value * (a * b) ** 2 / (1 << 32) == pytest.approx(low * s, rel=2.0**-13)
    if where.protocol == "default":
        assert cost == where.costs(blocks.bring_cost(where.holders, len(v)))


def quotient(where, rng, eps, top=None):
    v = second_moments(rng, 300)
    root = v.double().sqrt()
    ratio = torch.from_numpy(rng.uniform(-7, 7, len(v)))
    m = (ratio * root * 2.0 ** (MEAN - SQUARE // 2)).round().to(torch.int64)
    scales = []

    def program(suite, party, a, b):
        out, scale = over_root(suite, party, a, b, Fraction(eps), MEAN, SQUARE)
        scales.append(scale)
        return out

    z, cost = where.run(program, m, v)
    assert len(set(scales)) == 1
    wanted = m.double() / 2.0**MEAN / (root / 2.0 ** (SQUARE // 2) + eps).clamp(min=1e-30)
    return v, z.double() / float(scales[0]), wanted, cost


@everywhere
@pytest.mark.parametrize("eps", [0.0, 3e-9, 1e-8])
def test_quotient(where, eps, rng):
    v, found, wanted, cost = quotient(where, rng, eps)
    gap = (found - wanted).abs()
    large = v > 1 << 12
    assert bool((gap <= 2.0**-15 + 2.0**-8 * wanted.abs())[large].all())
    small = (v > 0) & ~large
    assert bool((gap <= 2.0**-15 + (2.0**-7 + 1.2 / v.double()) * wanted.abs())[small].all())
    assert bool((found[v == 0].abs() <= 2.0**-15).all())
    if where.protocol == "default":
        assert cost == where.costs(over_root_cost(where.holders, len(v)))


@everywhere
@pytest.mark.parametrize("eps", [2e-8, 1e-6, 1e-3, 1.0])
def test_quotient_with_a_large_eps(where, eps, rng):
    v, found, wanted, _ = quotient(where, rng, eps)
    gap, plus_one = (found - wanted).abs(), 1 / (2 * v.double().clamp(min=1))
    assert bool((gap <= 2.0**-11 + (2.0**-7 + plus_one) * wanted.abs())[v > 0].all())
    assert bool((found[v == 0].abs() <= 2.0**-11).all())


def test_what_it_costs():
    assert over_root_cost(2, 1 << 16).dealt < 323 << 16
    assert over_root_cost(2, 1 << 16).sent < 2 * 89 << 16
    assert over_root_cost(2, 1 << 16).rounds == 15


@everywhere
def test_averages(where, rng):
    old, new = (torch.from_numpy(rng.integers(-(1 << 40), 1 << 40, 500)) for _ in range(2))
    weights = [(Fraction(1, 10), True), (Fraction(1, 1000), False), (Fraction(3, 1000), False), (Fraction(1), False)]

    def program(suite, party, a, b):
        wanted = [Average(a, b, weight, short=short) for weight, short in weights]
        return tuple(averages(suite, party, [*wanted, Average(a, b, Fraction(1, 2), sum=True)]))

    found, cost = where.run(program, old, new)
    assert cost.rounds == where.secret
    for out, (weight, short) in zip(found, weights, strict=False):
        exact = old.double() + float(weight) * (new - old).double()
        bound = (
            len(unit_fractions(weight)) + 2.0**-17 * (new - old).abs().double() * float(weight)
            if not short
            else (1 + 2.0**-17 * (new - old).abs().double())
        )
        assert bool(((out.double() - exact).abs() <= bound).all())
    assert bool(((found[-1].double() - (old.double() + new.double() / 2)).abs() <= 1).all())


@pytest.mark.parametrize("where", SECRET, ids=str)
def test_cost_of_averages(where, rng):
    x = torch.from_numpy(rng.integers(0, 1 << 30, 64))

    def program(suite, party, a):
        return tuple(
            averages(suite, party, [Average(a, a, Fraction(1, 10), short=True), Average(a, a, Fraction(1, 1000))])
        )

    assert where.run(program, x)[1] == averages_cost(where.holders, 64)


@pytest.mark.parametrize("weight", ["0.1", "0.001", "0.003", "0.7", "0.05", "0.9999", "1", "0.0123456"])
def test_unit_fractions(weight):
    wanted = Fraction(weight)
    found = unit_fractions(wanted)
    assert abs(sum(Fraction(1, by) for by in found) - wanted) <= wanted / (1 << 20)
    assert len(found) <= 3 or weight == "0.9999"


def test_a_weight_of_too_many_digits(monkeypatch):
    monkeypatch.setattr("pysmpc.mpc.functions.moments.TERMS", 1)
    with pytest.raises(EncodingError, match="weight"):
        unit_fractions(Fraction(123457, 10**8))


@pytest.mark.parametrize("where", SECRET, ids=str)
def test_thresholds_of_short_values(where, rng):
    x = torch.from_numpy(rng.integers(0, 1 << 30, 300))
    ends = [1 << 4, 1 << 18, (1 << 30) - 1]
    x[:9] = torch.tensor([e + d for e in ends for d in (-1, 0, 1)])
    found, cost = where.run(lambda suite, party, a: suite.thresholds(party, a, ends, 32), x)
    assert torch.equal(found, torch.stack([(x >= end).long() for end in ends]))
    assert cost == thresholds_cost(where.holders, 300, 3, 32)
    assert cost.dealt < thresholds_cost(where.holders, 300, 3).dealt * 0.7


def test_fits_share_a_period():
    assert {(f.period, f.terms) for f in (fits.WIDE_RSQRT, fits.WIDE_SQRT, fits.WIDE_RECIPROCAL)} == {(14.0, 4)}
