"""What the parts of a driver's session at a worker share: who takes part, its values, and the way to its driver.

`session_runner` runs operations in the thread of the session; it has `session_openings` for what leaves, `session_sums`
for sums over owners and clients, and `session_data` for what the owner of this worker has.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, Protocol

from pysmpc.federated.opened_sums import Contributions
from pysmpc.remote.config import WorkerConfig
from pysmpc.remote.messages import Setup
from pysmpc.remote.worker.checkpoint_store import CheckpointStore
from pysmpc.remote.worker.data import Store
from pysmpc.remote.worker.history import History
from pysmpc.remote.worker.outside_clients import Rounds
from pysmpc.remote.worker.policy import Openings
from pysmpc.remote.worker.received import Received
from pysmpc.remote.worker.replay import Replay
from pysmpc.remote.worker.tasks import Tasks
from pysmpc.transport import establish
from pysmpc.transport.control import Cancel
from pysmpc.transport.tls import Tls


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
        ...


class DriverSession:
    """One session of a driver at a worker.

    setup: what the driver asked for.  post(message, *frames): sends to the driver.  cancel: set when it ends.
    dismissed(): why nothing of the driver's is done any more, "" while something is.
    replay, engagement: the values, and the connections to other parties; None before these have met, and at the end.
    history: of all operations, where the owner wants to be asked.  done: the number of the last operation done.
    awaited: that of which the driver wants to hear when it is done.
    clock: tells how long the session's thread has computed (`computed`); None while it waits for something else.
    """

    def __init__(
        self,
        worker: Host,
        driver: str,
        setup: Setup,
        post: Callable[..., None],
        cancel: Cancel,
        dismissed: Callable[[], str],
    ) -> None:
        self.worker = worker
        self.driver = driver
        self.setup = setup
        self.post = post
        self.cancel = cancel
        self.dismissed = dismissed
        self.replay: Replay | None = None
        self.engagement: establish.PeerSession | None = None
        self.history: History | None = None
        self.clock: int | None = None
        self.started = time.monotonic()
        self.done = self.awaited = -1

    @property
    def running(self) -> Replay:
        """The values, where an operation is being done."""
        assert self.replay is not None
        return self.replay

    @contextlib.contextmanager
    def untimed(self) -> Iterator[None]:
        """While the session's thread waits for a disk, a task or clients, which may take their time."""
        clock, self.clock = self.clock, None
        try:
            yield
        finally:
            self.clock = clock

    def figures(self) -> dict[str, Any] | None:
        """For the status; None where the parties have not met."""
        engagement, replay = self.engagement, self.replay
        if engagement is None or replay is None:
            return None
        sent, received = engagement.traffic
        return {
            "driver": self.driver,
            "holders": self.setup.holders,
            "provider": self.setup.provider,
            "operations": self.done + 1,
            "values": len(replay),
            "share_bytes": replay.bytes(),
            "seconds": round(time.monotonic() - self.started),
            "rounds": engagement.session.stats.rounds,
            "sent_bytes": sent,
            "received_bytes": received,
        }


def own_clock() -> int | None:
    """The clock of this thread's computing time, for other threads; None where the system has none."""
    return time.pthread_getcpuclockid(threading.get_ident()) if hasattr(time, "pthread_getcpuclockid") else None


def computed(clock: int | None) -> int:
    """Nanoseconds that a thread computed: no more while it waits for others.  Without its clock, it counts as busy."""
    with contextlib.suppress(OSError):  # it has just ended
        if clock is not None:
            return time.clock_gettime_ns(clock)
    return time.monotonic_ns()
