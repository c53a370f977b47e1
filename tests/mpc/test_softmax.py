"""Quotients of powers: the logarithm of their sum, and what follows from it."""

import math

import pytest
import torch
from settings import PLAINTEXT, SECRET, Setting

import pysmpc as sy
from pysmpc.errors import EncodingError
from pysmpc.mpc.functions import softmax as protocols
from pysmpc.mpc.functions.characters import BITS
from pysmpc.mpc.functions.exponent import FALLING, QUOTIENT
from pysmpc.mpc.functions.normaliser import TOP
from pysmpc.mpc.suite import suites
from pysmpc.ring.shares import Share
from pysmpc.session.session import virtual_session

SCALE = 1 << 16
ALL = [PLAINTEXT, *SECRET, *(Setting(where, 2, name) for where in ("virtual", "threads") for name in ("fss", "snn"))]
everywhere = pytest.mark.parametrize("where", ALL, ids=str)


def falling(rng, rows, n, bits=45):
    """Rows of numbers of which the largest is 0: of every magnitude, near the end of the window, and ties."""
    z = -torch.from_numpy(rng.integers(0, 1 << bits, (rows, n)) >> rng.integers(0, bits, (rows, n)))
    z[: rows // 4] = -30 * SCALE + torch.from_numpy(rng.integers(-2, 3, (rows // 4, n)))
    z[rows // 4 : rows // 2] = 0
    z[torch.arange(rows), torch.from_numpy(rng.integers(0, n, rows))] = 0
    return z


@everywhere
@pytest.mark.parametrize(("rows", "n"), [(40, 1), (20, 2), (16, 10), (5, 65)])
def test_softmax(where, rows, n, rng):
    z = falling(rng, rows, n)

    def program(suite, party, a):
        a = Share(a.body, (rows, n), SCALE)
        q = protocols.quotients(suite, party, a)
        return (
            protocols.softmax(suite, party, q, SCALE),
            protocols.log_softmax(suite, party, q),
            protocols.log_of_sum(suite, party, q, SCALE),
        )

    (soft, logarithm, log_sum), cost = where.run(program, (z, SCALE))
    v = z.double() / SCALE
    for found, wanted in (
        (soft, v.softmax(1)),
        (logarithm, v.log_softmax(1)),
        (log_sum, v.logsumexp(1, keepdim=True)),
    ):
        assert found.shape == wanted.shape
        assert float((found.double() - wanted * SCALE).abs().max()) < 1.2
    if where.protocol == "default":
        h = where.holders
        last = protocols.log_of_sum_cost(h, rows, SCALE)
        declared = protocols.quotients_cost(h, rows, n) + protocols.softmax_cost(h, rows, n) + last + last
        assert cost == where.costs(declared)
        assert cost.rounds == (11 + 2 + 1 + 1) * where.secret


@everywhere
def test_a_bounded_row_takes_four_rounds_less(where, rng):
    rows, n = 30, 10
    z = falling(rng, rows, n, 20).clamp(min=-29 * SCALE)

    def program(suite, party, a):
        q = protocols.quotients(suite, party, Share(a.body, (rows, n), SCALE), bounded=True)
        return protocols.softmax(suite, party, q, SCALE)

    soft, cost = where.run(program, (z, SCALE))
    assert float((soft.double() - (z.double() / SCALE).softmax(1) * SCALE).abs().max()) < 1.2
    if where.protocol == "default":
        assert cost.rounds == 9 * where.secret


@everywhere
@pytest.mark.parametrize(("rows", "n"), [(40, 1), (20, 2), (16, 10), (5, 65)])
def test_small_values_take_no_maximum(where, rows, n, rng):
    bound = max(k / 16 for k in range(200) if protocols.near_window(n, k / 16))
    end = int(bound * SCALE)
    z = torch.from_numpy(rng.integers(-end, end + 1, (rows, n)))
    z[: rows // 4] = torch.from_numpy(rng.choice([-end, end], (rows // 4, n)))
    z[rows // 4] = -end

    def program(suite, party, a):
        q = protocols.quotients(suite, party, Share(a.body, (rows, n), SCALE), near=bound)
        return protocols.softmax(suite, party, q, SCALE), protocols.log_softmax(suite, party, q)

    (soft, logarithm), cost = where.run(program, (z, SCALE))
    v = z.double() / SCALE
    for found, wanted in ((soft, v.softmax(1)), (logarithm, v.log_softmax(1))):
        assert float((found.double() - wanted * SCALE).abs().max()) < 1.2
    if where.protocol == "default":
        assert cost.rounds == (7 + 2 + 1) * where.secret


def test_what_near_quotients_cost():
    parties = sy.virtual("alice", "bob")
    session = parties.session
    z = session.suite.share(session.party, torch.zeros(6, 10, dtype=torch.int64), (6, 10), SCALE)
    before = parties.stats.copy()
    protocols.quotients(session.suite, session.party, z, near=4.0)
    assert (parties.stats - before).cost == protocols.near_quotients_cost(2, 6, 10, 4.0)


def test_small_values_without_room():
    assert protocols.near_window(10, 7.0) is None
    session = virtual_session(["alice", "bob"])
    z = session.suite.share(session.party, torch.zeros(6, 10, dtype=torch.int64), (6, 10), SCALE)
    with pytest.raises(EncodingError, match="no room"):
        protocols.quotients(session.suite, session.party, z, near=9.0)


def test_a_single_large_value_many_times():
    """y is then a little above or below 0, where the window of quotients must not end."""
    z = torch.full((30_000, 2), -100 * SCALE)
    z[:, 0] = 0
    where = Setting("virtual", 2)

    def program(suite, party, a):
        q = protocols.quotients(suite, party, Share(a.body, tuple(z.shape), SCALE))
        return protocols.softmax(suite, party, q, SCALE)

    soft, _ = where.run(program, (z, SCALE))
    assert int((soft[:, 0] - SCALE).abs().max()) <= 1
    assert not soft[:, 1].any()
    assert QUOTIENT.hi >= 1


def test_sums_of_every_length_have_room():
    """S 2^bits is in the powers of four that are compared, of which the last is one that truncation takes."""
    for n in (1, 2, 3, 4, 5, 16, 17, *(1 << k for k in range(6, 28)), *((1 << k) + 1 for k in range(6, 27))):
        window = protocols._window(n)
        low, top = protocols._levels(n)
        assert window.bits % 2 == 0
        assert 4**low == 1 << window.bits
        assert 4**top <= n << window.bits < 4 ** (top + 1)
        assert top <= TOP
        assert (n << window.bits) <= 1 << 61
    with pytest.raises(EncodingError, match="at most"):
        protocols._window((1 << 27) + 1)


def test_what_is_cut_off_is_less_than_a_step():
    """Values below the window, of as many as keep the stated error."""
    assert (1 << 13) * math.exp(FALLING.lo) < 2.0**-29
    assert QUOTIENT.lo <= FALLING.lo - 27 * math.log(2)
    assert FALLING.lo * 2.0**BITS > -(2.0**60)


@pytest.mark.parametrize("name", suites)
def test_they_open_for_the_declared_causes(name, rng):
    session = virtual_session(["alice", "bob"], suite=suites[name])
    x = session.suite.share(session.party, falling(rng, 4, 5), (4, 5), SCALE)
    with sy.ledger() as kept:
        q = protocols.quotients(session.suite, session.party, x)
        protocols.softmax(session.suite, session.party, q, SCALE)
    assert "function" in kept.causes
    assert kept.causes <= {"function", "compare", "mask", "truncate", "select"}
