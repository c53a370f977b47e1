"""A transport written as docs/adding.md says: every party's messages go through pipes of the operating system.

Parties are threads of this process (`threads.run` starts them), and nothing but bytes passes between them: a frame is
the cause of a message, and its words. Keys are handed out when the sessions are made, as in `transport/threads.py`.
"""

import queue
import threading
from multiprocessing import Pipe

import torch

from pysmpc.errors import ChannelError
from pysmpc.mpc.suite import default
from pysmpc.ring.prg import KeySet, fresh_key
from pysmpc.session.builder import Builder
from pysmpc.session.channel import Linked
from pysmpc.session.session import Session

PATIENCE = 30.0
FAILED = "failed"


class End:
    """One end of a connection: a `Link` to another holder, and what the other ways are made of."""

    def __init__(self, connection, peer):
        self.peer, self._connection, self._frames = peer, connection, queue.SimpleQueue()
        threading.Thread(target=self._write, daemon=True).start()

    def _write(self):
        """Frames leave in order, while the party computes on: a full pipe holds nobody up."""
        while True:
            self._connection.send_bytes(self._frames.get())

    def send(self, cause, words):
        self._frames.put(cause.encode() + b"\0" + words.contiguous().numpy().tobytes())

    def receive(self):
        if not self._connection.poll(PATIENCE):
            raise ChannelError(f"no message from {self.peer} for {PATIENCE:.0f} s")
        cause, _, body = self._connection.recv_bytes().partition(b"\0")
        if cause.decode() == FAILED:
            raise ChannelError(f"{self.peer} stopped: {body.decode()}")
        return cause.decode(), torch.frombuffer(bytearray(body), dtype=torch.int64) if body else torch.empty(0).long()

    def expect(self, cause, words):
        """The next message, which must be for that reason and of so many words."""
        theirs, found = self.receive()
        if (theirs, found.numel()) != (cause, words):
            raise ChannelError(f"{self.peer} is at '{theirs}', not at '{cause}': the parties run different programs")
        return found

    def fail(self, error):
        self._frames.put(FAILED.encode() + b"\0" + type(error).__name__.encode())


class Corrections:
    """From whoever deals to the holders; the last of them receives corrections, and all what is broadcast."""

    def __init__(self, ends, inbox=None):
        self._ends = ends  # at whoever deals, one a holder, herself among them; at another holder, none
        self._inbox = inbox  # at a holder

    def send(self, words, everyone=False):
        for end in self._ends if everyone else self._ends[-1:]:
            end.send("corrections", words)

    def receive(self, words):
        return self._inbox.expect("corrections", words)

    def fail(self, error):
        for end in self._ends:
            end.fail(error)


class Questions:
    """From the holders to a provider that takes part."""

    def __init__(self, ends):
        self._ends = ends  # at the provider, one a holder; at a holder, one

    def ask(self, cause, words):
        self._ends[0].send(cause, words)

    def questions(self, cause, words):
        return torch.stack([end.expect(cause, words) for end in self._ends])

    def fail(self, error):
        for end in self._ends:
            end.fail(error)


def _ways(holders, source):
    """(Ends at the source, ends at the holders) of connections of one party with each holder but itself."""
    pairs = [Pipe() for _ in holders]
    return [End(a, name) for (a, _), name in zip(pairs, holders, strict=True)], [End(b, source) for _, b in pairs]


def sessions(holders, provider="provider", suite=default):
    """One session object a party: the holders in order, then the provider."""
    n = len(holders)
    links = {}
    for i in range(n):
        for j in range(i + 1, n):
            a, b = Pipe()
            links[i, j], links[j, i] = End(a, holders[j]), End(b, holders[i])
    dealt, asked, shared = (_ways(holders, source) for source in (provider, provider, holders[0]))
    dealer_keys, owner_keys, ring_keys = ([fresh_key() for _ in holders] for _ in range(3))
    notary = fresh_key()

    def session(rank):
        """rank: of a holder; None for the provider."""
        ranks = () if rank is None else (rank,)
        build = Builder(holders, provider, ranks, suite)
        feed = Corrections(dealt[0]) if rank is None else Corrections([], dealt[1][rank])
        desk = Questions(asked[1][rank : rank + 1] if rank is not None else asked[0])
        inputs = Corrections(shared[0] if rank == 0 else [], None if rank is None else shared[1][rank])
        mine = [links[rank, j] for j in range(n) if rank is not None and j != rank]
        own, everyone = [dealer_keys[i] for i in ranks], KeySet(dealer_keys) if rank is None else None
        party = build.party(
            channel=Linked(n, build.stats, mine),
            dealer=build.dealer(feed, build.keys(own), everyone, desk),
            owner=build.owner(
                inputs, build.keys([owner_keys[i] for i in ranks]), KeySet(owner_keys) if rank == 0 else None
            ),
            ring=(KeySet([ring_keys[i] for i in ranks]), KeySet([ring_keys[(i + 1) % n] for i in ranks])),
            notary=KeySet([] if rank else [notary]),
        )
        found = Session.built(build, party)
        found.links, found.feeds = mine, [feed, desk, inputs]  # whom `threads.run` tells of an error
        return found

    return [*map(session, range(n)), session(None)]
