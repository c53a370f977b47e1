"""One driver at one worker: its connection, and the session that it set up.

The thread of the connection takes operations in and sends answers out; the thread of
the session runs the operations, in order.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import math
import queue
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

import torch

from pysmpc.errors import (
    ChannelError,
    CheckpointError,
    GetNotPermittedError,
    ObjectNotFoundError,
    OpenNotPermittedError,
    PysmpcError,
    RefusedError,
    RemoteError,
    RoundError,
)
from pysmpc.federated.opened_sums import Contributions, Key
from pysmpc.remote.arguments import decode, dtype_of
from pysmpc.remote.config import WorkerConfig
from pysmpc.remote.data_steps import Items
from pysmpc.remote.messages import (
    WITHHELD,
    Ack,
    Ask,
    Beat,
    Bye,
    Denied,
    Down,
    Failed,
    Found,
    Kept,
    Opened,
    Ready,
    Report,
    Search,
    Setup,
    Shelve,
    Shelved,
)
from pysmpc.remote.program_messages import (  # fmt: skip
    Collect,
    Fetch,
    Hand,
    Input,
    Invite,
    Keep,
    Load,
    Open,
    Recall,
    Restore,
)
from pysmpc.remote.worker.approvals import Requests
from pysmpc.remote.worker.budget import FLAG
from pysmpc.remote.worker.checkpoint_store import CheckpointStore, Shelving
from pysmpc.remote.worker.data import Draws, Store
from pysmpc.remote.worker.held import Held, too_much
from pysmpc.remote.worker.history import History, Lineage
from pysmpc.remote.worker.intake import Due, Intake
from pysmpc.remote.worker.origins import Origin, combined
from pysmpc.remote.worker.outside_clients import Gathering, Rounds
from pysmpc.remote.worker.policy import Openings, Part
from pysmpc.remote.worker.received import Received
from pysmpc.remote.worker.replay import Replay
from pysmpc.remote.worker.rows import PUBLIC, Rows, loaded
from pysmpc.remote.worker.tasks import Tasks, Turn, terms_of
from pysmpc.ring.fixedpoint import INTEGER, Precision, saturating
from pysmpc.ring.prg import KeySet, fresh_key
from pysmpc.ring.shares import dense_strides
from pysmpc.transport import establish
from pysmpc.transport.control import Cancel, Control
from pysmpc.transport.tls import Tls
from pysmpc.transport.wire import MESSAGE, PACKED, WORDS, Stream, tensor_frames, unpack

log = logging.getLogger("pysmpc.worker")

ACK_EVERY = 64
FAREWELL = 1.0  # seconds for a driver to read why its connection ends
LONGEST = 600.0  # seconds for a task, where the driver names no deadline; peers wait so long for a byte
MOVED = 1_000_000  # nanoseconds of computing that count as having moved


class Host(Protocol):
    """What a worker has for all of its drivers."""

    config: WorkerConfig
    tls: Tls
    data: Store
    openings: Openings
    shelf: CheckpointStore
    tasks: Tasks
    contributions: Contributions
    received: Received
    rounds: Rounds
    meeting: establish.Rendezvous

    def report(self) -> dict[str, Any]:
        """For the status."""


class DriverConnection:
    """One driver's connection, and the session it set up."""

    def __init__(self, worker: Host, stream: Stream, may_compute: bool) -> None:
        self.worker = worker
        self.driver = stream.peer
        self._dismissed = ""
        self._used: dict[str, Store] = {}  # the data that the session has shared from, by name
        self._draws = Draws()
        self.gone = threading.Event()
        self._stream = stream
        self._may_compute = may_compute
        self._control = Control(stream, self._on_frame, self._beat)
        self._cancel = Cancel()
        self._queue: queue.SimpleQueue[Due | None] = queue.SimpleQueue()
        self._ahead: Due | None = None  # what was taken from the queue early
        self._opened = -1  # the operation that was last done early
        self._setup: Setup | None = None
        self._runner: threading.Thread | None = None
        self._engagement: establish.PeerSession | None = None
        self._replay: Replay | None = None
        self._shelving: Shelving | None = None
        self._requests = Requests(self.driver)
        self._sums: dict[Key, frozenset[str]] = {}  # sums over owners that this one is in, and that may be opened
        self._history: History | None = None  # kept where the owner wants to be asked
        self._held: Held | None = None
        self._expelled = False
        self._intake: Intake | None = None
        self._started = time.monotonic()
        self._clock: int | None = None  # of the session's thread: the time that it computed
        self._last = True  # whether the operation that is being done is the last of its batch
        self._moves = 0
        self._last_moved: tuple[int, ...] = ()
        self.done = -1

    # --- the thread of the connection ---

    def serve(self) -> None:
        """Until the driver leaves."""
        reason = "left"
        try:
            self._control.serve()
        except PysmpcError as error:
            reason = str(error)
        except Exception as error:
            log.exception("control failed")
            reason = str(error)
        finally:
            self._cancel.set()
            self._queue.put(None)
            if self._runner is not None:
                self._runner.join()
            self._cancel.close()
            reason = self._dismissed or reason
            log.info("driver gone", extra={"peer": self.driver, "reason": reason, "operations": self.done + 1})
            self.gone.set()

    def leave(self) -> None:
        """End it from this side."""
        self._control.end()

    def revoked(self) -> str | None:
        """Why it must end, if the driver or another party of its session is revoked by now."""
        engagement, tls = self._engagement, self.worker.tls
        streams = [self._stream, *(engagement.streams if engagement is not None else [])]
        return next((reason for each in streams if (reason := tls.revoked(each.peer, each.serial))), None)

    def dismiss(self, reason: str) -> None:
        """End it at once: nothing more of the driver's is taken or done."""
        if self._dismissed:
            return
        self._dismissed = reason
        log.warning("dismissed", extra={"peer": self.driver, "reason": reason})
        self._control.post(Failed(self.done + 1, RefusedError.__name__, reason))
        self._cancel.set()
        timer = threading.Timer(FAREWELL, self._control.end)  # to close at once may destroy what was just sent
        timer.daemon = True
        timer.start()

    def _beat(self) -> Beat:
        """Whether anything moved since the last one, and no more of how long what takes: that may depend on data."""
        limit = self.worker.config.limits.time
        if limit and self._setup is not None and time.monotonic() - self._started > limit:
            self._expel(
                f"{self.worker.config.name} lets a session last {limit} (limits.time in its file), and this one is over"
            )
        engagement, moved = self._engagement, [self.done, self._stream.received]
        if engagement is not None:
            moved += engagement.traffic
        if self._setup is not None:
            moved.append(_computed(self._clock) // MOVED)
        if tuple(moved) != self._last_moved:
            self._moves += 1
            self._last_moved = tuple(moved)
        return Beat(self.done, self._moves)

    def _expel(self, reason: str) -> None:
        """End the session, and say why; from the thread of the connection."""
        if not self._cancel.is_set():
            self._expelled = True
            log.warning("session failed", extra={"peer": self.driver, "reason": reason})
            self._control.post(Failed(self.done + 1, "RemoteError", reason))
            self._cancel.set()
            self._queue.put(None)

    def _on_frame(self, kind: int, body: memoryview) -> None:
        if self._expelled and kind != MESSAGE:
            return  # what was under way when the session ended; it will leave once it has heard why
        if self._dismissed:
            return
        if self._intake is not None and self._intake.unfinished and kind != WORDS and not self._expelled:
            raise ChannelError(f"{self.driver} left a tensor unfinished")
        if kind == MESSAGE:
            self._on_message(unpack(body, Down, self.driver))
        elif kind == PACKED:
            self._on_batch(body)
        elif self._intake is not None and self._intake.unfinished:
            self._intake.words(body)
        else:
            raise ChannelError(f"{self.driver} sent a tensor that nothing asked for")

    def _on_batch(self, body: memoryview) -> None:
        if self._setup is None:
            raise ChannelError(f"{self.driver} sent operations before a session")
        if self._intake is None:
            holders, me = self._setup.holders, self.worker.config.name
            self._intake = Intake(self.driver, me, holders, self._queue)
        self._intake.batch(body, self.done)
        config = self.worker.config
        if reason := too_much(self.driver, config.name, config.limits, self._intake.bytes):
            self._expel(reason)
            return
        self._intake.deliver()

    def _on_message(self, message: Any) -> None:
        if isinstance(message, Ask):
            self._control.post(Report(message.number, self.worker.report()))
        elif isinstance(message, Bye):
            self._control.end()
        elif not self._may_compute:
            raise ChannelError(f"{self.driver} may ask for the status, and nothing else")
        elif isinstance(message, Search):
            self._control.post(Found(message.number, self.worker.data.search(message.tags)))
        elif isinstance(message, Shelve):
            self.worker.shelf.tidy(self.driver, message.run, message.keep, message.drop)
            self._control.post(Shelved(message.number, self.worker.shelf.known(self.driver, message.run)))
        elif isinstance(message, Setup):
            if self._setup is not None:
                raise ChannelError("one session for each connection")
            self._setup = message
            self._started = time.monotonic()
            self._runner = threading.Thread(target=self._run, name=f"session of {self.driver}", daemon=True)
            self._runner.start()

    # --- the thread of the session ---

    def _run(self) -> None:
        try:
            self._engage()
            self._clock = _own_clock()
            with torch._C._AutoDispatchBelowAutograd():  # as at the driver, where torch calls the handlers
                while (item := self._ahead or self._queue.get()) is not None and not self._cancel.is_set():
                    self._ahead = None
                    self._do(item)
        except Exception as error:
            if not self._cancel.is_set():
                expected = isinstance(error, PysmpcError)
                log.warning("session failed", exc_info=not expected, extra={"peer": self.driver, "reason": str(error)})
                self._control.post(Failed(self.done + 1, type(error).__name__, _text(error)))
                # the others stop waiting for this party; the driver hears of it and ends the session
        finally:
            if self._engagement is not None:
                self._engagement.close()
            if self._replay is not None:
                self._replay.close()
            self._replay = self._engagement = self._shelving = self._clock = None
            self._history = self._held = None
            if self._setup is not None:
                self.worker.meeting.forget(self._setup.session)
            self.worker.openings.end(self._requests)

    def _engage(self) -> None:
        setup, config = self._setup, self.worker.config
        assert setup is not None
        names = [*setup.holders, setup.provider]
        if config.name not in (setup.holders if config.role == "holder" else [setup.provider]):
            raise RefusedError(f"{config.name} is a {config.role}, and takes no other part")
        for name in names:
            if name != config.name and name not in config.peers:
                raise RefusedError(f"{name} is not among the peers of {config.name}")
        if setup.provider not in (config.name, *config.providers) or set(setup.holders) & set(config.providers):
            raise RefusedError(
                f"{config.name} takes {', '.join(config.providers)} for crypto provider, and nobody else"
            )
        if self.driver in names:
            raise RefusedError(f"{self.driver} cannot be driver and worker of one session")
        self._engagement = establish.establish(
            config.name,
            self.driver,
            setup.session,
            setup.holders,
            setup.provider,
            setup.owner_key,
            self.worker.tls,
            config.peers,
            self.worker.meeting,
            self._cancel.wake,
            self._cancel.is_set,
            setup.checked,
        )
        there = self._engagement
        if (reason := self.revoked()) is not None:  # since its connections were made
            raise RefusedError(reason)
        self._held = Held(config.name, config.limits)
        if self.worker.openings.asks(self.driver):
            self._history = History(self.driver)
        self._replay = Replay(
            there.session,
            self.driver,
            there.owners,
            there.notaries,
            self._values,
            self._came,
            there.confirmed,
            there.transcript,
            self._held,
        )
        shelf = self.worker.shelf if config.role == "holder" else None
        self._shelving = Shelving(shelf, self.driver, setup.holders, self._replay, there.transcript)
        self._control.post(Ready())
        log.info("session", extra={"peer": self.driver, "holders": setup.holders, "provider": setup.provider})

    def _do(self, due: Due) -> None:
        assert self._replay is not None
        assert self._engagement is not None
        assert self._held is not None
        number, operation, buffers = due.number, due.operation, due.buffers
        if due.told:
            self._engagement.transcript.follow(due.told)
            if due.opens:
                self._engagement.confirm()
        self._last = due.last
        given = iter(buffers)
        self._held.before(operation)
        if self._history is not None:
            self._history.note(operation, buffers)
        if isinstance(operation, Open):
            if number != self._opened:
                self._open(number, operation)
        elif isinstance(operation, Fetch):
            self._fetch(number, operation, given)
        elif isinstance(operation, Invite):
            self._invite(number, operation, given)
        elif isinstance(operation, Collect):
            self._collect(number, operation, given)
        elif isinstance(operation, Hand):
            self._hand(number, operation)
        elif isinstance(operation, Keep | Recall):
            self._shelve(number, operation)
        elif isinstance(operation, Restore):
            assert self._shelving is not None
            self._shelving.restore(operation)
        else:
            if isinstance(operation, Input) and buffers:
                self._engagement.inputs.send(buffers[0])
            self._buffers = given
            self._replay.run(operation, given)
        self.done = number
        assert self._intake is not None
        self._intake.used += sum(x.nbytes for x in buffers)
        if number % ACK_EVERY == ACK_EVERY - 1 or buffers or (not self._ahead and self._queue.empty()):
            self._control.post(Ack(number))

    def _came(self, slot: int) -> None:
        """If the driver waits for the result of the step that is being done, it need not wait for the rest of it.

        Only if it said so in the same batch, so that all parties do this, or none.
        """
        if self._ahead is None and not self._last:
            self._ahead = self._queue.get()  # only this thread takes
            if self._ahead is None:
                self._queue.put(None)  # the end
        if self._ahead is None:
            return
        number, operation = self._ahead.number, self._ahead.operation
        if isinstance(operation, Open) and operation.ref.slot == slot:
            assert self._held is not None
            self._held.before(operation)
            self._opened = number
            self._open(number, operation)

    def _open(self, number: int, operation: Open) -> None:
        assert self._replay is not None
        refusal = ""

        def permits() -> bool:
            nonlocal refusal
            refusal = self._refusal(operation)
            return not refusal

        try:
            words, refused, failed = self._replay.shares(operation, permits)
        except ChannelError as error:
            log.warning("not opened", extra={"peer": self.driver, "reason": f"not all parties agreed: {error}"})
            raise
        if not words.shape[0]:
            return
        if refusal:
            self._control.post(Denied(number, "OpenNotPermittedError", refusal))
            return
        if refused:  # they say why
            log.info("kept", extra={"peer": self.driver, "refused": refused})
            self._control.post(Denied(number, WITHHELD, f"{', '.join(refused)} did not consent"))
            return
        if failed:
            log.info("out of range", extra={"peer": self.driver})
            self._control.post(Denied(number, "RangeError", "a value was too large since the last opening"))
            return
        self._control.post(Opened(number, 8 * words.shape[1]), *tensor_frames(words[0]))

    def _refusal(self, operation: Open) -> str:
        """Why the driver may not see a value, or nothing.  The provider, who has no part of it, is not asked."""
        assert self._replay is not None
        assert self._setup is not None
        if self._dismissed:
            return self._dismissed
        if self.worker.config.role != "holder":
            return ""
        session = self._replay.session
        if session.flags is not None and session.flags.failed:
            return "a value was too large in this session, and nothing is opened in it any more: connect again"
        origin, flag = self._replay.origin(operation.ref), self._replay.flag
        both = origin if flag is None else combined([origin, flag])
        lineage = self._history.of(operation.ref.slot) if self._history is not None else Lineage()
        request = self._requests.request(
            operation.ref,
            self._replay.version(operation.ref),
            both.owners,
            both.rows.least,
            lineage,
            "" if flag is None else FLAG,
            self._replay.flag_at,
        )
        parts = [Part(origin.owners, origin.rows.least, tuple(operation.ref.size))]
        if flag is not None:
            parts.append(Part(flag.owners, flag.rows.least, (), FLAG))
        concerned = self.worker.config.name in both.owners
        try:
            with self.worker.contributions.lock:
                if concerned and (reason := self._sums_refused()):
                    raise OpenNotPermittedError(reason)
                self.worker.openings.open(self.driver, parts, request)
                if concerned:
                    self.worker.contributions.add(self._sums)
        except OpenNotPermittedError as error:
            log.warning("not opened", extra={"peer": self.driver, "reason": str(error)})
            return str(error)
        log.debug("opened", extra={"peer": self.driver, "shape": operation.ref.size, "owners": sorted(origin.owners)})
        return ""

    def _hand(self, number: int, operation: Hand) -> None:
        """A value is opened to a holder, and to nobody else."""
        assert self._replay is not None
        replay, me = self._replay, self.worker.config.name
        masks: list[torch.Tensor] = []
        refusal = ""

        def permits() -> bool:
            nonlocal refusal
            if self.worker.config.role == "holder":
                refusal = self._hand_refusal(operation)
            return not refusal

        def mask(count: int) -> torch.Tensor:
            masks.append(KeySet([fresh_key()]).draw(0, count)[0])
            return masks[0]

        words, refused = replay.hand(operation, mask if me == operation.receiver else None, permits)
        if self.worker.config.role != "holder":
            return
        if refusal:
            log.warning("not opened", extra={"peer": self.driver, "reason": refusal})
            self._control.post(Denied(number, "OpenNotPermittedError", refusal))
            return
        if refused or words is None:
            self._control.post(Denied(number, WITHHELD, f"{', '.join(refused)} did not consent"))
            return
        if masks:
            scale = replay.cell(operation.ref.slot).scale
            self.worker.received.put(operation.name, words.reshape(-1) - masks[0], operation.ref, scale)
            log.info("received", extra={"peer": self.driver, "data": operation.name, "shape": operation.ref.size})
        self._control.post(Opened(number, 0))

    def _hand_refusal(self, operation: Hand) -> str:
        """Why a holder may not have a value, or nothing."""
        assert self._replay is not None
        origin, me = self._replay.origin(operation.ref), self.worker.config.name
        reason = self._dismissed
        if me == operation.receiver:
            reason = reason or self.worker.received.refusal(operation.name, math.prod(operation.ref.size))
        shape, items = tuple(operation.ref.size), origin.rows.least
        try:
            with self.worker.contributions.lock:
                if me in origin.owners:
                    reason = reason or self._sums_refused()
                self.worker.openings.hand(self.driver, operation.receiver, origin.owners, items, shape, reason)
                if me in origin.owners:
                    self.worker.contributions.add(self._sums)
        except OpenNotPermittedError as error:
            return str(error)
        return ""

    # --- tasks ---

    def _collect(self, number: int, operation: Collect, buffers: Iterator[torch.Tensor]) -> None:
        """A sum over owners of what their tasks leave.

        1. Each owner runs her task, or says that she does not.
        2. The holders tell each other who takes part: one round.
        3. They tell each other whether they consent to a sum of these: one round.  If one does not, all share zeros.
        """
        assert self._replay is not None
        self._replay.begin(operation)
        terms, me = terms_of(operation), self.worker.config.name
        values = decode(operation.values, self._replay.cell, buffers)
        if self.worker.config.role != "holder":
            for _ in range(2):
                self._replay.said(True)
            if operation.clear:
                self._replay.gathered(operation, None, terms, Origin(frozenset()))
            else:
                self._replay.collect(operation, None, terms, Origin(frozenset(operation.owners)))
            return
        # 1. the task
        turn, words, refusal = self._turn(operation, values) if me in operation.owners else (None, None, "")
        # 2. who takes part
        here = self._replay.said(words is not None)
        present = frozenset(name for name in operation.owners if here[name])
        sums = {turn.key: present} if turn is not None and words is not None else {}
        if turn is not None and sums:
            refusal = turn.refusal(present) or self._told_apart(sums) or turn.spend()
            if operation.clear and not refusal:
                refusal = self.worker.openings.alone(self.driver, operation.task, (terms.size,))
        elif not refusal and len(present) < 2:
            refusal = f"{me}: {len(present)} of {len(operation.owners)} owners took part"
        # 3. consent
        agreed = self._replay.said(not refusal)
        refused = [name for name, word in agreed.items() if not word]
        taken = words if not refused else None
        rows = Rows(turn.rows) if turn is not None and taken is not None else PUBLIC
        if operation.clear:
            self._replay.gathered(operation, None, terms, Origin(frozenset()))
        else:
            self._replay.collect(operation, taken, terms, Origin(frozenset() if refused else present, rows))
        alone = (torch.zeros(terms.size, dtype=torch.int64) if taken is None else taken) if operation.clear else None
        self._tell_sum(number, operation, sums, present, refusal, refused, alone)

    def _tell_sum(
        self,
        number: int,
        operation: Collect,
        sums: Mapping[Key, frozenset[str]],
        present: frozenset[str],
        refusal: str,
        refused: Sequence[str],
        alone: torch.Tensor | None = None,
    ) -> None:
        """Tell the driver whose sum there is, or why there is none.  alone: this owner's term, which it is sent."""
        if refusal:
            log.warning("no sum", extra={"peer": self.driver, "task": operation.task[:80], "reason": refusal})
            self._control.post(Denied(number, RoundError.__name__, refusal))
        elif refused:
            self._control.post(Denied(number, WITHHELD, f"{', '.join(refused)} did not consent"))
        else:
            self._sums.update(sums)
            log.info("task", extra={"peer": self.driver, "task": operation.task[:80], "owners": sorted(present)})
            flags = torch.tensor([name in present for name in operation.owners], dtype=torch.int64)
            sent = flags if alone is None else torch.cat([flags, alone])
            self._control.post(Opened(number, 8 * len(sent)), *tensor_frames(sent))

    def _invite(self, number: int, operation: Invite, buffers: Iterator[torch.Tensor]) -> None:
        """A sum over clients, who are no holders, of what their tasks leave.

        1. The holders tell each other whether they offer the round: one round.  Clients leave shares with all of them.
        2. The last one, who adds words up, waits for them, and says whose it has: one round.
        3. They tell each other whether they consent to a sum of these: one round.  If one does not, all have zeros.
        """
        assert self._replay is not None
        assert self._setup is not None
        replay, clients = self._replay, operation.owners
        replay.begin(operation)
        terms, config, holders = terms_of(operation), self.worker.config, self._setup.holders
        values = decode(operation.values, replay.cell, buffers)
        if config.role != "holder":
            replay.said(True)
            replay.named(clients, [])
            replay.said(True)
            replay.gathered(operation, None, terms, Origin(frozenset(holders)))
            return
        gathering, refusal = None, self._not_offered(operation)
        if not refusal:
            session = self._setup.session
            gathering = Gathering(config.name, self.driver, session, holders, number, operation, values, terms)
        clock, self._clock = self._clock, None  # clients take their time
        try:
            # 1. the offer
            if gathering is not None:
                self.worker.rounds.begin(gathering)
            refused = [name for name, word in replay.said(not refusal).items() if not word]
            # 2. who came
            came: list[str] = []
            if gathering is not None and not refused and config.name == holders[-1]:
                came = gathering.wait(min(operation.deadline or LONGEST, LONGEST), self._cancel.is_set)
            came = replay.named(clients, came)
        finally:
            self._clock = clock
            if gathering is not None:
                self.worker.rounds.end(gathering)
        # 3. consent
        words, present = None, frozenset(came)
        key: Key = self.driver, operation.task, hashlib.sha256(values.contiguous().numpy().tobytes()).hexdigest()
        if gathering is not None and not refused:
            refusal = self._told_apart({key: present})
            if not refusal:
                try:
                    words = gathering.release(came)
                except RoundError as error:
                    refusal = str(error)
        refused += [name for name, word in replay.said(words is not None).items() if not word and name not in refused]
        rows = PUBLIC if refused else Rows(len(present))  # a client has a row or more
        owners = frozenset() if refused else frozenset(holders)  # who answer for the clients: all of them must consent
        replay.gathered(operation, None if refused else words, terms, Origin(owners, rows))
        self._tell_sum(number, operation, {key: present}, present, refusal, refused)

    def _not_offered(self, operation: Invite) -> str:
        """Why this holder does not invite clients to a round, or nothing."""
        config = self.worker.config
        if operation.clear:
            return f"{config.name}: what clients leave is not opened alone"
        if self.driver in operation.owners:
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
        config = self.worker.config
        clock, self._clock = self._clock, None  # a task takes its time, in a thread of its own
        try:
            task = self.worker.tasks.of(config.name, self.driver, config.drivers.get(self.driver, ()), operation)
            turn = Turn(config.name, self.driver, task, operation, values)
            deadline = min(operation.deadline or LONGEST, LONGEST)
            words = self.worker.tasks.run(self.driver, turn, deadline, self._cancel.is_set)
            return turn, words, ""
        except (RemoteError, RoundError) as error:
            return None, None, str(error)
        finally:
            self._clock = clock

    def _sums_refused(self) -> str:
        return self.worker.contributions.refusal(self.worker.config.name, self._sums)

    def _sums_kept(self) -> None:
        """What is kept may be opened in another session, and so counts as opened."""
        with self.worker.contributions.lock:
            if reason := self._sums_refused():
                raise CheckpointError(reason)
            self.worker.contributions.add(self._sums)

    def _told_apart(self, sums: Mapping[Key, frozenset[str]]) -> str:
        """Why sums may not be opened beside those of this session and of others, or nothing."""
        if any(self._sums.get(key, owners) != owners for key, owners in sums.items()):
            return (
                f"{self.worker.config.name}: a sum of this task for this model was made before, of other owners; the "
                "two would tell their difference"
            )
        with self.worker.contributions.lock:
            return self.worker.contributions.refusal(self.worker.config.name, sums)

    def _fetch(self, number: int, operation: Fetch, buffers: Iterator[torch.Tensor]) -> None:
        if operation.owner != self.worker.config.name:
            return
        try:
            store = self.worker.data  # permission and values of one reading of the files
            entry = store[operation.data]
            self.worker.openings.get(self.driver, operation.data, entry.data.get, tuple(operation.shape))
            found = self._items(store, operation, buffers)
        except (GetNotPermittedError, ObjectNotFoundError, RemoteError) as error:
            self._control.post(Denied(number, type(error).__name__, str(error)))
            return
        self._note("fetched", operation, found.saturated)
        values = found.values.to(dtype_of(operation.dtype)).contiguous()
        self._control.post(Opened(number, values.numel() * values.element_size()), *tensor_frames(values))

    # --- checkpoints ---

    def _shelve(self, number: int, operation: Keep | Recall) -> None:
        assert self._shelving is not None
        facts = {"peer": self.driver, "run": operation.run[:100], "checkpoint": operation.checkpoint[:40]}
        clock, self._clock = self._clock, None  # a disk may take its time
        try:
            done = self._shelving.do(operation, self._sums_kept)
        except CheckpointError as error:
            log.warning("no checkpoint", extra={**facts, "reason": str(error.__cause__ or error)})
            self._control.post(Denied(number, "CheckpointError", str(error)))
            return
        finally:
            self._clock = clock
        if done:
            log.info("saved" if isinstance(operation, Keep) else "recalled", extra=facts)
            self._control.post(Kept(number))

    # --- own data ---

    def _items(self, store: Store, operation: Load | Fetch, buffers: Iterator[torch.Tensor]) -> Items:
        assert self._replay is not None
        steps = [[decode(value, self._replay.cell, buffers) for value in step] for step in operation.steps]
        found = store.items(operation.data, steps, self._draws if isinstance(operation, Load) else None)
        if list(found.values.shape) != operation.shape:
            raise RemoteError(
                f"{operation.data} has shape {list(found.values.shape)} after these steps, not {operation.shape}"
            )
        return found

    def _values(self, operation: Load) -> tuple[torch.Tensor | None, Origin]:
        """Encoded items where they are; elsewhere only whose they are.

        Whether this succeeds depends on names, shapes and arguments.  What is out of range saturates, and is
        counted in this worker's own log.
        """
        if operation.owner != self.worker.config.name:
            return None, Origin(frozenset([operation.owner]))
        assert self._replay is not None
        store = self._used.get(operation.data, self.worker.data)
        found = self._items(store, operation, self._buffers)
        self._used[operation.data] = store
        unit = Precision(operation.base, operation.digits) if found.values.is_floating_point() else INTEGER
        if unit.scale != operation.scale:
            raise RemoteError(f"{operation.data} is encoded at scale {unit.scale}, not {operation.scale}")
        shape = tuple(found.values.shape)
        # of rows that are drawn nobody else may know how many there are: one is the fewest
        rows = loaded(shape, found.items, store[operation.data].table) if found.present is None else Rows(1)
        words, saturated = saturating(found.values, unit, self._replay.limit(operation.suite))
        self._note("shared", operation, found.saturated + saturated)
        return words, Origin(frozenset([operation.owner]), rows, (shape, dense_strides(shape)))

    def _note(self, event: str, operation: Load | Fetch, saturated: torch.Tensor | int) -> None:
        """A line of the log for the owner, whatever the count: a driver must not see by the time that there is one."""
        facts = {"data": operation.data, "shape": operation.shape, "saturated": int(saturated)}
        log.info(event, extra={"peer": self.driver, **facts})

    def figures(self) -> dict[str, Any] | None:
        """For the status; None where there is no session."""
        setup, engagement, replay = self._setup, self._engagement, self._replay
        if setup is None or engagement is None or replay is None:
            return None
        sent, received = engagement.traffic
        return {
            "driver": self.driver,
            "holders": setup.holders,
            "provider": setup.provider,
            "operations": self.done + 1,
            "values": len(replay),
            "share_bytes": replay.bytes(),
            "seconds": round(time.monotonic() - self._started),
            "rounds": engagement.session.stats.rounds,
            "sent_bytes": sent,
            "received_bytes": received,
        }


def _own_clock() -> int | None:
    """The clock of this thread's computing time, for other threads; None where the system has none."""
    return time.pthread_getcpuclockid(threading.get_ident()) if hasattr(time, "pthread_getcpuclockid") else None


def _computed(clock: int | None) -> int:
    """Nanoseconds that a thread computed: no more while it waits for others.  Without its clock, it counts as busy."""
    with contextlib.suppress(OSError):  # it has just ended
        if clock is not None:
            return time.clock_gettime_ns(clock)
    return time.monotonic_ns()


def _text(error: BaseException) -> str:
    """What a driver may read of an error: the words of errors meant to be read, the type of any other."""
    if isinstance(error, PysmpcError | NotImplementedError):
        return str(error)[:2000]
    return f"{type(error).__name__}; the worker's log has the rest"
