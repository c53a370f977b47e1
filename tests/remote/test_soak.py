"""A long training: no process grows, in memory, in objects, or in what travels."""

import gc
import json
import os
import signal
import sys
import time
import weakref
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import mse_loss

import pysmpc as sy
from pysmpc.remote.local_workers import LocalWorkers

WATCHED = Path(__file__).parents[1] / "support" / "watched.py"
NAMES = ("alice", "bob", "crypto_provider")
FROM, EVERY = 200, 200
NOISE = 300  # objects that come and go


def resident(pid):
    """Bytes in memory now."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def opened(pid):
    """(file descriptors, threads)."""
    return len(os.listdir(f"/proc/{pid}/fd")), len(os.listdir(f"/proc/{pid}/task"))


def looked(workers, folder, name):
    """What a worker says of itself."""
    path = folder / f"{name}.json"
    path.unlink(missing_ok=True)
    workers.kill(name, signal.SIGUSR1)
    until = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < until
        time.sleep(0.02)
    return json.loads(path.read_text())


def measured(workers, parties, folder):
    """{process: figures} at a moment when all is done."""
    parties.wait()
    time.sleep(0.3)  # the threads' last words
    gc.collect()
    found = {}
    for name, process in workers.processes.items():
        objects = looked(workers, folder, name)["objects"]
        objects = sum(objects.values()) - objects["ReferenceType"]  # of which a session has up to 1,024 that are dead
        found[name] = {"memory": resident(process.pid), "objects": objects, "open": opened(process.pid)}
    found["driver"] = {
        "memory": resident(os.getpid()),
        "objects": sum(type(each) is not weakref.ref for each in gc.get_objects()),
        "open": opened(os.getpid()),
    }
    for report in parties.status():
        found[report["name"]]["values"] = report["sessions"][0]["values"]
    return found


def as_written(model, optimizer, x, y):
    """A step."""
    optimizer.zero_grad()
    loss = mse_loss(model(x), y)
    loss.backward()
    optimizer.step()
    return loss.detach()


@pytest.mark.slow
@pytest.mark.timeout(1500)
@pytest.mark.parametrize(("steps", "repeated"), [(2000, False), (1000, True)], ids=["as written", "repeated"])
def test_thousands_of_steps(steps, repeated, tmp_path, capsys):
    """Batches are shared anew by their owners, updates wait, a loss is opened now and then."""
    data = {}
    for name in ("alice", "bob"):
        np.savez(tmp_path / f"{name}.npz", x=np.random.rand(64, 20).astype("f4"), y=np.random.rand(64, 4).astype("f4"))
        data[name] = {"items": {"path": str(tmp_path / f"{name}.npz")}}
    within = {name: [sys.executable, str(WATCHED), str(tmp_path)] for name in NAMES}
    with LocalWorkers(data=data, within=within) as workers, workers.connect() as parties:
        model = sy.encrypt(nn.Sequential(nn.Linear(20, 16), nn.ReLU(), nn.Linear(16, 4)), parties)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-4)
        sources = []
        for name in ("alice", "bob"):
            x, y = sorted(parties[name].search(), key=lambda pointer: pointer.name)
            sources.append((x.fix_precision(), y.fix_precision()))
        train = sy.TrainStep(model, optimizer, mse_loss) if repeated else partial(as_written, model, optimizer)
        loader = sy.PrivateDataLoader(sources, batch_size=16, shuffle=True)
        step, kept, traffic = 0, [], []
        while step < steps:
            for x, y in loader:
                loss = train(x, y)
                step += 1
                if step % 10 == 0:
                    assert torch.isfinite(sy.decrypt(loss))
                if step >= FROM and step % EVERY == 0:
                    del x, y, loss
                    kept.append(measured(workers, parties, tmp_path))
                    traffic.append(sum(parties.traffic))
                    assert not repeated or train.repeats, train.reason
    with capsys.disabled():
        for name in kept[0]:
            memory = [each[name]["memory"] for each in kept]
            print(f"\n{name:<16}", *(f"{m / 1e6:.1f}" for m in memory), [each[name]["objects"] for each in kept])
    for name, first in kept[0].items():
        for later in (each[name] for each in kept[1:]):
            assert later["memory"] < 1.05 * first["memory"], name
            assert later["open"] == first["open"], name
            assert later.get("values") == first.get("values"), name
        objects = [each[name]["objects"] for each in kept]
        assert max(objects[len(kept) // 2 :]) < max(objects[: len(kept) // 2]) + NOISE, name
    each = np.diff(traffic) / EVERY
    assert max(each) < 1.1 * min(each), each
