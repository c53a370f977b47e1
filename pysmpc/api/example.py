"""A model with an example of what it is called with: the program that `sy.check` and `sy.estimate` run."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn
from torch.utils._pytree import tree_map

from pysmpc.api.calls import encrypt
from pysmpc.api.parties import Parties
from pysmpc.errors import EncodingError
from pysmpc.tensor.secret import SecretTensor


class Example:
    """A forward pass of a model, or a step of its training.

    caller: for messages, such as "check".  The others are the arguments of `sy.check`.  Raises EncodingError for a
    model that is encrypted, TypeError where a target is missing.

    trains: whether there is a backward pass.
    """

    def __init__(
        self, caller: str, model: nn.Module, example: Any, loss: Callable[..., Any] | None, target: Any, optimizer: Any
    ) -> None:
        if any(isinstance(p, SecretTensor) for p in model.parameters()):
            raise EncodingError(
                f"sy.{caller} takes the plain model, before it is encrypted; sy.decrypt(model) gives it back"
            )
        positional, keywords = (), {}
        if isinstance(example, Mapping):
            keywords = dict(example)
        else:
            positional = tuple(example) if isinstance(example, tuple | list) else (example,)
        self._with_target = loss is not None and _takes_target(loss)
        if self._with_target and target is None:
            if len(positional) < 2:
                raise TypeError(f"this loss takes a target: {caller}(model, (x, y), loss=...), or target=y")
            positional, target = positional[:-1], positional[-1]
        self.model, self.trains = model, loss is not None or optimizer is not None
        self._given, self._loss, self._optimizer = (positional, keywords, target), loss, optimizer

    def given(self, parties: Parties) -> tuple[Any, Any, Any]:
        """Arguments, keywords and target.

        Real tensors as secrets; integers and truth values, such as tokens and masks, stay public.
        """

        def share(x: Any) -> Any:
            if isinstance(x, SecretTensor) or not isinstance(x, torch.Tensor):
                return x
            if not x.is_floating_point() and not x.is_complex():
                return x
            return encrypt(x.detach(), parties)

        shared: tuple[Any, Any, Any] = tree_map(share, self._given)
        return shared

    def gradients(self) -> Any:
        """The mode of the forward pass."""
        return torch.set_grad_enabled(self.trains or self.model.training)

    def loss(self, out: Any, target: Any) -> Any:
        """Of what the model gave; the sum of that without a loss."""
        if self._loss is None:
            return out.sum()
        return self._loss(out, target) if self._with_target else self._loss(out)

    def optimizer(self, model: nn.Module) -> Any:
        """One of the same settings over a model's parameters; None without one."""
        optimizer = self._optimizer
        if optimizer is None or not isinstance(optimizer, torch.optim.Optimizer):
            return optimizer and optimizer(model.parameters())
        taken = inspect.signature(type(optimizer)).parameters
        return type(optimizer)(
            model.parameters(), **{name: value for name, value in optimizer.defaults.items() if name in taken}
        )


def _takes_target(loss: Callable[..., Any]) -> bool:
    try:
        given = inspect.signature(loss.forward if isinstance(loss, nn.Module) else loss).parameters.values()
    except (TypeError, ValueError):
        return True
    return sum(p.default is p.empty and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) for p in given) > 1
