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
# # First secrets, and what each party sees
#
# Two holders, alice and bob, keep shares; a crypto provider deals randomness. All of them are in this
# process, so that we can look over everybody's shoulder.

# %%
import matplotlib.pyplot as plt
import torch

import pysmpc as sy

parties = sy.virtual("alice", "bob")
x = sy.encrypt(torch.tensor([1.5, -2.0, 3.0]), parties)
x

# %% [markdown]
# What is shown is public: size, encoding, holders. The values are in nobody's hands. Each holder has
# one word for each number, and the words add up to the number in steps of 2^-16.

# %%
alice, bob = (parties[name].shares()[0] for name in ("alice", "bob"))
print("alice:", alice.tolist())
print("bob:  ", bob.tolist())
print("sum:  ", (alice + bob).tolist(), "in steps of 2^-16:", ((alice + bob) / 2**16).tolist())
assert ((alice + bob) / 2**16).tolist() == [1.5, -2.0, 3.0]

# %% [markdown]
# ## One share says nothing
#
# We share 10,000 sevens. Alice's words are spread evenly over all 64-bit numbers, and so are bob's.

# %%
sevens = sy.encrypt(torch.full((10_000,), 7), parties)
words = {name: parties[name].shares()[-1].double() for name in parties.names}
figure, axes = plt.subplots(1, 3, figsize=(10, 2.6), sharey=True)
for axis, (name, seen) in zip(axes, [*words.items(), ("opened", sy.decrypt(sevens).double())], strict=True):
    axis.hist(seen.numpy(), bins=40)
    axis.set_title(name)
figure.tight_layout()

# %% [markdown]
# ## Computing
#
# A sum is computed by each holder alone. A product takes a round of messages: masked values, which are
# as uniform as shares. `parties.stats` counts them.

# %%
before = parties.stats.copy()
total = (x + x).sum()
print("a sum:    ", parties.stats - before)
before = parties.stats.copy()
product = (x * x).sum()
print("a product:", parties.stats - before)

# %% [markdown]
# ## Opening
#
# A secret is opened by name and by nothing else. `float(x)`, `if x > 0` and `x.numpy()` raise.

# %%
print(sy.decrypt(total), sy.decrypt(product))
try:
    float(product)
except sy.RevealError as error:
    print("RevealError:", error)

# %% [markdown]
# ## Who saw what
#
# | party | saw |
# |---|---|
# | alice, bob | uniform words; sizes; the program; what was decrypted |
# | crypto provider | sizes and the program, which tell it what to deal |
# | you | everything, as all parties are in your process |
#
# With `sy.connect("parties.toml")` in the place of `sy.virtual`, each party is a process of its own, on
# a machine of its own, and the last row becomes: what was decrypted.
