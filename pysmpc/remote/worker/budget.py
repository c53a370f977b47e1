"""How many numbers each driver has opened today, counted from the log of openings.

A day is one of UTC.  What was used survives a restart, since the log does.
"""

from __future__ import annotations

import json
import math
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timezone
from pathlib import Path
from time import time
from typing import Any

_BLOCK = 1 << 16
#: What is opened together with a value where ranges are tested (`sy.connect(..., checked=True)`), as logs name it.
FLAG = "range flag"


class Budget:
    """Numbers that derive from one owner's data, opened to each driver in the course of a day.

    log: the owner's log of openings, or None where there is none.  clock: seconds since 1970.
    """

    def __init__(self, me: str, log: Path | None, clock: Callable[[], float] = time) -> None:
        self._clock = clock
        self._day = day_of(clock())
        self._used = used_on(self._day, log, me) if log is not None else Counter()

    def used(self, driver: str) -> int:
        """So far today."""
        self._turn()
        return self._used[driver]

    def all(self) -> dict[str, int]:
        """So far today, by driver."""
        self._turn()
        return dict(self._used)

    def spend(self, driver: str, count: int) -> None:
        """Some were opened."""
        self._turn()
        if count:
            self._used[driver] += count

    def _turn(self) -> None:
        today = day_of(self._clock())
        if today > self._day:  # a clock that is set back gives no second budget
            self._day = today
            self._used.clear()


def day_of(seconds: float) -> str:
    """The day of UTC, as text that sorts."""
    return datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%d")


def numbers_in(shape: Sequence[int]) -> int:
    """How many numbers a value of this shape has."""
    return math.prod(shape)


def used_on(day: str, log: Path, me: str) -> Counter[str]:
    """Numbers of a day, by driver, that the log says were opened of what `me` owns."""
    used: Counter[str] = Counter()
    for line in _backwards(log):
        try:
            facts: dict[str, Any] = json.loads(line)
            when = day_of(facts["time"])
            if when < day:
                break
            if facts["what"] == "open" and facts["permitted"]:
                count = numbers_in(facts["shape"]) if me in facts["owners"] else 0
                count += FLAG in facts and me in facts[FLAG]["owners"]
            elif facts["what"] == "hand" and facts["permitted"] and me != facts["receiver"]:
                count = numbers_in(facts["shape"]) if me in facts["owners"] else 0
            else:
                continue
            if count:
                used[facts["driver"]] += count
        except (ValueError, KeyError, TypeError, OSError, OverflowError):
            continue  # a line that a crash cut short
    return used


def _backwards(path: Path) -> Iterator[bytes]:
    """The lines of a file, the last first."""
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return
    with file:
        place, rest = file.seek(0, os.SEEK_END), b""
        while place > 0:
            size = min(_BLOCK, place)
            place -= size
            file.seek(place)
            first, *lines = (file.read(size) + rest).split(b"\n")
            yield from reversed(lines)
            rest = first
        yield rest
