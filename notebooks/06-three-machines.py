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
# # Three machines
#
# So far all parties were in one process, which protects nothing. Here alice, bob and the crypto provider
# are processes of their own. They talk over TLS, with certificates on both sides, and each follows its
# own file. This notebook is a fourth: the driver, who asks for a computation and is trusted with nothing.
#
# `LocalWorkers` starts all of them on this machine, with certificates made on the spot. On three machines
# you start `pysmpc worker` on each; what differs are the addresses in the files
# ([remote parties](../remote.md)).

# %%
import atexit
import json
import re
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

import pysmpc as sy
from pysmpc.remote.local_workers import LocalWorkers

# %% [markdown]
# ## What each owner has
#
# Two clinics, with measurements of their own patients in files of their own. In this notebook we write
# the files ourselves; afterwards we only touch them through the workers.

# %%
folder = Path(tempfile.mkdtemp())  # on three machines: one on each
weights = np.array([1.5, -2.0, 0.5, 1.0], dtype=np.float32)
for name in ("alice", "bob"):
    rows = np.random.randn(96, 4).astype(np.float32)
    noise = 0.1 * np.random.randn(96).astype(np.float32)
    np.savez(folder / f"{name}.npz", rows=rows, outcome=rows @ weights + noise)

data = {name: {"patients": {"path": str(folder / f"{name}.npz"), "tags": ["#clinic"]}} for name in ("alice", "bob")}

# %% [markdown]
# ## What each owner permits
#
# The driver, called scientist, may compute. It may open numbers behind which there are 32 patients of
# each owner or more.

# %%
rules = {"open": {"scientist": {"min_items": 32}}}
workers = LocalWorkers(("alice", "bob"), data=data, options={"alice": rules, "bob": rules})
atexit.register(workers.stop)
file = (workers.folder / "alice.toml").read_text()
print(re.sub(re.escape(str(workers.folder)) + "|" + re.escape(str(folder)), "...", file))

# %% [markdown]
# ## The driver
#
# With workers on other machines this line is `parties = sy.connect("parties.toml")`. The driver finds
# data by their tags. What it gets are pointers: name, shape and type.

# %%
parties = workers.connect()
found = {name: {each.name.split("/")[1]: each for each in parties[name].search("#clinic")} for name in parties.names}
print(found["alice"]["rows"])


def shared(key, name, part):
    """Rows of one owner as a secret: she shares them herself, from her file."""
    return sy.encrypt(found[name][key][part], parties)


x = torch.cat([shared("rows", name, slice(0, 64)) for name in parties.names])
y = torch.cat([shared("outcome", name, slice(0, 64)) for name in parties.names])

# %% [markdown]
# The program is what it would be in one process. Each operation is sent to the workers, who run it on
# their shares and exchange masked values with each other.

# %%
model = sy.encrypt(nn.Linear(4, 1), parties)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
losses = []
for _ in range(25):
    optimizer.zero_grad()
    loss = F.mse_loss(model(x).squeeze(1), y)
    loss.backward()
    optimizer.step()
    losses.append(loss.detach())
losses = sy.decrypt(torch.stack(losses))  # each of them is a mean over 64 patients of each owner
learned = sy.decrypt(model).weight[0].detach()

figure, axis = plt.subplots(figsize=(7, 2.6))
axis.plot(losses)
axis.set_xlabel("step")
axis.set_ylabel("loss")
print("learned:", [round(float(value), 2) for value in learned], "and the data were made with", weights.tolist())
assert losses[-1] < 0.3 * losses[0]

# %% [markdown]
# ## What is refused
#
# A single patient may not be opened. The owners decide that, and not the driver's program: no share
# leaves alice's or bob's worker. Afterwards the session goes on.

# %%
try:
    sy.decrypt(x[3])
    raise AssertionError("a single row was opened")
except sy.OpenNotPermittedError as error:
    print("OpenNotPermittedError:", error)
print("the mean of all patients:", sy.decrypt(x.mean(0)))

# %% [markdown]
# Each owner has a log of what was asked. It says what, by whom, and whether it was permitted; `items` is
# the number of her rows behind the number that has the fewest. It never says a value.

# %%
for line in (workers.state("alice") / "openings.jsonl").read_text().splitlines():
    entry = json.loads(line)
    print({key: entry[key] for key in ("driver", "shape", "items", "permitted", "reason") if key in entry})

# %% [markdown]
# ## What went over the wires
#
# The driver sends operations, not data. The workers send each other masked values.

# %%
spent = parties.stats
sent, received = parties.traffic
print(f"driver: {sent / 1e3:.0f} kB sent, {received / 1e3:.0f} kB received")
print(f"holders: {spent.rounds} rounds, {spent.sent / 1e3:.0f} kB sent by each, {spent.dealt / 1e3:.0f} kB dealt")

# %%
parties.close()
workers.stop()

# %% [markdown]
# ## On machines of their own
#
# | on | do |
# |---|---|
# | a machine that is no party | `pysmpc certs init pki`, `pysmpc certs issue pki alice bob crypto_provider scientist` |
# | each worker's machine | bring `NAME.pem`, `NAME.key`, `ca.pem` and `NAME.toml`; `pysmpc worker --config NAME.toml` |
# | the driver's machine | `pysmpc status --config parties.toml`, then `sy.connect("parties.toml")` |
#
# [Remote parties](../remote.md) goes through it step by step, [consent](../consent.md) has every rule that
# an owner can set, and the [threat model](../threat-model.md) says what a driver, a holder or somebody on
# the network can learn.
