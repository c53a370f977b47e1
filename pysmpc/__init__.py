"""pysmpc: secure multi-party computation for PyTorch.

    import pysmpc as sy

    parties = sy.virtual("alice", "bob")
    x = sy.encrypt(torch.randn(3), parties)
    print(sy.decrypt(x * x))

Importing this does nothing but define names.  Torch and the rest of the package are imported when one of them is used
for the first time, so that `pysmpc --help` answers at once; `pysmpc.public` says where each comes from.
"""

from __future__ import annotations

import gc
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

__version__ = "0.1.0"

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
    "PrivateDataLoader",
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
    "connect",
    "debug",
    "decrypt",
    "distributed",
    "encrypt",
    "encrypt_file",
    "encrypted_tensors",
    "fed_avg",
    "fss",
    "func2plan",
    "ledger",
    "load",
    "nn",
    "opened_line_search",
    "privacy",
    "profile",
    "protocols",
    "record",
    "sandbox",
    "save",
    "secret_masks",
    "securenn",
    "virtual",
]

#: Imported only when asked for: modules, and what needs a network.
_APART = {
    "PrivateDataLoader": "pysmpc.remote.driver.connect",
    "connect": "pysmpc.remote.driver.connect",
    "fss": "",
    "nn": "",
    "privacy": "",
    "protocols": "",
    "sandbox": "",
    "securenn": "",
}


def _load() -> None:
    """Import what users call.  ImportError says what to run where the compiled modules are missing."""
    if find_spec("pysmpc._ring") is None or find_spec("pysmpc._beaver") is None:
        raise ImportError(
            f"{Path(__file__).parent} has no compiled modules: it is a source checkout that was not built; run `make "
            "venv` or `pip install -e .` there, or, if pysmpc is installed, start Python in another folder",
            name="pysmpc._ring",
        )
    collects = gc.isenabled()
    gc.disable()  # what modules make stays: a collection meanwhile walks through all of torch
    try:
        public = import_module("pysmpc.public")
    finally:
        if collects:
            gc.enable()
    for name in public.__all__:
        globals().setdefault(name, getattr(public, name))


if TYPE_CHECKING:
    from pysmpc import fss, nn, privacy, protocols, sandbox, securenn
    from pysmpc.public import *
    from pysmpc.remote.driver.connect import PrivateDataLoader, connect

    local_worker: VirtualWorker
else:

    def __getattr__(name):
        """A public name at its first use; also `sy.local_worker`, once torch is hooked."""
        if name not in __all__ and name != "local_worker":
            raise AttributeError(f"module 'pysmpc' has no attribute '{name}'")
        _load()
        if name == "local_worker":
            return import_module("pysmpc.compat.pysyft.hook").active_hook().local_worker
        if name in _APART:
            place = _APART[name]
            return getattr(import_module(place), name) if place else import_module(f"pysmpc.{name}")
        return globals()[name]

    def __dir__():
        return sorted([*__all__, "__version__"])
