"""Public bounds between machines: every party runs what the driver's account of them says."""

import numpy as np
import pytest
import torch
from remotes import Workers, without_consent
from torch import nn
from torch.nn import functional as F

import pysmpc as sy
from pysmpc.errors import ChannelError, RangeError
from pysmpc.remote.arguments import window
from pysmpc.remote.config import Bounds
from pysmpc.remote.program_messages import Ref
from pysmpc.session.session import virtual_session
from pysmpc.tensor.secret import SecretTensor
from pysmpc.tensor.storage import Estimate

E = 2.0**-16


def uniform(*shape, size=4.0):
    return (2 * torch.rand(shape) - 1) * size


def both(parties, program):
    """What a program opens there and here, at equal costs."""
    here = sy.virtual(*parties.names)
    before = parties.stats.copy()
    found, expected = program(parties), program(here)
    assert without_consent((parties.stats - before).cost, here.stats.cost, len(parties.names))
    assert torch.allclose(found, expected, atol=16 * E, rtol=2.0**-13)
    return found, parties.stats - before


def test_functions_without_thresholds(parties):
    x, w = uniform(8), uniform(8, size=1.0)

    def program(p):
        a, b = sy.encrypt(x, p, bounded=4.0), sy.encrypt(w, p, bounded=1.0)
        return sy.decrypt(torch.exp(a * b) + torch.sigmoid(a - b) + F.gelu(torch.tanh(a)))

    found, _ = both(parties, program)
    right = torch.exp(x * w) + torch.sigmoid(x - w) + F.gelu(torch.tanh(x))
    assert torch.allclose(found, right, atol=0.01)


def test_a_bound_that_is_stated_of_a_secret(parties):
    x = uniform(6, 6)
    _, known = both(parties, lambda p: sy.decrypt(torch.exp(sy.bounded(sy.encrypt(x, p) @ torch.eye(6), 4.0))))
    _, unknown = both(parties, lambda p: sy.decrypt(torch.exp(sy.encrypt(x, p) @ torch.eye(6))))
    assert unknown.rounds - known.rounds == 3


def test_derivatives(parties):
    x = uniform(10, size=3.0)

    def program(p):
        a = sy.encrypt(x, p, bounded=3.0, requires_grad=True)
        (torch.sigmoid(a) * torch.softmax(a, 0)).sum().backward()
        return sy.decrypt(a.grad)

    both(parties, program)


def test_what_must_overflow(parties):
    x = sy.encrypt(torch.tensor([6e4]), parties, bounded=6e4)
    before = parties.stats.copy()
    with pytest.raises(RangeError, match=r"aten\.mul\.Tensor"):
        x * x
    assert (parties.stats - before).rounds == 0
    with pytest.raises(RangeError):
        F.mse_loss(x, sy.encrypt(torch.tensor([1.0]), parties, bounded=1.0))
    assert float(sy.decrypt(x)) == 6e4  # and the session goes on
    with pytest.raises(RangeError, match="bounded=2 states"):
        sy.encrypt(torch.tensor([3.0]), parties, bounded=2)


def test_a_wrong_bound_makes_wrong_results_and_nothing_else(parties):
    """Nobody can check it there; what is opened is what would be opened otherwise."""
    x = sy.encrypt(torch.tensor([1.0, 200.0]), parties)
    found = sy.decrypt(torch.exp(sy.bounded(x, 4.0)))
    assert abs(float(found[0]) - 2.71828) < 0.001
    assert torch.allclose(sy.decrypt(x), torch.tensor([1.0, 200.0]))


def train(p, net, x, y, turns):
    model = sy.encrypt(net, p, bounded=2.0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    step = sy.TrainStep(model, optimizer, lambda out, target: ((torch.sigmoid(out) - target) ** 2).sum())
    a, b = sy.encrypt(x, p, bounded=4.0), sy.encrypt(y, p, bounded=1.0)
    repeated = []
    for _ in range(turns):
        loss = step(a, b)
        repeated.append(step.repeats)
    return torch.cat([sy.decrypt(q).flatten() for q in model.parameters()] + [sy.decrypt(loss).reshape(1)]), repeated


def test_recorded_steps(parties):
    net, x, y = nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2)), uniform(5, 4), uniform(5, 2, size=1.0)
    repeats = []

    def program(p):
        found, repeated = train(p, net, x, y, 7)
        repeats.append(repeated)
        return found

    both(parties, program)
    assert repeats[0] == repeats[1] == [False] * 4 + [True] * 3


def test_a_repetition_with_another_bound(parties):
    """It is another step: the same shapes, other protocols."""
    model = sy.encrypt(nn.Linear(4, 3), parties)
    step = sy.TrainStep(model, torch.optim.SGD(model.parameters(), lr=0.05), lambda out, y: (out * torch.exp(y)).sum())
    x, y = sy.encrypt(uniform(5, 4), parties), uniform(5, 3, size=1.0)
    near, unknown = sy.encrypt(y, parties, bounded=1.0), sy.encrypt(y, parties)
    repeated = []
    for target in [near] * 7 + [unknown] * 5 + [near] * 2:
        step(x, target)
        repeated.append(step.repeats)
    assert repeated == 5 * [False] + 2 * [True] + 4 * [False] + [True, False, True]
    sy.decrypt(model.weight)


# --- owners' files --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def owners(office, tmp_path_factory):
    folder = tmp_path_factory.mktemp("bounds")
    pixels, labels = np.random.default_rng().integers(0, 256, (6, 2, 2)), np.arange(6) % 3
    np.savez(folder / "a.npz", pixels=pixels.astype(np.uint8), labels=labels, ages=np.linspace(-4, 90, 6))
    arrays = {"pixels": {"min": 0, "max": 255}, "labels": {"classes": 3}, "ages": {"max": 90.0}}
    data = {"digits": {"path": str(folder / "a.npz"), "tags": ["#d"], "arrays": arrays}}
    options = {name: {"checkpoints": str(folder / name)} for name in ("alice", "bob")}
    options["alice"]["data"] = {**data}
    with Workers(office.folder, options=options) as found:
        yield found


def test_what_an_owner_states_of_her_data(owners):
    with owners.connect() as parties:
        found = {p.name.split("/")[1]: p for p in parties["alice"].search("#d")}
        pixels, labels, ages = found["pixels"], found["labels"], found["ages"]
        assert sy.encrypt(pixels, parties).cell.bound == 255
        assert sy.encrypt(labels[1:4], parties).cell.bound == 2
        assert sy.encrypt(ages, parties).cell.bound is None  # no least value is stated
        assert sy.encrypt(ages, parties, bounded=90).cell.bound == 90
        small = sy.encrypt((pixels / 255).flatten(), parties)
        assert 1 <= small.cell.bound < 1.001
        assert 3 <= sy.encrypt(pixels.scale(2 / 255, -1), parties).cell.bound < 3.001
        assert sy.encrypt(labels.one_hot(3), parties).cell.bound == 1
        before = parties.stats.copy()
        torch.sigmoid(small)
        assert (parties.stats - before).rounds == 2


def test_checkpoints(owners, tmp_path):
    net = nn.Linear(3, 2)
    with owners.connect() as parties:
        model = sy.encrypt(net, parties, bounded=4.0)
        sy.save(model, None, tmp_path / "bounded")
        again = sy.encrypt(nn.Linear(3, 2), parties)
        sy.load(again, None, tmp_path / "bounded")
        assert again.weight.cell.bound == 4.0
        assert torch.allclose(sy.decrypt(torch.exp(again.weight)), torch.exp(net.weight.detach()), atol=1e-3)


def test_bounds_of_files():
    assert Bounds(min=-3, max=2).largest == 3
    assert Bounds(min=1, max=2.5).largest == 2.5
    assert Bounds(classes=10).largest == 9
    assert Bounds(min=0).largest is Bounds(max=4).largest is Bounds().largest is None


# --- messages --------------------------------------------------------------------------------


@pytest.mark.parametrize("bound", [-1.0, float("nan"), float("inf")])
def test_a_message_with_what_is_no_bound(bound):
    x = sy.encrypt(torch.ones(3), sy.virtual("a", "b"))
    with pytest.raises(ChannelError, match="a bound"):
        window(Ref(0, [3], [1], 0, "float32", False, bound), x.cell)
    assert x.cell.bound is None


def test_the_driver_keeps_account():
    session = virtual_session(["a", "b"])
    x = sy.encrypt(torch.ones(3), sy.Parties(session), bounded=2.0)
    assert isinstance(window(Ref(0, [3], [1], 0, "float32", False, 5.0, True), x.cell), SecretTensor)
    assert isinstance(x.cell.bound, Estimate)
    window(Ref(0, [3], [1], 0, "float32"), x.cell)
    assert x.cell.bound is None
