"""What a forked process must not use: keys, connections and dealt randomness of the process that it was copied from.

Parent and child have the same keys and counters.  If both went on, they would hide two
values under the same masks, and write two messages to one connection.  Plain tensors are
nobody's: a DataLoader may fork workers as ever.
"""

from __future__ import annotations

import os

from pysmpc.errors import PartyError

#: Forks between the first process and this one: a number that costs less to read than a pid, which a child in a
#: pid namespace of its own can have in common with its parent.
_forks = 0


def _forked() -> None:
    global _forks
    _forks += 1


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)


class Process:
    """The process in which something was made.  what: the thing, for the error."""

    __slots__ = ("_made", "_what")

    def __init__(self, what: str) -> None:
        self._what = what
        self._made = _forks

    @property
    def left(self) -> bool:
        """Whether this is another process: a child of it, made by a fork."""
        return _forks != self._made

    def check(self) -> None:
        """Raise PartyError in a child."""
        if _forks != self._made:
            raise PartyError(
                f"{self._what} belongs to the process that made it, and this one is a fork of that: both would hide "
                "different values under the same masks. Compute with secrets in the parent alone, or make a new "
                "session here; forked workers that use plain tensors only, as those of a DataLoader, are fine"
            )
