"""FedAdam: Adam on the mean update (Reddi et al., ICLR 2021)."""

from __future__ import annotations

import torch

from pysmpc.federated.strategies.adaptive import Adaptive


class FedAdam(Adaptive):
    """The second moment is a decaying mean of squared updates."""

    def second(self, v: torch.Tensor, square: torch.Tensor) -> torch.Tensor:
        return self.betas[1] * v + (1 - self.betas[1]) * square
