"""What the owner of a worker has, as one session uses it: data that are shared, or sent in the clear by permission."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import torch

from pysmpc.errors import GetNotPermittedError, ObjectNotFoundError, RemoteError
from pysmpc.remote.arguments import decode, dtype_of
from pysmpc.remote.data_steps import Items
from pysmpc.remote.messages import Denied, Opened
from pysmpc.remote.program_messages import Fetch, Load
from pysmpc.remote.worker.data import Draws, Store
from pysmpc.remote.worker.driver_session import DriverSession
from pysmpc.remote.worker.origins import Origin
from pysmpc.remote.worker.rows import Rows, loaded
from pysmpc.ring.fixedpoint import INTEGER, Precision, saturating
from pysmpc.ring.shares import dense_strides
from pysmpc.transport.wire import tensor_frames

log = logging.getLogger("pysmpc.worker")


class SessionData:
    """The owner's data in a session.  buffers: public tensors that come with the present operation."""

    def __init__(self, session: DriverSession) -> None:
        self._session, self._worker, self._driver = session, session.worker, session.driver
        self.buffers: Iterator[torch.Tensor] = iter(())
        self._used: dict[str, Store] = {}  # the data that the session has shared from, by name
        self._draws = Draws()

    def fetch(self, number: int, operation: Fetch, buffers: Iterator[torch.Tensor]) -> None:
        """Send the driver data in the clear, where the owner permits it."""
        if operation.owner != self._worker.config.name:
            return
        try:
            store = self._worker.data  # permission and values of one reading of the files
            entry = store[operation.data]
            self._worker.openings.get(self._driver, operation.data, entry.data.get, tuple(operation.shape))
            found = self._items(store, operation, buffers)
        except (GetNotPermittedError, ObjectNotFoundError, RemoteError) as error:
            self._session.post(Denied(number, type(error).__name__, str(error)))
            return
        self._note("fetched", operation, found.saturated)
        values = found.values.to(dtype_of(operation.dtype)).contiguous()
        self._session.post(Opened(number, values.numel() * values.element_size()), *tensor_frames(values))

    def values(self, operation: Load) -> tuple[torch.Tensor | None, Origin]:
        """Encoded items where they are; elsewhere only whose they are.

        Whether this succeeds depends on names, shapes and arguments.  What is out of range saturates, and is
        counted in this worker's own log.
        """
        if operation.owner != self._worker.config.name:
            return None, Origin(frozenset([operation.owner]))
        store = self._used.get(operation.data, self._worker.data)
        found = self._items(store, operation, self.buffers)
        self._used[operation.data] = store
        unit = Precision(operation.base, operation.digits) if found.values.is_floating_point() else INTEGER
        if unit.scale != operation.scale:
            raise RemoteError(f"{operation.data} is encoded at scale {unit.scale}, not {operation.scale}")
        shape = tuple(found.values.shape)
        # of rows that are drawn nobody else may know how many there are: one is the fewest
        rows = loaded(shape, found.items, store[operation.data].table) if found.present is None else Rows(1)
        words, saturated = saturating(found.values, unit, self._session.running.limit(operation.suite))
        self._note("shared", operation, found.saturated + saturated)
        return words, Origin(frozenset([operation.owner]), rows, (shape, dense_strides(shape)))

    def _items(self, store: Store, operation: Load | Fetch, buffers: Iterator[torch.Tensor]) -> Items:
        steps = [[decode(value, self._session.running.cell, buffers) for value in step] for step in operation.steps]
        found = store.items(operation.data, steps, self._draws if isinstance(operation, Load) else None)
        if list(found.values.shape) != operation.shape:
            raise RemoteError(
                f"{operation.data} has shape {list(found.values.shape)} after these steps, not {operation.shape}"
            )
        return found

    def _note(self, event: str, operation: Load | Fetch, saturated: torch.Tensor | int) -> None:
        """A line of the log for the owner, whatever the count: a driver must not see by the time that there is one."""
        facts = {"data": operation.data, "shape": operation.shape, "saturated": int(saturated)}
        log.info(event, extra={"peer": self._driver, **facts})
