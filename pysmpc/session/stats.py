"""What a session's messages cost: rounds and bytes, counted where they are sent."""

from __future__ import annotations

from dataclasses import astuple, dataclass

from pysmpc.mpc.interfaces import Cost


@dataclass
class Stats:
    """Totals of a session.

    rounds: message rounds between the holders, and to and from a provider that takes
    part.  sent: bytes that one holder sent to the others.  dealt: bytes that the crypto
    provider sent ahead.  shared: bytes that owners of inputs sent.  asked: bytes that
    one holder sent to the provider.  answered: bytes that it sent back.
    """

    rounds: int = 0
    sent: int = 0
    dealt: int = 0
    shared: int = 0
    asked: int = 0
    answered: int = 0

    def count_dealt(self, count: int) -> None:
        """Bytes from the crypto provider, ahead."""
        self.dealt += count

    def count_shared(self, count: int) -> None:
        """Bytes from an owner of inputs."""
        self.shared += count

    def count_ask(self, asked: int, answered: int) -> int:
        """A question of so many bytes a holder, and the answer; the number of the question's round."""
        self.rounds += 1 + (answered > 0)
        self.asked += asked
        self.answered += answered
        return self.rounds - (answered > 0)

    def copy(self) -> Stats:
        """The totals as they are now."""
        return Stats(*astuple(self))

    def __add__(self, other: Stats) -> Stats:
        return Stats(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))

    def add(self, other: Stats) -> None:
        """Other totals on top."""
        for name, value in vars(other).items():
            setattr(self, name, getattr(self, name) + value)

    def __sub__(self, before: Stats) -> Stats:
        return Stats(*(a - b for a, b in zip(astuple(self), astuple(before), strict=True)))

    @property
    def cost(self) -> Cost:
        """In the terms in which protocols declare theirs."""
        return Cost(*astuple(self))
