"""Processes of their own, started by the library: the demo, and the documents' helpers."""

import pytest
import torch
from torch import nn

import pysmpc as sy
from pysmpc import sandbox
from pysmpc.demo import remote
from pysmpc.demo.settings import Settings
from pysmpc.remote.local_workers import LocalWorkers

pytestmark = pytest.mark.slow


def test_the_demo():
    """Data that their owners load; results of one process; counts of one process; little through the driver."""
    outcome = remote.run(Settings(epochs=3), verbose=False)
    here, there = outcome.local_stats, outcome.remote_stats
    consent = there.rounds - here.rounds  # a round of one word for each opening
    assert 0 < consent < 100
    assert (here.sent + 8 * consent, here.dealt) == (there.sent, there.dealt)
    parameters = 784 * 128 + 128 + 128 * 64 + 64 + 64 * 10 + 10
    assert there.shared == 8 * parameters
    assert outcome.traffic < remote.DRIVER_LIMIT
    assert abs(outcome.remote.test_correct[-1] - outcome.local.test_correct[-1]) <= 32
    assert outcome.remote.test_correct[-1] > 320


def test_a_long_run_stays_flat():
    """1,200 steps of a small network: no worker grows, slots are used again, the driver sends little."""
    with LocalWorkers() as workers, workers.connect() as parties:
        model = sy.encrypt(nn.Sequential(nn.Linear(20, 16), nn.ReLU(), nn.Linear(16, 4)), parties)
        x, y = sy.encrypt(torch.randn(32, 20), parties), sy.encrypt(torch.randn(32, 4), parties)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
        memory, traffic = [], []
        for step in range(1200):
            optimizer.zero_grad()
            loss = nn.functional.mse_loss(model(x), y)
            loss.backward()
            optimizer.step()
            if step % 100 == 99:
                sy.decrypt(loss.detach())
            if step in (399, 1199):
                parties.wait()
                memory.append([report["memory"] for report in parties.status()])
                traffic.append(sum(parties.traffic))
                assert all(report["sessions"][0]["values"] < 30 for report in parties.status())
        growth = [after - before for before, after in zip(*memory, strict=True)]
        assert max(growth) < 8e6, growth
        assert (traffic[1] - traffic[0]) / 800 < 1500, traffic


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
