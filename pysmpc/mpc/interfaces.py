"""What protocols need of the world: a channel, a dealer, and who is hosted here.

A protocol is a function of a `Party` and shares.  All processes of a session run the
same program, so message order and stream numbers agree without being sent.  A party
that hosts no holder (the provider, a driver) runs it too, on empty shares: no
function may decide anything by the value of an element.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass, field
from typing import Any, Protocol, TypeVar

import torch

from pysmpc.errors import IntegrityError
from pysmpc.ring.prg import KeySet


@dataclass(frozen=True)
class Cost:
    """Rounds, bytes sent by one holder, by the dealer, and by the owner of inputs.

    asked, answered: bytes that one holder sent to a provider that takes part, and that
    it sent back.
    """

    rounds: int = 0
    sent: int = 0
    dealt: int = 0
    shared: int = 0
    asked: int = 0
    answered: int = 0

    def __add__(self, other: Cost) -> Cost:
        return Cost(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))

    def __mul__(self, times: int) -> Cost:
        return Cost(*(a * times for a in astuple(self)))


#: Cost of what every holder computes alone.
LOCAL = Cost()

#: Why a channel may open something, and what is seen then; a channel refuses any other cause.
OPENING_REASONS = {
    "mask": "a factor of a product less a dealt mask",
    "truncate": "a dividend under a dealt mask",
    "compare": "a compared value, factors that go with it, or bits of the circuit, under dealt masks",
    "relu": "the input of a ReLU under a dealt mask",
    "function": "the argument of a nonlinear function under a dealt mask",
    "shuffle": "a value under a dealt mask, which a holder puts in an order of its own",
    "arrange": "of values in an order that nobody knows, which is less than which",
    "position": "a secret position under a dealt mask",
    "select": "a value to select under a dealt mask, and the bit under a dealt bit where it was not",
    "bits": "a value, or bits of it, under dealt masks",
    "check": "digests, a coin, and random sums of openings under dealt masks",
    "consent": "whether a holder consents to an opening: of its rules, not of the value",
    "reveal": "the value itself: somebody asked for it by name",
    "range": "whether a value left its range since the last opening: a word that is 0, or uniform where one did",
}

#: Why the holders may ask a provider that takes part, and what it sees then.
QUESTIONS = {
    "convert": "a value under a mask that the holders drew",
    "compare": "64 elements of Z_67: uniform, but for at most one zero at a uniform place",
    "position": "a position under a mask that the holders drew",
}

F = TypeVar("F", bound=Callable[..., Any])


def declares_openings(*causes: str, asks: tuple[str, ...] = ()) -> Callable[[F], F]:
    """Declare for what a protocol opens something, or asks the provider; tests hold the ledger against it."""
    unknown = (set(causes) - set(OPENING_REASONS)) | (set(asks) - set(QUESTIONS))
    if unknown:
        raise ValueError(f"no such reason in OPENING_REASONS, or question in QUESTIONS: {', '.join(sorted(unknown))}")

    def declare(protocol: F) -> F:
        protocol.__dict__.update(opens=causes, asks=asks)
        return protocol

    return declare


def opens_as(*parts: Callable[..., Any]) -> Callable[[F], F]:
    """Declare what the protocols declare that a protocol is made of."""
    for part in parts:
        if not callable(part):
            raise TypeError(f"{part!r} is no protocol: an operation is derived of what stands before it in the suite")
    causes, asks = (dict.fromkeys(each for p in parts for each in getattr(p, what, ())) for what in ("opens", "asks"))
    return declares_openings(*causes, asks=tuple(asks))


def opening(holders: int, words: int) -> Cost:
    """One round in which each holder sends `words` ring words to every other."""
    return Cost(1, 8 * words * (holders - 1))


@dataclass(frozen=True)
class Where:
    """Whose channel it is: serial number and holders of the session, and those hosted here."""

    session: int
    holders: tuple[str, ...]
    hosted: tuple[str, ...]


@dataclass
class End:
    """Whether a session goes on: one object for its channel, its dealers and its lock.

    reason: why it ended, "" while it goes on.  After a failed check nobody may send
    anything more: what a holder altered must not find its way into another message.
    """

    reason: str = ""

    def check(self) -> None:
        """Raise IntegrityError if it has ended."""
        if self.reason:
            raise IntegrityError(f"this session ended when {self.reason}; start a new one")


def asking(holders: int, question: int, answer: int, public: bool = False) -> Cost:
    """Each holder sends `question` words to the provider, which sends `answer` words to one, or to all."""
    return Cost(1 + (answer > 0), asked=8 * question, answered=8 * answer * (holders if public else 1))


class Channel(Protocol):
    """Messages between the holders; one call is one round."""

    where: Where | None  # set by the session
    end: End  # the same

    def open(
        self, messages: Sequence[torch.Tensor], cause: str, shapes: Sequence[tuple[int, ...]] | None = None
    ) -> list[torch.Tensor]:
        """Sum over all holders of each [rows, m] message: [1 or 0, m].

        cause: one of CAUSES.  shapes: what the messages stand for, for the ledger.
        """
        ...

    def open_xor(self, messages: Sequence[torch.Tensor], cause: str) -> list[torch.Tensor]:
        """Exclusive or over all holders of each [rows, m] message."""
        ...

    def open_both(
        self,
        sums: Sequence[torch.Tensor],
        bits: Sequence[torch.Tensor],
        cause: str,
        shapes: Sequence[tuple[int, ...]] | None = None,
    ) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """`open` of the first messages and `open_xor` of the others, in one round; shapes of the first."""
        ...

    def open_lanes(
        self,
        sums: Sequence[torch.Tensor],
        lanes: Sequence[torch.Tensor],
        cause: str,
        shapes: Sequence[tuple[int, ...]] | None = None,
    ) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """`open` of the first messages and, of the others, sums of the four numbers mod 2^16 in each word, in one
        round; shapes of both."""
        ...

    def gather(
        self, message: torch.Tensor, cause: str, shapes: Sequence[tuple[int, ...]] | None = None
    ) -> torch.Tensor:
        """The [rows, m] messages of all holders, [holders or 0, m], in an order that is the same in every round."""
        ...


class Dealer(Protocol):
    """Correlated randomness: seeds to all holders, corrections to one or to all."""

    keys: KeySet  # of the hosted holders
    where: Where | None  # set by the session
    end: End  # the same
    dealt_ahead: bool  # serves one program, once: its corrections are on disk, or only noted to be dealt later

    def streams(self, count: int = 1) -> int:
        """The first of `count` stream numbers that nobody used before."""
        ...

    def corrections(
        self, words: int, deal: Callable[[KeySet, torch.Tensor], Any], into: torch.Tensor | None = None
    ) -> torch.Tensor | None:
        """Where the dealer runs: deal(keys of all holders, out [words]), and send.

        Returns the corrections to the process that hosts their receiver.  into: where that process wants them
        in the end; they are dealt there, if it is the dealer's.
        """

    def broadcast(self, words: int, deal: Callable[[KeySet, torch.Tensor], Any]) -> torch.Tensor | None:
        """As `corrections`, but the same words go to every holder; None where none is hosted."""

    def ask(
        self,
        message: torch.Tensor,
        cause: str,
        words: int,
        answer: Callable[[KeySet, torch.Tensor, torch.Tensor], Any],
        public: bool = False,
    ) -> torch.Tensor | None:
        """Corrections that depend on what the holders have (SecureNN's third party).

        cause: one of QUESTIONS.

        1. Every holder sends its row of `message` [rows, m] to the provider: one round.
        2. Where the provider runs: answer(keys of all holders, messages [holders, m],
           out [words]); it sends `out` to the receiver of corrections, or (public) to
           every holder: one round, and none for words = 0.

        Returns `out` to the processes that host a receiver, None to the others.  A
        driver has neither rows nor answers: it sends and waits for nothing.
        """


@dataclass
class Party:
    """One process's part in a session.

    Zero sharing: holder i knows keys i and i + 1 of a ring of keys, so that the
    differences of the two streams are fresh shares of zero (`own`, `next`).
    """

    holders: int
    ranks: tuple[int, ...]  # those hosted here
    channel: Channel
    dealer: Dealer  # correlated randomness
    owner: Dealer  # who shares plain inputs: the same mechanism, with keys of its own
    own: KeySet
    next: KeySet
    notary: KeySet | None = None  # a key of the owner of inputs and the dealer, for authenticated inputs
    integrity: list[Any] = field(default_factory=list)  # pysmpc.mpc.mac keeps its state here
    end: End = field(default_factory=End)

    @property
    def rows(self) -> int:
        """Hosted holders."""
        return len(self.ranks)

    @property
    def lead(self) -> int | None:
        """Row of the holder who adds public constants, where it is hosted."""
        return self.ranks.index(0) if 0 in self.ranks else None
