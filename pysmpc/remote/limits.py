"""What one driver may use of a worker: the table `[limits]` of the worker's file, and the counters that hold to it.

Whatever a driver learns from a limit depends on shapes, counts and time, never on a value.
"""

from __future__ import annotations

import threading
from collections import Counter

import msgspec

from pysmpc.remote.units import Duration, Size

RECORDINGS = 64  # the most recorded steps of a session that any worker takes; drivers know this number
STATUS_CONNECTIONS = 8  # of one name at once, to ask for the status


class Limits(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """The table `[limits]`.  A field that is left out has the default below; 0 means no limit.

    memory: bytes of shares that a session may hold at once, in values and in recorded steps.
    An operation uses a multiple of its operands' memory for itself while it runs, which is not counted.
    slots: values that a session may hold at once.  steps: recorded steps of a session, at most 64.
    disk: bytes of checkpoints of one driver, all runs together.  time: how long a session may last.
    sessions: connections of one driver at once, each of which has one session at most.
    all_sessions: connections of all drivers at once.  numbers: how many numbers that this
    worker's data went into one driver may open a day, from 00:00 to 24:00 UTC; it needs `state`.
    """

    memory: Size = Size(8 * 10**9)
    slots: int = 100_000
    steps: int = RECORDINGS
    disk: Size = Size(20 * 10**9)
    time: Duration = Duration(0)
    sessions: int = 16
    all_sessions: int = 64
    numbers: int = 0

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            if getattr(self, name) < 0:
                raise ValueError(f"limits.{name} is {getattr(self, name)}; it is 0 (no limit) or more")
        if self.steps > RECORDINGS:
            raise ValueError(f"limits.steps is {self.steps}; no worker takes more than {RECORDINGS}")

    def shown(self) -> dict[str, str]:
        """Each field, to be read."""
        return {
            name: str(getattr(self, name)) if getattr(self, name) else "no limit" for name in self.__struct_fields__
        }


def decode(kind: type, value: object) -> object:
    """Sizes and times of a file, for `msgspec.convert`."""
    if issubclass(kind, Size | Duration):
        return kind.parse(value)
    raise NotImplementedError(kind)


class Sessions:
    """How many connections each driver has, at one worker."""

    def __init__(self, me: str) -> None:
        self._me = me
        self._there: Counter[tuple[str, bool]] = Counter()
        self._lock = threading.Lock()

    def enter(self, name: str, computes: bool, limits: Limits) -> str | None:
        """Count one more, or why it may not come.  computes: it is not only for the status."""
        with self._lock:
            mine = self._there[name, computes]
            if not computes:
                if mine >= STATUS_CONNECTIONS:
                    return f"{name} asks {self._me} for its status on {mine} connections already"
            elif limits.sessions and mine >= limits.sessions:
                return f"{name} has {mine} sessions at {self._me}, as many as limits.sessions in its file lets it have"
            elif limits.all_sessions and self._all() >= limits.all_sessions:
                return f"{self._me} has {self._all()} sessions, as many as limits.all_sessions in its file lets it have"
            self._there[name, computes] += 1
            return None

    def _all(self) -> int:
        return sum(count for (_, computes), count in self._there.items() if computes)

    def leave(self, name: str, computes: bool) -> None:
        """It is gone."""
        with self._lock:
            self._there[name, computes] -= 1
            if not self._there[name, computes]:
                del self._there[name, computes]
