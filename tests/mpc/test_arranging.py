"""Secret shuffles, rows sorted after one, and positions as one-hot vectors."""

import math

import pytest
import torch
from settings import PLAINTEXT, SECRET, Setting, bounded_words, random_words

from pysmpc.errors import PartyError
from pysmpc.mpc.derived import arranging, one_hot, shuffling
from pysmpc.mpc.derived.arranging import Plan, arrange_cost, plan
from pysmpc.mpc.interfaces import Cost
from pysmpc.session.session import virtual_session

SHAPES = [(1, 1), (3, 2), (5, 7), (2, 33)]
#: A plan of two levels for 300 elements, as longer rows have.
SMALL = {"sample": 32, "tiles": ((60, 4, 32), (150, 4, 32)), "pairs": 9000}


@pytest.fixture(params=[PLAINTEXT, *SECRET[:2], *SECRET[3:5]], ids=str)
def setting(request):
    return request.param


def sort_and_back(suite, party, x, y):
    """Sorted rows, where they stood, others in that order and back."""
    values, how = suite.arrange(party, x)
    moved = how.forward(y)
    return values, how.places(), moved, how.back(moved)


def check(setting, x, rng):
    y = bounded_words(rng, 61, 2, *x.shape)
    (values, places, moved, back), cost = setting.run(sort_and_back, x, y)
    expected = torch.sort(x, dim=1, stable=True)
    assert torch.equal(values, expected.values)
    assert torch.equal(places, expected.indices)
    assert torch.equal(moved, y.gather(2, expected.indices.expand(y.shape)))
    assert torch.equal(back, y)
    return cost


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_short_rows(setting, shape, rng):
    """Of every magnitude, many of them equal, which stay in order; rounds and bytes as declared."""
    x = bounded_words(rng, 61, *shape)
    x[:, ::2] = torch.randint(-1, 2, x[:, ::2].shape)
    n, holders = x.numel(), setting.holders
    moves = shuffling.shuffle_cost(holders, 2 * n) * 2
    cost = check(setting, x, rng)
    assert cost == setting.costs(arrange_cost(holders, *shape) + moves + Cost(dealt=8 * n))
    assert cost.rounds == (3 * holders + 4 if setting.secret else 0)


@pytest.mark.parametrize("setting", [Setting("virtual", 2), Setting("threads", 3)], ids=str)
def test_elements_as_far_apart_as_may_be(setting, rng):
    """Less than 2^63, anywhere on the ring: the smallest is where the ring is cut."""
    low = random_words(rng, 20, 1)
    x = low + torch.randint(0, (1 << 63) - 1, (20, 6)).sort(1).values
    x[:, 3] = low[:, 0]
    x[:, 4] = low[:, 0] + ((1 << 63) - 1)
    (values, _), _ = setting.run(lambda suite, party, a: (suite.arrange(party, a)[0], a), x)
    assert torch.equal(values, low + (x - low).sort(1).values)


@pytest.mark.parametrize("setting", [Setting("virtual", 2), Setting("virtual", 3), Setting("threads", 2)], ids=str)
@pytest.mark.parametrize("kind", ["distinct", "equal", "few"])
def test_long_rows(setting, kind, rng, monkeypatch):
    """By levels of pivots: as short rows, where two are sorted at once."""
    rows, n = 2, 300
    found = Plan(rows, n, SMALL["sample"], SMALL["tiles"], SMALL["pairs"])
    monkeypatch.setattr(arranging, "plan", lambda *shape: found)
    x = {"distinct": bounded_words(rng, 50, rows, n), "equal": torch.full((rows, n), -7),
         "few": torch.randint(-2, 3, (rows, n))}[kind]  # fmt: skip
    cost = check(setting, x, rng)
    moves = shuffling.shuffle_cost(setting.holders, 2 * rows * n) * 2
    assert cost == arrange_cost(setting.holders, rows, n) + moves + Cost(dealt=8 * rows * n)
    assert cost.rounds == 3 * setting.holders + 4 * (1 + 2 + 1)


def test_a_pivot_is_a_bucket_by_itself():
    """5 1 3 4 2 around the 3: what is below, it alone, what is above."""
    order, bucket = torch.arange(5), torch.zeros(5, dtype=torch.int64)
    at = torch.tensor([[2, 0, 1, 2, 3, 4]])
    arranging._regroup(order, bucket, 1, at, torch.tensor([1, 0, 0, 1, 0]))
    assert order.tolist() == [1, 4, 2, 0, 3]
    assert bucket.tolist() == [0, 0, 1, 2, 2]


def test_plans():
    """A batch of comparisons for what is short; few for much: 10^5 elements take 83 an element, in 26 rounds."""
    assert plan(1, 1000) == Plan(1, 1000)
    assert plan(100, 64).rounds == 1
    long = plan(1, 100_000)
    assert (long.rounds, long.sample) == (6, 1024)
    assert long.comparisons < 83 * 100_000
    cost = arrange_cost(2, 1, 100_000)
    assert cost.rounds == 2 + 4 * 6
    assert cost.sent < 58_000_000


def test_pairs_beyond_the_plan_raise(monkeypatch):
    """And nothing is returned, where the plan were too small, which real ones are with a probability below 2^-40."""
    monkeypatch.setattr(arranging, "plan", lambda *shape: Plan(1, 300, 32, ((10, 4, 32),), 10))
    session = virtual_session(["0", "1"])
    x = session.suite.share(session.party, torch.randn(1, 300).mul(1000).long(), (1, 300))
    with pytest.raises(PartyError, match="sort again"):
        session.suite.arrange(session.party, x)


@pytest.mark.parametrize(("rows", "n"), [(1, 5000), (30, 500)])
def test_plans_have_room(rows, n):
    """The pairs that are left: at most two thirds of the room that there is for them, in some shuffles."""
    found = plan(rows, n)
    if not found.sample:
        found = arranging._levels(rows, n, 64, 1, 16)
    for _ in range(3):
        ranks = torch.stack([torch.randperm(n) for _ in range(rows)])
        order = torch.arange(rows * n)
        bucket = order // n
        order.view(rows, n)[:, : found.sample] = ranks[:, : found.sample].argsort(1) + n * torch.arange(rows).view(
            -1, 1
        )
        for count, p, q in found.tiles:
            at = torch.full((count, p + q), -1)
            slots = torch.zeros((count, p + q), dtype=torch.int64)
            arranging._choose(order, bucket, p, at, slots, n, found.sample)
            words = ranks.view(-1)[slots]
            less = (words[:, :p, None] < words[:, None, p:]).long().reshape(-1)
            arranging._regroup(order, bucket, p, at, less)
        _, sizes = arranging._starts(bucket)
        assert int((sizes * (sizes - 1) // 2).sum()) < found.pairs * 2 // 3


@pytest.mark.parametrize("values", [[5, 5, 5], [1, 2, 3], [3, 3, 1]], ids=str)
@pytest.mark.parametrize("levels", [False, True], ids=["pairs", "levels"])
def test_what_is_opened_is_uniform(values, levels, monkeypatch):
    """Of the six arrangements of three, each as often as the others, whatever the values are."""
    rows = 3000
    if levels:
        monkeypatch.setattr(arranging, "plan", lambda r, n: Plan(r, n, 2, ((2 * r, 1, 3),), 3 * r))
    session = virtual_session(["0", "1"])
    x = torch.tensor(values).expand(rows, 3).contiguous()
    _, how = session.suite.arrange(session.party, session.suite.share(session.party, x, x.shape))
    codes = (how._order * torch.tensor([9, 3, 1])).sum(1)
    _, counts = codes.unique(return_counts=True)
    assert len(counts) == 6
    statistic = float(((counts - rows / 6) ** 2 / (rows / 6)).sum())
    assert statistic < 60  # chi-square of 5 degrees: more has a probability of 1e-11


def test_permutations_are_of_each_holder():
    """Uniform, of each row and holder another, and known to whoever has the key."""
    session = virtual_session(["0", "1", "2"])
    shuffle = shuffling.Shuffle(session.party, 2000, 3)
    own = shuffle._own
    assert torch.equal(shuffle._all(session.party.dealer.keys), own)
    for i in range(3):
        _, counts = (own[i] * torch.tensor([9, 3, 1])).sum(1).unique(return_counts=True)
        assert len(counts) == 6
        assert float(((counts - 2000 / 6) ** 2 / (2000 / 6)).sum()) < 60
    for i, j in ((0, 1), (0, 2), (1, 2)):
        assert 0.05 < float((own[i] == own[j]).all(1).double().mean()) < 0.3  # a sixth


def test_equal_words_of_a_stream_are_drawn_again(monkeypatch):
    """A permutation is that of words all of which are different."""
    session = virtual_session(["0", "1"])
    keys, out = session.party.dealer.keys, torch.zeros((2, 1, 4), dtype=torch.int64)

    class Repeating:
        rows = 2

        def draw(self, stream, n):
            words = keys.draw(stream, n)
            if stream < 2:
                words[0, :2] = 9
            return words

    shuffling._draw(Repeating(), 0, out)
    assert torch.equal(out[0, 0], keys.draw(2, 4)[0].argsort())
    assert torch.equal(out[1, 0], keys.draw(0, 4)[1].argsort())
    monkeypatch.setattr(shuffling, "TRIES", 2)
    with pytest.raises(PartyError, match="broken"):
        shuffling._draw(Repeating(), 0, out)


@pytest.mark.parametrize("classes", [1, 2, 5, 8, 100])
def test_one_hot(setting, classes):
    x = torch.cat([torch.tensor([0, classes - 1]), torch.randint(0, classes, (13,))]).reshape(3, 5)
    found, cost = setting.run(lambda suite, party, a: suite.one_hot(party, a, classes), x)
    assert torch.equal(found, torch.nn.functional.one_hot(x, classes))
    assert cost == setting.costs(one_hot.one_hot_cost(setting.holders, 15, classes))
    room = 1 << math.ceil(math.log2(classes))
    assert cost.dealt == (8 * 15 * room if setting.secret and classes > 1 else 0)


def test_positions_that_do_not_exist():
    """That of the number modulo the next power of two."""
    x = torch.tensor([-1, 5, 6, 7, 8, 13])
    found, _ = Setting("virtual", 2).run(lambda suite, party, a: suite.one_hot(party, a, 6), x)
    assert found.sum(1).tolist() == [0, 1, 0, 0, 1, 1]
    assert found.argmax(1)[[1, 4, 5]].tolist() == [5, 0, 5]
