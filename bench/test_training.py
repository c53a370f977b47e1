"""A training step of the article's network: forward, backward and update."""

import pytest
import torch
from torch import nn

import pysmpc as sy


def network():
    return nn.Sequential(nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 10))


def step(model, optimizer, x, y):
    optimizer.zero_grad()
    loss = ((model(x) - y) ** 2).sum() / len(x)
    loss.backward()
    optimizer.step()


@pytest.mark.parametrize("batch", [64, 512])
@pytest.mark.parametrize("encoding", [{"frac_bits": 16}, {"precision_fractional": 3}], ids=["2^-16", "10^-3"])
def test_mlp_step(beside, parties, batch, encoding):
    x, y, plain = torch.randn(batch, 784), torch.randn(batch, 10), network()
    hidden = sy.encrypt(plain, parties, **encoding)
    hx, hy = sy.encrypt(x, parties, **encoding), sy.encrypt(y, parties, **encoding)
    ours = torch.optim.SGD(hidden.parameters(), lr=0.02)
    theirs = torch.optim.SGD(plain.parameters(), lr=0.02)
    beside(lambda: step(hidden, ours, hx, hy), lambda: step(plain, theirs, x, y), parties)


def test_mlp_inference(beside, parties):
    x, plain = torch.randn(64, 784), network()
    hidden, hx = sy.encrypt(plain, parties), sy.encrypt(x, parties)
    with torch.no_grad():
        beside(lambda: hidden(hx), lambda: plain(x), parties)
