"""The setting of one party a thread: who waits for whom, and what happens on a mistake."""

import threading
import time

import pytest
import torch
from settings import random_words

from pysmpc.errors import ChannelError, PartyError
from pysmpc.session.session import virtual_session
from pysmpc.transport import threads

NAMES = ["alice", "bob", "carol"]


def work(session, values=None):
    suite, party = session.suite, session.party
    x = suite.share(party, values, (50,), 1 << 16)
    y = suite.truncate(party, suite.mul(party, x, x), 1 << 16)
    return suite.reveal(party, suite.relu(party, y))[0]


def test_roles():
    *holders, provider = threads.sessions(NAMES)
    assert [s.party.ranks for s in holders] == [(0,), (1,), (2,)]
    assert [s.party.lead for s in holders] == [0, None, None]
    assert provider.party.ranks == ()
    assert provider.party.rows == 0
    # only the provider can deal, only the first holder owns inputs
    assert [s.party.dealer._everyone is not None for s in holders] == [False] * 3
    assert provider.party.dealer._everyone.rows == 3
    assert [s.party.owner._everyone is not None for s in (*holders, provider)] == [True, False, False, False]


def test_the_provider_waits_for_nobody(rng):
    """It finishes its whole program before a holder begins, and they find all they need."""
    sessions = threads.sessions(NAMES)
    values = random_words(rng, 50) >> 40
    done = threading.Event()
    finished = []

    def program(session):
        if session.party.rows == 0:
            out = [work(session) for _ in range(5)]
            done.set()
            return out
        assert done.wait(30)
        time.sleep(0.01 * session.party.ranks[0])
        out = [work(session, values if session.party.ranks == (0,) else None) for _ in range(5)]
        finished.append(time.monotonic())
        return out

    *results, nothing = threads.run(sessions, program)
    assert all(r.shape == (0, 50) for r in nothing)
    for other in results[1:]:
        assert all(map(torch.equal, results[0], other))
    expected = work(virtual_session(NAMES), values)
    for r in results[0]:
        assert bool(((r - expected).abs() <= 1).all())


def test_a_slow_holder_delays_no_result(rng):
    sessions = threads.sessions(NAMES)
    values = random_words(rng, 50) >> 40

    def program(session):
        if session.party.ranks == (2,):
            time.sleep(0.2)
        return work(session, values if session.party.ranks == (0,) else None)

    a, b, c, _ = threads.run(sessions, program)
    assert torch.equal(a, b)
    assert torch.equal(a, c)


def test_different_programs_are_noticed(rng):
    sessions = threads.sessions(NAMES)
    values = random_words(rng, 50)

    def program(session):
        suite, party = session.suite, session.party
        x = suite.share(party, values if party.ranks == (0,) else None, (50,))
        if party.ranks == (1,):
            return suite.truncate(party, x, 2)
        return suite.square(party, x)

    with pytest.raises(ChannelError, match="different programs"):
        threads.run(sessions, program)


def test_different_sizes_are_noticed(rng):
    sessions = threads.sessions(NAMES)

    def program(session):
        party = session.party
        return session.party.channel.open(
            [torch.zeros((party.rows, 3 + (party.ranks == (1,))), dtype=torch.int64)], "mask"
        )

    with pytest.raises(ChannelError, match="different programs"):
        threads.run(sessions, program)


def test_a_provider_with_another_program_is_noticed(rng):
    sessions = threads.sessions(NAMES)
    values = random_words(rng, 50)

    def program(session):
        suite, party = session.suite, session.party
        n = 50 if party.rows else 51
        x = suite.share(party, values if party.ranks == (0,) else None, (n,))
        return suite.square(party, x)

    with pytest.raises(ChannelError, match="programs differ"):
        threads.run(sessions, program)


def test_the_first_error_is_the_one_that_is_raised():
    """A party that fails stops the others, and its own error is what the caller sees."""
    sessions = threads.sessions(NAMES)

    def program(session):
        if session.party.ranks == (1,):
            raise ZeroDivisionError("of this party's own")
        return work(session, torch.zeros(50, dtype=torch.int64) if session.party.ranks == (0,) else None)

    with pytest.raises(ZeroDivisionError, match="of this party's own"):
        threads.run(sessions, program)


def test_a_party_that_is_gone_is_noticed(monkeypatch):
    monkeypatch.setattr(threads, "PATIENCE", 0.2)
    sessions = threads.sessions(["alice", "bob"])

    def program(session):
        if session.party.ranks == (1,):
            return None
        return work(session, torch.zeros(50, dtype=torch.int64) if session.party.ranks == (0,) else None)

    with pytest.raises(ChannelError, match="bob is gone"):
        threads.run(sessions, program)


def test_names_are_checked():
    with pytest.raises(PartyError, match="at least two"):
        threads.sessions(["alice"])
    with pytest.raises(PartyError, match="once"):
        threads.sessions(["alice", "alice"])
    with pytest.raises(PartyError, match="provider"):
        threads.sessions(["alice", "bob"], provider="bob")
