"""A short training on MNIST beside Opacus, where that is installed: the same clipped steps, but for the noise."""

import copy
import warnings

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import pysmpc as sy
from pysmpc.datasets import load

pytestmark = pytest.mark.slow


def test_the_same_steps(monkeypatch):
    opacus = pytest.importorskip("opacus")
    data = load()
    x, y = data.train_images[:256].reshape(256, -1), data.train_labels[:256]
    net = nn.Sequential(nn.Linear(784, 32), nn.ReLU(), nn.Linear(32, 10))
    norm, batch, rate = 0.5, 64, 0.5

    theirs = opacus.GradSampleModule(copy.deepcopy(net))
    optimizer = opacus.optimizers.DPOptimizer(
        torch.optim.SGD(theirs.parameters(), lr=rate), noise_multiplier=0.0, max_grad_norm=norm,
        expected_batch_size=batch,
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for first in range(0, 256, batch):
            optimizer.zero_grad()
            F.cross_entropy(theirs(x[first : first + batch]), y[first : first + batch]).backward()
            optimizer.step()

    parties = sy.virtual("alice", "bob")
    model = sy.encrypt(copy.deepcopy(net), parties)
    mine = torch.optim.SGD(model.parameters(), lr=rate)
    engine = sy.privacy.Engine(target_epsilon=1e9, target_delta=1e-5, accountant="rdp")
    parts = [slice(i, i + batch) for i in range(0, 256, batch)]
    loader = [(sy.encrypt(x[part], parties), sy.encrypt(y[part], parties)) for part in parts]
    model, mine, loader = engine.make_private(model, mine, loader, max_grad_norm=norm, noise_multiplier=1e-3)
    for a, b in loader:
        mine.zero_grad()
        F.cross_entropy(model(a), b).backward()
        mine.step()

    start = torch.cat([p.detach().reshape(-1) for p in net.parameters()])
    expected = torch.cat([p.detach().reshape(-1) for p in theirs.parameters()])
    found = torch.cat([sy.decrypt(p.detach()).reshape(-1) for p in model.parameters()])
    # noise of four steps, of two holders each
    noise = 1e-3 * norm * rate / batch * (4 * 2 * len(start)) ** 0.5
    assert float((expected - start).norm()) > 0.1
    assert float((found - expected).norm()) < 3 * noise + 0.02 * float((expected - start).norm())
