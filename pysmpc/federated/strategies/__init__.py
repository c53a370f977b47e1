"""How the updates of a round become the next model: one file a strategy, all with the interface of `base`.

A strategy sees the weighted mean of updates and no single one.  It runs where the model's owner is, on plain numbers.
Imported by `pysmpc.federated`; start with `base` and `fedavg`.
"""

from pysmpc.federated.strategies.base import Strategy
from pysmpc.federated.strategies.fedadam import FedAdam
from pysmpc.federated.strategies.fedavg import FedAvg
from pysmpc.federated.strategies.fedbn import FedBN
from pysmpc.federated.strategies.fedprox import FedProx
from pysmpc.federated.strategies.fedyogi import FedYogi

__all__ = ["FedAdam", "FedAvg", "FedBN", "FedProx", "FedYogi", "Strategy"]
