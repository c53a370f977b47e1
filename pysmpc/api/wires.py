"""What a TLS connection takes of this machine's processors, measured when it is asked for."""

from __future__ import annotations

import socket
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from pysmpc.transport import certificates
from pysmpc.transport.tls import Tls

PIECE = 1 << 18  # bytes of a message whose encryption is timed
PIECES = 40
TURNS = 200  # short messages there and back


class Wire(NamedTuple):
    """Seconds.  byte: of processors, to send and to receive one over TLS.  message: until a short one has arrived."""

    byte: float
    message: float


def measured_wire() -> Wire:
    """By a TLS connection between two threads of this process: some tenths of a second."""
    with _connection() as (near, far):
        far.settimeout(60)
        near.settimeout(60)
        return Wire(_byte(near, far), _message(near, far))


def _byte(near: socket.socket, far: socket.socket) -> float:
    """What both ends' processors take, while nothing else of this process runs."""
    data, found = bytes(PIECE), []
    into = bytearray(PIECE)
    for _ in range(PIECES):
        start = time.process_time()
        with _beside(lambda: near.sendall(data)):
            got = 0
            while got < PIECE:
                got += far.recv_into(memoryview(into)[got:])
        found.append(time.process_time() - start)
    return statistics.median(found) / PIECE


def _message(near: socket.socket, far: socket.socket) -> float:
    """Half the time of a short message and its answer."""

    def answer() -> None:
        for _ in range(TURNS):
            far.recv(64)
            far.sendall(b"x")

    found = []
    with _beside(answer):
        for _ in range(TURNS):
            start = time.perf_counter()
            near.sendall(b"x")
            near.recv(64)
            found.append(time.perf_counter() - start)
    return statistics.median(found) / 2


@contextmanager
def _beside(run: object) -> Iterator[None]:
    """While within, something else runs in a thread of its own; until it has ended."""
    thread = threading.Thread(target=run)  # type: ignore[arg-type]
    thread.start()
    try:
        yield
    finally:
        thread.join()


@contextmanager
def _connection() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Both ends, with certificates that are made for it and forgotten."""
    with tempfile.TemporaryDirectory() as name, socket.create_server(("127.0.0.1", 0)) as listening:
        folder = Path(name)
        certificates.initialise(folder)
        for who in ("alice", "bob"):
            certificates.issue(folder, who)
        near = socket.create_connection(listening.getsockname())
        far, _ = listening.accept()
        for each in (near, far):
            each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        served: list[socket.socket] = []
        server = Tls(certificates.identity(folder, "bob"))
        with _beside(lambda: served.append(server.server(far)[0])):
            client = Tls(certificates.identity(folder, "alice")).client(near, "bob")
        with client, served[0]:
            yield client, served[0]
