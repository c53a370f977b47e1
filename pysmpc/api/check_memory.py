"""What values take of a holder's memory while a model is checked, by layer."""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Callable

from pysmpc.ring.shares import ShareStorage
from pysmpc.session.session import Session


class Memory:
    """Bytes of shares that a holder would have of the values of a session, as they come and go.

    most: by layer, the bytes of all values that were there while it ran, at the most; what an operation needs for
    itself is not in it.
    """

    def __init__(self, session: Session, layer: Callable[[], str]) -> None:
        """layer: tells in which layer the program is."""
        self.most: dict[str, int] = {}
        self._layer, self._now = layer, 0
        self._alive: dict[int, tuple[weakref.ref[ShareStorage], int, str]] = {}
        self._register = session.register
        session.register = self._registered  # type: ignore[method-assign]

    def _registered(self, body: ShareStorage) -> None:
        self._register(body)
        key, size, layer = id(body), 8 * body.n, self._layer()
        if key not in self._alive:
            self._alive[key] = weakref.ref(body, lambda _: self._gone(key)), size, layer
            self._now += size
        self.most[layer] = max(self.most.get(layer, 0), self._now)

    def _gone(self, key: int) -> None:
        self._now -= self._alive.pop(key)[1]

    @property
    def total(self) -> int:
        """Bytes of all values that are there."""
        return self._now

    def kept(self) -> Counter[str]:
        """By layer, the bytes of values that were made in it and are there."""
        found: Counter[str] = Counter()
        for _, size, layer in self._alive.values():
            found[layer] += size
        return found
