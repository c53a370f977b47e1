"""`Builder` makes one process's part of a session; every deployment makes its parties with it.

A deployment brings keys and connections. What does not depend on these is decided here: which names are refused, who
adds public constants, who receives the dealer's corrections, and what is counted as dealt and as shared.
"""

from __future__ import annotations

from collections.abc import Sequence

from pysmpc.errors import PartyError
from pysmpc.mpc.interfaces import Channel, Dealer, Party
from pysmpc.mpc.suite import Suite, default
from pysmpc.ring.prg import KeySet
from pysmpc.session.channel import Linked
from pysmpc.session.dealer import CorrectionStream, LocalCorrections, QueryChannel, SeedDealer
from pysmpc.session.stats import Stats
from pysmpc.session.transcript import Transcript, untold


def check_names(holders: Sequence[str], provider: str) -> None:
    """Raise PartyError unless there are two holders or more, distinct, and a provider apart."""
    if len(holders) < 2:
        raise PartyError(
            f"a secret needs at least two holders, got {len(holders)} ({', '.join(holders) or 'none'}); "
            "with one, it would hold the value itself"
        )
    if len(set(holders)) != len(holders):
        raise PartyError(f"each holder may appear once, got {', '.join(holders)}")
    if provider in holders:
        raise PartyError(
            f"'{provider}' cannot be crypto provider and holder at once: it would know all masks of the "
            "openings it sees; name another provider"
        )


class Builder:
    """What the processes of a session have in common, and the place of this one among them.

    holders, provider: names. ranks: positions of the holders whose shares are in this process, in order; none at a
    provider or a driver. suite: the protocols, which may be for a number of holders only. `n` is the number of
    holders, `stats` counts what the session costs.

    Raises PartyError for names or a number of holders that no session can have.
    """

    def __init__(
        self, holders: Sequence[str], provider: str, ranks: Sequence[int] = (), suite: Suite = default
    ) -> None:
        check_names(holders, provider)
        suite.check(len(holders))
        self.holders = tuple(holders)
        self.provider = provider
        self.ranks = tuple(ranks)
        self.suite = suite
        self.stats = Stats()

    @property
    def n(self) -> int:
        """The number of holders."""
        return len(self.holders)

    def keys(self, keys: Sequence[bytes]) -> KeySet:
        """Keys of the holders in this process, in the order of `ranks`.

        The first of all holders adds public constants, and the last receives corrections; the set knows where among
        its keys these two are.
        """
        lead, last = (self.ranks.index(rank) if rank in self.ranks else -1 for rank in (0, self.n - 1))
        return KeySet(keys, lead, last)

    def dealer(
        self,
        feed: CorrectionStream | None = None,
        keys: KeySet | None = None,
        everyone: KeySet | None = None,
        desk: QueryChannel | None = None,
        transcript: Transcript = untold,
    ) -> SeedDealer:
        """This process's end of what the crypto provider deals.

        feed: the way of corrections. keys: of the holders in this process, by `keys`. everyone: keys of all holders,
        where the provider is in this process. desk: the way of questions to the provider. transcript: which the keys
        follow. Without any of them: of a process that neither deals nor receives, and counts all the same.
        """
        return SeedDealer(
            KeySet([]) if keys is None else keys,
            everyone,
            self.n - 1 in self.ranks,
            feed or LocalCorrections(),
            self.stats.count_dealt,
            desk,
            self.stats.count_ask,
            self.n,
            transcript,
        )

    def owner(
        self, feed: CorrectionStream | None = None, keys: KeySet | None = None, everyone: KeySet | None = None
    ) -> SeedDealer:
        """This process's end of what an owner of inputs shares; arguments as of `dealer`, of the owner's keys."""
        return SeedDealer(
            KeySet([]) if keys is None else keys,
            everyone,
            self.n - 1 in self.ranks,
            feed or LocalCorrections(),
            self.stats.count_shared,
            holders=self.n,
        )

    def party(
        self,
        *,
        channel: Channel | None = None,
        dealer: Dealer | None = None,
        owner: Dealer | None = None,
        ring: tuple[KeySet, KeySet] | None = None,
        notary: KeySet | None = None,
    ) -> Party:
        """The part of this process, of which everything may be left out that it has not.

        channel: between the holders; by default, nobody is at its other end. ring: keys of sharings of zero, those of
        the holders in this process and those of the holders after them. notary: the key of the owner of inputs and
        the provider.
        """
        own, after = ring or (KeySet([]), KeySet([]))
        return Party(
            holders=self.n,
            ranks=self.ranks,
            channel=channel or Linked(self.n, self.stats, ()),
            dealer=dealer or self.dealer(),
            owner=owner or self.owner(),
            own=own,
            next=after,
            notary=notary,
        )
