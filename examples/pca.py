"""Principal components of data that two owners hold by columns, by power iteration on their covariance.

    python examples/pca.py

What is opened: the direction of the first component, and the share of the variance that it explains.
"""

import torch

import pysmpc as sy

ITEMS, FEATURES, STEPS = 200, 6, 8


def items():
    """Measurements that mostly follow one hidden number."""
    hidden = torch.randn(ITEMS, 1)
    return hidden @ (1 + torch.rand(1, FEATURES)) / 2 + 0.3 * torch.randn(ITEMS, FEATURES)


def first_component(x):
    """(The direction, the part of the variance that lies in it)."""
    centred = x - x.mean(0)
    covariance = centred.t() @ centred / len(x)
    direction = torch.ones(FEATURES, 1) / FEATURES**0.5
    for _ in range(STEPS):
        direction = covariance @ direction
        direction = direction * (direction**2).sum().rsqrt()
    along = (direction.t() @ covariance @ direction).squeeze()
    return direction.squeeze(1), along / covariance.diagonal().sum()


def main():
    parties = sy.virtual("alice", "bob")
    x = items()
    left, right = x.chunk(2, 1)
    mine = torch.cat([sy.encrypt(left, parties, owner="alice"), sy.encrypt(right, parties, owner="bob")], 1)
    secret = [sy.decrypt(each) for each in first_component(mine)]
    plain = first_component(x)
    for name, (direction, part) in (("secret", secret), ("plain torch", plain)):
        print(f"{name}: direction {[round(v, 4) for v in direction.tolist()]}, {100 * part:.2f} % of the variance")
    return torch.cat([secret[0], secret[1].reshape(1)]), torch.cat([plain[0], plain[1].reshape(1)])


if __name__ == "__main__":
    main()
