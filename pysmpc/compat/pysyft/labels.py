"""What a tensor is called, where it is and what it is: tag, describe, id, owner, location, torch_type."""

from __future__ import annotations

from typing import Any

import torch

from pysmpc.compat.pysyft.pointers import MultiPointerTensor, PointerTensor
from pysmpc.compat.pysyft.workers import LOCAL, known_worker
from pysmpc.ring.shares import next_serial
from pysmpc.tensor.secret import SecretTensor

# --- names --------------------------------------------------------------------------


def tag(self: torch.Tensor, *tags: str) -> Any:
    """Add tags, by which workers' `search` finds the tensor; returns it."""
    if isinstance(self, PointerTensor):
        entry = self.handle.entry
        entry.tags = _joined(entry.tags, tags)
    else:
        self.pysmpc_tags = _joined(vars(self).get("pysmpc_tags", ()), tags)  # type: ignore[attr-defined]
    return self


def _joined(old: tuple[str, ...], new: tuple[str, ...]) -> tuple[str, ...]:
    if not all(isinstance(name, str) for name in new):
        raise TypeError("tags are strings")
    return tuple(dict.fromkeys((*old, *new)))


def describe(self: torch.Tensor, description: str) -> Any:
    """Set the description; returns the tensor."""
    if isinstance(self, PointerTensor):
        self.handle.entry.description = description
    else:
        self.pysmpc_description = description  # type: ignore[attr-defined]
    return self


def tags(self: torch.Tensor) -> set[str]:
    """The tags."""
    if isinstance(self, PointerTensor):
        return set(self.handle.entry.tags)
    return set(vars(self).get("pysmpc_tags", ()))


def description(self: torch.Tensor) -> str:
    """The description."""
    if isinstance(self, PointerTensor):
        return self.handle.entry.description
    return str(vars(self).get("pysmpc_description", ""))


def tensor_id(self: torch.Tensor) -> int:
    """A number of its own."""
    if isinstance(self, PointerTensor):
        return self.pointer_id
    known: int = vars(self).setdefault("pysmpc_id", 0) or next_serial()
    vars(self)["pysmpc_id"] = known
    return known


def owner(self: torch.Tensor) -> Any:
    """Who has the tensor or the pointer: the local worker, unless a pointer was sent on."""
    return known_worker(self.holder if isinstance(self, PointerTensor) else LOCAL)


def location(self: torch.Tensor) -> Any:
    """The worker that a pointer points to; of a secret or several pointers, the list of workers."""
    if isinstance(self, PointerTensor):
        return self.handle.worker
    if isinstance(self, MultiPointerTensor):
        return [pointer.handle.worker for pointer in self.children.values()]
    if isinstance(self, SecretTensor) and not self.session.plain:
        return [known_worker(name) for name in self.session.holders]
    raise AttributeError("this tensor is here: it has no location")


def torch_type(self: torch.Tensor) -> str:
    """The name of the torch type."""
    return str(self.type())
