"""Training and scoring at a worker, in plain torch on rows of its own.

What a federation runs at virtual workers unless it is given a function of its own, and what an owner's installed task
may call.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def train(
    model: nn.Module,
    data: torch.Tensor,
    targets: torch.Tensor,
    *,
    epochs: int = 1,
    loss: Loss = F.cross_entropy,
    optimizer: Callable[..., torch.optim.Optimizer] = torch.optim.SGD,
    lr: float = 0.1,
    batch_size: int = 32,
    proximal: float = 0.0,
) -> None:
    """Train a model in place, in a new order of rows each epoch.

    proximal: adds proximal / 2 times the squared distance from where the model started (FedProx).  A batch of one row
    at the end of an epoch is left out, as batch normalisation has no variance of it.
    """
    start = [p.detach().clone() for p in model.parameters()]
    steps = optimizer(model.parameters(), lr=lr)
    model.train()
    for _ in range(epochs):
        for rows in torch.split(torch.randperm(len(data)), batch_size):
            if len(rows) == 1 < len(data):
                continue
            steps.zero_grad()
            loss(model(data[rows]), targets[rows]).backward()  # type: ignore[no-untyped-call]
            if proximal:
                _pull(model, start, proximal)
            steps.step()


def _pull(model: nn.Module, start: list[torch.Tensor], proximal: float) -> None:
    for parameter, before in zip(model.parameters(), start, strict=True):
        if parameter.grad is not None:
            parameter.grad.add_(parameter.detach() - before, alpha=proximal)


def score(
    model: nn.Module, data: torch.Tensor, targets: torch.Tensor, *, loss: Loss = F.cross_entropy, batch_size: int = 1024
) -> dict[str, torch.Tensor]:
    """Mean loss over the rows, and, where targets are labels, the part of them that is right."""
    was = model.training
    model.eval()
    total, right = 0.0, 0
    labels = not targets.is_floating_point() and targets.dim() == 1
    with torch.no_grad():
        for rows in torch.split(torch.arange(len(data)), batch_size):
            out = model(data[rows])
            total += float(loss(out, targets[rows])) * len(rows)
            right += int((out.argmax(1) == targets[rows]).sum()) if labels else 0
    model.train(was)
    found = {"loss": torch.tensor(total / max(len(data), 1))}
    if labels:
        found["accuracy"] = torch.tensor(right / max(len(data), 1))
    return found


def trained(task: Callable[..., Any], model: nn.Module, *tensors: torch.Tensor, **arguments: Any) -> None:
    """Run a task on a model, in place, and leave it without gradients."""
    task(model, *tensors, **arguments)
    model.zero_grad(set_to_none=True)
