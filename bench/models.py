"""The networks that are measured."""

from torch import nn


def mlp(*widths):
    """784 - widths - 10 with ReLU."""
    layers, before = [], 784
    for width in widths:
        layers += [nn.Linear(before, width), nn.ReLU()]
        before = width
    return nn.Sequential(*layers, nn.Linear(before, 10))


def lenet():
    """LeNet-5 on 28 x 28 with ReLU and maxima (LeCun et al., 1998, as it is written today)."""
    return nn.Sequential(
        nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
        nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10),
    )  # fmt: skip


def vgg_block():
    """Two pairs of 3 x 3 convolutions, of 64 and of 128 channels, each with its maxima."""
    return nn.Sequential(
        nn.Conv2d(3, 64, 3, padding=1), nn.ReLU(), nn.Conv2d(64, 64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(64, 128, 3, padding=1), nn.ReLU(), nn.Conv2d(128, 128, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
    )  # fmt: skip


def squares(out, target):
    """The loss of the documents."""
    return ((out - target) ** 2).sum() / len(target)


def step(model, optimizer, x, y, loss=squares):
    """Forward, backward, update."""
    optimizer.zero_grad()
    loss(model(x), y).backward()
    optimizer.step()
