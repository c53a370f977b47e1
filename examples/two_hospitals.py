"""Logistic regression on the patients of two hospitals: python examples/two_hospitals.py

Both hospitals and the crypto provider are in this process; with sy.connect("parties.toml") in the place of
sy.virtual(...) each is where its data are.
"""

import torch
from torch import nn
from torch.nn import functional as F

import pysmpc as sy

patients = torch.randn(200, 5)
ill = (patients @ torch.tensor([1.5, -1.0, 0.5, 0.0, 2.0]) > 0).float()

parties = sy.virtual("hospital_a", "hospital_b", provider="ministry")
x = torch.cat(
    [
        sy.encrypt(patients[:100], parties, owner="hospital_a"),
        sy.encrypt(patients[100:], parties, owner="hospital_b"),
    ]
)
y = torch.cat([sy.encrypt(ill[:100], parties, owner="hospital_a"), sy.encrypt(ill[100:], parties, owner="hospital_b")])

model = sy.encrypt(nn.Linear(5, 1), parties)
optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
for epoch in range(20):
    optimizer.zero_grad()
    loss = F.binary_cross_entropy_with_logits(model(x).squeeze(1), y)
    loss.backward()
    optimizer.step()
    if epoch % 5 == 4:
        print(f"epoch {epoch + 1}: loss {sy.decrypt(loss):.3f}")

with torch.no_grad():
    right = ((model(x).squeeze(1) > 0) == (y > 0.5)).sum()
print(f"right: {sy.decrypt(right)} of {len(patients)}; {parties.stats.rounds} rounds")
