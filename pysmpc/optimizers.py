"""Optimizers whose step is not right on secrets yet: refused by name, before anything is computed.

They divide by the root of a mean of squared gradients.  At the fractional bits of a parameter such a
mean is lost for gradients below 2^-8, and so is an eps of 1e-8: a step would be far from torch's, and
nobody would be told.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.optim.optimizer import register_optimizer_step_pre_hook

from pysmpc.tensor import SecretTensor

_NAMES = (
    "Adadelta", "Adafactor", "Adagrad", "Adam", "AdamW", "Adamax", "NAdam", "RAdam", "RMSprop", "SparseAdam",
)  # fmt: skip
_UNFIT = tuple(getattr(torch.optim, name) for name in _NAMES if hasattr(torch.optim, name))


def refuse(optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
    """Raise NotImplementedError where such an optimizer is about to step secret parameters."""
    if not isinstance(optimizer, _UNFIT):
        return
    if any(isinstance(p, SecretTensor) for group in optimizer.param_groups for p in group["params"]):
        raise NotImplementedError(
            f"torch.optim.{type(optimizer).__name__} is not implemented for secret parameters: the squares of small "
            "gradients are lost at their fractional bits, and the step would be wrong; use torch.optim.SGD, with "
            "momentum where it helps"
        )


register_optimizer_step_pre_hook(refuse)
