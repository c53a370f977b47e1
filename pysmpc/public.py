"""The names of `import pysmpc as sy`; imported by `pysmpc` alone, at the first use of one of them."""

from __future__ import annotations

from pysmpc import optimizers as _optimizers  # noqa: F401  (refuses those whose steps would be wrong)
from pysmpc.api.calls import bounded, encrypt
from pysmpc.api.checking import check
from pysmpc.api.cluster import distributed
from pysmpc.api.dealing import record
from pysmpc.api.debugging import debug
from pysmpc.api.model_files import encrypt_file, encrypted_tensors
from pysmpc.api.parties import Parties, virtual
from pysmpc.api.profiling import Network, profile
from pysmpc.api.receiving import decrypt
from pysmpc.api.saving import load, save
from pysmpc.compat.pysyft import BaseDataset, FederatedDataLoader, FederatedDataset, Plan, fed_avg, func2plan
from pysmpc.compat.pysyft.hook import TorchHook
from pysmpc.errors import (
    BudgetSpentError,
    ChannelError,
    CheckpointError,
    ConfigurationError,
    DeviationError,
    EncodingError,
    GetNotPermittedError,
    IntegrityError,
    MaterialError,
    ObjectNotFoundError,
    OpenNotPermittedError,
    PartyError,
    PeerLost,
    PrivacyError,
    PysmpcError,
    RangeError,
    RefusedError,
    RemoteError,
    RevealError,
    RoundError,
    SessionMismatchError,
    WorkerLost,
)
from pysmpc.federated import Federation, MultiPointerTensor, PointerTensor, VirtualWorker
from pysmpc.mpc.options import Protocol
from pysmpc.ops.dropout import secret_masks
from pysmpc.optimizers.line_search import opened_line_search
from pysmpc.program.train_step import TrainStep
from pysmpc.session.ledger import Ledger, ledger
from pysmpc.tensor import display
from pysmpc.tensor.secret import SecretTensor

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
    "GetNotPermittedError",
    "IntegrityError",
    "Ledger",
    "MaterialError",
    "MultiPointerTensor",
    "Network",
    "ObjectNotFoundError",
    "OpenNotPermittedError",
    "Parties",
    "PartyError",
    "PeerLost",
    "Plan",
    "PointerTensor",
    "PrivacyError",
    "Protocol",
    "PysmpcError",
    "RangeError",
    "RefusedError",
    "RemoteError",
    "RevealError",
    "RoundError",
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
    "encrypt_file",
    "encrypted_tensors",
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
