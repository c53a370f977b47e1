"""A worker's end of the connection to a driver: one thread reads, writes and keeps the heart beating.

Other threads post messages, and write them themselves where nothing is in the way: to
wake another thread in the midst of a computation would cost more than the message.
"""

from __future__ import annotations

import contextlib
import os
import select
import threading
import time
from collections import deque
from collections.abc import Callable

import msgspec

from pysmpc.errors import ChannelError
from pysmpc.transport.wire import MESSAGE, Buffer, Stream, framed, pack

BEAT = 0.5  # seconds
UNREAD = 64  # parts of messages to a driver who does not read them, after which nothing more of it is read


class Control:
    """on_frame(kind, body) is called for each frame that arrives; an error of it ends the connection.

    beat: makes the message that tells how far this worker is.
    """

    def __init__(
        self, stream: Stream, on_frame: Callable[[int, memoryview], None], beat: Callable[[], msgspec.Struct]
    ) -> None:
        stream.only_frames()
        self._stream = stream
        self._on_frame = on_frame
        self._beat = beat
        self._outbox: deque[tuple[Buffer, ...]] = deque()
        self._wake, self._waker = os.pipe()
        os.set_blocking(self._waker, False)
        self._ending = False
        self._closed = False
        self._lock = threading.Lock()
        self._turn = threading.Lock()  # whoever uses the connection

    def post(self, message: msgspec.Struct, *parts: Buffer) -> None:
        """Send a message, and frames after it; from any thread.  Does not wait."""
        self._outbox.append((*framed(MESSAGE, pack(message)), *parts))
        if self._turn.acquire(blocking=False):
            try:
                done = self._push()
            except ChannelError:
                done = False  # the thread that reads will find out
            finally:
                self._turn.release()
            if done and not self._outbox:
                return
        self._signal()

    def end(self) -> None:
        """Let `serve` return, once all that was posted is sent; from any thread."""
        self._ending = True
        self._signal()

    def _signal(self) -> None:
        with self._lock, contextlib.suppress(BlockingIOError):  # full: it is awake anyway
            if not self._closed:
                os.write(self._waker, b"x")

    def serve(self) -> None:
        """Until the driver leaves (ChannelError) or `end` was called."""
        due = time.monotonic() + BEAT
        grace = None
        try:
            while True:
                while self._stream.unsent < UNREAD and (frame := self._pull()) is not None:
                    self._on_frame(*frame)
                with self._turn:
                    self._collect()
                    full = self._stream.unsent >= UNREAD
                    done = self._push()
                now = time.monotonic()
                if self._ending:
                    grace = grace or now + 2.0
                    if (done and not self._outbox) or now > grace:
                        return
                if now >= due:
                    due = now + BEAT
                    if done:
                        self.post(self._beat())
                if not full or self._stream.unsent >= UNREAD:  # else there may be more, decrypted and unread
                    self._pause(min(due, grace or due))
        finally:
            with self._lock:
                self._closed = True
                for end in (self._wake, self._waker):
                    os.close(end)
            with self._turn:
                self._stream.close()

    def _pull(self) -> tuple[int, memoryview] | None:
        with self._turn:
            return self._stream.pull()

    def _push(self) -> bool:
        """Write what can be written now, by whose turn it is; whether that was all."""
        self._collect()
        return self._stream.push()

    def _collect(self) -> None:
        while self._outbox:
            self._stream.queue(*self._outbox.popleft())

    def _pause(self, until: float) -> None:
        poller = select.poll()
        reading = select.POLLIN if self._stream.unsent < UNREAD else 0
        poller.register(self._stream.fileno(), self._stream.events & (reading | select.POLLOUT))
        poller.register(self._wake, select.POLLIN)
        for descriptor, _ in poller.poll(max(until - time.monotonic(), 0) * 1000):
            if descriptor == self._wake:
                os.read(self._wake, 1 << 12)


class Cancel:
    """A file that becomes readable once, to end every wait of a session."""

    def __init__(self) -> None:
        self.wake, self._end = os.pipe()
        self._set = False
        self._lock = threading.RLock()  # a signal handler may call

    def set(self) -> None:
        """End the waits."""
        with self._lock:
            if not self._set:
                self._set = True
                os.close(self._end)

    def is_set(self) -> bool:
        return self._set

    def close(self) -> None:
        """When nobody waits any more."""
        self.set()
        os.close(self.wake)
