"""A driver's own loop, captured once and repeated over TLS at holders or clients: what it gives, what is refused."""

import contextlib
import copy
import functools
import json
import logging
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from remotes import Office, Workers
from torch import nn
from torch.nn import functional as F

import pysmpc as sy
from pysmpc.errors import ConfigurationError, RoundError
from pysmpc.federated import FedAvg, Loop
from pysmpc.remote.client import Client
from pysmpc.remote.config import ClientConfig, load
from pysmpc.remote.local_workers import toml
from pysmpc.transport import certificates

ALL = ("alice", "bob", "carol")
BATCH = 8
OPEN = {"data": ["rows/data", "rows/targets"], "max_norm": 1000.0, "without_noise": True, "min_items": BATCH}
NOISED = {"data": ["rows/data", "rows/targets"], "max_norm": 1.0, "epsilon": 3.0}


class Clinics:
    """Three owners with rows of their own, and what their files allow to loops on `plain` and `noised`."""

    def __init__(self, folder, **options):
        self.folder, self.rows = folder, {}
        common = {
            "drivers": {"scientist": ["compute", "open", "loop:plain", "loop:noised"], "erin": ["compute", "open"]},
            "open": ["scientist"],
        }
        self.options = {"": common}
        for place, name in enumerate(ALL):
            data = torch.randn(20 + 7 * place, 4)
            targets = torch.randint(0, 3, (len(data),))
            self.rows[name] = data, targets
            np.savez(folder / f"{name}.npz", data=data.numpy(), targets=targets.numpy())
            self.options[name] = {
                "data": {"rows": {"path": str(folder / f"{name}.npz")}},
                "state": str(folder / f"{name}.state"),
                "loops": {"plain": OPEN, "noised": NOISED},
                **options.get(name, {}),
            }
        self.options["crypto_provider"] = {"drivers": {name: ["compute", "open"] for name in ("scientist", "erin")}}

    def start(self, office):
        return Workers(office.folder, ALL, options=self.options)


@pytest.fixture(scope="module")
def office(tmp_path_factory):
    return Office(tmp_path_factory.mktemp("loop-office"))


@pytest.fixture(scope="module")
def clinics(tmp_path_factory):
    return Clinics(tmp_path_factory.mktemp("loop-clinics"))


@pytest.fixture(scope="module")
def workers(office, clinics):
    with clinics.start(office) as found:
        yield found


@pytest.fixture
def parties(workers):
    with workers.connect() as found:
        yield found


def network():
    return nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3))


def local(model, data, target):
    """The loop of the tutorials: two steps on a batch."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.2, momentum=0.5)
    for _ in range(2):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(data), target)
        loss.backward()
        optimizer.step()


@functools.cache
def loop(name="plain", function=local, rows=BATCH, **options):
    """Captured once: what is captured does not depend on weights."""
    return Loop(name, function, network(), torch.zeros(rows, 4), torch.zeros(rows, dtype=torch.int64), **options)


def averaged(model, rows, rounds, epochs):
    """Federated averaging of the same loop in plain torch, weighted by the rows that fill batches."""
    for _ in range(rounds):
        states = []
        for data, targets in rows.values():
            own, used = copy.deepcopy(model), len(data) - len(data) % BATCH
            for _ in range(epochs):
                for start in range(0, used, BATCH):
                    local(own, data[start : start + BATCH], targets[start : start + BATCH])
            states.append((used, own.state_dict()))
        count = sum(used for used, _ in states)
        for name, value in model.state_dict().items():
            value.copy_(sum(used * state[name].double() for used, state in states) / count)


# --- what works ---------------------------------------------------------------------


def test_as_federated_averaging_in_plain_torch(parties, clinics):
    model = network()
    expected = copy.deepcopy(model)
    averaged(expected, clinics.rows, 2, 2)
    fed = sy.Federation(parties, task=loop(shuffle=False), max_norm=1000.0)
    rounds = fed.fit(model, rounds=2, local_epochs=2)
    assert [(r.took_part, r.rows) for r in rounds] == [(3, 16 + 24 + 32)] * 2
    for name, value in model.state_dict().items():
        torch.testing.assert_close(value, expected.state_dict()[name], atol=2e-5, rtol=1e-4)


def test_a_loop_over_pointers(parties, clinics):
    """With `send` and `get`, as the tutorials write it, at a virtual worker."""
    hook = sy.TorchHook(torch)
    try:
        here = sy.VirtualWorker(hook, id="here")

        def pointers(model, data, target):
            optimizer = torch.optim.SGD(model.parameters(), lr=0.2, momentum=0.5)
            model.send(data.location)
            for _ in range(2):
                optimizer.zero_grad()
                loss = F.cross_entropy(model(data), target)
                loss.backward()
                optimizer.step()
            model.get()

        examples = torch.zeros(BATCH, 4).send(here), torch.zeros(BATCH, dtype=torch.int64).send(here)
        captured = Loop("plain", pointers, network(), *examples, shuffle=False)
    finally:
        hook.unhook()
    model = network()
    expected = copy.deepcopy(model)
    averaged(expected, clinics.rows, 1, 1)
    sy.Federation(parties, task=captured, max_norm=1000.0).fit(model)
    for name, value in model.state_dict().items():
        torch.testing.assert_close(value, expected.state_dict()[name], atol=2e-5, rtol=1e-4)


def test_noise_of_the_sum(parties, clinics):
    """What is opened is the clipped sum with the noise that the owners' budget is counted by."""
    engine = sy.privacy.Engine(target_epsilon=3, target_delta=1e-5, unit="client", accountant="rdp")
    engine.for_rounds(1, noise_multiplier=50.0)
    model = network()
    before = torch.cat([p.detach().reshape(-1) for p in model.parameters()])
    fed = sy.Federation(parties, FedAvg(min_workers=3), task=loop("noised"), max_norm=1.0, privacy=engine)
    fed.fit(model)
    moved = 3 * (torch.cat([p.detach().reshape(-1) for p in model.parameters()]) - before)
    # 51 numbers: a chi-square's 1e-6 quantiles are within these factors
    assert 0.5 < float(moved.square().mean().sqrt()) / (50.0 * (3 / 2) ** 0.5) < 1.6
    lines = [json.loads(line) for line in (clinics.folder / "alice.state" / "loops.jsonl").read_text().splitlines()]
    assert lines[-1][0] == "noised"
    assert lines[-1][1] == pytest.approx(1 / 50.0**2, rel=1e-3)


# --- what is refused, in public -----------------------------------------------------


def fit(parties, captured, model=None, **options):
    options = {"max_norm": 1000.0, **options}
    return sy.Federation(parties, task=captured, **options).fit(network() if model is None else model, 1)


def one_row(model, data, target):
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(p * 0 + (data * torch.eye(BATCH)[3][:, None]).sum())


@pytest.mark.parametrize(
    ("captured", "reason"),
    [
        ({"name": "absent"}, "allows no loops on 'absent' to this driver"),
        ({"function": one_row}, "tells them apart; without noise"),
        ({"rows": 4}, r"a batch has 4 rows, and 8 are needed \(min_items\)"),
        ({"name": "noised"}, "loops on noised need noise"),
    ],
)
def test_named_errors(parties, captured, reason):
    with pytest.raises(RoundError, match=reason):
        fit(parties, loop(**captured), max_norm=1.0)


def test_a_loop_of_another_model(parties):
    with pytest.raises(RoundError, match="the loop"):
        fit(parties, loop(), nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2)))


def test_rows_of_other_shapes(parties):
    captured = Loop("plain", local, nn.Linear(5, 3), torch.zeros(BATCH, 5), torch.zeros(BATCH, dtype=torch.int64))
    with pytest.raises(RoundError, match=r"rows of rows/data are \[4\] of torch.float32; the loop takes \[5\]"):
        fit(parties, captured, nn.Linear(5, 3))


def test_more_rows_than_an_owner_has(parties):
    with pytest.raises(RoundError, match="there are 20 rows, and a batch has 21"):
        fit(parties, loop(rows=21))


def test_without_the_right(workers):
    with workers.connect("erin") as parties, pytest.raises(RoundError, match="allows no loops on 'plain'"):
        fit(parties, loop())


@pytest.mark.parametrize(
    ("limit", "reason"),
    [
        ({"steps": 100}, r"operations in all, and 100 are allowed \(steps\)"),
        ({"memory": 500}, r"are allowed \(memory\)"),
        ({"max_norm": 0.5}, "alice clips updates of loop plain to a norm of 0.5 or less"),
        ({"min_owners": 4}, "alice consents to sums of loop plain over 4 owners or more; 3 took part"),
    ],
)
def test_limits_of_an_owner(office, tmp_path, limit, reason):
    strict = Clinics(tmp_path, alice={"loops": {"plain": {**OPEN, **limit}, "noised": NOISED}})
    with strict.start(office) as workers, workers.connect() as parties:
        with pytest.raises(RoundError, match=reason):
            fit(parties, loop())
        x = sy.encrypt(torch.tensor([1.5]), parties)  # the session goes on
        torch.testing.assert_close(sy.decrypt(x + x), torch.tensor([3.0]), atol=1e-3, rtol=0)


def test_a_budget_that_is_spent(office, tmp_path):
    """By all drivers and sessions together, also after a restart."""
    clinics = Clinics(tmp_path)

    def one(parties, multiplier):
        engine = sy.privacy.Engine(target_epsilon=100, target_delta=1e-5, unit="client", accountant="rdp")
        engine.for_rounds(1, noise_multiplier=multiplier)
        return fit(parties, loop("noised"), strategy=FedAvg(min_workers=3), max_norm=1.0, privacy=engine)

    # one round of noise z is epsilon 3 at delta 1e-5 for z = 1.4 or so: two of 2.0 fit, and no third
    with clinics.start(office) as workers, workers.connect() as parties:
        with pytest.raises(RoundError, match="may tell epsilon = 3 at delta = 1e-05 in all rounds together"):
            one(parties, 1.2)
        one(parties, 2.0)
    with clinics.start(office) as workers, workers.connect() as parties:
        one(parties, 2.0)
        with pytest.raises(RoundError, match="would exceed"):
            one(parties, 2.0)


# --- who leaves a round -------------------------------------------------------------


def nan_at_carol(model, data, target):
    """Infinite where a row is large, as only carol's are made."""
    with torch.no_grad():
        for p in model.parameters():
            p.add_((data.abs() * 1e-3).pow(20).mul(1e30).mul(1e30).sum())


def large_at_carol(tmp_path, **options):
    clinics = Clinics(tmp_path, **options)
    data, targets = clinics.rows["carol"]
    data += 3e4
    np.savez(tmp_path / "carol.npz", data=data.numpy(), targets=targets.numpy())
    return clinics


def test_nan_makes_her_leave(office, tmp_path, caplog):
    caplog.set_level(logging.INFO, "pysmpc.worker")
    two = {name: {"loops": {"plain": {**OPEN, "min_owners": 2}, "noised": NOISED}} for name in ALL}
    with large_at_carol(tmp_path, **two).start(office) as workers, workers.connect() as parties:
        [found] = fit(parties, loop(function=nan_at_carol))
        assert found.took_part == 2
        [reason] = [record.reason for record in caplog.records if record.message == "left the round"]
        assert "NaN" in reason or "beyond" in reason


@pytest.mark.parametrize("fault", ["infinite", "a label out of range"])
def test_with_noise_nobody_sees_that_it_failed(office, tmp_path, fault, caplog):
    """A result that is not finite is one of zeros; a loop that raises leaves noise alone, as her own log says."""
    engine = sy.privacy.Engine(target_epsilon=3, target_delta=1e-5, unit="client", accountant="rdp")
    engine.for_rounds(1, noise_multiplier=50.0)
    clinics = large_at_carol(tmp_path) if fault == "infinite" else Clinics(tmp_path)
    if fault != "infinite":
        data, targets = clinics.rows["carol"]
        np.savez(tmp_path / "carol.npz", data=data.numpy(), targets=np.full_like(targets, 3))
    with clinics.start(office) as workers, workers.connect() as parties:
        captured = loop("noised", nan_at_carol) if fault == "infinite" else loop("noised")
        options = {"strategy": FedAvg(min_workers=3), "max_norm": 1.0, "privacy": engine}
        [found] = fit(parties, captured, **options)
        assert found.took_part == 3
    assert ("left the round" in caplog.messages) == (fault != "infinite")


# --- files --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"without_noise": False}, "say how much loops may tell"),
        ({"epsilon": 3.0}, "say how much loops may tell"),
        ({"data": ["absent"]}, "no data named 'absent'"),
        ({"data": []}, "it names data"),
        ({"max_norm": 0.0}, "max_norm is a number above 0"),
        ({"min_owners": 1, "colluding": 0}, "a sum is of 2 or more"),
        ({"min_owners": 2, "colluding": 2}, "and more than these"),
        ({"min_items": 1}, "min_items is 2 or more"),
    ],
)
def test_a_file_that_cannot_be_used(office, tmp_path, changes, reason):
    bad = {"plain": {**OPEN, **changes}, "noised": NOISED}
    with pytest.raises(ConfigurationError, match=reason):
        Clinics(tmp_path, alice={"loops": bad}).start(office)


def test_a_budget_needs_a_folder(office, tmp_path):
    with pytest.raises(ConfigurationError, match="epsilon needs a `state` folder"):
        Clinics(tmp_path, alice={"state": ""}).start(office)


# --- clients who are no holders -----------------------------------------------------


class Phones:
    """Three clients with rows and a file of their own, as `pysmpc client` reads it, and two holders who know them."""

    def __init__(self, folder, names=("phone1", "phone2", "phone3")):
        self.folder, self.rows = Path(Office(folder).folder), {}
        self.holders = Workers(self.folder, options={name: {"clients": list(names)} for name in ("alice", "bob")})
        for place, name in enumerate(names):
            certificates.issue(self.folder, name)
            data = torch.randn(20 + 7 * place, 4)
            self.rows[name] = data, torch.randint(0, 3, (len(data),))
            np.savez(self.folder / f"{name}.npz", data=data.numpy(), targets=self.rows[name][1].numpy())
            values = {
                "name": name,
                "workers": {holder: self.holders.addresses[holder] for holder in ("alice", "bob")},
                "drivers": {"scientist": ["loop:plain", "loop:noised"]},
                "loops": {"plain": OPEN, "noised": NOISED},
                "state": f"{name}.state",
                "data": {"rows": {"path": f"{name}.npz"}},
            }
            self.file(name).write_text(toml(values), encoding="utf-8")

    def file(self, name, end="toml"):
        return self.folder / f"{name}.{end}"

    @contextlib.contextmanager
    def as_threads(self):
        over = threading.Event()
        clients = [Client(load(self.file(name), ClientConfig)) for name in self.rows]
        threads = [threading.Thread(target=each.serve, args=(over.is_set,), daemon=True) for each in clients]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            over.set()
        for thread in threads:
            thread.join(30)
            assert not thread.is_alive()

    @contextlib.contextmanager
    def as_processes(self):
        """By the command; they end without an error when they are asked to."""
        path = os.pathsep.join([str(Path(sy.__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
        processes = []
        with contextlib.ExitStack() as stack:
            for name in self.rows:
                log = stack.enter_context(self.file(name, "log").open("ab"))
                command = [sys.executable, "-m", "pysmpc.cli", "client", "--config", str(self.file(name))]
                environment = {**os.environ, "PYTHONPATH": path}
                processes.append(subprocess.Popen(command, stdout=log, stderr=log, env=environment))
                stack.callback(processes[-1].kill)
            yield
            for process in processes:
                process.terminate()
            assert [process.wait(60) for process in processes] == [0] * len(processes)


@pytest.mark.parametrize("kind", ["as_threads", pytest.param("as_processes", marks=pytest.mark.slow)])
def test_loops_at_clients(tmp_path, kind):
    """Without noise as in plain torch; with noise, a client whose budget is spent takes no part, as her log says."""
    phones, model = Phones(tmp_path), network()
    expected, names = copy.deepcopy(model), list(phones.rows)
    averaged(expected, phones.rows, 2, 1)

    def noised(parties):
        engine = sy.privacy.Engine(target_epsilon=100, target_delta=1e-5, unit="client", accountant="rdp")
        engine.for_rounds(1, noise_multiplier=2.0)
        options = {"clients": names, "max_norm": 1.0, "privacy": engine}
        fed = sy.Federation(parties, FedAvg(min_workers=3), task=loop("noised"), **options)
        return fed.fit(network(), 1, deadline=60.0)[0]

    with phones.holders, getattr(phones, kind)(), phones.holders.connect() as parties:
        strategy = FedAvg(min_workers=3)  # as many as their files ask for
        fed = sy.Federation(parties, strategy, task=loop(shuffle=False), clients=names, max_norm=1000.0)
        rounds = fed.fit(model, rounds=2, deadline=240.0)
        assert [(r.took_part, r.rows) for r in rounds] == [(3, 16 + 24 + 32)] * 2
        for name, value in model.state_dict().items():
            torch.testing.assert_close(value, expected.state_dict()[name], atol=2e-5, rtol=1e-4)
        # noise of 1.4 or so is all of epsilon 3 at delta 1e-5: two rounds of 2.0 fit, and no third
        assert [noised(parties).took_part for _ in range(2)] == [3, 3]
        with pytest.raises(RoundError, match="0 took part"):
            noised(parties)
    for name in names:
        lines = (phones.file(name, "state") / "loops.jsonl").read_text(encoding="utf-8").splitlines()
        assert [json.loads(line)[0] for line in lines] == ["noised", "noised"]
        if kind == "as_processes":
            log = phones.file(name, "log").read_text(encoding="utf-8")
            assert log.count("left shares") == 4
            assert "in all rounds together, and this one would exceed that" in log
