"""Signs of x - t for several public t, from one opening of x."""

import pytest
import torch
from maskings import Log, chi_square
from settings import SECRET, random_words, wrapped

from pysmpc.mpc.additive import comparison
from pysmpc.mpc.functions.reached import reached
from pysmpc.mpc.functions.regions import (
    scaled_thresholds,
    scaled_thresholds_cost,
    threshold_bits,
    threshold_bits_cost,
    thresholds,
)
from pysmpc.mpc.functions.threshold_sums import weighted_sums
from pysmpc.mpc.interfaces import opening
from pysmpc.ring.shares import Share
from pysmpc.session.session import virtual_session


@pytest.fixture(params=SECRET, ids=str)
def setting(request):
    return request.param


def below(suite, party, x, limits):
    """x < t for every t, as shares [len(limits), n]: an opening and the circuits."""
    found = threshold_bits(party, suite.mask_open(party, x), limits)
    assert len({bit.stream for bit in found}) == len(limits), "a rho hides two signs"
    return tuple(suite.bit_share(party, bit, x.shape) for bit in found)


def near(rng, x):
    """Limits for which the differences from all x fit: x spans a quarter of what is possible."""
    quarter = 1 << 62
    base = int(rng.integers(-(1 << 63), 1 << 63))
    x = torch.from_numpy(rng.integers(-quarter, quarter, x)) + base
    limits = [base + int(v) for v in rng.integers(-quarter, quarter, 3)]
    return x, [int(x[0]), int(x[-1]) + 1, *limits]


def differences(x, t):
    """x - t mod 2**64, signed."""
    return x - wrapped(t)


@pytest.mark.parametrize("n", [1, 64, 65, 700])
def test_thresholds(setting, n, rng):
    x, limits = near(rng, n)
    opened, cost = setting.run(lambda suite, party, a: below(suite, party, a, limits), x)
    for t, got in zip(limits, opened, strict=True):
        assert torch.equal(got, (differences(x, t) < 0).to(torch.int64))
    declared = threshold_bits_cost(setting.holders, n, len(limits), len(limits))
    assert cost == opening(setting.holders, n) + declared
    assert declared.rounds == 3


def test_what_comes_out_is_the_sign_of_the_difference(setting, rng):
    """Of any x and t, also where the difference wraps: as `negative` has it."""
    x = random_words(rng, 200)
    limits = [int(v) for v in random_words(rng, 6)]

    def operation(suite, party, a):
        ones = torch.ones(a.shape, dtype=torch.int64)
        apart = [suite.sub(party, a, suite.public(party, ones * wrapped(t))) for t in limits]
        signs = tuple(suite.bit_share(party, suite.negative(party, d), a.shape) for d in apart)
        return signs + below(suite, party, a, limits)

    opened, _ = setting.run(operation, x)
    for t, apart, together in zip(limits, opened, opened[len(limits) :], strict=False):
        assert torch.equal(apart, together)
        assert torch.equal(together, (differences(x, t) < 0).to(torch.int64))


@pytest.mark.parametrize("count", [0, 1, 2, 7])
def test_counts(setting, count, rng):
    x, limits = near(rng, 90)
    limits = (limits * 2)[:count]

    def operation(suite, party, a):
        return (a, *below(suite, party, a, limits))

    (_, *opened), cost = setting.run(operation, x)
    assert [
        torch.equal(got, (differences(x, t) < 0).to(torch.int64)) for t, got in zip(limits, opened, strict=True)
    ] == ([True] * count)
    assert cost == opening(setting.holders, 90) + threshold_bits_cost(setting.holders, 90, count, count)
    if count == 1:
        assert cost == comparison.negative_cost(setting.holders, 90)


def test_no_elements(setting):
    opened, cost = setting.run(
        lambda suite, party, a: below(suite, party, a, [3, -4]), torch.empty(0, dtype=torch.int64)
    )
    assert [each.shape for each in opened] == [(0,), (0,)]
    assert cost == opening(setting.holders, 0) + threshold_bits_cost(setting.holders, 0, 2, 2)


@pytest.mark.parametrize("holders", [2, 3])
def test_no_word_hides_two_values(holders, monkeypatch, rng):
    session = virtual_session([f"holder{i}" for i in range(holders)])
    log = Log(monkeypatch, session)
    suite, party = session.suite, session.party
    shares = [suite.share(party, value, (4096,), 1) for value in (torch.zeros(4096, dtype=torch.int64),)]
    bits = below(suite, party, *shares, [0, 1, 5, -7])
    log.check()
    for words in [*log.words("compare"), *log.words("function")]:
        assert chi_square(words) < 10
    again = suite.reveal(party, *bits)
    assert [int(each.sum()) for each in again] == [0, 4096, 4096, 0]
    assert isinstance(bits[0], Share)


@pytest.mark.parametrize("n", [1, 65, 700])
def test_products_with_what_was_reached(setting, n, rng):
    """x times the sum of the steps whose ends it reaches, in the rounds of the bits."""
    x = torch.from_numpy(rng.integers(-(1 << 40), 1 << 40, n))
    ends = [0, int(x[0]), int(x[-1]) + 1, 1 << 39]
    steps = [int(v) for v in rng.integers(-(1 << 20), 1 << 20, 4)]

    def program(suite, party, a):
        return scaled_thresholds(party, a, ends, steps)

    (reached, product), cost = setting.run(program, x)
    expected = torch.stack([(x >= end).long() for end in ends])
    assert torch.equal(reached, expected)
    assert torch.equal(product, x * (expected * torch.tensor(steps).unsqueeze(1)).sum(0))
    declared = scaled_thresholds_cost(setting.holders, n, len(ends))
    assert cost == declared
    assert declared.rounds == 4


def test_shares_of_such_products_are_uniform(monkeypatch):
    session = virtual_session(["alice", "bob"])
    log = Log(monkeypatch, session)
    suite, party = session.suite, session.party
    x = suite.share(party, torch.full((4096,), 12345), (4096,))
    _, product = scaled_thresholds(party, x, [4, 16, 1 << 20], [7, 100, -3])
    log.check()
    assert torch.equal(suite.reveal(party, product)[0], torch.full((4096,), 12345 * 107))
    for row in product.words():
        assert chi_square(row) < 10


@pytest.mark.parametrize("n", [0, 1, 65, 1100])
@pytest.mark.parametrize("before", [0, 1, 2], ids=["first", "after one", "after two"])
def test_many_ends_at_once(setting, n, before, rng):
    """The bits one by one and as sums, where the opening was compared before and where not."""
    x, limits = near(rng, max(n, 1))
    x, limits = x[:n], (limits * 2)[: int(rng.integers(1, 8))]
    weights = [[int(v) for v in random_words(rng, len(limits))], [*[0] * (len(limits) - 1), 3]]

    def program(suite, party, a):
        opened = suite.mask_open(party, a)
        threshold_bits(party, opened, limits[:1] * before)
        found = reached(party, opened, limits, 4)
        return (*weighted_sums(suite, party, found, [(7, weights[0]), (0, weights[1])]), found)

    (*sums, bits), cost = setting.run(program, x)
    expected = torch.stack([(differences(x, t) >= 0).long() for t in limits])
    assert torch.equal(bits, expected)
    for start, column, found in zip((7, 0), weights, sums, strict=True):
        assert torch.equal(found, start + (expected * torch.tensor(column).unsqueeze(1)).sum(0))
    count = len(limits) + before
    assert cost == opening(setting.holders, n) + _three_rounds_each(setting.holders, n, before, len(limits), count)


def _three_rounds_each(holders, n, before, after, count):
    """Bytes as of one comparison with all ends, in rounds of their own."""
    cost = threshold_bits_cost(holders, n, count, count)
    parts = [threshold_bits_cost(holders, n, k, k, again) for k, again in ((before, False), (after, bool(before))) if k]
    total = sum(parts[1:], parts[0])
    assert (cost.sent, cost.dealt) == (total.sent, total.dealt)
    return total


@pytest.mark.parametrize("holders", [2, 3])
def test_no_word_hides_two_values_of_many_ends(holders, monkeypatch):
    session = virtual_session([f"holder{i}" for i in range(holders)])
    log = Log(monkeypatch, session)
    suite, party = session.suite, session.party
    x = suite.share(party, torch.zeros(4096, dtype=torch.int64), (4096,))
    opened = suite.mask_open(party, x)
    first, second = (thresholds(party, x, [0, 1, 5, -7], 64, opened) for _ in range(2))
    log.check()
    for words in [*log.words("compare"), *log.words("function")]:
        assert chi_square(words) < 10
    sums = [weighted_sums(suite, party, each, [(0, [1, 10, 100, 1000])])[0] for each in (first, second)]
    for total in suite.reveal(party, *sums):
        assert torch.equal(total, torch.full((4096,), 1001))
    for row in torch.cat([each.words() for each in sums]):
        assert chi_square(row) < 10
