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
# # What it costs
#
# Three things take time: computing on shares, rounds of messages, and bytes. The first you can measure
# here. The other two are counted exactly, so that a network can be estimated before there is one.

# %%
import json
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import torch
from torch import nn
from torch.nn import functional as F

import pysmpc as sy

parties = sy.virtual("alice", "bob")
model = sy.encrypt(nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10)), parties)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
x = sy.encrypt(torch.randn(64, 64), parties)
y = sy.encrypt(torch.randint(10, (64,)), parties)

with sy.profile(show=False) as profile:
    loss = F.cross_entropy(model(x), y)
    loss.backward()
    optimizer.step()
    sy.decrypt(loss)
print(profile.table("layer"))

# %% [markdown]
# In Jupyter a profile shows itself as bars. It can be written for Chrome's `chrome://tracing` and for
# Perfetto, too.

# %%
profile

# %%
path = Path(tempfile.mkdtemp()) / "step.json"
profile.export_chrome_trace(path)
print(len(json.loads(path.read_text())["traceEvents"]), "events")

# %% [markdown]
# ## On a network
#
# `sy.Network` is a delay one way in seconds and a rate in bytes a second. Rounds times delay is what
# dominates between cities; bytes on slow lines.

# %%
networks = {
    "one rack": sy.Network(0.1e-3, 1.25e9),
    "one city": sy.Network(1e-3, 125e6),
    "one continent": sy.Network(15e-3, 25e6),
    "an ocean": sy.Network(45e-3, 12.5e6),
}
seconds = {name: profile.estimate(network) for name, network in networks.items()}
figure, axis = plt.subplots(figsize=(7, 2.4))
axis.barh(list(seconds), list(seconds.values()))
axis.set_xlabel("seconds a step")
figure.tight_layout()
assert seconds["an ocean"] > seconds["one rack"]

# %% [markdown]
# ## What to do about it
#
# Rounds do not depend on the size of a batch, so larger batches share them.

# %%
for items in (8, 64, 512):
    batch = sy.encrypt(torch.randn(items, 64), parties)
    before = parties.stats.copy()
    with torch.no_grad():
        model(batch)
    spent = parties.stats - before
    print(f"{items:4} items: {spent.rounds} rounds, {spent.sent / items / 1e3:.1f} kB an item")

# %% [markdown]
# Functions differ: a square needs no comparison, and what has a public bound takes fewer rounds
# (`bounded=`, [ranges](../ranges.md)).

# %%
values = sy.encrypt(torch.rand(1000) * 4, parties)
narrow = sy.bounded(values, 4.0)
for name, function in {
    "square": lambda: values * values,
    "relu": lambda: F.relu(values),
    "exp": lambda: torch.exp(values),
    "exp, bounded by 4": lambda: torch.exp(narrow),
    "division": lambda: values / (values + 1),
}.items():
    before = parties.stats.copy()
    sy.decrypt(function())
    spent = parties.stats - before
    print(f"{name:18} {spent.rounds:3} rounds with opening, {(spent.sent + spent.dealt) / 1e6:.3f} MB")
