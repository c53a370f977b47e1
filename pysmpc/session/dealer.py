"""The crypto provider's side and the holders' side of correlated randomness.

Every holder shares an AES key with the provider.  What is uniform comes from the
streams of those keys and is never sent.  Of what must satisfy a relation, all but the
last holder draw their shares, and the last is sent its own, the correction; or all
are sent the same.  The same class serves the owner of an input, who "deals" what is
left of the input.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import torch

from pysmpc.errors import ChannelError
from pysmpc.mpc.interfaces import QUESTIONS, End, Where
from pysmpc.ring.prg import EPOCH_BITS, KeySet
from pysmpc.session import ledger
from pysmpc.session.forks import Process
from pysmpc.session.transcript import Transcript, untold


class CorrectionStream(Protocol):
    """The way of corrections from the dealer to the holders."""

    def send(self, words: torch.Tensor, everyone: bool = False) -> None:
        """Dealer's end: to the last holder, or to every holder; does not wait for receivers."""

    def receive(self, words: int) -> torch.Tensor:
        """Holder's end."""
        ...


class LocalCorrections:
    """Dealer and all holders in one process."""

    def __init__(self) -> None:
        self._pending: deque[torch.Tensor] = deque()

    def send(self, words: torch.Tensor, everyone: bool = False) -> None:
        """Keep for `receive`."""
        self._pending.append(words)

    def receive(self, words: int) -> torch.Tensor:
        """What was sent first."""
        return self._pending.popleft()


class QueryChannel(Protocol):
    """The way of questions from the holders to the provider; its answers go by the feed.

    Needed where the protocols of a session ask (SecureNN) and the provider is a process
    of its own.  Each process is one end; a driver has neither and calls nothing.
    """

    def ask(self, cause: str, words: torch.Tensor) -> None:
        """Holder's end: send one message; does not wait."""

    def questions(self, cause: str, words: int) -> torch.Tensor:
        """Provider's end: wait for the next message of every holder, [holders, words]."""
        ...


class NoQueries:
    """Nobody to ask: for owners of inputs, and for a provider that only deals ahead."""

    def _refuse(self) -> ChannelError:
        return ChannelError(
            "these protocols ask the crypto provider to take part, but here it only deals ahead; "
            "use another protocol, or a runtime with an interactive provider"
        )

    def ask(self, cause: str, words: torch.Tensor) -> None:
        """Raises."""
        raise self._refuse()

    def questions(self, cause: str, words: int) -> torch.Tensor:
        """Raises."""
        raise self._refuse()


class SeedDealer:
    """Seeds to all, corrections to the last holder or to all.

    keys: of the hosted holders.  everyone: keys of all holders, in the process that
    deals.  receives: whether the last holder is hosted here.  count: told the bytes
    of every correction, once a receiver, in all processes alike.  desk, count_ask: for
    `ask`; the latter is told the bytes of one holder's question and of the whole answer.
    observer: told all that the provider was asked, where it runs.  transcript: which its keys follow.
    """

    dealt_ahead = False

    def __init__(
        self,
        keys: KeySet,
        everyone: KeySet | None,
        receives: bool,
        feed: CorrectionStream,
        count: Callable[[int], None],
        desk: QueryChannel | None = None,
        count_ask: Callable[[int, int], int] | None = None,
        holders: int = 0,
        transcript: Transcript = untold,
    ) -> None:
        self.keys = keys
        self._everyone = everyone
        self._receives = receives
        self._feed = feed
        self._count = count
        self._desk = desk or NoQueries()
        self._count_ask = count_ask or (lambda asked, answered: 0)
        self.where: Where | None = None
        self._holders = holders
        self.observer: Callable[[str, torch.Tensor, torch.Tensor], None] | None = None
        self._transcript = transcript
        self._next_stream = 0
        self._noted: list[tuple[int, int]] | None = None
        self._lock = threading.Lock()
        self.end = End()
        self._process = Process("this session")

    def check(self) -> None:
        """Raise PartyError in a forked process, and IntegrityError after a failed check: nothing is drawn or sent."""
        self._process.check()
        self.end.check()

    def streams(self, count: int = 1) -> int:
        """The first of `count` fresh stream numbers; equal in all processes.

        Raises where nothing more may be hidden: in a forked process, or after a failed check.
        """
        self.check()
        with self._lock:
            base = self._transcript.base
            if (self._next_stream + count) >> EPOCH_BITS:
                raise ChannelError("a session has used all of its stream numbers; make a new one")
            if self._noted is not None and (not self._noted or self._noted[-1][1] != base):
                self._noted.append((self._next_stream, base))
            first = self._next_stream + base
            self._next_stream += count
        return first

    @property
    def next_stream(self) -> int:
        """The number that `streams` gives next, but for its epoch: equal at the driver and at all workers."""
        return self._next_stream

    @property
    def next_number(self) -> int:
        """The number that `streams` gives next."""
        return self._next_stream + self._transcript.base

    @contextmanager
    def noting_epochs(self, epochs: list[tuple[int, int]]) -> Iterator[None]:
        """While within, tell `epochs` from which number on numbers begin with what."""
        self._noted = epochs
        try:
            yield
        finally:
            self._noted = None

    def corrections(
        self, words: int, deal: Callable[[KeySet, torch.Tensor], Any], into: torch.Tensor | None = None
    ) -> torch.Tensor | None:
        """Deal (where the dealer is), send, receive (where the receiver is).

        into: where they are wanted in the end, if they are made in this process.
        """
        return self._deal(words, deal, False, self._receives, into)

    def broadcast(self, words: int, deal: Callable[[KeySet, torch.Tensor], Any]) -> torch.Tensor | None:
        """As `corrections`, to every holder: counted once for each of `holders`."""
        return self._deal(words, deal, True, self.keys.rows > 0)

    def _deal(
        self,
        words: int,
        deal: Callable[[KeySet, torch.Tensor], Any],
        everyone: bool,
        receives: bool,
        into: torch.Tensor | None = None,
    ) -> torch.Tensor | None:
        self.check()
        with self._lock:
            self._count(8 * words * (self._holders if everyone else 1))
            if self._everyone is not None:
                out = torch.empty(words, dtype=torch.int64) if into is None else into
                deal(self._everyone, out)
                self._feed.send(out, everyone)
            return self._feed.receive(words) if receives else None

    def ask(
        self,
        message: torch.Tensor,
        cause: str,
        words: int,
        answer: Callable[[KeySet, torch.Tensor, torch.Tensor], Any],
        public: bool = False,
    ) -> torch.Tensor | None:
        """Ask (where holders are), answer (where the provider is), receive (where the receivers are)."""
        if cause not in QUESTIONS:
            raise ChannelError(f"'{cause}' is no question that the provider may be asked: {', '.join(QUESTIONS)}")
        self.check()
        with self._lock:
            rows, size = message.shape
            number = self._count_ask(8 * size, 8 * words * (self._holders if public else 1))
            if self.where and ledger.kept():
                ledger.note(self.where, cause, number, ((size,),), size, "provider")
            if self._everyone is None:
                for row in message:
                    self._desk.ask(cause, row)
            else:
                asked = message if rows else self._desk.questions(cause, size)
                out = torch.empty(words, dtype=torch.int64)
                answer(self._everyone, asked, out)
                if self.observer:
                    self.observer(cause, asked, out)
                if words:
                    self._feed.send(out, public)
            return self._feed.receive(words) if words and (rows if public else self._receives) else None
