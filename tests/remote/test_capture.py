"""What passes over the network and what stays in a process's memory, searched for what must not be there.

The capture is of every byte that every process writes to any connection during a
training: once as it is on the wire (a TCP proxy in front of each worker), and once
before TLS encrypts it.  The memory is that of running processes, by /proc.
"""

import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from memories import holds, memory
from torch import nn
from torch.nn.functional import mse_loss

import pysmpc as sy
from pysmpc.remote.local_workers import LocalWorkers, toml
from pysmpc.transport.tls import address
from pysmpc.transport.wire import Stream, pack

pytestmark = pytest.mark.slow
WATCHED = Path(__file__).parents[1] / "support" / "watched.py"
NAMES = ("alice", "bob", "crypto_provider")
RUN = 4  # elements in a row that make a finding: 4 bytes would be found in noise


class Proxy:
    """In front of an address; keeps all that passes."""

    def __init__(self, to):
        self._to = address(to)
        self._server = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._server.getsockname()[1]}"
        self.passed = bytearray()
        self._open = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                near, _ = self._server.accept()
                far = socket.create_connection(self._to)
            except OSError:
                return
            self._open += [near, far]
            threading.Thread(target=self._pass, args=(near, far), daemon=True).start()

    def _pass(self, near, far):
        other = {near: far, far: near}
        try:
            while True:
                for ready in select.select([near, far], [], [])[0]:
                    data = ready.recv(1 << 18)
                    if not data:
                        return
                    self.passed += data
                    other[ready].sendall(data)
        except (OSError, ValueError):
            return
        finally:
            near.close()
            far.close()

    def close(self):
        self._server.close()
        for each in self._open:
            each.close()


def forms(values):
    """Bytes that would show these numbers: floats and fixed point at either precision, in either order; integers."""
    values = np.asarray(values, dtype=np.float64).ravel()
    found = {}
    for order in "<>":
        for kind in ("f4", "f8", "f2"):
            found[f"{order}{kind}"] = values.astype(order + kind)
        for scale in (2**16, 10**3, 1):
            for rounded in (np.rint, np.floor):
                for kind in ("i8", "i4"):
                    whole = rounded(values * scale)
                    found[f"{order}{kind} x {scale} {rounded.__name__}"] = whole.astype(order + kind)
    return {name: form.tobytes() for name, form in found.items()}


def found_in(content, values):
    """In which form a run of elements is there; None if in none.  Runs that say nothing (all equal) are passed over."""
    flat = np.asarray(values, dtype=np.float64).ravel()
    for start in range(0, len(flat) - RUN + 1, RUN):
        part = flat[start : start + RUN]
        if len(set(np.rint(part).tolist())) < RUN - 1 and len(set(part.tolist())) < RUN:
            continue
        for name, pattern in forms(part).items():
            if len(set(pattern)) > RUN and pattern in content:
                return f"{name} from element {start}"
    return None


ITEMS = {name: np.random.default_rng().uniform(-3, 3, (40, 12)).astype("f4") for name in ("alice", "bob")}
LABELS = {name: np.random.default_rng().integers(1000, 30_000, 40).astype("i8") for name in ("alice", "bob")}


def own(folder):
    """Files of the owners."""
    data = {}
    for name in ITEMS:
        np.savez(folder / f"{name}.npz", x=ITEMS[name], y=LABELS[name])
        data[name] = {"own": {"path": str(folder / f"{name}.npz")}}
    return data


def train(parties, model, steps=12):
    """On both owners' items, their labels as numbers; then the last loss is opened, and the number of large labels.

    Half of the steps run as they are written, half by a TrainStep, the last of which are repetitions.
    """
    hidden = sy.encrypt(model, parties)
    optimizer = torch.optim.SGD(hidden.parameters(), lr=0.01)
    batches = []
    for name in ITEMS:
        x, y = sorted(parties[name].search(), key=lambda pointer: pointer.name)
        batches.append((sy.encrypt(x, parties), sy.encrypt(y.scale(1e-4, 0.0), parties), y.share()))
    repeated = sy.TrainStep(hidden, optimizer, squares)
    for step in range(steps):
        x, y, labels = batches[step % 2]
        if step < steps // 2:
            optimizer.zero_grad()
            loss = squares(hidden(x), y)
            loss.backward()
            optimizer.step()
        else:
            loss = repeated(x, y)
        large = (labels > 15_000).sum()
    assert repeated.repeats, repeated.reason
    return sy.decrypt(loss.detach()), sy.decrypt(large), hidden


def squares(out, target):
    return mse_loss(out[:, 0], target)


def network():
    return nn.Sequential(nn.Linear(12, 16), nn.ReLU(), nn.Linear(16, 1))


def everything(model):
    """What nobody may see: (what, numbers)."""
    weights = [(f"weight {name}", value.detach().numpy()) for name, value in model.named_parameters()]
    items = [(f"item of {name}", ITEMS[name]) for name in ITEMS]
    scaled = [(f"label of {name}", LABELS[name] * 1e-4) for name in ITEMS]
    return [*weights, *items, *scaled, *((f"label of {name}", LABELS[name]) for name in ITEMS)]


def test_the_wire(tmp_path):
    """Peers and driver reach each worker through a proxy that keeps what passes."""
    model = network()
    with LocalWorkers(data=own(tmp_path)) as workers:
        proxies = {name: Proxy(where) for name, where in workers.addresses.items()}
        for name in NAMES:  # again, with the proxies for addresses of the others
            path = workers.folder / f"{name}.toml"
            text = path.read_text()
            for other in set(NAMES) - {name}:
                text = text.replace(workers.addresses[other], proxies[other].address)
            path.write_text(text)
            workers.kill(name, signal.SIGTERM)
            workers.processes[name].wait(10)
            workers.start(name)
        workers.ready()
        workers.config.workers = {name: proxy.address for name, proxy in proxies.items()}
        with workers.connect() as parties:
            loss, large, _ = train(parties, model)
            stats, traffic = parties.stats.copy(), sum(parties.traffic)
        time.sleep(0.5)
        passed = {name: bytes(proxy.passed) for name, proxy in proxies.items()}
        for proxy in proxies.values():
            proxy.close()
    assert torch.isfinite(loss)
    assert int(large) == int((LABELS["bob"] > 15_000).sum())
    assert sum(map(len, passed.values())) > 2 * stats.sent + stats.dealt + traffic  # it all went this way
    for what, values in everything(model):
        for name, content in passed.items():
            assert found_in(content, values) is None, (what, name)
    for content in passed.values():
        assert b"aten." not in content  # nor what is done


def test_what_is_written_before_it_is_encrypted(tmp_path, monkeypatch):
    """As if there were no TLS: what every process hands to its connections."""
    model = network()
    sent, batches = bytearray(), bytearray()
    real = Stream.write

    def write(stream, data):
        count = real(stream, data)
        sent.extend(data[:count])
        return count

    def noting(message):
        batches.extend(pack(message))
        return pack(message)

    monkeypatch.setattr(Stream, "write", write)
    monkeypatch.setattr("pysmpc.remote.driver.driver.pack", noting)  # before it is compressed
    monkeypatch.setenv("PYSMPC_TEST_TAP", "1")
    within = {name: [sys.executable, str(WATCHED), str(tmp_path)] for name in NAMES}
    with LocalWorkers(data=own(tmp_path), within=within) as workers, workers.connect() as parties:
        loss, _, hidden = train(parties, model)
        stats = parties.stats.copy()
        trained = sy.decrypt(hidden)
    driver = bytes(sent)
    taps = {name: (tmp_path / f"{name}.sent").read_bytes() for name in NAMES}
    assert stats.sent < len(taps["alice"]) < 2 * stats.sent + 10**6
    assert len(taps["crypto_provider"]) > stats.dealt
    for what, values in everything(model):
        for name, content in {**taps, "driver": driver, "batches": bytes(batches)}.items():
            assert found_in(content, values) is None, (what, name)
    for name, value in trained.named_parameters():  # the holders' shares went to the driver, each of which says nothing
        for content in taps.values():
            assert found_in(content, value.detach().numpy()) is None, name
    assert b"aten." in batches  # the capture has what is there
    assert b"own/x" in taps["alice"]
    assert torch.isfinite(loss)


@pytest.mark.parametrize("leak", ["<f4", ">f4", "<f8", ">f8", "<i8 x 65536", "<i8 x 1000", ">i8 x 65536"])
def test_a_planted_leak_is_found(leak):
    """One item's four elements among ten megabytes of noise."""
    noise = os.urandom(10_000_000)
    item = ITEMS["alice"][17]
    assert found_in(noise, item) is None
    kind, _, scale = leak.partition(" x ")
    planted = (np.rint(item[4:8].astype("f8") * int(scale)) if scale else item[4:8]).astype(kind).tobytes()
    assert found_in(noise[:5_000_001] + planted + noise[5_000_001:], item) is not None


# --- memory -------------------------------------------------------------------------


def looked(workers, folder, name):
    """The words of the shares that a worker holds."""
    workers.kill(name, signal.SIGUSR1)
    path, until = folder / f"{name}.json", time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < until
        time.sleep(0.02)
    return json.loads(path.read_text())["shares"]


def test_memory(tmp_path):
    """After a training, with all secrets still there: who holds what.  The driver is a process of its own."""
    within = {name: [sys.executable, str(WATCHED), str(tmp_path)] for name in NAMES}
    with LocalWorkers(data=own(tmp_path), within=within) as workers:
        try:
            next(memory(workers.processes["alice"].pid))
        except PermissionError:
            pytest.skip("may not read the memory of other processes")
        (workers.folder / "parties.toml").write_text(
            toml({"name": "scientist", "holders": ["alice", "bob"], "workers": workers.addresses})
        )
        command = [sys.executable, "-c", DRIVER, str(workers.folder / "parties.toml"), str(tmp_path / "trained")]
        path = os.pathsep.join([str(Path(sy.__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
        driver = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": path})
        try:
            until = time.monotonic() + 120
            while not (tmp_path / "trained").exists():
                assert time.monotonic() < until
                assert driver.poll() is None
                time.sleep(0.05)
            check_memory(workers, tmp_path, driver.pid)
        finally:
            driver.kill()
            driver.wait()


DRIVER = """
import sys, time, pathlib
import torch
import pysmpc as sy
from torch.nn.functional import mse_loss
with sy.connect(sys.argv[1]) as parties:
    model = sy.encrypt(torch.nn.Sequential(torch.nn.Linear(12, 16), torch.nn.ReLU(), torch.nn.Linear(16, 1)), parties)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    kept = []
    for name in ("alice", "bob"):
        x, y = sorted(parties[name].search(), key=lambda pointer: pointer.name)
        kept.append((sy.encrypt(x, parties), sy.encrypt(y.scale(1e-4, 0.0), parties)))
    def squares(out, y):
        return mse_loss(out[:, 0], y)
    repeated = sy.TrainStep(model, optimizer, squares)
    for step in range(12):
        x, y = kept[step % 2]
        if step < 6:
            optimizer.zero_grad()
            loss = squares(model(x), y)
            loss.backward()
            optimizer.step()
        else:
            loss = repeated(x, y)
        sy.decrypt(loss.detach())
    assert repeated.repeats, repeated.reason
    parties.wait()
    pathlib.Path(sys.argv[2]).touch()
    time.sleep(600)
"""


def check_memory(workers, folder, driver):
    shares = {name: looked(workers, folder, name) for name in NAMES}
    assert not any(shares["crypto_provider"].values())
    pids = {name: process.pid for name, process in workers.processes.items()} | {"driver": driver}
    for holder in ITEMS:
        patterns = {f"row {row}": ITEMS[holder][row].tobytes() for row in range(0, 40, 5)}
        patterns |= {"labels": LABELS[holder][:8].tobytes()}
        assert holds(pids[holder], patterns) == set(patterns)  # the search finds what is there
        for name in ({*NAMES, "driver"}) - {holder}:
            assert holds(pids[name], patterns) == set(), name
        words = {
            f"slot {slot} from {start}": np.array(found[start : start + 8], dtype="i8").tobytes()
            for slot, found in shares[holder].items()
            for start in range(0, len(found) - 7, 40)
        }
        words = {name: pattern for name, pattern in words.items() if len(set(pattern)) > 16}
        assert len(words) > 20
        assert holds(pids[holder], words) == set(words)
        for name in ("crypto_provider", "driver"):
            assert holds(pids[name], words) == set(), name
