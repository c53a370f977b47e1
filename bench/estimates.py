"""`sy.estimate` beside measured steps: in one process, and over TLS with delays.

    python bench/estimates.py [--one-way 0 0.001 0.025] [--steps 20]     the delays need root (bench/hosts.py)

The article's network, 784-128-64-10, batches of 64, every one shared anew before its step, every loss opened.  Over TLS
every party is a process in a network namespace of its own, and all share this machine's cores, which the estimate is
told.  Estimates and measurements take turns; figures are medians.
"""

import argparse
import statistics
import sys
import time
from contextlib import contextmanager

import torch
from hosts import Hosts, missing, tidy
from torch import nn
from torch.nn.functional import mse_loss

import pysmpc as sy
from pysmpc.api.estimating import cores
from pysmpc.remote.local_workers import LocalWorkers

WORKERS = ("alice", "bob", "crypto_provider")
WARM = 4  # steps until TCP's windows are open


def article():
    """The article's network."""
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 10))


class Loop:
    """Training on some parties, step by step; one to begin with."""

    def __init__(self, parties, warm=1):
        self.parties, self.model = parties, sy.encrypt(article(), parties)
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.01)
        for _ in range(warm):
            self.step()

    def step(self):
        """Its seconds, and what it cost."""
        x, y = (sy.encrypt(torch.randn(64, size), self.parties) for size in (784, 10))
        if hasattr(self.parties, "wait"):
            self.parties.wait()
        before, start = self.parties.stats.copy(), time.perf_counter()
        self.optimizer.zero_grad()
        loss = mse_loss(self.model(x), y)
        loss.backward()
        self.optimizer.step()
        sy.decrypt(loss.detach())
        return time.perf_counter() - start, self.parties.stats - before


@contextmanager
def apart(one_way):
    """Parties in processes, each on a host of its own."""
    with Hosts([*WORKERS, "scientist"], one_way) as hosts, hosts.at("scientist"):
        places = {name: f"{hosts.addresses[name]}:7000" for name in WORKERS}
        within = {name: hosts.inside(name) for name in WORKERS}
        with LocalWorkers(places=places, within=within) as workers, workers.connect() as parties:
            yield parties


def guess(seconds):
    """The estimate of a step."""
    net, example = article(), (torch.randn(64, 784), torch.randn(64, 10))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
    return sy.estimate(net, example, loss=mse_loss, optimizer=optimizer, seconds=seconds)


def row(where, loop, options, network=None):
    """Measure and estimate in turn, and print."""
    measured, estimated, taken = [], [], []
    for _ in range(options.turns):
        for _ in range(options.steps):
            seconds, spent = loop.step()
            measured.append(seconds)
        start = time.perf_counter()
        found = guess(options.seconds)
        taken.append(time.perf_counter() - start)
        estimated.append(found.seconds if network is None else found.over(network, cores()))
    consent = 0 if network is None else 1  # of holders apart, to the opening of a loss
    assert spent.rounds == found.stats.rounds + consent
    assert spent.sent == found.stats.sent + 8 * consent
    a, b = (1e3 * statistics.median(each) for each in (measured, estimated))
    print(f"{where:20s} {a:11.1f} {b:12.1f} {b / a:6.2f} {statistics.median(taken):8.1f}", flush=True)
    if options.parts:
        print(found.work, found.wire, flush=True)


def main():
    """Print a table."""
    parser = argparse.ArgumentParser(description="Estimates beside measured steps.")
    parser.add_argument("--one-way", type=float, nargs="*", default=[0, 0.001, 0.025], metavar="SECONDS")
    parser.add_argument("--steps", type=int, default=10, help="of a turn (default 10)")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1, help="in one process; workers have one each (default 1)")
    parser.add_argument("--seconds", type=float, default=1.0, help="that an estimate measures for (default 1)")
    parser.add_argument("--parts", action="store_true", help="print what an estimate is made of, too")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(f"{cores()} cores, {options.threads} threads\n{'where':20s} measured ms  estimate ms  ratio  it took s")
    row("one process", Loop(sy.virtual("alice", "bob")), options)
    if options.one_way and (reason := missing()):
        print(f"no hosts apart here: {reason}", file=sys.stderr)
        return 0
    tidy()
    for one_way in options.one_way:
        with apart(one_way) as parties:
            row(f"TLS, {1e3 * one_way:g} ms", Loop(parties, WARM), options, sy.Network(one_way, float("inf")))
    return 0


if __name__ == "__main__":
    sys.exit(main())
