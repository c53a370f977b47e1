"""Sessions that hold nothing: a program that runs on empty shares says what shapes, scales and errors come of it."""

from __future__ import annotations

from pysmpc.ring.prg import KeySet, fresh_key
from pysmpc.session.builder import Builder
from pysmpc.session.session import Session


def empty_session(like: Session) -> Session:
    """A session with the names and protocols of another, but without holders, provider or owner in this process.

    Nothing is sent, drawn or counted for the other session, and no ledger hears of it.
    """
    build = Builder(like.holders, like.provider, suite=like.suite)
    session = Session.built(build, build.party(notary=KeySet([fresh_key()])))
    party = session.party
    party.channel.where = party.dealer.where = None  # a ledger is kept of what is really opened
    return session
