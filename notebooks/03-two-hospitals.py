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
# # Two hospitals, one logistic regression
#
# Hospital A and hospital B want one model of a disease. First each has all columns of its own patients
# (the data are split by rows). Then both have the same patients, and each some of the columns (split by
# columns). In both cases the same few lines train; neither sees the other's data or the weights.

# %%
import matplotlib.pyplot as plt
import torch
from torch import nn
from torch.nn import functional as F

import pysmpc as sy

parties = sy.virtual("hospital_a", "hospital_b", provider="ministry")
PATIENTS, COLUMNS = 400, 6
columns = torch.randn(PATIENTS, COLUMNS)
weights = torch.tensor([2.0, -1.5, 1.0, 0.5, 0.0, -2.0])
ill = (torch.rand(PATIENTS) < torch.sigmoid(columns @ weights - 0.5)).float()


def train(x, y, steps=60):
    """Logistic regression with all patients in one batch; a secret model and its losses, which are opened."""
    model = sy.encrypt(nn.Linear(x.shape[1], 1), parties)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    step = sy.TrainStep(model, optimizer, lambda out, y: F.binary_cross_entropy_with_logits(out.squeeze(1), y))
    return model, [float(sy.decrypt(step(x, y))) for _ in range(steps)]


# %% [markdown]
# ## Split by rows
#
# Each hospital shares its own patients; the two batches are joined as secrets.

# %%
half = PATIENTS // 2
x = torch.cat(
    [
        sy.encrypt(columns[:half], parties, owner="hospital_a"),
        sy.encrypt(columns[half:], parties, owner="hospital_b"),
    ]
)
y = torch.cat(
    [sy.encrypt(ill[:half], parties, owner="hospital_a"), sy.encrypt(ill[half:], parties, owner="hospital_b")]
)
by_rows, row_losses = train(x, y)

# %% [markdown]
# ## Split by columns
#
# A has the first four columns, B the last two and who is ill. Patients are in the same order on both
# sides, which has to be agreed upon before.

# %%
x = torch.cat(
    [
        sy.encrypt(columns[:, :4], parties, owner="hospital_a"),
        sy.encrypt(columns[:, 4:], parties, owner="hospital_b"),
    ],
    dim=1,
)
y = sy.encrypt(ill, parties, owner="hospital_b")
by_columns, column_losses = train(x, y)

# %%
figure, axis = plt.subplots(figsize=(7, 3))
axis.plot(row_losses, label="split by rows")
axis.plot(column_losses, "--", label="split by columns")
axis.set_xlabel("step")
axis.set_ylabel("loss")
axis.legend()
assert row_losses[-1] < 0.6 * row_losses[0] + 0.1
assert column_losses[-1] < 0.6 * column_losses[0] + 0.1

# %% [markdown]
# ## What the hospitals agree to open
#
# The number of patients for whom the model is right, or the weights. Both are an agreement: weights say
# something about patients, so with few of them add noise (`sy.privacy`).

# %%
with torch.no_grad():
    right = ((by_columns(x).squeeze(1) > 0) == (y > 0.5)).sum()
print(f"right: {int(sy.decrypt(right))} of {PATIENTS}")
opened = sy.decrypt(by_rows)
print("weights:", [round(value, 2) for value in opened.weight[0].tolist()])
assert torch.nn.functional.cosine_similarity(opened.weight[0], weights, dim=0) > 0.8

# %% [markdown]
# On machines of their own each hospital shares from its own files, and its rules say what may be opened
# ([remote parties](../remote.md), [consent](../consent.md)). The program stays as it is, but for
# `sy.connect("parties.toml")`.
