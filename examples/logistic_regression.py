"""Logistic regression on scikit-learn's breast cancer data, split between two hospitals.

    python examples/logistic_regression.py [rows|columns]

rows: each hospital has half of the patients.  columns: each has 15 of the 30 measurements of every patient, and the
first one has the diagnoses.  The weights stay secret; how many diagnoses of other patients are right is opened.
"""

import sys

import torch
from sklearn.datasets import load_breast_cancer
from torch import nn
from torch.nn import functional as F

import pysmpc as sy

TRAIN, STEPS = 400, 30


def data():
    found = load_breast_cancer()
    x, y = torch.tensor(found.data, dtype=torch.float32), torch.tensor(found.target, dtype=torch.float32)
    order = torch.randperm(len(x))
    return ((x - x.mean(0)) / x.std(0))[order], y[order]


def shared(x, y, split, parties):
    """What the two owners share, put together by the parties, who see none of it."""
    if split == "rows":
        owners = ("alice", "bob")
        xs, ys = (
            [sy.encrypt(part, parties, owner=o) for part, o in zip(z.chunk(2), owners, strict=True)] for z in (x, y)
        )
        return torch.cat(xs), torch.cat(ys)
    left, right = (sy.encrypt(part, parties, owner=o) for part, o in zip(x.chunk(2, 1), ("alice", "bob"), strict=True))
    return torch.cat([left, right], 1), sy.encrypt(y, parties, owner="alice")


def train(model, x, y):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    for _ in range(STEPS):
        optimizer.zero_grad()
        F.binary_cross_entropy_with_logits(model(x[:TRAIN]).squeeze(1), y[:TRAIN]).backward()
        optimizer.step()
    return ((model(x[TRAIN:]).squeeze(1) > 0) == (y[TRAIN:] > 0.5)).sum()


def main(split="rows"):
    parties = sy.virtual("alice", "bob")
    (x, y), model = data(), nn.Linear(30, 1)
    secret = sy.decrypt(train(sy.encrypt(model, parties), *shared(x, y, split, parties)))
    plain = train(model, x, y)
    print(f"by {split}: right of {len(x) - TRAIN} patients: secret {secret}, plain torch {plain}")
    return secret, plain


if __name__ == "__main__":
    main(*sys.argv[1:])
