"""A training step of the article's network by ranks: a loop as it is written, repeated and operation by operation.

    torchrun --nproc-per-node 3 bench/distributed_steps.py [--steps 120]

Blocks of steps of either in turn, every loss opened.  Each rank prints its own times.
"""

from __future__ import annotations

import argparse
import statistics
import time
from typing import Any

import torch
from models import mlp, squares

import pysmpc as sy

BLOCK = 20


def prepared(eager: bool) -> tuple[Any, ...]:
    """(parties, model, optimizer, x, y)."""
    parties = sy.distributed("alice", "bob", eager=eager)
    torch.manual_seed(1)
    hidden = sy.encrypt(mlp(128, 64), parties)
    x, y = (sy.encrypt(torch.rand(64, n), parties) for n in (784, 10))
    return parties, hidden, torch.optim.SGD(hidden.parameters(), lr=0.02), x, y


def run(steps: int) -> None:
    """Measure and print."""
    torch.set_num_threads(1)
    kinds = {"repeated": prepared(False), "operation by operation": prepared(True)}
    spent: dict[str, list[float]] = {name: [] for name in kinds}
    processor = dict.fromkeys(kinds, 0.0)
    for number in range(-1, max(1, steps // BLOCK)):  # the first block is not counted
        for name, (_, model, optimizer, x, y) in kinds.items():
            began = time.process_time()
            for _ in range(BLOCK):
                start = time.perf_counter()
                optimizer.zero_grad()
                loss = squares(model(x), y)
                loss.backward()
                optimizer.step()
                sy.decrypt(loss.detach())
                spent[name].append(time.perf_counter() - start)
            if number < 0:
                spent[name].clear()
            else:
                processor[name] += time.process_time() - began
    me, lines = kinds["repeated"][0].me, []
    for name, times in spent.items():
        each = 1e3 * statistics.median(times), 1e3 * min(times), 1e3 * processor[name] / len(times)
        lines.append(f"{me}, {name}: median %.1f ms, min %.1f ms, processor time %.1f ms a step" % each)
    one, other = (statistics.median(times) for times in spent.values())
    print(*lines, f"{me}: ratio of medians {other / one:.2f}", sep="\n", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=120)
    run(parser.parse_args().steps)
