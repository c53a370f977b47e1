"""Workers, pointers, federated training, and the verbs that PySyft 0.2's tutorials add to torch's classes.

`workers`, `pointers` and `verbs` are virtual workers and what is sent to them.  `federation` trains where the data are:
`clients` asks workers, `updates` says what leaves one, `aggregation` adds up shares, `strategies` makes the next model.
Modules of the same layer and above may import from here; start with `federation`.
"""

from pysmpc.federated.federation import Federation, Round
from pysmpc.federated.local import score, train
from pysmpc.federated.pointers import MultiPointerTensor, PointerTensor
from pysmpc.federated.splits import dirichlet, evenly, scatter
from pysmpc.federated.strategies import FedAdam, FedAvg, FedBN, FedProx, FedYogi, Strategy
from pysmpc.federated.workers import VirtualWorker

__all__ = [
    "FedAdam",
    "FedAvg",
    "FedBN",
    "FedProx",
    "FedYogi",
    "Federation",
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
