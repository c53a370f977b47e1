"""A hundred steps of sequence models on secrets: how far weights and losses are from plain torch's."""

import copy

import pytest
import torch
from op_checks import parties
from torch import nn
from torch.nn import functional as F

import pysmpc as sy

STEPS, ITEMS, LENGTH, FEATURES = 100, 16, 6, 4


class Recurrent(nn.Module):
    def __init__(self, make):
        super().__init__()
        self.layer, self.head = make(FEATURES, 8, batch_first=True), nn.Linear(8, 3)

    def forward(self, x):
        return self.head(self.layer(x)[0][:, -1])


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(FEATURES, 8)
        layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
        self.encoder, self.head = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False), nn.Linear(8, 3)

    def forward(self, x):
        return self.head(self.encoder(self.first(x)).mean(1))


MODELS = {"lstm": lambda: Recurrent(nn.LSTM), "gru": lambda: Recurrent(nn.GRU), "encoder": Encoder}


def train(model, x, y, steps):
    optimizer, losses = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.5), []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
    return torch.stack(losses)


def distances(name, steps):
    """(Of the weights, in parts of the way that plain torch's went; of the losses, in parts of plain torch's.)"""
    x = torch.randn(ITEMS, LENGTH, FEATURES)
    y = (x.sum(1) @ torch.randn(FEATURES, 3)).argmax(1)
    model = MODELS[name]()
    start = nn.utils.parameters_to_vector(model.parameters()).detach().clone()
    secret = sy.encrypt(copy.deepcopy(model), parties())
    found = sy.decrypt(train(secret, sy.encrypt(x, parties()), sy.encrypt(y, parties()), steps))
    expected = train(model, x, y, steps)
    ours, theirs = (nn.utils.parameters_to_vector(each.parameters()).detach() for each in (sy.decrypt(secret), model))
    way = (theirs - start).norm()
    assert way > 0.01
    return float((ours - theirs).norm() / way), float(((found - expected).abs() / expected).max())


@pytest.mark.parametrize("name", MODELS)
def test_a_few_steps(name):
    weights, losses = distances(name, 3)
    assert weights < 0.03
    assert losses < 0.01


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", MODELS)
def test_a_hundred_steps(name):
    weights, losses = distances(name, STEPS)
    print(f"{name}: weights {weights:.4f} of the way, losses {losses:.5f}")
    assert weights < 0.03
    assert losses < 0.01
