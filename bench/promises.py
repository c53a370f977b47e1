"""A square for ReLU, and a public model: rounds, bytes and time of a training step beside those of the secret model
with ReLU.

    python bench/promises.py [--steps 40] [--items 64] [--threads 1]

The demo's network 784-128-64-10, its squared error and SGD, two holders and the provider in one process.  Steps take
turns in one run, so that a ratio does not depend on the machine's speed; no loss is opened.  A public model opens its
gradients in every step (docs/training.md).
"""

import argparse
import statistics
import sys
import time

import torch

import pysmpc as sy
from pysmpc.demo.models import Net, squared_error
from pysmpc.tensor.storage import flush


def repeated(parties, options, activation):
    """A secret model's step, recorded and repeated."""
    model = sy.encrypt(Net(activation), parties, **options)
    return sy.TrainStep(model, torch.optim.SGD(model.parameters(), lr=0.02), squared_error)


def public(parties, options):
    """A public model's step, which opens gradients."""
    model = Net()
    parameters = list(model.parameters())
    optimizer = torch.optim.SGD(parameters, lr=0.02)

    def step(x, y):
        optimizer.zero_grad()
        squared_error(model(x), y).backward()
        for parameter, grad in zip(parameters, sy.decrypt([p.grad for p in parameters]), strict=True):
            parameter.grad = grad
        optimizer.step()

    return step


def written(parties, options, activation):
    """A secret model's step, operation by operation."""
    model = sy.encrypt(Net(activation), parties, **options)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02)

    def step(x, y):
        optimizer.zero_grad()
        squared_error(model(x), y).backward()
        optimizer.step()

    return step


STEPS = {
    "ReLU, repeated": lambda parties, options: repeated(parties, options, "relu"),
    "square, repeated": lambda parties, options: repeated(parties, options, "square"),
    "ReLU, as written": lambda parties, options: written(parties, options, "relu"),
    "square, as written": lambda parties, options: written(parties, options, "square"),
    "public, as written": public,
}


ENCODINGS = {"16 fractional bits": {"frac_bits": 16}, "3 digits": {"base": 10, "precision_fractional": 3}}


def measure(options, items, steps):
    """{name: (cost, [seconds of processor time])} of a step, each on a session of its own, with its update."""
    made = {}
    for name, make in STEPS.items():
        parties = sy.virtual("alice", "bob", eager=True)
        made[name] = parties, make(parties, options)
    cost, seconds = {}, {name: [] for name in made}
    for turn in range(-6, steps):
        x, y = torch.rand(items, 28, 28), torch.nn.functional.one_hot(torch.randint(10, (items,)), 10).float()
        for name, (parties, step) in made.items():
            secret_x, secret_y = sy.encrypt(x, parties, **options), sy.encrypt(y, parties, **options)
            before, start = parties.stats.copy(), time.process_time()
            step(secret_x, secret_y)
            flush(parties.session)
            taken = time.process_time() - start
            if turn >= 0:
                seconds[name].append(taken)
                cost[name] = parties.stats - before
    return {name: (cost[name], seconds[name]) for name in made}


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=40, help="of each (default 40)")
    parser.add_argument("--items", type=int, default=64, help="of a batch (default 64)")
    parser.add_argument("--threads", type=int, default=1, help="of torch and kernels (default 1)")
    options = parser.parse_args(argv)
    torch.set_num_threads(options.threads)
    for title, encoding in ENCODINGS.items():
        rows = measure(encoding, options.items, options.steps)
        print(f"{title:20s} rounds  sent MB dealt MB  least ms  median  ratio")
        for name, (cost, taken) in rows.items():
            base = rows[f"ReLU, {name.partition(', ')[2]}"][1]
            ratio = statistics.median(own / other for own, other in zip(taken, base, strict=True))
            times = f"{1e3 * min(taken):9.2f} {1e3 * statistics.median(taken):7.2f} {ratio:6.2f}"
            print(f"{name:20s} {cost.rounds:6d} {cost.sent / 1e6:8.2f} {cost.dealt / 1e6:8.2f} {times}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
