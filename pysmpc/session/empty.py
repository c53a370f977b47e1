"""Sessions that hold nothing: a program that runs on empty shares says what shapes, scales and errors come of it."""

from __future__ import annotations

from pysmpc.mpc.interfaces import Party
from pysmpc.ring.prg import KeySet, fresh_key
from pysmpc.session.channel import Linked
from pysmpc.session.dealer import LocalCorrections, SeedDealer
from pysmpc.session.session import Session
from pysmpc.session.stats import Stats


def empty_session(like: Session) -> Session:
    """A session with the names and protocols of another, but without holders, provider or owner in this process.

    Nothing is sent, drawn or counted for the other session, and no ledger hears of it.
    """
    n, stats, nobody = len(like.holders), Stats(), KeySet([])

    def uncounted(count: int) -> None:
        """What nobody deals is not counted."""

    party = Party(
        holders=n,
        ranks=(),
        channel=Linked(n, stats, ()),
        dealer=SeedDealer(nobody, None, False, LocalCorrections(), uncounted, holders=n),
        owner=SeedDealer(nobody, None, False, LocalCorrections(), uncounted, holders=n),
        own=nobody,
        next=nobody,
        notary=KeySet([fresh_key()]),
    )
    session = Session(like.holders, like.provider, party, stats, like.suite)
    party.channel.where = party.dealer.where = None  # a ledger is kept of what is really opened
    return session
