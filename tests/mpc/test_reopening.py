"""Results of truncations as factors of matrices: they are opened by 16 bits, and say nothing."""

import pytest
import torch
from settings import bounded_words, random_words
from views import all_uniform, byte_counts

from pysmpc.mpc.additive import exact
from pysmpc.mpc.additive.products import product_cost
from pysmpc.mpc.additive.reopening import reopens
from pysmpc.mpc.interfaces import Cost
from pysmpc.session.session import virtual_session

ROWS, DEPTH, COLUMNS = 5, 9, 3
N, M = ROWS * DEPTH, DEPTH * COLUMNS


def lane_bytes(n):
    return 8 * ((n + 3) // 4)


@pytest.mark.parametrize("by", [2, 1 << 7, 1 << 16, 1 << 17, 1000])
def test_a_factor_of_matrices(setting, by, rng):
    z, other = bounded_words(rng, 61, ROWS, DEPTH), random_words(rng, DEPTH, COLUMNS)

    def operation(suite, party, x, y):
        [v] = suite.truncate_all(party, [(x, by)])
        before = party.channel.stats.copy()
        first = suite.matmul(party, v, y)
        first.words()
        cost = (party.channel.stats - before).cost
        if setting.secret:
            sent = (8 * M + (lane_bytes(N) if reopens(by) else 8 * N)) * (setting.holders - 1)
            assert cost == Cost(1, sent) + product_cost(setting.holders, 0, ROWS * COLUMNS)
        # both again, of the same opening
        again = suite.matmul(party, v.at(1), y.at(1))
        squared, own = suite.square(party, v), suite.mul(party, v, suite.neg(party, v))
        assert (party.channel.stats - before).rounds == (1 if setting.secret else 0)
        return v, first, again, squared, own

    (v, first, again, squared, own), _ = setting.run(operation, z, other)
    assert bool(
        ((v == torch.div(z, by, rounding_mode="floor")) | (v == -torch.div(-z, by, rounding_mode="floor"))).all()
    )
    assert torch.equal(first, product(v, other))
    assert torch.equal(again, product(v, other))
    assert torch.equal(squared, v * v)
    assert torch.equal(own, -v * v)


def product(x, y):
    return (x.unsqueeze(-1) * y).sum(-2)


def test_two_of_them(setting, rng):
    """Both factors, one as it was opened and one that is opened now; and one that is used elementwise in between."""
    z, other = bounded_words(rng, 61, ROWS, DEPTH), bounded_words(rng, 61, DEPTH, COLUMNS)

    def operation(suite, party, x, y):
        v, w = suite.truncate_all(party, [(x, 1 << 16), (y, 1 << 9)])
        square = suite.square(party, v)
        first = suite.matmul(party, v, w)
        return v, w, square, first, suite.sub(party, v, v)

    (v, w, square, first, nothing), _ = setting.run(operation, z, other)
    assert torch.equal(square, v * v)
    assert torch.equal(first, product(v, w))
    assert not nothing.any()


def test_rounded_to_the_nearest(secret_setting, rng):
    """Exact, and opened in full: it is another value."""
    setting = secret_setting
    if setting.protocol != "default":
        pytest.skip("signs that are shared in another way")
    z, other = bounded_words(rng, 61, ROWS, DEPTH), random_words(rng, DEPTH, COLUMNS)

    def operation(suite, party, x, y):
        [v] = exact.nearest(suite).truncate_all(party, [(x, 1 << 16)])
        before = party.channel.stats.copy()
        first = suite.matmul(party, v, y)
        first.words()
        assert (party.channel.stats - before).sent == 8 * (N + M) * (setting.holders - 1)
        return v, first

    (v, first), _ = setting.run(operation, z, other)
    assert torch.equal(v, (z + (1 << 15)) >> 16)
    assert torch.equal(first, product(v, other))


@pytest.mark.parametrize("holders", [2, 3])
@pytest.mark.parametrize("value", [0, -1, (1 << 61) + 12345])
def test_openings_are_uniform_together(holders, value):
    """c, w, each holder's messages, and w beside c; nothing else is opened."""
    session, n = virtual_session([str(i) for i in range(holders)]), 1 << 15
    suite, party, seen = session.suite, session.party, []
    party.channel.observer = lambda cause, messages, opened: seen.append((messages, opened))
    x = suite.share(party, torch.full((1, n), value), (1, n), 1)
    y = suite.share(party, torch.zeros(n, 1, dtype=torch.int64), (n, 1), 1)
    [v] = suite.truncate_all(party, [(x, 1 << 16)])
    suite.matmul(party, v, y).words()
    (first, [c]), (second, [_, w]) = seen
    lanes = w.view(torch.int16).to(torch.int64)[0]
    own = [words for m in (*first, *second[1:]) for words in m]
    checked = [c[0], w[0], *own]
    counts = [byte_counts(each).sum(0) for each in checked]
    # the upper byte of w beside each byte of c: 256 pairs of four bits each
    for shift in (0, 8, 16, 24, 40, 56):
        pairs = ((lanes >> 12 & 15) << 4) + (c[0] >> shift & 15)
        counts.append(torch.bincount(pairs, minlength=256).numpy())
    assert all_uniform(counts)
