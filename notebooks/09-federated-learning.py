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
# # Federated learning with secure aggregation
#
# The model goes to the data: each clinic trains a copy in plain torch, at the speed of plain torch. What
# leaves it is an update, clipped and secret-shared. Only the sum over all clinics is opened.

# %%
import matplotlib.pyplot as plt
import torch
from torch import nn

import pysmpc as sy
from pysmpc.datasets import mnist
from pysmpc.federated import FedAvg, scatter

items = mnist.load(None, 640, 640)
hook = sy.TorchHook(torch)
clinics = [sy.VirtualWorker(hook, id=f"clinic{number}") for number in range(5)]

# %% [markdown]
# The classes are not spread evenly: each clinic has its own mixture, drawn from a Dirichlet distribution.

# %%
scatter(items.train_images.flatten(1), items.train_labels, clinics, alpha=1.0)
model = nn.Sequential(nn.Linear(784, 64), nn.ReLU(), nn.Linear(64, 10))


def accuracy():
    """Of the held-out images."""
    with torch.no_grad():
        return float((model(items.test_images.flatten(1)).argmax(1) == items.test_labels).float().mean())


# %%
federation = sy.Federation(clinics, FedAvg(), arguments={"lr": 0.1, "batch_size": 32}, max_norm=20.0)
found = [accuracy()]
rounds = []
for _ in range(8):
    rounds += federation.fit(model, rounds=1, local_epochs=2)
    found.append(accuracy())

# %%
figure, axis = plt.subplots(figsize=(7, 3))
axis.plot(found, marker="o")
axis.set_xlabel("round")
axis.set_ylabel("accuracy on held-out images")
last = rounds[-1]
print(f"{last.took_part} of {last.asked} clinics, {last.rows} rows together, {last.sent / 1e6:.2f} MB sent a round")
assert found[-1] > 0.5 > found[0]

# %% [markdown]
# ## Who saw what
#
# | who | saw |
# |---|---|
# | a clinic | its own rows, each round's model |
# | each holder of shares | uniform words |
# | you, who opened the sum | the mean update of all clinics, the number of all rows together |
#
# The mean of few clinics still says something about each of them, and a model about its data.
# [Differential privacy](../privacy.md) bounds that; [federated training](../federated.md) compares this
# with training on secrets, where no update is seen at all.

# %%
hook.unhook()
