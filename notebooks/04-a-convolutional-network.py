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
# # A convolutional network, cross-entropy and Adam
#
# A network with convolutions, batch normalisation and pooling learns to read digits. Images, labels,
# weights, gradients and Adam's moments are secret. The script is that of plain torch; the lines that
# differ call `sy`.

# %%
import copy

import matplotlib.pyplot as plt
import torch
from torch import nn
from torch.nn import functional as F

import pysmpc as sy
from pysmpc.datasets import mnist

items = mnist.load(None, 320, 100)  # a sample inside the package
train_x, test_x = items.train_images.unsqueeze(1), items.test_images.unsqueeze(1)
plain = nn.Sequential(
    nn.Conv2d(1, 8, 5, stride=2),
    nn.BatchNorm2d(8),
    nn.ReLU(),
    nn.MaxPool2d(2),
    nn.Flatten(),
    nn.Linear(8 * 6 * 6, 10),
)

# %% [markdown]
# ## Before training
#
# `sy.check` runs the model, loss and optimizer on shapes alone. It lists what secrets would lack, and what
# a step costs.

# %%
parties = sy.virtual("alice", "bob")
example = train_x[:64], items.train_labels[:64]
print(sy.check(plain, example, loss=F.cross_entropy, optimizer=torch.optim.Adam))

# %% [markdown]
# ## Training
#
# Alice and bob own every other batch. The labels are class numbers, and as secret as the images: to pick
# the score of the right class, each label is compared with all classes.


# %%
def train(model, images, labels, epochs=4):
    """An ordinary training loop; returns the loss of each step."""
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    losses = []
    for _ in range(epochs):
        for x, y in zip(images, labels, strict=True):
            optimizer.zero_grad()
            loss = F.cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()
            losses.append(loss.detach())
    return torch.stack(losses)


images, labels = train_x.split(64), items.train_labels.split(64)
owners = ["alice", "bob", "alice", "bob", "alice"]
secret_images = [sy.encrypt(x, parties, owner=owner) for x, owner in zip(images, owners, strict=True)]
secret_labels = [sy.encrypt(y, parties, owner=owner) for y, owner in zip(labels, owners, strict=True)]

model = sy.encrypt(plain, parties)  # a copy, whose parameters and running statistics are secret
before = parties.stats.copy()
secret_losses = train(model, secret_images, secret_labels)
spent = parties.stats - before

reference = copy.deepcopy(plain)
plain_losses = train(reference, images, labels)

# %% [markdown]
# Up to here nothing was opened. The losses are still secrets; they are opened together, in one round.

# %%
opened = sy.decrypt(secret_losses)
steps = len(opened)
print(f"a step: {spent.rounds / steps:.0f} rounds, {spent.sent / steps / 1e6:.1f} MB sent by a holder")

figure, axis = plt.subplots(figsize=(7, 3))
axis.plot(plain_losses, label="plain torch")
axis.plot(opened, "--", label="on secrets")
axis.set_xlabel("step")
axis.set_ylabel("cross-entropy")
axis.legend()
assert opened[-5:].mean() < 0.7 * opened[:5].mean()
assert (opened - plain_losses).abs().max() < 0.3

# %% [markdown]
# ## Testing
#
# In evaluation the network normalises by its running statistics. Each prediction stays secret; we open
# for each digit how many were right, and nothing about a single image.

# %%
model.eval()
reference.eval()
with torch.no_grad():
    found = model(sy.encrypt(test_x, parties, owner="bob")).argmax(1)
    expected = reference(test_x).argmax(1)
digits = sy.encrypt(items.test_labels, parties, owner="bob")
kinds = F.one_hot(digits, 10)  # secret, too
right = sy.decrypt(((found == digits).unsqueeze(1) * kinds).sum(0))
print("right, by digit:", right.tolist())
print(f"right of 100: {int(right.sum())} on secrets, {int((expected == items.test_labels).sum())} in plain torch")
assert abs(int(right.sum()) - int((expected == items.test_labels).sum())) <= 10

# %% [markdown]
# ## Where the rounds go
#
# Convolutions and linear layers take a round for each product, whatever its size. What is not linear
# (ReLU, the maximum of a window, the logarithm inside cross-entropy, the roots of Adam and of batch
# normalisation) takes most of the rounds.

# %%
with sy.profile(show=False) as profile:
    model.train()
    F.cross_entropy(model(secret_images[0]), secret_labels[0]).backward()
print(profile.table("layer"))

# %% [markdown]
# What takes less: an average in place of the maximum (`nn.AvgPool2d` is linear), SGD in place of Adam,
# [layers made for secrets](../cheap-layers.md). [Layers and losses](../layers.md) says what else to know
# about each layer, and [optimizers](../training.md) which of torch's optimizers cost how much.
