"""Functions by pieces, angles and sums of powers, by every suite, in one process and by parties apart."""

import itertools
import math
from fractions import Fraction

import pytest
import torch
from settings import PLAINTEXT, SECRET, Setting, bounded_words

from pysmpc.errors import EncodingError
from pysmpc.mpc.functions import piecewise_fits as tables
from pysmpc.mpc.functions.angle import angle, angle_cost
from pysmpc.mpc.functions.characters import check_sum
from pysmpc.mpc.functions.piecewise_polynomials import Table, again_cost, pieces_of, piecewise, piecewise_cost
from pysmpc.mpc.functions.power_sums import power_sum
from pysmpc.ring.shares import Share

SCALE = 1 << 16
ALL = [PLAINTEXT, *SECRET, *(Setting(where, 2, name) for where in ("virtual", "threads") for name in ("fss", "snn"))]
everywhere = pytest.mark.parametrize("where", ALL, ids=str)
TABLES = {name: table for name, table in vars(tables).items() if isinstance(table, Table)}


def wanted(name, v):
    one = 1 - 1 / SCALE
    return {
        "ATAN": lambda: torch.atan(v),
        "ATAN_DERIVATIVE": lambda: 1 / (1 + v * v),
        "ASINH_DERIVATIVE": lambda: (1 + v * v).rsqrt(),
        "ASIN": lambda: torch.asin(v.clamp(-1, 1)),
        "ATANH": lambda: torch.atanh(v.clamp(-one, one)),
        "ACOSH": lambda: torch.acosh(v.clamp(min=1)),
        "ASINH": lambda: torch.asinh(v),
    }[name]()


@everywhere
@pytest.mark.parametrize("name", ["ATAN", "ATAN_DERIVATIVE", "ASIN", "ACOSH"])
def test_functions(where, name, rng):
    table = TABLES[name]
    near = [end + d for end in pieces_of(table, SCALE)[1] if end < 1 << 46 for d in (-1, 0, 1)]
    x = torch.cat([bounded_words(rng, 46, 60), bounded_words(rng, 18, 60), torch.tensor([*near, *(-v for v in near)])])
    opened, cost = where.run(lambda suite, party, a: piecewise(suite, party, a, table, SCALE), (x, SCALE))
    error = (opened.double() / SCALE - wanted(name, x.double() / SCALE)).abs()
    assert float(error.max()) < table.error + 1.7 / SCALE
    if where.protocol == "default":
        assert cost == where.costs(piecewise_cost(where.holders, len(x), table))


def test_another_function_of_the_same_pieces_takes_no_comparison(secret_setting, rng):
    def program(suite, party, a):
        return piecewise(suite, party, a, tables.ATAN, SCALE), piecewise(suite, party, a, tables.ATAN_DERIVATIVE, SCALE)

    _, cost = secret_setting.run(program, (bounded_words(rng, 20, 99), SCALE))
    holders = secret_setting.holders
    assert cost == piecewise_cost(holders, 99, tables.ATAN) + again_cost(holders, 99, tables.ATAN_DERIVATIVE)


def test_a_derivative_with_fewer_pieces_reads_the_bits_that_there_are(secret_setting, rng):
    def program(suite, party, a):
        first = piecewise(suite, party, a, tables.ASINH, SCALE)
        return first, piecewise(suite, party, a, tables.ASINH_DERIVATIVE, SCALE)

    _, cost = secret_setting.run(program, (bounded_words(rng, 20, 99), SCALE))
    holders = secret_setting.holders
    assert cost == piecewise_cost(holders, 99, tables.ASINH) + again_cost(holders, 99, tables.ASINH_DERIVATIVE)


@pytest.mark.parametrize("name", TABLES)
def test_pieces_follow_one_another(name):
    pieces = TABLES[name].pieces
    assert all(a.hi == b.lo for a, b in itertools.pairwise(pieces))
    assert all(check_sum(piece) < 256 for piece in pieces)
    assert TABLES[name].error < 2.0**-17
    if TABLES[name].growth:  # they go on, with periods whose angles are exact at every binary scale
        last = pieces[-1]
        assert last.hi == 8 * last.lo
        assert math.frexp(last.period)[0] == 0.5


@pytest.mark.parametrize("scale", [1, 10, 1000, 1 << 8, 1 << 16, 1 << 26])
@pytest.mark.parametrize("name", TABLES)
def test_pieces_without_an_integer_are_left_out(name, scale):
    pieces, ends = pieces_of(TABLES[name], scale)
    assert len(ends) == len(pieces) + 1
    assert all(a < b for a, b in itertools.pairwise(ends))
    for piece, (first, after) in zip(pieces, itertools.pairwise(ends), strict=True):
        assert Fraction(piece.lo) * scale <= max(first, 0)
        assert after - 1 < Fraction(piece.hi) * scale


def test_a_scale_that_is_too_fine_is_refused():
    with pytest.raises(EncodingError, match="fewer fractional bits"):
        pieces_of(tables.ASIN, 1 << 27)


@everywhere
def test_angles(where, rng):
    y = torch.cat([bounded_words(rng, 60, 60), torch.tensor([0, 0, 0, 5, -5, 3, -3, 3, -3])])
    x = torch.cat([bounded_words(rng, 60, 60), torch.tensor([0, 7, -7, 0, 0, 3, 3, -3, -3])])
    opened, cost = where.run(lambda suite, party, a, b: angle(suite, party, a, b, SCALE), y, x)
    error = (opened.double() / SCALE - torch.atan2(y.double(), x.double())).abs()
    assert float(error.max()) < 1.5 / SCALE
    if where.protocol == "default":
        assert cost == where.costs(angle_cost(where.holders, len(x)))


@everywhere
@pytest.mark.parametrize("p", [Fraction(3), Fraction(1, 2), Fraction(-2)], ids=str)
def test_sums_of_powers(where, p, rng):
    """Beside the largest of each row, or the smallest; elements that are 0 count for nothing."""
    sizes = torch.cat([bounded_words(rng, bits, 6).abs() + 1 for bits in (1, 8, 20, 40, 59)])
    x = sizes.reshape(5, 6)
    if p > 0:
        x[:, 2] = 0
    most = (x.amax(1) if p > 0 else x.amin(1)).reshape(-1)

    def program(suite, party, a, b):
        found = power_sum(suite, party, Share(a.body, (5, 6)), Share(b.body, (5, 1)), p)
        return found.gaps, found.log_sum

    (gaps, log_sum), _ = where.run(program, x.reshape(-1), most)
    ratios = x.double() / most.double().reshape(-1, 1)
    exact = torch.where(x == 0, 0, ratios ** float(p)).sum(1).log()
    assert float((log_sum.double().reshape(-1) / 2**54 - exact).abs().max()) < 2.0**-15
    assert float((gaps.double().reshape(5, 6) / 2**26 - ratios.log())[x > 0].abs().max()) < 2.0**-17


def test_sums_of_powers_above_one(rng):
    """Logarithms are rounded, so that the largest of a row may come out above itself."""
    x = bounded_words(rng, 20, 64, 6).abs() + (1 << 21)
    most = x.amax(1) * 3 // 4

    def program(suite, party, a, b):
        return power_sum(suite, party, Share(a.body, (64, 6)), Share(b.body, (64, 1)), Fraction(2)).log_sum

    log_sum, _ = SECRET[0].run(program, x.reshape(-1), most)
    exact = ((x.double() / most.double().reshape(-1, 1)) ** 2).sum(1).log()
    assert float((log_sum.double().reshape(-1) / 2**54 - exact).abs().max()) < 2.0**-15
