"""A round of secure aggregation: many simulated clients, few holders.  Time, bytes and memory.

    python bench/secure_sum.py [clients] [parameters] [holders]

Local training is not in it: a client's update is made of noise.
"""

import resource
import sys
import time

import torch

from pysmpc.federated.aggregation import Collector, round_id, shares_of
from pysmpc.federated.updates import Terms


def main(clients=1000, parameters=1_000_000, holders=3):
    names = [f"client{i}" for i in range(clients)]
    terms = Terms({"weights": (parameters,)}, clients, max_norm=10.0)
    this = round_id("bench", time.time_ns())
    collectors = [Collector(f"holder{i}", terms.size, this, names, 2) for i in range(holders)]
    noise, expected = torch.randn(parameters) / 1000, torch.zeros(parameters, dtype=torch.float64)
    begun, sent, rows = time.perf_counter(), 0, 0
    for place, name in enumerate(names):
        update = {"weights": noise.roll(place)}
        count = 10 + place % 7
        for collector, part in zip(collectors, shares_of(terms.encoded(update, count), holders), strict=True):
            collector.receive(name, this, part)
            sent += len(part) if isinstance(part, bytes) else 8 * len(part)
    left = time.perf_counter()
    mean, rows = terms.mean(sum(collector.release(names) for collector in collectors))
    done = time.perf_counter()
    for place in range(clients):
        expected += noise.roll(place).double() * (10 + place % 7)
    error = float((mean["weights"] - expected / rows).abs().max())
    print(f"{clients} clients, {parameters} parameters, {holders} holders; processor {time.process_time():.1f} s")
    print(f"  clients leave their shares: {left - begun:.1f} s, {sent / clients / 1e6:.2f} MB each")
    print(f"  holders open the sum:       {done - left:.1f} s, {8 * terms.size * holders / 1e6:.1f} MB")
    print(f"  largest error {error:.2g}; at most {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3:.0f} MB")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
