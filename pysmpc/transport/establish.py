"""How parties of different machines come to a session: connections, then keys.

Every two parties agree on keys over their own connection, made by one end from the
operating system's randomness.  A driver learns none but those for its own inputs.  Those
that it does not know follow the transcript: parties that it tells different programs have
no masks in common.
"""

from __future__ import annotations

import select
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from pysmpc.errors import ChannelError, PartyError
from pysmpc.ring.prg import KEY_BYTES, KeySet, fresh_key
from pysmpc.session.builder import Builder
from pysmpc.session.dealer import LocalCorrections, SeedDealer
from pysmpc.session.session import Session
from pysmpc.session.transcript import Transcript
from pysmpc.transport.corrections import (
    HolderQueries,
    OwnCorrections,
    PeerCorrections,
    ProviderQueries,
    ReceivedCorrections,
    SentCorrections,
)
from pysmpc.transport.links import Networked
from pysmpc.transport.tls import Tls, dial
from pysmpc.transport.wire import Cancelled, Stream

PEER, FEED, DESK = "peer", "feed", "desk"
PATIENCE = 8.0  # seconds for all parties to come together
_LEFT = getattr(select, "POLLRDHUP", 0)  # beside errors, which are always told


class PairKeys(msgspec.Struct, tag=True, array_like=True, forbid_unknown_fields=True):
    """From one holder to another: for what the sender shares, and (for her predecessor) of the ring."""

    owner: bytes
    ring: bytes


class DealerKey(msgspec.Struct, tag=True, array_like=True, forbid_unknown_fields=True):
    """From the provider to a holder: for what it deals; then another, for authenticated inputs of the holder's."""

    key: bytes


class Rendezvous:
    """Connections of peers that came before the session they are for."""

    LIMIT = 256

    def __init__(self) -> None:
        self._parked: dict[tuple[str, str, str], tuple[float, Stream]] = {}
        self._change = threading.Condition()
        self._closed = False
        self._over: deque[str] = deque(maxlen=self.LIMIT)

    def park(self, name: str, role: str, session: str, stream: Stream) -> None:
        """Keep a connection for a while."""
        with self._change:
            self.sweep()
            key = (name, role, session)
            if self._closed or session in self._over or key in self._parked or len(self._parked) >= self.LIMIT:
                stream.close()
                return
            self._parked[key] = time.monotonic(), stream
            self._change.notify_all()

    def sweep(self) -> None:
        """Close what nobody came for, and what its peer has left: then that one's session is over."""
        with self._change:
            old = time.monotonic() - 2 * PATIENCE
            poller = select.poll()
            for _, stream in self._parked.values():
                poller.register(stream.fileno(), _LEFT)
            left = {descriptor for descriptor, _ in poller.poll(0)}
            for key, (since, stream) in list(self._parked.items()):
                if since < old or stream.fileno() in left:
                    self._parked.pop(key)[1].close()

    def forget(self, session: str) -> None:
        """A session is over: what came for it, or still comes, is closed."""
        with self._change:
            self._over.append(session)
            for key in [key for key in self._parked if key[2] == session]:
                self._parked.pop(key)[1].close()

    def take(self, name: str, role: str, session: str, stopped: Callable[[], bool]) -> Stream:
        """The connection of a peer, once it is there."""
        until = time.monotonic() + PATIENCE
        with self._change:
            while (name, role, session) not in self._parked:
                if stopped():
                    raise Cancelled("the session ended before it began")
                if time.monotonic() > until:
                    raise ChannelError(f"{name} did not connect within {PATIENCE:.0f} s")
                self._change.wait(0.1)
            return self._parked.pop((name, role, session))[1]

    def close(self) -> None:
        """Drop all, and whatever still comes."""
        with self._change:
            self._closed = True
            for _, stream in self._parked.values():
                stream.close()
            self._parked.clear()


@dataclass
class PeerSession:
    """A party's end of a session.

    owners: the dealers of those who may share inputs.  notaries: the key of each of them and
    the provider, where this is one of the two.  transcript: which all keys but the driver's follow.
    """

    session: Session
    transcript: Transcript
    owners: dict[str, SeedDealer]
    notaries: dict[str, KeySet]
    inputs: LocalCorrections  # where corrections of the driver's inputs are put for the receiver
    streams: list[Stream] = field(default_factory=list)
    feed: ReceivedCorrections | None = None
    dealing: SentCorrections | None = None

    def confirm(self) -> None:
        """Let the provider, where this is it, tell every holder what it was told to do."""
        if self.dealing is not None:
            self.dealing.confirm()

    def confirmed(self) -> None:
        """Wait until the provider has told the same, where this is a holder; ChannelError if it tells another thing."""
        if self.feed is not None:
            self.feed.confirmed()

    def close(self) -> None:
        """Leave."""
        if self.feed is not None:
            self.feed.close()
        for stream in self.streams:
            stream.close()

    @property
    def traffic(self) -> tuple[int, int]:
        """Bytes to and from the other parties, with headers, before encryption."""
        return sum(s.sent for s in self.streams), sum(s.received for s in self.streams)


def establish(
    me: str,
    driver: str,
    session: str,
    holders: Sequence[str],
    provider: str,
    owner_key: bytes,
    tls: Tls,
    addresses: Mapping[str, str],
    meeting: Rendezvous,
    wake: int,
    stopped: Callable[[], bool],
    checked: bool = False,
) -> PeerSession:
    """Meet the other parties of a session, and agree on keys with each.  checked: as the driver tells each of them."""
    build = Builder(holders, provider, [rank for rank, name in enumerate(holders) if name == me])
    if len(owner_key) != KEY_BYTES:
        raise PartyError("a key of the wrong length")
    order = [*holders, provider]
    mine = order.index(me)
    found: dict[tuple[str, str], Stream] = {}
    try:
        for other in order[:mine]:
            for role in _roles(me, other, provider):
                found[other, role] = dial(tls, other, addresses[other], role, session)
        for other in order[mine + 1 :]:
            for role in _roles(me, other, provider):
                found[other, role] = meeting.take(other, role, session, stopped)
        for stream in found.values():
            stream.wake = wake
        facts = (session, driver, *holders, provider, *(["checked"] if checked else []))
        if me == provider:
            return _as_provider(build, driver, owner_key, found, facts, checked)
        return _as_holder(build, driver, owner_key, found, wake, facts, checked)
    except BaseException:
        for stream in found.values():
            stream.close()
        raise


def _roles(a: str, b: str, provider: str) -> tuple[str, ...]:
    return (FEED, DESK) if provider in (a, b) else (PEER,)


def _uncounted(count: int) -> None:
    """A holder's own data cost no byte: her correction is to her own share."""


def _as_provider(
    build: Builder,
    driver: str,
    owner_key: bytes,
    found: Mapping[tuple[str, str], Stream],
    facts: Sequence[str],
    checked: bool,
) -> PeerSession:
    holders = build.holders
    keys, notary = [fresh_key() for _ in holders], {name: fresh_key() for name in holders}
    for name, key in zip(holders, keys, strict=True):
        found[name, FEED].send(DealerKey(key))
        found[name, FEED].send(DealerKey(notary[name]))
    dealing = KeySet(keys)
    notaries = {name: KeySet([key]) for name, key in notary.items()}
    transcript = Transcript(*facts, keys=[dealing, *notaries.values()])
    notaries[driver] = KeySet([owner_key])
    desk = ProviderQueries([found[name, DESK] for name in holders], transcript)
    feed = SentCorrections([found[name, FEED] for name in holders], transcript)
    owners = {
        name: SeedDealer(KeySet([]), None, False, LocalCorrections(), _uncounted, transcript=transcript)
        for name in holders
    }
    owners[driver] = build.owner()
    party = build.party(
        dealer=build.dealer(feed, None, dealing, desk, transcript), owner=owners[driver], notary=notaries[driver]
    )
    session = Session.built(build, party, tested=checked)
    return PeerSession(session, transcript, owners, notaries, LocalCorrections(), list(found.values()), None, feed)


def _as_holder(
    build: Builder,
    driver: str,
    owner_key: bytes,
    found: Mapping[tuple[str, str], Stream],
    wake: int,
    facts: Sequence[str],
    checked: bool,
) -> PeerSession:
    n, holders, provider, [rank] = build.n, build.holders, build.provider, build.ranks
    peers = {name: found[name, PEER] for name in holders if (name, PEER) in found}

    # 1. keys with each holder: of what either will share, and the ring's
    mine = {name: fresh_key() for name in holders}
    ring = fresh_key()
    theirs, after = _exchanged(mine, ring, peers, holders[rank - 1], holders[(rank + 1) % n])
    # 2. the provider's
    dealer_key, notary = (_key(found[provider, FEED].receive(DealerKey, PATIENCE).key, provider) for _ in range(2))

    # 3. all of them follow what the parties are told; the driver's own do not, as it knows them
    sharing = {name: KeySet([key]) for name, key in theirs.items()}
    # the last key of a set is that of the holder who is corrected: here the owner herself
    everyone, own = KeySet([*(mine[name] for name in peers), mine[holders[rank]]]), KeySet([mine[holders[rank]]], -1, 0)
    dealing, noted = build.keys([dealer_key]), KeySet([notary])
    ring_own, ring_next = KeySet([ring]), KeySet([after])
    followers = [*sharing.values(), everyone, own, dealing, noted, ring_own, ring_next]
    transcript = Transcript(*facts, keys=followers)

    inputs = LocalCorrections()
    owners = {
        name: SeedDealer(keys, None, False, PeerCorrections(peers[name], transcript), _uncounted, transcript=transcript)
        for name, keys in sharing.items()
    }
    to_peers = OwnCorrections(list(peers.values()), transcript)
    owners[holders[rank]] = SeedDealer(own, everyone, True, to_peers, _uncounted, transcript=transcript)
    owners[driver] = build.owner(inputs, build.keys([owner_key]))
    notaries = {name: noted if name == holders[rank] else KeySet([]) for name in owners}
    feed = ReceivedCorrections(found[provider, FEED], transcript)
    desk = HolderQueries(found[provider, DESK], transcript)
    party = build.party(
        channel=Networked(n, build.stats, list(peers.values()), wake, transcript=transcript),
        dealer=build.dealer(feed, dealing, None, desk, transcript),
        owner=owners[driver],
        ring=(ring_own, ring_next),
        notary=notaries[driver],
    )
    session = Session.built(build, party, tested=checked)
    return PeerSession(session, transcript, owners, notaries, inputs, list(found.values()), feed)


def _exchanged(
    mine: Mapping[str, bytes], ring: bytes, peers: Mapping[str, Stream], before: str, after: str
) -> tuple[dict[str, bytes], bytes]:
    """The keys of what each other holder will share, for one each of mine; the ring's of the holder after this one."""
    for name, stream in peers.items():
        stream.send(PairKeys(mine[name], ring if name == before else b""))
    theirs, following = {}, b""
    for name, stream in peers.items():
        keys: PairKeys = stream.receive(PairKeys, PATIENCE)
        theirs[name] = _key(keys.owner, name)
        if name == after:
            following = _key(keys.ring, name)
    return theirs, following


def _key(key: bytes, name: str) -> bytes:
    if len(key) != KEY_BYTES:
        raise ChannelError(f"{name} sent a key of {len(key)} bytes, not {KEY_BYTES}")
    return key


def driver_session(
    driver: str, holders: Sequence[str], provider: str, checked: bool = False
) -> tuple[Session, LocalCorrections, dict[str, bytes]]:
    """A session without shares; where the corrections of its inputs are left; the parties' keys for these."""
    build = Builder(holders, provider)
    keys = {name: fresh_key() for name in [*holders, provider]}
    outgoing = LocalCorrections()
    party = build.party(
        owner=build.owner(outgoing, None, KeySet([keys[name] for name in holders])), notary=KeySet([keys[provider]])
    )
    return Session.built(build, party, tested=checked), outgoing, keys
