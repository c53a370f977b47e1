"""Fixtures for every test, and the way to `tests/support`, which holds what tests share."""

import os
import sys
from contextlib import suppress
from pathlib import Path

if "PYTEST_XDIST_WORKER" in os.environ:  # one of several processes, which share the cores
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent / "support"))
pytest.register_assert_rewrite(
    "hospital",
    "networks",
    "protocol_cases",
    "remotes",
    "settings",
    "kernel_oracles",
    "maskings",
    "op_checks",
    "parsers",
    "training_loops",
    "twins",
    "views",
)


#: Files that take some twenty seconds or more: begun first, so that no process ends with one while others are idle.
LONG = (
    "kernels/test_targets", "documents/test_samples", "documents/test_readme",
    "security/test_constant_time", "ops/test_cases", "session/test_distributed", "security/test_views",
    "remote/test_steps", "ops/test_catalogue", "program/test_steps", "remote/test_faults",
    "federated/test_loops_remote", "remote/test_programs", "federated/test_clients", "cli/test_training",
    "cli/test_manners", "remote/test_reload", "remote/test_saving", "federated/test_loops",
)  # fmt: skip


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items):
    here = Path(__file__).parent
    names = {
        path: path.relative_to(here).with_suffix("").as_posix()
        for path in {item.path for item in items}
        if path.is_relative_to(here)
    }
    order = {name: place for place, name in enumerate(LONG)}
    items.sort(key=lambda item: order.get(names.get(item.path), len(LONG)))


@pytest.fixture(autouse=True)
def fresh_randomness():
    """torch starts from a fixed seed of its own; no test may need one to pass."""
    torch.default_generator.seed()


@pytest.fixture(autouse=True)
def loops_of_its_own():
    """No test goes on with the training loop of another."""
    if (loop := sys.modules.get("pysmpc.program.loop")) is not None:
        with suppress(Exception):  # that one may have ended with an error
            loop.LOOPS.stop()
        loop.LOOPS.begin_anew()


@pytest.fixture
def rng():
    """Fresh randomness from the operating system."""
    return np.random.default_rng()


@pytest.fixture
def threads():
    """Sets the number of threads of torch and of the kernels; undone afterwards."""
    from pysmpc.ring import z2k

    before = torch.get_num_threads()

    def use(n):
        torch.set_num_threads(n)
        z2k.use_torch_threads()

    yield use
    use(before)
