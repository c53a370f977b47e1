"""Federated training: the model goes to the data, and a sum of updates comes back.

    fed = sy.Federation(workers, strategy=sy.federated.FedAvg())
    fed.fit(model, rounds=20, local_epochs=1)
    print(fed.evaluate(model))

Each worker trains a copy with torch on her own data.  What leaves her is a clipped update, as shares for the holders;
only the sum over workers, weighted by their rows, is opened.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from pysmpc.api.parties import Parties
from pysmpc.compat.pysyft.workers import VirtualWorker
from pysmpc.errors import CheckpointError, PartyError, PrivacyError, RoundError
from pysmpc.federated import round_files
from pysmpc.federated.clients import Answer, Ask, Clients, VirtualClients
from pysmpc.federated.local_training import train
from pysmpc.federated.loops import Loop
from pysmpc.federated.private import private_terms
from pysmpc.federated.splits import TAGS
from pysmpc.federated.strategies import FedAvg, Strategy
from pysmpc.federated.updates import MAX_ROWS, MAX_VALUE, Terms
from pysmpc.privacy.engine import Engine
from pysmpc.tensor.secret import SecretTensor

MAX_SCORE = 1024.0  # of the magnitude of a loss
_SCORES = "scores on the rows of workers are opened without noise: evaluate on data of your own"


@dataclass
class Round:
    """What is known of a round: no update, and of no worker how many rows she has.

    rows: of all together; where rounds are private, how many took part.  sent: bytes that left workers and holders.
    scores: if it was evaluated.  epsilon: what was spent with it, of a private training.
    """

    number: int
    asked: int
    took_part: int
    rows: int
    seconds: float
    sent: int
    scores: dict[str, float] = field(default_factory=dict)
    epsilon: float | None = None


class Federation:
    """Workers, what they train, and how their updates become a model.

    workers: virtual ones, or the parties of `sy.connect`, of whom all holders take part, or those that `owners` names.
    strategy: of `pysmpc.federated.strategies`; FedAvg by default.
    data: tags of each worker's tensors, rows in step, data and targets first.
    task: what a worker runs, `task(model, data, targets, epochs=...)`, which trains the model in place; by default
    `pysmpc.federated.local_training.train`.  arguments: more of its keywords (lr=, batch_size=, loss=, optimizer=).
    With remote parties task and score are names of tasks that each owner installed, and scores what the latter returns.
    task may be a captured loop (`pysmpc.federated.Loop`), which owners who allow it repeat on their rows.
    clients: names of owners who are no holders and run `pysmpc client`, in the place of the holders.
    holders: who adds up shares, workers or names; by default the workers themselves if there are at most four, else
    the first three.  secure=False: updates are added in the clear; to measure against.  Owners
    on machines of their own have to allow it in their files.
    max_norm: a worker's update is clipped to this norm, over all parameters and buffers.  max_value, max_rows: a worker
    with an element or a number of rows above leaves the round.
    checkpoints: a folder for a file a round.
    privacy: `sy.privacy.Engine(unit="client")`; needs max_norm.  Sums have noise, every worker counts the same, and a
    round beyond the budget raises BudgetSpentError.
    """

    def __init__(
        self,
        workers: Sequence[VirtualWorker] | Parties,
        strategy: Strategy | None = None,
        *,
        data: Sequence[str] = TAGS,
        task: Callable[..., Any] | str | Loop = train,
        score: str | None = None,
        scores: Sequence[str] = ("loss", "accuracy"),
        owners: Sequence[str] | None = None,
        clients: Sequence[str] | None = None,
        loss: Callable[..., torch.Tensor] = F.cross_entropy,
        arguments: Mapping[str, Any] | None = None,
        holders: Sequence[Any] | None = None,
        secure: bool = True,
        max_norm: float | None = None,
        max_value: float = MAX_VALUE,
        max_rows: int = MAX_ROWS,
        checkpoints: str | os.PathLike[str] | None = None,
        privacy: Engine | None = None,
    ) -> None:
        self.strategy = FedAvg() if strategy is None else strategy
        own = dict(arguments or {})
        if task is train:
            own.setdefault("loss", loss)
        self.clients: Clients
        if isinstance(workers, Parties):
            self.clients = _remote(workers, owners, task, score, scores, clients, secure)
        elif clients is not None:
            raise TypeError("clients leave shares with parties of sy.connect; virtual workers are named themselves")
        elif callable(task):
            self.clients = _clients(workers, data, task, own.get("loss", loss), holders, secure)
        else:
            raise TypeError(f"virtual workers run a function, not a task named {task!r}")
        if len(self.clients.names) < self.strategy.min_workers:
            raise PartyError(
                f"{len(self.clients.names)} workers, and a sum is opened over {self.strategy.min_workers} or more"
            )
        self.arguments = own
        self.max_norm, self.max_value, self.max_rows = max_norm, max_value, max_rows
        if privacy is not None:
            _check_privacy(privacy, secure, max_norm, max_value)
        self.privacy = privacy
        self.folder = None if checkpoints is None else Path(checkpoints)
        self.rounds: list[Round] = []

    def __repr__(self) -> str:
        return f"Federation({len(self.clients.names)} workers, {self.strategy}, {len(self.rounds)} rounds)"

    def fit(
        self,
        model: nn.Module,
        rounds: int = 1,
        local_epochs: int = 1,
        *,
        deadline: float | None = None,
        evaluate: bool = False,
        patience: int | None = None,
        resume: bool = False,
        retries: int = 1,
        log: Callable[[Round], object] | None = None,
    ) -> list[Round]:
        """Train a model in place; what is known of each round.

        deadline: seconds for each worker's own training; who takes longer is not in the round.  evaluate: after each
        round.  patience: end after so many rounds whose loss is no better than the best before (evaluates, too).
        resume: go on after the last checkpoint, which counts among `rounds`.  retries: of a round that failed before
        anything was opened.
        Raises RoundError, with the model as after the last finished round, where too few workers took part.
        """
        _check_plain(model)
        if rounds < 0 or local_epochs < 1:
            raise ValueError(f"rounds is {rounds} and local_epochs {local_epochs}; 0 or more, and 1 or more")
        if self.privacy is not None:
            if evaluate or patience is not None:
                raise PrivacyError(_SCORES)
            if self.privacy.noise_multiplier is None:
                self.privacy.for_rounds(rounds)
        self.rounds = self._resumed(model) if resume else []
        if self.strategy.proximal:
            self.arguments["proximal"] = self.strategy.proximal
        while len(self.rounds) < rounds and not self._tired(patience):
            found = self._tried(model, {**self.arguments, "epochs": local_epochs}, deadline, retries)
            if evaluate or patience is not None:
                found.scores = self.evaluate(model)
            self.rounds.append(found)
            if self.folder is not None:
                self._save(model)
            if log is not None:
                log(found)
        return self.rounds

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """Loss and accuracy of a model over the rows of all workers; only these means are opened."""
        _check_plain(model)
        if self.privacy is not None:
            raise PrivacyError(_SCORES)
        names = self.clients.names
        shapes = self.clients.scores(model)
        terms = Terms(shapes, len(names), max_value=MAX_SCORE, max_rows=self.max_rows)
        staying = frozenset(self.strategy.stays(model))
        ask = Ask(len(self.rounds), names, terms, False, {}, staying, None, self.strategy.min_workers)
        return {name: float(value) for name, value in self.clients.ask(model, ask).mean.items()}

    def _tried(self, model: nn.Module, arguments: dict[str, Any], deadline: float | None, retries: int) -> Round:
        for left in range(retries, -1, -1):
            try:
                return self._round(model, arguments, deadline)
            except RoundError:
                if not left:
                    raise
        raise AssertionError("unreachable")

    def _round(self, model: nn.Module, arguments: dict[str, Any], deadline: float | None) -> Round:
        begun, strategy = time.perf_counter(), self.strategy
        staying = frozenset(strategy.stays(model))
        state = {name: value for name, value in model.state_dict().items() if value.is_floating_point()}
        moving = {name: value for name, value in state.items() if name not in staying}
        trained = {name for name, _ in model.named_parameters()} & set(moving)
        chosen = strategy.choose(self.clients.names)
        shapes = {name: tuple(value.shape) for name, value in moving.items()}
        if self.privacy is None:
            terms = Terms(shapes, len(chosen), self.max_norm, self.max_value, self.max_rows)
        else:
            assert self.max_norm is not None
            self.privacy.check_round()
            fewest = strategy.min_workers
            terms = private_terms(self.privacy, shapes, len(chosen), fewest, self.max_norm, self.max_value)
        number = len(self.rounds) + 1
        ask = Ask(number, chosen, terms, True, arguments, staying, deadline, strategy.min_workers)
        answer = self._asked(model, ask)
        fresh = strategy.step(moving, answer.mean, trained)
        with torch.no_grad():  # all at once, after whatever can fail
            for name, value in fresh.items():
                state[name].copy_(value)
        seconds = time.perf_counter() - begun
        found = Round(number, len(chosen), len(answer.took_part), answer.rows, seconds, answer.sent)
        if self.privacy is not None:
            found.epsilon = self.privacy.epsilon()
        return found

    def _asked(self, model: nn.Module, ask: Ask) -> Answer:
        """A round, counted unless nothing was opened: before it begins, as it may end in any way."""
        if self.privacy is None:
            return self.clients.ask(model, ask)
        before = self.privacy.state_dict()
        self.privacy.count_round()
        self._note_spent()
        try:
            return self.clients.ask(model, ask)
        except RoundError:
            self.privacy.load_state_dict(before)
            self._note_spent()
            raise

    def _note_spent(self) -> None:
        if self.folder is not None and self.privacy is not None:
            round_files.save_spent(self.folder, self.privacy.state_dict())

    def _tired(self, patience: int | None) -> bool:
        if patience is None:
            return False
        losses = [found.scores["loss"] for found in self.rounds if "loss" in found.scores]
        return len(losses) > patience and min(losses[-patience:]) >= min(losses[:-patience])

    # --- checkpoints ---

    def _save(self, model: nn.Module) -> None:
        assert self.folder is not None
        content = {
            "model": model.state_dict(),
            "strategy": self.strategy.state_dict(),
            "kind": type(self.strategy).__name__,
            "rounds": [asdict(found) for found in self.rounds],
        }
        if self.privacy is not None:
            content["privacy"] = self.privacy.state_dict()
        round_files.save(self.folder, len(self.rounds), content)

    def _resumed(self, model: nn.Module) -> list[Round]:
        if self.folder is None:
            raise CheckpointError("nothing to resume from: Federation(..., checkpoints=FOLDER) keeps a file a round")
        found = round_files.newest(self.folder)
        spent = round_files.spent(self.folder)
        if found is None:
            if self.privacy is not None and spent is not None:
                self.privacy.load_state_dict(spent)
            return []
        shapes = {name: value.shape for name, value in found["model"].items()}
        if shapes != {name: value.shape for name, value in model.state_dict().items()}:
            raise CheckpointError(f"the checkpoint in {self.folder} is of another model")
        if found["kind"] != type(self.strategy).__name__:
            raise CheckpointError(f"the checkpoint in {self.folder} is of {found['kind']}, not of {self.strategy}")
        if (self.privacy is None) == ("privacy" in found):
            kind = "without" if self.privacy is not None else "with"
            raise CheckpointError(f"the checkpoint in {self.folder} is of a training {kind} privacy")
        if self.privacy is not None:
            self.privacy.load_state_dict(found["privacy"] if spent is None else spent)  # of rounds that were lost, too
        model.load_state_dict(found["model"])
        self.strategy.load_state_dict(found["strategy"])
        return [Round(**each) for each in found["rounds"]]


def _remote(
    parties: Parties,
    owners: Sequence[str] | None,
    task: object,
    score: str | None,
    scores: Sequence[str],
    outside: Sequence[str] | None,
    secure: bool,
) -> Clients:
    make = getattr(parties, "clients", None)
    if make is None:
        raise TypeError("parties in this process have no data; a federation takes workers, or parties of sy.connect")
    if not isinstance(task, str | Loop):
        raise TypeError(
            'no code travels: name a task that each owner installed, Federation(parties, task="mlp"), or capture a '
            "loop as torch's operations, task=sy.federated.Loop(...)"
        )
    found: Clients = make(owners, task, score, scores, outside, secure)
    return found


def _clients(
    workers: Sequence[VirtualWorker],
    data: Sequence[str],
    task: Callable[..., Any],
    loss: Callable[..., torch.Tensor],
    holders: Sequence[Any] | None,
    secure: bool,
) -> Clients:
    workers = list(workers)
    if not workers or not all(isinstance(worker, VirtualWorker) for worker in workers):
        raise TypeError("a federation is made of workers: sy.Federation([alice, bob, carol])")
    if len(data) < 2:
        raise ValueError(f"data names the tags of data and targets, at least; got {list(data)}")
    adding: Sequence[Any] = holders or (workers if len(workers) <= 4 else workers[:3])
    return VirtualClients(workers, data, task, loss, [str(getattr(each, "id", each)) for each in adding], secure)


def _check_privacy(privacy: Engine, secure: bool, max_norm: float | None, max_value: float) -> None:
    if privacy.unit != "client":
        raise PrivacyError('rounds protect workers: sy.privacy.Engine(..., unit="client")')
    if max_norm is None or not 0 < max_norm <= max_value:
        raise PrivacyError(
            f"a private federation clips each worker's update: give max_norm, above 0 and at most max_value "
            f"({max_value:g}); it is {max_norm}"
        )
    if not secure:
        raise PrivacyError(
            "a worker adds only a part of the noise, which hides nothing of a single update: secure=True"
        )


def _check_plain(model: nn.Module) -> None:
    if not isinstance(model, nn.Module):
        raise TypeError(f"a federation trains a module, not a {type(model).__name__}")
    if any(isinstance(p, SecretTensor) or type(p) is not nn.Parameter for p in model.parameters()):
        raise TypeError("a federation sends a plain model to its workers; .get() it first")
