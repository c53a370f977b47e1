"""A transformer that classifies secret sequences of tokens: does a sequence have more even or more odd tokens?

    python examples/transformer.py

Tokens are secret: each is looked up by a product with its one-hot vector.  Losses are opened, weights are not.
"""

import copy

import torch
from torch import nn
from torch.nn import functional as F

import pysmpc as sy

VOCABULARY, LENGTH, ITEMS, STEPS = 10, 5, 12, 4


class Classifier(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, 16)
        self.positions = nn.Parameter(0.1 * torch.randn(LENGTH, 16))
        layer = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.0, batch_first=True, norm_first=True)
        self.encoder = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)
        self.head = nn.Linear(16, 2)

    def forward(self, tokens):
        return self.head(self.encoder(self.embedding(tokens) + self.positions).mean(1))


def train(model, tokens, classes):
    optimizer, losses = torch.optim.Adam(model.parameters(), lr=0.01), []
    for _ in range(STEPS):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(tokens), classes)
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
    return torch.stack(losses)


def main():
    parties, model = sy.virtual("alice", "bob"), Classifier()
    tokens = torch.randint(VOCABULARY, (ITEMS, LENGTH))
    classes = ((tokens % 2).sum(1) > LENGTH // 2).long()
    mine = sy.encrypt(tokens, parties, owner="alice"), sy.encrypt(classes, parties, owner="bob")
    secret = sy.decrypt(train(sy.encrypt(copy.deepcopy(model), parties), *mine))
    plain = train(model, tokens, classes)
    for name, found in (("secret", secret), ("plain torch", plain)):
        print(f"{name}: losses {[round(value, 4) for value in found.tolist()]}")
    return secret, plain


if __name__ == "__main__":
    main()
