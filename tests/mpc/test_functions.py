"""Functions of one opening: the opening, dealt words, sums, and regions."""

from fractions import Fraction

import pytest
import torch
from settings import PLAINTEXT, SECRET, Setting, bounded_words, random_words, wrapped
from views import Recorder

import pysmpc as sy
from pysmpc.mpc.functions import fits, masked
from pysmpc.mpc.functions.characters import BITS, Fit, angle_step, ends, evaluate, evaluate_cost, turns
from pysmpc.mpc.functions.known_values import known_of
from pysmpc.mpc.functions.masked import deal_words_cost, mask_open_cost
from pysmpc.mpc.functions.regions import regions_cost, threshold_bits, threshold_bits_cost
from pysmpc.mpc.functions.smooth import derivative_cost, function_cost, smooth
from pysmpc.mpc.suite import suites
from pysmpc.ring.shares import Share
from pysmpc.session.session import virtual_session

SCALE = 1 << 16
ALL = [PLAINTEXT, *SECRET, *(Setting(where, 2, name) for where in ("virtual", "threads") for name in ("fss", "snn"))]
everywhere = pytest.mark.parametrize("where", ALL, ids=str)


def back(suite, party, x):
    """x = c - r, of dealt words r and 1."""
    opened = suite.mask_open(party, x)
    words = suite.deal_words(party, opened, 2, lambda r: torch.stack([r, torch.ones_like(r)]))
    return suite.combine(party, opened, words, lambda c: torch.stack([torch.full_like(c, -1), c]), 5, x.scale)


@everywhere
@pytest.mark.parametrize("n", [0, 1, 65, masked.PIECE + 3])
def test_an_opening_and_dealt_words(where, n, rng):
    x = random_words(rng, n)
    opened, cost = where.run(back, (x, SCALE))
    assert torch.equal(opened, x + 5)
    assert cost == where.costs(mask_open_cost(where.holders, n) + deal_words_cost(where.holders, n, 2))
    assert cost.rounds == where.secret


@everywhere
@pytest.mark.parametrize("scale", [1, 1000, SCALE, 1 << 32])
def test_sums_are_those_of_exact_coefficients(where, scale, rng):
    """Whatever x is: the angle wraps with the ring."""
    fit = Fit("some", -8, 8, 20.0, 0.25, 0.0, (0.5, -0.125, 2.0), (1.5, 0.0, -0.75), 0.0, 0.0, 0.0)
    x = random_words(rng, 300)
    opened, cost = where.run(
        lambda suite, party, a: evaluate(suite, party, suite.mask_open(party, a), a, fit), (x, scale)
    )
    step = angle_step(fit.period, scale)
    angles = [2 * torch.pi * k * (x * wrapped(step) >> 11).double() / 2.0**53 for k in (1, 2, 3)]
    wanted = 0.25 + sum(
        a * torch.cos(v) + b * torch.sin(v) for a, b, v in zip(fit.cosines, fit.sines, angles, strict=True)
    )
    assert float((opened.double() / 2.0**BITS - wanted).abs().max()) < 2.0**-20
    assert cost == where.costs(evaluate_cost(where.holders, 300, 3))


def test_the_wrap_of_the_ring_is_a_turn():
    x = torch.tensor([0, 1 << 62, -(1 << 63), -(1 << 62)])
    assert turns(x, 1, 1).tolist() == [[1 << 30, 0, -(1 << 30), 0], [0, 1 << 30, 0, -(1 << 30)]]


@everywhere
def test_a_slope_and_a_stretch(where, rng):
    """x times a public factor is added to the sum, of which the argument is stretched."""
    x = bounded_words(rng, 19, 200)
    opened, _ = where.run(
        lambda suite, party, a: evaluate(suite, party, suite.mask_open(party, a), a, fits.SOFTPLUS, Fraction(3, 4)),
        (x, SCALE),
    )
    v = 0.75 * x.double() / SCALE
    wanted = torch.nn.functional.softplus(v)
    inside = v.abs() <= 12.5
    assert float((opened.double() / 2.0**BITS - wanted)[inside].abs().max()) < 2.0**-17


# --- regions ---------------------------------------------------------------------------


def around(rng, lo, hi, n):
    """Values of every size up to 2^61, and near the ends."""
    x = bounded_words(rng, 61, n)
    for end in (t for t in (lo, hi) if t is not None):
        at = torch.from_numpy(rng.choice(n, n // 4, replace=False))
        x[at] = end + torch.from_numpy(rng.integers(-3, 4, n // 4))
    return x


ENDS = [(-5, 7), (-(1 << 40), 1 << 20), (None, 100), (-3, None), (4, 4)]


@everywhere
@pytest.mark.parametrize(("lo", "hi"), ENDS, ids=str)
def test_regions(where, lo, hi, rng):
    x, value = around(rng, lo, hi, 200), bounded_words(rng, 58, 200)

    def program(suite, party, a, v):
        found = suite.regions(party, suite.mask_open(party, a), a, lo, hi)
        out = [found.choose(suite, party, v, 1 << 20)]
        return (*out, found.is_above(suite, party), found.above_times(suite, party, a)) if hi is not None else (*out,)

    opened, _ = where.run(program, (x, SCALE), (value, 1 << 54))
    inside = torch.ones_like(x, dtype=torch.bool)
    if lo is not None:
        inside &= x >= lo
    if hi is not None:
        inside &= x < hi
    chosen, *rest = opened
    off = chosen - torch.div(value, 1 << 20, rounding_mode="floor") * inside
    assert bool(((off >= 0) & (off <= 1)).all())
    assert not chosen[~inside].any()
    if rest:
        above = (x >= hi).to(torch.int64)
        assert torch.equal(rest[0], above)
        assert torch.equal(rest[1], above * x)


@everywhere
def test_what_is_not_chosen_is_nothing_whatever_it_was(where, rng):
    """Sums outside their interval are any number, of which no rounding may be left."""
    x, value = around(rng, -9, 9, 400), random_words(rng, 400)
    opened, _ = where.run(
        lambda suite, party, a, v: suite.regions(party, suite.mask_open(party, a), a, -9, 9).choose(
            suite, party, v, 1 << 38
        ),
        x,
        value,
    )
    assert not opened[(x < -9) | (x >= 9)].any()


@pytest.mark.parametrize("n", [1, 64, 65, 300])
@pytest.mark.parametrize("ends", [(-5, 7), (None, 100)], ids=str)
def test_the_cost_of_regions(secret_setting, n, ends, rng):
    def program(suite, party, a):
        found = suite.regions(party, suite.mask_open(party, a), a, *ends)
        return found.is_above(suite, party)

    _, cost = secret_setting.run(program, bounded_words(rng, 40, n))
    holders, count = secret_setting.holders, sum(t is not None for t in ends)
    assert cost == mask_open_cost(holders, n) + regions_cost(holders, n, count)
    assert cost.rounds == 4


def test_thresholds_and_their_groups(secret_setting, rng):
    """Each group's result is the exclusive or of its bits, of any thresholds."""
    x, n = bounded_words(rng, 61, 130), 130
    near = [int(v) + int(d) for v, d in zip(x[:4], rng.integers(-1, 2, 4), strict=True)]
    limits = [0, *near, *(int(v) for v in bounded_words(rng, 61, 3))]
    count = int(rng.integers(1, len(limits) + 1))
    heads = [int(v) for v in rng.permutation(len(limits))[:count]]
    groups = [
        [head, *(int(v) for v in rng.permutation(len(limits))[: int(rng.integers(0, 4))] if v != head)]
        for head in heads
    ]
    for wanted in (groups, None):

        def program(suite, party, a, wanted=wanted):
            bits = threshold_bits(party, suite.mask_open(party, a), limits, wanted)
            assert len({bit.stream for bit in bits}) == len(bits), "a rho hides two bits"
            return tuple(suite.bit_share(party, bit, a.shape) for bit in bits)

        opened, cost = secret_setting.run(program, x)
        for found, group in zip(opened, wanted or [[j] for j in range(len(limits))], strict=True):
            bits = torch.stack([x < limits[j] for j in group]).sum(0) % 2
            assert torch.equal(found, bits)
        holders, results = secret_setting.holders, len(wanted or limits)
        declared = threshold_bits_cost(holders, n, len(limits), results)
        assert cost == mask_open_cost(holders, n) + declared
        assert declared.rounds == 3


def test_two_groups_of_one_head_are_refused():
    session = virtual_session(["alice", "bob"])
    x = session.suite.share(session.party, torch.arange(3), (3,), 1)
    with pytest.raises(AssertionError, match="two groups"):
        threshold_bits(session.party, session.suite.mask_open(session.party, x), [1, 2], [[0], [0, 1]])


def test_products_with_two_bits_of_one_opening_share_no_stream(rng):
    """Under one stream, what is dealt for them would be equal wherever the bits rho are."""
    n = 4096
    session = virtual_session(["alice", "bob"])
    suite, party = session.suite, session.party
    x = suite.share(party, bounded_words(rng, 40, n), (n,), SCALE)
    opened = suite.mask_open(party, x)
    recorder = Recorder(session)
    found = [suite.regions(party, opened, x, -end, end) for end in (100, 1 << 20)]
    products = [each.above_times(suite, party, x) for each in (*found, *found)]
    values = suite.reveal(party, x, *products)
    for end, times in zip((100, 1 << 20, 100, 1 << 20), values[1:], strict=True):
        assert torch.equal(times, values[0] * (values[0] >= end))
    pieces = [words.view(-1, n) for words in recorder.dealt.values() if words.numel() % n == 0]
    rows = torch.cat(pieces)
    assert len(rows) >= 2
    for i, row in enumerate(rows):
        assert not (rows[:i] == row).any(), "words dealt twice under one stream"


def test_regions_are_compared_once_for_each_pair_of_ends():
    session = virtual_session(["alice", "bob"])
    suite, party = session.suite, session.party
    x = suite.share(party, torch.arange(-40, 40) << 15, (80,), SCALE)
    first = smooth(suite, party, x, fits.SIGMOID, SCALE)
    rounds = session.stats.rounds
    smooth(suite, party, x, fits.SIGMOID_DERIVATIVE, SCALE)
    assert session.stats.rounds == rounds + 1
    smooth(suite, party, x, fits.SILU, SCALE)  # other ends, the same opening
    assert session.stats.rounds == rounds + 1 + 4
    assert first.body is not x.body


# --- whole functions -------------------------------------------------------------------


@everywhere
@pytest.mark.parametrize("name", ["SIGMOID", "SILU", "ERF_DERIVATIVE"])
def test_functions(where, name, rng):
    fit = getattr(fits, name)
    x = torch.cat([bounded_words(rng, 46, 200), bounded_words(rng, 21, 300)])
    opened, cost = where.run(lambda suite, party, a: smooth(suite, party, a, fit, SCALE), (x, SCALE))
    v = x.double() / SCALE
    wanted = {
        "SIGMOID": torch.sigmoid(v),
        "SILU": torch.nn.functional.silu(v),
        "ERF_DERIVATIVE": 2 / torch.pi**0.5 * torch.exp(-v * v),
    }[name]
    assert float((opened.double() / SCALE - wanted).abs().max()) < fit.error + 1.2 / SCALE
    if where.protocol == "default":
        assert cost == where.costs(function_cost(where.holders, 500, fit))


@everywhere
def test_a_value_that_is_known_to_be_inside_needs_no_regions(where, rng):
    x = torch.from_numpy(rng.integers(-12 << 16, 12 << 16, 300))
    opened, cost = where.run(
        lambda suite, party, a: smooth(suite, party, a, fits.SIGMOID, SCALE, bounded=True), (x, SCALE)
    )
    assert float((opened.double() / SCALE - torch.sigmoid(x.double() / SCALE)).abs().max()) < 1.3 / SCALE
    if where.protocol == "default":
        assert cost.rounds == 2 * where.secret


def test_a_derivative_costs_one_round(secret_setting, rng):
    def program(suite, party, a):
        return smooth(suite, party, a, fits.TANH_PLUS_ONE, SCALE), smooth(suite, party, a, fits.TANH_DERIVATIVE, SCALE)

    _, cost = secret_setting.run(program, (bounded_words(rng, 20, 99), SCALE))
    holders = secret_setting.holders
    assert cost == function_cost(holders, 99, fits.TANH_PLUS_ONE) + derivative_cost(holders, 99)


def test_a_body_remembers_openings_up_to_twice_its_size():
    session = virtual_session(["alice", "bob"])
    x = session.suite.share(session.party, torch.arange(100), (10, 10), SCALE)
    for i in range(10):
        for part in (slice(0, 10), slice(0, 7), slice(2, 9)):
            row = Share(x.body, (part.stop - part.start,), SCALE, (1,), 10 * i + part.start)
            smooth(session.suite, session.party, row, fits.ERF_PLUS_ONE, SCALE)
            assert sum(each.masked.n for each in known_of(x.body).openings.values()) <= 200
    assert len(known_of(x.body).openings) > 20


def test_fits_have_room():
    """No sum leaves what truncation takes, and integer ends lie within the real ones."""
    for fit in vars(fits).values():
        if isinstance(fit, Fit):
            total = abs(fit.constant) + sum((a * a + b * b) ** 0.5 for a, b in zip(fit.cosines, fit.sines, strict=True))
            assert total + abs(fit.slope) * max(-fit.lo, fit.hi) < 1 << 7
            assert fit.error < (2.0**-8.4 if fit.name.startswith("wide") else 2.0**-13.3)  # wide: of optimizers
            lo, hi = ends(fit, 1000, Fraction(1, 3))
            lowest, highest = Fraction(fit.lo) * 3000, Fraction(fit.hi) * 3000
            assert lowest <= lo < lowest + 1
            assert highest - 1 < hi <= highest


@pytest.mark.parametrize("name", suites)
def test_functions_open_for_the_declared_causes(name, rng):
    session = virtual_session(["alice", "bob"], suite=suites[name])
    x = session.suite.share(session.party, bounded_words(rng, 40, 20), (20,), SCALE)
    with sy.ledger() as kept:
        smooth(session.suite, session.party, x, fits.SIGMOID, SCALE)
    assert "function" in kept.causes
    assert kept.causes <= {"function", "compare", "mask", "truncate", "select"}
