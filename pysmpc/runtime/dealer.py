"""The crypto provider's side and the holders' side of correlated randomness.

Every holder shares an AES key with the provider.  What is uniform comes from the
streams of those keys and is never sent; what must satisfy a relation is sent to one
holder as a correction.  The same class serves the owner of an input, who "deals" the
difference between the input and the streams.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

import torch

from pysmpc.errors import PartyError
from pysmpc.prg import KeySet


class Feed(Protocol):
    """The way of corrections from the dealer to the holder who receives them."""

    def send(self, words: torch.Tensor) -> None:
        """Dealer's end; does not wait for the receiver."""

    def receive(self, words: int) -> torch.Tensor:
        """Holder's end."""


class LocalFeed:
    """Dealer and receiver in one process."""

    def __init__(self) -> None:
        self._pending: deque[torch.Tensor] = deque()

    def send(self, words: torch.Tensor) -> None:
        """Keep for `receive`."""
        self._pending.append(words)

    def receive(self, words: int) -> torch.Tensor:
        """What was sent first."""
        return self._pending.popleft()


class SeedDealer:
    """Seeds to all, corrections to the last holder.

    keys: of the hosted holders.  everyone: keys of all holders, in the process that
    deals.  receives: whether the last holder is hosted here.  count: told the bytes
    of every correction, in all processes alike.
    """

    def __init__(
        self,
        keys: KeySet,
        everyone: KeySet | None,
        receives: bool,
        feed: Feed,
        count: Callable[[int], None],
    ) -> None:
        self.keys = keys
        self._everyone = everyone
        self._receives = receives
        self._feed = feed
        self._count = count
        self._next_stream = 0
        self._lock = threading.Lock()
        self._process = os.getpid()

    def streams(self, count: int = 1) -> int:
        """The first of `count` fresh stream numbers; equal in all processes.

        Threads may share a session; a forked process may not, as both would go on to
        hide different values under the same words.
        """
        if os.getpid() != self._process:
            raise PartyError("this session belongs to the process that made it; make a new one after a fork")
        with self._lock:
            first = self._next_stream
            self._next_stream += count
        return first

    def corrections(self, words: int, deal: Callable[[KeySet, torch.Tensor], Any]) -> torch.Tensor | None:
        """Deal (where the dealer is), send, receive (where the receiver is)."""
        with self._lock:
            self._count(8 * words)
            if self._everyone is not None:
                out = torch.empty(words, dtype=torch.int64)
                deal(self._everyone, out)
                self._feed.send(out)
            return self._feed.receive(words) if self._receives else None
