"""A training that is begun anew until it ends: what a driver runs while processes around it, or it itself, are killed."""

from pathlib import Path

import torch
from torch.nn import functional as F
from twins import mlp

import pysmpc as sy
from pysmpc.runtime import checkpoint

STEPS, EVERY = 6, 3


def task():
    """(model, x, y), the same in every process."""
    with torch.random.fork_rng():
        torch.manual_seed(7)
        return mlp(8, 6, 3), torch.randn(12, 8), torch.randn(12, 3)


def train(parties, folder, driver="scientist"):
    """STEPS steps in all, from the last checkpoint on; the parameters at the end."""
    model, x, y = task()
    net = sy.encrypt(model, parties, rounding="nearest")
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9)
    done = 0
    if checkpoint.known(Path(folder) / driver):
        done = sy.load(net, optimizer, folder)["step"]
    a, b = (sy.encrypt(each, parties, rounding="nearest") for each in (x, y))
    for step in range(done, STEPS):
        optimizer.zero_grad()
        loss = F.mse_loss(net(a), b)
        loss.backward()
        optimizer.step()
        if step % EVERY == EVERY - 1:
            sy.save(net, optimizer, folder, step=step + 1)
            sy.decrypt(loss.detach())
    return [sy.decrypt(p) for p in net.parameters()]


def drive(config, folder, pipe):
    """A driver that is a process of its own."""
    from pysmpc.remote.parties import RemoteParties

    torch.set_num_threads(1)
    pipe.send("up")
    with RemoteParties(config) as parties:
        found = train(parties, folder)
    pipe.send([each.numpy() for each in found])
