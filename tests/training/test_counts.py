"""Rounds and bytes of a training step of the demo's networks, as the documentation states them."""

import pytest
import torch
from torch.nn import functional as F

import pysmpc as sy
from pysmpc.demo.models import MODELS, squared_error

BINARY, DECIMAL = {}, {"base": 10, "precision_fractional": 3}
#: Of the second step, 64 items, the loss not opened: activation, encoding, whether the model is public; rounds, bytes
#: that a holder sends to each other one, bytes that the provider deals.
STEPS = [
    ("relu", BINARY, False, 18, 1763664, 3102408),
    ("square", BINARY, False, 16, 1760592, 2896072),
    ("square", DECIMAL, False, 16, 2348624, 3419296),
    ("relu", DECIMAL, True, 14, 1330768, 2284032),
]


def step(model, optimizer, x, y, public):
    optimizer.zero_grad()
    squared_error(model(x), y).backward()
    if public:
        parameters = list(model.parameters())
        for parameter, grad in zip(parameters, sy.decrypt([p.grad for p in parameters]), strict=True):
            parameter.grad = grad
    optimizer.step()


def cost(name, activation, encoding, public, items, *others):
    parties = sy.virtual("alice", "bob", *others, eager=True)  # or a step ends when its counters are read
    model = MODELS[name](activation)
    model = model if public else sy.encrypt(model, parties, **encoding)
    x = sy.encrypt(torch.rand(items, 28, 28), parties, **encoding)
    y = sy.encrypt(F.one_hot(torch.randint(10, (items,)), 10).float(), parties, **encoding)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02)
    step(model, optimizer, x, y, public)
    before = parties.stats.copy()
    step(model, optimizer, x, y, public)
    return parties.stats - before


@pytest.mark.parametrize("others", [(), ("carol",)], ids=["two", "three"])
@pytest.mark.parametrize("case", STEPS, ids=lambda case: f"{case[0]}-{10 if case[1] else 2}-{case[2]}")
def test_a_step_of_the_fully_connected_network(case, others):
    activation, encoding, public, *expected = case
    spent = cost("mlp", activation, encoding, public, 64, *others)
    assert [spent.rounds, spent.sent // (1 + len(others)), spent.dealt] == expected


def test_rounds_of_lenet():
    """Of a batch of two."""
    assert cost("lenet", "relu", BINARY, False, 2).rounds == 42
