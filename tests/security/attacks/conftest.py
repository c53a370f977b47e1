"""Workers of alice, bob, carol and the provider for all attacks, and what alice's log says of each."""

import json
import logging
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))

from remotes import Office, Workers

ROWS, COLUMNS = 64, 4
ALL = ("alice", "bob", "carol")
DRIVERS = ("scientist", "erin", "dave")


class Scene:
    """Workers, and alice's data.

    Of alice's data, who may open what depends on the driver: "scientist" nothing, "erin" numbers
    of 64 rows, "dave" what she approves.  bob lets all of them open, and carol
    nobody what is hers.
    """

    def __init__(self, office, folder):
        generator = np.random.default_rng()
        self.folder = folder
        self.x = torch.from_numpy(generator.uniform(-1, 1, (ROWS, COLUMNS)).astype(np.float32))
        self.labels = torch.from_numpy(generator.integers(0, 10, ROWS))
        self.flags = torch.from_numpy(generator.integers(0, 2, (ROWS, 1)).astype(np.float32))
        self.zeros, self.none = torch.zeros(ROWS, COLUMNS), torch.zeros(ROWS, dtype=torch.int64)
        self.half = self.x[: ROWS // 2].clone()
        data = {}
        for name in ("x", "labels", "flags", "zeros", "none", "half"):
            path = folder / f"{name}.npy"
            np.save(path, getattr(self, name).numpy())
            data[name] = {"path": str(path), "tags": [f"#{name}"]}
        data["again"] = data["half"]
        rights = {name: ["compute", "open"] for name in DRIVERS}
        options = {"": {"drivers": rights, "open": list(DRIVERS)}}
        for name in ALL:
            options[name] = {"state": str(folder / f"{name}.state"), "checkpoints": str(folder / f"{name}.saved")}
        options["alice"] |= {
            "data": data,
            "open": {"erin": {"min_items": 64}, "dave": {"approve": True}},
        }
        options["bob"] |= {"data": {"y": data["x"]}}
        options["carol"] |= {"data": {"z": data["x"]}, "open": []}
        self.office, self.options = office, options
        self.workers = None

    def __enter__(self):
        self.workers = Workers(self.office.folder, ALL, options=self.options)
        for worker in self.workers.workers.values():
            worker.attacker = {name: self.office.tls(name) for name in DRIVERS}
        return self

    def __exit__(self, *error):
        self.workers.stop()

    @property
    def log(self):
        """The lines of alice's log."""
        path = self.folder / "alice.state" / "openings.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


@pytest.fixture(scope="session")
def office(tmp_path_factory):
    return Office(tmp_path_factory.mktemp("attacks-office"))


@pytest.fixture(scope="session")
def scene(office, tmp_path_factory):
    with Scene(office, tmp_path_factory.mktemp("attacks")) as found:
        yield found


class Witness:
    """What is said of an attack, from here on."""

    def __init__(self, scene, caplog):
        self._scene, self._caplog = scene, caplog
        self._before = len(scene.log)
        caplog.set_level(logging.INFO, "pysmpc.worker")

    @property
    def lines(self):
        """alice's lines of the log of openings."""
        return self._scene.log[self._before :]

    def names(self, driver, *words):
        """The log says that this driver was refused, and why (soon: a session may still be ending)."""
        until = time.monotonic() + 3.0
        while not (said := self._said(driver, words))[1] and time.monotonic() < until:
            time.sleep(0.02)
        reasons, fitting = said
        assert reasons, f"nothing in the log names {driver}"
        assert fitting, reasons

    def _said(self, driver, words):
        """Why this driver was refused, and whether that has one of the words, if there are any."""
        reasons = self._reasons(driver, words)
        return reasons, any(word in reason for word in words for reason in reasons) if words else bool(reasons)

    def _reasons(self, driver, words):
        """Why this driver was refused: openings, sessions that failed, connections that ended with one of the words."""
        reasons = [
            line["reason"] for line in self.lines if not line.get("permitted", True) and line["driver"] == driver
        ]
        for record in self._caplog.records:
            why = getattr(record, "reason", "")
            asked = "stands at" in why  # the client's question where a program stands
            told = record.levelno >= logging.WARNING or any(word in why for word in words)
            if getattr(record, "peer", "") == driver and told and not asked:
                reasons.append(why)
        return reasons


@pytest.fixture
def witness(scene, caplog):
    return Witness(scene, caplog)
