"""The files of `deploy/` are what a worker and a driver read."""

from pathlib import Path

import pytest

from pysmpc.remote.config import DriverConfig, WorkerConfig, load

DEPLOY = Path(__file__).parents[2] / "deploy"


@pytest.mark.parametrize("name", ["alice", "bob", "crypto_provider"])
def test_files_of_workers(name):
    config = load(DEPLOY / f"{name}.toml", WorkerConfig)
    others = load(DEPLOY / "parties.toml", DriverConfig).workers
    assert config.name == name
    assert {**config.peers, name: others[name]} == others
    assert (config.role == "provider") == (name == "crypto_provider")
    assert all("open" in config.drivers[driver] for driver in config.rules)


def test_units_and_images_run_the_command_that_exists():
    for name in ("pysmpc-worker@.service", "Containerfile"):
        text = (DEPLOY / name).read_text()
        assert "/opt/pysmpc/bin/pysmpc" in text
        assert "worker" in text
        assert "--config" in text


def test_the_unit_can_reload():
    lines = (DEPLOY / "pysmpc-worker@.service").read_text().splitlines()
    assert "ExecReload=/bin/kill -HUP $MAINPID" in lines
