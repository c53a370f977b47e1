"""pysmpc: secure multi-party computation for PyTorch.

    import pysmpc as sy

    parties = sy.virtual("alice", "bob")
    x = sy.encrypt(torch.randn(3), parties)
    print(sy.decrypt(x * x))

Importing this does nothing but define names.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from pysmpc import optimizers as _optimizers  # noqa: F401  (refuses those whose steps would be wrong)
from pysmpc.api import Parties, bounded, encrypt, virtual
from pysmpc.checking import check
from pysmpc.cluster import distributed
from pysmpc.compat.pysyft import BaseDataset, FederatedDataLoader, FederatedDataset, Plan, fed_avg, func2plan
from pysmpc.dealing import record
from pysmpc.debugging import debug
from pysmpc.federated import Federation, MultiPointerTensor, PointerTensor, VirtualWorker
from pysmpc.hook import TorchHook, active_hook
from pysmpc.ops.dropout import secret_masks
from pysmpc.profiling import Network, profile
from pysmpc.receiving import decrypt
from pysmpc.runtime.ledger import Ledger, ledger
from pysmpc.saving import load, save
from pysmpc.steps import TrainStep
from pysmpc.tensor import SecretTensor

__version__ = "0.1.0"

__all__ = [
    "BaseDataset",
    "FederatedDataLoader",
    "FederatedDataset",
    "Federation",
    "Ledger",
    "MultiPointerTensor",
    "Network",
    "Parties",
    "Plan",
    "PointerTensor",
    "SecretTensor",
    "TorchHook",
    "TrainStep",
    "VirtualWorker",
    "bounded",
    "check",
    "debug",
    "decrypt",
    "distributed",
    "encrypt",
    "fed_avg",
    "func2plan",
    "ledger",
    "record",
    "load",
    "profile",
    "save",
    "secret_masks",
    "virtual",
]


def __getattr__(name: str) -> Any:
    """What is made or imported at its first use.

    `sy.local_worker`, once torch is hooked, `sy.sandbox`, `sy.securenn`, `sy.fss`, `sy.nn`, `sy.privacy`, and what
    needs a network: `sy.connect`.
    """
    if name == "local_worker":
        return active_hook().local_worker
    if name in ("fss", "nn", "privacy", "sandbox", "securenn"):
        return import_module(f"pysmpc.{name}")
    if name in ("connect", "PrivateDataLoader"):
        return getattr(import_module("pysmpc.remote.parties"), name)
    raise AttributeError(f"module 'pysmpc' has no attribute '{name}'")
