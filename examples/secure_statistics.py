"""Statistics of salaries that three companies keep to themselves: the numbers below are opened, and no salary is.

python examples/secure_statistics.py
"""

import torch

import pysmpc as sy

OWNERS = ("alice", "bob", "carol")


def salaries():
    """Of each company, in thousands, and the years that each employee has been there."""
    found = []
    for place in range(len(OWNERS)):
        years = torch.randint(0, 30, (20,)).float()
        found.append(torch.stack([30 + 5 * place + 0.8 * years + 4 * torch.randn(20), years], 1))
    return found


def numbers(x):
    """Mean, deviation, median, the highest decile, the correlation with years, and how many earn more than 50."""
    pay, years = x[:, 0], x[:, 1]
    a, b = pay - pay.mean(), years - years.mean()
    correlation = (a * b).mean() * (a**2).mean().rsqrt() * (b**2).mean().rsqrt()
    return {
        "mean": pay.mean(),
        "deviation": pay.std(),
        "median": pay.median(),
        "highest decile": pay.sort().values[54],
        "correlation": correlation,
        "above 50": (pay > 50).sum(),
    }


def main():
    parties, parts = sy.virtual(*OWNERS), salaries()
    mine = torch.cat([sy.encrypt(part, parties, owner=owner) for part, owner in zip(parts, OWNERS, strict=True)])
    secret = {name: sy.decrypt(value) for name, value in numbers(mine).items()}
    plain = numbers(torch.cat(parts))
    for name, value in plain.items():
        print(f"{name}: secret {secret[name]:.3f}, plain torch {value:.3f}")
    return torch.tensor([float(v) for v in secret.values()]), torch.tensor([float(v) for v in plain.values()])


if __name__ == "__main__":
    main()
