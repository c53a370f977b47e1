"""A proxy between parties that damages what passes: TLS records flipped, dropped, repeated, cut, swapped or held."""

import contextlib
import socket
import threading
from dataclasses import dataclass

HEAD = 5  # bytes of a TLS record's header: kind, version, length
KINDS = ("flip", "drop", "repeat", "truncate", "reorder", "hold", "cut")


@dataclass
class Damage:
    """One fault: to the record of this number in this direction of the connection of this number.

    flip: one bit of it, header and all.  drop: it never comes.  repeat: it comes twice.  truncate: its last bytes are
    missing.  reorder: the next one comes before it.  hold: nothing comes from then on, and nobody is told.
    cut: both ends see the connection close in the middle of it.
    """

    kind: str
    connection: int = 0
    outward: bool = True  # from who dialled
    record: int = 0
    bit: int = 0
    done: bool = False


class Proxy:
    """Listens for connections to an address, and passes them on; `damage` is done to one of them."""

    def __init__(self, target):
        host, port = target.rsplit(":", 1)
        self._target = (host, int(port))
        self._server = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._server.getsockname()[1]}"
        self.damage = None
        self.records = {}  # by connection and direction: how many passed
        self._count = 0
        self._held = set()
        self._open = []
        self._lock = threading.Lock()
        threading.Thread(target=self._accept, daemon=True).start()

    def plan(self, damage):
        """To be done to connections from now on, counted from 0."""
        with self._lock:
            self.damage, self._count, self.records = damage, 0, {}
            self._held.clear()

    def hold(self, connection, outward):
        """From now on nothing passes there, and nobody is told."""
        self._held.add((connection, outward))

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._server.accept()
                try:
                    far = socket.create_connection(self._target)
                except OSError:
                    near.close()
                    continue
                with self._lock:
                    number, self._count = self._count, self._count + 1
                    damage = self.damage
                    self._open += [near, far]
                for sock in (near, far):
                    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                for source, sink, outward in ((near, far, True), (far, near, False)):
                    mine = damage if damage and (damage.connection, damage.outward) == (number, outward) else None
                    threading.Thread(
                        target=self._pass, args=(source, sink, mine, (number, outward)), daemon=True
                    ).start()

    def _pass(self, source, sink, damage, key):
        waiting = None  # a record that comes after the next
        try:
            for number, record in enumerate(_records(source)):
                self.records[key] = number + 1
                if key in self._held:
                    continue
                if damage is None or number != damage.record:
                    sink.sendall(record)
                    if waiting:
                        sink.sendall(waiting)
                        waiting = None
                    continue
                damage.done = True
                if damage.kind == "hold":
                    while source.recv(1 << 16):
                        pass
                elif damage.kind == "cut":
                    sink.sendall(record[: len(record) // 2])
                    break
                elif damage.kind == "reorder":
                    waiting = record
                else:
                    sink.sendall(_spoiled(record, damage))
        except OSError:
            pass
        finally:
            for sock in (source, sink):
                with contextlib.suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)

    def drop(self):
        """Close all connections that passed through."""
        with self._lock:
            for sock in self._open:
                with contextlib.suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)
                sock.close()
            self._open.clear()

    def close(self):
        """Stop listening, and close everything."""
        with contextlib.suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        self.drop()

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.close()


def _spoiled(record, damage):
    if damage.kind == "flip":
        spoiled = bytearray(record)
        spoiled[damage.bit // 8 % len(record)] ^= 1 << damage.bit % 8
        return bytes(spoiled)
    return {"drop": b"", "repeat": 2 * record, "truncate": record[: -1 - damage.bit % (len(record) - HEAD)]}[
        damage.kind
    ]


def _records(sock):
    """TLS records, or what was left of one."""
    while True:
        head = _read(sock, HEAD)
        if len(head) < HEAD:
            if head:
                yield head
            return
        body = _read(sock, int.from_bytes(head[3:], "big"))
        yield head + body


def _read(sock, count):
    data = bytearray()
    while len(data) < count and (more := sock.recv(count - len(data))):
        data += more
    return bytes(data)
