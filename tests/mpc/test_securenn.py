"""SecureNN, step by step and as a suite, against Python integers; and what its third party sees."""

from dataclasses import replace

import pytest
import torch
from securenn_settings import SECURENN
from settings import EDGES, random_words
from views import all_uniform

from pysmpc.errors import PartyError
from pysmpc.mpc.additive import comparison
from pysmpc.mpc.interfaces import LOCAL
from pysmpc.mpc.securenn import securenn_comparison, securenn_signs
from pysmpc.mpc.suite import snn, suite_named
from pysmpc.ring import odd_ring, z2k
from pysmpc.ring.shares import Share
from pysmpc.session.session import virtual_session
from pysmpc.transport import threads

LENGTHS = [0, 1, 63, 64, 65, 200, 1025]
ODD = (1 << 64) - 1


@pytest.fixture(params=SECURENN, ids=str)
def setting(request):
    return request.param


def unsigned(values):
    return [v & ODD for v in values.reshape(-1).tolist()]


def bits(suite, party, bit, x):
    return suite.bit_share(party, bit, x.shape)


@pytest.fixture(params=[securenn_comparison, securenn_signs], ids=["as in the paper", "without conversion"])
def way(request):
    """The two ways to a sign."""
    return request.param


@pytest.mark.parametrize("n", LENGTHS)
def test_negative(setting, way, n, rng):
    x = random_words(rng, n)
    opened, cost = setting.run(lambda suite, party, a: bits(suite, party, way.negative(party, a), a), x)
    assert torch.equal(opened, (x < 0).to(torch.int64))
    assert cost == way.negative_cost(2, n)
    if n:
        assert cost.rounds == (7 if way is securenn_comparison else 3)


def neighbours():
    """Powers of two, the ends of the ring, what is not told apart in the odd ring, and all their neighbours."""
    centres = [sign * (1 << k) for k in range(63) for sign in (1, -1)] + EDGES
    values = {z2k.wrap(c + d) for c in centres for d in range(-3, 4)}
    return torch.tensor(sorted(values))


def test_every_edge_is_exact(setting, way):
    """For all of them the paper's way; a ReLU by one comparison for all but -2^63."""
    x = neighbours()
    if way is securenn_signs:
        x = x[x != -(1 << 63)]

    def operation(suite, party, a):
        negative = way.negative(party, a)
        result = way.relu(party, a)
        return (
            bits(suite, party, negative, a),
            bits(suite, party, negative.flipped(), a),
            result,
            bits(suite, party, result.body.sign, a),
        )

    (below, not_below, result, above), _ = setting.run(operation, x)
    assert torch.equal(below, (x < 0).to(torch.int64))
    assert torch.equal(not_below, (x >= 0).to(torch.int64))
    assert torch.equal(result, x.clamp(min=0))
    assert torch.equal(above, (x > 0).to(torch.int64))


@pytest.mark.parametrize("by", [1, 2, 1000, 1 << 16])
@pytest.mark.parametrize("n", [1, 65, 700])
def test_relu(setting, way, n, by, rng):
    x = random_words(rng, n) >> 2
    result, cost = setting.run(lambda suite, party, a: way.relu(party, a, by), (x, by))
    exact = x.clamp(min=0)
    below = torch.div(exact, by, rounding_mode="floor")
    assert bool(((result == below) | ((result == below + 1) & (exact % by != 0))).all())
    assert cost == way.relu_cost(2, n, by > 1)
    assert cost.rounds <= 10


def test_select_with_the_bits_of_a_relu(setting, rng):
    """The backward pass: one round with bits at hand."""
    x, y = random_words(rng, 130), random_words(rng, 130)

    def operation(suite, party, a, b):
        result = suite.relu(party, a)
        before = party.channel.stats.copy()
        out = suite.select(party, result.body.sign, b)
        assert (party.channel.stats - before).cost == comparison.select_cost(2, 130, False)
        return out

    x[:3] = torch.tensor([0, 1, -1])
    x[x == -(1 << 63)] += 1
    result, _ = setting.run(operation, x, y)
    assert torch.equal(result, torch.where(x > 0, y, 0))


def test_select_share(setting, rng):
    choice, x, y = torch.from_numpy(rng.integers(0, 2, 90)), random_words(rng, 90), random_words(rng, 90)
    result, cost = setting.run(
        lambda suite, party, *shares: securenn_comparison.select_share(party, *shares), choice, x, y
    )
    assert torch.equal(result, torch.where(choice == 1, y, x))
    assert cost == securenn_comparison.select_share_cost(2, 90)


# --- the steps by themselves ----------------------------------------------------------


def compared(setting, x, r):
    """(x > r, cost) by PrivateCompare."""

    def program(session, owner):
        party = session.party
        shared = securenn_comparison.share_bits(party, x if owner else None, x.shape)
        before = session.stats.copy()
        bit = securenn_comparison.private_compare(party, shared, r)
        cost = (session.stats - before).cost
        share = session.suite.bit_share(party, bit, x.shape)
        return session.suite.reveal(party, share)[0], cost

    outcomes = setting.everywhere(program)
    assert len({cost for _, (_, cost) in outcomes}) == 1
    return outcomes[0][1]


@pytest.mark.parametrize("n", LENGTHS)
def test_private_compare(setting, n, rng):
    x, r = random_words(rng, n), random_words(rng, n)
    r[::3], r[1::6] = x[::3], x[1::6] + 1
    opened, cost = compared(setting, x, r)
    assert opened.tolist() == [int(a > b) for a, b in zip(unsigned(x), unsigned(r), strict=True)]
    assert cost == securenn_comparison.private_compare_cost(2, n)


def test_private_compare_at_the_edges(setting):
    """All pairs of edges, 2^64 - 1 among them, often enough for both values of beta."""
    edges = torch.tensor(EDGES)
    x, r = edges.repeat_interleave(len(EDGES)).repeat(8), edges.repeat(8 * len(EDGES))
    opened, _ = compared(setting, x, r)
    assert opened.tolist() == [int(a > b) for a, b in zip(unsigned(x), unsigned(r), strict=True)]


@pytest.mark.parametrize("shift", [(0, 0), securenn_comparison.NEGATIVE, securenn_comparison.POSITIVE], ids=str)
def test_share_convert(setting, shift, rng):
    x = torch.cat([neighbours(), random_words(rng, 100)])

    def program(session, owner):
        party = session.party
        a = session.suite.share(party, x if owner else None, x.shape)
        before = session.stats.copy()
        y = securenn_comparison.share_convert(party, a, shift)
        return y.words, (session.stats - before).cost

    outcomes = [result for session, result in setting.everywhere(program) if session.party.rows]
    rows = torch.cat([words for words, _ in outcomes])
    expected = [((v + shift[0]) % (1 << 64) + shift[1]) % ODD for v in unsigned(x)]
    first, second = unsigned(rows[0]), unsigned(rows[1])
    assert [(a + b) % ODD for a, b in zip(first, second, strict=True)] == expected
    assert max(first + second) < ODD
    assert outcomes[0][1] == securenn_comparison.share_convert_cost(2, x.numel())


def test_compute_msb(setting, rng):
    """Of every element of the odd ring."""
    y = [v % ODD for v in unsigned(torch.cat([neighbours(), random_words(rng, 100)]))]

    def program(session, owner):
        party = session.party
        mask = session.suite.share(party, torch.zeros(len(y), dtype=torch.int64) if owner else None, (len(y),)).words()
        words = torch.empty_like(mask)
        for row, rank in enumerate(party.ranks):  # y + m and -m, in the odd ring
            m = [v % ODD for v in unsigned(mask[row])]
            # the shares of zero are m and 2^64 - m, of which the second is made from the first
            own = [(v + a) % ODD for v, a in zip(y, m, strict=True)] if rank == 0 else None
            other = [(-((1 << 64) - a)) % ODD if a else 0 for a in m]
            words[row] = torch.tensor([z2k.wrap(v) for v in (own if own is not None else other)])
        before = session.stats.copy()
        bit = securenn_comparison.compute_msb(party, securenn_comparison.Odd(words, (len(y),)))
        cost = (session.stats - before).cost
        return session.suite.reveal(party, session.suite.bit_share(party, bit, (len(y),)))[0], cost

    opened, cost = setting.everywhere(program)[0][1]
    assert opened.tolist() == [v >> 63 for v in y]
    assert cost == securenn_comparison.compute_msb_cost(2, len(y))
    assert cost.rounds == 3


# --- parties ---------------------------------------------------------------------------


def test_two_holders_only():
    for make in (virtual_session, threads.sessions):
        with pytest.raises(PartyError, match=r"2 holders, not 3.*default"):
            make(["a", "b", "c"], suite=snn)
    three = virtual_session(["a", "b", "c"])
    x = three.suite.share(three.party, torch.arange(3), (3,))
    with pytest.raises(PartyError, match=r"two holders and the provider.*default protocol"):
        securenn_comparison.share_convert(three.party, x)


def test_it_is_found_by_name():
    assert suite_named("snn") is snn
    assert snn.negative is securenn_signs.negative
    assert snn.mul is suite_named(None).mul


def test_a_driver_runs_it_on_empty_shares():
    """It hosts nothing, asks nothing and answers nothing, and knows the shapes and the costs."""
    session = virtual_session(["a", "b"], suite=snn)
    provider = threads.sessions(["a", "b"], suite=snn)[-1]
    party = provider.party
    driver = replace(
        party,
        dealer=type(party.dealer)(
            party.dealer.keys, None, False, None, lambda count: None, None, provider.stats.count_ask, 2
        ),
    )
    before = provider.stats.copy()
    result = snn.relu(driver, Share.of(torch.empty((0, 70), dtype=torch.int64), (7, 10)))
    assert result.shape == (7, 10)
    assert result.body.words.shape == (0, 70)
    spent = (provider.stats - before).cost
    x = session.suite.share(session.party, torch.zeros(70, dtype=torch.int64), (7, 10))
    before = session.stats.copy()
    session.suite.relu(session.party, x)
    assert replace(spent, dealt=(session.stats - before).dealt) == (session.stats - before).cost
    assert spent != LOCAL


# --- what the third party sees ----------------------------------------------------------


def shown(values, way):
    """Everything P2 is shown in a ReLU of a secret, by cause."""
    session = virtual_session(["a", "b"], suite=snn)
    seen = []
    session.party.dealer.observer = lambda cause, asked, out: seen.append((cause, asked.clone()))
    x = session.suite.share(session.party, values, values.shape)
    way.relu(session.party, x)
    return seen


def symbols(message):
    """[blocks, 64 rows, 64] of Z_67."""
    data = message.contiguous().view(torch.uint8).reshape(-1, 8, 7, 64).to(torch.int64)
    last = sum(((data[:, :, k] & 0x80) >> (k + 1)) for k in range(7))
    return torch.cat([data & 0x7F, last.unsqueeze(2)], 2).reshape(-1, 64, 64)


def compared_in(seen):
    return [asked for cause, asked in seen if cause == "compare"]


SECRETS = {"zero": 0, "minus one": -1, "large": (1 << 62) + 12345}


@pytest.mark.parametrize("value", SECRETS.values(), ids=SECRETS)
def test_what_the_provider_sees_is_uniform(value, way):
    n = 4096
    seen = shown(torch.full((n,), value, dtype=torch.int64), way)
    assert [cause for cause, _ in seen] == (
        ["convert", "compare", "compare"] if way is securenn_comparison else ["compare"]
    )
    for masked in (asked for cause, asked in seen if cause == "convert"):
        for words in (*masked, masked.sum(0)):
            assert all_uniform([torch.bincount(words.contiguous().view(torch.uint8).to(torch.int64), minlength=256)])
    for asked in (asked for cause, asked in seen if cause == "compare"):
        one, other = symbols(asked[0]), symbols(asked[1])
        assert int(max(one.max(), other.max())) < 67
        for each in (one, other):  # each message alone: uniform over Z_67 at each place
            rows = [each.reshape(-1), *each.permute(1, 0, 2).reshape(64, -1)]
            assert all_uniform([torch.bincount(row, minlength=67) for row in rows])
        total = (one + other) % 67
        zero = total == 0
        assert int(zero.sum(1).max()) <= 1
        # beta' is a fair coin, and what is not zero any unit
        found = zero.any(1)
        assert abs(int(found.sum()) - n / 2) < 6 * (n / 4) ** 0.5
        assert all_uniform([torch.bincount(total[~zero], minlength=67)[1:]])


def test_the_place_of_the_zero_is_uniform_and_independent_of_the_secret(way):
    for value in SECRETS.values():
        counts = torch.zeros(64, dtype=torch.int64)
        for asked in compared_in(shown(torch.full((1 << 14,), value, dtype=torch.int64), way)):
            counts += ((symbols(asked[0]) + symbols(asked[1])) % 67 == 0).sum((0, 2))
        assert all_uniform([counts])


def test_messages_to_the_provider_are_not_multiples_of_each_other(way):
    """It dealt the bits' shares: the quotient of two unhidden messages would be that of two known numbers."""
    for asked in compared_in(shown(torch.full((1 << 14,), 77, dtype=torch.int64), way)):
        one, other = symbols(asked[0]), symbols(asked[1])
        joint = torch.bincount((one * 67 + other).reshape(-1), minlength=67 * 67).reshape(67, 67)
        sums = (torch.arange(67).reshape(-1, 1) + torch.arange(67)) % 67
        assert all_uniform([joint[sums == total] for total in range(67)])  # given the sum, the split is uniform


@pytest.mark.slow
def test_four_million_values_are_exact(rng, way):
    session = virtual_session(["a", "b"], suite=snn)
    suite, party = session.suite, session.party
    x = torch.from_numpy(rng.integers(-(1 << 63), 1 << 63, 1 << 22))
    edges = neighbours()
    x[: len(edges)] = edges
    least = -(1 << 63) + (way is securenn_signs)  # whose slope of 0 at 0 is the sign of x - 1
    for part in x.split(1 << 18):
        a, b = (suite.share(party, values, part.shape) for values in (part, part.clamp(min=least)))
        result = way.relu(party, b)
        below = suite.bit_share(party, way.negative(party, a), part.shape)
        relu, signs = suite.reveal(party, result, below)
        assert torch.equal(relu, part.clamp(min=0))
        assert torch.equal(signs, (part < 0).to(torch.int64))


def test_words_of_a_message():
    assert [odd_ring.symbol_words(n) for n in (0, 1, 64, 65)] == [0, 448, 448, 896]
