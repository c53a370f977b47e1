"""Every opening is listed with its cause, and no protocol opens what it did not declare."""

import copy
import dataclasses

import pytest
import torch
from protocol_cases import CASES
from settings import Setting, random_words
from torch.nn import functional as F
from twins import Owner, mlp

import pysmpc as sy
from pysmpc.errors import ChannelError
from pysmpc.mpc.derived import division
from pysmpc.mpc.interfaces import OPENING_REASONS, QUESTIONS, declares_openings
from pysmpc.mpc.suite import default, suites
from pysmpc.session.session import virtual_session

MASKED = set(OPENING_REASONS) - {"reveal"}


def openings_of(protocol, setting, rng, named="default"):
    """The ledger of one protocol, inputs made beforehand."""
    case = CASES[protocol]
    values = case.values(rng)

    def program(session, owner):
        suite, party = session.under(suites[named]).suite, session.party
        shares = [suite.share(party, v if owner else None, v.shape, case.scale) for v in values]
        case.run(suite, party, *shares)

    with sy.ledger() as kept:
        outcomes = setting.everywhere(program)
    for session, _ in outcomes:
        own = [o for o in kept if o.session == session.serial]
        asked = [o for o in own if o.to == "provider"]
        rounds = [o.round for o in own]
        assert rounds == sorted(set(rounds))
        if not asked:
            assert rounds == list(range(1, session.stats.rounds + 1)), "a round without an entry"
        assert sum(o.words for o in own if o.to == "holders") * 8 * (setting.holders - 1) == session.stats.sent
        assert sum(o.words for o in asked) * 8 == session.stats.asked
        # what is left of the rounds are the provider's answers
        assert 0 <= session.stats.rounds - len(own) <= len(asked)
        assert all(o.hosted == tuple(session.holders[i] for i in session.party.ranks) for o in own)
    return kept


@pytest.mark.parametrize(
    ("name", "setting"),
    [
        pytest.param(name, setting, id=f"{name}-{setting}")
        for name, suite in suites.items()
        for setting in (Setting(where, n) for where in ("virtual", "threads") for n in (2, 3))
        if suite.holders in (None, setting.holders)
    ],
)
@pytest.mark.parametrize("protocol", CASES)
def test_a_protocol_opens_what_it_declares_and_nothing_else(protocol, name, setting, rng):
    kept = openings_of(protocol, setting, rng, name)
    assert kept.causes == CASES[protocol].declared(suites[name])
    assert kept.questions == CASES[protocol].declared(suites[name], "asks")


def protocols(suite):
    return {name: value for name, value in vars(suite).items() if callable(value)}


def test_every_protocol_of_the_suite_has_a_case():
    """Whoever adds a protocol adds a line to tests/support/protocol_cases.py."""
    assert set(protocols(default)) <= set(CASES), f"no case for {sorted(set(protocols(default)) - set(CASES))}"


@pytest.mark.parametrize("name", suites)
def test_protocols_of_every_suite_declare_known_causes(name):
    for field, protocol in protocols(suites[name]).items():
        declared = getattr(protocol, "opens", ())
        assert set(declared) <= set(OPENING_REASONS)
        assert set(getattr(protocol, "asks", ())) <= set(QUESTIONS)
        assert ("reveal" in declared) == (field == "reveal"), f"{name}.{field}"
    assert set(division.reciprocal.opens) == CASES["reciprocal"].declared(default)


def test_an_undeclared_opening_is_caught(monkeypatch, rng):
    """As a protocol would that opened one message more."""
    original = CASES["truncate"]

    def leaky(suite, party, x):
        party.channel.open([x.words()], "mask")
        return original.run(suite, party, x)

    monkeypatch.setitem(CASES, "truncate", dataclasses.replace(original, run=leaky))
    assert openings_of("truncate", Setting("virtual", 2), rng).causes != original.declared(default)


def test_a_cause_that_nobody_declared_is_refused(setting):
    def program(session, owner):
        words = torch.zeros((session.party.rows, 3), dtype=torch.int64)
        before = session.stats.copy()
        for open_ in (session.party.channel.open, session.party.channel.open_xor):
            with pytest.raises(ChannelError, match="'debug' is no declared cause"):
                open_([words], "debug")
        assert session.stats == before

    setting.everywhere(program)


def test_declaring_an_unknown_cause_is_refused():
    with pytest.raises(ValueError, match="curiosity"):
        declares_openings("mask", "curiosity")
    with pytest.raises(ValueError, match="gossip"):
        declares_openings("mask", asks=("gossip",))


def train(session, owner, model, x, y, steps=2):
    """Steps of a whole training program; returns the loss, unopened."""
    mine = Owner(session, owner)
    a, b, net = mine.share(x), mine.share(y), mine.module(model)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    for _ in range(steps):
        optimizer.zero_grad()
        loss = F.mse_loss(net(a), b)
        loss.backward()
        optimizer.step()
    return loss


def test_a_training_run_opens_masked_values_until_the_user_asks(setting):
    model, x, y = mlp(6, 5, 3), torch.randn(8, 6), torch.randn(8, 3)

    def program(session, owner):
        with sy.ledger() as before:
            loss = train(session, owner, copy.deepcopy(model), x, y)
        own = [o for o in before if o.session == session.serial]
        assert own
        assert {o.cause for o in own} <= MASKED
        with sy.ledger() as after:
            session.suite.reveal(session.party, loss.detach().window())
        return before, [o for o in after if o.session == session.serial]

    for session, (_, asked) in setting.everywhere(program):
        [opening] = [o for o in asked if o.cause == "reveal"]
        assert opening.shapes == ((),)
        assert opening.words == 1
        assert opening.round == session.stats.rounds


def test_what_the_user_opens_is_listed_by_shape():
    parties = sy.virtual("alice", "bob", "carol")
    x = sy.encrypt(torch.randn(4, 3), parties)
    with sy.ledger() as kept:
        y = x * x
        assert kept.revealed == []
        y.reveal()
        sy.decrypt([x[0], x.sum()])
    assert [(o.shapes, o.words) for o in kept.revealed] == [(((4, 3),), 12), (((3,), ()), 4)]
    assert {o.holders for o in kept} == {("alice", "bob", "carol")}
    assert kept.causes == {"mask", "truncate", "reveal"} or kept.causes == {"mask", "reveal"}
    assert next(iter(kept)).shapes == ((4, 3),)


def test_a_ledger_ends_with_its_block_and_nests():
    parties = sy.virtual("alice", "bob")
    x = sy.encrypt(torch.randn(3), parties)
    with sy.ledger() as outer:
        x.reveal()
        with sy.ledger() as inner:
            x.reveal()
        x.reveal()
    x.reveal()
    assert (len(outer), len(inner)) == (3, 1)
    assert [o.round for o in outer] == [1, 2, 3]


def test_a_block_that_fails_ends_its_ledger():
    parties = sy.virtual("alice", "bob")
    x = sy.encrypt(torch.randn(3), parties)
    with pytest.raises(ZeroDivisionError), sy.ledger() as kept:
        raise ZeroDivisionError
    x.reveal()
    assert len(kept) == 0


def test_a_ledger_shows_no_value(rng):
    """Neither the values nor anything that travelled is kept: sizes and names are all."""
    session = virtual_session(["alice", "bob"])
    values = random_words(rng, 40)
    x = session.suite.share(session.party, values, (40,), 1 << 16)
    sent = []
    session.party.channel.observer = lambda cause, messages, opened: sent.extend([*messages, *opened])
    with sy.ledger() as kept:
        session.suite.relu(session.party, session.suite.square(session.party, x))
        session.suite.reveal(session.party, x)
    text = repr(kept) + "".join(map(repr, kept))
    assert "reveal" in text
    large = {str(v) for t in [*sent, values] for v in t.reshape(-1).tolist() if abs(v) > 1 << 40}
    assert large
    assert not [v for v in large if v in text]
    for opening in kept:
        assert not any(isinstance(value, torch.Tensor) for value in vars(opening).values())
