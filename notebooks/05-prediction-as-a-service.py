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
# # Prediction as a service
#
# A company has a trained model that it will not show. A client has an image that she will not show. She
# gets the answer; the company learns nothing, not even the answer.

# %%
import torch
from torch import nn
from torch.nn import functional as F

import pysmpc as sy
from pysmpc.datasets import mnist

items = mnist.load(None, 640, 200)

# %% [markdown]
# The company trains on data of its own, in plain torch.

# %%
network = nn.Sequential(nn.Conv2d(1, 6, 5, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(6 * 12 * 12, 10))
optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
for _ in range(10):
    for images, labels in zip(items.train_images.split(64), items.train_labels.split(64), strict=True):
        optimizer.zero_grad()
        F.cross_entropy(network(images.unsqueeze(1)), labels).backward()
        optimizer.step()
network.eval().requires_grad_(False)

# %% [markdown]
# Company and client hold shares, of the model and of the image. `sy.check` says beforehand whether the
# model runs on secrets and what one prediction costs.

# %%
parties = sy.virtual("company", "client")
print(sy.check(network, items.test_images[:1].unsqueeze(1)))

# %%
service = sy.encrypt(network, parties, owner="company")
image = sy.encrypt(items.test_images[:1].unsqueeze(1), parties, owner="client")
before = parties.stats.copy()
digit = service(image).argmax(1)
spent = parties.stats - before
print(f"{spent.rounds} rounds, {spent.sent / 1e3:.0f} kB sent by each, {spent.dealt / 1e3:.0f} kB dealt")

# %% [markdown]
# The answer is opened to the client alone. Scores of all classes would tell more about the model than
# the class does: what is opened is part of the contract.

# %%
hook = sy.TorchHook(torch)  # gives parties names at which values can be put
answer = sy.decrypt(digit, to="client")
print("the client reads", int(answer.get()), "and the label is", int(items.test_labels[0]))
hook.unhook()

# %% [markdown]
# Many at once cost little more in rounds. Here we compare with the model in the clear.

# %%
with torch.no_grad():
    secret = sy.decrypt(service(sy.encrypt(items.test_images[:100].unsqueeze(1), parties, owner="client")).argmax(1))
    same = (secret == network(items.test_images[:100].unsqueeze(1)).argmax(1)).sum()
print(f"the same answer for {int(same)} of 100")
assert same >= 97

# %% [markdown]
# ## What is left to agree upon
#
# A client who asks often enough learns a model from its answers. Limit how many are opened
# (`limits.numbers` in the company's file), and round what is opened.
