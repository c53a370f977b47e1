"""A result that is opened right after the step that it comes of is opened while the rest of the step is done."""

import copy

import numpy as np
import pytest
import torch
from remotes import Workers, without_consent
from torch import nn

import pysmpc as sy
from pysmpc.errors import OpenNotPermittedError
from pysmpc.program.segment import Segment
from pysmpc.remote.worker.session_openings import SessionOpenings

ULP = 2.0**-16
ITEMS = np.random.default_rng().random((8, 6), dtype=np.float32)


def squares(out, target):
    return ((out - target) ** 2).sum() / len(target)


class Training:
    def __init__(self, parties, net, batches):
        self.model = sy.encrypt(copy.deepcopy(net), parties)
        self.batches = batches
        self.step = sy.TrainStep(self.model, torch.optim.SGD(self.model.parameters(), lr=0.05), squares)
        self.turn = 0

    def __call__(self):
        self.turn += 1
        return self.step(*self.batches[self.turn % len(self.batches)])


def network():
    return nn.Linear(6, 3), [(torch.randn(8, 6), torch.randn(8, 3)) for _ in range(2)]


def training(parties):
    net, batches = network()
    return Training(parties, net, [[sy.encrypt(each, parties) for each in batch] for batch in batches])


@pytest.fixture
def openings(monkeypatch):
    """Of each opening at a worker, whether a step was being done there: [(worker, that)]."""
    found, running, open_, run = [], set(), SessionOpenings.open, Segment._run

    def opens(self, number, operation):
        found.append((self._worker.config.name, id(self._session.replay.session) in running))
        open_(self, number, operation)

    def runs(self, arguments, first):
        running.add(id(self.session))
        try:
            run(self, arguments, first)
        finally:
            running.discard(id(self.session))

    monkeypatch.setattr(SessionOpenings, "open", opens)
    monkeypatch.setattr(Segment, "_run", runs)
    return found


def test_every_worker_opens_early(parties, openings):
    train = training(parties)
    for _ in range(6):
        train()
    parties.wait()
    for _ in range(20):
        loss = train()  # whoever drops the loss before drops it later
        assert sy.decrypt(loss) >= 0
        assert train.step.repeats
    parties.wait()
    for name in ("alice", "bob", "crypto_provider"):
        early = [when for where, when in openings if where == name]
        assert len(early) == 20  # once each
        assert sum(early) > 10  # whose opening had come by then


def test_it_is_what_one_process_opens(parties):
    net, batches = network()
    here, found = sy.virtual(*parties.names), []
    before = parties.stats.copy()
    for each in (parties, here):
        train = Training(each, net, [[sy.encrypt(x, each) for x in batch] for batch in batches])
        losses = [float(sy.decrypt(train())) for _ in range(14)]
        found.append((losses, [sy.decrypt(p) for p in train.model.parameters()]))
    assert without_consent((parties.stats - before).cost, here.stats.cost, len(parties.names))
    assert found[0][0] == pytest.approx(found[1][0], abs=256 * ULP)
    for mine, other in zip(found[0][1], found[1][1], strict=True):
        assert torch.allclose(mine, other, atol=256 * ULP)


@pytest.mark.parametrize("what", ["a parameter", "the loss before", "a part", "twice", "more of it"])
def test_other_openings_wait_for_the_step(parties, what):
    """Of values that the rest of the step may still change, or that are there already."""
    train = training(parties)
    last = train()
    for _ in range(7):
        before, last = last, train()
        if what == "a parameter":
            weight = train.model.weight
            mine = sy.decrypt(weight)
            parties.wait()
            assert torch.equal(mine, sy.decrypt(weight))
        elif what == "the loss before":
            mine = sy.decrypt(before)
            parties.wait()
            assert torch.equal(mine, sy.decrypt(before))
        elif what == "a part":
            assert torch.equal(sy.decrypt(last.reshape(1)[:1]), sy.decrypt(last).reshape(1))
        elif what == "twice":
            assert torch.equal(sy.decrypt(last), sy.decrypt(last))
        else:
            assert torch.allclose(sy.decrypt(last + last), 2 * sy.decrypt(last), atol=4 * ULP)


def test_an_early_opening_that_is_refused(office, tmp_path):
    """The owner is asked, as ever; the session goes on."""
    np.save(tmp_path / "x.npy", ITEMS)
    options = {"alice": {"data": {"x": {"path": str(tmp_path / "x.npy"), "tags": ["#x"]}}, "open": []}}
    with Workers(office.folder, options=options) as workers, workers.connect() as parties:
        [pointer] = parties["alice"].search("#x")
        net, batches = network()
        train = Training(parties, net, [(sy.encrypt(pointer, parties), sy.encrypt(batches[0][1], parties))])
        for turn in range(10):
            loss = train()
            with pytest.raises(OpenNotPermittedError, match="alice, whose data"):
                sy.decrypt(loss)
            assert train.step.repeats == (turn >= 4)
        other = sy.encrypt(torch.ones(2), parties)
        assert torch.equal(sy.decrypt(other), torch.ones(2))


def test_an_owner_counts_the_items_of_an_early_opening(office, tmp_path):
    np.save(tmp_path / "x.npy", ITEMS)
    rules = {"open": {"scientist": {"min_items": 6}}}
    options = {"alice": {"data": {"x": {"path": str(tmp_path / "x.npy"), "tags": ["#x"]}}, **rules}}
    with Workers(office.folder, options=options) as workers, workers.connect() as parties:
        [pointer] = parties["alice"].search("#x")
        targets = torch.randn(4, 3)
        train = Training(parties, network()[0], [(sy.encrypt(pointer[:4], parties), sy.encrypt(targets, parties))])
        for _ in range(5):
            loss = train()
            with pytest.raises(OpenNotPermittedError, match="here 4 of its rows are behind a number"):
                sy.decrypt(loss)
        assert train.step.repeats
        targets = torch.randn(6, 3)
        batch = sy.encrypt(pointer[2:], parties), sy.encrypt(targets, parties)
        # four rows stay in what they trained
        train.batches = [batch]
        with pytest.raises(OpenNotPermittedError, match="drop_last=True"):
            sy.decrypt(train())
        train = Training(parties, network()[0], [batch])
        for _ in range(5):
            assert sy.decrypt(train()) >= 0
        assert train.step.repeats
