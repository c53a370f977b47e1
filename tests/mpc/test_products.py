"""Beaver products: results, costs, and one opening a value."""

import gc

import pytest
import torch
from settings import Setting, random_words

from pysmpc.mpc.additive.products import product_cost
from pysmpc.mpc.interfaces import LOCAL
from pysmpc.ring.shares import Share


@pytest.mark.parametrize(
    ("a", "b"),
    [((3,), (3,)), ((), ()), ((0,), (0,)), ((2, 5), (2, 5)), ((2, 1), (1, 3)), ((5,), (4, 1)), ((), (7,)),
     ((600,), (600,)), ((1, 0), (3, 1))],
    ids=str,
)  # fmt: skip
def test_mul(setting, a, b, rng):
    x, y = random_words(rng, *a), random_words(rng, *b)
    opened, cost = setting.run(lambda suite, party, s, t: suite.mul(party, s, t), x, y)
    assert torch.equal(opened, x * y)
    declared = product_cost(setting.holders, x.numel() + y.numel(), opened.numel())
    if x.numel() + y.numel() or not setting.secret:
        assert cost == setting.costs(declared)


def test_each_value_is_opened_once(setting, rng):
    x, y, z = (random_words(rng, 6) for _ in range(3))

    def operation(suite, party, a, b, c):
        first = suite.mul(party, a, b)  # opens a and b
        second = suite.mul(party, b, c)  # opens c
        third = suite.mul(party, c, a)  # opens nothing
        return first, second, third, suite.square(party, a), suite.mul(party, a, a)

    opened, cost = setting.run(operation, x, y, z)
    assert all(map(torch.equal, opened, (x * y, y * z, z * x, x * x, x * x)))
    n = setting.holders
    declared = product_cost(n, 12, 6) + product_cost(n, 6, 6) + product_cost(n, 0, 6) * 3
    assert cost == setting.costs(declared)


@pytest.mark.parametrize("shape", [(), (0,), (1,), (3, 5), (700,)], ids=str)
def test_square(setting, shape, rng):
    x = random_words(rng, *shape)
    opened, cost = setting.run(lambda suite, party, s: suite.square(party, s), x)
    assert torch.equal(opened, x * x)
    if x.numel():
        assert cost == setting.costs(product_cost(setting.holders, x.numel(), x.numel()))


def test_squares_of_a_transpose(setting, rng):
    """Read in another order than that of its body, also before the body is squared itself."""
    x = random_words(rng, 6, 9)

    def operation(suite, party, s):
        turned = suite.square(party, Share(s.body, (9, 6), s.scale, (1, 9)))
        return turned, suite.square(party, s), suite.square(party, turned)

    (turned, square, again), _ = setting.run(operation, x)
    assert torch.equal(turned, (x * x).t())
    assert torch.equal(square, x * x)
    assert torch.equal(again, (x * x * x * x).t())


def test_mul_of_windows_on_one_body(setting, rng):
    """A transpose, a slice and an expansion inherit the opening of their body."""
    x = random_words(rng, 6, 6)

    def operation(suite, party, s):
        t = Share(s.body, (6, 6), 1, (1, 6))
        most = Share(s.body, (5, 6), 1, (6, 1), 6)
        row = Share(s.body, (1, 6), 1, (6, 1), 30)
        first = suite.mul(party, s, t)
        before = party.channel.stats.copy()
        second = suite.mul(party, most, Share(s.body, (5, 6), 1, (1, 6), 0))
        assert (party.channel.stats - before).rounds == 0
        return first, second, suite.mul(party, row, Share(s.body, (6, 6), 1, (1, 6)))

    opened, cost = setting.run(operation, x)
    assert torch.equal(opened[0], x * x.t())
    assert torch.equal(opened[1], x[1:] * x.t()[:5])
    assert torch.equal(opened[2], x[5:] * x.t())
    # the row is less than half of the body: it is copied, and the copy opened
    n = setting.holders
    declared = product_cost(n, 36, 36) + product_cost(n, 0, 30) + product_cost(n, 6, 36)
    assert cost == setting.costs(declared)


def test_a_small_slice_is_opened_alone_and_once(setting, rng):
    x, y = random_words(rng, 100, 4), random_words(rng, 4)

    def operation(suite, party, s, t):
        piece = Share(s.body, (3, 4), 1, (4, 1), 40)
        first, second = suite.mul(party, piece, t), suite.mul(party, Share(s.body, (3, 4), 1, (4, 1), 40), t)
        assert piece.compact().body.n == 12
        return first, second

    opened, cost = setting.run(operation, x, y)
    assert torch.equal(opened[0], x[10:13] * y)
    assert torch.equal(opened[1], x[10:13] * y)
    n = setting.holders
    assert cost == setting.costs(product_cost(n, 16, 12) + product_cost(n, 0, 12))


def test_a_slice_is_opened_once_whichever_way_it_is_read(setting, rng):
    """x[8:16] @ w, then x[8:16]^T @ g: a batch, forward and backward; and again in the next epoch."""
    x, w, g = random_words(rng, 40, 5), random_words(rng, 5, 3), random_words(rng, 8, 3)

    def operation(suite, party, data, a, b):
        out = []
        for _ in range(2):
            batch = Share(data.body, (8, 5), 1, (5, 1), 40)
            out.append(suite.matmul(party, batch, a))
            out.append(suite.matmul(party, Share(data.body, (5, 8), 1, (1, 5), 40), b))
            for product in out:
                product.words()
            one = Share(data.body, (1, 8, 1, 5), 1, (99, 5, 7, 1), 40)
            out.append(suite.mul(party, one, one))
        return tuple(out)

    opened, cost = setting.run(operation, x, w, g)
    for forward, backward, squares in (opened[:3], opened[3:]):
        assert torch.equal(forward, x[8:16] @ w)
        assert torch.equal(backward, x[8:16].t() @ g)
        assert torch.equal(squares, (x[8:16] * x[8:16]).reshape(1, 8, 1, 5))
    n = setting.holders
    first = product_cost(n, 40 + 15, 24) + product_cost(n, 24, 15)
    assert cost == setting.costs(first + product_cost(n, 0, 24 + 15) + product_cost(n, 0, 40) * 2)


def test_what_is_opened_does_not_depend_on_garbage(rng):
    """A process may collect a cycle that another still keeps: both must go on alike."""
    x, y = random_words(rng, 100, 4), random_words(rng, 4)

    def operation(suite, party, s, t):
        cycle = {"slice": Share(s.body, (3, 4), 1, (4, 1), 40).compact()}
        cycle["self"] = cycle
        first = suite.mul(party, cycle["slice"], t)
        del cycle
        if party.ranks == (1,):
            gc.collect()
        return first, suite.mul(party, Share(s.body, (3, 4), 1, (4, 1), 40), t)

    enabled = gc.isenabled()
    gc.disable()
    try:
        opened, _ = Setting("threads", 3).run(operation, x, y)
    finally:
        if enabled:
            gc.enable()
    for each in opened:
        assert torch.equal(each, x[10:13] * y)


def test_copies_of_slices_stay_within_the_size_of_the_whole(rng):
    [(session, share)] = Setting("virtual", 2).everywhere(
        lambda s, owner: s.suite.share(s.party, random_words(rng, 100), (100,))
    )
    for start in range(60):
        assert torch.equal(
            session.suite.reveal(session.party, Share(share.body, (40,), 1, (1,), start).compact())[0],
            session.suite.reveal(session.party, Share(share.body, (40,), 1, (1,), start))[0],
        )
        assert sum(body.n for body in share.body.compacted.values()) <= 100


def test_expanded_operands_are_opened_at_their_own_size(setting, rng):
    x, y = random_words(rng, 4), random_words(rng, 5, 1)

    def operation(suite, party, s, t):
        return suite.mul(party, s.expand((3, 5, 4)), t.expand((3, 5, 4)))

    opened, cost = setting.run(operation, x, y)
    assert torch.equal(opened, (x * y).expand(3, 5, 4))
    assert cost == setting.costs(product_cost(setting.holders, 9, 60))


@pytest.mark.parametrize(
    ("a", "b"),
    [((3, 4), (4, 5)), ((1, 1), (1, 1)), ((2, 3, 4), (2, 4, 5)), ((2, 3, 4), (4, 5)), ((3, 4), (2, 4, 5)),
     ((2, 1, 3, 4), (5, 4, 2)), ((0, 4), (4, 5)), ((33, 65), (65, 17)), ((1, 600), (600, 1))],
    ids=str,
)  # fmt: skip
def test_matmul(setting, a, b, rng):
    x, y = random_words(rng, *a), random_words(rng, *b)
    opened, cost = setting.run(lambda suite, party, s, t: suite.matmul(party, s, t), x, y)
    assert torch.equal(opened, torch.matmul(x, y))
    assert cost == setting.costs(product_cost(setting.holders, x.numel() + y.numel(), opened.numel()))


def test_matmul_with_nothing_to_sum(setting, rng):
    opened, _ = setting.run(
        lambda suite, party, s, t: suite.matmul(party, s, t), random_words(rng, 3, 0), random_words(rng, 0, 2)
    )
    assert torch.equal(opened, torch.zeros((3, 2), dtype=torch.int64))


def test_matmul_of_windows(setting, rng):
    """The products of a linear layer: x w^T, then x^T g and g w, of which each value is opened once."""
    x, w, g = random_words(rng, 8, 6), random_words(rng, 5, 6), random_words(rng, 8, 5)

    def transposed(s):
        return Share(s.body, s.shape[::-1], s.scale, s.strides[::-1])

    def operation(suite, party, a, b, c):
        forward = suite.matmul(party, a, transposed(b))
        to_weights = suite.matmul(party, transposed(c), a)
        return forward, to_weights, suite.matmul(party, c, b)

    opened, cost = setting.run(operation, x, w, g)
    assert torch.equal(opened[0], x @ w.t())
    assert torch.equal(opened[1], g.t() @ x)
    assert torch.equal(opened[2], g @ w)
    n = setting.holders
    declared = product_cost(n, 48 + 30, 40) + product_cost(n, 40, 30) + product_cost(n, 0, 48)
    assert cost == setting.costs(declared)


def test_matmul_of_slices_and_strides(setting, rng):
    x, y = random_words(rng, 7, 9), random_words(rng, 10, 8)

    def operation(suite, party, s, t):
        left = Share(s.body, (3, 7), 1, (18, 1), 2)  # x[0:6:2, 2:9]
        right = Share(t.body, (7, 3), 1, (1, 24), 8)  # y[1::3, 0:7].t()
        return suite.matmul(party, left, right), suite.matmul(party, left, right)

    opened, _ = setting.run(operation, x, y)
    for each in opened:
        assert torch.equal(each, x[0:6:2, 2:9] @ y[1::3, :7].t())


def test_matmul_of_expanded_operands(setting, rng):
    x, y = random_words(rng, 1, 5), random_words(rng, 5, 1)
    opened, _ = setting.run(lambda suite, party, s, t: suite.matmul(party, s.expand((3, 5)), t.expand((2, 5, 4))), x, y)
    assert torch.equal(opened, torch.matmul(x.expand(3, 5), y.expand(2, 5, 4)))


def test_a_product_with_itself(setting, rng):
    x = random_words(rng, 5, 5)

    def operation(suite, party, s):
        return suite.matmul(party, s, s), suite.matmul(party, s, Share(s.body, (5, 5), 1, (1, 5)))

    opened, cost = setting.run(operation, x)
    assert torch.equal(opened[0], x @ x)
    assert torch.equal(opened[1], x @ x.t())
    n = setting.holders
    assert cost == setting.costs(product_cost(n, 25, 25) + product_cost(n, 0, 25))


def test_a_chain_of_products(setting, rng):
    """Results of products are operands of others; wrap-around is exact."""
    x, y = random_words(rng, 4, 4), random_words(rng, 4, 4)

    def operation(suite, party, s, t):
        product = suite.matmul(party, s, t)
        for _ in range(3):
            product = suite.mul(party, suite.square(party, product), s)
        return suite.sub(party, product, t)

    opened, cost = setting.run(operation, x, y)
    expected = x @ y
    for _ in range(3):
        expected = expected * expected * x
    assert torch.equal(opened, expected - y)
    assert cost != LOCAL or not setting.secret
