"""FedBN: batch normalisation stays at home (Li et al., ICLR 2021)."""

from __future__ import annotations

from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from pysmpc.federated.strategies.fedavg import FedAvg


class FedBN(FedAvg):
    """FedAvg of everything but the parameters and statistics of batch and instance norms, which each worker keeps."""

    def stays(self, model: nn.Module) -> set[str]:
        return {
            f"{title}.{name}" if title else name
            for title, part in model.named_modules()
            if isinstance(part, _NormBase)
            for name, _ in (*part.named_parameters(recurse=False), *part.named_buffers(recurse=False))
        }
