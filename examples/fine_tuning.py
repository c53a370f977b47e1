"""The last layer of a public model, trained on secret data: the body runs in plain torch where the data are.

    python examples/fine_tuning.py

The owner of the images passes them through the public body at home and shares what comes out.  The head is secret,
and so are the labels; the accuracy is opened.
"""

import copy

import torch
from torch import nn
from torch.nn import functional as F

import pysmpc as sy
from pysmpc.datasets import mnist

STEPS = 25


def body():
    """A public network without its last layer.  Here with random weights; from a library's zoo, usually."""
    return nn.Sequential(nn.Conv2d(1, 16, 5, stride=3), nn.ReLU(), nn.AvgPool2d(2), nn.Flatten()).eval()


def train(head, features, labels):
    optimizer = torch.optim.SGD(head.parameters(), lr=0.3, momentum=0.9)
    for _ in range(STEPS):
        optimizer.zero_grad()
        F.cross_entropy(head(features), labels).backward()
        optimizer.step()
    return head


def main():
    parties, data, public = sy.virtual("alice", "bob"), mnist.load(None, 200, 100), body()
    with torch.no_grad():
        train_features, test_features = (
            public(images.unsqueeze(1)) for images in (data.train_images, data.test_images)
        )
    head = nn.Linear(train_features.shape[1], 10)
    mine = sy.encrypt(train_features, parties, owner="alice"), sy.encrypt(data.train_labels, parties, owner="alice")
    secret = train(sy.encrypt(copy.deepcopy(head), parties), *mine)
    plain = train(head, train_features, data.train_labels)
    with torch.no_grad():
        found = sy.decrypt((secret(sy.encrypt(test_features, parties)).argmax(1) == data.test_labels).sum())
        expected = (plain(test_features).argmax(1) == data.test_labels).sum()
    print(f"right of 100: secret {found}, plain torch {expected}")
    return found, expected


if __name__ == "__main__":
    main()
