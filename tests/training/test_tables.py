"""A model of a real table, as a hospital has it: scikit-learn's breast cancer, 569 rows of 30 numbers."""

import copy

import torch
from sklearn.datasets import load_breast_cancer
from sklearn.preprocessing import StandardScaler
from torch import nn
from torch.nn import functional as F

import pysmpc as sy


def table():
    x, y = load_breast_cancer(return_X_y=True)
    return torch.tensor(StandardScaler().fit_transform(x)).float(), torch.tensor(y).float().unsqueeze(1)


def fit(model, x, y, steps):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    for _ in range(steps):
        optimizer.zero_grad()
        F.binary_cross_entropy_with_logits(model(x), y).backward()
        optimizer.step()


def test_logistic_regression():
    """The whole table in each step: coefficients are plain torch's to a thousandth, and so are the predictions."""
    x, y = table()
    plain = nn.Linear(30, 1)
    parties = sy.virtual("clinic", "registry")
    secret = sy.encrypt(copy.deepcopy(plain), parties)
    hidden = sy.encrypt(x, parties)
    fit(plain, x, y, 40)
    fit(secret, hidden, sy.encrypt(y, parties), 40)
    for mine, theirs in zip(secret.parameters(), plain.parameters(), strict=True):
        assert (sy.decrypt(mine) - theirs).abs().max() < 1e-3
    found, expected = sy.decrypt(secret(hidden).detach()) > 0, plain(x) > 0
    assert (found == expected).double().mean() > 0.995
    assert (expected == (y > 0.5)).double().mean() > 0.97
