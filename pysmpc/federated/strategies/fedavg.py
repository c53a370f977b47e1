"""FedAvg: the mean of the updates, weighted by rows (McMahan et al., AISTATS 2017)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from pysmpc.federated.strategies.base import Strategy


class FedAvg(Strategy):
    """The model moves by lr times the mean update; with momentum, by lr times its decaying sum (FedAvgM)."""

    def __init__(self, *, lr: float = 1.0, momentum: float = 0.0, **options: Any) -> None:
        super().__init__(**options)
        if not lr > 0 or not 0 <= momentum < 1:
            raise ValueError(f"lr is above 0 and momentum from 0 up to 1, not {lr} and {momentum}")
        self.lr, self.momentum = lr, momentum
        self._velocity: dict[str, torch.Tensor] = {}

    def rule(self, name: str, change: torch.Tensor) -> torch.Tensor:
        if self.momentum:
            before = self._velocity.get(name)
            change = self._velocity[name] = change if before is None else self.momentum * before + change
        return self.lr * change

    def state_dict(self) -> dict[str, Any]:
        return {"velocity": dict(self._velocity)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._velocity = dict(state["velocity"])
