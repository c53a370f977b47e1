"""FedYogi: FedAdam whose second moment moves by no more than the squared update (Reddi et al., ICLR 2021)."""

from __future__ import annotations

import torch

from pysmpc.federated.strategies.adaptive import Adaptive


class FedYogi(Adaptive):
    """The second moment moves towards the squared update by a part of that, and so less abruptly."""

    def second(self, v: torch.Tensor, square: torch.Tensor) -> torch.Tensor:
        return v - (1 - self.betas[1]) * square * (v - square).sign()
