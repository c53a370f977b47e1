"""The largest of groups of up to four, and reciprocals of counts."""

from fractions import Fraction

import pytest
import torch
from settings import FSS, PLAINTEXT, SECRET, Setting, bounded_words

from pysmpc.mpc.additive import maxima
from pysmpc.mpc.additive.comparison import relu_cost
from pysmpc.mpc.additive.products import product_cost
from pysmpc.mpc.derived import counts
from pysmpc.mpc.interfaces import Cost
from pysmpc.mpc.suite import default

CANDIDATES = [2, 3, 4, 5, 6, 7, 10, 16, 17]
SIZES = {2: [2], 3: [3], 4: [4], 5: [3, 2], 6: [3, 3], 7: [4, 3], 10: [4, 3, 3], 16: [4] * 4, 17: [4, 4, 3, 3, 3]}


@pytest.fixture(params=SECRET, ids=str)
def setting(request):
    return request.param


def groups(x):
    return x.split(SIZES[x.shape[0]])


def expected(x):
    """Largest of each group, and the bits of its candidates but the first; zeros where a group is smaller."""
    most = max(map(len, groups(x)))
    bits = torch.zeros(len(groups(x)), most, x.shape[1], dtype=torch.int64)
    for found, group in zip(bits, groups(x), strict=True):
        found[: len(group)] = torch.nn.functional.one_hot(group.argmax(0), len(group)).t()
    return torch.stack([group.max(0).values for group in groups(x)]), bits[:, 1:]


@pytest.mark.parametrize("k", CANDIDATES)
def test_groups(k):
    """As few groups of at most four as there can be."""
    assert [block.size for block in maxima.blocks(k) for _ in range(block.count)] == SIZES[k]


@pytest.mark.parametrize("k", CANDIDATES)
@pytest.mark.parametrize("n", [0, 1, 65, 300])
def test_largest(setting, k, n, rng):
    x = bounded_words(rng, 61, k, n)
    x[:, ::3] = torch.randint(-1, 2, x[:, ::3].shape)  # equals, of which the first wins
    (values, won), cost = setting.run(lambda suite, party, a: suite.largest(party, a), (x, 1))
    best, bits = expected(x)
    assert torch.equal(values, best)
    assert torch.equal(won, bits)
    assert cost == maxima.largest_cost(setting.holders, k, n)
    assert cost.rounds == 4


def test_every_order_of_four(setting):
    """All patterns of smaller, equal and larger among four."""
    x = torch.cartesian_prod(*[torch.arange(4)] * 4).t().contiguous()
    (values, won), _ = setting.run(lambda suite, party, a: suite.largest(party, a), x)
    best, bits = expected(x)
    assert torch.equal(values, best)
    assert torch.equal(won, bits)


@pytest.mark.parametrize("bits", [64, 48, 20, 16])
def test_candidates_as_far_apart_as_may_be(setting, bits):
    """Differences of 2^(bits - 1) - 1, anywhere on the ring."""
    far = (1 << bits - 1) - 1
    low = torch.randint(-(1 << 63), (1 << 63) - 1 - far, (200,))
    steps = torch.stack([torch.zeros(200, dtype=torch.int64), torch.full((200,), far), torch.randint(0, far, (200,))])
    steps = torch.cat([steps, torch.randint(0, 2, (1, 200)) * far])
    x = low + torch.stack([steps[torch.randperm(4), i] for i in range(200)], 1)
    (values, won), cost = setting.run(lambda suite, party, a: maxima.largest(party, a, bits=bits), x)
    best, places = expected(x)
    assert torch.equal(values, best)
    assert torch.equal(won, places)
    assert cost == maxima.largest_cost(setting.holders, 4, 200, bits)
    assert cost.rounds == (3 if bits == 16 else 4)


def test_what_goes_beside_is_open(setting, rng):
    """A product of what was opened in the first round has no round of its own."""
    x, y, z = bounded_words(rng, 61, 4, 50), bounded_words(rng, 20, 50), bounded_words(rng, 20, 50)

    def operation(suite, party, a, b, c):
        values, _ = suite.largest(party, a, (b, c, b))
        return values, suite.mul(party, b, c)

    (values, product), cost = setting.run(operation, x, y, z)
    assert torch.equal(values[0], x.max(0).values)
    assert torch.equal(product, y * z)
    opened = Cost(sent=8 * 100 * (setting.holders - 1))
    assert cost == maxima.largest_cost(setting.holders, 4, 50) + opened + product_cost(setting.holders, 0, 50)


def test_bytes_beside_those_of_pairs():
    """Of four candidates: 57.5 bytes to each other holder, 36.75 by pairs; from the dealer 631 and 171."""
    n = 1 << 12
    mine, pairs = maxima.largest_cost(2, 4, n), relu_cost(2, 3 * n, False)
    assert (mine.sent / n, pairs.sent / n) == (57.5, 36.75)
    assert (round(mine.dealt / n), round(pairs.dealt / n)) == (631, 171)
    assert all(maxima.largest_cost(2, k, 64).sent <= 2 * relu_cost(2, (k - 1) * 64, False).sent for k in (3, 4, 5, 16))


def test_larger_agrees(rng):
    """Of two, as the protocol for two."""
    x = bounded_words(rng, 61, 2, 100)
    where = Setting("virtual", 2)
    (values, _), _ = where.run(lambda suite, party, a: default.largest(party, a), x)
    two, _ = where.run(lambda suite, party, a, b: default.larger(party, a, b)[0], x[0].clone(), x[1].clone())
    assert torch.equal(values[0], two)


@pytest.mark.parametrize("most", [1, 2, 3, 4, 5, 16, 17, 1000])
@pytest.mark.parametrize("setting", [PLAINTEXT, *SECRET, *FSS], ids=str)
def test_reciprocals(setting, most):
    x = torch.cat([torch.tensor([1, most]), torch.randint(1, most + 1, (20,))]).reshape(2, 11)
    found, cost = setting.run(lambda suite, party, a: suite.count_reciprocals(party, a, most), x)
    wanted = [round(Fraction(1 << counts.BITS, k)) for k in x.flatten().tolist()]
    assert found.flatten().tolist() == wanted
    assert cost == setting.costs(counts.count_reciprocals_cost(setting.holders, 22, most))
    assert cost.rounds == (setting.secret and most > 1)
