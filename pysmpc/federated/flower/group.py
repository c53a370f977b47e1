"""Who takes part in the sums of a Flower app, and on what terms: the same file at every client and holder.

Each reads it from a disk of its own.  Terms that came from the server would protect nobody from the server, which
could send every client other ones.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pysmpc.errors import ConfigurationError
from pysmpc.federated.aggregation import round_id
from pysmpc.federated.updates import MAX_ROWS, MAX_VALUE, Terms

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

TRAIN, EVALUATE = "train", "evaluate"
MAX_SCORE = 1024.0  # of the magnitude of a metric
SERVER = "server"


@dataclass(frozen=True)
class Group:
    """holders: public keys of those who hold keys, by name.  clients: of those who train; a holder may be a client.

    min_clients: a sum is of so many or more.  max_norm: an update is clipped to it at the client.  max_value, max_rows:
    a client with a larger element, or more rows, takes no part.  weight: the metric that counts a client's rows.
    """

    holders: Mapping[str, str]
    clients: Mapping[str, str]
    min_clients: int = 2
    max_norm: float | None = None
    max_value: float = MAX_VALUE
    max_rows: int = MAX_ROWS
    weight: str = "num-examples"

    def __post_init__(self) -> None:
        if not self.holders:
            raise ConfigurationError("a group needs a holder, whom the clients trust not to work with the server")
        if SERVER in self.clients or SERVER in self.holders:
            raise ConfigurationError(f"no member may be called {SERVER!r}")
        if not 2 <= self.min_clients <= len(self.clients):
            raise ConfigurationError(
                f"min_clients is {self.min_clients} of {len(self.clients)} clients; a sum is of 2 or more of them"
            )
        for name in self.holders.keys() & self.clients.keys():
            if self.holders[name] != self.clients[name]:
                raise ConfigurationError(f"{name} has two public keys; a member has one")
        for name, key in {**self.holders, **self.clients}.items():
            if len(key) != 64 or not set(key) <= set("0123456789abcdef"):
                raise ConfigurationError(f"the public key of {name} is not 64 hexadecimal digits")
        self.terms(TRAIN, {})

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Group:
        """From a TOML file with these fields; [holders] and [clients] are tables of names and keys."""
        file = Path(path)
        try:
            return cls(**tomllib.loads(file.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError) as error:
            raise ConfigurationError(f"{file}: {error}") from None

    def terms(self, kind: str, shapes: Mapping[str, tuple[int, ...]]) -> Terms:
        """Of what a client leaves: an update, or metrics."""
        if kind == TRAIN:
            return Terms(shapes, len(self.clients), self.max_norm, self.max_value, self.max_rows)
        return Terms(shapes, len(self.clients), None, MAX_SCORE, self.max_rows)

    def round(self, kind: str, attempt: str, model: str, size: int) -> bytes:
        """Tells a round from all others.  Members whose files differ do not open each other's keys."""
        facts = json.dumps(asdict(self), sort_keys=True)
        return round_id("flower", facts, kind, attempt, model, size)


def digest(arrays: Mapping[str, Any]) -> str:
    """SHA-256 of an ArrayRecord: names, types, shapes and values."""
    found = hashlib.sha256()
    for name, array in arrays.items():
        value = np.ascontiguousarray(array.numpy())
        found.update(json.dumps([name, value.dtype.str, list(value.shape)]).encode())
        found.update(value.tobytes())
    return found.hexdigest()
