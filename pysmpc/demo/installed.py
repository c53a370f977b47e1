"""The tasks that owners of the federated demo have installed at their workers."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from pysmpc.datasets import mnist
from pysmpc.demo.models import MODELS
from pysmpc.federated import score, train

BATCH = 32


def _parts(state: Mapping[str, Tensor], data: Mapping[str, Tensor], model: str) -> tuple[nn.Module, Tensor, Tensor]:
    network = MODELS[model]()
    network.load_state_dict(state, strict=False)
    images = (data["train/images"].to(torch.float32) / 255 - mnist.MEAN) / mnist.DEVIATION
    return network, images, data["train/labels"].to(torch.int64)


def fit(
    state: dict[str, Tensor], data: dict[str, Tensor], *, model: str, epochs: int, lr: float, proximal: float = 0.0
) -> dict[str, Tensor]:
    """The model after some epochs on this owner's items."""
    network, images, labels = _parts(state, data, model)
    train(network, images, labels, epochs=epochs, lr=lr, batch_size=BATCH, proximal=proximal)
    return network.state_dict()


def evaluate(state: dict[str, Tensor], data: dict[str, Tensor], *, model: str) -> dict[str, Tensor]:
    """Loss and accuracy on this owner's items."""
    network, images, labels = _parts(state, data, model)
    return score(network, images, labels)
