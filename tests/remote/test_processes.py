"""Processes of their own, started by the library: the demo, and the documents' helpers."""

import pytest
import torch

import pysmpc as sy
from pysmpc import sandbox
from pysmpc.demo import remote
from pysmpc.demo.settings import Settings

pytestmark = pytest.mark.slow


def test_the_demo():
    """Data that their owners load; results of one process; counts of one process; little through the driver."""
    outcome = remote.run(Settings(epochs=3), verbose=False)
    here, there = outcome.local_stats, outcome.remote_stats
    assert (here.rounds, here.sent, here.dealt) == (there.rounds, there.sent, there.dealt)
    parameters = 784 * 128 + 128 + 128 * 64 + 64 + 64 * 10 + 10
    assert there.shared == 8 * parameters
    assert outcome.traffic < remote.DRIVER_LIMIT
    assert abs(outcome.remote.test_correct[-1] - outcome.local.test_correct[-1]) <= 32
    assert outcome.remote.test_correct[-1] > 320


def test_the_documents_helpers():
    hook = sy.TorchHook(torch)
    try:
        alice, bob = sandbox.connect_to_workers(n_workers=2, remote=True)
        provider = sandbox.connect_to_crypto_provider()
        x = torch.tensor([1.5, -2.25]).fix_precision().share(alice, bob, crypto_provider=provider)
        y = (x * x + 1).get().float_precision()
        assert torch.allclose(y, torch.tensor([3.25, 6.0625]), atol=0.002)
        assert "worker1" in repr(x)
    finally:
        hook.unhook()
