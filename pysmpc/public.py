"""The names of `import pysmpc as sy`; imported by `pysmpc` alone, at the first use of one of them."""

from __future__ import annotations

from pysmpc import display
from pysmpc import optimizers as _optimizers  # noqa: F401  (refuses those whose steps would be wrong)
from pysmpc.api import Parties, bounded, encrypt, virtual
from pysmpc.checking import check
from pysmpc.cluster import distributed
from pysmpc.compat.pysyft import BaseDataset, FederatedDataLoader, FederatedDataset, Plan, fed_avg, func2plan
from pysmpc.dealing import record
from pysmpc.debugging import debug
from pysmpc.errors import (
    BudgetSpentError,
    ChannelError,
    CheckpointError,
    ConfigurationError,
    DeviationError,
    EncodingError,
    IntegrityError,
    MaterialError,
    OpenNotPermittedError,
    PartyError,
    PeerLost,
    PrivacyError,
    PysmpcError,
    RangeError,
    RefusedError,
    RemoteError,
    RevealError,
    SessionMismatchError,
    WorkerLost,
)
from pysmpc.federated import Federation, MultiPointerTensor, PointerTensor, VirtualWorker
from pysmpc.hook import TorchHook
from pysmpc.ops.dropout import secret_masks
from pysmpc.optimizers.line_search import opened_line_search
from pysmpc.profiling import Network, profile
from pysmpc.receiving import decrypt
from pysmpc.runtime.ledger import Ledger, ledger
from pysmpc.saving import load, save
from pysmpc.steps import TrainStep
from pysmpc.tensor import SecretTensor

display.install()

__all__ = [
    "BaseDataset",
    "BudgetSpentError",
    "ChannelError",
    "CheckpointError",
    "ConfigurationError",
    "DeviationError",
    "EncodingError",
    "FederatedDataLoader",
    "FederatedDataset",
    "Federation",
    "IntegrityError",
    "Ledger",
    "MaterialError",
    "MultiPointerTensor",
    "Network",
    "OpenNotPermittedError",
    "Parties",
    "PartyError",
    "PeerLost",
    "Plan",
    "PointerTensor",
    "PrivacyError",
    "PysmpcError",
    "RangeError",
    "RefusedError",
    "RemoteError",
    "RevealError",
    "SecretTensor",
    "SessionMismatchError",
    "TorchHook",
    "TrainStep",
    "VirtualWorker",
    "WorkerLost",
    "bounded",
    "check",
    "debug",
    "decrypt",
    "distributed",
    "encrypt",
    "fed_avg",
    "func2plan",
    "ledger",
    "load",
    "opened_line_search",
    "profile",
    "record",
    "save",
    "secret_masks",
    "virtual",
]
