"""Federated training: a model goes to the workers that hold the data, and a sum of their updates comes back.

`federation` is what users call: `clients` asks workers, `updates` says what leaves one, `aggregation` adds up shares,
`strategies` makes the next model, `loops` captures what a driver wants to be run.  Modules of the same layer and above
may import from here.  Start with `federation`.
"""

from pysmpc.compat.pysyft.pointers import MultiPointerTensor, PointerTensor
from pysmpc.compat.pysyft.workers import VirtualWorker
from pysmpc.federated.federation import Federation, Round
from pysmpc.federated.local_training import score, train
from pysmpc.federated.loops import Loop
from pysmpc.federated.splits import dirichlet, evenly, scatter
from pysmpc.federated.strategies import FedAdam, FedAvg, FedBN, FedProx, FedYogi, Strategy

__all__ = [
    "FedAdam",
    "FedAvg",
    "FedBN",
    "FedProx",
    "FedYogi",
    "Federation",
    "Loop",
    "MultiPointerTensor",
    "PointerTensor",
    "Round",
    "Strategy",
    "VirtualWorker",
    "dirichlet",
    "evenly",
    "scatter",
    "score",
    "train",
]
