# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     name: python3
# ---

# %% [markdown]
# # Encrypted training on MNIST
#
# In 2019 the article "Encrypted training on MNIST" of the PySyft project trained a network
# 784-128-64-10 on 640 secret-shared images, with batches of 64, the sum of squares as loss and three
# decimal digits of precision. This notebook trains the same network on as many images. Nobody sees an
# image, a label, a weight or a gradient; the losses are opened, to draw them.

# %%
import copy
import time

import matplotlib.pyplot as plt
import torch
from torch import nn
from torch.nn import functional as F

import pysmpc as sy
from pysmpc.datasets import mnist

EPOCHS = 5
items = mnist.load(None, 640, 640)  # a sample inside the package
train_x, test_x = items.train_images.flatten(1), items.test_images.flatten(1)
train_y = F.one_hot(items.train_labels, 10).float()
plain = nn.Sequential(nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 10))

# %% [markdown]
# Each batch is shared once, half of them by alice and half by bob, and serves every epoch.

# %%
parties = sy.virtual("alice", "bob")
owners = ["alice", "bob"] * 5
batches = [
    (sy.encrypt(x, parties, owner=owner), sy.encrypt(y, parties, owner=owner))
    for x, y, owner in zip(train_x.split(64), train_y.split(64), owners, strict=True)
]
model = sy.encrypt(plain, parties)


def fit(model, batches, opened):
    """An ordinary training loop; the losses of its steps, and the median seconds of a step."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02)
    step = sy.TrainStep(model, optimizer, lambda out, y: ((out - y) ** 2).sum() / len(y)) if opened else None
    losses, seconds = [], []
    for _ in range(EPOCHS):
        for x, y in batches:
            start = time.perf_counter()
            if step is not None:  # zero_grad, forward, backward and step, recorded and repeated
                loss = sy.decrypt(step(x, y))
            else:
                optimizer.zero_grad()
                loss = ((model(x) - y) ** 2).sum() / len(y)
                loss.backward()
                optimizer.step()
            losses.append(float(loss.detach()))
            seconds.append(time.perf_counter() - start)
    return losses, sorted(seconds)[len(seconds) // 2]


before = parties.stats.copy()
secret_losses, secret_seconds = fit(model, batches, opened=True)
spent = parties.stats - before
reference = copy.deepcopy(plain)
plain_losses, plain_seconds = fit(reference, list(zip(train_x.split(64), train_y.split(64), strict=True)), opened=False)

# %%
figure, axis = plt.subplots(figsize=(7, 3))
axis.plot(plain_losses, label="plain torch")
axis.plot(secret_losses, "--", label="on secrets")
axis.set_xlabel("step")
axis.set_ylabel("loss")
axis.legend()
distance = max(abs(a - b) for a, b in zip(secret_losses, plain_losses, strict=True))
print(f"largest distance of two losses: {distance:.4f}")
assert distance < 0.1

# %% [markdown]
# ## How good, how dear
#
# The trained model is tested on secrets; only the number of right answers is opened.

# %%
with torch.no_grad():
    guess = model(sy.encrypt(test_x, parties)).argmax(1)
    right = int(sy.decrypt((guess == items.test_labels).sum()))
    reference_right = int((reference(test_x).argmax(1) == items.test_labels).sum())
steps = EPOCHS * len(batches)
print(f"right of 640: {right} on secrets, {reference_right} in plain torch")
print(f"a step: {1e3 * secret_seconds:.1f} ms, {secret_seconds / plain_seconds:.1f} times plain torch")
print(f"a step: {spent.rounds / steps:.0f} rounds, {spent.sent / steps / 1e6:.2f} MB sent by a holder")
assert abs(right - reference_right) < 40

# %% [markdown]
# ## What has become of the article's numbers
#
# The article reports about 0.5 s for a step with secret data and weights, all parties in one process;
# that was another machine, and PySyft 0.1 sent every share as a Python object. What the same setting
# takes here, with its three decimal digits, is on the page
# [benchmarks](../benchmarks.md#the-demo).
