"""Operations without a handler at workers of other machines: what they are made of is sent, and nothing else."""

import copy

import pytest
import torch
from remotes import without_consent
from torch import nn
from torch.nn import functional as F

import pysmpc as sy
from pysmpc.remote.messages import Call
from pysmpc.tensor import HANDLERS

NAMES = {str(func) for func in HANDLERS}


@pytest.fixture
def sent(parties, monkeypatch):
    """Names of the operations that the driver sends."""
    recorder = parties.session.recorder
    found, queue = [], recorder._queue

    def noted(operation, *rest):
        if isinstance(operation, Call):
            found.append(operation.name)
        return queue(operation, *rest)

    monkeypatch.setattr(recorder, "_queue", noted)
    return found


def both(parties, program):
    """program(parties) at the workers and in this process: equal in results, rounds and bytes."""
    here = sy.virtual(*parties.names)
    before = parties.stats.copy()
    found, expected = program(parties), program(here)
    cost = (parties.stats - before).cost
    assert cost == here.stats.cost or without_consent(cost, here.stats.cost, len(parties.names))
    for mine, theirs in zip(found, expected, strict=True):
        assert torch.allclose(mine, theirs, atol=2**-14)
    return found


X = torch.tensor([[-4.0, -1.5, 0.25], [1.0, 2.5, 5.0]])
FUNCTIONS = {
    "hardswish": F.hardswish,
    "smooth_l1": lambda x: F.smooth_l1_loss(x, torch.zeros(2, 3)),
    "embedding": lambda x: F.embedding(torch.tensor([1, 0, 1]), x),
    "interpolate": lambda x: F.interpolate(x.reshape(1, 2, 3), scale_factor=2.0, mode="linear"),
    "pool": lambda x: F.adaptive_max_pool2d(x.reshape(1, 2, 3), (1, 2)),
    "distances": lambda x: torch.cdist(x, x.flip(0), p=1.0),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_values_and_gradients(parties, sent, name):
    function = FUNCTIONS[name]

    def program(p):
        x = sy.encrypt(X, p).requires_grad_(True)
        out = function(x)
        (out * 0.5).sum().backward()
        return sy.decrypt(out.detach()), sy.decrypt(x.grad)

    found = both(parties, program)
    twin = X.clone().requires_grad_(True)
    expected = function(twin)
    (expected * 0.5).sum().backward()
    assert torch.allclose(found[0], expected.detach(), atol=2**-12)
    assert torch.allclose(found[1], twin.grad, atol=2**-12)
    assert sent
    assert set(sent) <= NAMES


@pytest.mark.parametrize("call", [torch.erfinv, torch.special.i0, lambda x: F.dropout(x, 0.5)])
def test_a_refusal_sends_nothing(parties, sent, call):
    x = sy.encrypt(X, parties)
    del sent[:]
    before = parties.stats.copy()
    with pytest.raises(NotImplementedError):
        call(x)
    assert (parties.stats - before).cost.rounds == 0
    assert [name for name in sent if "empty_like" not in name] == []
    assert torch.equal(sy.decrypt(x), X)


def test_recorded_steps(parties):
    model = nn.Sequential(nn.Linear(3, 4), nn.Hardswish(), nn.Linear(4, 2))
    x, y = torch.randn(5, 3), torch.randn(5, 2)

    def program(p):
        mine = sy.encrypt(copy.deepcopy(model), p)
        optimizer = torch.optim.SGD(mine.parameters(), lr=0.05)
        step = sy.TrainStep(mine, optimizer, F.huber_loss)
        a, b = sy.encrypt(x, p), sy.encrypt(y, p)
        losses = [step(a, b) for _ in range(6)]
        assert step.repeats
        return [sy.decrypt(each) for each in losses]

    losses = both(parties, program)
    assert losses[-1] < losses[0]
