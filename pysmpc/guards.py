"""What of torch reads a tensor's memory behind its back: for secrets, which have none, it raises instead."""

from __future__ import annotations

from typing import Any

import torch
import torch.utils.dlpack

from pysmpc.errors import RevealError
from pysmpc.tensor import HOW, SecretTensor

_memory = torch._C.TensorBase.__dict__["data"]


def _set_data(self: torch.Tensor, value: Any) -> None:
    if isinstance(value, SecretTensor) and not isinstance(self, SecretTensor):
        raise RevealError(f"a plain tensor cannot take a secret for its data; bind the name to the secret, or {HOW}")
    _memory.__set__(self, value)


def _to_dlpack(tensor: Any) -> Any:
    """A DLPack capsule of a plain tensor; raises for a secret."""
    if isinstance(tensor, SecretTensor):
        raise RevealError(f"DLPack would read memory that a secret does not have; {HOW}")
    return _capsule(tensor)


_capsule: Any = torch._C._to_dlpack


def install() -> None:
    """Put them in place, once: where secrets are to be."""
    if "data" not in torch.Tensor.__dict__:
        torch.Tensor.data = property(_memory.__get__, _set_data)  # type: ignore[assignment]
        for module in (torch, torch.utils.dlpack):
            vars(module)["to_dlpack"] = _to_dlpack
