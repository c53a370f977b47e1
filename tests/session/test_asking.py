"""A provider that takes part: questions from every holder, answers to one or to all."""

import pytest
import torch
from settings import SECRET

from pysmpc.errors import ChannelError
from pysmpc.mpc.additive.products import product_cost
from pysmpc.mpc.interfaces import asking
from pysmpc.ring.prg import KeySet
from pysmpc.ring.shares import Share
from pysmpc.session.dealer import LocalCorrections, SeedDealer
from pysmpc.session.session import plain_session, virtual_session
from pysmpc.transport import threads


def doubled(party, x, public=False):
    """Fresh shares of twice what the holders have, by a provider that is shown it."""

    def answer(keys, asked, out):
        seen.append(asked)
        out.copy_(2 * asked.sum(0))
        if not public:
            keys.take(stream, out)

    seen = []
    words = x.words()
    stream = party.dealer.streams()
    out = party.dealer.ask(words, "convert", words.shape[1], answer, public)
    if public:
        lead = torch.zeros_like(words)
        if party.lead is not None:
            lead[party.lead] = out
        return Share.of(lead, x.shape), seen
    return Share.of(party.dealer.keys.draw(stream, words.shape[1], out), x.shape), seen


@pytest.mark.parametrize("public", [False, True], ids=["to one", "to all"])
@pytest.mark.parametrize("setting", SECRET, ids=str)
def test_ask(setting, public, rng):
    x = torch.from_numpy(rng.integers(-(1 << 63), 1 << 63, 7))

    def operation(suite, party, a):
        first, _ = doubled(party, a, public)
        # corrections that were dealt meanwhile stay in order
        second, _ = doubled(party, suite.mul(party, first, first), public)
        return second

    opened, cost = setting.run(operation, x)
    assert torch.equal(opened, 2 * (2 * x) * (2 * x))
    assert cost == asking(setting.holders, 7, 7, public) * 2 + product_cost(setting.holders, 7, 7)


def test_only_the_provider_is_shown():
    sessions = threads.sessions(["a", "b"])
    x = torch.arange(5)

    def program(session):
        a = session.suite.share(session.party, x if session is sessions[0] else None, (5,))
        return doubled(session.party, a)[1]

    first, second, provider = threads.run(sessions, program)
    assert first == second == []
    assert torch.equal(provider[0].sum(0), x)
    assert provider[0].shape == (2, 5)


def test_nothing_to_answer():
    session = virtual_session(["a", "b"])
    before = session.stats.copy()
    assert session.party.dealer.ask(torch.zeros((2, 3), dtype=torch.int64), "convert", 0, lambda *args: None) is None
    assert (session.stats - before).cost == asking(2, 3, 0)
    assert asking(2, 3, 0).rounds == 1


def test_a_driver_neither_asks_nor_answers():
    driver = SeedDealer(KeySet([]), None, False, LocalCorrections(), lambda count: None)
    for public in (False, True):
        assert driver.ask(torch.empty((0, 3), dtype=torch.int64), "convert", 3, None, public) is None


def test_different_programs():
    sessions = threads.sessions(["a", "b"])

    def program(session):
        late = session is sessions[1]
        words = torch.zeros((session.party.rows, 3), dtype=torch.int64)
        session.party.dealer.ask(
            words, "position" if late else "convert", 3, lambda keys, asked, out: out.zero_(), True
        )

    with pytest.raises(ChannelError, match="different programs"):
        threads.run(sessions, program)


def test_an_error_of_a_holder_reaches_the_provider():
    sessions = threads.sessions(["a", "b"])

    def program(session):
        if session is sessions[1]:
            raise KeyError("mine")
        words = torch.zeros((session.party.rows, 3), dtype=torch.int64)
        session.party.dealer.ask(words, "convert", 3, lambda keys, asked, out: out.zero_(), True)

    with pytest.raises(KeyError, match="mine"):
        threads.run(sessions, program)


def test_nobody_to_ask():
    with pytest.raises(ChannelError, match="only deals ahead"):
        plain_session.party.dealer.ask(torch.zeros((1, 1), dtype=torch.int64), "convert", 1, lambda *args: None)


def test_observer():
    session = virtual_session(["a", "b"])
    seen = []
    session.party.dealer.observer = lambda cause, asked, out: seen.append((cause, asked.clone(), out.clone()))
    x = session.suite.share(session.party, torch.arange(4), (4,))
    doubled(session.party, x, True)
    [(cause, asked, out)] = seen
    assert cause == "convert"
    assert torch.equal(asked, x.words())
    assert torch.equal(out, 2 * torch.arange(4))


def test_unknown_questions_are_refused():
    session = virtual_session(["a", "b"])
    with pytest.raises(ChannelError, match="no question"):
        session.party.dealer.ask(torch.zeros((2, 1), dtype=torch.int64), "value", 1, lambda *args: None)
