"""What runs in a ServerApp: one of Flower's strategies, which is given the mean of a round's updates and no single one.

    strategy = SecureSum(FedAvg(fraction_train=0.5), Group.load("group.toml"))
    strategy.start(grid=grid, initial_arrays=ArrayRecord(model.state_dict()), num_rounds=20)

The strategy within chooses who trains and what becomes of the mean.  It sees one reply, as if of a single client with
all rows, so that every strategy which uses nothing but the weighted mean works as it is.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict  # pyright: ignore[reportMissingImports]
from flwr.serverapp import strategy as flower  # pyright: ignore[reportMissingImports]

from pysmpc.errors import RoundError
from pysmpc.federated.aggregation import Collector
from pysmpc.federated.flower.group import EVALUATE, SERVER, TRAIN, Group, digest
from pysmpc.federated.flower.members import NAME, RECORD, SUM, WORDS
from pysmpc.federated.updates import Terms

#: Strategies that are FedAvg by their class, and look at single updates.
SINGLE = ("FedMedian", "FedTrimmedAvg", "Krum", "MultiKrum", "Bulyan", "QFedAvg", "FedXgbBagging", "FedXgbCyclic")
log = logging.getLogger("flwr")  # where Flower's strategies log

QUERY = "query"
TRIES = 2  # of asking a holder


class SecureSum(flower.Strategy):  # type: ignore[misc]
    """Secure aggregation around a strategy of Flower: FedAvg, FedAvgM, FedProx, FedAdagrad, FedAdam, FedYogi, or yours.

    timeout: seconds that holders have for an answer.  Raises RoundError, which ends the run with the model as it was,
    where fewer than `group.min_clients` took part or a holder does not consent; it says who and why.
    """

    def __init__(self, strategy: Any, group: Group, *, timeout: float = 600.0) -> None:
        kinds = [kind.__name__ for kind in type(strategy).__mro__]
        if "FedAvg" not in kinds or any(kind in SINGLE for kind in kinds):
            raise TypeError(
                f"{type(strategy).__name__} looks at single updates; a secure sum shows none: wrap one that needs the "
                "mean alone, such as FedAvg or FedAdam"
            )
        if strategy.weighted_by_key != group.weight:
            raise ValueError(f"the strategy weighs by {strategy.weighted_by_key!r}, the group by {group.weight!r}")
        self.strategy, self.group, self.timeout = strategy, group, timeout
        self._grid: Any = None
        self._asked: dict[str, tuple[str, Any]] = {}  # by kind: the attempt, and the model
        self._nodes: dict[str, int] = {}  # of holders, by name

    def __repr__(self) -> str:
        return f"SecureSum({type(self.strategy).__name__}, {len(self.group.holders)} holders)"

    def summary(self) -> None:
        """Log the settings."""
        log.info("\t├──> Sums of %d clients or more, %d holders", self.group.min_clients, len(self.group.holders))
        self.strategy.summary()

    def configure_train(self, server_round: int, arrays: Any, config: Any, grid: Any) -> Iterable[Any]:
        """As the strategy does."""
        return self._marked(TRAIN, arrays, grid, self.strategy.configure_train(server_round, arrays, config, grid))

    def configure_evaluate(self, server_round: int, arrays: Any, config: Any, grid: Any) -> Iterable[Any]:
        """As the strategy does."""
        messages = self.strategy.configure_evaluate(server_round, arrays, config, grid)
        return self._marked(EVALUATE, arrays, grid, messages)

    def aggregate_train(self, server_round: int, replies: Iterable[Any]) -> tuple[Any, Any]:
        """What the strategy makes of the weighted mean."""
        replies = list(replies)
        if not replies:
            return self.strategy.aggregate_train(server_round, replies)  # type: ignore[no-any-return]
        start = {name: array.numpy() for name, array in self._asked[TRAIN][1].items()}
        moving = {name: value.shape for name, value in start.items() if np.issubdtype(value.dtype, np.floating)}
        mean, rows, reply = self._sum(TRAIN, self.group.terms(TRAIN, moving), list(moving), replies)
        found = {
            name: start[name] + change.numpy() if (change := mean.get(name)) is not None else start[name]
            for name in start
        }
        reply.content = RecordDict(
            {self.strategy.arrayrecord_key: _arrays(found, start), "metrics": self._weight(rows)}
        )
        arrays, metrics = self.strategy.aggregate_train(server_round, [reply])
        return _arrays({name: array.numpy() for name, array in arrays.items()}, start), metrics

    def aggregate_evaluate(self, server_round: int, replies: Iterable[Any]) -> Any:
        """What the strategy makes of the weighted means of the metrics."""
        replies = list(replies)
        if not replies:
            return self.strategy.aggregate_evaluate(server_round, replies)
        names = next((list(part["names"]) for part in map(_part, replies) if part is not None), [])
        terms = self.group.terms(EVALUATE, dict.fromkeys(names, ()))
        mean, rows, reply = self._sum(EVALUATE, terms, names, replies)
        metrics = self._weight(rows)
        for name, value in mean.items():
            metrics[name] = float(value)
        reply.content = RecordDict({"metrics": metrics})
        return self.strategy.aggregate_evaluate(server_round, [reply])

    def _weight(self, rows: int) -> Any:
        return MetricRecord({self.group.weight: rows})

    def _marked(self, kind: str, arrays: Any, grid: Any, messages: Iterable[Any]) -> Iterable[Any]:
        """The strategy's messages, each with what tells this round from others."""
        self._grid = grid
        attempt = secrets.token_hex(16)
        self._asked[kind] = attempt, arrays
        messages = list(messages)
        for message in messages:
            message.content[RECORD] = ConfigRecord({"attempt": attempt})
        return messages

    def _sum(
        self, kind: str, terms: Terms, names: list[str], replies: list[Any]
    ) -> tuple[dict[str, torch.Tensor], int, Any]:
        """The mean of what the clients left, their rows together, and a reply to put these in."""
        attempt, arrays = self._asked[kind]
        known = digest(arrays)
        round = self.group.round(kind, attempt, known, terms.size)
        own = Collector(SERVER, terms.size, round, list(self.group.clients), self.group.min_clients)
        sealed: dict[str, list[bytes]] = {}
        last = None
        for reply in replies:
            part = _part(reply)
            if part is None:
                log.warning("no share: %s", reply.error.reason if reply.has_error() else "a reply without one")
                continue
            try:
                if list(part["names"]) != names or len(part["sealed"]) != len(self.group.holders):
                    raise RoundError(f"{part['client']} left something else than was asked")
                words = torch.from_numpy(reply.content.array_records[WORDS]["words"].numpy().copy())
                own.receive(str(part["client"]), bytes(part["round"]), words)
            except RoundError as error:
                log.warning("no share: %s", error)
                continue
            sealed[str(part["client"])] = list(part["sealed"])
            reply.content.array_records.pop(WORDS)
            last = reply
        clients = list(sealed)
        words = own.release(clients)
        facts = {"kind": kind, "attempt": attempt, "model": known, "size": terms.size, "clients": clients}
        for place, holder in enumerate(self.group.holders):
            given = {**facts, "sealed": [sealed[client][place] for client in clients]}
            words = words + self._share(holder, given, terms.size)
        mean, rows = terms.mean(words)
        return mean, rows, last

    def _share(self, holder: str, given: Mapping[str, Any], size: int) -> torch.Tensor:
        """A holder's share of the sum.  RoundError where it does not answer, or does not consent."""
        reason = "no answer"
        for _ in range(TRIES):
            node = self._node(holder)
            message = Message(RecordDict({RECORD: ConfigRecord(dict(given))}), node, f"{QUERY}.{SUM}")
            for reply in self._grid.send_and_receive([message], timeout=self.timeout):
                if reply.has_error():
                    reason = str(reply.error.reason)
                    continue
                words = torch.from_numpy(reply.content.array_records[WORDS]["words"].numpy().copy())
                if words.dtype != torch.int64 or tuple(words.shape) != (size,):
                    raise RoundError(f"holder {holder} answered with something else than {size} words")
                return words
            self._nodes.clear()  # it may have come back under another number
        raise RoundError(f"holder {holder} did not give its share of the sum: {reason}; nothing was opened")

    def _node(self, holder: str) -> int:
        """Flower's number of a holder.  Who lies about its name can spoil a round, and open nothing."""
        if holder not in self._nodes:
            ask = [
                Message(RecordDict({RECORD: ConfigRecord({"ask": "name"})}), node, f"{QUERY}.{NAME}")
                for node in self._grid.get_node_ids()
            ]
            for reply in self._grid.send_and_receive(ask, timeout=self.timeout):
                if reply.has_error() or RECORD not in reply.content.config_records:
                    continue
                name, node = str(reply.content.config_records[RECORD]["name"]), reply.metadata.src_node_id
                if self._nodes.setdefault(name, node) != node and name in self.group.holders:
                    raise RoundError(f"nodes {self._nodes[name]} and {node} both say that they are holder {name}")
        if holder not in self._nodes:
            raise RoundError(f"no node says that it is holder {holder}; nothing was opened")
        return self._nodes[holder]


def _part(reply: Any) -> Any:
    """What a client left, or None."""
    if reply.has_error() or WORDS not in reply.content.array_records:
        return None
    return reply.content.config_records.get(RECORD)


def _arrays(found: Mapping[str, Any], like: Mapping[str, Any]) -> Any:
    """An ArrayRecord of these, with the types and shapes of the model's; Flower's averages are float64 throughout."""
    return ArrayRecord(
        {name: Array(np.asarray(value, like[name].dtype).reshape(like[name].shape)) for name, value in found.items()}
    )
