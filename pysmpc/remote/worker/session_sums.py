"""Sums over owners of what their tasks leave, and over clients who are no holders: who takes part, and who consents."""

from __future__ import annotations

import hashlib
import logging
import math
from collections.abc import Iterator, Mapping, Sequence

import torch

from pysmpc.errors import CheckpointError, RemoteError, RoundError
from pysmpc.federated.opened_sums import Key
from pysmpc.federated.updates import Terms
from pysmpc.remote.arguments import decode
from pysmpc.remote.messages import WITHHELD, Denied, Opened
from pysmpc.remote.program_messages import Collect, Invite
from pysmpc.remote.worker import consent_rounds
from pysmpc.remote.worker.driver_session import DriverSession
from pysmpc.remote.worker.origins import Origin
from pysmpc.remote.worker.outside_clients import Gathering
from pysmpc.remote.worker.rows import PUBLIC, Rows
from pysmpc.remote.worker.tasks import Turn, terms_of
from pysmpc.ring import z2k
from pysmpc.ring.shares import Share
from pysmpc.tensor.secret import SecretTensor
from pysmpc.transport.wire import tensor_frames

log = logging.getLogger("pysmpc.worker")

LONGEST = 600.0  # seconds for a task, where the driver names no deadline; peers wait so long for a byte


class SessionSums:
    """The sums of one session.  made: those that this owner is in, and that may be opened, with the owners in each."""

    def __init__(self, session: DriverSession) -> None:
        self._session, self._worker, self._driver = session, session.worker, session.driver
        self.made: dict[Key, frozenset[str]] = {}

    def collect(self, number: int, operation: Collect, buffers: Iterator[torch.Tensor]) -> None:
        """A sum over owners of what their tasks leave.

        1. Each owner runs her task, or says that she does not.
        2. The holders tell each other who takes part: one round.
        3. They tell each other whether they consent to a sum of these: one round.  If one does not, all share zeros.
        """
        replay, me = self._session.running, self._worker.config.name
        replay.begin(operation)
        terms = terms_of(operation)
        values = decode(operation.values, replay.cell, buffers)
        if self._worker.config.role != "holder":
            for _ in range(2):
                consent_rounds.said(replay.session, True)
            self._shared(operation, None, terms, Origin(frozenset(operation.owners)))
            return
        # 1. the task
        turn, words, refusal = self._turn(operation, values) if me in operation.owners else (None, None, "")
        # 2. who takes part
        here = consent_rounds.said(replay.session, words is not None)
        present = frozenset(name for name in operation.owners if here[name])
        sums = {turn.key: present} if turn is not None and words is not None else {}
        if turn is not None and sums:
            refusal = turn.refusal(present) or self._told_apart(sums)
        elif not refusal and len(present) < 2:
            refusal = f"{me}: {len(present)} of {len(operation.owners)} owners took part"
        # 3. consent
        agreed = consent_rounds.said(replay.session, not refusal)
        refused = [name for name, word in agreed.items() if not word]
        taken = words if not refused else None
        rows = Rows(turn.rows) if turn is not None and taken is not None else PUBLIC
        self._shared(operation, taken, terms, Origin(frozenset() if refused else present, rows))
        self._tell_sum(number, operation, sums, present, refusal, refused)

    def invite(self, number: int, operation: Invite, buffers: Iterator[torch.Tensor]) -> None:
        """A sum over clients, who are no holders, of what their tasks leave.

        1. The holders tell each other whether they offer the round: one round.  Clients leave shares with all of them.
        2. The last one, who adds words up, waits for them, and says whose it has: one round.
        3. They tell each other whether they consent to a sum of these: one round.  If one does not, all have zeros.
        """
        replay, clients = self._session.running, operation.owners
        replay.begin(operation)
        terms, config, holders = terms_of(operation), self._worker.config, self._session.setup.holders
        values = decode(operation.values, replay.cell, buffers)
        if config.role != "holder":
            consent_rounds.said(replay.session, True)
            consent_rounds.named(replay.session, clients, [])
            consent_rounds.said(replay.session, True)
            self._gathered(operation, None, terms, Origin(frozenset(holders)))
            return
        gathering, refusal = None, self._not_offered(operation)
        if not refusal:
            session = self._session.setup.session
            gathering = Gathering(config.name, self._driver, session, holders, number, operation, values, terms)
        with self._session.untimed():
            try:
                # 1. the offer
                if gathering is not None:
                    self._worker.rounds.begin(gathering)
                refused = [name for name, word in consent_rounds.said(replay.session, not refusal).items() if not word]
                # 2. who came
                came: list[str] = []
                if gathering is not None and not refused and config.name == holders[-1]:
                    came = gathering.wait(min(operation.deadline or LONGEST, LONGEST), self._session.cancel.is_set)
                came = consent_rounds.named(replay.session, clients, came)
            finally:
                if gathering is not None:
                    self._worker.rounds.end(gathering)
        # 3. consent
        words, present = None, frozenset(came)
        key: Key = self._driver, operation.task, hashlib.sha256(values.contiguous().numpy().tobytes()).hexdigest()
        if gathering is not None and not refused:
            refusal = self._told_apart({key: present})
            if not refusal:
                try:
                    words = gathering.release(came)
                except RoundError as error:
                    refusal = str(error)
        agreed = consent_rounds.said(replay.session, words is not None)
        refused += [name for name, word in agreed.items() if not word and name not in refused]
        rows = PUBLIC if refused else Rows(len(present))  # a client has a row or more
        owners = frozenset() if refused else frozenset(holders)  # who answer for the clients: all of them must consent
        self._gathered(operation, None if refused else words, terms, Origin(owners, rows))
        self._tell_sum(number, operation, {key: present}, present, refusal, refused)

    def refusal(self) -> str:
        """Why the sums of this session may not be opened, or nothing.  Under the lock of the contributions."""
        return self._worker.contributions.refusal(self._worker.config.name, self.made)

    def keep(self) -> None:
        """What is kept may be opened in another session, and so counts as opened."""
        with self._worker.contributions.lock:
            if reason := self.refusal():
                raise CheckpointError(reason)
            self._worker.contributions.add(self.made)

    def _told_apart(self, sums: Mapping[Key, frozenset[str]]) -> str:
        """Why sums may not be opened beside those of this session and of others, or nothing."""
        if any(self.made.get(key, owners) != owners for key, owners in sums.items()):
            return (
                f"{self._worker.config.name}: a sum of this task for this model was made before, of other owners; the "
                "two would tell their difference"
            )
        with self._worker.contributions.lock:
            return self._worker.contributions.refusal(self._worker.config.name, sums)

    def _tell_sum(
        self,
        number: int,
        operation: Collect,
        sums: Mapping[Key, frozenset[str]],
        present: frozenset[str],
        refusal: str,
        refused: Sequence[str],
    ) -> None:
        """Tell the driver whose sum there is, or why there is none."""
        if refusal:
            log.warning("no sum", extra={"peer": self._driver, "task": operation.task[:80], "reason": refusal})
            self._session.post(Denied(number, RoundError.__name__, refusal))
        elif refused:
            self._session.post(Denied(number, WITHHELD, f"{', '.join(refused)} did not consent"))
        else:
            self.made.update(sums)
            log.info("task", extra={"peer": self._driver, "task": operation.task[:80], "owners": sorted(present)})
            flags = torch.tensor([name in present for name in operation.owners], dtype=torch.int64)
            self._session.post(Opened(number, 8 * len(flags)), *tensor_frames(flags))

    def _not_offered(self, operation: Invite) -> str:
        """Why this holder does not invite clients to a round, or nothing."""
        config = self._worker.config
        if self._driver in operation.owners:
            return f"{config.name}: the driver of a session is no client of its sums"
        if operation.noise and operation.minimum < operation.sharers:
            return f"{config.name}: the noise is of {operation.sharers} clients, and a sum of {operation.minimum}"
        if strangers := [name for name in operation.owners if name not in config.clients]:
            return f"{strangers[0][:80]} is not among the clients of {config.name}"
        if operation.minimum < config.min_clients:
            return (
                f"{config.name} consents to sums of {config.min_clients} clients or more (min_clients); "
                f"{operation.minimum} were asked for"
            )
        if not (math.isfinite(operation.deadline) and operation.deadline >= 0):
            return f"{config.name}: a deadline is a number of seconds"
        return ""

    def _turn(self, operation: Collect, values: torch.Tensor) -> tuple[Turn | None, torch.Tensor | None, str]:
        """This owner's part: its task, the words that leave her if any do, and what she has against it in public."""
        config = self._worker.config
        try:
            with self._session.untimed():  # a task runs in a thread of its own
                task = self._worker.tasks.of(config.name, config.drivers.get(self._driver, ()), operation.task)
                turn = Turn(config.name, self._driver, task, operation, values)
                deadline = min(operation.deadline or LONGEST, LONGEST)
                words = self._worker.tasks.run(self._driver, turn, deadline, self._session.cancel.is_set)
            return turn, words, ""
        except (RemoteError, RoundError) as error:
            return None, None, str(error)

    def _shared(self, operation: Collect, words: torch.Tensor | None, terms: Terms, origin: Origin) -> None:
        """Every owner's term is shared, zeros for one who left, and their sum goes to the slot.

        words: this owner's.  No round, and not a byte: an owner's shares are streams under keys that the others have.
        """
        replay, unit = self._session.running, terms.precision
        session = replay.session
        mine = {session.holders[rank] for rank in session.party.ranks}
        total: torch.Tensor | None = None
        for owner in operation.owners:
            values = None
            if owner in mine:
                values = torch.zeros(terms.size, dtype=torch.int64) if words is None else words
            share = session.suite.share(replay.party_of(owner, session), values, (terms.size,), unit.scale).words()
            total = share if total is None else z2k.add(total, share)
        assert total is not None
        out = SecretTensor.of(Share.of(total, (terms.size,), unit.scale), session, unit, torch.float64)
        replay.keep(operation.slot, out.cell, origin)

    def _gathered(self, operation: Invite, words: torch.Tensor | None, terms: Terms, origin: Origin) -> None:
        """This holder's share of a sum of clients' terms goes to the slot; zeros, where there is none."""
        replay, unit = self._session.running, terms.precision
        session = replay.session
        shares = torch.zeros((session.party.rows, terms.size), dtype=torch.int64)
        if words is not None:
            shares[0] = words
        share = Share.of(shares, (terms.size,), unit.scale)
        replay.keep(operation.slot, SecretTensor.of(share, session, unit, torch.float64).cell, origin)
