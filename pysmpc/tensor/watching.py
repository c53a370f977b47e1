"""Watchers: functions that are told of every operation on secrets before it runs, and of its result.

Profiles, checks, recordings and the search for wrong numbers are made of these.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

#: Told of every operation before it is carried out: watcher(func, args, kwargs) may return what to call after it, with
#: its result, or None where it has failed.
WATCHERS: list[Callable[[Any, Any, Any], Callable[[Any], object] | None]] = []


#: The same, for the processes of a session that compare what they do.  Loops are followed all the same.
WITNESSES: list[Callable[[Any, Any, Any], Callable[[Any], object] | None]] = []


def run_watched(func: Any, handler: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    """handler(*args, **kwargs), of which witnesses and watchers are told as `func`."""
    after = [done for watcher in (*WITNESSES, *WATCHERS) if (done := watcher(func, args, kwargs)) is not None]
    out = None
    try:
        out = handler(*args, **kwargs)
        return out
    finally:
        for done in reversed(after):
            done(out)
