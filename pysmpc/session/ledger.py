"""The ledger: every opening with its cause and size, and never a value.

A channel notes each message round here.  Ledgers are process-wide, since the parties
of `runtime.threads` run beside whoever asked for one.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from pysmpc.mpc.interfaces import Where
from pysmpc.torch_modes import keep_promises

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Opening:
    """One message round of a session.

    cause: a name of `protocols.interfaces.OPENING_REASONS`, or (to the provider) of QUESTIONS.
    round: its number in the session, from 1.  shapes: of what was opened, one a message;
    (words,) where a protocol opens packed bits or does not say.  session: its serial
    number.  holders: of the session.
    hosted: those of them in this process; none in a provider, which sees no opening.
    to: "holders", or "provider" where protocols ask it to take part (SecureNN).
    """

    cause: str
    round: int
    words: int
    shapes: tuple[Shape, ...]
    session: int
    holders: tuple[str, ...]
    hosted: tuple[str, ...]
    to: str = "holders"


class Ledger:
    """The openings of a block of code; iterate over it, oldest first."""

    def __init__(self) -> None:
        self.openings: list[Opening] = []

    def __iter__(self) -> Iterator[Opening]:
        return iter(self.openings)

    def __len__(self) -> int:
        return len(self.openings)

    @property
    def causes(self) -> set[str]:
        """The reasons for which something was opened to the holders."""
        return {opening.cause for opening in self.openings if opening.to == "holders"}

    @property
    def questions(self) -> set[str]:
        """The reasons for which the provider was asked."""
        return {opening.cause for opening in self.openings if opening.to == "provider"}

    @property
    def revealed(self) -> list[Opening]:
        """Openings that revealed a value, as the program asked by `decrypt`, `reveal` or `get`."""
        return [opening for opening in self.openings if (opening.to, opening.cause) == ("holders", "reveal")]

    def __repr__(self) -> str:
        lines = [f"Ledger of {len(self)} openings"]
        for to, cause in sorted({(opening.to, opening.cause) for opening in self.openings}):
            found = [opening for opening in self.openings if (opening.to, opening.cause) == (to, cause)]
            name = cause if to == "holders" else f"{cause} (to the provider)"
            lines.append(f"  {name:<26} {len(found):>8} openings {sum(o.words for o in found):>14,} words")
        return "\n".join(lines)


_lock = threading.Lock()
_kept: tuple[Ledger, ...] = ()


@contextmanager
def ledger() -> Iterator[Ledger]:
    """List every opening of this process's sessions while the block runs.

    >>> with sy.ledger() as openings:
    ...     loss.backward()
    >>> openings.revealed
    []
    """
    global _kept
    keep_promises()  # what came before is not part of it
    own = Ledger()
    with _lock:
        _kept = (*_kept, own)
    try:
        yield own
    finally:
        with _lock:
            _kept = tuple(each for each in _kept if each is not own)


def kept() -> bool:
    """Whether anybody keeps one."""
    return bool(_kept)


def note(where: Where, cause: str, rounds: int, shapes: tuple[Shape, ...], words: int, to: str = "holders") -> None:
    """Called by channels, once a round, and by dealers where they are asked."""
    for each in _kept:
        each.openings.append(Opening(cause, rounds, words, shapes, where.session, where.holders, where.hosted, to))
