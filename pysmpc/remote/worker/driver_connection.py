"""A driver's connection at a worker: what comes in, what goes out, and when it ends.

The thread of the connection takes operations in and sends answers and heartbeats out.  The session that the driver sets
up has a thread of its own, which runs the operations in order (`session_runner`).
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from typing import Any

from pysmpc.errors import ChannelError, PysmpcError, RefusedError
from pysmpc.remote.messages import (
    Ack,
    Ask,
    Beat,
    Bye,
    Down,
    Failed,
    Found,
    Report,
    Search,
    Setup,
    Shelve,
    Shelved,
    Until,
)
from pysmpc.remote.worker.driver_session import DriverSession, Host, computed
from pysmpc.remote.worker.held import too_much
from pysmpc.remote.worker.intake import Due, Intake
from pysmpc.remote.worker.replay import Replay
from pysmpc.remote.worker.session_runner import SessionRunner
from pysmpc.transport import establish
from pysmpc.transport.control import Cancel, Control
from pysmpc.transport.wire import MESSAGE, PACKED, WORDS, Stream, unpack

log = logging.getLogger("pysmpc.worker")

FAREWELL = 1.0  # seconds for a driver to read why its connection ends
MOVED = 1_000_000  # nanoseconds of computing that count as having moved


class DriverConnection:
    """One driver's connection, and the session it set up."""

    def __init__(self, worker: Host, stream: Stream, may_compute: bool) -> None:
        self.worker = worker
        self.driver = stream.peer
        self._dismissed = ""
        self.gone = threading.Event()
        self._stream = stream
        self._may_compute = may_compute
        self._control = Control(stream, self._on_frame, self._beat)
        self._cancel = Cancel()
        self._queue: queue.SimpleQueue[Due | None] = queue.SimpleQueue()
        self._session: DriverSession | None = None
        self._intake: Intake | None = None
        self._thread: threading.Thread | None = None  # of the session
        self._expelled = False
        self._moves = 0
        self._last_moved: tuple[int, ...] = ()

    @property
    def replay(self) -> Replay | None:
        """The values of the session, while there is one."""
        return None if self._session is None else self._session.replay

    @property
    def engagement(self) -> establish.PeerSession | None:
        """The session's connections to the other parties, while there are any."""
        return None if self._session is None else self._session.engagement

    @property
    def done(self) -> int:
        """The number of the last operation that was done."""
        return -1 if self._session is None else self._session.done

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
            if self._thread is not None:
                self._thread.join()
            self._cancel.close()
            reason = self._dismissed or reason
            log.info("driver gone", extra={"peer": self.driver, "reason": reason, "operations": self.done + 1})
            self.gone.set()

    def leave(self) -> None:
        """End it from this side."""
        self._control.end()

    def revoked(self) -> str | None:
        """Why it must end, if the driver or another party of its session is revoked by now."""
        engagement, tls = self.engagement, self.worker.tls
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
        limit, session = self.worker.config.limits.time, self._session
        if limit and session is not None and time.monotonic() - session.started > limit:
            self._expel(
                f"{self.worker.config.name} lets a session last {limit} (limits.time in its file), and this one is over"
            )
        engagement, moved = self.engagement, [self.done, self._stream.received]
        if engagement is not None:
            moved += engagement.traffic
        if session is not None:
            moved.append(computed(session.clock) // MOVED)
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
        if self._intake is None:
            raise ChannelError(f"{self.driver} sent operations before a session")
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
        elif isinstance(message, Until):
            if self._session is None:
                raise ChannelError(f"{self.driver} waits for an operation before a session")
            self._session.awaited = message.number  # first: the session's thread may be about to have done it
            if self.done >= message.number:
                self._control.post(Ack(self.done))
        elif isinstance(message, Setup):
            if self._session is not None:
                raise ChannelError("one session for each connection")
            runner = self._prepare(message)
            self._thread = threading.Thread(target=runner.run, name=f"session of {self.driver}", daemon=True)
            self._thread.start()

    def _prepare(self, setup: Setup) -> SessionRunner:
        """The session that a driver asks for, which has not begun."""
        post, cancel = self._control.post, self._cancel
        self._session = DriverSession(self.worker, self.driver, setup, post, cancel, lambda: self._dismissed)
        self._intake = Intake(self.driver, self.worker.config.name, setup.holders, self._queue)
        return SessionRunner(self._session, self._intake, self._queue, self.revoked)

    def figures(self) -> dict[str, Any] | None:
        """For the status; None where there is no session."""
        return None if self._session is None else self._session.figures()
