"""Dealing ahead to disk: a dry run finds out what a program asks for, `deal` writes it,
`StoreDealer` serves it.

The provider needs no secret to know what to deal, so a dry run is the program on empty
shares.  Every request is kept with the function that answers it, which takes the keys
of all holders; a run is dealt by calling them in order with fresh keys.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from pysmpc.errors import MaterialError
from pysmpc.mpc.suite import Suite, default
from pysmpc.ring.prg import KeySet, fresh_key
from pysmpc.session.builder import Builder
from pysmpc.session.channel import Shapes, _Counting, all_shapes
from pysmpc.session.dealer import LocalCorrections, SeedDealer
from pysmpc.session.session import Session
from pysmpc.session.store import Header, Request, Store, Writer, program_digest

Deal = Callable[[KeySet, torch.Tensor], Any]


def kind_of(deal: Deal) -> str:
    """The protocol that asks: module and function, for messages and as a check."""
    while isinstance(deal, functools.partial):
        deal = deal.func
    module = deal.__module__.rpartition(".")[2]
    name = deal.__qualname__.partition(".")[0]
    return module if name.startswith("_") else f"{module}.{name}"


class Recorder(SeedDealer):
    """Notes what a dealer is asked for."""

    dealt_ahead = True

    def __init__(self, count: Callable[[int], None], holders: int) -> None:
        super().__init__(KeySet([]), None, False, LocalCorrections(), count, holders=holders)
        self.requests: list[Request] = []
        self.deals: list[Deal] = []

    def _deal(
        self, words: int, deal: Deal, everyone: bool, receives: bool, into: torch.Tensor | None = None
    ) -> torch.Tensor | None:
        with self._lock:
            self.requests.append(Request(self._next_stream, kind_of(deal), words, everyone))
            self.deals.append(deal)
        return super()._deal(words, deal, everyone, False)

    def ask(self, *args: Any, **kwargs: Any) -> torch.Tensor | None:
        """Raises: an answer depends on the question."""
        raise MaterialError(
            "this protocol asks the crypto provider while it runs, and its answers cannot be dealt ahead; "
            "use another protocol"
        )


class Dry(_Counting):
    """A channel to nobody; what is revealed is zeros."""

    def open(self, messages: Sequence[torch.Tensor], cause: str, shapes: Shapes = None) -> list[torch.Tensor]:
        """Empty words, or a row of zeros for what the program reveals."""
        self.count(messages, cause, shapes)
        return [torch.zeros((int(cause == "reveal"), m.shape[1]), dtype=torch.int64) for m in messages]

    def open_xor(self, messages: Sequence[torch.Tensor], cause: str) -> list[torch.Tensor]:
        """Empty words."""
        return self.open(messages, cause)

    def gather(self, message: torch.Tensor, cause: str, shapes: Shapes = None) -> torch.Tensor:
        """No rows."""
        self.count([message], cause, shapes)
        return message[:0]

    def open_both(
        self, sums: Sequence[torch.Tensor], bits: Sequence[torch.Tensor], cause: str, shapes: Shapes = None
    ) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """Empty words."""
        opened = self.open([*sums, *bits], cause, all_shapes(shapes, bits))
        return opened[: len(sums)], opened[len(sums) :]

    def open_lanes(
        self, sums: Sequence[torch.Tensor], lanes: Sequence[torch.Tensor], cause: str, shapes: Shapes = None
    ) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """Empty words."""
        opened = self.open([*sums, *lanes], cause, shapes)
        return opened[: len(sums)], opened[len(sums) :]


def dry_session(holders: Sequence[str], provider: str = "crypto_provider", suite: Suite = default) -> Session:
    """A session that hosts nobody: a program on it costs what it costs, and reveals zeros."""
    build = Builder(holders, provider, suite=suite)
    party = build.party(
        channel=Dry(build.n, build.stats),
        dealer=Recorder(build.stats.count_dealt, build.n),
    )
    return Session.built(build, party)


def deal(session: Session, directory: Path, runs: int = 1) -> list[Path]:
    """Deal all that a dry session asked for, `runs` times, into a file a holder; their paths.

    directory is made, for its owner alone.  Raises MaterialError where a file is there.
    """
    recorder = session.party.dealer
    if not isinstance(recorder, Recorder):
        raise MaterialError("only what a dry run recorded can be dealt: with sy.plan(...) as planned: ...")
    if runs < 1:
        raise MaterialError(f"runs must be 1 or more, not {runs}")
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    requests = recorder.requests
    common = (os.urandom(16), program_digest(requests), list(session.holders), session.provider)
    writers: list[Writer] = []
    try:
        for rank in range(len(session.holders)):
            writers.append(Writer(directory, Header(*common, rank, runs, requests)))
        for run in range(runs):
            keys = [fresh_key() for _ in writers]
            everyone = KeySet(keys)
            for writer, key in zip(writers, keys, strict=True):
                writer.key(run, key)
            for place, (request, answer) in enumerate(zip(requests, recorder.deals, strict=True)):
                out = torch.empty(request.words, dtype=torch.int64)
                answer(everyone, out)
                for writer in writers:
                    writer.words(run, place, out)
        for writer in writers:
            writer.finish()
    except BaseException:
        for writer in writers:
            writer.abandon()
        raise
    return [writer.path for writer in writers]


class StoreDealer(SeedDealer):
    """Serves the holders hosted here from their stores, at the run that was taken."""

    dealt_ahead = True

    def __init__(self, stores: Sequence[Store], count: Callable[[int], None]) -> None:
        header = stores[0].header
        ranks, last = [s.header.rank for s in stores], len(header.holders) - 1
        lead, target = (ranks.index(r) if r in ranks else -1 for r in (0, last))
        keys = KeySet([s.key for s in stores], lead, target)
        super().__init__(keys, None, target >= 0, LocalCorrections(), count, holders=len(header.holders))
        self._stores = stores
        self._place = 0

    def _deal(
        self, words: int, deal: Deal, everyone: bool, receives: bool, into: torch.Tensor | None = None
    ) -> torch.Tensor | None:
        self.check()
        with self._lock:
            wanted = Request(self._next_stream, kind_of(deal), words, everyone)
            requests, place = self._stores[0].header.requests, self._place
            if place == len(requests):
                raise MaterialError(
                    f"the material runs short: {wanted} are missing, after all {place} corrections of the program "
                    "that it was dealt for; deal for the program that is run"
                )
            if wanted != requests[place]:
                raise MaterialError(
                    f"the material is of another program: correction {place + 1} is {requests[place]} at stream "
                    f"{requests[place].stream}, and {wanted} at stream {wanted.stream} are asked for"
                )
            found = [store.words(place) for store in self._stores]
            self._place += 1
            self._count(8 * words * (self._holders if everyone else 1))
            return found[-1] if receives else None

    def ask(self, *args: Any, **kwargs: Any) -> torch.Tensor | None:
        """Raises: an answer depends on the question."""
        raise MaterialError(
            "this protocol asks the crypto provider while it runs, which material on disk cannot answer"
        )


def dealers(stores: Sequence[Store]) -> Callable[[int | None, Callable[[int], None]], SeedDealer]:
    """For `threads.sessions`: each holder has its store, and the provider nothing to do."""

    def dealer(rank: int | None, count: Callable[[int], None]) -> SeedDealer:
        if rank is not None:
            return StoreDealer([stores[rank]], count)
        return SeedDealer(KeySet([]), None, False, LocalCorrections(), count, holders=len(stores))

    return dealer
