"""The workers of a round, as a federation asks them, and virtual ones."""

from __future__ import annotations

import copy
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import nn

from pysmpc.api import decrypting
from pysmpc.api import parties as api_parties
from pysmpc.compat.pysyft.workers import VirtualWorker
from pysmpc.errors import ObjectNotFoundError, PartyError, RoundError
from pysmpc.federated.aggregation import Collector, round_id, shares_of
from pysmpc.federated.local_training import score, trained
from pysmpc.federated.updates import Left, Terms, changes
from pysmpc.ring.shares import Share
from pysmpc.tensor.secret import SecretTensor

log = logging.getLogger("pysmpc.federated")


@dataclass(frozen=True)
class Ask:
    """What a federation asks for in a round.

    chosen: whom.  terms: of what they leave.  update: train, and leave what changed; else score.  staying: names of
    what never leaves a worker.  deadline: seconds for each worker's own work.  minimum: of workers in a sum.
    """

    number: int
    chosen: Sequence[str]
    terms: Terms
    update: bool
    arguments: Mapping[str, Any]
    staying: frozenset[str]
    deadline: float | None
    minimum: int

    def enough(self, took_part: Sequence[str]) -> None:
        """RoundError if fewer took part than a sum needs."""
        if len(took_part) < self.minimum:
            raise RoundError(
                f"round {self.number}: {len(took_part)} of {len(self.chosen)} workers took part, and "
                f"{self.minimum} are needed; nothing was opened"
            )


@dataclass
class Answer:
    """mean: weighted by rows.  rows: of all who took part.  sent: bytes that left workers and holders."""

    mean: dict[str, torch.Tensor]
    rows: int
    took_part: list[str]
    sent: int = 0


class Clients(Protocol):
    """Where workers are: in this process, or on machines of their own."""

    names: list[str]

    def ask(self, model: nn.Module, ask: Ask) -> Answer:
        """One round.  Raises RoundError if nothing was opened."""
        ...

    def scores(self, model: nn.Module) -> Mapping[str, tuple[int, ...]]:
        """Names and shapes of what a score of the model has."""
        ...


class VirtualClients:
    """Workers in this process, one after another, each on the data that it has under the tags.

    task: as `pysmpc.federated.local_training.train`.  holders: names of those who add up.  secure=False: updates are
    added in the clear, to compare with.
    """

    def __init__(
        self,
        workers: Sequence[VirtualWorker],
        tags: Sequence[str],
        task: Callable[..., Any],
        loss: Callable[..., torch.Tensor],
        holders: Sequence[str],
        secure: bool,
    ) -> None:
        self.workers = {worker.id: worker for worker in workers}
        if len(self.workers) != len(workers):
            raise PartyError("each worker may appear once in a federation")
        self.names = list(self.workers)
        self._tags, self._task, self._loss, self._secure = list(tags), task, loss, secure
        self._holders = list(holders)
        self._session = api_parties.virtual(*self._holders).session if secure else None
        self._kept: dict[str, dict[str, torch.Tensor]] = {}  # by worker: what stays at it

    def data(self, name: str) -> list[torch.Tensor]:
        """A worker's own tensors, by tag."""
        store = self.workers[name].store
        found = []
        for tag in self._tags:
            own = [entry.value for entry in store.entries.values() if tag in entry.tags]
            if len(own) != 1:
                raise ObjectNotFoundError(f"{name} has {len(own)} tensors tagged '{tag}'; a federation needs one")
            found.append(own[0])
        if len({len(each) for each in found}) != 1:
            raise RoundError(f"{name}: {', '.join(self._tags)} have different numbers of rows")
        return found

    def scores(self, model: nn.Module) -> dict[str, tuple[int, ...]]:
        data, targets = (each[:1] for each in self.data(self.names[0])[:2])
        return {name: tuple(value.shape) for name, value in score(model, data, targets, loss=self._loss).items()}

    def ask(self, model: nn.Module, ask: Ask) -> Answer:
        took_part: list[str] = []
        adding = _Shares(self._holders, ask) if self._secure else _Clear(ask)
        for name in ask.chosen:
            data = self.data(name)
            begun = time.perf_counter()
            try:
                words = self._left(name, data, model, ask)
                seconds = time.perf_counter() - begun
                if ask.deadline is not None and seconds > ask.deadline:
                    raise Left(f"it took {seconds:.1f} s; the deadline is {ask.deadline:g} s")
            except Left as reason:  # for the worker alone
                log.warning("left the round", extra={"worker": name, "round": ask.number, "reason": str(reason)})
                continue
            adding.add(name, words)
            took_part.append(name)
        ask.enough(took_part)
        mean, rows = ask.terms.mean(adding.total(took_part, self._session))
        return Answer(mean, rows, took_part, adding.sent)

    def _left(self, name: str, data: Sequence[torch.Tensor], model: nn.Module, ask: Ask) -> torch.Tensor:
        """Words of what a worker leaves; runs at the worker."""
        own = copy.deepcopy(model)
        kept = self._kept.get(name, {})
        with torch.no_grad():
            for key, value in own.state_dict().items():
                if key in ask.staying and key in kept:
                    value.copy_(kept[key])
        if not ask.update:
            return ask.terms.encoded(score(own, data[0], data[1], loss=self._loss), len(data[0]))
        before = {key: value.clone() for key, value in own.state_dict().items()}
        trained(self._task, own, *data, **ask.arguments)
        after = own.state_dict()
        if ask.staying:
            self._kept[name] = {key: after[key].clone() for key in ask.staying if key in after}
        return ask.terms.encoded(changes(before, after, ask.staying), len(data[0]))


class _Clear:
    """Words added up where everybody could read them."""

    def __init__(self, ask: Ask) -> None:
        self._sum = torch.zeros(ask.terms.size, dtype=torch.int64)
        self.sent = 0

    def add(self, name: str, words: torch.Tensor) -> None:
        """Of one client."""
        self._sum.add_(words)
        self.sent += 8 * len(words)

    def total(self, clients: Sequence[str], session: Any) -> torch.Tensor:
        """Of all."""
        return self._sum


class _Shares:
    """Words left as shares to holders in this process, and opened to the model's owner."""

    def __init__(self, holders: Sequence[str], ask: Ask) -> None:
        self._round = round_id(ask.number, ask.chosen, ask.terms.shapes, ask.update, time.time_ns())
        self._terms, self.sent = ask.terms, 0
        self._collectors = [Collector(name, ask.terms.size, self._round, ask.chosen, ask.minimum) for name in holders]

    def add(self, name: str, words: torch.Tensor) -> None:
        """A client leaves its shares, and goes."""
        for collector, part in zip(self._collectors, shares_of(words, len(self._collectors)), strict=True):
            collector.receive(name, self._round, part)
            self.sent += len(part) if isinstance(part, bytes) else 8 * len(part)

    def total(self, clients: Sequence[str], session: Any) -> torch.Tensor:
        """The sum: every holder consents, and all of them open it."""
        words = torch.stack([collector.release(clients) for collector in self._collectors])
        unit = self._terms.precision
        share = Share.of(words, (self._terms.size,), unit.scale)
        secret = SecretTensor.of(share, session, unit, torch.float64)
        secret.cell.bound = self._terms.bound
        before = session.stats.sent
        opened = decrypting.opened_words(secret, "reveal")
        self.sent += len(self._collectors) * (session.stats.sent - before)
        return opened
