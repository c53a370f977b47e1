"""`kill -9` of every process at random moments: a named error, the others ready, and a run that ends as if nothing was.

    pytest -m slow -s tests/remote/test_kills.py

50 moments for each of alice, bob, the crypto provider and the driver; a line every ten.  Every other run trains with
`sy.TrainStep`, so that what is killed is recording steps, or repeating them.
"""

import contextlib
import os
import signal
import threading
import time

import kills
import pytest
import torch

import pysmpc as sy
from pysmpc.errors import ChannelError, PysmpcError, RemoteError

MOMENTS = 50
LIMIT = 10.0  # seconds for an error, and for the others to be ready again


@pytest.fixture(scope="module")
def processes():
    with kills.ForkedWorkers() as found:
        yield found


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The parameters of a run that nothing interrupts."""
    return kills.train(sy.virtual("alice", "bob"), tmp_path_factory.mktemp("whole"), "alice")


def descriptors(processes, names):
    return {name: len(os.listdir(f"/proc/{processes.processes[name].pid}/fd")) for name in names}


def settled(processes, names, expected):
    """Until these workers hold no more descriptors than they did before."""
    until = time.monotonic() + LIMIT
    while any(now > expected[name] for name, now in descriptors(processes, names).items()):
        logs = {name: processes.log(name)[-1500:] for name in names} if time.monotonic() > until else {}
        assert not logs, (descriptors(processes, names), expected, logs)
        time.sleep(0.05)


def again(processes, name):
    """Start a worker that was killed."""
    processes.processes[name].wait(LIMIT)
    processes.start(name)
    processes.ready()


def resting(processes, folder):
    """Descriptors of workers that have served, and seconds that a run takes."""
    for number in range(4):  # where the machine has no time for everybody, somebody is called silent
        start = time.monotonic()
        with contextlib.suppress(PysmpcError), processes.connect() as parties:
            kills.train(parties, folder / str(number), repeated=number % 2 == 1)
            lasts = time.monotonic() - start
    time.sleep(1.0)
    return descriptors(processes, processes.processes), lasts


def is_whole(found, whole):
    return len(found) == len(whole) and all(map(torch.equal, found, whole))


def _kind(error, victim):
    """A short name; who was lost, if that is what it says."""
    return f"{type(error).__name__}: {victim}" if str(error).startswith(f"{victim}: ") else type(error).__name__


def _kill_a_worker(processes, victim, delay, folder, whole, repeated):
    """(errors that the driver met, seconds from the kill to the first)."""
    killed, errors, delayed, found = [], [], 0.0, None

    def kill():
        killed.append(time.monotonic())
        processes.kill(victim)

    timer = threading.Timer(delay, kill)
    timer.start()
    while found is None:
        start = time.monotonic()
        try:
            with processes.connect() as parties:
                found = kills.train(parties, folder, repeated=repeated)
        except PysmpcError as error:
            now = time.monotonic()
            timer.join()
            if not errors:
                delayed = now - max(killed[0], start)
                again(processes, victim)
            errors.append(error)
            assert len(errors) < 4, errors  # one, where the machine has time for everybody
    timer.join()
    if not errors:
        again(processes, victim)
    assert is_whole(found, whole)
    assert all(isinstance(error, ChannelError | RemoteError) for error in errors)
    return errors, delayed


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("victim", ["alice", "bob", "crypto_provider"])
def test_workers_killed_at_random_moments(processes, whole, victim, tmp_path, rng):
    others = [name for name in processes.processes if name != victim]
    expected, lasts = resting(processes, tmp_path)
    kinds, slowest = {}, 0.0
    before = kills.alive()
    for number in range(MOMENTS):
        folder, repeated = tmp_path / f"run{number}", number % 2 == 1
        errors, delayed = _kill_a_worker(processes, victim, rng.uniform(0, lasts), folder, whole, repeated)
        for kind in [_kind(error, victim) for error in errors] or ["it had ended"]:
            kinds[kind] = kinds.get(kind, 0) + 1
        slowest = max(slowest, delayed)
        assert slowest < LIMIT
        settled(processes, others, expected)
        if number % 10 == 9:
            print(f"{victim} killed {number + 1} times: {kinds}; {slowest:.1f} s to the error at most", flush=True)
    assert kinds[f"WorkerLost: {victim}"] > MOMENTS // 3
    assert kills.alive() == before


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_drivers_killed_at_random_moments(processes, whole, tmp_path, rng):
    expected, _ = resting(processes, tmp_path)

    def begin(folder, repeated):
        here, there = kills.context.Pipe()
        process = kills.Forked(kills.drive, processes.config, folder, repeated, there)
        there.close()
        assert here.poll(300)
        assert here.recv() == "up"
        return process, here

    process, pipe = begin(tmp_path / "second", True)
    start = time.monotonic()
    assert is_whole([torch.from_numpy(each) for each in pipe.recv()], whole)
    lasts = time.monotonic() - start
    process.wait()
    early = 0
    before = kills.alive()
    for number in range(MOMENTS):
        folder = tmp_path / f"run{number}"
        process, pipe = begin(folder, number % 2 == 1)
        time.sleep(rng.uniform(0, lasts))
        process.kill()
        process.wait(LIMIT)
        early += process.poll() == -signal.SIGKILL
        pipe.close()
        process, pipe = begin(folder, number % 2 == 1)
        assert pipe.poll(300)
        assert is_whole([torch.from_numpy(each) for each in pipe.recv()], whole)
        process.wait(LIMIT)
        pipe.close()
        settled(processes, processes.processes, expected)
        if number % 10 == 9:
            print(f"driver killed {number + 1} times, {early} of them before its end", flush=True)
    assert early > MOMENTS // 3
    assert kills.alive() == before
