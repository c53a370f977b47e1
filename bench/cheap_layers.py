"""What the layers of `pysmpc.nn` save, and what accuracy they keep: the tables of docs/cheap-layers.md.

    python bench/cheap_layers.py [--seeds 3]

Accuracy is that of plain torch, in which the same models come to the same within the precision: on the sample of MNIST
that comes with the package, 640 items for training and 640 held out.
"""

import argparse
import statistics
from functools import partial

import torch
from torch import nn
from torch.nn import functional as F

import pysmpc as sy
from pysmpc.datasets import mnist

ROWS, SIZES = 64, (10, 64)

ACTIVATIONS = {
    "nn.ReLU": nn.ReLU,
    "Square": sy.nn.Square,
    "Polynomial": sy.nn.Polynomial,
    "nn.GELU": nn.GELU,
    "QuadraticGELU": sy.nn.QuadraticGELU,
}
NORMALISERS = {
    "nn.Softmax": lambda: nn.Softmax(-1),
    "ReLUSoftmax": sy.nn.ReLUSoftmax,
    "QuadraticSoftmax": sy.nn.QuadraticSoftmax,
}


ATTENTION = {
    "nn.MultiheadAttention": None,
    "sy.nn.Attention, nn.Softmax": lambda: Masked(),
    "sy.nn.Attention, ReLUSoftmax": sy.nn.ReLUSoftmax,
    "sy.nn.Attention, QuadraticSoftmax": sy.nn.QuadraticSoftmax,
}


class Masked(nn.Module):
    """Softmax as `sy.nn.Attention` calls what normalises."""

    def __init__(self):
        super().__init__()
        self.softmax = nn.Softmax(-1)

    def forward(self, x, mask=None):
        return self.softmax(x)


def costs(make, size):
    """(rounds, sent, dealt) an element, of a product that is not truncated yet, with the truncation of the result."""
    parties, module = sy.virtual("alice", "bob"), make()
    module = sy.encrypt(module, parties) if list(module.parameters()) else module
    x = sy.encrypt(torch.randn(ROWS, size), parties) * sy.encrypt(torch.randn(ROWS, size), parties)
    before = parties.stats.copy()
    module(x).cell.settle()
    spent, n = parties.stats - before, ROWS * size
    return spent.rounds, spent.sent / n, spent.dealt / n


class Torchs(nn.Module):
    """Torch's attention of a sequence to itself."""

    def __init__(self, features, heads):
        super().__init__()
        self.attention = nn.MultiheadAttention(features, heads, batch_first=True)

    def forward(self, x):
        return self.attention(x, x, x, need_weights=False)[0]


def attention(make):
    """A layer of 32 features and 4 heads."""
    return Torchs(32, 4) if make is None else sy.nn.Attention(32, 4, make())


def attention_costs(make, size, batch=8):
    """The same of a layer of attention over sequences of `size` positions, whose weights were opened before."""
    parties = sy.virtual("alice", "bob")
    module = sy.encrypt(attention(make), parties)
    for _ in range(2):
        x = sy.encrypt(torch.randn(batch, size, 32), parties)
        before = parties.stats.copy()
        module(x).cell.settle()
    spent = parties.stats - before
    return spent.rounds, spent.sent / x.numel(), spent.dealt / x.numel()


class Reader(nn.Module):
    """An image as a sequence of rows: one layer of attention, the mean, a layer."""

    def __init__(self, make):
        super().__init__()
        self.rows, self.places = nn.Linear(28, 32), nn.Parameter(0.1 * torch.randn(28, 32))
        self.attention, self.fc = attention(make), nn.Linear(32, 10)

    def forward(self, x):
        x = self.rows(x.view(-1, 28, 28)) + self.places
        return self.fc(torch.relu(x + self.attention(x)).mean(1))


def network(make):
    """784-128-64-10, with an activation."""
    return nn.Sequential(nn.Linear(784, 128), make(), nn.Linear(128, 64), make(), nn.Linear(64, 10))


def accuracy(make, seed, epochs=20):
    """Of held-out items, in percent."""
    torch.manual_seed(seed)
    data, model = mnist.load(None, 640, 640), make()
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    for _ in range(epochs):
        for part in torch.randperm(640).split(64):
            optimizer.zero_grad()
            F.cross_entropy(model(data.train_images[part].flatten(1)), data.train_labels[part]).backward()
            optimizer.step()
    with torch.no_grad():
        return 100 * float((model(data.test_images.flatten(1)).argmax(1) == data.test_labels).float().mean())


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=3)
    seeds = range(parser.parse_args().seeds)
    print("| layer | row | rounds | sent | dealt | right of held-out items, % |\n|---|---|---|---|---|---|")

    def line(name, make, model, sizes, costs=costs):
        found = [accuracy(model, seed) for seed in seeds]
        for size in sizes:
            rounds, sent, dealt = costs(make, size)
            right = f"{statistics.mean(found):.1f} ({min(found):.1f} to {max(found):.1f})"
            print(f"| `{name}` | {size} | {rounds} | {sent:.1f} | {dealt:.0f} | {right} |", flush=True)

    for name, make in ACTIVATIONS.items():
        line(name, make, partial(network, make), SIZES[1:])
    for name, make in NORMALISERS.items():
        inner = Masked if name == "nn.Softmax" else make
        line(name, make, partial(Reader, inner), SIZES)
    for name, make in ATTENTION.items():
        line(name, make, partial(Reader, make), SIZES[1:], attention_costs)


if __name__ == "__main__":
    main()
