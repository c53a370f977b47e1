"""The reciprocal: accuracy over the whole range, and its cost."""

import pytest
import torch
from settings import Setting

from pysmpc.errors import EncodingError
from pysmpc.protocols import division
from pysmpc.runtime.session import virtual_session

SCALES = [1, 1000, 1 << 10, 1 << 16, 10**5, 1 << 20]


def inputs(rng, s, n):
    """Both signs and every magnitude up to 2^61; the edges of the normalisation."""
    top = (2 * s * s).bit_length()
    edges = [sign * (1 << k) + d for k in range(top + 2) for d in (-1, 0, 1) for sign in (1, -1)]
    magnitudes = rng.integers(1 << 60, 1 << 61, n) >> rng.integers(0, 61, n)
    values = [*edges, *(int(m) * (1 - 2 * int(b)) for m, b in zip(magnitudes, rng.integers(0, 2, n), strict=True))]
    return torch.tensor([v for v in values if v])


def check(opened, x, s):
    exact = s * s / x.double()
    # half a step for the rounding of the last product, one for its truncation
    allowed = 1.5 + exact.abs() * 2.0**-18
    assert bool(((opened.double() - exact).abs() <= allowed).all())


@pytest.mark.parametrize("s", SCALES)
def test_whole_range(s, rng):
    x = inputs(rng, s, 3000)
    for setting in (Setting("plaintext", 1), Setting("virtual", 2), Setting("virtual", 3)):
        opened, _ = setting.run(lambda suite, party, a: division.reciprocal(suite, party, a, s), (x, s))
        check(opened, x, s)


def test_results_and_costs(setting, rng):
    s = 1 << 16
    x = inputs(rng, s, 20)[-40:].reshape(5, 8)
    opened, cost = setting.run(lambda suite, party, a: division.reciprocal(suite, party, a, s), (x, s))
    assert opened.shape == x.shape
    check(opened, x, s)
    assert cost == setting.costs(division.reciprocal_cost(setting.holders, 40, s))


@pytest.mark.parametrize("s", SCALES)
def test_costs_at_other_scales(s, rng):
    x = inputs(rng, s, 7)[-7:]
    _, cost = Setting("virtual", 3).run(lambda suite, party, a: division.reciprocal(suite, party, a, s), (x, s))
    assert cost == division.reciprocal_cost(3, 7, s)


def test_scales_out_of_range():
    session = virtual_session(["a", "b"])
    x = session.suite.share(session.party, torch.tensor([5]), (1,))
    with pytest.raises(EncodingError, match="fewer fractional bits"):
        division.reciprocal(session.suite, session.party, x, 1 << 23)
