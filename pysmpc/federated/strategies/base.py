"""What every strategy answers: who takes part, what stays at home, and what the mean of updates does to the model."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

State = dict[str, torch.Tensor]


class Strategy:
    """Base of all.

    fraction: of the workers that are asked in each round, drawn anew each time.  min_workers: how many must take part
    for anything to be opened, at least 2.
    """

    #: Weight of FedProx's term in the loss of local training.
    proximal = 0.0

    def __init__(self, *, fraction: float = 1.0, min_workers: int = 2) -> None:
        if not 0 < fraction <= 1:
            raise ValueError(f"fraction is a part of the workers, above 0 and at most 1, not {fraction}")
        if isinstance(min_workers, bool) or not isinstance(min_workers, int) or min_workers < 2:
            raise ValueError(f"min_workers is {min_workers}; a sum of fewer than 2 would show a single update")
        self.fraction, self.min_workers = fraction, min_workers

    def choose(self, names: Sequence[str]) -> list[str]:
        """Who is asked in a round, in the order of the names."""
        count = max(math.ceil(self.fraction * len(names)), min(self.min_workers, len(names)))
        if count == len(names):
            return list(names)
        places: list[int] = torch.randperm(len(names))[:count].tolist()
        return [names[place] for place in sorted(places)]

    def stays(self, model: nn.Module) -> set[str]:
        """Names of parameters and buffers that never leave a worker."""
        return set()

    def step(self, state: State, mean: Mapping[str, torch.Tensor], trained: set[str]) -> State:
        """The next state of the model.

        mean: weighted mean of the updates (trained less start), float64.  trained: names of the parameters; what is in
        `mean` beside these are buffers, whose mean is taken as it is.
        """
        return {
            name: value + self.moved(name, change, trained).to(value.dtype)
            for name, value in state.items()
            if (change := mean.get(name)) is not None
        }

    def moved(self, name: str, change: torch.Tensor, trained: set[str]) -> torch.Tensor:
        """By how much a parameter moves, or a buffer."""
        return self.rule(name, change) if name in trained else change

    def rule(self, name: str, change: torch.Tensor) -> torch.Tensor:
        """By how much a parameter moves, given the mean of its updates."""
        raise NotImplementedError(f"{type(self).__name__} does not define rule()")

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps: tensors and numbers."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """As `state_dict` gave it."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}(fraction={self.fraction}, min_workers={self.min_workers})"
