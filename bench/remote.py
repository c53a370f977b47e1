"""A training step of the article's network by four processes over mutual TLS, beside plain torch: a loop as it is
written, the same by `sy.TrainStep`, and the same sent operation by operation.

    python bench/remote.py [--steps 200] [--closed | --rarely] [--free]

Blocks of 20 steps of each in turn, each until all workers are done; medians of blocks.
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
from pysmpc.program.loop import LOOPS
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


def run(steps: int, closed: bool, free: bool, rarely: bool) -> None:
    """Measure and print."""
    torch.set_num_threads(1)
    with LocalWorkers() as workers, workers.connect() as parties:
        plain = mlp(128, 64)
        data = [(torch.randn(64, 784), torch.randn(64, 10)) for _ in range(BATCHES)]
        hidden = [(sy.encrypt(x, parties), sy.encrypt(y, parties)) for x, y in data]
        theirs = torch.optim.SGD(plain.parameters(), lr=0.02)

        def local(turns: range) -> None:
            for turn in turns:
                x, y = data[turn % BATCHES]
                train(plain, theirs, x, y)

        def remote(recorded: bool, followed: bool) -> Callable[[range], None]:
            model = sy.encrypt(plain, parties)
            optimizer = torch.optim.SGD(model.parameters(), lr=0.02)
            step = sy.TrainStep(model, optimizer, squares)

            def loop(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
                optimizer.zero_grad()
                loss = squares(model(x), y)
                loss.backward()
                optimizer.step()
                return loss.detach()

            def work(turns: range) -> None:
                LOOPS.stop()
                LOOPS.enabled = followed
                for turn in turns:
                    loss = (step if recorded else loop)(*hidden[turn % BATCHES])
                    if closed:
                        parties.wait()
                    elif not rarely or turn == turns[-1]:
                        sy.decrypt(loss)
                parties.wait()  # a loss is opened while the rest of its step is done

            return work

        ways = {"plain torch": local, "as written": remote(False, True), "TrainStep": remote(True, True),
                "by operation": remote(False, False)}  # fmt: skip
        if not free:
            pin({name: p.pid for name, p in workers.processes.items()})
        for work in ways.values():
            work(range(4 * BATCHES))
        processes = {"driver": os.getpid()} | {name: p.pid for name, p in workers.processes.items()}
        times: dict[str, list[float]] = {name: [] for name in ways}
        costs: dict[str, list[float]] = {name: [0.0] * 5 for name in ways}
        used: dict[str, dict[str, float]] = {name: dict.fromkeys(processes, 0.0) for name in ways}
        for block in range(0, steps, BLOCK):
            for name, work in ways.items():
                before, stats, told = processor(processes), parties.stats.copy(), (parties.link._next, parties.traffic)
                start = time.perf_counter()
                work(range(block, block + BLOCK))
                times[name].append((time.perf_counter() - start) / BLOCK)
                spent, after = parties.stats - stats, processor(processes)
                said = parties.link._next - told[0], parties.traffic[0] - told[1][0]
                costs[name] = [
                    a + b for a, b in zip(costs[name], (spent.rounds, spent.sent, spent.dealt, *said), strict=True)
                ]
                for each in after:
                    used[name][each] += after[each] - before[each]
        opened = f"opened every {BLOCK} steps" if rarely else "closed" if closed else "opened"
        print(f"{steps} steps of each in turn, loss {opened}; one thread a process")
        least = statistics.median(times["plain torch"])
        for name, found in times.items():
            rounds, sent, dealt, messages, told_bytes = (each / steps for each in costs[name])
            print(f"{name:12} {1e3 * statistics.median(found):7.2f} ms a step (least {1e3 * min(found):.2f}), "
                  f"{statistics.median(found) / least:.1f} times plain torch; {rounds:.0f} rounds, {sent / 1e6:.2f} MB "
                  f"sent by a holder, {dealt / 1e6:.2f} MB dealt; the driver sends {messages:.1f} operations, "
                  f"{told_bytes:.0f} bytes")  # fmt: skip
            each = ", ".join(f"{who} {1e3 * spent / steps:.1f}" for who, spent in used[name].items())
            print(f"{'':12} processor ms a step: {each}")


def main() -> int:
    """Options, then `run`."""
    parser = argparse.ArgumentParser(description="A training step by four processes beside plain torch.")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--closed", action="store_true", help="do not open the loss; wait for the workers")
    parser.add_argument("--rarely", action="store_true", help="open the loss of every 20th step only")
    parser.add_argument("--free", action="store_true", help="let the system place the processes, holders too")
    arguments = parser.parse_args()
    run(arguments.steps, arguments.closed, arguments.free, arguments.rarely)
    return 0


if __name__ == "__main__":
    sys.exit(main())
