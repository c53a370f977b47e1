"""An LSTM that learns to tell a machine's failing sensor from its vibrations, on secret-shared series.

    python examples/lstm_sensors.py

The series are made here: waves, of which a failing one is faster and noisier.  Losses are opened, weights are not.
"""

import copy

import torch
from torch import nn
from torch.nn import functional as F

import pysmpc as sy

SERIES, LENGTH, STEPS = 24, 8, 8


def sensors():
    """(Series [items, time, 1], whether each fails)."""
    fails = torch.arange(SERIES) % 2
    time = torch.arange(LENGTH) * (0.5 + 0.6 * fails.unsqueeze(1)) + 6 * torch.rand(SERIES, 1)
    return (time.sin() + 0.2 * (1 + fails.unsqueeze(1)) * torch.randn(SERIES, LENGTH)).unsqueeze(2), fails.float()


class Watch(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm, self.head = nn.LSTM(1, 8, batch_first=True), nn.Linear(8, 1)

    def forward(self, x):
        out, _ = self.lstm(x)
        return self.head(out[:, -1]).squeeze(1)


def train(model, x, y):
    optimizer, losses = torch.optim.Adam(model.parameters(), lr=0.05), []
    for _ in range(STEPS):
        optimizer.zero_grad()
        loss = F.binary_cross_entropy_with_logits(model(x), y)
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
    return torch.stack(losses)


def main():
    parties, model, (x, y) = sy.virtual("alice", "bob"), Watch(), sensors()
    mine = sy.encrypt(x, parties, owner="alice"), sy.encrypt(y, parties, owner="bob")
    secret = sy.decrypt(train(sy.encrypt(copy.deepcopy(model), parties), *mine))
    plain = train(model, x, y)
    for name, found in (("secret", secret), ("plain torch", plain)):
        print(f"{name}: losses {[round(value, 4) for value in found.tolist()]}")
    return secret, plain


if __name__ == "__main__":
    main()
