"""k-means of points that two owners hold: which points belong together, and nobody sees a point.

    python examples/k_means.py

Distances, the nearest centre of each point and the new centres are secret; the centres are opened in the end.
"""

import torch
from torch.nn import functional as F

import pysmpc as sy

CENTRES, ROUNDS = 3, 5


def points():
    """Three clouds in the plane."""
    middles = torch.tensor([[-2.0, 0.0], [2.0, 0.5], [0.0, 3.0]])
    return (middles.repeat_interleave(30, 0) + 0.4 * torch.randn(90, 2))[torch.randperm(90)]


def k_means(x, centres):
    """Lloyd's steps; an empty cluster would count as one of a single point at 0."""
    for _ in range(ROUNDS):
        distances = ((x.unsqueeze(1) - centres.unsqueeze(0)) ** 2).sum(2)
        nearest = F.one_hot(distances.argmin(1), CENTRES).float()
        counts = nearest.sum(0).clamp(min=1)
        centres = (nearest.t() @ x) / counts.unsqueeze(1)
    return centres


def main():
    parties = sy.virtual("alice", "bob")
    x = points()
    start = x[:CENTRES].clone()
    mine = torch.cat([sy.encrypt(part, parties, owner=o) for part, o in zip(x.chunk(2), ("alice", "bob"), strict=True)])
    secret = sy.decrypt(k_means(mine, mine[:CENTRES]))
    plain = k_means(x, start)
    for name, found in (("secret", secret), ("plain torch", plain)):
        print(f"{name}: centres {[[round(value, 3) for value in row] for row in found.tolist()]}")
    return secret, plain


if __name__ == "__main__":
    main()
