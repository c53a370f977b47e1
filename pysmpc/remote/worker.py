"""A worker: a process that holds shares, or deals, for the drivers that its configuration names.

One thread accepts connections.  Each driver's connection has a thread that reads and
writes, and each session one that runs its operations; nothing else is shared between
sessions but the data and the rules.
"""

from __future__ import annotations

import contextlib
import logging
import os
import resource
import select
import socket
import threading
import time
from typing import Any

import torch

from pysmpc import ring
from pysmpc.errors import ConfigurationError, RefusedError
from pysmpc.remote.attendance import Attendance
from pysmpc.remote.config import WorkerConfig
from pysmpc.remote.data import Store
from pysmpc.remote.limits import Sessions
from pysmpc.remote.policy import Openings
from pysmpc.remote.shelf import Shelf
from pysmpc.runtime import certificates, establish
from pysmpc.runtime.control import Cancel
from pysmpc.runtime.tls import DRIVER, STATUS, Hello, Tls, accept, address
from pysmpc.runtime.wire import Stream

log = logging.getLogger("pysmpc.worker")

GUESTS = 64  # connections at a time that have not said who they are


class Worker:
    """Serves until `stop`.  tls: from the configuration, unless a test brings another."""

    def __init__(self, config: WorkerConfig, tls: Any = None) -> None:
        self.config = config
        self.tls = tls or Tls(config.identity)
        if (named := certificates.name_in(config.certificate)) != config.name:
            raise ConfigurationError(f"{config.certificate} is for {named}, not for {config.name}")
        self.data = Store(config.data)
        self.openings = Openings(config)
        self.sessions = Sessions(config.name)
        self.shelf = Shelf(config.name, config.checkpoints, config.limits.disk)
        self.meeting = establish.Meeting()
        self.attendances: dict[int, Attendance] = {}
        self.started = time.time()
        self._lock = threading.Lock()
        self._guests = threading.Semaphore(GUESTS)
        self._stop = Cancel()
        ring.keep_memory()
        if config.threads:
            torch.set_num_threads(config.threads)
            ring.use_torch_threads()
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
        try:
            while not self._stop.is_set():
                self.meeting.sweep()
                for descriptor, _ in poller.poll(5000):
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
            self._stop.close()
            log.info("stopped", extra={"worker": self.config.name})

    def close(self) -> None:
        """Instead of serving."""
        self._socket.close()
        self.openings.close()
        self._stop.close()

    def stop(self) -> None:
        """Let `serve` return; from any thread or signal handler."""
        self._stop.set()

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
            log.info("connected", extra={"peer": stream.peer, "role": hello.role, "from": where[0]})
            if hello.role in (DRIVER, STATUS):
                self._guests.release()
                guest = False
                self._attend(stream, hello)
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

    def _attend(self, stream: Stream, hello: Hello) -> None:
        attendance = Attendance(self, stream, may_compute=hello.role == DRIVER)
        with self._lock:
            self.attendances[id(attendance)] = attendance
        try:
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
            "sessions": [figures for each in there if (figures := each.figures())],
        }


def _memory() -> int:
    """Bytes resident now, or at most so far where the system does not tell."""
    with contextlib.suppress(OSError), open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
