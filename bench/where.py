"""Where the time of a training step goes: kernels by name, and the Python between them by operation.

    python bench/where.py --model mlp --batch 64 --threads 1

Two holders, the provider and the owner of the data are this process.  A plain step is
timed before each secret one.  Kernels are timed by a stand-in for the door to them;
what an operation takes beyond its kernels and the operations it calls counts as Python,
torch's own part of it included.  All figures are medians.
"""

import argparse
import statistics
import sys
from collections import defaultdict
from pathlib import Path
from time import perf_counter

import torch

sys.path.insert(0, str(Path(__file__).parent))
from models import lenet, mlp, squares, step, vgg_block

import pysmpc as sy
from pysmpc.ring import (
    affine_kernels,
    comparison_kernels,
    fss_keys,
    integer_functions,
    odd_ring,
    prg,
    product_kernels,
    reopen_kernels,
    z2k,
    z2k_128,
)  # fmt: skip
from pysmpc.tensor.watching import WATCHERS

KERNELS = (
    z2k, integer_functions, product_kernels, affine_kernels, reopen_kernels, comparison_kernels, fss_keys, prg,
    odd_ring, z2k_128,
)  # fmt: skip


class Clock:
    """Seconds and calls by name, a list of steps; `total` of all kernels so far."""

    def __init__(self):
        self.total = 0.0
        self.now = defaultdict(lambda: [0, 0.0])
        self.steps = []

    def add(self, name, seconds):
        """One call more."""
        entry = self.now[name]
        entry[0] += 1
        entry[1] += seconds

    def cut(self):
        """A step ends."""
        self.steps.append(dict(self.now))
        self.now.clear()

    def rows(self):
        """(name, calls a step, median seconds a step), the longest first."""
        names = {name for each in self.steps for name in each}
        found = []
        for name in names:
            entries = [each.get(name, (0, 0.0)) for each in self.steps]
            found.append((name, statistics.median(e[0] for e in entries), statistics.median(e[1] for e in entries)))
        return sorted(found, key=lambda row: -row[2])


def timed(launch, clock):
    """In place of `z2k.launch`: the same, timed."""

    def call(kernel, *args):
        start = perf_counter()
        try:
            launch(kernel, *args)
        finally:
            seconds = perf_counter() - start
            clock.total += seconds
            clock.add(kernel.name, seconds)

    return call


class Watcher:
    """Of operations: what each takes beyond its kernels and the operations within it."""

    def __init__(self, kernels):
        self.kernels, self.clock, self.inner = kernels, Clock(), []

    def __call__(self, func, args, kwargs):
        start, before = perf_counter(), self.kernels.total
        self.inner.append(0.0)

        def done(_):
            here = perf_counter() - start - (self.kernels.total - before)
            self.clock.add(str(func), here - self.inner.pop())
            if self.inner:
                self.inner[-1] += here

        return done


def table(title, rows, most):
    """The first rows, and the sum of the rest."""
    print(f"\n{title:<34}{'calls':>8}{'us':>10}")
    rest = rows[most:]
    for name, calls, seconds in rows[:most]:
        print(f"{name:<34}{calls:>8.0f}{1e6 * seconds:>10.0f}")
    if rest:
        print(f"{f'{len(rest)} others':<34}{sum(r[1] for r in rest):>8.0f}{1e6 * sum(r[2] for r in rest):>10.0f}")


def example(name, batch):
    """A network, its input and target, its loss and a rate of learning."""
    if name == "vgg":
        gradient = torch.randn(batch, 128, 16, 16) / 128
        return vgg_block(), torch.randn(batch, 3, 64, 64), torch.zeros(1), lambda out, _: (out * gradient).sum(), 0.001
    plain, shape = (mlp(128, 64), (784,)) if name == "mlp" else (lenet(), (1, 28, 28))
    y = torch.nn.functional.one_hot(torch.randint(10, (batch,)), 10).float()
    return plain, torch.randn(batch, *shape), y, squares, 0.02


def main(arguments=None):
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", choices=["mlp", "lenet", "vgg"], default="mlp")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--integrity", choices=["mac"], help="of the secret steps")
    parser.add_argument("--most", type=int, default=16, help="rows of each table")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    parties = sy.virtual("alice", "bob", integrity=options.integrity, eager=True)  # operation by operation
    plain, x, y, loss, rate = example(options.model, options.batch)
    secret, secret_x, secret_y = (sy.encrypt(each, parties) for each in (plain, x, y))
    slow = torch.optim.SGD(secret.parameters(), lr=rate)
    fast = torch.optim.SGD(plain.parameters(), lr=rate)
    step(secret, slow, secret_x, secret_y, loss)
    step(secret, slow, secret_x, secret_y, loss)

    def run(count, after):
        times = []
        for _ in range(count):
            start = perf_counter()
            step(plain, fast, x, y, loss)
            middle = perf_counter()
            step(secret, slow, secret_x, secret_y, loss)
            times.append((perf_counter() - middle, middle - start))
            after()
        return [statistics.median(column) for column in zip(*times, strict=True)]

    here, there = run(options.steps, lambda: None)
    kernels = Clock()
    for module in KERNELS:
        module.launch = timed(module.launch, kernels)
    run(options.steps, kernels.cut)
    watcher = Watcher(kernels)
    WATCHERS.append(watcher)
    run(options.steps, watcher.clock.cut)

    inside = sum(row[2] for row in kernels.rows())
    print(f"{options.model}, batch {options.batch}, {options.threads} threads, target {z2k.target()}")
    print(f"a step {1e3 * here:.2f} ms, plain {1e3 * there:.2f} ms: {here / there:.1f} times")
    print(f"kernels {1e3 * inside:.2f} ms, the rest {1e3 * (here - inside):.2f} ms")
    table("kernel", kernels.rows(), options.most)
    table("Python of an operation", watcher.clock.rows(), options.most)


if __name__ == "__main__":
    main()
