"""A driver's operations on their way to the session: from frames of its connection, in order and complete."""

from __future__ import annotations

import hashlib
import math
import queue
import zlib
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch

from pysmpc.errors import ChannelError
from pysmpc.remote.arguments import buffers_of, digest_of, dtype_of, size_of
from pysmpc.remote.program_messages import Batch, Call, Collect, Fetch, Hand, Input, Load, Open, Operation
from pysmpc.transport.wire import Gather, unpack

UNPACKED = 1 << 22  # bytes of one batch of operations; as objects, some 35 times as many
BACKLOG = 4096  # operations that may wait; a driver keeps to far fewer


class Due(NamedTuple):
    """An operation that is to be done.

    told: SHA-256 of the batch that it begins.  opens: whether something is opened in that.  last: whether it ends one.
    """

    number: int
    operation: Operation
    buffers: list[torch.Tensor]
    told: bytes
    opens: bool
    last: bool


class _Coming(NamedTuple):
    """A buffer on its way.  digest: of what it must be, where it is public."""

    gather: Gather
    dtype: torch.dtype
    digest: bytes | None


class Intake:
    """What one driver sends for its session.  Complete operations go to `ready`.

    used: bytes of public tensors that the session is done with.
    """

    def __init__(self, driver: str, me: str, holders: Sequence[str], ready: queue.SimpleQueue[Due | None]) -> None:
        self._driver, self._me, self._holders, self._ready = driver, me, holders, ready
        self._inflate = zlib.decompressobj()
        self._coming: list[tuple[Due, list[_Coming]]] = []
        self._received = -1
        self._announced_bytes = 0
        self.used = 0

    @property
    def unfinished(self) -> bool:
        """Whether tensors must follow."""
        return bool(self._coming)

    @property
    def bytes(self) -> int:
        """Of tensors that were announced, and not yet used."""
        return self._announced_bytes - self.used

    def words(self, body: memoryview) -> None:
        """A piece of a tensor that follows an operation."""
        next(each.gather for each in self._coming[0][1] if each.gather.left).add(body)
        self.deliver()

    def batch(self, body: memoryview, done: int) -> None:
        """A batch of operations, compressed.  done: the last that the session has done.  `deliver` comes next."""
        try:
            plain = self._inflate.decompress(body, UNPACKED)
        except zlib.error as error:
            raise ChannelError(f"{self._driver} sent a batch that is damaged: {error}") from None
        if self._inflate.unconsumed_tail or self._inflate.unused_data:
            raise ChannelError(f"{self._driver} sent a batch of more than {UNPACKED} bytes")
        batch: Batch = unpack(plain, Batch, self._driver)
        if batch.first != self._received + 1:
            raise ChannelError(f"{self._driver} sent operation {batch.first} after {self._received}")
        told, last = hashlib.sha256(plain).digest(), len(batch.operations) - 1
        opens = any(isinstance(operation, Open | Hand) for operation in batch.operations)
        for place, operation in enumerate(batch.operations):
            self._received += 1
            due = Due(self._received, operation, [], b"" if place else told, opens, place == last)
            parts = list(self._announced(operation))
            self._coming.append((due, parts))
            self._announced_bytes += sum(each.gather.left for each in parts)
        if self._received - done > BACKLOG:
            raise ChannelError(f"{self._driver} does not wait for its operations to be done")

    def deliver(self) -> None:
        """Hand over the operations whose buffers are complete."""
        while self._coming:
            due, coming = self._coming[0]
            if any(each.gather.left for each in coming):
                return
            del self._coming[0]
            for each in coming:
                tensor = each.gather.tensor(each.dtype)
                if each.digest is not None and digest_of(tensor) != each.digest:
                    raise ChannelError(f"{self._driver} sent another tensor than the one it announced")
                due.buffers.append(tensor)
            self._ready.put(due)

    def _announced(self, operation: Operation) -> Iterator[_Coming]:
        """The buffers that follow an operation."""
        receivers = self._holders if isinstance(operation, Input) and operation.everyone else self._holders[-1:]
        if isinstance(operation, Input) and self._me in receivers:
            size = 8 * math.prod(max(n, 0) for n in operation.shape)
            yield _Coming(Gather(size, self._driver), torch.int64, None)
        values: list[Any] = []
        if isinstance(operation, Call):
            values = [*operation.args, *operation.kwargs.values()]
        elif isinstance(operation, Load | Fetch):
            values = [value for step in operation.steps for value in step]
        elif isinstance(operation, Collect):
            values = [operation.values]
        for value in values:
            for plain in buffers_of(value):
                yield _Coming(Gather(size_of(plain), self._driver), dtype_of(plain.dtype), plain.digest)
