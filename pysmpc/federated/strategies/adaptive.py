"""What FedAdam and FedYogi have in common: moments of the mean update, kept by the model's owner.

Reddi et al., "Adaptive Federated Optimization", ICLR 2021, Algorithm 2; no bias correction, as there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from pysmpc.federated.strategies.base import Strategy


class Adaptive(Strategy):
    """The model moves by lr m / (sqrt(v) + tau), with m and v the moments of the mean update."""

    def __init__(
        self, *, lr: float = 0.01, betas: tuple[float, float] = (0.9, 0.99), tau: float = 1e-3, **options: Any
    ) -> None:
        super().__init__(**options)
        if not lr > 0 or not tau > 0 or not all(0 <= beta < 1 for beta in betas):
            raise ValueError(f"lr and tau are above 0, betas from 0 up to 1; got {lr}, {tau}, {betas}")
        self.lr, self.betas, self.tau = lr, betas, tau
        self._moments: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}

    def second(self, v: torch.Tensor, square: torch.Tensor) -> torch.Tensor:
        """The second moment after one more squared update."""
        raise NotImplementedError

    def rule(self, name: str, change: torch.Tensor) -> torch.Tensor:
        m, v = self._moments.get(name, (torch.zeros_like(change), torch.full_like(change, self.tau**2)))
        m = self.betas[0] * m + (1 - self.betas[0]) * change
        v = self.second(v, change * change)
        self._moments[name] = m, v
        return self.lr * m / (v.sqrt() + self.tau)

    def state_dict(self) -> dict[str, Any]:
        return {
            "first": {name: m for name, (m, _) in self._moments.items()},
            "second": {name: v for name, (_, v) in self._moments.items()},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._moments = {name: (m, state["second"][name]) for name, m in state["first"].items()}
