"""A worker: a process that holds shares, or deals, for the drivers that its configuration names.

One thread accepts connections.  Each driver's connection has a thread that reads and
writes, and each session one that runs its operations; nothing else is shared between
sessions but the data and the rules.  These, certificates and lists can be read again
while sessions run (`Worker.reload`): all of them, or none if anything is wrong with one.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import resource
import select
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from pysmpc.errors import ConfigurationError, PysmpcError, RefusedError
from pysmpc.federated.opened_sums import Contributions
from pysmpc.remote.config import WorkerConfig
from pysmpc.remote.limits import Sessions
from pysmpc.remote.worker.checkpoint_store import CheckpointStore
from pysmpc.remote.worker.data import Store
from pysmpc.remote.worker.driver_connection import DriverConnection
from pysmpc.remote.worker.outside_clients import Rounds
from pysmpc.remote.worker.policy import Openings
from pysmpc.remote.worker.received import Received
from pysmpc.remote.worker.tasks import Tasks
from pysmpc.ring import z2k
from pysmpc.transport import certificates, establish
from pysmpc.transport.control import Cancel
from pysmpc.transport.tls import CLIENT, DRIVER, STATUS, Hello, Tls, accept, address
from pysmpc.transport.wire import VERSION, Stream

log = logging.getLogger("pysmpc.worker")

GUESTS = 64  # connections at a time that have not said who they are
REMIND = 24 * 3600.0  # seconds between two lines of the log about a certificate that expires
FIXED = ("name", "role", "listen", "state", "checkpoints", "threads")  # fields that take a restart to change


class Worker:
    """Serves until `stop`.

    tls: from the configuration, unless a test brings another.  source: reads the configuration again, for `reload`.
    """

    def __init__(self, config: WorkerConfig, tls: Any = None, source: Callable[[], WorkerConfig] | None = None) -> None:
        self.config = config
        self.tls, self.validity, self.data, self.tasks = _read(config, tls)
        self.openings = Openings(config)
        self.contributions = Contributions(Path(config.state) if config.state else None)
        self.received = Received(config.name, Path(config.state) if config.state else None, config.limits.disk)
        self.sessions = Sessions(config.name)
        self.shelf = CheckpointStore(config.name, config.checkpoints, config.limits.disk)
        self.meeting = establish.Rendezvous()
        self.rounds = Rounds()
        self.attendances: dict[int, DriverConnection] = {}
        self.started = time.time()
        self._lock = threading.Lock()
        self._guests = threading.Semaphore(GUESTS)
        self._stop = Cancel()
        self._source = source
        self._reloading = threading.Lock()
        self._reload_wake, self._reload_waker = os.pipe()
        os.set_blocking(self._reload_waker, False)
        self._reminded = -math.inf
        z2k.keep_memory()
        if config.threads:
            torch.set_num_threads(config.threads)
            z2k.use_torch_threads()
        where = address(config.listen)
        family = socket.AF_INET6 if ":" in where[0] else socket.AF_INET
        self._socket = socket.create_server(where, family=family, backlog=GUESTS)
        host, port = self._socket.getsockname()[:2]
        self.address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    def serve(self) -> None:
        """Accept until stopped."""
        log.info("listening", extra={"worker": self.config.name, "role": self.config.role, "address": self.address})
        self.openings.begin()
        poller = select.poll()
        poller.register(self._socket, select.POLLIN)
        poller.register(self._stop.wake, select.POLLIN)
        poller.register(self._reload_wake, select.POLLIN)
        try:
            while not self._stop.is_set():
                self.meeting.sweep()
                if time.monotonic() - self._reminded > REMIND:
                    self._remind()
                for descriptor, _ in poller.poll(5000):
                    if descriptor == self._reload_wake:
                        os.read(self._reload_wake, 1 << 12)
                        threading.Thread(target=self.reload, name="reload", daemon=True).start()
                    if descriptor == self._socket.fileno() and self._guests.acquire(timeout=0.1):
                        plain, where = self._socket.accept()
                        threading.Thread(target=self._greet, args=(plain, where), daemon=True).start()
        finally:
            self._socket.close()
            self.meeting.close()
            with self._lock:
                there = list(self.attendances.values())
            for attendance in there:
                attendance.leave()
            for attendance in there:
                attendance.gone.wait(5)
            self.openings.close()
            self._close_wakes()
            log.info("stopped", extra={"worker": self.config.name})

    def close(self) -> None:
        """Instead of serving."""
        self._socket.close()
        self.openings.close()
        self._close_wakes()

    def _close_wakes(self) -> None:
        self._stop.close()
        for end in (self._reload_wake, self._reload_waker):
            os.close(end)

    def stop(self) -> None:
        """Let `serve` return; from any thread or signal handler."""
        self._stop.set()

    def ask_reload(self) -> None:
        """Let `serve` have everything read again; from any signal handler.  It goes on accepting meanwhile."""
        if not self._stop.is_set():
            with contextlib.suppress(BlockingIOError):  # full: it is awake anyway
                os.write(self._reload_waker, b"x")

    def reload(self) -> bool:
        """Read configuration, rules, data, certificates and lists again, and end what is revoked by now.

        True if they are in force from now on.  False where anything is wrong with them: the log says what, and
        everything stays as it was.  Sessions go on: rules and rights hold from the next request, data that a session
        has shared before stay those for it, connections keep the certificates they were made with.
        """
        with self._reloading:
            try:
                if self._source is None:
                    raise ConfigurationError("this worker was started without a file to read again")
                config = self._source()
                if changed := [name for name in FIXED if getattr(config, name) != getattr(self.config, name)]:
                    raise ConfigurationError(f"restart the worker to change {', '.join(changed)}")
                found = _read(config)
            except Exception as error:
                expected = isinstance(error, PysmpcError)
                reason = str(error) if expected else f"{type(error).__name__}: {error}"
                log.error("not reloaded", extra={"worker": self.config.name, "reason": reason})
                return False
            self.config = config
            self.tls, self.validity, self.data, self.tasks = found
            self.openings.reload(config)
            log.info("reloaded", extra={"worker": config.name, "data": len(self.data), "revoked": config.revoked})
            self._remind()
            with self._lock:
                there = list(self.attendances.values())
            for attendance in there:
                if (revoked := attendance.revoked()) is not None:
                    attendance.dismiss(revoked)
            return True

    def _remind(self) -> None:
        """Log what is to be said of certificates that expire."""
        self._reminded = time.monotonic()
        for level, text in certificates.notices(self.validity):
            log.log(level, "certificate", extra={"worker": self.config.name, "reason": text})

    def permit(self, name: str, hello: Hello) -> str | None:
        """Why a certified name may not connect in a role; None if it may."""
        config = self.config
        if hello.role in (establish.PEER, establish.FEED, establish.DESK):
            if name not in config.peers:
                return f"{name} is not among the peers of {config.name}"
            if (hello.role == establish.PEER) == (name in config.providers):
                return f"{name} may not be a {hello.role} of {config.name}: see its `providers`"
            return None
        if hello.role == DRIVER:
            if "compute" not in config.drivers.get(name, ()):
                return f"{name} is not among the drivers of {config.name}"
            return None
        if hello.role == STATUS:
            if name != config.name and name not in config.drivers and name not in config.status:
                return f"{name} may not ask {config.name} for its status"
            return None
        if hello.role == CLIENT:
            return None if name in config.clients else f"{name} is not among the clients of {config.name}"
        return f"there is no role {hello.role[:20]!r}"

    def _greet(self, plain: socket.socket, where: Any) -> None:
        guest = True
        counted: list[tuple[str, bool]] = []

        def permit(name: str, hello: Hello) -> str | None:
            reason = self.permit(name, hello)
            if reason is None and hello.role in (DRIVER, STATUS):
                who = name, hello.role == DRIVER
                reason = self.sessions.enter(*who, self.config.limits)
                if reason is None:
                    counted.append(who)
            return reason

        try:
            stream, hello = accept(self.tls, plain, permit)
            facts = {"peer": stream.peer, "role": hello.role, "from": where[0], "certificate": stream.serial}
            log.info("connected", extra=facts)
            if hello.role in (DRIVER, STATUS):
                self._guests.release()
                guest = False
                self._attend(stream, hello)
            elif hello.role == CLIENT:
                self._guests.release()
                guest = False
                stream.wake = self._stop.wake
                self.rounds.serve(stream, lambda: self._dropped(stream), self._stop.is_set)
            else:
                self.meeting.park(stream.peer, hello.role, hello.session, stream)
        except RefusedError as error:
            log.warning("refused", extra={"from": where[0], "reason": str(error)})
        except Exception:
            log.exception("connection failed")
        finally:
            if guest:
                self._guests.release()
            for who in counted:
                self.sessions.leave(*who)

    def _dropped(self, stream: Stream) -> str | None:
        """Why a client that is connected may leave nothing, by now; or None."""
        return self.permit(stream.peer, Hello(VERSION, CLIENT)) or self.tls.revoked(stream.peer, stream.serial)

    def _attend(self, stream: Stream, hello: Hello) -> None:
        attendance = DriverConnection(self, stream, may_compute=hello.role == DRIVER)
        with self._lock:
            self.attendances[id(attendance)] = attendance
        try:
            if (reason := attendance.revoked()) is not None:  # since it was accepted
                attendance.dismiss(reason)
            attendance.serve()
        finally:
            with self._lock:
                self.attendances.pop(id(attendance), None)

    def report(self) -> dict[str, Any]:
        """For `pysmpc status`: figures, no values."""
        with self._lock:
            there = list(self.attendances.values())
        return {
            "name": self.config.name,
            "role": self.config.role,
            "seconds": round(time.time() - self.started),
            "memory": _memory(),
            "data": len(self.data),
            "openings": self.openings.permitted,
            "refused": self.openings.refused,
            "limits": self.config.limits.shown(),
            "numbers_today": self.openings.numbers_today(),
            "certificates": [
                [logging.getLevelName(level).lower(), text] for level, text in certificates.notices(self.validity)
            ],
            "sessions": [figures for each in there if (figures := each.figures())],
        }


def _read(config: WorkerConfig, tls: Any = None) -> tuple[Any, list[certificates.Validity], Store, Tasks]:
    """What the files that a configuration names come to, or ConfigurationError."""
    tls = tls or Tls(config.identity, config.revoked)
    if (named := certificates.name_in(config.certificate)) != config.name:
        raise ConfigurationError(f"{config.certificate} is for {named}, not for {config.name}")
    data = Store(config.data)
    return tls, certificates.validity(config.identity), data, Tasks(config.tasks, data, config.loops, config.state)


def _memory() -> int:
    """Bytes resident now, or at most so far where the system does not tell."""
    with contextlib.suppress(OSError), open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
