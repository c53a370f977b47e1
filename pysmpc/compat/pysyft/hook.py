"""`TorchHook`: the documents' verbs as methods of torch's classes.

It only adds names, to torch.Tensor, nn.Module, optim.Optimizer and Dataset; nothing of torch's
own is replaced, and without it nothing is added.  Names that users may want for
attributes of their own (id, tags, owner) give way to them.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from types import ModuleType
from typing import Any, NoReturn

import torch
from torch import nn
from torch.optim.optimizer import register_optimizer_step_pre_hook
from torch.utils.hooks import RemovableHandle

from pysmpc.compat.pysyft import datasets, fixed_optimizers, labels, modules, verbs
from pysmpc.compat.pysyft.pointers import PointerTensor, pointer_to
from pysmpc.compat.pysyft.pysyft_errors import HookError, unsupported
from pysmpc.compat.pysyft.workers import LOCAL, VirtualWorker


class Attribute:
    """A computed attribute that an instance may shadow by one of its own."""

    def __init__(self, function: Callable[[Any], Any]) -> None:
        self.function = function
        self.__doc__ = function.__doc__

    def __call__(self, instance: Any) -> Any:
        """What the attribute is; torch.overrides takes what is not callable for a data descriptor."""
        return self.function(instance)

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        return self if instance is None else self.function(instance)


def _missing(name: str, advice: str) -> Callable[..., NoReturn]:
    def method(self: torch.Tensor, *args: Any, **kwargs: Any) -> NoReturn:
        raise NotImplementedError(f"{name}() is not available: {advice}")

    method.__name__ = name
    return method


TENSOR: dict[str, Any] = {
    "share": verbs.share,
    "share_": verbs.share_,
    "get": verbs.get,
    "get_": verbs.get_,
    "send": verbs.send,
    "send_": verbs.send_,
    "move": verbs.move,
    "move_": verbs.move_,
    "copy": verbs.copy,
    "refresh": verbs.refresh,
    "fix_precision": verbs.fix_precision,
    "fix_precision_": verbs.fix_precision_,
    "fix_prec": verbs.fix_precision,
    "fix_prec_": verbs.fix_precision_,
    "float_precision": verbs.float_precision,
    "float_precision_": verbs.float_precision_,
    "float_prec": verbs.float_precision,
    "float_prec_": verbs.float_precision_,
    "encrypt": verbs.encrypt,
    "decrypt": verbs.decrypt,
    "remote_get": verbs.remote_get,
    "mid_get": verbs.remote_get,
    "remote_send": verbs.remote_send,
    "tag": labels.tag,
    "describe": labels.describe,
    "torch_type": labels.torch_type,
    "tags": Attribute(labels.tags),
    "description": Attribute(labels.description),
    "id": Attribute(labels.tensor_id),
    "owner": Attribute(labels.owner),
    "location": Attribute(labels.location),
    "private_tensor": _missing("private_tensor", "permissions come later; do not send what nobody may get"),
    "allow": _missing("allow", "permissions come later; do not send what nobody may get"),
    "numpy_tensor": _missing("numpy_tensor", "share torch tensors: torch.from_numpy(array)"),
    "virtual_get": _missing("virtual_get", "x.reveal() opens without taking the shares away"),
}

MODULE: dict[str, Any] = {
    "share": modules.share,
    "share_": modules.share,
    "get": modules.get,
    "get_": modules.get,
    "send": modules.send,
    "send_": modules.send,
    "move": modules.move,
    "copy": modules.copy,
    "fix_precision": modules.fix_precision,
    "fix_precision_": modules.fix_precision,
    "fix_prec": modules.fix_precision,
    "float_precision": modules.float_precision,
    "float_precision_": modules.float_precision,
    "float_prec": modules.float_precision,
    "encrypt": modules.encrypt,
    "encrypt_": modules.encrypt,
    "decrypt": modules.decrypt,
    "decrypt_": modules.decrypt,
    "owner": Attribute(modules.owner),
    "location": Attribute(modules.location),
}

OPTIMIZER: dict[str, Any] = {
    "fix_precision": fixed_optimizers.fix_precision,
    "fix_prec": fixed_optimizers.fix_precision,
    "float_precision": fixed_optimizers.float_precision,
    "float_prec": fixed_optimizers.float_precision,
}

DATASET: dict[str, Any] = {"federate": datasets.federate}

ADDED: list[tuple[type, dict[str, Any]]] = [
    (torch.Tensor, TENSOR),
    (nn.Module, MODULE),
    (torch.optim.Optimizer, OPTIMIZER),
    (torch.utils.data.Dataset, DATASET),
]


class TorchHook:
    """hook = sy.TorchHook(torch) adds the verbs; hook.unhook() takes them away again.

    hook.local_worker is the caller, "me".  A second call warns and gives the first hook.
    """

    is_torch_hook = True
    local_worker: VirtualWorker
    _steps: RemovableHandle
    active: TorchHook | None = None

    def __new__(
        cls,
        torch: ModuleType,
        local_worker: VirtualWorker | None = None,
        is_client: bool = True,
        verbose: bool = False,
        seed: int | None = None,
    ) -> TorchHook:
        if TorchHook.active is not None:
            warnings.warn("torch is hooked already; this call has no effect", stacklevel=2)
            return TorchHook.active
        if getattr(torch, "__name__", None) != "torch":
            raise TypeError(f"TorchHook takes the module torch: sy.TorchHook(torch), not {torch!r}")
        unsupported("TorchHook", local_worker=local_worker, is_client=not is_client, verbose=verbose)
        if seed is not None:
            raise NotImplementedError("what hides secrets is never seeded; for your own draws use torch.manual_seed")
        hook = super().__new__(cls)
        hook._add()
        hook._steps = register_optimizer_step_pre_hook(fixed_optimizers.follow)
        hook.local_worker = VirtualWorker(hook, id=LOCAL, is_client_worker=True)
        TorchHook.active = hook
        return hook

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass

    def __deepcopy__(self, memo: dict[int, Any]) -> TorchHook:
        return self  # there is one

    def _add(self) -> None:
        for cls, names in ADDED:
            taken = [name for name in names if hasattr(cls, name)]
            if taken:
                raise HookError(f"{cls.__name__} has {', '.join(taken)} already; another library may have patched it")
        for cls, names in ADDED:
            for name, value in names.items():
                setattr(cls, name, value)

    def unhook(self) -> None:
        """Take the added names away."""
        if TorchHook.active is not self:
            raise HookError("torch is not hooked by this hook")
        for cls, names in ADDED:
            for name in names:
                delattr(cls, name)
        self._steps.remove()
        TorchHook.active = None

    @staticmethod
    def pointer_to(worker: VirtualWorker, key: int) -> PointerTensor:
        """A pointer to an object at a worker."""
        return pointer_to(worker, key)


def active_hook() -> TorchHook:
    """The hook in force, or HookError."""
    if TorchHook.active is None:
        raise HookError("torch is not hooked; call hook = sy.TorchHook(torch) first")
    return TorchHook.active
