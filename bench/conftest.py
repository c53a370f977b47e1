"""Benchmarks run beside plaintext torch, in the same process and on the same threads.

`beside(secure, plain)` times the secure function with pytest-benchmark and the plain one
right after it; the closing table has both medians and their ratio.  PYSMPC_BENCH_THREADS
sets the threads of both (default 1).
"""

import os
import statistics
import time

import pytest
import torch

import pysmpc as sy
from pysmpc import ring

ROWS = []


@pytest.fixture(scope="session", autouse=True)
def threads():
    torch.set_num_threads(int(os.environ.get("PYSMPC_BENCH_THREADS", "1")))


@pytest.fixture(scope="session")
def parties():
    return sy.virtual("alice", "bob")


@pytest.fixture
def beside(request, benchmark):
    """beside(secure, plain, parties): time both, and count what one secure call sends."""

    def run(secure, plain, parties=None, elements=None):
        before = parties.stats.copy() if parties else None
        secure()
        spent = parties.stats - before if parties else None
        benchmark.pedantic(secure, rounds=15, iterations=1, warmup_rounds=2)
        times = []
        for _ in range(15):
            start = time.perf_counter()
            plain()
            times.append(time.perf_counter() - start)
        own, other = benchmark.stats.stats.median, statistics.median(times)
        benchmark.extra_info.update(plain_seconds=other, ratio=own / other)
        if spent:
            benchmark.extra_info.update(rounds=spent.rounds, sent=spent.sent, dealt=spent.dealt)
        ROWS.append((request.node.name, own, other, elements, spent))

    return run


def pytest_terminal_summary(terminalreporter):
    write = terminalreporter.write_line
    write("")
    write(f"target {ring.target()}, {torch.get_num_threads()} thread(s), 2 holders and the provider in one process")
    heads = zip(
        ("secure ms", "plain ms", "ratio", "ns/el", "rounds", "MB sent", "MB dealt"),
        (10, 10, 8, 8, 8, 9, 9),
        strict=True,
    )
    write(" " * 34 + "".join(f"{head:>{width}s}" for head, width in heads))
    for name, own, other, elements, spent in ROWS:
        each = f"{own / elements * 1e9:8.1f}" if elements else " " * 8
        counts = f"{spent.rounds:8d}{spent.sent / 1e6:9.2f}{spent.dealt / 1e6:9.2f}" if spent else ""
        write(f"{name:34s}{own * 1e3:10.3f}{other * 1e3:10.3f}{own / other:8.1f}{each}{counts}")
