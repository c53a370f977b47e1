"""Ranges by protocol, in one process: against Python's integers, and what it costs."""

import copy
import math

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

import pysmpc as sy
from pysmpc.errors import CheckpointError, RangeError
from pysmpc.mpc.derived import tested
from pysmpc.mpc.derived.out_of_range import outside_cost
from pysmpc.mpc.derived.tested import PRODUCT, ROOM
from pysmpc.mpc.interfaces import Cost, opening
from pysmpc.ring.fixedpoint import BINARY16, LIMIT
from pysmpc.tensor.secret import SecretTensor

RING, STEP = 1 << 63, 1 << 16
fresh = settings(
    max_examples=12, deadline=None, database=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def parties(holders=2):
    return sy.virtual(*("alice", "bob", "carol")[:holders], checked="protocol")


NESTS = {"alone": lambda y: y, "list": lambda y: [y], "dict": lambda y: {"a": y, "b": y * 0}}


@pytest.mark.parametrize("nest", NESTS.values(), ids=NESTS)
def test_what_came_of_tests_is_opened_before_any_value(nest):
    """Several secrets that are opened together are no way around it."""
    for value, fits in ((100.0, True), (100000.0, False)):
        x = sy.encrypt(torch.tensor([value]), parties())
        if fits:
            sy.decrypt(nest(x * x))
            assert not x.session.flags.pending
        else:
            with pytest.raises(RangeError, match="too large; the value was not opened"):
                sy.decrypt(nest(x * x))


@pytest.fixture(params=[2, 3], ids=lambda n: f"{n}-holders")
def start(request):
    """A new session: a function that makes secrets of integers, in steps."""

    def session():
        found = parties(request.param).session

        def make(words, scale=STEP):
            values = torch.tensor(words, dtype=torch.int64)
            share = found.suite.share(found.party, values, values.shape, scale)
            return SecretTensor.of(share, found, BINARY16, torch.float32)

        return make

    return session


def opened(x):
    """The integers of a secret, at the scale it is held at; None where one that led to it was too large."""
    scale = x.cell.scale
    try:
        x.reveal()
    except RangeError:
        with pytest.raises(RangeError, match="too large; the value was not opened, and nothing will be"):
            x.reveal()
        return None
    [words] = x.session.suite.reveal(x.session.party, x.window())
    assert x.cell.scale == scale
    return words.reshape(-1).tolist()


def expect(found, true, within, limit=RING, slack=0):
    """Opened if and only if all operands were within their bounds, and then right; never where the ring was left."""
    words = opened(found)
    assert (words is not None) == within
    if words is not None:
        assert all(abs(v) < limit for v in true)
        assert all(abs(a - b) <= slack for a, b in zip(words, true, strict=True))


def around(*sizes):
    """Integers next to some sizes, or of any size below 2^62."""
    near = st.sampled_from(sizes).flatmap(lambda size: st.integers(size - 2, size + 2))
    far = st.integers(0, 61).flatmap(lambda k: st.integers(0, (1 << k) - 1))
    return st.tuples(near | far, st.sampled_from([-1, 1])).map(lambda v: v[0] * v[1])


def root(terms=None):
    """What two operands of a product may both be; of a matrix product with so many terms."""
    return math.isqrt(PRODUCT - 1) if terms is None else math.isqrt((ROOM - 1) // terms)


def all_below(bound, *lists):
    return all(abs(v) <= bound for values in lists for v in values)


pairs = st.lists(st.tuples(around(root()), around(root())), min_size=1, max_size=4)


@fresh
@given(pairs)
def test_products(start, values):
    a, b = map(list, zip(*values, strict=True))
    secret = start()
    expect(secret(a) * secret(b), [x * y for x, y in values], all_below(root(), a, b))


@fresh
@given(st.lists(around(root()), min_size=1, max_size=4))
def test_squares(start, a):
    expect(torch.square(start()(a)), [x * x for x in a], all_below(root(), a))


@fresh
@given(st.lists(st.tuples(around(ROOM - 1), around(ROOM - 1)), min_size=1, max_size=4), st.booleans())
def test_sums(start, values, minus):
    a, b = map(list, zip(*values, strict=True))
    secret = start()
    found = secret(a) - secret(b) if minus else secret(a) + secret(b)
    expect(found, [x - y if minus else x + y for x, y in values], all_below(ROOM - 1, a, b))


@fresh
@given(st.lists(around((ROOM - 1) // 5), min_size=5, max_size=5))
def test_sums_over_a_dimension(start, a):
    expect(start()(a).sum(), [sum(a)], all_below((ROOM - 1) // 5, a))


@fresh
@given(st.lists(around(LIMIT - STEP), min_size=1, max_size=4))
def test_truncations(start, a):
    """What is held at the scale of a product, settled to that of its encoding."""
    x = start()(a, STEP * STEP)
    x.cell.settle()
    expect(x, [v / STEP for v in a], all_below(LIMIT - STEP, a), slack=1)


@fresh
@given(st.lists(st.tuples(around(root(3)), around(root(3))), min_size=6, max_size=6))
def test_matrix_products(start, values):
    a, b = map(list, zip(*values, strict=True))
    secret = start()
    found = secret([a[:3], a[3:]]) @ secret([[b[0], b[1]], [b[2], b[3]], [b[4], b[5]]])
    true = [sum(a[3 * i + k] * b[2 * k + j] for k in range(3)) for i in range(2) for j in range(2)]
    expect(found, true, all_below(root(3), a, b))


@fresh
@given(st.lists(around(root(4)), min_size=9, max_size=9), st.lists(around(root(4)), min_size=4, max_size=4))
def test_convolutions(start, a, b):
    secret = start()
    x, kernel = secret([[[a[3 * i : 3 * i + 3] for i in range(3)]]]), secret([[[b[:2], b[2:]]]])
    true = [
        sum(a[3 * (i + k) + j + m] * b[2 * k + m] for k in range(2) for m in range(2))
        for i in range(2)
        for j in range(2)
    ]
    expect(F.conv2d(x, kernel), true, all_below(root(4), a, b))


@fresh
@given(st.lists(around((PRODUCT - 1) // (5 * STEP)), min_size=3, max_size=3))
def test_products_with_a_public_tensor(start, a):
    """5 is the largest, so that all are held against what 5 leaves."""
    found = start()(a) * torch.tensor([5.0, -1.0, 2.0])
    by = found.cell.scale // STEP
    true = [v * p * by for v, p in zip(a, (5, -1, 2), strict=True)]
    expect(found, true, all_below((PRODUCT - 1) // (5 * by), a))


@fresh
@given(st.lists(around(root()), min_size=4, max_size=4))
def test_a_window_is_tested_alone(start, a):
    """What is beside the operand in its memory may be as large as it likes, until it is used, too."""
    secret = start()
    x = secret([*a, LIMIT - 1])
    part = x[:4]
    expect(part * part, [v * v for v in a], all_below(root(), a))
    x = secret([0, 1, 2, 3, LIMIT - 1])
    part = x[:4]
    whole = part * part, x * x
    assert opened(whole[1]) is None


def test_a_pair_shares_the_room_by_its_scales(start):
    """At scales 2^16 and 2^24 both may be as large in real numbers: below 2^10.5."""
    low = math.isqrt(PRODUCT >> 8)
    for a, b, within in ((low - 1, (low - 1) << 8, True), (low + 2, 1, False), (1, (low + 2) << 8, False)):
        secret = start()
        assert (opened(secret([a]) * secret([b], STEP << 8)) is not None) == within, (a, b)


# --- what is known is not tested --------------------------------------------------------


@pytest.fixture
def elements(monkeypatch):
    """How many elements were tested."""
    found = []
    test = tested.Flags.test

    def counted(self, words, most, what):
        found.append(words.shape[1])
        test(self, words, most, what)

    monkeypatch.setattr(tested.Flags, "test", counted)
    return found


def test_a_stated_bound_needs_no_test(elements):
    p = parties()
    x, y = (sy.encrypt(torch.randn(10).clamp(-3, 3), p, bounded=3.0) for _ in range(2))
    assert (x * y + x).reveal().shape == (10,)
    assert torch.sigmoid(x).reveal().shape == (10,)
    assert elements == []


def test_what_was_tested_is_not_tested_again(elements):
    p = parties()
    x, y, z = (sy.encrypt(torch.randn(4, 6), p) for _ in range(3))
    (x * y).reveal()
    assert elements == [24, 24]
    (x.t() * y.t() + (-x * y).t()).reveal()
    assert elements == [24, 24]
    (x * z).reveal()
    assert elements == [24, 24, 24]
    ((x * z) * y).reveal()  # of a product it is known how large it is after its truncation: too large for another
    assert elements == [24, 24, 24, 24]


@pytest.mark.parametrize("holders", [2, 3])
def test_cost(holders):
    """Four rounds for all that waited and one for what came of it, 16.5 bytes an element and peer."""
    costs = {}
    for checked in (True, "protocol"):
        p = sy.virtual(*("alice", "bob", "carol")[:holders], checked=checked)
        x, y = (sy.encrypt(torch.randn(500), p) for _ in range(2))
        before = p.stats.copy()
        ((x * y).relu() * x).reveal()
        costs[checked] = (p.stats - before).cost
        before = p.stats.copy()
        x.reveal()
        assert (p.stats - before).cost == opening(holders, 500)  # nothing was tested since
    more = outside_cost(holders, 1500) + opening(holders, 1)
    assert costs["protocol"] == costs[True] + more
    assert more.rounds == 5
    assert more.sent < 16.8 * 1500 * (holders - 1)
    assert more.dealt < 54.5 * 1500


def test_what_was_found_at_first_counts_to_the_end(monkeypatch):
    """A large value among the first that are tested, and only small ones in the last batch."""
    monkeypatch.setattr(tested, "WAITING", 2)
    p = parties()
    x, y = sy.encrypt(torch.tensor([1e6, 1.0]), p), sy.encrypt(torch.tensor([1.0, 2.0]), p)
    large = x * x
    small = y * y
    assert opened(small) is None
    del large


def test_many_are_tested_before_anything_is_opened(monkeypatch):
    monkeypatch.setattr(tested, "WAITING", 100)
    p = parties()
    x, y = (sy.encrypt(torch.randn(60), p) for _ in range(2))
    before = p.stats.copy()
    z = x * y
    cost = (p.stats - before).cost
    assert cost == outside_cost(2, 120) + Cost(1, 8 * 120, 8 * 60)
    assert torch.allclose(z.reveal(), x.reveal() * y.reveal(), atol=0.01)


def test_nothing_is_kept_where_it_was_not_asked_for():
    assert sy.virtual("alice", "bob").session.flags is None
    p = sy.virtual("alice", "bob", checked=False)
    x = sy.encrypt(torch.tensor([1e5]), p)
    assert p.session.flags is None
    assert float((x * x).reveal()) != pytest.approx(1e10)  # wrong, and nobody asked


# --- programs ---------------------------------------------------------------------------


def train(p, model, x, y, steps, optimizer, loss):
    hidden, a, b = sy.encrypt(model, p), sy.encrypt(x, p), sy.encrypt(y, p)
    own, losses = optimizer(hidden.parameters()), []
    for _ in range(steps):
        own.zero_grad()
        found = loss(hidden(a), b)
        found.backward()
        own.step()
        losses.append(float(found.detach().reveal()))
    return losses, sy.decrypt(hidden)


def mlp():
    return nn.Sequential(nn.Linear(12, 16), nn.ReLU(), nn.Linear(16, 3))


def convolutional():
    return nn.Sequential(
        nn.Conv2d(1, 3, 3, padding=1), nn.BatchNorm2d(3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(27, 3)
    )


PROGRAMS = {
    "mlp": (mlp, (8, 12), lambda q: torch.optim.SGD(q, lr=0.05, momentum=0.9), F.mse_loss, {}),
    "adam": (mlp, (8, 12), lambda q: torch.optim.Adam(q, lr=0.01), F.cross_entropy, {}),
    "convolution": (convolutional, (4, 1, 6, 6), lambda q: torch.optim.SGD(q, lr=0.05), F.cross_entropy, {}),
    "fss": (mlp, (8, 12), lambda q: torch.optim.SGD(q, lr=0.05), F.mse_loss, {"protocol": "fss"}),
    "snn": (lambda: nn.Linear(4, 3), (4, 4), lambda q: torch.optim.SGD(q, lr=0.05), F.mse_loss, {"protocol": "snn"}),
    "nearest": (mlp, (8, 12), lambda q: torch.optim.SGD(q, lr=0.05), F.mse_loss, {"rounding": "nearest"}),
    "short": (mlp, (8, 12), lambda q: torch.optim.SGD(q, lr=0.05), F.mse_loss, {"compare_bits": 32}),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_honest_programs_come_to_the_same(name):
    make, shape, optimizer, loss, options = PROGRAMS[name]
    model, x, y = make(), torch.rand(shape), torch.rand(shape[0], 3)
    y = y / y.sum(1, keepdim=True)
    losses, weights = train(sy.virtual("alice", "bob", **options), copy.deepcopy(model), x, y, 2, optimizer, loss)
    again, theirs = train(
        sy.virtual("alice", "bob", checked="protocol", **options), copy.deepcopy(model), x, y, 2, optimizer, loss
    )
    assert again == pytest.approx(losses, abs=0.01)
    for a, b in zip(weights.parameters(), theirs.parameters(), strict=True):
        assert torch.allclose(a, b, atol=0.03)


def test_a_gradient_that_an_update_has_no_room_for():
    """At a learning rate of a tenth, gradients of 2^15 wrap where nothing is tested."""
    x, y = torch.full((4, 2), 30.0), torch.zeros(4, 1)
    model = nn.Linear(2, 1)
    with torch.no_grad():
        model.weight.fill_(30.0)
    optimizer = lambda q: torch.optim.SGD(q, lr=0.1)  # noqa: E731
    with pytest.raises(RangeError, match="update"):
        train(parties(), model, x, y, 1, optimizer, lambda a, b: ((a - b) ** 2).sum() / 4)


def test_minus_infinity_is_no_large_value():
    p = parties()
    x = sy.encrypt(torch.randn(3, 4), p)
    mask = torch.tensor([[False, True, False, False]]).expand(3, 4)
    found = torch.softmax(x.masked_fill(mask, -math.inf), -1).reveal()
    assert torch.allclose(found, torch.softmax(x.reveal().masked_fill(mask, -math.inf), -1), atol=1e-3)


# --- what ends, and what is refused -----------------------------------------------------


def test_the_error_names_operations_and_no_value():
    p = parties()
    x = sy.encrypt(torch.tensor([123456.0]), p)
    layer = nn.Sequential(nn.Linear(1, 1))
    model = sy.encrypt(layer, p)
    y = x * x
    z = model(x)
    with pytest.raises(RangeError) as caught:
        z.reveal()
    text = str(caught.value)
    assert "mul (the square)" in text
    assert "123456" not in text
    with pytest.raises(RangeError, match="nothing will be"):
        y.reveal()
    with pytest.raises(RangeError, match="nothing will be"):
        sy.encrypt(torch.zeros(1), p).reveal()


def test_the_outcome_is_opened_once():
    p = parties()
    x = sy.encrypt(torch.tensor([2.0]), p)
    with sy.ledger() as kept:
        (x * x).reveal()
        x.reveal()
    assert [o.cause for o in kept].count("range") == 1
    assert len(kept.revealed) == 2


def test_other_suites_and_settings_are_refused_by_name():
    p = parties()
    with pytest.raises(NotImplementedError, match="mac"):
        sy.encrypt(torch.zeros(1), p, integrity="mac")
    with pytest.raises(NotImplementedError, match="mac"):
        sy.virtual("alice", "bob", checked="protocol", integrity="mac")
    with pytest.raises(ValueError, match="checked is True"):
        sy.virtual("alice", "bob", checked="always")


def test_a_step_is_not_repeated():
    p = parties()
    model, x, y = sy.encrypt(mlp(), p), sy.encrypt(torch.randn(4, 12), p), sy.encrypt(torch.randn(4, 3), p)
    step = sy.TrainStep(model, torch.optim.SGD(model.parameters(), lr=0.1), F.mse_loss)
    for _ in range(5):
        float(step(x, y).reveal())
    assert not step.repeats
    assert "tests of ranges" in step.reason


def test_only_what_was_found_right_is_saved(tmp_path):
    p = parties()
    model, x = sy.encrypt(mlp(), p), sy.encrypt(torch.randn(4, 12), p)
    loss = model(x).sum()
    with pytest.raises(CheckpointError, match="open a value"):
        sy.save(model, None, tmp_path)
    loss.detach().reveal()
    sy.save(model, None, tmp_path)
    large = sy.encrypt(torch.tensor([1e6]), p)
    with pytest.raises(RangeError):
        (large * large).reveal()
    with pytest.raises(RangeError, match="nothing will be"):
        sy.save(model, None, tmp_path)
