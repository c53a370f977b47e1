"""`kill -9` of every process at random moments: a named error, the others ready, and a run that ends as if nothing had been.

    pytest -m slow -s tests/remote/test_kills.py

50 moments for each of alice, bob, the crypto provider and the driver; a line every ten.
"""

import multiprocessing
import os
import threading
import time
from pathlib import Path

import kills
import pytest
import torch

import pysmpc as sy
from pysmpc.errors import ChannelError, PysmpcError, RemoteError, WorkerLost
from pysmpc.remote.local import LocalWorkers

MOMENTS = 50
LIMIT = 10.0  # seconds for an error, and for the others to be ready again


@pytest.fixture(scope="module")
def processes():
    with LocalWorkers() as found:
        yield found


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The parameters of a run that nothing interrupts."""
    return kills.train(sy.virtual("alice", "bob"), tmp_path_factory.mktemp("whole"), "alice")


def descriptors(processes, names):
    return {name: len(os.listdir(f"/proc/{processes.processes[name].pid}/fd")) for name in names}


def children():
    """Processes that this one started, zombies too."""
    found = set()
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            pid, _, rest = path.read_text().partition(" (")
        except OSError:
            continue
        if int(rest.rpartition(") ")[2].split()[1]) == os.getpid():
            found.add(int(pid))
    return found


def settled(processes, names, expected):
    """Until these workers hold no more descriptors than they did before."""
    until = time.monotonic() + LIMIT
    while any(now > expected[name] for name, now in descriptors(processes, names).items()):
        assert time.monotonic() < until, (descriptors(processes, names), expected)
        time.sleep(0.05)


def again(processes, name):
    """Start a worker that was killed."""
    processes.processes[name].wait(LIMIT)
    processes.start(name)
    processes.ready()


def resting(processes, folder):
    """Descriptors of workers that have served."""
    with processes.connect() as parties:
        kills.train(parties, folder)
    time.sleep(1.0)
    return descriptors(processes, processes.processes)


def is_whole(found, whole):
    return len(found) == len(whole) and all(map(torch.equal, found, whole))


def _kill_a_worker(processes, victim, delay, folder, whole):
    """(name of the error or None, seconds from the kill to it)."""
    killed, error, delayed, found = [], None, 0.0, None

    def kill():
        killed.append(time.monotonic())
        processes.kill(victim)

    timer = threading.Timer(delay, kill)
    timer.start()
    while found is None:
        start = time.monotonic()
        try:
            with processes.connect() as parties:
                found = kills.train(parties, folder)
        except PysmpcError as caught:
            timer.join()
            assert error is None, "one kill, one error"
            error, delayed = caught, time.monotonic() - max(killed[0], start)
            again(processes, victim)
    timer.join()
    if error is None:
        again(processes, victim)
    assert is_whole(found, whole)
    assert error is None or isinstance(error, ChannelError | RemoteError)
    assert not isinstance(error, WorkerLost) or str(error).startswith(f"{victim}: ")
    return error, delayed


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("victim", ["alice", "bob", "crypto_provider"])
def test_workers_killed_at_random_moments(processes, whole, victim, tmp_path, rng):
    others = [name for name in processes.processes if name != victim]
    expected = resting(processes, tmp_path / "first")
    start = time.monotonic()
    with processes.connect() as parties:
        kills.train(parties, tmp_path / "second")
    lasts, kinds, slowest = time.monotonic() - start, {}, 0.0
    before = children()
    for number in range(MOMENTS):
        error, delayed = _kill_a_worker(processes, victim, rng.uniform(0, lasts), tmp_path / f"run{number}", whole)
        kinds[type(error).__name__] = kinds.get(type(error).__name__, 0) + 1
        slowest = max(slowest, delayed)
        assert slowest < 5.0
        settled(processes, others, expected)
        if number % 10 == 9:
            print(f"{victim} killed {number + 1} times: {kinds}; {slowest:.1f} s to the error at most", flush=True)
    assert kinds["WorkerLost"] > MOMENTS // 3
    assert len(children()) == len(before)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_drivers_killed_at_random_moments(processes, whole, tmp_path, rng):
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["kills", "pysmpc.remote.parties"])
    expected = resting(processes, tmp_path / "first")

    def begin(folder):
        here, there = context.Pipe()
        process = context.Process(target=kills.drive, args=(processes.config, folder, there))
        process.start()
        there.close()
        assert here.poll(60)
        assert here.recv() == "up"
        return process, here

    process, pipe = begin(tmp_path / "second")
    start = time.monotonic()
    assert is_whole([torch.from_numpy(each) for each in pipe.recv()], whole)
    lasts = time.monotonic() - start
    process.join()
    early = 0
    before = children()
    for number in range(MOMENTS):
        folder = tmp_path / f"run{number}"
        process, pipe = begin(folder)
        time.sleep(rng.uniform(0, lasts))
        process.kill()
        process.join(LIMIT)
        early += not pipe.poll(0)
        pipe.close()
        process, pipe = begin(folder)
        assert pipe.poll(60)
        assert is_whole([torch.from_numpy(each) for each in pipe.recv()], whole)
        process.join(LIMIT)
        pipe.close()
        settled(processes, processes.processes, expected)
        if number % 10 == 9:
            print(f"driver killed {number + 1} times, {early} of them before its end", flush=True)
    assert early > MOMENTS // 3
    assert len(children()) == len(before)
