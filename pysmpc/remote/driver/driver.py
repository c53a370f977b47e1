"""The driver's connections to its workers: operations out, and waiting for what they answer.

One thread at a time.  Operations go out in batches; the driver runs ahead of the workers by a window of operations and
bytes, and waits only for that and for what it opens.  `answers.py` takes in what workers send.
"""

from __future__ import annotations

import functools
import threading
import time
import zlib
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, TypeVar, cast

import torch

from pysmpc import errors
from pysmpc.errors import ChannelError, PeerLost, PysmpcError, RemoteError, WorkerLost
from pysmpc.mpc.interfaces import End
from pysmpc.remote.config import SILENCE
from pysmpc.remote.driver.answers import Answers, RemoteWorker, denial
from pysmpc.remote.messages import WITHHELD, Ask, Bye, Denied, Found, Report, Search, Setup, Until, Up
from pysmpc.remote.program_messages import Batch, Open, Operation, Repeat
from pysmpc.session.forks import Process
from pysmpc.transport.tls import DRIVER, STATUS, dial
from pysmpc.transport.wire import MESSAGE, PACKED, framed, pack, poll, tensor_frames
from pysmpc.whereabouts import line_outside

BATCH = 16  # operations in one message
WINDOW = 256  # operations that the slowest worker may be behind
WINDOW_BYTES = 1 << 26  # of buffers
GRACE = 0.15  # seconds to tell the cause of a failure from its echoes
SOON = 0.2  # seconds within which nobody is missed
STALL = 6.0  # seconds in which nothing is computed and no byte moves, anywhere
BEAT_BYTES = 128  # more than a few heartbeats have
READY = 9.0  # seconds for a session to stand
LARGE = 1 << 18  # bytes of operations that are sent without waiting for a whole batch

_ECHOES = frozenset(["ChannelError", "PeerLost", "Cancelled"])


Method = TypeVar("Method", bound=Callable[..., Any])


def _locked(method: Method) -> Method:
    """A method that one thread at a time is in, of those marked so."""

    @functools.wraps(method)
    def call(self: Link, *args: Any, **kwargs: Any) -> Any:
        self._process.check()  # first: in a child, a thread that was not copied may have the lock for ever
        with self._lock:
            return method(self, *args, **kwargs)

    return cast(Method, call)


class Link:
    """All connections of one session.  Any failure ends it; `broken` says why.

    end: that of the session: nothing is sent any more once a check has failed.
    """

    def __init__(
        self, tls: Any, holders: Sequence[str], provider: str, addresses: dict[str, str], silence: float = SILENCE
    ) -> None:
        self.holders = list(holders)
        self._silence, self._stall = silence, STALL * max(1.0, silence / SILENCE)
        self.provider = provider
        self.broken: PysmpcError | None = None
        self.end = End()
        self._lock = threading.RLock()
        self._process = Process("this session")
        self._workers: list[RemoteWorker] = []
        self._deflate = zlib.compressobj(1)
        self._batch: list[Operation] = []
        self._parts: list[tuple[str | None, Any]] = []  # buffers of the batch, and who gets them (None: all)
        self._large = 0
        self._first = 0
        self._next = 0
        self._bytes: deque[tuple[int, int]] = deque()  # operation and size of buffers not acknowledged
        self._unacked = 0
        self._queries = 0
        self.answers = Answers()
        self._places: deque[tuple[int, tuple[str, int]]] = deque(maxlen=1024)
        try:
            for name in [*self.holders, provider]:
                self._workers.append(RemoteWorker(name, dial(tls, name, addresses[name], DRIVER)))
                self._workers[-1].stream.only_frames()
        except BaseException:
            self._drop()
            raise

    @_locked
    def setup(self, session: str, keys: dict[str, bytes], checked: bool = False) -> None:
        """Let the workers meet; returns when all are ready."""
        for worker in self._workers:
            key = keys.get(worker.name, b"")
            worker.stream.queue(*framed(MESSAGE, pack(Setup(session, self.holders, self.provider, key, checked))))
        self._until(lambda: all(w.ready for w in self._workers), READY, "the workers to meet")

    @property
    def steps(self) -> int:
        """How many recorded steps every worker keeps."""
        return min(worker.steps for worker in self._workers)

    # --- operations ---

    @_locked
    def send(
        self, operation: Operation, buffers: Sequence[torch.Tensor], words: torch.Tensor | None, everyone: bool = False
    ) -> int:
        """Queue an operation; returns its number.  words: for the receiver of inputs alone, or for every holder."""
        self._check()
        number = self._next
        self._next += 1
        self._batch.append(operation)
        self._places.append((number, line_outside()))
        self.answers.expect(number, operation, self.holders)
        size = 0
        for tensor in buffers:
            self._parts.append((None, tensor))
            size += tensor.numel() * tensor.element_size()
        if words is not None:
            self._parts.extend((name, words) for name in (self.holders if everyone else self.holders[-1:]))
            size += 8 * words.numel()
        if size:
            self._bytes.append((number, size))
            self._unacked += size
        self._large += size
        full = len(self._batch) >= BATCH and not isinstance(operation, Repeat)  # what it comes to may be opened next
        if full or self._large >= LARGE or isinstance(operation, Open):
            self.flush()
        return number

    @_locked
    def flush(self) -> None:
        """Send what is queued, and wait while the workers are too far behind."""
        self._check()
        if self._batch:
            body = self._deflate.compress(pack(Batch(self._first, self._batch)))
            frame = b"".join(framed(PACKED, body + self._deflate.flush(zlib.Z_SYNC_FLUSH)))
            self._first, self._batch = self._next, []
            for worker in self._workers:
                worker.stream.queue(frame)
                for name, tensor in self._parts:
                    if name in (None, worker.name):
                        worker.stream.queue(*tensor_frames(tensor))
            self._parts, self._large = [], 0
        for worker in self._workers:
            if worker.stream.unsent and not worker.lost:
                self._move(worker, reading=False)
        if self._behind():
            self._until(lambda: not self._behind(), None, "the workers")

    def _behind(self) -> bool:
        acked = min(worker.acked for worker in self._workers)
        while self._bytes and self._bytes[0][0] <= acked:
            self._unacked -= self._bytes.popleft()[1]
        return self._next - 1 - acked > WINDOW or self._unacked > WINDOW_BYTES

    @_locked
    def opened(self, number: int, words: int) -> list[torch.Tensor]:
        """The words that each holder sent of what an operation opened."""
        if self._batch:
            self.flush()
        opened = self.answers.opened

        def missing() -> RemoteWorker | None:
            return next((w for w in reversed(self._workers[:-1]) if (number, w.name) not in opened), None)

        self._until(lambda: missing() is None, None, "an opening", missing)
        found = [(name, opened.pop((number, name))) for name in self.holders]
        for name, each in sorted(found, key=lambda answer: getattr(answer[1], "kind", "") == WITHHELD):
            if isinstance(each, Denied):
                raise denial(each)
            if each.numel() != words:
                raise self._break(ChannelError(f"{name} sent {each.numel()} words of an opening of {words}"))
        return [each for _, each in found]

    @_locked
    def fetched(self, number: int, owner: str) -> torch.Tensor:
        """What an owner sent in the clear, flat."""
        self.flush()
        self._until(lambda: (number, owner) in self.answers.opened, None, owner)
        found: torch.Tensor | Denied = self.answers.opened.pop((number, owner))
        if isinstance(found, Denied):
            raise denial(found)
        return found

    @_locked
    def told(self, number: int) -> dict[str, str]:
        """What the holders have against an operation, by name, once all have said."""
        self.flush()
        self._until(lambda: all((number, name) in self.answers.opened for name in self.holders), None, "the holders")
        found = {name: self.answers.opened.pop((number, name)) for name in self.holders}
        return {name: each.text for name, each in found.items() if isinstance(each, Denied)}

    @_locked
    def wait(self) -> None:
        """Until every worker has done all operations."""
        number = self._next - 1
        self.flush()
        if number >= 0:
            for worker in self._workers:
                if worker.acked < number:
                    worker.stream.queue(*framed(MESSAGE, pack(Until(number))))
            self._until(lambda: all(w.acked >= number for w in self._workers), None, "the workers")

    # --- questions ---

    def search(self, name: str, tags: Sequence[str]) -> Found:
        """A worker's data that carry tags."""
        found: Found = self.ask([name], lambda n: Search(n, list(tags)))[name]
        return found

    def status(self) -> list[dict[str, Any]]:
        """How the workers are."""
        return [answer.figures for answer in self.ask([w.name for w in self._workers], Ask).values()]

    @_locked
    def ask(self, names: Sequence[str], make: Callable[[int], Any]) -> dict[str, Any]:
        """Put a question to some workers; the answer of each."""
        numbers = [(self._question(name, make), name) for name in names]
        self._until(lambda: all(key in self.answers.answered for key in numbers), None, ", ".join(names))
        return {name: self.answers.answered.pop((number, name)) for number, name in numbers}

    def _question(self, name: str, make: Callable[[int], Any]) -> int:
        self._check()
        self._queries += 1
        worker = next(w for w in self._workers if w.name == name)
        question = make(self._queries)
        worker.stream.queue(*framed(MESSAGE, pack(question)))
        self.answers.ask(self._queries, name, question)
        return self._queries

    # --- moving bytes ---

    @property
    def traffic(self) -> tuple[int, int]:
        """Bytes to and from all workers, before encryption."""
        return sum(w.stream.sent for w in self._workers), sum(w.stream.received for w in self._workers)

    def close(self) -> None:
        """Leave: the workers drop the session.  Ends what another thread waits for."""
        if self._process.left:  # a forked process closes its copies of the connections, and says nothing
            self._drop()
            return
        leaving = self.broken is None
        if leaving:
            self.broken = ChannelError("this connection was closed; connect again")
        with self._lock:
            for worker in self._workers if leaving else ():
                try:
                    worker.stream.queue(*framed(MESSAGE, pack(Bye())))
                    worker.stream.flush(1.0)
                except ChannelError:
                    continue
            self._drop()

    def _drop(self) -> None:
        for worker in self._workers:
            worker.stream.close()

    def _check(self) -> None:
        if self.broken is None and self.end.reason:
            self._break(errors.IntegrityError(f"this session ended when {self.end.reason}; connect again"))
        if self.broken is not None:
            raise self.broken

    def _break(self, error: PysmpcError) -> PysmpcError:
        """End the session for this reason; returns it."""
        self.broken = error
        self._drop()
        return error

    def _until(
        self,
        done: Callable[[], bool],
        patience: float | None,
        what: str,
        whose: Callable[[], RemoteWorker | None] = lambda: None,
    ) -> None:
        """Move bytes until something is there.  Raises what a worker failed with, or WorkerLost.

        whose: whom it is waited for; nobody else's words wake this process, unless it takes long.
        """
        self._check()
        start = time.monotonic()
        while not done():
            self._check()  # another thread may have closed it
            now = time.monotonic()  # before reading: what this process slept through is not held against anybody
            long = now - start > SOON
            self._pump(*(0.25, None) if long else (SOON, whose()))
            for worker in self._workers if long else ():
                if now - max(worker.heard, start) > self._silence:
                    worker.lost = f"no sign of life for {self._silence:.0f} s"
            self._troubles()
            if long:
                self._too_long(now, start, patience, what)

    def _too_long(self, now: float, start: float, patience: float | None, what: str) -> None:
        """Raise if it is waited since `start` for what does not come."""
        if patience is not None and now - start > patience:
            raise self._break(ChannelError(f"{what}: not within {patience:.0f} s"))
        if now - max(start, *(worker.moved_at for worker in self._workers)) > self._stall:
            places = ", ".join(f"{w.name} at operation {w.acked + 1}" for w in self._workers)
            raise self._break(
                ChannelError(
                    f"nothing moved for {self._stall:.0f} s ({places}, the driver at {self._next}): a message "
                    "was lost between them; connect again"
                )
            )

    def _troubles(self) -> None:
        """Raise if a worker is lost or has failed, for the cause and not for its echoes."""
        if not any(w.failed or w.lost for w in self._workers):
            return
        until = time.monotonic() + GRACE
        while time.monotonic() < until:
            self._pump(0.02)
        causes = [w for w in self._workers if w.failed and w.failed.kind not in _ECHOES]
        lost = [w for w in self._workers if w.lost]
        if causes:
            raise self._break(self._cause(causes[0]))
        if lost:
            names = ", ".join(w.name for w in lost)
            raise self._break(
                WorkerLost(f"{names}: {lost[0].lost}; the session and its values are lost, the others are ready: "
                           "connect again once all workers run")
            )  # fmt: skip
        raise self._break(self._cause(next(w for w in self._workers if w.failed)))

    def _cause(self, worker: RemoteWorker) -> PysmpcError:
        failed = worker.failed
        assert failed is not None
        if failed.kind == "IntegrityError":
            return errors.IntegrityError(failed.text)
        file, line = next((where for number, where in self._places if number == failed.number), ("", 0))
        return RemoteError(f"{worker.name}: {failed.text} ({failed.kind}{f', at {file}:{line}' if file else ''})")

    def _pump(self, patience: float, whose: RemoteWorker | None = None) -> None:
        """Write what can be, and read; wait for something, or for somebody's words, up to `patience` seconds."""
        there = [w for w in self._workers if not w.lost]
        only = None if whose is None or whose.lost else whose.stream
        try:
            ready = poll([w.stream for w in there], time.monotonic() + patience, only=only) if there else ()
        except OSError as error:
            raise self._break(ChannelError(str(error))) from None
        for worker in there:
            reading = worker.stream.fileno() in ready  # nothing decrypted is left unread
            if reading or worker.stream.unsent:
                self._move(worker, reading)

    def _move(self, worker: RemoteWorker, reading: bool) -> None:
        """Write what one connection takes, and take what is there if `reading`."""
        stream = worker.stream
        received, sent = stream.received, stream.sent
        try:
            stream.push()
            while reading and (frame := stream.pull()) is not None:
                self.answers.on_frame(worker, *frame)
            if stream.received != received:
                worker.heard = time.monotonic()
            if stream.sent != sent or stream.received - received > BEAT_BYTES:
                worker.moved_at = time.monotonic()
        except PeerLost as error:
            worker.lost = str(error)
        except ChannelError as error:
            raise self._break(error) from None


def ask(tls: Any, name: str, where: str) -> dict[str, Any]:
    """A worker's report, over a connection of its own."""
    stream = dial(tls, name, where, STATUS)
    try:
        stream.send(Ask(0))
        while not isinstance(message := stream.receive(Up, 10.0), Report):
            pass
        return message.figures
    finally:
        stream.close()
