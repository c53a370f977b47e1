"""What a training step depends on beside its arguments: a snapshot that two calls can be compared by.

A step that is repeated runs no Python, so a repetition is right only while everything that the
Python would have looked at is as it was: attributes, buffers and hooks of the model, settings,
state and hooks of the optimizer, and what the loss refers to.  Secrets count by their kind: the
recording itself knows which of them it reads, and reads them anew.
"""

from __future__ import annotations

import types
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.nn.modules import module as modules
from torch.nn.modules.batchnorm import _NormBase
from torch.optim import optimizer as optimizers

from pysmpc.runtime.session import Session
from pysmpc.tensor import SecretTensor

SMALL = 4096  # elements of a public tensor whose values are compared; of larger ones identity and version
DEPTH = 12  # of attributes of attributes

_PLAIN = (bool, int, str, bytes, complex, type(None), type, torch.dtype, torch.device, torch.Size)
_VALUES = frozenset((bool, int, str, bytes, complex, type(None), torch.dtype))
_CONTAINERS = frozenset((dict, OrderedDict, list, tuple, set))
_GLOBAL_HOOKS = [
    found
    for place in (modules, optimizers)
    for name, found in vars(place).items()
    if name.startswith("_global_") and isinstance(found, Mapping)
]
#: In place of a secret that is no parameter: the recording knows whether it reads it.
_SECRET = object()
#: Attributes that change at each step and decide nothing.
_SKIPPED = frozenset(("grad", "_step_count", "_opt_called"))


class _Same:
    """An object by its identity; kept alive, so that no other gets its place in memory."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and other.value is self.value

    def __hash__(self) -> int:
        return id(self.value)


def snapshot(*values: Any) -> list[Any]:
    """What the values come to, for `==`: numbers and small tensors by value, all else by parts or identity."""
    known: dict[int, int] = {}
    return [_of(value, known, 0) for value in (*values, *_GLOBAL_HOOKS)]


def _of(value: Any, known: dict[int, int], depth: int) -> Any:
    kind = type(value)
    if kind in _VALUES:
        return value
    if kind in _CONTAINERS and not value:
        return kind
    if isinstance(value, _PLAIN):
        return kind, value
    if isinstance(value, float):
        return kind, repr(value)  # so that NaN is as it was
    if id(value) in known:
        return known[id(value)]
    known[id(value)] = len(known)
    if isinstance(value, torch.Tensor):
        return _tensor(value, known, depth)
    if depth > DEPTH or isinstance(value, types.ModuleType | Session):
        return _Same(value)
    deeper = depth + 1
    if isinstance(value, dict | Mapping):
        return [(_key(k), _of(v, known, deeper)) for k, v in value.items() if k not in _SKIPPED]
    if isinstance(value, list | tuple | set | frozenset):
        parts = [each for v in value if (each := _of(v, known, deeper)) is not _SECRET]
        return [kind, *parts] if parts or not value else _SECRET  # what a model notes of its activations
    if isinstance(value, types.MethodType):
        return [_of(value.__func__, known, deeper), _of(value.__self__, known, deeper)]
    if isinstance(value, types.FunctionType):
        return [_Same(value.__code__), *(_of(v, known, deeper) for v in _referred(value))]
    attributes = getattr(value, "__dict__", None)
    if not isinstance(attributes, dict):
        return _Same(value)
    if isinstance(value, _NormBase) and value.momentum is not None:
        buffers = _but(value._buffers, "num_batches_tracked", known, deeper)
        return [_Same(value), _but(attributes, "_buffers", known, deeper), buffers]
    if isinstance(value, nn.Module | torch.optim.Optimizer) or type(value).__module__.split(".")[0] != "torch":
        return [_Same(value), _of(attributes, known, deeper)]
    return _Same(value)


def counters(model: Any) -> list[torch.Tensor]:
    """What batch normalisations count and do not read: how many batches they have seen, where momentum is a number."""
    parts = model.modules() if isinstance(model, nn.Module) else ()
    found = [each.num_batches_tracked for each in parts if isinstance(each, _NormBase) and each.momentum is not None]
    return [each for each in found if each is not None]


def _but(attributes: Mapping[str, Any], name: str, known: dict[int, int], depth: int) -> list[Any]:
    """What the attributes come to, but for one of them."""
    return [(_key(k), _of(v, known, depth)) for k, v in attributes.items() if k != name and k not in _SKIPPED]


def _key(key: Any) -> Any:
    return key if type(key) in _VALUES else _Same(key)


def _tensor(value: torch.Tensor, known: dict[int, int], depth: int) -> Any:
    hooks = [_of(getattr(value, name, None), known, depth + 1) for name in _TENSOR_HOOKS] if value.is_leaf else []
    facts = (tuple(value.shape), value.dtype, value.requires_grad, hooks)
    if isinstance(value, SecretTensor):
        return _SECRET if not isinstance(value, nn.Parameter) else (_Same(value), _Same(value.cell), *facts)
    if value.layout is not torch.strided or value.device.type != "cpu" or value.numel() > SMALL:
        return _Same(value), value._version, *facts
    return value.detach().contiguous().view(-1).view(torch.uint8).numpy().tobytes(), *facts


_TENSOR_HOOKS = ("_backward_hooks", "_post_accumulate_grad_hooks")


def _referred(function: types.FunctionType) -> list[Any]:
    """Defaults, what a function closes over, and the globals that it names, but for modules, classes and functions."""
    found: list[Any] = [function.__defaults__, function.__kwdefaults__]
    for cell in function.__closure__ or ():
        try:
            found.append(cell.cell_contents)
        except ValueError:  # not bound yet
            found.append(None)
    for name in function.__code__.co_names:
        value = function.__globals__.get(name)
        if not isinstance(value, types.ModuleType | type | types.BuiltinFunctionType):
            found.append(value)
    return found
