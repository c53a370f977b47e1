"""PySyft 0.2's vocabulary: workers, pointers, verbs, datasets and plans under the names that its tutorials use.

`workers` are virtual workers, `pointers` what is sent to them, `verbs` and `modules` the methods that `hook` adds to
torch's classes; `datasets` has BaseDataset and its loaders, `plans` captured programs, `averaging` the mean of models.
Start with `workers`, then `verbs`.
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
