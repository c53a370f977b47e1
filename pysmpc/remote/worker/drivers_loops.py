"""Loops of drivers' own at an owner: what her file allows; what leaves is bounded and noised whatever they compute.

A driver chooses a loop's operations and its starting weights, so that nothing about a result follows from its shape.
What protects her is what happens after the loop: the change of the whole model is clipped to `max_norm`, noise is
added, and what rounds tell together is counted against `epsilon` before anything leaves.  In such rounds nothing that
depends on her values is seen, not even that a loop failed: then her term is noise alone.

Without noise, which her file has to say, loops have to treat all rows alike (`pysmpc.federated.loops.loop_rows`).
"""

from __future__ import annotations

import json
import math
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from pysmpc.errors import ConfigurationError, ObjectNotFoundError, RemoteError, RoundError
from pysmpc.federated.loops import loop_rows
from pysmpc.federated.loops.loop_program import Checked
from pysmpc.federated.opened_sums import append_lines, whole_lines
from pysmpc.federated.private import sensitivity
from pysmpc.federated.updates import Terms
from pysmpc.remote.arguments import dtype_of
from pysmpc.remote.config import Loop
from pysmpc.remote.program_messages import Collect
from pysmpc.remote.worker.data import Store

LOG = "loops.jsonl"


def delta_of(epsilon: float, spent: float) -> float:
    """The delta of rounds of Gaussian noise at an epsilon.

    spent: the sum over rounds of 1 / z^2, where z is a round's noise over its sensitivity; rounds may have been chosen
    by what those before gave.  (Balle, Wang 2018, theorem 8; Whitehouse, Wu, Ramdas, Rogers 2022 for the sum)
    """
    mu = math.sqrt(spent)
    if not mu:
        return 0.0
    return _normal(mu / 2 - epsilon / mu) - math.exp(epsilon) * _normal(-mu / 2 - epsilon / mu)


def _normal(x: float) -> float:
    return math.erfc(-x / math.sqrt(2)) / 2


class Spent:
    """What rounds of loops under one name have told, of all drivers together; kept in a file of the `state` folder."""

    def __init__(self, name: str, settings: Loop, state: str) -> None:
        self._name, self._settings, self._file = name, settings, Path(state) / LOG

    def add(self, cost: float, driver: str, *, only_look: bool = False) -> None:
        """One more round, unless that would exceed the budget: RoundError, with nothing counted."""
        own = self._settings
        assert own.epsilon is not None
        with _LOCK:
            lines = [json.loads(line) for line in whole_lines(self._file)] if self._file.exists() else []
            before = math.fsum(each for name, each, _ in lines if name == self._name)
            if not delta_of(own.epsilon, before + cost) <= own.delta:
                raise RoundError(
                    f"loops on {self._name} may tell epsilon = {own.epsilon:g} at delta = {own.delta:g} in all rounds "
                    "together, and this one would exceed that"
                )
            if not only_look:
                self._file.parent.mkdir(parents=True, exist_ok=True)
                append_lines(self._file, [[self._name, cost, driver]])


_LOCK = threading.Lock()  # of files: a worker that reads its configuration again has new objects


class Allowed:
    """What an owner's file allows to loops under one name, and the data."""

    def __init__(self, name: str, settings: Loop, data: Store, state: str) -> None:
        self.name, self.settings = name, settings
        try:
            self.data = {each: data[each].tensor for each in settings.data}
        except ObjectNotFoundError as error:
            raise ConfigurationError(f"loops.{name}: {error}") from None
        if len({len(tensor) if tensor.dim() else 0 for tensor in self.data.values()}) != 1 or not self.rows:
            raise ConfigurationError(
                f"loops.{name}: its data must have the same number of rows, and there must be some"
            )
        self.spent = None if settings.epsilon is None else Spent(name, settings, state)

    @property
    def rows(self) -> int:
        """Of the owner's data."""
        return len(next(iter(self.data.values())))


class DriversLoop:
    """A driver's loop of one round, as a task of the owner's.  RoundError or RemoteError for what is public of it."""

    kind = "loop"

    def __init__(self, me: str, driver: str, allowed: Allowed, operation: Collect, terms: Terms) -> None:
        self.name, self.settings, self.data = allowed.name, allowed.settings, allowed.data
        self._me, self._driver, self._spent = me, driver, allowed.spent
        own, loop = self.settings, operation.loop
        state = [
            (tuple(shape), dtype_of(kind)) for shape, kind in zip(operation.shapes, operation.dtypes, strict=False)
        ]
        shapes = {name: shape for name, (shape, _) in zip(operation.names, state, strict=False)}
        assert loop is not None
        try:
            if not operation.less_start or {key: tuple(shape) for key, shape in terms.shapes.items()} != shapes:
                raise RoundError("what leaves of a loop is the change of all that it trains")
            self._checked = Checked(loop, state, own.memory)
            self._check_batch()
            if own.without_noise:
                loop_rows.check(self._checked)
                if self._checked.rows < own.min_items:
                    raise RoundError(
                        f"a batch has {self._checked.rows} rows, and {own.min_items} are needed (min_items)"
                    )
            else:
                self._cost = self._cost_of(terms)
                self._add(only_look=True)
        except RoundError as error:
            raise RoundError(f"{me}: {error}") from None

    @property
    def private(self) -> bool:
        """Whether it must not be seen of her values that a round failed."""
        return not self.settings.without_noise

    @property
    def rows(self) -> int:
        """Of the owner's data, that fill batches."""
        rows = len(next(iter(self.data.values())))
        return rows - rows % self._checked.rows

    def _check_batch(self) -> None:
        batch = self._checked.batch
        if len(batch) != len(self.data):
            raise RoundError(f"the loop takes {len(batch)} tensors, and {', '.join(self.data)} are given")
        for (shape, kind), (name, tensor) in zip(batch, self.data.items(), strict=True):
            if shape[1:] != tuple(tensor.shape[1:]) or kind != tensor.dtype:
                raise RoundError(
                    f"rows of {name} are {list(tensor.shape[1:])} of {tensor.dtype}; the loop takes "
                    f"{list(shape[1:])} of {kind}"
                )
        if self.rows < 1:
            raise RoundError(f"there are {len(tensor)} rows, and a batch has {self._checked.rows}")

    def arguments(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """epochs and shuffle; RemoteError for others, and for more operations than are allowed."""
        epochs, shuffle = given.get("epochs"), given.get("shuffle")
        if set(given) != {"epochs", "shuffle"} or type(epochs) is not int or type(shuffle) is not bool or epochs < 1:
            raise RemoteError("a loop takes epochs, a whole number, and shuffle")
        steps = epochs * (self.rows // self._checked.rows) * len(self._checked.program.steps)
        if steps > self.settings.steps:
            raise RemoteError(f"the loop has {steps} operations in all, and {self.settings.steps} are allowed (steps)")
        return {"epochs": epochs, "shuffle": shuffle}

    def function(self, state: dict[str, torch.Tensor], data: dict[str, torch.Tensor], **arguments: Any) -> Any:
        """What leaves her, before it is clipped."""
        until = time.monotonic() + self.settings.time
        return self._checked.repeat(state, list(data.values()), over=lambda: time.monotonic() > until, **arguments)

    def spend(self) -> None:
        """Count the round, before anything leaves; RoundError if another used up what was left."""
        if self.private:
            try:
                self._add()
            except RoundError as error:
                raise RoundError(f"{self._me}: {error}") from None

    def _add(self, *, only_look: bool = False) -> None:
        assert self._spent is not None
        self._spent.add(self._cost, self._driver, only_look=only_look)

    def _cost_of(self, terms: Terms) -> float:
        """What a round tells: the square of its sensitivity over its noise."""
        most = self.settings.min_owners - self.settings.colluding
        if not terms.noise or terms.max_norm is None or terms.sharers > most:
            raise RoundError(
                f"loops on {self.name} need noise of which any {most} owners have all (min_owners less colluding): "
                'Federation(..., max_norm=, privacy=sy.privacy.Engine(unit="client"))'
            )
        return (sensitivity(terms.max_norm, terms.size - 1, terms.precision.digits) / terms.noise) ** 2
