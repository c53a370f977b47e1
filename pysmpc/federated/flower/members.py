"""What runs in a ClientApp: a client's update leaves as shares, and a holder answers with sums of its shares.

    member = Member(Group.load("group.toml"), "alice.key")
    app = ClientApp(mods=[member])
    member.serve(app)

1. The client trains as it would without this.  It multiplies the clipped update by its rows, encodes it, and draws a
   key for each holder.  The reply has the update less what all keys draw, and each key sealed to its holder.
2. The server adds up the words of all clients.  It sends each holder the sealed keys of these clients.
3. A holder opens them, consents to the sum of these clients or says why not, and answers with the sum of what the keys
   draw: 8 bytes an element.
4. Server's and holders' sums together are the sum of the updates.

No metric leaves a client alone: those of a training are dropped, those of an evaluation are summed in the same way.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, Error, Message, RecordDict  # pyright: ignore[reportMissingImports]

from pysmpc.errors import ConfigurationError, RoundError
from pysmpc.federated.aggregation import Collector, shares_of
from pysmpc.federated.flower.group import EVALUATE, TRAIN, Group, digest
from pysmpc.federated.flower.sealing import Identity
from pysmpc.federated.opened_sums import Contributions
from pysmpc.federated.updates import Left, changes

log = logging.getLogger("pysmpc.federated")

RECORD, WORDS = "pysmpc", "pysmpc-words"
NAME, SUM = "pysmpc_name", "pysmpc_sum"  # actions of query messages
NOT_TAKEN = 6  # Flower's code for a mod that does not let a message pass
SILENT = "takes no part in this round"

Call = Callable[[Message, Any], Message]


class Member:
    """A client, a holder, or both: a mod for a ClientApp, and the answers of a holder.

    identity: the member's key, or the path of its file, or a function of Flower's Context that returns one of these
    (one ClientApp is many nodes in a simulation).  state: a holder's folder, where it keeps which sums it consented to;
    by default the folder of the key's file.
    """

    def __init__(self, group: Group, identity: Any, *, state: str | os.PathLike[str] | None = None) -> None:
        self.group, self._identity = group, identity
        self._state = None if state is None else Path(state)
        self._opened: dict[str, Contributions] = {}  # of holders without a folder, by name
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"Member({len(self.group.clients)} clients, {len(self.group.holders)} holders)"

    def __call__(self, message: Message, context: Any, call_next: Call) -> Message:
        """The mod: what the app answers, as shares."""
        kind = message.metadata.message_type.split(".")[0]
        if kind not in (TRAIN, EVALUATE):
            return call_next(message, context)
        me, _ = self._who(context)
        try:
            return self._shared(kind, me, message, context, call_next)
        except Exception as error:  # may depend on the client's values: its own log alone says what it was
            log.warning("left the round", extra={"worker": me.name, "reason": f"{type(error).__name__}: {error}"})
            return Message(Error(NOT_TAKEN, f"{me.name} {SILENT}"), reply_to=message)

    def serve(self, app: Any) -> None:
        """Let a ClientApp answer as a holder, and say its name."""
        app.query(NAME)(self._name)
        app.query(SUM)(self._sum)

    def _shared(self, kind: str, me: Identity, message: Message, context: Any, call_next: Call) -> Message:
        if me.name not in self.group.clients:
            raise Left("it is no client of the group")
        if RECORD not in message.content.config_records:
            raise Left("the server asks for an update by itself, not for a share of a sum")
        attempt = str(message.content.config_records[RECORD]["attempt"])
        del message.content[RECORD]
        model = _only(message.content.array_records)
        before, known = _tensors(model), digest(model)
        reply = call_next(message, context)
        if reply.has_error():
            raise Left(f"the app failed: {reply.error.reason}")
        metrics = dict(_only(reply.content.metric_records))
        rows = metrics.pop(self.group.weight)
        if isinstance(rows, list) or rows != int(rows):
            raise Left(f"{self.group.weight} is no number of rows")
        if kind == TRAIN:
            values = changes(before, _tensors(_only(reply.content.array_records)))
        else:
            values = {name: torch.tensor(float(metrics[name])) for name in sorted(metrics)}
        terms = self.group.terms(kind, {name: tuple(value.shape) for name, value in values.items()})
        words = terms.encoded(values, int(rows))
        content = self._parts(me, words, self.group.round(kind, attempt, known, terms.size), list(values))
        return Message(content, reply_to=message)

    def _parts(self, me: Identity, words: torch.Tensor, round: bytes, names: list[str]) -> RecordDict:
        *keys, masked = shares_of(words, len(self.group.holders) + 1)
        assert isinstance(masked, torch.Tensor)
        sealed = []
        for (holder, public), key in zip(self.group.holders.items(), keys, strict=True):
            assert isinstance(key, bytes)
            sealed.append(me.seal(key, holder, public, round))
        record = ConfigRecord({"client": me.name, "round": round, "sealed": sealed, "names": names})
        return RecordDict({RECORD: record, WORDS: ArrayRecord({"words": Array(masked.numpy())})})

    # --- holders ---

    def _name(self, message: Message, context: Any) -> Message:
        me, _ = self._who(context)
        return Message(RecordDict({RECORD: ConfigRecord({"name": me.name})}), reply_to=message)

    def _sum(self, message: Message, context: Any) -> Message:
        """A holder's share of the sum of the clients that the server names, if it consents."""
        me, folder = self._who(context)
        try:
            words = self._consented(me, folder, message.content.config_records[RECORD])
        except (RoundError, KeyError) as error:  # of public facts: who, how many, what was opened before
            return Message(Error(NOT_TAKEN, str(error)), reply_to=message)
        return Message(RecordDict({WORDS: ArrayRecord({"words": Array(words.numpy())})}), reply_to=message)

    def _consented(self, me: Identity, folder: Path | None, asked: Mapping[str, Any]) -> torch.Tensor:
        group = self.group
        if me.name not in group.holders:
            raise RoundError(f"{me.name} is no holder of this group")
        kind, model, size = str(asked["kind"]), str(asked["model"]), int(asked["size"])
        clients, sealed = list(asked["clients"]), list(asked["sealed"])
        if kind not in (TRAIN, EVALUATE) or size < 1 or len(clients) != len(sealed):
            raise RoundError(f"{me.name}: a question that makes no sense")
        round = group.round(kind, str(asked["attempt"]), model, size)
        collector = Collector(me.name, size, round, list(group.clients), group.min_clients)
        for client, part in zip(clients, sealed, strict=True):
            public = group.clients.get(client)
            if public is None:
                raise RoundError(f"{me.name}: {client!r} is no client of this group")
            collector.receive(client, round, me.open(part, client, public, round))
        sums = {("flower", kind, model): frozenset(clients)}
        with self._lock, _alone(folder):
            opened = Contributions(folder) if folder else self._opened.setdefault(me.name, Contributions(None))
            if reason := opened.refusal(me.name, sums):
                raise RoundError(reason)
            words = collector.release(clients)
            opened.add(sums)  # on disk before anything leaves
        return words

    def _who(self, context: Any) -> tuple[Identity, Path | None]:
        """A node's identity, and where it keeps what it consented to."""
        found: Any = self._identity(context) if callable(self._identity) else self._identity
        folder = self._state
        if not isinstance(found, Identity):
            folder = folder or Path(found).parent
            found = Identity.load(found)
        listed = {**self.group.holders, **self.group.clients}.get(found.name)
        if listed != found.public:
            raise ConfigurationError(f"the group has no member {found.name} with this key")
        if folder is not None:
            folder = folder / f"{found.name}.state"
            folder.mkdir(parents=True, exist_ok=True)
        return found, folder


@contextlib.contextmanager
def _alone(folder: Path | None) -> Iterator[None]:
    """One process at a time: Flower may give two messages to two processes of a node."""
    if folder is None:
        yield
        return
    with open(folder / "lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _only(records: Mapping[str, Any]) -> Any:
    """The one record of its kind that a message has."""
    if len(records) != 1:
        raise Left(f"a message has {len(records)} records of a kind, and there must be one: {', '.join(records)}")
    return next(iter(records.values()))


def _tensors(arrays: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(array.numpy().copy()) for name, array in arrays.items()}
