"""Sorting, and elements at secret positions: dimensions, ties, gradients, refusals, recorded steps, costs."""

import pytest
import torch
from op_checks import SUITE_OPTIONS, check_op, encrypted, parties
from torch import nn

import pysmpc as sy
from pysmpc.errors import RangeError, RevealError
from pysmpc.mpc.additive.products import product_cost
from pysmpc.mpc.derived import arranging
from pysmpc.mpc.derived.arranging import Plan, arrange_cost
from pysmpc.mpc.derived.one_hot import one_hot_cost
from pysmpc.mpc.derived.shuffling import shuffle_cost


def spent(f, n=2):
    before = parties(n).stats.copy()
    f()
    return (parties(n).stats - before).cost


def few(shape):
    return torch.randint(-1, 2, shape).double() * 1.5


@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize("dim", [0, 1, 2])
def test_equals_stay_in_order(dim, descending):
    a = few((3, 5, 4))
    x = encrypted(a)
    values, places = x.sort(dim, descending)
    expected = torch.sort(a, dim=dim, descending=descending, stable=True)
    assert torch.equal(sy.decrypt(values).double(), expected.values)
    assert torch.equal(sy.decrypt(places), expected.indices)
    assert torch.equal(sy.decrypt(torch.sort(x, stable=True, dim=dim, descending=descending).indices), expected.indices)


def test_integers_are_exact():
    a = torch.tensor([1 << 61, -(1 << 61), 3, 3, -1, (1 << 50) + 1, 1 << 50])
    assert torch.equal(sy.decrypt(sy.encrypt(a, parties()).sort().values), a.sort().values)
    assert int(sy.decrypt(sy.encrypt(a, parties()).median())) == 3


def test_nothing_and_one_take_no_message():
    before = parties().stats.copy()
    for a in (torch.zeros(2, 0), torch.randn(3, 1), torch.tensor(2.5)):
        found = encrypted(a).sort(-1)
        assert found.values.shape == a.shape
        assert torch.equal(sy.decrypt(found.values), sy.decrypt(encrypted(a)))
        assert not bool(sy.decrypt(found.indices).any())
    spent = (parties().stats - before).cost
    assert spent.dealt == 0


@pytest.mark.parametrize("holders", [2, 3])
def test_what_sorting_costs(holders):
    """Positions are dealt when somebody reads them; a gradient goes back in a round for each holder."""
    x = encrypted(torch.randn(5, 9), holders).requires_grad_()
    kept = []
    assert spent(lambda: kept.append(x.sort(1)), holders) == arrange_cost(holders, 5, 9)
    [(values, places)] = kept
    assert spent(lambda: values.backward(torch.ones(5, 9)), holders) == shuffle_cost(holders, 45)
    cost = spent(lambda: places.reveal(), holders)
    assert (cost.rounds, cost.dealt) == (1, 8 * 45)
    y = encrypted(torch.randn(5, 9), holders)
    assert spent(lambda: y.gather(1, places), holders) == shuffle_cost(holders, 45)


@pytest.fixture
def long(monkeypatch):
    """Rows of 60 are sorted as long ones are."""
    found = Plan(1, 60, 16, ((60, 4, 8),), 1700)
    monkeypatch.setattr(arranging, "plan", lambda rows, n: found if (rows, n) == (1, 60) else Plan(rows, n))
    monkeypatch.setattr("pysmpc.ops.sorting.plan", arranging.plan)


@pytest.mark.parametrize("name", ["sort", "topk", "median"])
def test_long_rows(long, name):
    fn = {"sort": lambda x: x.sort(0, descending=True).values, "topk": lambda x: x.topk(7).values,
          "median": lambda x: x.median(0).values}[name]  # fmt: skip
    check_op(fn, [(60,)], values=lambda shape: torch.randperm(60).double(), steps=2)
    ties = few((60,))
    found = torch.sort(encrypted(ties), stable=True)
    assert torch.equal(sy.decrypt(found.indices), torch.sort(ties, stable=True).indices)


def test_elements_of_long_rows_have_a_range(long):
    """Their positions are told beside them: what is too large for that is refused before anything is sent."""
    limit = 1 << 46 - 6
    largest = torch.full((60,), limit - 1.0, dtype=torch.float64)
    assert torch.equal(sy.decrypt(encrypted(largest).sort().indices), torch.arange(60))
    x = encrypted(-largest - 1)
    before = parties().stats.copy()
    with pytest.raises(RangeError):
        x.sort()
    with pytest.raises(RangeError, match="rows of 60 elements are sorted for magnitudes below"):
        sy.encrypt(torch.randn(60), parties(), bounded=float(limit)).sort()
    assert (parties().stats - before).cost.rounds == 0
    whole = sy.encrypt(torch.full((60,), 1 << 57), parties())
    with pytest.raises(RangeError):
        whole.sort()


@pytest.mark.parametrize("rows", ["short", "long"])
def test_a_recorded_step_sorts_anew(rows, request):
    """A loss of the smallest errors alone: each step shuffles and opens anew, and follows plain torch."""
    if rows == "long":
        request.getfixturevalue("long")
    n = 60
    x, y = torch.randn(n, 3), torch.randn(n, 1)
    model = nn.Linear(3, 1)

    def trimmed(out, target):
        return ((out - target) ** 2).reshape(-1).sort().values[: n // 2].mean()

    mine = sy.encrypt(nn.Linear(3, 1).requires_grad_(), parties())
    mine.load_state_dict(sy.encrypt(model, parties()).state_dict())
    step = sy.TrainStep(mine, torch.optim.SGD(mine.parameters(), lr=0.1), trimmed)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    a, b = encrypted(x), encrypted(y)
    for _ in range(6):
        loss = step(a, b)
        optimizer.zero_grad()
        expected = trimmed(model(x), y)
        expected.backward()
        optimizer.step()
        assert abs(float(sy.decrypt(loss)) - float(expected.detach())) < 2e-3
    assert step.repeats


@pytest.mark.parametrize("way", [*SUITE_OPTIONS.values(), {"compare_bits": 30}, {"frac_bits": 20}], ids=str)
def test_positions_under(way):
    a, at = torch.randn(6, 3), torch.tensor([[5, 0], [2, 2]])
    session = sy.virtual("alice", "bob")
    x, index = (sy.encrypt(each, session, **way) for each in (a, at))
    near = {"rtol": 0, "atol": 2.0**-16}
    torch.testing.assert_close(sy.decrypt(x[index]), a[at], **near)
    torch.testing.assert_close(sy.decrypt(x.gather(0, index)), a.gather(0, at), **near)
    torch.testing.assert_close(sy.decrypt(x[index - 6]), a[at - 6], **near)
    torch.testing.assert_close(sy.decrypt(x.gather(1, x.argsort(1))), a.sort(1).values, **near)


def put(x, index, values):
    out = x.clone()
    out[index] = values
    return out


AT = torch.tensor([[0, 4], [2, 2], [1, 0], [4, 3]])
PLACES = {
    "index": (lambda x, i: x[i], torch.tensor([1, 3, 3])),
    "index of columns": (lambda x, i: x[:, i], torch.tensor([[-1, 2], [0, -5]])),
    "index_select": (lambda x, i: x.index_select(1, i), torch.tensor([4, 0])),
    "gather": (lambda x, i: x.gather(1, i), AT),
    "gather of fewer": (lambda x, i: x.gather(0, i), AT[:1] - AT[:1]),
    "take": (lambda x, i: x.take(i), torch.tensor([[-1, 7], [19, 0]])),
    "take_along_dim": (lambda x, i: torch.take_along_dim(x, i, 1), AT),
    "scatter": (lambda x, i: x.scatter(1, i, 2 * x[:, :2].detach()), AT),
    "scatter of a number": (lambda x, i: x.scatter(1, i, 1.5), AT),
    "scatter_add": (lambda x, i: x.scatter_add(1, i, x[:, :2]), AT),
    "scatter_add of fewer": (lambda x, i: x.scatter_add(1, i, x[:2, :2]), AT[:2]),
    "index_add": (lambda x, i: x.index_add(1, i, x[:, 1:3]), torch.tensor([3, 3])),
    "put": (lambda x, i: x.put(i, x[0, :2].detach()), torch.tensor([-3, 3])),
    "put and added": (lambda x, i: x.put(i, x[0, :2], accumulate=True), torch.tensor([-3, 3])),
    "assigned": (lambda x, i: put(x, i, torch.tensor(2.0, dtype=x.dtype)), torch.tensor([1, -1])),
    "embedding": (lambda x, i: nn.functional.embedding(i, x), torch.tensor([[3, 0], [1, 1]])),
}


@pytest.mark.parametrize("name", PLACES)
def test_secret_positions(name):
    """As public ones, values and gradients; equal positions too."""
    fn, at = PLACES[name]
    a = sy.decrypt(encrypted(torch.randn(4, 5))).double()
    x, index = encrypted(a).requires_grad_(), sy.encrypt(at, parties())
    a.requires_grad_()
    found, expected = fn(x, index), fn(a, at)
    torch.testing.assert_close(sy.decrypt(found).double(), expected, rtol=0, atol=2.0**-16)
    weights = torch.randint(-8, 8, expected.shape).double() / 4
    (found * weights).sum().backward()
    (expected * weights).sum().backward()
    torch.testing.assert_close(sy.decrypt(x.grad).double(), a.grad, rtol=0, atol=2.0**-14)


def test_positions_of_public_values():
    table = torch.randn(7, 2)
    found = table[sy.encrypt(torch.tensor([6, 0]), parties())]
    torch.testing.assert_close(sy.decrypt(found), table[[6, 0]], rtol=0, atol=2.0**-16)


def test_what_positions_cost():
    """A position is opened once, a table once; then a product with them takes no round."""
    table, at = encrypted(torch.randn(20, 3)), sy.encrypt(torch.tensor([4, 19]), parties())
    opened = product_cost(2, 2 * 20 + 20 * 3, 2 * 3)

    def look_up():
        nn.functional.embedding(at, table).window().words()

    assert spent(look_up) == one_hot_cost(2, 2, 20) + opened
    assert spent(look_up) == product_cost(2, 0, 6)


REFUSED = {
    "a mask that chooses": (lambda x, i: x[x > 0], RevealError, "how many elements it chooses"),
    "as many values as a mask chooses": (lambda x, i: put(x, x > 0, torch.ones(3)), RevealError, "one value"),
    "two positions": (lambda x, i: x[i, i], RevealError, "flatten these dimensions"),
    "many that are put": (lambda x, i: x[0].scatter(0, i.repeat(40), x[0, :1].repeat(80)), NotImplementedError, "64"),
    "real positions": (lambda x, i: x[x[0]], IndexError, "must be long or bool"),
    "counts of unbounded numbers": (lambda x, i: torch.bincount(i), NotImplementedError, "largest value"),
    "modes of many": (lambda x, i: x.reshape(-1).mode(), NotImplementedError, "up to 16 elements"),
    "different values": (lambda x, i: torch.unique(i), NotImplementedError, "how many different values"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_refusals(name):
    fn, kind, text = REFUSED[name]
    x, i = encrypted(torch.rand(4, 5) + 0.5), sy.encrypt(torch.tensor([0, 2]), parties())
    with pytest.raises(kind, match=text):
        fn(x, i)


def test_long_rows_under_codes_are_refused():
    x = sy.encrypt(torch.randn(300), sy.virtual("alice", "bob"), integrity="mac")
    with pytest.raises(NotImplementedError, match="up to 256"):
        x.sort()


def test_counts_of_bounded_numbers():
    a = torch.tensor([0, 2, 2, 1, 5])
    x = sy.bounded(sy.encrypt(a, parties()), 5)
    assert torch.equal(sy.decrypt(torch.bincount(x, minlength=8)), torch.bincount(a, minlength=8))
    weights = torch.tensor([0.5, 1.0, 2.0, 4.0, 8.0])
    found = sy.decrypt(torch.bincount(x, encrypted(weights), 8))
    assert torch.equal(found.double(), torch.bincount(a, weights, 8).double())


@pytest.mark.parametrize("values", [[0.5, -0.5, 2.0], [-0.5, -1.0], [0.5]])
def test_counts_of_truth_values_are_two(values):
    """As many counts as the public bound says, whatever the values are: torch's would stop at the largest."""
    given = torch.tensor(values)
    found = sy.decrypt(torch.bincount((encrypted(given) > 0).long()))
    assert torch.equal(found, torch.bincount((given > 0).long(), minlength=2))
    found = sy.decrypt(torch.bincount(sy.bounded(sy.encrypt(torch.tensor([0, 2]), parties()), 5), minlength=3))
    assert found.tolist() == [1, 0, 1, 0, 0, 0]


@pytest.mark.parametrize("shape", [(0, 5), (3, 0), (0, 3100)])
def test_no_rows_and_no_elements(shape):
    values, places = sy.encrypt(torch.zeros(shape), parties()).sort(-1)
    assert values.shape == places.shape == shape
