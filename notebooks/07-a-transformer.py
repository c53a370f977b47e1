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
# # A transformer
#
# A small transformer learns from sequences that nobody may read: one owner has the tokens, the other one
# what they mean. The task is one that needs attention: a sequence starts with a key, after which come
# pairs of a key and a value, in any order, each pair a token. Its class is the value of the first key.

# %%
import copy

import matplotlib.pyplot as plt
import torch
from torch import nn
from torch.nn import functional as F

import pysmpc as sy

KEYS, VALUES, WIDTH = 3, 3, 16
LENGTH, VOCABULARY = 1 + KEYS, KEYS + KEYS * VALUES


def sequences(count):
    """Tokens of a key and of all pairs in any order, and the value that belongs to the key."""
    values = torch.randint(VALUES, (count, KEYS))
    order = torch.stack([torch.randperm(KEYS) for _ in range(count)])
    asked = torch.randint(KEYS, (count, 1))
    pairs = KEYS + VALUES * order + values.gather(1, order)
    return torch.cat([asked, pairs], dim=1), values.gather(1, asked).squeeze(1)


tokens, classes = sequences(24)
print(tokens[:3].tolist(), classes[:3].tolist())

# %% [markdown]
# ## The model
#
# All of it is `torch.nn`: embeddings of tokens and positions, an encoder layer, a linear head.


# %%
class Reader(nn.Module):
    """A transformer that reads a sequence and names a class."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, WIDTH)
        self.positions = nn.Parameter(0.1 * torch.randn(LENGTH, WIDTH))
        layer = nn.TransformerEncoderLayer(WIDTH, 2, 2 * WIDTH, dropout=0.0, batch_first=True, norm_first=True)
        self.encoder = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)
        self.head = nn.Linear(WIDTH, VALUES)

    def forward(self, tokens):
        return self.head(self.encoder(self.embedding(tokens) + self.positions)[:, 0])


plain = Reader()
parties = sy.virtual("alice", "bob")
secret_tokens = sy.encrypt(tokens, parties, owner="alice")
secret_classes = sy.encrypt(classes, parties, owner="bob")
model = sy.encrypt(plain, parties)

# %% [markdown]
# To look a secret token up, every holder would have to know where to look. So the lookup is a product:
# the token becomes a secret vector with a single one, which is multiplied with the table.


# %%
def train(model, tokens, classes, steps=8):
    """The loss of each step."""
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(tokens), classes)
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
    return torch.stack(losses)


before = parties.stats.copy()
secret_losses = sy.decrypt(train(model, secret_tokens, secret_classes))
spent = parties.stats - before
reference = copy.deepcopy(plain)
plain_losses = train(reference, tokens, classes)

steps = len(secret_losses)
print(f"a step: {spent.rounds / steps:.0f} rounds, {spent.sent / steps / 1e6:.1f} MB sent by a holder")
figure, axis = plt.subplots(figsize=(7, 3))
axis.plot(plain_losses, label="plain torch")
axis.plot(secret_losses, "--", label="on secrets")
axis.set_xlabel("step")
axis.set_ylabel("cross-entropy")
axis.legend()
distance = (secret_losses - plain_losses).abs().max()
print(f"largest distance of two losses: {distance:.4f}")
assert secret_losses[-1] < secret_losses[0]
assert distance < 0.1

# %% [markdown]
# ## Training in the clear, predicting on secrets
#
# Training a transformer from the start on secrets takes patience. What is often wanted is less: a model
# trained in the clear, on data that may be seen, answers about data that may not.

# %%
optimizer = torch.optim.Adam(reference.parameters(), lr=3e-3)
for _ in range(300):
    x, y = sequences(128)
    optimizer.zero_grad()
    F.cross_entropy(reference(x), y).backward()
    optimizer.step()
reference.eval()

service = sy.encrypt(reference, parties, owner="bob")
questions, answers = sequences(32)
before = parties.stats.copy()
with torch.no_grad():
    scores = service(sy.encrypt(questions, parties, owner="alice"))
found = sy.decrypt(scores.argmax(1))
spent = parties.stats - before
with torch.no_grad():
    expected = reference(questions).argmax(1)
print(f"the same answer as in the clear for {int((found == expected).sum())} of 32")
print(f"right: {int((found == answers).sum())} of 32")
print(f"{spent.rounds} rounds, {spent.sent / 1e6:.2f} MB sent by a holder")
assert (found == expected).sum() >= 30
assert (found == answers).sum() >= 24

# %% [markdown]
# ## Where the rounds go
#
# Products of matrices take one round each. The softmax of attention needs the largest score, powers and a
# logarithm, layer normalisation an inverse root: these are most of the rounds. A second head or a
# longer batch adds bytes and no rounds.

# %%
with sy.profile(show=False) as profile, torch.no_grad():
    service(sy.encrypt(questions, parties))
print(profile.table("layer"))

# %% [markdown]
# [Layers that cost less](../cheap-layers.md) has an attention without softmax; the
# [examples](../examples.md) generate text and fine-tune a model of the library transformers.
