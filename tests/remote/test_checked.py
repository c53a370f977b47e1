"""`sy.connect(..., checked=True)`: what is found between machines, what it costs, and whose consent it takes."""

import json
import logging

import numpy as np
import pytest
import torch
from remotes import Workers
from torch import nn
from torch.nn import functional as F

import pysmpc as sy
from pysmpc.errors import CheckpointError, OpenNotPermittedError, RangeError, RemoteError
from pysmpc.mpc.interfaces import opening
from pysmpc.remote.driver.connect import RemoteParties
from pysmpc.remote.worker import approvals

ITEMS = np.random.default_rng().uniform(-1, 1, (40, 3)).astype(np.float32)


def checked(workers, driver="scientist"):
    return RemoteParties(workers.config(driver), checked=True)


def network(office, folder, alice=None, bob=None, holders=("alice", "bob")):
    """Workers whose alice and bob have data, and rules of their own."""
    np.save(folder / "x.npy", ITEMS)
    options = {name: {"state": str(folder / f"{name}.state")} for name in holders}
    for name, rules in (("alice", alice), ("bob", bob)):
        options[name] |= {"data": {"x": {"path": str(folder / "x.npy"), "tags": ["#x"]}}, **(rules or {})}
    return Workers(office.folder, holders, options=options)


def owned(parties, name="alice"):
    [pointer] = parties[name].search("#x")
    return sy.encrypt(pointer, parties)


def lines(folder, name="alice"):
    return [json.loads(line) for line in (folder / f"{name}.state" / approvals.LOG).read_text().splitlines()]


def program(parties, x, y):
    """Products, sums, a ReLU, a matrix product; two openings."""
    a, b = sy.encrypt(x, parties), sy.encrypt(y, parties)
    z = (a * b + a).relu()
    return [z.sum().reveal(), (a.t() @ b).reveal(), (z @ b.t()).reveal()]


@pytest.mark.parametrize("which", ["workers", "three"])
def test_values_and_cost_are_those_of_one_process(which, request):
    workers = request.getfixturevalue(which)
    x, y = torch.randn(6, 4), torch.randn(6, 4)
    here = sy.virtual(*workers.holders, checked="protocol")
    with checked(workers) as parties:
        there = program(parties, x, y)
        mine = program(here, x, y)
        for a, b in zip(there, mine, strict=True):
            assert torch.allclose(a, b, atol=1e-3)
        assert parties.stats == here.stats + opening(len(workers.holders), 1) * 3  # consent, for each of three openings
        before = parties.stats.copy()
        sy.encrypt(x, parties).reveal()  # where nothing was tested since, too: no party knows what another refused
        assert (parties.stats - before).rounds == 3


def test_training_comes_to_the_same(workers):
    model, x, y = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3)), torch.randn(8, 6), torch.randn(8, 3)
    found = {}
    for how in (True, False):
        with RemoteParties(workers.config(), checked=how) as parties:
            hidden, a, b = sy.encrypt(model, parties), sy.encrypt(x, parties), sy.encrypt(y, parties)
            optimizer, losses = torch.optim.SGD(hidden.parameters(), lr=0.05, momentum=0.9), []
            step = sy.TrainStep(hidden, optimizer, F.mse_loss)
            for _ in range(5):
                losses.append(float(step(a, b).reveal()))
            assert step.repeats != how
            found[how] = losses
    assert found[True] == pytest.approx(found[False], abs=5e-3)


def test_what_is_too_large_is_not_opened(workers, caplog):
    caplog.set_level(logging.INFO, "pysmpc.worker")
    with checked(workers) as parties:
        x = sy.encrypt(torch.tensor([40000.0, 1.0]), parties)
        other = sy.encrypt(torch.tensor([2.0]), parties)
        y = x * x
        with pytest.raises(RangeError, match=r"mul \(the square\)") as caught:
            other.reveal()
        assert "40000" not in str(caught.value)
        assert [record for record in caplog.records if record.message == "out of range"]
        for value in (y, x, other):
            with pytest.raises(RangeError, match="nothing will be in this session"):
                value.reveal()
    with workers.connect() as parties:
        x = sy.encrypt(torch.tensor([60000.0]), parties)
        assert float((x * x).reveal()) != pytest.approx(3.6e9)  # where nobody asked


def test_stated_bounds_need_no_test(workers):
    with checked(workers) as parties:
        x = sy.encrypt(torch.rand(50), parties, bounded=1.0)
        before = parties.stats.copy()
        y = (x * x).reveal()
        assert torch.allclose(y, x.reveal() ** 2, atol=1e-3)
        assert (parties.stats - before).rounds == 1 + 3 + 3  # the product's opening; consent, outcome, value


# --- consent ------------------------------------------------------------------------------


def test_the_outcome_takes_the_consent_of_whom_it_is_about(office, tmp_path):
    """The value is the driver's own; what was tested is alice's, who lets it open nothing."""
    with network(office, tmp_path, {"open": []}) as workers, checked(workers) as parties:
        x, mine = owned(parties), sy.encrypt(torch.tensor([1.0]), parties)
        assert float(mine.reveal()) == 1.0
        kept = x * x, mine * mine
        with pytest.raises(OpenNotPermittedError, match="alice, whose data went into the range flag"):
            mine.reveal()
        del kept
        with pytest.raises(OpenNotPermittedError, match="range flag"):  # it waits for her consent
            mine.reveal()
        asked = lines(tmp_path)
        assert [line["permitted"] for line in asked] == [True, False, False]
        assert asked[1]["owners"] == ["scientist"]
        assert asked[1]["range flag"] == {"owners": ["alice", "scientist"], "items": 1}
        # bob has no part in it, and would have consented; nothing of his left either
        assert [line["permitted"] for line in lines(tmp_path, "bob")] == [True, True, True]
        workers.reload("alice", open=["scientist"])
        assert float(mine.reveal()) == 1.0
        assert "range flag" in lines(tmp_path)[-1]
        assert float(mine.reveal()) == 1.0
        assert "range flag" not in lines(tmp_path)[-1]  # opened once


def test_rows_behind_the_outcome_count(office, tmp_path):
    """A mean of squares has 40 rows behind it, and the outcome of testing its terms one."""
    rules = {"open": {"scientist": {"min_items": 40}}}
    with network(office, tmp_path, rules) as workers:
        true = pytest.approx(float((ITEMS**2).mean()), abs=1e-3)
        with workers.connect() as parties:
            assert float((owned(parties) ** 2).mean().reveal()) == true
        with checked(workers) as parties:
            square = (owned(parties) ** 2).mean()
            with pytest.raises(OpenNotPermittedError, match="1 of its rows is behind a value that was tested"):
                square.reveal()
        data = {"x": {"path": str(tmp_path / "x.npy"), "tags": ["#x"], "min": -1, "max": 1}}
        workers.reload("alice", data=data)
        with checked(workers) as parties:
            assert float((owned(parties) ** 2).mean().reveal()) == true


def test_updates_that_wait_are_of_those_who_went_into_them(office, tmp_path):
    """alice's rows go into a parameter by an update that is applied, and tested, when the driver opens its own."""
    with network(office, tmp_path, {"open": []}) as workers, checked(workers) as parties:
        weight, mine = sy.encrypt(torch.zeros(3), parties) / 256, sy.encrypt(torch.tensor([1.0]), parties)
        x = owned(parties)[0]
        weight.add_(x / 256, alpha=1000.0)
        assert parties.session.waiting
        assert not parties.session.flags.pending
        with pytest.raises(OpenNotPermittedError, match="alice, whose data went into the range flag"):
            mine.reveal()


def test_the_outcome_is_a_number_of_the_budget(office, tmp_path):
    with network(office, tmp_path, {"limits": {"numbers": 5}}) as workers, checked(workers) as parties:
        x = owned(parties)
        (x * x).sum(0).reveal()  # three numbers, and the outcome
        assert workers.workers["alice"].openings.numbers_today() == {"scientist": 4}
        mine = sy.encrypt(torch.tensor([1.0]), parties)
        y = x.t() @ x
        mine.reveal()  # of her data, the outcome alone
        assert workers.workers["alice"].openings.numbers_today() == {"scientist": 5}
        z = (y * y).sum()
        with pytest.raises(OpenNotPermittedError, match="here are 1 more"):
            mine.reveal()
        del z
    with network(office, tmp_path) as workers:  # counted from the log
        assert workers.workers["alice"].openings.numbers_today() == {"scientist": 5}


def test_a_person_approves_both(office, tmp_path):
    with network(office, tmp_path, {"open": {"scientist": {"approve": True}}}) as workers, checked(workers) as parties:
        mine, x = sy.encrypt(torch.tensor([1.0]), parties), owned(parties)
        kept = x * x
        with pytest.raises(OpenNotPermittedError, match="wants to be asked"):
            mine.reveal()
        [request] = approvals.waiting(tmp_path / "alice.state")
        assert request.operations[-1] == "range flag"
        assert request.owners == ["alice", "scientist"]
        assert approvals.approve(tmp_path / "alice.state", request.id)
        assert float(mine.reveal()) == 1.0
        with pytest.raises(OpenNotPermittedError, match="wants to be asked"):
            kept.sum().reveal()


def test_every_owner_is_asked(office, tmp_path):
    """bob's data and alice's were tested; bob refuses."""
    with network(office, tmp_path, {}, {"open": []}, ("alice", "bob", "carol")) as workers, checked(workers) as parties:
        x, y = owned(parties, "alice"), owned(parties, "bob")
        assert float(x.sum().reveal()) == pytest.approx(float(ITEMS.sum()), abs=0.01)
        product = x * y
        with pytest.raises(OpenNotPermittedError, match="bob"):
            x.sum().reveal()
        del product


# --- what is refused ------------------------------------------------------------------------


def test_nothing_is_saved_before_the_outcome_is_known(office, tmp_path):
    options = {name: {"checkpoints": str(tmp_path / f"{name}.saved")} for name in ("alice", "bob")}
    with Workers(office.folder, options=options) as workers, checked(workers) as parties:
        model = sy.encrypt(nn.Linear(3, 2), parties)
        out = model(sy.encrypt(torch.randn(4, 3), parties)).detach()
        with pytest.raises(CheckpointError, match="open a value"):
            sy.save(model, None, tmp_path / "run")
        out.reveal()
        sy.save(model, None, tmp_path / "run")


def test_codes_are_refused_by_name(workers):
    with checked(workers) as parties, pytest.raises(NotImplementedError, match="mac"):
        sy.encrypt(torch.zeros(1), parties, integrity="mac")


def test_parties_that_are_told_differently_do_nothing_together(workers, monkeypatch):
    """alice is told that ranges are tested, and the others are not."""
    from pysmpc.remote.driver import driver

    original = driver.Setup
    said = iter([True, False, False])
    monkeypatch.setattr(driver, "Setup", lambda *facts: original(*facts[:-1], next(said)))
    with workers.connect() as parties:
        x = sy.encrypt(torch.tensor([2.0]), parties)
        with pytest.raises(RemoteError):
            (x * x).reveal()


def test_a_value_for_one_holder_alone_is_refused(workers):
    """What came of the tests would have to be opened with it."""
    with checked(workers) as parties:
        secret = sy.encrypt(torch.ones(3), parties)
        with pytest.raises(NotImplementedError, match=r"checked=True.*leave out checked, or to"):
            sy.decrypt(secret, to="bob")
        assert torch.equal(secret.reveal(), torch.ones(3))
    here = sy.encrypt(torch.ones(3), sy.virtual(*workers.holders, checked="protocol"))
    with pytest.raises(NotImplementedError, match="leave out checked"):
        sy.decrypt(here, to=workers.holders[0])
