"""FedProx: local training is held near the model it started from (Li et al., MLSys 2020)."""

from __future__ import annotations

from typing import Any

from pysmpc.federated.strategies.fedavg import FedAvg


class FedProx(FedAvg):
    """FedAvg with mu / 2 times the squared distance from the round's model in each worker's loss."""

    def __init__(self, mu: float = 0.01, **options: Any) -> None:
        super().__init__(**options)
        if not mu >= 0:
            raise ValueError(f"mu is {mu}; it is 0 or more")
        self.proximal = mu
