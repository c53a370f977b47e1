"""An aggregator that is a process, whose memory a test reads: in a module that the process can import."""

import torch

from pysmpc.federated.aggregation import Collector

NAMES = ("north", "south", "east")
SIZE = 2000


def add_up(secure, pipe):
    """An aggregator that takes what clients leave: their words, or the part that is for the last of three holders."""
    total, collector = torch.zeros(SIZE, dtype=torch.int64), Collector("holder", SIZE, b"round", NAMES, 2)
    pipe.send("up")
    for name in NAMES:
        part = torch.from_numpy(pipe.recv().copy())
        if secure:
            collector.receive(name, b"round", part)
        else:
            total.add_(part)
        kept = part  # as in a loop over what comes
        pipe.send(name)
    pipe.recv()  # to be looked at
    del kept
    total = collector.release(NAMES) if secure else total
    pipe.send(total.numpy())
