"""What a session's messages cost: rounds and bytes, counted where they are sent."""

from __future__ import annotations

from dataclasses import astuple, dataclass

from pysmpc.protocols.interfaces import Cost


@dataclass
class Stats:
    """Totals of a session.

    rounds: message rounds between the holders.  sent: bytes that one holder sent to
    the others.  dealt: bytes that the crypto provider sent.  shared: bytes that owners
    of inputs sent.
    """

    rounds: int = 0
    sent: int = 0
    dealt: int = 0
    shared: int = 0

    def copy(self) -> Stats:
        """The totals as they are now."""
        return Stats(*astuple(self))

    def __sub__(self, before: Stats) -> Stats:
        return Stats(*(a - b for a, b in zip(astuple(self), astuple(before), strict=True)))

    @property
    def cost(self) -> Cost:
        """In the terms in which protocols declare theirs."""
        return Cost(self.rounds, self.sent, self.dealt, self.shared)
