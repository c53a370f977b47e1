"""A training step of the article's network by four processes over mutual TLS, beside plain torch.

    python bench/remote.py [--steps 200] [--as-written] [--closed | --rarely] [--free]

Blocks of 20 steps of either in turn, each until all workers are done; medians of blocks.
Processor time of each process a step, where /proc tells.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable, Mapping

import torch
from models import mlp, squares
from models import step as train

import pysmpc as sy
from pysmpc.remote.local_workers import LocalWorkers

BLOCK = 20  # steps of either at a time
BATCHES = 4  # of one epoch: opened under their masks from the second on


def processor(processes: Mapping[str, int]) -> dict[str, float]:
    """Seconds of processor time of each process so far."""
    tick, found = os.sysconf("SC_CLK_TCK"), {}
    for name, number in processes.items():
        try:
            with open(f"/proc/{number}/stat") as stat:
                fields = stat.read().rsplit(")", 1)[1].split()
        except OSError:
            return {}
        found[name] = (int(fields[11]) + int(fields[12])) / tick
    return found


def pin(processes: Mapping[str, int]) -> None:
    """Holders to cores of their own, so that the system does not put both on one."""
    cores = sorted(os.sched_getaffinity(0))
    for core, number in zip(cores, list(processes.values())[:-1], strict=False):
        for task in os.listdir(f"/proc/{number}/task"):
            os.sched_setaffinity(int(task), {core})


def run(steps: int, as_written: bool, closed: bool, free: bool, rarely: bool) -> None:
    """Measure and print."""
    torch.set_num_threads(1)
    with LocalWorkers() as workers, workers.connect() as parties:
        plain = mlp(128, 64)
        model = sy.encrypt(plain, parties)
        data = [(torch.randn(64, 784), torch.randn(64, 10)) for _ in range(BATCHES)]
        hidden = [(sy.encrypt(x, parties), sy.encrypt(y, parties)) for x, y in data]
        theirs = torch.optim.SGD(plain.parameters(), lr=0.02)
        ours = sy.TrainStep(model, torch.optim.SGD(model.parameters(), lr=0.02), squares)

        def loop(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            return ours._plainly(x, y)

        step: Callable[..., torch.Tensor] = loop if as_written else ours

        def remote(turns: range) -> None:
            for turn in turns:
                loss = step(*hidden[turn % BATCHES])
                if closed:
                    parties.wait()
                elif not rarely or turn == turns[-1]:
                    sy.decrypt(loss)
            parties.wait()  # a loss is opened while the rest of its step is done

        def local(turns: range) -> None:
            for turn in turns:
                x, y = data[turn % BATCHES]
                train(plain, theirs, x, y)

        if not free:
            pin({name: p.pid for name, p in workers.processes.items()})
        for work in remote, local:
            work(range(4 * BATCHES))
        processes = {"driver": os.getpid()} | {name: p.pid for name, p in workers.processes.items()}
        before, stats, times = processor(processes), parties.stats.copy(), ([], [])
        rest = 0.0  # processor time of the plain steps
        for block in range(0, steps, BLOCK):
            for work, found in zip((remote, local), times, strict=True):
                used, start = time.process_time(), time.perf_counter()
                work(range(block, block + BLOCK))
                found.append((time.perf_counter() - start) / BLOCK)
                rest += time.process_time() - used if work is local else 0.0
        after, spent = processor(processes), parties.stats - stats
        mine, other = (1e3 * statistics.median(found) for found in times)
        how = "as written" if as_written else "repeated" if ours.repeats else f"not repeated: {ours.reason}"
        opened = f"opened every {BLOCK} steps" if rarely else "closed" if closed else "opened"
        print(f"{steps} steps, {how}, loss {opened}; torch on one thread")
        print(f"a step {mine:.2f} ms (least {1e3 * min(times[0]):.2f}), plain {other:.2f} ms: {mine / other:.1f} times")
        print(f"{spent.rounds / steps:.0f} rounds, {spent.sent / steps / 1e6:.2f} MB sent by a holder, "
              f"{spent.dealt / steps / 1e6:.2f} MB dealt")  # fmt: skip
        if before:
            before["driver"] += rest
            used = {name: 1e3 * (after[name] - before[name]) / steps for name in before}
            print("processor ms a step: " + ", ".join(f"{name} {each:.1f}" for name, each in used.items()))


def main() -> int:
    """Options, then `run`."""
    parser = argparse.ArgumentParser(description="A training step by four processes beside plain torch.")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--as-written", action="store_true", help="do not repeat recorded steps")
    parser.add_argument("--closed", action="store_true", help="do not open the loss; wait for the workers")
    parser.add_argument("--rarely", action="store_true", help="open the loss of every 20th step only")
    parser.add_argument("--free", action="store_true", help="let the system place the processes, holders too")
    arguments = parser.parse_args()
    run(arguments.steps, arguments.as_written, arguments.closed, arguments.free, arguments.rarely)
    return 0


if __name__ == "__main__":
    sys.exit(main())
