"""Nonlinear functions of 2^14 secret elements: time, rounds, bytes, and the worst error, as a Markdown table.

    python bench/functions.py [--elements 16384] [--threads 1] [--repeats 15] [-k softmax]

Two holders, the provider and the owner of the data are this process.  Each run takes a fresh secret, which is
shared before the clock starts, and times plain torch in float32 right before; figures are medians.  Bytes are
those of an element, to the other holder and from the provider.  Errors are against float64 at the decoded
arguments, in steps of 2^-16, beside 2^-16 of the result.
"""

import argparse
import statistics
from time import perf_counter

import torch
from torch.nn import functional as F

import pysmpc as sy

#: name: (function, least and largest argument, sizes of a row or None)
FUNCTIONS = {
    "sigmoid": (torch.sigmoid, -40, 40, None),
    "tanh": (torch.tanh, -40, 40, None),
    "erf": (torch.erf, -10, 10, None),
    "gelu": (F.gelu, -40, 40, None),
    "silu": (F.silu, -40, 40, None),
    "mish": (F.mish, -40, 40, None),
    "softplus": (F.softplus, -40, 40, None),
    "logsigmoid": (F.logsigmoid, -40, 40, None),
    "sin": (torch.sin, -100, 100, None),
    "cos": (torch.cos, -100, 100, None),
    "exp": (torch.exp, -8, 8, None),
    "exp2": (torch.exp2, -8, 8, None),
    "log": (torch.log, 1e-4, 1e4, None),
    "log2": (torch.log2, 1e-4, 1e4, None),
    "sqrt": (torch.sqrt, 1e-4, 1e4, None),
    "rsqrt": (torch.rsqrt, 1e-4, 1e4, None),
    "torch.reciprocal": (torch.reciprocal, 0.01, 1000, None),
    "1 / x": (lambda x: 1 / x, 0.01, 1000, None),
    "x ** 1.5": (lambda x: x**1.5, 0.01, 100, None),
    "1.5 ** x": (lambda x: 1.5**x, -8, 8, None),
    "softmax of 10": (lambda x: torch.softmax(x, 1), -8, 8, 10),
    "softmax of 1000": (lambda x: torch.softmax(x, 1), -8, 8, 1000),
    "log_softmax of 10": (lambda x: torch.log_softmax(x, 1), -8, 8, 10),
    "logsumexp of 10": (lambda x: torch.logsumexp(x, 1), -8, 8, 10),
}


def seconds(fn, x):
    start = perf_counter()
    out = fn(x)
    return perf_counter() - start, out


def arguments(low, high, n, row):
    """Uniform, or of every magnitude where the range is positive."""
    shape = (n,) if row is None else (max(1, n // row), row)
    if low > 0:
        return low * (high / low) ** torch.rand(shape)
    return low + (high - low) * torch.rand(shape)


def measure(fn, low, high, row, n, repeats):
    """A line of the table."""
    parties = sy.virtual("alice", "bob")
    plain, secret, worst = [], [], 0.0
    for turn in range(repeats + 2):  # two to warm up
        values = arguments(low, high, n, row)
        x = sy.encrypt(values, parties)
        twin = sy.decrypt(x).double()
        before = parties.stats.copy()
        a, _ = seconds(fn, values)
        b, out = seconds(fn, x)
        cost = (parties.stats - before).cost
        if turn >= 2:
            plain.append(a)
            secret.append(b)
        expected = fn(twin)
        error = (sy.decrypt(out).double() - expected).abs() - 2.0**-16 * expected.abs()
        worst = max(worst, float(error.max()) * 2**16)
    count = values.numel()
    a, b = statistics.median(plain), statistics.median(secret)
    return cost.rounds, cost.sent / count, cost.dealt / count, 1e3 * b, b / a, worst


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--elements", type=int, default=1 << 14)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("-k", default="", help="only functions in whose name this is found")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print("| function | arguments | rounds | bytes sent | dealt | ms | times plain torch | worst error, steps |")
    print("|---|---|---|---|---|---|---|---|")
    for name, (fn, low, high, row) in FUNCTIONS.items():
        if options.k in name:
            rounds, sent, dealt, ms, ratio, worst = measure(fn, low, high, row, options.elements, options.repeats)
            print(
                f"| {name} | {low:g} to {high:g} | {rounds} | {sent:.1f} | {dealt:.0f} | {ms:.1f} | {ratio:.0f} "
                f"| {worst:.2f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
