"""Federated datasets, loaders and plans under the names that PySyft 0.2's tutorials use.

`datasets` has BaseDataset and what becomes of it at workers, `plans` captured programs, `averaging` the mean of models.
Workers, pointers and verbs are in `pysmpc.federated`.  Start with `datasets`.
"""

from pysmpc.compat.pysyft.averaging import fed_avg
from pysmpc.compat.pysyft.datasets import BaseDataset, FederatedDataLoader, FederatedDataset
from pysmpc.compat.pysyft.plans import Plan, PlanPointer, func2plan

__all__ = [
    "BaseDataset",
    "FederatedDataLoader",
    "FederatedDataset",
    "Plan",
    "PlanPointer",
    "fed_avg",
    "func2plan",
]
