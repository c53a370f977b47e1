"""`sy.TrainStep`: the lines of a training loop in one call."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from pysmpc.program.known_paths import Paths
from pysmpc.program.loop import LOOPS
from pysmpc.tensor.secret import SecretTensor, lock_of
from pysmpc.tensor.storage import flush


class TrainStep:
    """One step of training: `loss = step(x, y)`.  An ordinary loop needs no such object any more.

    model, optimizer: whose parameters are secrets.  loss(model(x), y) is differentiated,
    and returned as a secret, outside the graph.  Gradients are dropped after each step.
    Values, rounds and bytes are those of the same lines in a loop, and they are followed as a loop is
    (`pysmpc.program.loop`): your Python runs in every call, and what it asks for decides.  `repeats` tells whether the
    last call ran as it was recorded, `reason` why not.

    No other thread's operations come in between.  In other threads than the main one, with `eager=True`, and within
    another step, it runs as it is written.
    """

    def __init__(
        self, model: torch.nn.Module, optimizer: torch.optim.Optimizer, loss: Callable[[Any, Any], torch.Tensor]
    ) -> None:
        self.model, self.optimizer, self.loss = model, optimizer, loss
        self._paths = Paths()

    @property
    def repeats(self) -> bool:
        """Whether the last call ran as it was recorded."""
        return self._paths.repeats

    @property
    def reason(self) -> str | None:
        """Why not."""
        return self._paths.reason

    def __call__(self, x: Any, y: Any) -> torch.Tensor:
        """Zero the gradients, go forward, backward, and update."""
        within = LOOPS.within
        with lock_of((x, y)):
            with LOOPS.step(self._paths):
                self.optimizer.zero_grad()
                loss = self.loss(self.model(x), y)
                loss.backward()  # type: ignore[no-untyped-call]
                self.optimizer.step()
                self.optimizer.zero_grad()
            if isinstance(loss, SecretTensor) and not within:
                flush(loss.session)
            return loss.detach()
