"""Fixtures for every test, and the way to `tests/support`, which holds what tests share."""

import os
import sys
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


@pytest.fixture(autouse=True)
def fresh_randomness():
    """torch starts from a fixed seed of its own; no test may need one to pass."""
    torch.default_generator.seed()


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
