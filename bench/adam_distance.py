"""How far Adam on secrets ends from Adam in the clear: the demo's network on MNIST with cross-entropy.

    python bench/adam_distance.py [--data FOLDER] [--batch 128] [--steps 50] [--seeds 3]

Distances are of all weights after the steps, over the way that those in the clear went; "far" are weights more than
0.02 apart.  Beside it: plain torch whose gradients are rounded to 16 fractional bits, which is what a fixed-point
gradient alone would do.
"""

import argparse
import copy
import statistics

import torch
from models import mlp
from torch import nn
from torch.nn import functional as F

import pysmpc as sy
from pysmpc.datasets import mnist

FAR = 0.02


def cross_entropy(out, target):
    """Of a batch, with ones at the labels."""
    return -(F.log_softmax(out, 1) * target).sum() / len(target)


def weights(model):
    """All of them as one tensor."""
    found = [sy.decrypt(p) if isinstance(p, sy.SecretTensor) else p for p in model.parameters()]
    return torch.cat([p.detach().reshape(-1) for p in found])


def train(model, batches, optimizer, hide=lambda x: x, show=float, rounded=False):
    """The losses of a training."""
    losses = []
    for x, y in batches:
        optimizer.zero_grad()
        loss = cross_entropy(model(hide(x)), hide(y))
        loss.backward()
        if rounded:
            for p in model.parameters():
                p.grad = (p.grad * 2**16).round() / 2**16
        optimizer.step()
        losses.append(show(loss.detach()))
    return losses


def compare(seed, batches, lr, eps):
    """{row: (distance over way, share far, largest gap of losses)}."""
    torch.manual_seed(seed)
    start = nn.Sequential(nn.Flatten(), mlp(128, 64))
    before = weights(start)

    def adam(model):
        return torch.optim.Adam(model.parameters(), lr=lr, eps=eps)

    plain = copy.deepcopy(start)
    reference = train(plain, batches, adam(plain))
    end = weights(plain)

    def row(model, losses):
        gap = weights(model) - end
        apart = max(abs(a - b) / b for a, b in zip(losses, reference, strict=True))
        return float(gap.norm() / (end - before).norm()), float((gap.abs() > FAR).double().mean()), apart

    rounded = copy.deepcopy(start)
    rows = {"gradients of 16 bits": row(rounded, train(rounded, batches, adam(rounded), rounded=True))}
    parties = sy.virtual("alice", "bob")
    secret = sy.encrypt(copy.deepcopy(start), parties)
    losses = train(
        secret, batches, adam(secret), lambda x: sy.encrypt(x, parties), lambda loss: float(sy.decrypt(loss))
    )
    rows["secret"] = row(secret, losses)
    return rows


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="folder of MNIST's files (default: the sample inside the package)")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--eps", type=float, default=1e-8)
    options = parser.parse_args(argv)
    items = options.batch * options.steps if options.data else 640
    data = mnist.load(options.data, train_items=items, test_items=1)
    targets = F.one_hot(data.train_labels, 10).float()
    pairs = list(zip(data.train_images.split(options.batch), targets.split(options.batch), strict=True))
    batches = [pairs[i % len(pairs)] for i in range(options.steps)]
    found = {}
    for seed in range(options.seeds):
        for name, row in compare(seed, batches, options.lr, options.eps).items():
            found.setdefault(name, []).append(row)
            print(f"seed {seed}  {name:22s} distance {row[0]:.3f}  far {row[1]:.3%}  losses {row[2]:.2%}", flush=True)
    for name, rows in found.items():
        middle = [statistics.median(column) for column in zip(*rows, strict=True)]
        print(f"median  {name:22s} distance {middle[0]:.3f}  far {middle[1]:.3%}  losses {middle[2]:.2%}")


if __name__ == "__main__":
    main()
