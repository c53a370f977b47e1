"""What workers send their driver: nothing is taken that it has not asked for.

A worker that a driver does not trust can so neither fill its memory nor pass one answer for another.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import Any

import torch

from pysmpc import errors
from pysmpc.errors import ChannelError, PysmpcError, RemoteError
from pysmpc.remote.arguments import dtype_of
from pysmpc.remote.limits import RECORDINGS
from pysmpc.remote.messages import (
    WITHHELD,
    Ack,
    Ask,
    Beat,
    Denied,
    Failed,
    Found,
    Kept,
    Opened,
    Ready,
    Report,
    Search,
    Shelve,
    Shelved,
    Up,
)
from pysmpc.remote.program_messages import Collect, Fetch, Hand, Invite, Keep, Open, Operation, Recall
from pysmpc.transport.wire import MESSAGE, WORDS, Gather, Stream, unpack

_DENIALS: dict[str, type[PysmpcError]] = {
    "OpenNotPermittedError": errors.OpenNotPermittedError,
    WITHHELD: errors.OpenNotPermittedError,
    "RangeError": errors.RangeError,
    "GetNotPermittedError": errors.GetNotPermittedError,
    "RoundError": errors.RoundError,
    "ObjectNotFoundError": errors.ObjectNotFoundError,
}
_ANSWERED = frozenset([Open, Fetch, Collect, Invite, Keep, Recall, Hand])  # operations of which something comes back
_ANSWERS: dict[type[Any], type[Any]] = {Ask: Report, Search: Found, Shelve: Shelved}


class RemoteWorker:
    """One worker, as the driver sees it.

    acked: the last operation that it has done.  heard, moved_at: when it last sent anything, and last got further.
    failed, lost: why it can do no more.  gather: the tensor that it is sending, of operation `gathering`.
    """

    def __init__(self, name: str, stream: Stream) -> None:
        self.name = name
        self.stream = stream
        self.acked = -1
        self.heard = self.moved_at = time.monotonic()
        self.moved = 0
        self.ready = False
        self.steps = RECORDINGS
        self.failed: Failed | None = None
        self.lost: str | None = None
        self.gather: Gather | None = None
        self.gathering = -1


class Answers:
    """What is asked of the workers of a session, and what they answered, by number and name.

    due: the type of elements and the bytes that an operation will send back.  opened: what came, a tensor, Denied or
    Kept.  asked: the type of the answer to a question.  answered: that answer.
    """

    def __init__(self) -> None:
        self.due: dict[tuple[int, str], tuple[torch.dtype, int]] = {}
        self.opened: dict[tuple[int, str], Any] = {}
        self.asked: dict[tuple[int, str], type[Any]] = {}
        self.answered: dict[tuple[int, str], Any] = {}

    def ask(self, number: int, name: str, question: Any) -> None:
        """Note that a worker is asked a question."""
        self.asked[number, name] = _ANSWERS[type(question)]

    def expect(self, number: int, operation: Operation, holders: Sequence[str]) -> None:
        """Note what will be sent back for an operation, and by whom: nothing else is taken."""
        if type(operation) not in _ANSWERED:
            return
        if isinstance(operation, Open):
            due = torch.int64, 8 * math.prod(operation.ref.size)
        elif isinstance(operation, Fetch):
            dtype = dtype_of(operation.dtype)
            due = dtype, dtype.itemsize * math.prod(operation.shape)
        elif isinstance(operation, Collect):
            size = 1 + sum(map(math.prod, operation.gives.values())) if operation.clear else 0
            due = torch.int64, 8 * (len(operation.owners) + size)
        else:
            due = torch.int64, 0
        for name in [operation.owner] if isinstance(operation, Fetch) else holders:
            self.due[number, name] = due

    def on_frame(self, worker: RemoteWorker, kind: int, body: memoryview) -> None:
        """Take a frame of a worker.  ChannelError for what nobody asked it for."""
        if worker.gather is not None:
            if kind != WORDS:
                raise ChannelError(f"{worker.name} left a tensor unfinished")
            worker.gather.add(body)
        elif kind == MESSAGE:
            self.on_message(worker, unpack(body, Up, worker.name))
        else:
            raise ChannelError(f"{worker.name} sent a frame of kind {kind} that nothing asked for")
        if worker.gather is not None and not worker.gather.left:
            key = worker.gathering, worker.name
            self.opened[key] = worker.gather.tensor(self.due.pop(key)[0])
            worker.gather = None

    def on_message(self, worker: RemoteWorker, message: Any) -> None:
        """Take a message of a worker."""
        if isinstance(message, Ack | Beat):
            worker.acked = max(worker.acked, message.number)
            if isinstance(message, Beat) and message.moved != worker.moved:
                worker.moved, worker.moved_at = message.moved, time.monotonic()
        elif isinstance(message, Opened):
            if message.size != self.due.get((message.number, worker.name), (None, -1))[1]:
                raise ChannelError(f"{worker.name} sent {message.size} bytes that nobody asked for")
            worker.gather, worker.gathering = Gather(message.size, worker.name), message.number
        elif isinstance(message, Denied | Kept):
            if self.due.pop((message.number, worker.name), None) is None:
                raise ChannelError(f"{worker.name} answered what nobody asked")
            self.opened[message.number, worker.name] = message
        elif isinstance(message, Failed):
            worker.failed = message
        elif isinstance(message, Ready):
            worker.ready = True
            worker.steps = min(message.steps or RECORDINGS, RECORDINGS)
        elif self.asked.pop((message.number, worker.name), None) is type(message):
            self.answered[message.number, worker.name] = message
        else:
            raise ChannelError(f"{worker.name} answered what nobody asked")


def denial(answer: Denied) -> PysmpcError:
    """The error that a refusal is raised as."""
    return _DENIALS.get(answer.kind, RemoteError)(answer.text)
