"""Optimizers and settings that have no rule for secret parameters: refused by name, before anything is computed."""

from __future__ import annotations

from typing import Any

import torch
from torch.optim.optimizer import register_optimizer_step_pre_hook

from pysmpc.tensor.secret import SecretTensor

#: Why, and what to do instead.
_REASONS = {
    "Adafactor": "it divides by roots of means over rows and columns; use torch.optim.Adam",
    "Muon": "it makes matrices orthogonal; use torch.optim.AdamW",
    "SparseAdam": "which gradients are zero would be public; use torch.optim.Adam",
}
_SETTINGS = {
    "capturable": "it is for CUDA graphs",
    "differentiable": "steps of secrets are not differentiated",
    "fused": "there is no fused kernel for secrets",
}


def refuse(optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
    """Raise NotImplementedError where such an optimizer is about to step secret parameters."""
    name = type(optimizer).__name__
    for group in optimizer.param_groups:
        if not any(isinstance(p, SecretTensor) for p in group["params"]):
            continue
        for kind in type(optimizer).__mro__:
            if kind.__module__.startswith("torch.optim") and kind.__name__ in _REASONS:
                raise NotImplementedError(
                    f"torch.optim.{kind.__name__} is not implemented for secret parameters: {_REASONS[kind.__name__]}"
                )
        for setting, why in _SETTINGS.items():
            if group.get(setting) and type(optimizer).__module__.startswith("torch.optim"):
                raise NotImplementedError(
                    f"torch.optim.{name} with {setting}=True is not implemented for secret parameters: {why}; "
                    "leave it out"
                )


def install() -> None:
    """Have every optimizer asked for before it steps."""
    register_optimizer_step_pre_hook(refuse)
