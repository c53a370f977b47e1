"""Copies of secrets, of what holds them, and of what holds parties; and `x.data = y`."""

import copy
import multiprocessing
import pickle

import pytest
import torch
from torch import nn

import pysmpc as sy
from pysmpc.errors import PartyError, RevealError

ATOL = 2**-10


@pytest.fixture
def parties():
    return sy.virtual("alice", "bob")


def same(secret, values):
    assert torch.allclose(sy.decrypt(secret).double(), values.double(), atol=ATOL)


def test_a_copy_of_a_tensor_is_the_same_memory(parties):
    plain = torch.randn(3, requires_grad=True)
    secret = sy.encrypt(plain, parties)
    plain.note = secret.note = ["kept"]
    for x in (plain, secret):
        other = copy.copy(x)
        assert (other.requires_grad, other.is_leaf, other.note) == (True, True, ["kept"])
        other.data.zero_()
    same(secret, plain)
    assert not plain.any()


def test_a_copy_of_a_parameter_is_a_parameter(parties):
    layer = sy.encrypt(nn.Linear(3, 2), parties)
    for copied in (copy.copy(layer.weight), copy.deepcopy(layer.weight)):
        assert isinstance(copied, nn.Parameter)
        assert copied is not layer.weight
    same(copy.copy(layer.weight), sy.decrypt(layer.weight))


def test_a_deep_copy_has_the_gradient_too(parties):
    layer = sy.encrypt(nn.Linear(3, 2), parties)
    layer(sy.encrypt(torch.randn(4, 3), parties)).sum().backward()
    other = copy.deepcopy(layer)
    gradient = sy.decrypt(layer.weight.grad)
    same(other.weight.grad, gradient)
    other.weight.grad.zero_()
    same(layer.weight.grad, gradient)


class Trainer:
    def __init__(self, parties):
        self.configuration = {"parties": parties, "holder": parties["alice"], "session": parties.session, "rate": 0.125}
        self.model = sy.encrypt(nn.Linear(3, 1), parties)
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.125, momentum=0.5)
        self.step = sy.TrainStep(self.model, self.optimizer, lambda out, target: ((out - target) ** 2).mean())


def test_a_trainer_goes_on_apart_from_its_copy(parties):
    trainer = Trainer(parties)
    x, y = (sy.encrypt(torch.randn(8, n), parties) for n in (3, 1))
    for _ in range(5):
        trainer.step(x, y)
    other = copy.deepcopy(trainer)
    assert other.configuration["parties"] is parties
    assert other.step.model is other.model
    assert other.step.optimizer is other.optimizer
    assert other.optimizer.param_groups[0]["params"][0] is other.model.weight
    before = sy.decrypt(trainer.model.weight)
    ahead = [sy.decrypt(other.step(x, y)) for _ in range(5)]
    assert other.step.repeats
    same(trainer.model.weight, before)
    behind = [sy.decrypt(trainer.step(x, y)) for _ in range(5)]
    assert torch.allclose(torch.stack(ahead), torch.stack(behind), atol=0.01)


class WithParties(nn.Module):
    def __init__(self, parties):
        super().__init__()
        self.layer, self.parties = nn.Linear(2, 2), parties


def test_a_module_that_holds_parties_is_encrypted(parties):
    module = WithParties(parties)
    secret = sy.encrypt(module, parties)
    assert secret.parties is parties
    same(secret.layer.weight, module.layer.weight)


def test_workers_are_copied_by_name(alice, hook):
    kept = {"worker": alice, "hook": hook}
    other = copy.deepcopy(kept)
    assert other["worker"] is alice
    assert other["hook"] is hook


@pytest.mark.parametrize("what", [lambda p: p, lambda p: p.session, lambda p: p["alice"], lambda p: {"parties": p}])
def test_parties_are_not_pickled(parties, what):
    with pytest.raises(PartyError, match=r"alice, bob.*cannot be pickled.*make parties anew"):
        pickle.dumps(what(parties))


def test_what_another_process_would_be_given_is_refused(parties):
    process = multiprocessing.get_context("spawn").Process(target=print, args=(parties,))
    with pytest.raises(PartyError, match="cannot be pickled"):
        process.start()
    with pytest.raises(RevealError, match=r"sy\.save"):
        pickle.dumps(sy.encrypt(nn.Linear(2, 1), parties).state_dict())


# --- x.data = y ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "window",
    [
        lambda v: v[:8].view(2, 4),
        lambda v: v[2:].view(2, 4),
        lambda v: v[:8].view(4, 2).t(),
        lambda v: v[1:2].expand(2, 4),
    ],
    ids=["from the start", "from within", "turned", "expanded"],
)
def test_data_takes_a_window(parties, window):
    values = torch.randn(10)
    plain, secret = nn.Linear(4, 2), sy.encrypt(nn.Linear(4, 2), parties)
    vector = sy.encrypt(values, parties)
    plain.weight.data, secret.weight.data = window(values), window(vector)
    same(secret.weight, plain.weight)
    x = torch.randn(3, 4)
    with torch.no_grad():
        secret.bias.copy_(plain.bias)
    plain(x).square().sum().backward()
    secret(sy.encrypt(x, parties)).square().sum().backward()
    assert torch.allclose(sy.decrypt(secret.weight.grad), plain.weight.grad, atol=0.02)
    vector[1] = 9.0
    values[1] = 9.0
    same(secret.weight, plain.weight)


def test_parameters_of_a_vector_train_on(parties):
    net = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 1))
    plain, secret = copy.deepcopy(net), sy.encrypt(net, parties)
    x, y = torch.randn(8, 3), torch.randn(8, 1)

    def train(model, x, y, repeated):
        vector = nn.utils.parameters_to_vector(model.parameters())
        nn.utils.vector_to_parameters(vector * 0.5, model.parameters())
        optimizer = torch.optim.SGD(model.parameters(), lr=0.125)
        step = sy.TrainStep(model, optimizer, lambda out, target: ((out - target) ** 2).mean())
        for _ in range(6):
            step(x, y)
        assert step.repeats == repeated

    train(plain, x, y, False)
    train(secret, sy.encrypt(x, parties), sy.encrypt(y, parties), True)
    for mine, theirs in zip(secret.parameters(), plain.parameters(), strict=True):
        assert torch.allclose(sy.decrypt(mine), theirs, atol=0.01)


def test_a_model_in_another_dtype(parties):
    net = nn.Linear(4, 2)
    secret = sy.encrypt(net, parties)
    optimizer = torch.optim.SGD(secret.parameters(), lr=0.125)
    x = torch.randn(3, 4)
    secret(sy.encrypt(x, parties)).sum().backward()
    gradient = sy.decrypt(secret.weight.grad)
    secret.double()
    assert {p.dtype for p in secret.parameters()} == {secret.weight.grad.dtype} == {torch.float64}
    assert torch.allclose(sy.decrypt(secret.weight.grad), gradient.double(), atol=ATOL)
    same(secret(sy.encrypt(x.double(), parties)), net(x))
    optimizer.step()
    assert torch.allclose(sy.decrypt(secret.weight), (net.weight - gradient / 8).double(), atol=0.01)
    assert secret.float().weight.dtype == torch.float32
    with pytest.raises(NotImplementedError, match="CPU"):
        secret.to("meta")
