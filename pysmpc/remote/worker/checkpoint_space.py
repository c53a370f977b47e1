"""How much disk the checkpoints of one driver take at a worker."""

from __future__ import annotations

import contextlib
import os
import threading
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import torch

from pysmpc.errors import CheckpointError
from pysmpc.remote.units import Size

_BLOCK = 4096  # bytes that the smallest file takes
_FACTS = 2 * _BLOCK  # what is written beside the shares, at least


class Disk:
    """limit: bytes of one driver's checkpoints, all runs together; 0 is no limit."""

    def __init__(self, me: str, limit: int) -> None:
        self._me = me
        self._limit = Size(limit)
        self._coming: Counter[str] = Counter()
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def room(self, driver: str, folder: Path, words: Iterable[torch.Tensor]) -> Iterator[None]:
        """While words are written into a driver's folder; CheckpointError if there is no room for them."""
        size = _FACTS + sum(each.nbytes for each in words)
        with self._lock:
            if self._limit and (used := used_by(folder) + self._coming[driver]) + size > self._limit:
                raise CheckpointError(
                    f"{self._me} keeps {self._limit} of {driver}'s checkpoints (limits.disk in its file); there are "
                    f"{Size(used)}, and here are {Size(size)} more: remove checkpoints of other runs there"
                )
            self._coming[driver] += size
        try:
            yield
        finally:
            with self._lock:
                self._coming[driver] -= size


def used_by(folder: Path) -> int:
    """Bytes of all files below a folder, in blocks."""
    total = 0
    for place, folders, files in os.walk(folder):
        total += _BLOCK * len(folders)
        for name in files:
            with contextlib.suppress(OSError):  # removed in the meantime
                total += -(-os.stat(os.path.join(place, name)).st_size // _BLOCK) * _BLOCK
    return total
