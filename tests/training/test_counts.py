"""Rounds and bytes of a training step of the demo's networks, as the documentation states them."""

import pytest
import torch
from torch.nn import functional as F

import pysmpc as sy
from pysmpc.demo.models import MODELS, squared_error

BINARY, DECIMAL = {}, {"base": 10, "precision_fractional": 3}
#: Of the second step, the loss not opened: network, activation, encoding, whether the model is public, items; rounds,
#: bytes that a holder sends to another, bytes that the provider deals.
STEPS = [
    ("mlp", "relu", BINARY, False, 64, 0, 0, 0),
    ("mlp", "relu", DECIMAL, False, 64, 0, 0, 0),
    ("mlp", "square", BINARY, False, 64, 0, 0, 0),
    ("mlp", "square", DECIMAL, False, 64, 0, 0, 0),
    ("mlp", "relu", BINARY, True, 64, 0, 0, 0),
    ("mlp", "relu", DECIMAL, True, 64, 0, 0, 0),
    ("mlp", "square", BINARY, True, 64, 0, 0, 0),
    ("lenet", "relu", BINARY, False, 2, 0, 0, 0),
]


def step(model, optimizer, x, y, public):
    optimizer.zero_grad()
    squared_error(model(x), y).backward()
    if public:
        parameters = list(model.parameters())
        for parameter, grad in zip(parameters, sy.decrypt([p.grad for p in parameters]), strict=True):
            parameter.grad = grad
    optimizer.step()


@pytest.mark.parametrize("holders", [2, 3])
@pytest.mark.parametrize("case", STEPS, ids=lambda case: " ".join(map(str, case[:5])))
def test_a_step(case, holders):
    name, activation, encoding, public, items, *expected = case
    parties = sy.virtual("alice", "bob", "carol")if holders == 3 else sy.virtual("alice", "bob")
    model = MODELS[name](activation)
    model = model if public else sy.encrypt(model, parties, **encoding)
    x = sy.encrypt(torch.rand(items, 28, 28), parties, **encoding)
    y = sy.encrypt(F.one_hot(torch.randint(10, (items,)), 10).float(), parties, **encoding)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02)
    step(model, optimizer, x, y, public)
    before = parties.stats.copy()
    step(model, optimizer, x, y, public)
    spent = parties.stats - before
    print("COUNT", case[:5], holders, spent)
    assert [spent.rounds, spent.sent // (holders - 1), spent.dealt] == expected
