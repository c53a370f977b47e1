"""`sy.estimate` beside measured steps: in one process, and over TLS with delays.

    python bench/estimates.py [--one-way 0 0.001 0.025] [--steps 20]     the delays need root (bench/hosts.py)

The article's network, 784-128-64-10, batches of 64, every loss opened.  Over TLS every party is a process in a network
namespace of its own, and all share this machine's cores, which the estimate is told.
"""

import argparse
import statistics
import sys
import time

import torch
from hosts import missing, tidy
from latency import article, measure
from torch.nn.functional import mse_loss

import pysmpc as sy
from pysmpc.api.estimating import cores


def here(steps):
    """Seconds of a step in one process."""
    parties = sy.virtual("alice", "bob")
    model = sy.encrypt(article(), parties)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    found = []
    for _ in range(steps + 1):
        x, y = sy.encrypt(torch.randn(64, 784), parties), sy.encrypt(torch.randn(64, 10), parties)
        start = time.perf_counter()
        optimizer.zero_grad()
        loss = mse_loss(model(x), y)
        loss.backward()
        optimizer.step()
        sy.decrypt(loss.detach())
        found.append(time.perf_counter() - start)
    return statistics.median(found[1:])


def guess(seconds):
    """The estimate of a step."""
    net = article()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
    return sy.estimate(
        net, (torch.randn(64, 784), torch.randn(64, 10)), loss=mse_loss, optimizer=optimizer, seconds=seconds
    )


def main():
    """Print a table."""
    parser = argparse.ArgumentParser(description="Estimates beside measured steps.")
    parser.add_argument("--one-way", type=float, nargs="*", default=[0, 0.001, 0.025], metavar="SECONDS")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--threads", type=int, default=1, help="in one process; workers have one each (default 1)")
    parser.add_argument("--seconds", type=float, default=3.0, help="that an estimate measures for (default 3)")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(f"{cores()} cores, {options.threads} threads\n{'where':20s} measured ms  estimate ms  ratio")

    def row(where, measured, estimated):
        print(f"{where:20s} {1e3 * measured:11.1f} {1e3 * estimated:12.1f} {estimated / measured:6.2f}", flush=True)

    for _ in range(2):
        row("one process", here(options.steps), guess(options.seconds).seconds)
    if options.one_way and (reason := missing()):
        print(f"no hosts apart here: {reason}", file=sys.stderr)
        return 0
    tidy()
    for one_way in options.one_way:
        estimated = guess(options.seconds)
        found, profile = measure(one_way, 0.0, options.steps, True)
        assert (profile.stats.rounds, profile.stats.sent) == (estimated.stats.rounds, estimated.stats.sent)
        network = sy.Network(one_way, float("inf"))
        row(f"TLS, {1e3 * one_way:g} ms", statistics.median(found), estimated.over(network, cores()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
