"""The thread of a session at a worker: it meets the other parties, and does the driver's operations in order."""

from __future__ import annotations

import logging
import queue
from collections.abc import Callable

import torch

from pysmpc.errors import CheckpointError, PysmpcError, RefusedError
from pysmpc.remote.messages import Ack, Denied, Failed, Kept, Ready
from pysmpc.remote.program_messages import Collect, Fetch, Hand, Input, Invite, Keep, Open, Recall, Restore
from pysmpc.remote.worker.checkpoint_store import Shelving
from pysmpc.remote.worker.driver_session import DriverSession, own_clock
from pysmpc.remote.worker.held import Held
from pysmpc.remote.worker.history import History
from pysmpc.remote.worker.intake import Due, Intake
from pysmpc.remote.worker.replay import Replay
from pysmpc.remote.worker.session_data import SessionData
from pysmpc.remote.worker.session_openings import SessionOpenings
from pysmpc.remote.worker.session_sums import SessionSums
from pysmpc.transport import establish

log = logging.getLogger("pysmpc.worker")

ACK_EVERY = 64


class SessionRunner:
    """Runs one session.  ready: operations to be done, None at the end.  revoked(): why a party may take no part."""

    def __init__(
        self,
        session: DriverSession,
        intake: Intake,
        ready: queue.SimpleQueue[Due | None],
        revoked: Callable[[], str | None],
    ) -> None:
        self._session, self._worker, self._driver = session, session.worker, session.driver
        self._intake = intake
        self._queue = ready
        self._revoked = revoked
        self._data = SessionData(session)
        self._sums = SessionSums(session)
        self._openings = SessionOpenings(session, self._sums)
        self._shelving: Shelving | None = None
        self._held: Held | None = None
        self._ahead: Due | None = None  # what was taken from the queue early
        self._opened = -1  # the operation that was last done early
        self._last = True  # whether the operation that is being done is the last of its batch

    def run(self) -> None:
        """Meet the other parties, and do operations until the session ends."""
        session = self._session
        try:
            self._engage()
            session.clock = own_clock()
            with torch._C._AutoDispatchBelowAutograd():  # as at the driver, where torch calls the handlers
                while (item := self._ahead or self._queue.get()) is not None and not self._session.cancel.is_set():
                    self._ahead = None
                    self._do(item)
        except Exception as error:
            if not self._session.cancel.is_set():
                expected = isinstance(error, PysmpcError)
                log.warning("session failed", exc_info=not expected, extra={"peer": self._driver, "reason": str(error)})
                self._session.post(Failed(self._session.done + 1, type(error).__name__, _text(error)))
                # the others stop waiting for this party; the driver hears of it and ends the session
        finally:
            if session.engagement is not None:
                session.engagement.close()
            if session.replay is not None:
                session.replay.close()
            session.replay = session.engagement = session.clock = session.history = None
            self._shelving = self._held = None
            self._worker.meeting.forget(session.setup.session)
            self._openings.end()

    def _engage(self) -> None:
        session, setup, config = self._session, self._session.setup, self._worker.config
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
        if self._driver in names:
            raise RefusedError(f"{self._driver} cannot be driver and worker of one session")
        there = session.engagement = establish.establish(
            config.name,
            self._driver,
            setup.session,
            setup.holders,
            setup.provider,
            setup.owner_key,
            self._worker.tls,
            config.peers,
            self._worker.meeting,
            self._session.cancel.wake,
            self._session.cancel.is_set,
            setup.checked,
        )
        if (reason := self._revoked()) is not None:  # since its connections were made
            raise RefusedError(reason)
        self._held = Held(config.name, config.limits)
        if self._worker.openings.asks(self._driver):
            session.history = History(self._driver)
        session.replay = Replay(
            there.session,
            self._driver,
            there.owners,
            there.notaries,
            self._data.values,
            self._came,
            there.confirmed,
            there.transcript,
            self._held,
        )
        shelf = self._worker.shelf if config.role == "holder" else None
        self._shelving = Shelving(shelf, self._driver, setup.holders, session.replay, there.transcript)
        self._session.post(Ready(config.limits.steps))
        log.info("session", extra={"peer": self._driver, "holders": setup.holders, "provider": setup.provider})

    def _do(self, due: Due) -> None:
        assert self._held is not None
        number, operation, buffers = due.number, due.operation, due.buffers
        engagement, history = self._session.engagement, self._session.history
        assert engagement is not None
        if due.told:
            engagement.transcript.follow(due.told)
            if due.opens:
                engagement.confirm()
        self._last = due.last
        given = iter(buffers)
        self._held.before(operation)
        if history is not None:
            history.note(operation, buffers)
        if isinstance(operation, Open):
            if number != self._opened:
                self._openings.open(number, operation)
        elif isinstance(operation, Fetch):
            self._data.fetch(number, operation, given)
        elif isinstance(operation, Invite):
            self._sums.invite(number, operation, given)
        elif isinstance(operation, Collect):
            self._sums.collect(number, operation, given)
        elif isinstance(operation, Hand):
            self._openings.hand(number, operation)
        elif isinstance(operation, Keep | Recall):
            self._shelve(number, operation)
        elif isinstance(operation, Restore):
            assert self._shelving is not None
            self._shelving.restore(operation)
        else:
            if isinstance(operation, Input) and buffers:
                engagement.inputs.send(buffers[0])
            self._data.buffers = given
            self._session.running.run(operation, given)
        self._session.done = number
        self._intake.used += sum(x.nbytes for x in buffers)
        if number % ACK_EVERY == ACK_EVERY - 1 or buffers or number == self._session.awaited:
            self._session.post(Ack(number))

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
            self._openings.open(number, operation)

    def _shelve(self, number: int, operation: Keep | Recall) -> None:
        assert self._shelving is not None
        facts = {"peer": self._driver, "run": operation.run[:100], "checkpoint": operation.checkpoint[:40]}
        try:
            with self._session.untimed():
                done = self._shelving.do(operation, self._sums.keep)
        except CheckpointError as error:
            log.warning("no checkpoint", extra={**facts, "reason": str(error.__cause__ or error)})
            self._session.post(Denied(number, "CheckpointError", str(error)))
            return
        if done:
            log.info("saved" if isinstance(operation, Keep) else "recalled", extra=facts)
            self._session.post(Kept(number))


def _text(error: BaseException) -> str:
    """What a driver may read of an error: the words of errors meant to be read, the type of any other."""
    if isinstance(error, PysmpcError | NotImplementedError):
        return str(error)[:2000]
    return f"{type(error).__name__}; the worker's log has the rest"
