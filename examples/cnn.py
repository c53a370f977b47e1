"""A convolutional network trained on secret images of digits (the sample of MNIST that comes with the package).

    python examples/cnn.py

Images and digits belong to two owners; weights are secret.  The loss of each epoch and the accuracy are opened.
"""

import copy

import torch
from torch import nn
from torch.nn import functional as F

import pysmpc as sy
from pysmpc.datasets import mnist

ITEMS, BATCH, EPOCHS = 128, 32, 2


def network():
    return nn.Sequential(
        nn.Conv2d(1, 8, 5, stride=2), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(8 * 36, 10)
    )  # fmt: skip


def train(model, images, targets):
    """The loss of each epoch's last batch."""
    optimizer, losses = torch.optim.SGD(model.parameters(), lr=0.1), []
    for _ in range(EPOCHS):
        for x, y in zip(images, targets, strict=True):
            optimizer.zero_grad()
            loss = F.cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()
        losses.append(loss.detach())
    return torch.stack(losses)


def main():
    parties, data = sy.virtual("alice", "bob"), mnist.load(None, ITEMS, 100)
    images, labels = data.train_images.unsqueeze(1).split(BATCH), data.train_labels.split(BATCH)
    owners = ["alice", "bob"] * (len(images) // 2)
    secret_images, secret_labels = (
        [sy.encrypt(part, parties, owner=owner) for part, owner in zip(parts, owners, strict=True)]
        for parts in (images, labels)
    )
    model = network()
    secret = sy.encrypt(copy.deepcopy(model), parties)
    losses, plain = sy.decrypt(train(secret, secret_images, secret_labels)), train(model, images, labels)
    test, digits = data.test_images.unsqueeze(1), data.test_labels
    with torch.no_grad():
        found, expected = sy.decrypt(secret(sy.encrypt(test, parties)).argmax(1)), model(test).argmax(1)
    print(f"losses: secret {losses.tolist()}, plain torch {plain.tolist()}")
    print(f"right of 100: secret {(found == digits).sum()}, plain torch {(expected == digits).sum()}")
    return losses, plain


if __name__ == "__main__":
    main()
