"""What of torch does not ask a tensor before it works on it, and what happens instead where that is a secret.

What reads a tensor's memory raises, as secrets have none.  What torch takes apart above autograd into pieces that lose
digits is a function of this package (`pysmpc.ops.composites`).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.jit._builtins
import torch.nn.functional as functional
import torch.overrides
import torch.utils.dlpack

from pysmpc.errors import RevealError
from pysmpc.ops.composites import (
    BUILTINS,
    COMPOSITES,
    FUNCTIONALS,
    LINALG,
    METHODS,
    NN,
    multi_head_attention_forward,
    ordinary,
)
from pysmpc.ops.packed import PACKED
from pysmpc.ops.recurrent import RECURRENT
from pysmpc.tensor.complex_tensor import PARTS, ComplexTensor
from pysmpc.tensor.secret import SecretTensor
from pysmpc.tensor.secret_errors import HOW, not_implemented

#: Those that serve complex secrets, too.
OF_COMPLEX = frozenset({"dist"})

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


def _composite(name: str, of_secrets: Callable[..., Any], module: Any) -> Callable[..., Any]:
    """torch's function of a name, but for secrets."""
    of_others = getattr(module, name)
    prefix = "linalg_" if module is torch.linalg else ""

    @functools.wraps(of_others)
    def call(*args: Any, **kwargs: Any) -> Any:
        operands = (*args, *kwargs.values())
        secret = any(isinstance(x, SecretTensor) for x in operands)
        if secret and any(isinstance(x, ComplexTensor) for x in operands) and name not in OF_COMPLEX:
            raise not_implemented(f"{prefix}{name}", PARTS)
        return (of_secrets if secret else of_others)(*args, **kwargs)

    call.__qualname__, call.__module__ = name, module.__name__
    if module is not functional:
        torch.jit._builtins._register_builtin(call, f"aten::{prefix}{name}")
    return call


def _has_torch_function(tensors: Any) -> bool:
    """Whether one of them has functions of its own: for torch.nn.functional, also whether one is a secret."""
    return _has(tensors) or any(isinstance(x, SecretTensor) for x in tensors)


def _handle_torch_function(function: Callable[..., Any], tensors: Any, *args: Any, **kwargs: Any) -> Any:
    """torch.overrides.handle_torch_function, but for secrets."""
    if _has(tensors):
        return _handle(function, tensors, *args, **kwargs)
    if function.__name__ == multi_head_attention_forward.__name__:
        return multi_head_attention_forward(function, *args, **kwargs)
    return ordinary(function)(*args, **kwargs)


_has: Any = torch.overrides.has_torch_function
_handle: Any = torch.overrides.handle_torch_function


def _put(module: Any, **functions: Any) -> None:
    """Functions of a module, by their names, in the place of those that it has."""
    for name, function in functions.items():
        setattr(module, name, function)


def _put_composites(module: Any, functions: Mapping[str, Callable[..., Any]]) -> None:
    """Functions of secrets beside those of a module, by their names."""
    _put(module, **{name: _composite(name, of_secrets, module) for name, of_secrets in functions.items()})


def install() -> None:
    """Put them in place, once: where secrets are to be."""
    if "data" not in torch.Tensor.__dict__:
        torch.Tensor.data = property(_memory.__get__, _set_data)  # type: ignore[assignment]
        for module in (torch, torch.utils.dlpack):
            _put(module, to_dlpack=_to_dlpack)
        _put_composites(torch, COMPOSITES)
        _put_composites(torch._VF, {**PACKED, **RECURRENT})
        _put_composites(torch.linalg, LINALG)
        for name in METHODS:
            setattr(SecretTensor, name, COMPOSITES[name])
        torch.special.sinc = torch.sinc
        _put_composites(functional, FUNCTIONALS)
        _put_composites(NN, BUILTINS)
        torch.jit._builtins._register_builtin(_has_torch_function, "aten::has_torch_function")
        _put(functional, has_torch_function=_has_torch_function, handle_torch_function=_handle_torch_function)
