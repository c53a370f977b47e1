"""No word hides two values, and nothing that travels says anything about a secret."""

import pytest
import torch
from maskings import Log, chi_square
from torch import nn
from torch.nn import functional as F

import pysmpc as sy
from pysmpc.mpc.interfaces import OPENING_REASONS
from pysmpc.ring.prg import KeySet
from pysmpc.ring.shares import Share
from pysmpc.session.session import virtual_session

LIMIT = 10  # standard deviations of a chi-square with 255 degrees of freedom: never by chance


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(12, 16), nn.Linear(16, 4)

    def forward(self, x):
        return self.second(F.relu(self.first(x)))


def step(parties):
    """A training step on data of little entropy: zeros, ones, equal rows."""
    x = torch.zeros(32, 12)
    x[:, :3] = 1
    y = torch.zeros(32, 4)
    y[:, 0] = 1
    x, y, model = sy.encrypt(x, parties), sy.encrypt(y, parties), sy.encrypt(Net(), parties)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
    for _ in range(2):
        optimizer.zero_grad()
        loss = F.mse_loss(model(x), y)
        loss.backward()
        optimizer.step()
    return loss, model


@pytest.mark.parametrize("holders", [2, 3])
def test_a_training_step(holders, monkeypatch):
    parties = sy.virtual(*(f"holder{i}" for i in range(holders)))
    log = Log(monkeypatch, parties.session)
    loss, _ = step(parties)
    log.check()
    assert log.causes() == {"mask", "truncate", "compare", "relu", "select"}
    for cause in log.causes():
        sent, opened = log.words(cause)
        assert chi_square(sent) < LIMIT, f"messages of '{cause}' are not uniform"
        assert chi_square(opened) < LIMIT, f"openings of '{cause}' are not uniform"
    assert chi_square(log.pairs()) < LIMIT
    sy.decrypt(loss)
    assert [cause for cause, _, _ in log.opened].count("reveal") == 1
    assert log.opened[-1][0] == "reveal"


def everything(session):
    """Each operation that opens something, several times on one value."""
    suite, party = session.suite, session.party
    x = suite.share(party, torch.ones(300, dtype=torch.int64), (300,), 1 << 20)
    y = suite.share(party, torch.arange(300), (300,), 1 << 20)
    square = Share(x.body, (10, 30))
    for _ in range(2):
        suite.mul(party, x, y)
        suite.square(party, y)
        suite.matmul(party, square, Share(y.body, (30, 10), 1, (1, 30)))
        suite.mul(party, Share(y.body, (20,), 1, (1,), 7), Share(x.body, (20,), 1, (1,), 9))
        suite.truncate(party, x, 1 << 16)
        suite.truncate(party, x, 1000)
        quotient = suite.truncate(party, y, 1000)
        suite.mul(party, quotient, suite.square(party, quotient))
        # of what was not opened, or nothing would be dealt; by 1000 the dealer makes its words again to know them
        parts = [Share(suite.truncate(party, y, by).body, (200,), 1, (1,), 9) for by in (1 << 16, 1 << 20)]
        suite.square(party, parts[0])
        suite.mul(party, *parts)
        suite.matmul(party, Share(suite.truncate(party, x, 1 << 16).body, (10, 30)), Share(y.body, (30, 1))).words()
        bit = suite.negative(party, x)
        suite.select(party, bit, y, 1 << 16)
        suite.select(party, bit, y)
        suite.mul(party, suite.bit_share(party, bit, (300,)), y)
        suite.mul(party, suite.relu(party, x, 1 << 16), suite.relu(party, y))
        largest, won = suite.largest(party, Share(x.body, (6, 50), x.scale), (suite.refresh(party, y),))
        suite.mul(party, largest, won)
        suite.count_reciprocals(party, y, 9)
        x = suite.refresh(party, x)


@pytest.mark.parametrize("holders", [2, 3, 5])
def test_every_operation(holders, monkeypatch):
    session = virtual_session([str(i) for i in range(holders)])
    log = Log(monkeypatch, session)
    everything(session)
    log.check()
    sent, opened = log.words()
    assert chi_square(sent) < LIMIT
    assert chi_square(opened) < LIMIT
    assert chi_square(log.pairs()) < LIMIT
    assert log.causes() <= set(OPENING_REASONS)
    assert "reveal" not in log.causes()
    # a correction is what hides the dealt value from its receiver: uniform at all but the target
    assert {m.keys for m in log.maskings} == {"dealer", "owner", "zero"}


def test_the_maskings_are_those_that_were_noted(monkeypatch):
    """Taking the noted streams away from the messages leaves the values."""
    session = virtual_session(["a", "b"])
    log = Log(monkeypatch, session)
    x = session.suite.share(session.party, torch.arange(50), (50,), 1 << 20)
    session.suite.square(session.party, x)
    session.suite.truncate(session.party, x, 1 << 17)
    mask, truncation = (m for m in log.maskings if m.purpose == "message")
    keys = session.party.dealer.keys
    [(_, _, [first]), (_, _, [second])] = log.opened
    assert torch.equal(first[0] + keys.draw(mask.stream, 50).sum(0), torch.arange(50))
    assert torch.equal(second[0] - keys.draw(truncation.stream, 50).sum(0), torch.arange(50) + (1 << 62))


def test_one_mask_for_a_whole_tensor_is_caught(monkeypatch):
    """As PySyft masked: a random number a tensor, not an element."""
    original = KeySet.mask

    def single(self, stream, shares):
        return shares - original(self, stream, torch.zeros_like(shares))[:, :1] * -1

    monkeypatch.setattr(KeySet, "mask", single)
    session = virtual_session(["a", "b"])
    log = Log(monkeypatch, session)
    x = session.suite.share(session.party, torch.arange(3000) % 7, (3000,))
    session.suite.square(session.party, x)
    assert chi_square(torch.cat([o[0, 1:] - o[0, :-1] for _, _, [o] in log.opened])) > LIMIT
    assert chi_square(log.pairs()) > LIMIT


def test_a_stream_used_twice_is_caught(monkeypatch):
    session = virtual_session(["a", "b"])
    log = Log(monkeypatch, session)
    dealer = session.party.dealer
    x = session.suite.share(session.party, torch.arange(9), (9,))
    y = session.suite.share(session.party, torch.arange(9), (9,))
    session.suite.square(session.party, x)
    dealer._next_stream = 0
    session.suite.square(session.party, y)
    with pytest.raises(AssertionError, match="hide two values"):
        log.check()


def test_an_unmasked_message_is_caught(monkeypatch):
    session = virtual_session(["a", "b"])
    log = Log(monkeypatch, session)
    x = session.suite.share(session.party, torch.zeros(3000, dtype=torch.int64), (3000,))
    session.party.channel.open([x.words()], "mask")
    with pytest.raises(AssertionError, match="maskings differ"):
        log.check()
    assert chi_square(log.words()[1]) > LIMIT


def test_fresh_keys_for_every_session(monkeypatch):
    """Two sessions draw nothing alike, from the dealer, the owner, or each other."""
    words = []
    for _ in range(3):
        party = virtual_session(["a", "b"]).party
        words += [keys.draw(0, 20) for keys in (party.dealer.keys, party.owner.keys, party.own)]
    flat = torch.cat([w.reshape(-1) for w in words])
    assert flat.unique().numel() == flat.numel()
