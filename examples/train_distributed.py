"""The article's network on secret-shared MNIST, one party a process:

    torchrun --nproc-per-node 3 examples/train_distributed.py

Every rank runs this file.  Ranks 0 and 1 are alice and bob, who own half of the images
each; the last rank is the crypto provider.  Three numbers are opened: a step's loss, and
how many held-out items are right before and after.
"""

import argparse
import statistics
import time

import torch
from torch import nn
from torch.nn import functional as F

import pysmpc as sy
from pysmpc.datasets import mnist

HOLDERS = ("alice", "bob")


def network():
    return nn.Sequential(nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 10))


def batches(images, labels, size):
    """(images, one-hot targets, labels) of `size` items each."""
    targets = F.one_hot(labels, 10).to(images.dtype)
    return list(zip(images.flatten(1).split(size), targets.split(size), labels.split(size), strict=True))


def step(model, optimizer, images, targets):
    optimizer.zero_grad()
    loss = ((model(images) - targets) ** 2).sum() / len(images)
    loss.backward()
    optimizer.step()
    return loss.detach()


def right(model, data):
    with torch.no_grad():
        return sum((model(images).argmax(1) == labels).sum() for images, _, labels in data)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=20)
    epochs = parser.parse_args().epochs

    parties = sy.distributed(*HOLDERS)
    torch.manual_seed(1)  # the same public choices on every rank: first weights, order of the batches
    items = mnist.load(None, 640, 640)
    train = batches(items.train_images, items.train_labels, 64)
    test = batches(items.test_images, items.test_labels, 64)
    model = network()

    def secret(index, batch):
        """Batch `index` belongs to one holder; the other ranks know its shape and no more."""
        owner = HOLDERS[index % 2]
        mine = [part if parties.me == owner else torch.empty_like(part, device="meta") for part in batch]
        return [sy.encrypt(part, parties, owner=owner) for part in mine]

    hidden_train = [secret(i, batch) for i, batch in enumerate(train)]
    hidden_test = [secret(i, batch) for i, batch in enumerate(test)]
    hidden = sy.encrypt(model, parties, owner="alice")
    optimizer = torch.optim.SGD(hidden.parameters(), lr=0.02)
    before, seconds = parties.stats.copy(), []
    for epoch in range(epochs):
        for index in torch.randperm(len(train)).tolist():
            start = time.perf_counter()
            loss = sy.decrypt(step(hidden, optimizer, *hidden_train[index][:2]))  # every rank takes part,
            seconds.append(time.perf_counter() - start)
        if parties.me == "alice":  # and the holders know it
            print(f"epoch {epoch + 1}: loss {loss:.4f}", flush=True)
    spent = parties.stats - before
    correct = sy.decrypt(right(hidden, hidden_test))
    if parties.me != "alice":
        return

    torch.manual_seed(1)
    plain, plain_seconds = network(), []
    optimizer = torch.optim.SGD(plain.parameters(), lr=0.02)
    for _ in range(epochs):
        for index in torch.randperm(len(train)).tolist():
            start = time.perf_counter()
            step(plain, optimizer, *train[index][:2]).item()
            plain_seconds.append(time.perf_counter() - start)
    steps = len(seconds)
    print(f"right of {len(items.test_labels)} held-out items: {correct}, in plain torch {right(plain, test)}")
    for name, times in (("a step on secrets", seconds), ("in plain torch", plain_seconds)):
        print(f"{name}: min {1e3 * min(times):.2f} ms, median {1e3 * statistics.median(times):.2f} ms")
    print(f"ratio of medians {statistics.median(seconds) / statistics.median(plain_seconds):.1f}")
    print(f"a step: {spent.rounds / steps:.1f} rounds, {spent.sent / steps / 1e6:.2f} MB sent by a holder, "
          f"{spent.dealt / steps / 1e6:.2f} MB dealt")  # fmt: skip


if __name__ == "__main__":
    main()
