"""One network and one training loop, run twice: on secrets and on plain tensors.

Nothing in the loop knows which it is. What differs is a Side: how a result is opened and what that cost.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import pysmpc as sy
from pysmpc.demo.models import LOSSES, OPTIMIZERS
from pysmpc.demo.settings import Settings
from pysmpc.session.stats import Stats


class Batch(NamedTuple):
    """images [items, 28, 28], targets [items, 10] with a one at the label, labels [items]."""

    images: Tensor
    targets: Tensor
    labels: Tensor


def cut(images: Tensor, labels: Tensor, size: int) -> list[Batch]:
    """Batches of `size` items, the last one maybe smaller."""
    targets = F.one_hot(labels, 10).to(images.dtype)
    return [Batch(*parts) for parts in zip(images.split(size), targets.split(size), labels.split(size), strict=True)]


Loss = Callable[[Tensor, Tensor], Tensor]


class Side(Protocol):
    def reveal(self, value: Tensor) -> Tensor:
        """The plain value."""
        ...

    opens_gradients: bool  # between backward and the optimizer's step

    def open_gradients(self, model: nn.Module) -> None:
        """Make gradients plain."""

    def stats(self) -> Stats:
        """What the messages cost so far."""
        ...


class PlainSide:
    opens_gradients = False

    def reveal(self, value: Tensor) -> Tensor:
        return value

    def open_gradients(self, model: nn.Module) -> None:
        pass

    def stats(self) -> Stats:
        return Stats()


class SecretSide:
    def __init__(self, parties: sy.Parties, *, plaintext_model: bool) -> None:
        self.parties = parties
        self.opens_gradients = plaintext_model

    def reveal(self, value: Tensor) -> Tensor:
        opened: Tensor = sy.decrypt(value)
        return opened

    def open_gradients(self, model: nn.Module) -> None:
        parameters = list(model.parameters())
        for parameter, grad in zip(parameters, sy.decrypt([p.grad for p in parameters]), strict=True):
            parameter.grad = grad

    def stats(self) -> Stats:
        return self.parties.stats.copy()


@dataclass
class Fit:
    """What one training gave. Per step: losses, seconds, stats; per epoch: test_correct."""

    losses: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    stats: list[Stats] = field(default_factory=list)
    test_correct: list[int] = field(default_factory=list)
    train_correct: int = 0


def stepper(
    side: Side, model: nn.Module, optimizer: torch.optim.Optimizer, loss_of: Loss, scale: int
) -> Callable[[Batch], float]:
    """One update; the loss before it.

    The backward pass starts from the loss times `scale`, a power of two, and the optimizer takes the gradients divided
    by it: small gradients of activations are then rounded to a finer step (Micikevicius et al., 2018).

    The loss is opened last. Where workers of other machines open it early, the rest of the step is in the time of the
    next one.
    """

    def scaled(output: Tensor, targets: Tensor) -> Tensor:
        return loss_of(output, targets) * scale

    if scale != 1:
        optimizer.register_step_pre_hook(divided_by(scale))
    loss_in_use = loss_of if scale == 1 else scaled

    def step(batch: Batch) -> float:
        optimizer.zero_grad()
        loss = loss_in_use(model(batch.images), batch.targets)
        loss.backward()
        if side.opens_gradients:
            side.open_gradients(model)
        optimizer.step()
        return float(side.reveal(loss.detach())) / scale

    return step


def divided_by(scale: int) -> Callable[[torch.optim.Optimizer, Any, Any], None]:
    """What an optimizer does before its step."""

    def hook(optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    parameter.grad = parameter.grad / scale

    return hook


def count_correct(side: Side, model: nn.Module, batches: Sequence[Batch]) -> int:
    """How many items the model gets right; only their number is opened."""
    model.eval()
    with torch.no_grad():
        counts = [model(batch.images).argmax(dim=1).eq(batch.labels).sum() for batch in batches]
        return int(side.reveal(torch.stack(counts).sum()))


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Within, torch's own generator starts from a seed; outside it is as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def fit(
    side: Side,
    model: nn.Module,
    train: Sequence[Batch],
    test: Sequence[Batch],
    settings: Settings,
    *,
    log: Callable[[str], None],
    tick: Callable[[], object],
) -> Fit:
    """Trains `model` in place. The order of the batches and what dropout drops follow from the seed alone, so two calls
    see the same."""
    with seeded(settings.seed):
        result = Fit()
        optimizer = OPTIMIZERS[settings.optimizer](model.parameters(), lr=settings.rate)
        step = stepper(side, model, optimizer, LOSSES[settings.loss], settings.scale)
        order = torch.Generator().manual_seed(settings.seed)
        for epoch in range(1, settings.epochs + 1):
            model.train()
            seen = 0
            for index in torch.randperm(len(train), generator=order).tolist():
                before, start = side.stats(), time.perf_counter()
                loss = step(train[index])
                seconds = time.perf_counter() - start
                result.losses.append(loss)
                result.seconds.append(seconds)
                result.stats.append(side.stats() - before)
                log(
                    f"Train Epoch: {epoch} [{seen}/{settings.train_items} ({100 * seen / settings.train_items:.0f}%)]"
                    f"\tLoss: {loss:.6f}\tTime: {seconds:.3f}s"
                )
                seen += len(train[index].labels)
                tick()
            correct = count_correct(side, model, test)
            result.test_correct.append(correct)
            percent = 100 * correct / settings.test_items
            log(f"\nTest set: Accuracy: {float(correct)}/{settings.test_items} ({percent:.0f}%)\n")
        result.train_correct = count_correct(side, model, train)
        return result
