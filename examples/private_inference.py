"""A client asks a company for a prediction: the company does not see the client's values, the client not the model.

    python examples/private_inference.py

The model is shared by its owner, the row by the client; only the class is opened, and to the client alone.
"""

import torch
from torch import nn

import pysmpc as sy

FEATURES, CLASSES = 12, 4


def trained():
    """The company's model; where it comes from is its own affair."""
    x = torch.randn(500, FEATURES)
    y = (x @ torch.randn(FEATURES, CLASSES)).argmax(1)
    model = nn.Sequential(nn.Linear(FEATURES, 32), nn.GELU(), nn.Linear(32, CLASSES))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(40):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
    return model.eval()


def main():
    parties = sy.virtual("client", "company")
    model, rows = trained(), torch.randn(20, FEATURES)
    with torch.no_grad():
        hidden = sy.encrypt(model, parties, owner="company")
        logits = hidden(sy.encrypt(rows, parties, owner="client"))
        secret = sy.decrypt(logits.argmax(1), to="client").fetch()  # as the client does it
        plain = model(rows)
    sure = plain.topk(2).values.diff().abs().squeeze(1) > 0.01
    print(f"secret:      {secret.tolist()}\nplain torch: {plain.argmax(1).tolist()}")
    return secret[sure], plain.argmax(1)[sure]


if __name__ == "__main__":
    main()
