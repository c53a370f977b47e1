"""A private model answers a private question: python examples/private_prediction.py"""

import torch
from torch import nn

import pysmpc as sy

network = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3)).eval()
question = torch.randn(1, 8)

parties = sy.virtual("company", "client")
service = sy.encrypt(network, parties, owner="company")
asked = sy.encrypt(question, parties, owner="client")
before = parties.stats.copy()
with torch.no_grad():
    answer = service(asked).argmax(1)
print(f"answer {sy.decrypt(answer).item()}, in plain torch {network(question).argmax(1).item()}")
print(f"{(parties.stats - before).rounds} rounds, {(parties.stats - before).sent} bytes sent by each")
