"""Every party in a thread of its own, with links in memory.

The setting closest to real machines without sockets: each holder has its own share
alone (one row), the provider has none and deals ahead of everybody, waiting for
nobody but where the protocols ask it something.  Used by the test suite to run each protocol as it runs on a network.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch

from pysmpc.errors import ChannelError
from pysmpc.mpc.interfaces import Dealer
from pysmpc.mpc.suite import Suite, default
from pysmpc.ring.prg import KeySet, fresh_key
from pysmpc.session.builder import Builder
from pysmpc.session.channel import Link, Linked
from pysmpc.session.session import Session

T = TypeVar("T")
Queue = queue.SimpleQueue[Any]
PATIENCE = 60.0


def _get(source: queue.SimpleQueue[Any], what: str) -> Any:
    try:
        item = source.get(timeout=PATIENCE)
    except queue.Empty:
        raise ChannelError(f"no message for {PATIENCE:.0f} s: {what} is gone or at another point") from None
    if isinstance(item, BaseException):
        raise ChannelError(f"{what} stopped with an error") from item
    return item


class MemoryLink:
    """One end of a connection: a queue in, a queue out."""

    def __init__(self, peer: str, inbox: queue.SimpleQueue[Any], outbox: queue.SimpleQueue[Any]) -> None:
        self._peer, self._in, self._out = peer, inbox, outbox

    def send(self, cause: str, words: torch.Tensor) -> None:
        """Never waits.  The words are passed on as they are: nobody writes to them again."""
        self._out.put((cause, words))

    def receive(self) -> tuple[str, torch.Tensor]:
        """Wait for the peer's next message."""
        cause, words = _get(self._in, self._peer)
        return cause, words

    def fail(self, error: BaseException) -> None:
        """Tell the peer that this side has stopped."""
        self._out.put(error)


class MemoryCorrections:
    """Corrections from the provider's thread to the holders': one party's end, with a queue a holder."""

    def __init__(self, queues: Sequence[queue.SimpleQueue[Any]], rank: int | None) -> None:
        self._queues, self._rank = queues, rank

    def send(self, words: torch.Tensor, everyone: bool = False) -> None:
        """Never waits."""
        for each in self._queues if everyone else self._queues[-1:]:
            each.put(words)

    def receive(self, words: int) -> torch.Tensor:
        """Wait for the provider."""
        assert self._rank is not None
        found = _get(self._queues[self._rank], "the provider")
        if found.numel() != words:
            raise ChannelError(f"expected {words} corrections, the provider sent {found.numel()}: programs differ")
        return found

    def fail(self, error: BaseException) -> None:
        """Tell the receivers that the sender has stopped."""
        for each in self._queues:
            each.put(error)


class MemoryQueries:
    """Questions to the provider's thread: one party's end, with a queue a holder."""

    def __init__(self, queues: Sequence[Queue], rank: int | None) -> None:
        self._queues, self._rank = queues, rank

    def ask(self, cause: str, words: torch.Tensor) -> None:
        """Never waits."""
        assert self._rank is not None
        self._queues[self._rank].put((cause, words))

    def questions(self, cause: str, words: int) -> torch.Tensor:
        """Wait for every holder."""
        rows = []
        for rank, source in enumerate(self._queues):
            theirs, row = _get(source, f"holder {rank}")
            if theirs != cause or row.numel() != words:
                raise ChannelError(
                    f"the provider is at '{cause}' with {words} words, holder {rank} at '{theirs}' with "
                    f"{row.numel()}: the parties run different programs"
                )
            rows.append(row)
        return torch.stack(rows)

    def fail(self, error: BaseException) -> None:
        """Tell the provider that this holder has stopped."""
        if self._rank is not None:
            self._queues[self._rank].put(error)


class Table:
    """Where the threads say public words to one another."""

    def __init__(self, parties: int) -> None:
        self._said: list[Any] = [None] * parties
        self._barrier = threading.Barrier(parties, timeout=PATIENCE)

    def gather(self, index: int, words: torch.Tensor) -> list[torch.Tensor]:
        """Every party's words; waits for all."""
        self._said[index] = words
        try:
            self._barrier.wait()
            said = list(self._said)
            self._barrier.wait()
        except threading.BrokenBarrierError:
            raise ChannelError("another party stopped, or is at another point") from None
        return said

    def fail(self, error: BaseException) -> None:
        """Nobody need wait."""
        self._barrier.abort()


def sessions(
    holders: Sequence[str],
    provider: str = "crypto_provider",
    suite: Suite = default,
    dealers: Callable[[int | None, Callable[[int], None]], Dealer] | None = None,
) -> list[Session]:
    """One session object a party: the holders in order, then the provider.

    The first holder owns the inputs: pass values to `share` there and None elsewhere.
    dealers: makes that of a holder (or of the provider: None) in place of a provider that
    deals while the program runs (`offline.dealers`).
    """
    n = len(holders)
    boxes = {(i, j): queue.SimpleQueue[Any]() for i in range(n) for j in range(n) if i != j}
    asked_queues, dealt_queues, shared_queues = ([Queue() for _ in range(n)] for _ in range(3))
    dealer_keys, owner_keys, ring_keys = ([fresh_key() for _ in range(n)] for _ in range(3))

    notary = fresh_key()
    table = Table(n + 1)

    def session(rank: int | None) -> Session:
        ranks = () if rank is None else (rank,)
        build = Builder(holders, provider, ranks, suite)
        dealt_feed, shared_feed = MemoryCorrections(dealt_queues, rank), MemoryCorrections(shared_queues, rank)
        desk = MemoryQueries(asked_queues, rank)
        links: list[Link] = [
            MemoryLink(holders[j], boxes[j, i], boxes[i, j]) for i in ranks for j in range(n) if j != i
        ]

        def keys(each: list[bytes], deals: bool) -> tuple[KeySet, KeySet | None]:
            return build.keys([each[i] for i in ranks]), KeySet(each) if deals else None

        party = build.party(
            channel=Linked(n, build.stats, links),
            dealer=dealers(rank, build.stats.count_dealt)
            if dealers
            else build.dealer(dealt_feed, *keys(dealer_keys, rank is None), desk),
            owner=build.owner(shared_feed, *keys(owner_keys, rank == 0)),
            ring=(KeySet([ring_keys[i] for i in ranks]), KeySet([ring_keys[(i + 1) % n] for i in ranks])),
            notary=KeySet([notary]) if not rank else KeySet([]),
        )
        found = Session.built(build, party)
        found.gather = lambda words: table.gather(n if rank is None else rank, words)  # type: ignore[method-assign]
        found.links = links  # type: ignore[attr-defined]
        found.desk = desk  # type: ignore[attr-defined]
        found.feeds = [*([dealt_feed] if rank is None else [shared_feed] if rank == 0 else []), desk, table]  # type: ignore[attr-defined]
        return found

    return [session(rank) for rank in range(n)] + [session(None)]


def run(parties: Sequence[Session], program: Callable[[Session], T]) -> list[T]:
    """program(session) in a thread a party; results in the order of the parties.

    The first error that is not the echo of another party's is raised here.
    """
    results: list[Any] = [None] * len(parties)
    errors: list[BaseException] = []

    def work(index: int) -> None:
        try:
            results[index] = program(parties[index])
        except BaseException as error:
            errors.append(error)
            for end in [*parties[index].links, *parties[index].feeds]:  # type: ignore[attr-defined]
                end.fail(error)

    threads = [threading.Thread(target=work, args=(i,), daemon=True) for i in range(len(parties))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise next((e for e in errors if not isinstance(e, ChannelError)), errors[0])
    return results
