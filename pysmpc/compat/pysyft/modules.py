"""The documents' verbs as methods of nn.Module: in place, and returning the module.

A parameter stays the same Python object, so that an optimizer that was made before
goes on working; where torch cannot do that (a graph still uses the parameter), it is
replaced, with a warning.
"""

from __future__ import annotations

import copy as copying
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from pysmpc.compat.pysyft import labels, verbs
from pysmpc.compat.pysyft.pointers import RemoteTensor
from pysmpc.compat.pysyft.pysyft_errors import NothingToGetError, unsupported
from pysmpc.compat.pysyft.workers import VirtualWorker
from pysmpc.tensor.secret import SecretTensor

Change = Callable[[torch.Tensor], torch.Tensor]
Wanted = Callable[[torch.Tensor], bool]


def _is_secret(tensor: torch.Tensor) -> bool:
    return isinstance(tensor, SecretTensor) and not tensor.session.plain


def _is_away(tensor: torch.Tensor) -> bool:
    return isinstance(tensor, RemoteTensor) or _is_secret(tensor)


def _is_real(tensor: torch.Tensor) -> bool:
    return tensor.is_floating_point()


def _is_fixed(tensor: torch.Tensor) -> bool:
    return isinstance(tensor, SecretTensor | RemoteTensor)


def _is_any(tensor: torch.Tensor) -> bool:
    return True


def _changed(module: nn.Module, change: Change, wanted: Wanted, requires_grad: bool | None = None) -> nn.Module:
    """Change parameters and buffers; all new values are made before the first is put in place.

    requires_grad None: as it was before the module left plain torch.
    """
    places = [(part, name, p) for part in module.modules() for name, p in part._parameters.items() if p is not None]
    distinct = {id(p): p for _, _, p in places if wanted(p)}
    trainable = {key: vars(p).get("pysmpc_trainable", p.requires_grad) for key, p in distinct.items()}
    fresh = {key: _parameter(change(p), trainable[key], requires_grad) for key, p in distinct.items()}
    buffers = [
        (part, name, change(b))
        for part in module.modules()
        for name, b in part._buffers.items()
        if b is not None and wanted(b) and _is_real(b)
    ]
    kept = {key: _in_place(p, fresh[key]) for key, p in distinct.items()}
    for part, name, p in places:
        if id(p) in kept:
            part._parameters[name] = kept[id(p)]
    for part, name, buffer in buffers:
        part._buffers[name] = buffer
    return module


def _parameter(value: torch.Tensor, trainable: bool, requires_grad: bool | None) -> nn.Parameter:
    wanted = trainable if requires_grad is None else trainable and requires_grad
    gradient = value.grad
    out = nn.Parameter(value.detach(), requires_grad=wanted)
    if gradient is not None:
        out.grad = gradient
    if isinstance(out, SecretTensor | RemoteTensor):
        vars(out)["pysmpc_trainable"] = trainable
        if isinstance(out, SecretTensor):
            out.chained = wanted and requires_grad is not None
    return out


def _in_place(old: nn.Parameter, new: nn.Parameter) -> nn.Parameter:
    try:
        return verbs.become(old, new)  # type: ignore[no-any-return]
    except RuntimeError:
        warnings.warn(
            "a parameter is still part of a graph and was replaced by a new object; "
            "make optimizers of this module anew, and delete outputs before converting it",
            stacklevel=4,
        )
        return new


def fix_precision(
    self: nn.Module, precision_fractional: int = 3, base: int = 10, *, dtype: Any = "long", no_wrap: bool = False
) -> nn.Module:
    """Parameters and real buffers as fixed-precision numbers."""
    options = {"dtype": dtype, "no_wrap": no_wrap}
    return _changed(self, lambda p: verbs.fix_precision(p.detach(), precision_fractional, base, **options), _is_real)


def float_precision(self: nn.Module) -> nn.Module:
    """Fixed-precision parameters as real ones: nn.Parameter again."""
    return _changed(self, lambda p: verbs.float_precision(p.detach()), _is_fixed)


def share(self: nn.Module, *owners: Any, requires_grad: bool = False, **options: Any) -> nn.Module:
    """Shares of the fixed-precision parameters for the workers; trainable if requires_grad."""
    return _changed(self, lambda p: verbs.share(p.detach(), *owners, **options), _is_real, requires_grad)


def get(self: nn.Module, **options: Any) -> nn.Module:
    """Open, or fetch, the parameters and buffers."""
    if not any(_is_away(t) for t in (*self.parameters(), *self.buffers())):
        raise NothingToGetError("no parameter of this module is shared or at a worker: there is nothing to get")
    return _changed(self, lambda p: verbs.get(_shallow(p), **options), _is_away)


def _shallow(tensor: torch.Tensor) -> torch.Tensor:
    """A tensor that `get` may consume: the parameter itself is swapped afterwards."""
    return tensor.detach() if isinstance(tensor, SecretTensor) else tensor


def send(self: nn.Module, *destination: Any, **options: Any) -> nn.Module:
    """Parameters and buffers to a worker, gradients with them."""
    if len(destination) != 1:
        raise TypeError("a module is sent to one worker: model.send(bob); send copies to others: model.copy().send()")
    if any(_is_secret(p) for p in self.parameters()):
        raise NotImplementedError("a shared module is at its holders already; .get() it before sending it")
    return _changed(self, lambda p: verbs.send(p, *destination, **options), _is_any)


def move(self: nn.Module, destination: Any) -> nn.Module:
    """Parameters and buffers from a worker to another."""
    return _changed(self, lambda p: verbs.move(p, destination), _is_any)


def copy(self: nn.Module) -> nn.Module:
    """A module of its own with the same values."""
    return copying.deepcopy(self)


def encrypt(
    self: nn.Module,
    protocol: str = "mpc",
    inplace: bool = True,
    *,
    workers: Sequence[Any] = (),
    crypto_provider: Any = None,
    requires_grad: bool = False,
    precision_fractional: int = 3,
    base: int = 10,
) -> nn.Module:
    """fix_precision and share in one; a copy of the module if not inplace."""
    verbs.check_protocol(protocol)
    if not workers:
        raise TypeError("encrypt() needs the holders: workers=[alice, bob]")
    verbs.holders_and_provider(workers, crypto_provider)
    module = self if inplace else copy(self)
    fix_precision(module, precision_fractional, base)
    options = {"protocol": protocol, "crypto_provider": crypto_provider}
    return share(module, *workers, requires_grad=requires_grad, **options)


def decrypt(self: nn.Module, inplace: bool = True, *, private_key: Any = None) -> nn.Module:
    """get and float_precision in one; a copy of the module if not inplace."""
    unsupported("decrypt()", private_key=private_key)
    return float_precision(get(self if inplace else copy(self)))


def owner(self: nn.Module) -> VirtualWorker:
    """Who has the module: the local worker."""
    return labels.owner(next(self.parameters()))  # type: ignore[no-any-return]


def location(self: nn.Module) -> Any:
    """Where its parameters are."""
    return labels.location(next(self.parameters()))
