"""Division, maxima and their places by SecureNN."""

import pytest
import torch
from securenn_settings import SECURENN, SecureNN
from settings import bounded_words
from views import all_uniform

from pysmpc.errors import EncodingError
from pysmpc.mpc.securenn import securenn_functions as functions
from pysmpc.mpc.suite import snn
from pysmpc.ring.shares import Share
from pysmpc.session.session import virtual_session


@pytest.fixture(params=SECURENN, ids=str)
def setting(request):
    return request.param


@pytest.mark.parametrize("bits", [1, 7, 20])
def test_division(setting, bits, rng):
    y = torch.from_numpy(rng.integers(1, 1 << 40, 50))
    y[:4] = torch.tensor([1, 1, (1 << (63 - bits)) - 1, 3])
    quotients = torch.from_numpy(rng.integers(0, 1 << bits, 50))
    quotients[:4] = torch.tensor([0, (1 << bits) - 1, (1 << bits) - 1, 1])
    rests = torch.from_numpy(rng.integers(0, 1 << 62, 50)) % y
    opened, cost = setting.run(
        lambda suite, party, a, b: functions.division(party, a, b, bits), quotients * y + rests, y
    )
    assert torch.equal(opened, quotients)
    assert cost == functions.division_cost(2, 50, bits)
    assert cost.rounds == 8 * bits


def test_division_of_either_sign(setting, rng):
    bits, n = 16, 40
    y = bounded_words(rng, 40, n)
    y[y == 0] = -7
    x = torch.from_numpy(rng.integers(1 - (1 << bits), 1 << bits, n)) * y
    x = x + torch.sign(x) * (torch.from_numpy(rng.integers(0, 1 << 62, n)) % y.abs())
    x[:2], y[:2] = torch.tensor([-7, 7]), torch.tensor([2, -2])
    opened, cost = setting.run(lambda suite, party, a, b: functions.signed_division(party, a, b, bits), x, y)
    assert torch.equal(opened, torch.div(x, y, rounding_mode="trunc"))
    assert cost == functions.signed_division_cost(2, n, bits)
    assert cost.rounds == 8 * bits + 9


@pytest.mark.parametrize("k", [1, 2, 3, 8, 13])
def test_maxpool_and_its_derivative(setting, k, rng):
    m = 9
    x = bounded_words(rng, 61, m, k)
    x[0] = 5  # all equal: the first counts
    x[1, k // 2 :] = x[1].max()

    def operation(suite, party, a):
        values, places = functions.maxpool(party, a)
        before = party.channel.stats.copy()
        one_hot = functions.maxpool_derivative(party, places, k)
        assert (party.channel.stats - before).cost == functions.maxpool_derivative_cost(2, m, k)
        return values, places, one_hot

    (values, places, one_hot), cost = setting.run(operation, x)
    best = x.max(1)[0]
    first = (x == best.unsqueeze(1)).to(torch.int64).argmax(1)
    assert torch.equal(values, best)
    assert torch.equal(places, first)
    assert torch.equal(one_hot, torch.nn.functional.one_hot(first, k))
    assert cost == functions.maxpool_cost(2, m, k) + functions.maxpool_derivative_cost(2, m, k)
    assert cost.rounds == 8 * (k - 1).bit_length() + 2


def test_places_out_of_range():
    session = virtual_session(["a", "b"], suite=snn)
    places = session.suite.share(session.party, torch.zeros(2, dtype=torch.int64), (2,))
    for k in (0, (1 << 16) + 1):
        with pytest.raises(EncodingError, match="1 to 65536"):
            functions.maxpool_derivative(session.party, places, k)


@pytest.mark.parametrize("place", [0, 11])
def test_the_provider_sees_any_place(place):
    """The place under its mask mod k, and each share, are uniform whatever the place."""
    m, k = 1 << 14, 12
    session = SecureNN("virtual", 2).sessions()[0]
    seen = []
    session.party.dealer.observer = lambda cause, asked, out: seen.append((cause, asked.clone()))
    places = session.suite.share(session.party, torch.full((m,), place), (m,))
    functions.maxpool_derivative(session.party, Share.of(places.words(), (m,)), k)
    [(cause, asked)] = seen
    assert cause == "position"
    counts = [torch.bincount(row.view(torch.uint8).to(torch.int64), minlength=256) for row in asked]
    assert all_uniform([torch.bincount(asked.sum(0) % k, minlength=k), *counts])
