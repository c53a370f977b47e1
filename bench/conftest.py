"""Benchmarks run beside plaintext torch, in the same process and on the same threads.

`beside(secure, plain)` times the secure function with pytest-benchmark and, before each of
its rounds, the plain one, warm, so that both see the same machine; the closing table has the
medians, their ratio, and what one secure call sends and needs.  PYSMPC_BENCH_THREADS sets
the threads of both (default 1), PYSMPC_BENCH_ROUNDS how often each is timed (default 15).
"""

import ctypes
import os
import statistics
import sys
import time
from pathlib import Path

import pytest
import torch

import pysmpc as sy
from pysmpc.ring import z2k

sys.path.insert(0, str(Path(__file__).parent))
ROUNDS = int(os.environ.get("PYSMPC_BENCH_ROUNDS", "15"))
COLUMNS = (
    ("secure ms", 10), ("min", 9), ("plain ms", 10), ("min", 9), ("ratio", 7), ("GMAC/s", 7), ("ns/el", 8),
    ("rounds", 7), ("MB sent", 8), ("dealt", 8), ("peak MB", 8),
)  # fmt: skip
ROWS = []


@pytest.fixture(scope="session", autouse=True)
def threads():
    torch.set_num_threads(int(os.environ.get("PYSMPC_BENCH_THREADS", "1")))


@pytest.fixture(scope="session")
def parties():
    return sy.virtual("alice", "bob")


def _status(field):
    """A field of /proc/self/status in bytes; 0 where there is none."""
    try:
        with open("/proc/self/status") as status:
            [line] = [line for line in status if line.startswith(f"{field}:")]
    except (OSError, ValueError):
        return 0
    return 1024 * int(line.split()[1])


def _peak(call):
    """What the process had in memory at most during a call, beyond what it had before."""
    if os.path.exists("/proc/self/clear_refs") and hasattr(ctypes.CDLL(None), "malloc_trim"):
        ctypes.CDLL(None).malloc_trim(0)
        with open("/proc/self/clear_refs", "w") as file:
            file.write("5")
    before = _status("VmRSS")
    call()
    return max(_status("VmHWM") - before, 0)


@pytest.fixture
def beside(request, benchmark):
    """beside(secure, plain, parties, elements, macs): time both, and count what one secure call sends and needs.

    elements, macs: what one call processes, or how many products it sums; for rates.
    """

    def run(secure, plain, parties=None, elements=None, macs=None):
        secure()
        plain()
        before = parties.stats.copy() if parties else None
        peak = _peak(secure)
        spent = parties.stats - before if parties else None
        times = []

        def plain_round():
            plain()  # so that the timed one finds in the caches what a loop of its own would
            start = time.perf_counter()
            plain()
            times.append(time.perf_counter() - start)

        benchmark.pedantic(secure, setup=plain_round, rounds=ROUNDS, iterations=1, warmup_rounds=2)
        stats = benchmark.stats.stats
        found = {
            "plain_median": statistics.median(times[-ROUNDS:]), "plain_min": min(times[-ROUNDS:]),
            "ratio": stats.median / statistics.median(times[-ROUNDS:]), "peak": peak,
            "threads": torch.get_num_threads(), "target": z2k.target(),
        }  # fmt: skip
        if macs:
            found["gmacs"] = macs / stats.median / 1e9
        if elements:
            found["ns_an_element"] = stats.median / elements * 1e9
        if spent:
            found.update(rounds=spent.rounds, sent=spent.sent, dealt=spent.dealt)
        benchmark.extra_info.update(found)
        ROWS.append((request.node.name, stats, found))

    return run


def pytest_terminal_summary(terminalreporter):
    if not ROWS:
        return
    write = terminalreporter.write_line
    name_width = 2 + max(len(name) for name, _, _ in ROWS)
    write("")
    write(
        f"target {z2k.target()}, {torch.get_num_threads()} thread(s), 2 holders and the provider in one process; "
        f"medians and minima of {ROUNDS}; peak: memory a call needs beyond its inputs"
    )
    write(" " * name_width + "".join(f"{head:>{width}s}" for head, width in COLUMNS))
    for name, stats, found in ROWS:
        cells = (
            f"{stats.median * 1e3:.3f}", f"{stats.min * 1e3:.3f}", f"{found['plain_median'] * 1e3:.3f}",
            f"{found['plain_min'] * 1e3:.3f}", f"{found['ratio']:.1f}",
            f"{found['gmacs']:.2f}" if "gmacs" in found else "",
            f"{found['ns_an_element']:.2f}" if "ns_an_element" in found else "",
            *((str(found["rounds"]), f"{found['sent'] / 1e6:.2f}", f"{found['dealt'] / 1e6:.2f}")
              if "rounds" in found else ("", "", "")),
            f"{found['peak'] / 1e6:.1f}",
        )  # fmt: skip
        write(
            f"{name:{name_width}s}"
            + "".join(f"{cell:>{width}s}" for cell, (_, width) in zip(cells, COLUMNS, strict=True))
        )
