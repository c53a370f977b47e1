"""A training step of the article's network over a slow wire, beside the estimate of `sy.profile()`.

    python bench/latency.py [--one-way 0 0.0005 0.025] [--steps 5]     needs root (bench/hosts.py)

Every party is a process on a host of its own.  The first rows' network has no delay:
what the estimates for the others start from.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time

import torch
from hosts import Hosts, missing, tidy
from torch import nn
from torch.nn.functional import mse_loss

import pysmpc as sy
from pysmpc.api.profiling import Profile
from pysmpc.remote.local_workers import LocalWorkers

WORKERS = ("alice", "bob", "crypto_provider")
WARM = 4  # steps until TCP's windows are open


def measure(one_way: float, rate: float, steps: int, seen: bool) -> tuple[list[float], Profile]:
    """Seconds of steps, and a profile of one more.  seen: the loss of each is opened."""
    with Hosts([*WORKERS, "scientist"], one_way, rate) as hosts, hosts.at("scientist"):
        places = {name: f"{hosts.addresses[name]}:7000" for name in WORKERS}
        within = {name: hosts.inside(name) for name in WORKERS}
        with LocalWorkers(places=places, within=within) as workers, workers.connect() as parties:
            plain = nn.Sequential(
                nn.Flatten(), nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 10)
            )
            model = sy.encrypt(plain, parties)
            optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
            x, y = sy.encrypt(torch.randn(64, 784), parties), sy.encrypt(torch.randn(64, 10), parties)

            def step(opened: bool) -> None:
                optimizer.zero_grad()
                loss = mse_loss(model(x), y)
                loss.backward()
                optimizer.step()
                if opened:
                    sy.decrypt(loss.detach())

            for _ in range(WARM):
                step(True)
            found = []
            if seen:
                for _ in range(steps):
                    start = time.perf_counter()
                    step(True)
                    found.append(time.perf_counter() - start)
            else:
                parties.wait()
                start = time.perf_counter()
                for _ in range(steps):
                    step(False)
                parties.wait()
                found.append((time.perf_counter() - start) / steps)
            with sy.profile(show=False) as profile:
                step(seen)
                parties.wait()
            return found, profile


def main() -> int:
    """A table."""
    parser = argparse.ArgumentParser(description="Steps over a slow wire, beside the estimate.")
    parser.add_argument("--one-way", type=float, nargs="+", default=[0, 0.0005, 0.001, 0.025, 0.05], metavar="SECONDS")
    parser.add_argument("--rate", type=float, default=0.0, metavar="BYTES", help="a second, out of each host")
    parser.add_argument("--steps", type=int, default=6)
    arguments = parser.parse_args()
    tidy()
    if reason := missing():
        print(f"no hosts apart here: {reason}", file=sys.stderr)
        return 0
    print("one way ms   opened   rounds   kB sent   step ms: least   median   estimate")
    for seen in (True, False):
        _, near = measure(0.0, 0.0, arguments.steps, seen)
        for one_way in arguments.one_way:
            found, profile = measure(one_way, arguments.rate, arguments.steps, seen)
            assert profile.stats == near.stats
            guess = near.estimate(sy.Network(one_way, arguments.rate or float("inf")))
            figures = (1e3 * min(found), 1e3 * statistics.median(found), 1e3 * guess)
            print(
                f"{1e3 * one_way:>10g}{'yes' if seen else 'no':>9}{profile.stats.rounds:>9}"
                f"{profile.stats.sent / 1e3:>10.1f}{figures[0]:>17.1f}{figures[1]:>9.1f}{figures[2]:>11.1f}",
                flush=True,
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
