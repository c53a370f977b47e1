"""Membership inference before and after differential privacy: who was in the training data of an opened model?

    python bench/membership.py [--data FOLDER] [--items 500] [--epsilons 1 3 8] [--secrets]

The attack is a threshold on the loss of an example (Yeom, Giacomelli, Fredrikson, Jha 2018).  Its advantage is the
largest difference, over thresholds, between the parts of members and of others whose loss is below; 0 is guessing, and
(epsilon, delta) allows (e^epsilon - 1 + 2 delta) / (e^epsilon + 1) at most.  The model, 784-128-64-10, is trained on so
few items, so long, that it learns them by heart.  By default steps are those of plain torch, clipped and noised as on
secrets; --secrets trains on secrets.
"""

import argparse
import copy
import math
import sys

import torch
from models import mlp
from private_training import DELTA, Plain
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

import pysmpc as sy
from pysmpc.datasets import mnist
from pysmpc.privacy import noise_multiplier_for
from pysmpc.privacy.engine import sensitivity
from pysmpc.privacy.loaders import drawn


def advantage(model, members, others):
    """Of the best threshold, and the parts of both that are classified right."""
    with torch.no_grad():
        outs = [(model(x), y) for x, y in (members, others)]
    inside, outside = (F.cross_entropy(out, y, reduction="none").double() for out, y in outs)
    at = torch.cat([inside, outside]).unique()
    below = [torch.searchsorted(x.sort().values, at, right=True) / len(x) for x in (inside, outside)]
    shares = [100 * float((out.argmax(1) == y).double().mean()) for out, y in outs]
    return float((below[0] - below[1]).max()), shares


def overfitted(start, members, epochs, batch):
    """Without privacy."""
    model = copy.deepcopy(start)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    x, y = members
    for _ in range(epochs):
        for rows in torch.randperm(len(x)).split(batch):
            optimizer.zero_grad()
            F.cross_entropy(model(x[rows]), y[rows]).backward()
            optimizer.step()
    return model


def private(start, members, options, epsilon):
    """The same number of steps, in plain torch."""
    x, y = members
    rate, steps = options.batch / len(x), options.epochs * math.ceil(len(x) / options.batch)
    multiplier = noise_multiplier_for(epsilon, DELTA, steps, rate)
    deviation = multiplier * sensitivity(sum(p.numel() for p in start.parameters()))
    side = Plain(copy.deepcopy(start), 0.1, 1.0, deviation, options.batch)
    for _ in range(steps):
        rows = drawn(len(x), rate)
        side.step(x[rows], y[rows])
    return side.model


def on_secrets(start, members, options, epsilon):
    """The same on secrets, with the provider's noise."""
    parties = sy.virtual("alice", "bob")
    model = sy.encrypt(copy.deepcopy(start), parties)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    data = TensorDataset(*(sy.encrypt(each, parties) for each in members))
    engine = sy.privacy.Engine(target_epsilon=epsilon, target_delta=DELTA, sampling="poisson", noise="provider")
    model, optimizer, loader = engine.make_private(
        model, optimizer, DataLoader(data, batch_size=options.batch), epochs=options.epochs, loss_reduction="sum"
    )
    for _ in range(options.epochs):
        for x, y in loader:
            optimizer.zero_grad()
            F.cross_entropy(model(x), y, reduction="sum").backward()
            optimizer.step()
    opened = copy.deepcopy(start)
    opened.load_state_dict({name: sy.decrypt(value) for name, value in model.state_dict().items()})
    return opened


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="folder of MNIST's files (default: the sample)")
    parser.add_argument("--items", type=int, default=500)
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--batch", type=int, default=50)
    parser.add_argument("--epsilons", type=float, nargs="+", default=[1.0, 3.0, 8.0])
    parser.add_argument("--noise", type=float, default=0.3, help="part of the labels that are random")
    parser.add_argument("--secrets", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    data = mnist.load(options.data, options.items, options.items)
    x, y = data.train_images.flatten(1), data.train_labels
    others = data.test_images.flatten(1), data.test_labels
    wrong = [torch.rand(options.items) < options.noise for _ in range(2)]  # what only a model that knows it can tell
    labels = [
        torch.where(w, torch.randint(10, (options.items,)), each) for w, each in zip(wrong, (y, others[1]), strict=True)
    ]
    members, others, start = (x, labels[0]), (others[0], labels[1]), mlp(128, 64)

    def line(what, model, bound):
        found, (inside, outside) = advantage(model, members, others)
        print(
            f"{what:18s} advantage {found:.2f} (at most {bound:.2f}); right: {inside:.0f} % of members, "
            f"{outside:.0f} % of others",
            flush=True,
        )

    line("without privacy", overfitted(start, members, options.epochs, options.batch), 1.0)
    for epsilon in options.epsilons:
        train = on_secrets if options.secrets else private
        power = math.exp(epsilon)
        bound = (power - 1 + 2 * DELTA) / (power + 1)
        line(f"epsilon {epsilon:g}", train(start, members, options, epsilon), bound)
    return 0


if __name__ == "__main__":
    sys.exit(main())
