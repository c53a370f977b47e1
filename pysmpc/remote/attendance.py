"""One driver at one worker: its connection, and the session that it set up.

The thread of the connection takes operations in and sends answers out; the thread of
the session runs the operations, in order.
"""

from __future__ import annotations

import contextlib
import logging
import math
import queue
import threading
import time
import zlib
from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
import torch

from pysmpc.errors import ChannelError, CheckpointError, OpenNotPermittedError, PysmpcError, RefusedError, RemoteError
from pysmpc.federated.errors import GetNotPermittedError, ObjectNotFoundError
from pysmpc.fixedpoint import INTEGER, Precision, encode
from pysmpc.remote.arguments import buffers_of, decode, dtype_of, size_of
from pysmpc.remote.config import WorkerConfig
from pysmpc.remote.data import Items, Store
from pysmpc.remote.messages import (
    Ack,
    Ask,
    Batch,
    Beat,
    Bye,
    Call,
    Denied,
    Down,
    Failed,
    Fetch,
    Found,
    Input,
    Keep,
    Kept,
    Load,
    Open,
    Opened,
    Operation,
    Ready,
    Recall,
    Report,
    Restore,
    Search,
    Setup,
    Shelve,
    Shelved,
)  # fmt: skip
from pysmpc.remote.policy import Openings, request_id
from pysmpc.remote.replay import Origin, Replay
from pysmpc.remote.shelf import Shelf, Shelving
from pysmpc.runtime import establish
from pysmpc.runtime.control import Cancel, Control
from pysmpc.runtime.tls import Tls
from pysmpc.runtime.wire import MESSAGE, PACKED, WORDS, Gather, Stream, tensor_frames, unpack

log = logging.getLogger("pysmpc.worker")

UNPACKED = 1 << 22  # bytes of one batch of operations; as objects, some 35 times as many
ACK_EVERY = 64
FAREWELL = 1.0  # seconds for a driver to read why its connection ends
BACKLOG = 4096  # operations that may wait; a driver keeps to far fewer


class Host(Protocol):
    """What a worker has for all of its drivers."""

    config: WorkerConfig
    tls: Tls
    data: Store
    openings: Openings
    shelf: Shelf
    meeting: establish.Meeting

    def report(self) -> dict[str, Any]:
        """For the status."""


class Attendance:
    """One driver's connection, and the session it set up."""

    def __init__(self, worker: Host, stream: Stream, may_compute: bool) -> None:
        self.worker = worker
        self.driver = stream.peer
        self._dismissed = ""
        self._used: dict[str, Store] = {}  # the data that the session has shared from, by name
        self.gone = threading.Event()
        self._stream = stream
        self._may_compute = may_compute
        self._control = Control(stream, self._on_frame, self._beat)
        self._cancel = Cancel()
        self._queue: queue.SimpleQueue[tuple[int, Operation, list[torch.Tensor]] | None] = queue.SimpleQueue()
        self._ahead: tuple[int, Operation, list[torch.Tensor]] | None = None  # what was taken from the queue early
        self._opened = -1  # the operation that was last done early
        self._inflate = zlib.decompressobj()
        self._coming: list[tuple[int, Operation, list[tuple[Gather, torch.dtype]]]] = []
        self._received = -1
        self._setup: Setup | None = None
        self._runner: threading.Thread | None = None
        self._engagement: establish.Engagement | None = None
        self._replay: Replay | None = None
        self._shelving: Shelving | None = None
        self._clock: int | None = None  # of the session's thread: the time that it computed
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
        engagement, moved = self._engagement, self.done + self._stream.received
        if engagement is not None:
            moved += sum(engagement.traffic)
        if self._setup is not None:
            moved += _computed(self._clock)
        return Beat(self.done, moved & 0x7FFFFFFFFFFFFFFF)

    def _on_frame(self, kind: int, body: memoryview) -> None:
        if self._dismissed:
            return
        if self._coming and kind != WORDS:
            raise ChannelError(f"{self.driver} left a tensor unfinished")
        if kind == MESSAGE:
            self._on_message(unpack(body, Down, self.driver))
        elif kind == PACKED:
            self._on_batch(body)
        elif self._coming:
            gathers = self._coming[0][2]
            current = next(gather for gather, _ in gathers if gather.left)
            current.add(body)
            self._deliver()
        else:
            raise ChannelError(f"{self.driver} sent a tensor that nothing asked for")

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
            self._runner = threading.Thread(target=self._run, name=f"session of {self.driver}", daemon=True)
            self._runner.start()

    def _on_batch(self, body: memoryview) -> None:
        if self._setup is None:
            raise ChannelError(f"{self.driver} sent operations before a session")
        try:
            plain = self._inflate.decompress(body, UNPACKED)
        except zlib.error as error:
            raise ChannelError(f"{self.driver} sent a batch that is damaged: {error}") from None
        if self._inflate.unconsumed_tail or self._inflate.unused_data:
            raise ChannelError(f"{self.driver} sent a batch of more than {UNPACKED} bytes")
        batch: Batch = unpack(plain, Batch, self.driver)
        if batch.first != self._received + 1:
            raise ChannelError(f"{self.driver} sent operation {batch.first} after {self._received}")
        for operation in batch.operations:
            self._received += 1
            gathers = [(Gather(size, self.driver), dtype) for size, dtype in self._announced(operation)]
            self._coming.append((self._received, operation, gathers))
        if self._received - self.done > BACKLOG:
            raise ChannelError(f"{self.driver} does not wait for its operations to be done")
        self._deliver()

    def _announced(self, operation: Operation) -> Iterator[tuple[int, torch.dtype]]:
        """Size and dtype of each buffer that follows an operation."""
        assert self._setup is not None
        holders = self._setup.holders
        if isinstance(operation, Input) and self.worker.config.name in (
            holders if operation.everyone else holders[-1:]
        ):
            yield 8 * math.prod(max(n, 0) for n in operation.shape), torch.int64
        values: list[Any] = []
        if isinstance(operation, Call):
            values = [*operation.args, *operation.kwargs.values()]
        elif isinstance(operation, Load | Fetch):
            values = [value for step in operation.steps for value in step]
        for value in values:
            for plain in buffers_of(value):
                yield size_of(plain), dtype_of(plain.dtype)

    def _deliver(self) -> None:
        """Hand over the operations whose buffers are complete."""
        while self._coming:
            number, operation, gathers = self._coming[0]
            if any(gather.left for gather, _ in gathers):
                return
            del self._coming[0]
            self._queue.put((number, operation, [gather.tensor(dtype) for gather, dtype in gathers]))

    # --- the thread of the session ---

    def _run(self) -> None:
        try:
            self._engage()
            self._clock = _own_clock()
            with torch._C._AutoDispatchBelowAutograd():  # as at the driver, where torch calls the handlers
                while (item := self._ahead or self._queue.get()) is not None and not self._cancel.is_set():
                    self._ahead = None
                    self._do(*item)
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
            if self._setup is not None:
                self.worker.meeting.forget(self._setup.session)

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
        )
        there = self._engagement
        if (reason := self.revoked()) is not None:  # since its connections were made
            raise RefusedError(reason)
        self._replay = Replay(there.session, self.driver, there.owners, there.notaries, self._values, self._came)
        shelf = self.worker.shelf if config.role == "holder" else None
        self._shelving = Shelving(shelf, self.driver, setup.holders, self._replay)
        self._control.post(Ready())
        log.info("session", extra={"peer": self.driver, "holders": setup.holders, "provider": setup.provider})

    def _do(self, number: int, operation: Operation, buffers: list[torch.Tensor]) -> None:
        assert self._replay is not None
        assert self._engagement is not None
        given = iter(buffers)
        if isinstance(operation, Open):
            if number != self._opened:
                self._open(number, operation)
        elif isinstance(operation, Fetch):
            self._fetch(number, operation, given)
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
        if number % ACK_EVERY == ACK_EVERY - 1 or buffers or (not self._ahead and self._queue.empty()):
            self._control.post(Ack(number))

    def _came(self, slot: int) -> None:
        """If the driver waits for the result of the step that is being done, it need not wait for the rest of it."""
        if self._ahead is None and not self._queue.empty():
            self._ahead = self._queue.get()  # only this thread takes
            if self._ahead is None:
                self._queue.put(None)  # the end
        if self._ahead is None:
            return
        number, operation, _ = self._ahead
        if isinstance(operation, Open) and operation.ref.slot == slot:
            self._opened = number
            self._open(number, operation)

    def _open(self, number: int, operation: Open) -> None:
        assert self._replay is not None
        refusal = ""

        def permits() -> bool:
            nonlocal refusal
            refusal = self._refusal(operation)
            return not refusal

        words = self._replay.shares(operation, permits)
        if not words.shape[0]:
            return
        if refusal:
            self._control.post(Denied(number, "OpenNotPermittedError", refusal))
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
        origin = self._replay.origin(operation.ref)
        request = request_id(self._setup.session, self.driver, self._replay.version(operation.ref), operation.ref)
        try:
            self.worker.openings.open(self.driver, origin.owners, origin.count, tuple(operation.ref.size), request)
        except OpenNotPermittedError as error:
            log.warning("not opened", extra={"peer": self.driver, "reason": str(error)})
            return str(error)
        log.debug("opened", extra={"peer": self.driver, "shape": operation.ref.size, "owners": sorted(origin.owners)})
        return ""

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
        values = found.values.to(dtype_of(operation.dtype)).contiguous()
        self._control.post(Opened(number, values.numel() * values.element_size()), *tensor_frames(values))

    # --- checkpoints ---

    def _shelve(self, number: int, operation: Keep | Recall) -> None:
        assert self._shelving is not None
        facts = {"peer": self.driver, "run": operation.run[:100], "checkpoint": operation.checkpoint[:40]}
        clock, self._clock = self._clock, None  # a disk may take its time
        try:
            done = self._shelving.do(operation)
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
        found = store.items(operation.data, steps)
        if list(found.values.shape) != operation.shape:
            raise RemoteError(
                f"{operation.data} has shape {list(found.values.shape)} after these steps, not {operation.shape}"
            )
        return found

    def _values(self, operation: Load) -> tuple[torch.Tensor | None, Origin]:
        """Encoded items where they are; elsewhere only whose they are."""
        if operation.owner != self.worker.config.name:
            return None, Origin(frozenset([operation.owner]))
        store = self._used.get(operation.data, self.worker.data)
        found = self._items(store, operation, self._buffers)
        self._used[operation.data] = store
        unit = Precision(operation.base, operation.digits) if found.values.is_floating_point() else INTEGER
        if unit.scale != operation.scale:
            raise RemoteError(f"{operation.data} is encoded at scale {unit.scale}, not {operation.scale}")
        there = np.zeros(int(found.items.max()) + 1 if len(found.items) else 0, dtype=np.uint8)
        there[found.items.numpy()] = 1
        bits = int.from_bytes(np.packbits(there, bitorder="little").tobytes(), "little")
        return encode(found.values, unit), Origin(frozenset([operation.owner]), ((operation.data, bits),))

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
