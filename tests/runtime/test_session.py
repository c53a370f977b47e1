"""Sessions in one process: names, statistics, observers, what holders keep."""

import gc
import os

import pytest
import torch
from settings import random_words

from pysmpc.errors import PartyError
from pysmpc.protocols.interfaces import Cost
from pysmpc.runtime.session import virtual_session
from pysmpc.runtime.stats import Stats
from pysmpc.shares import Body


@pytest.mark.parametrize(
    ("holders", "provider", "message"),
    [
        ([], "p", "at least two"),
        (["a"], "p", "at least two"),
        (["a", "b", "a"], "p", "once"),
        (["a", "b"], "a", "crypto provider and holder"),
    ],
)
def test_names_are_checked(holders, provider, message):
    with pytest.raises(PartyError, match=message):
        virtual_session(holders, provider)


def test_repr_shows_names_only():
    assert repr(virtual_session(["a", "b"], "p")) == "Session(a, b; provider p)"


def test_statistics_are_differences():
    a, b = Stats(5, 50, 500, 5000), Stats(1, 2, 3, 4)
    assert a - b == Stats(4, 48, 497, 4996)
    assert (a - b).cost == Cost(4, 48, 497, 4996)
    copy = b.copy()
    b.rounds += 1
    assert copy == Stats(1, 2, 3, 4)


def test_holders_keep_bodies_while_they_live(rng):
    session = virtual_session(["a", "b"])
    first, second = (Body(random_words(rng, 2, 5)) for _ in range(2))
    session.register(first)
    session.register(second)
    for row, name in enumerate("ab"):
        kept = list(session.live(name))
        assert [serial for serial, _, _ in kept] == [first.serial, second.serial]
        assert torch.equal(kept[0][2], first.words[row])
    del first, kept
    gc.collect()
    assert [body for _, body, _ in session.live("a")] == [second]


def test_an_observer_sees_every_message(rng):
    session = virtual_session(["a", "b", "c"])
    seen = []
    session.party.channel.observer = lambda cause, messages, opened: seen.append((cause, messages, opened))
    x = session.suite.share(session.party, random_words(rng, 4), (4,))
    session.suite.relu(session.party, x)
    session.suite.reveal(session.party, x)
    assert [cause for cause, _, _ in seen] == ["relu", "compare", "compare", "compare", "reveal"]
    for cause, [message], [opened] in seen:
        total = message[0] ^ message[1] ^ message[2] if cause == "compare" else message.sum(0)
        assert torch.equal(opened[0], total)
    assert sum(m.shape[1] for _, ms, _ in seen for m in ms) * 8 * 2 == session.stats.sent


def test_streams_are_never_given_twice():
    dealer = virtual_session(["a", "b"]).party.dealer
    given = [range(first, first + count) for count in (1, 16, 1, 3, 16) for first in [dealer.streams(count)]]
    flat = [s for each in given for s in each]
    assert len(set(flat)) == len(flat)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is nothing to fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
@pytest.mark.parametrize("known_by", ["its number", "the fork alone"])
def test_a_forked_process_may_not_go_on(monkeypatch, known_by):
    """Both would hide different values under the same words; in a namespace of its own a child may have its
    parent's number."""
    session = virtual_session(["a", "b"])
    if known_by == "the fork alone":
        number = os.getpid()
        monkeypatch.setattr(os, "getpid", lambda: number)
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            session.party.dealer.streams()
            os.write(writer, b"went on")
        except PartyError:
            os.write(writer, b"refused")
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    os.close(writer)
    assert os.read(reader, 100) == b"refused"
    os.close(reader)
