"""Federated training at virtual workers: against plain torch, and when workers are late, broken or few."""

import copy
import logging
import math

import pytest
import torch
from torch import nn

import pysmpc as sy
from pysmpc.errors import CheckpointError, ObjectNotFoundError, PartyError, RoundError
from pysmpc.federated import FedAvg, FedBN, FedProx, FedYogi, scatter

ROWS = 90


def problem():
    data = torch.randn(ROWS, 4)
    return data, (data @ torch.randn(4, 3)).argmax(1)


def network():
    return nn.Sequential(nn.Linear(4, 6, bias=False), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 3))


def whole_batch(model, data, targets, *, epochs, lr=0.1, proximal=0.0):
    """Steps on all rows at once, which no order of rows changes."""
    start = [p.detach().clone() for p in model.parameters()]
    model.train()
    for _ in range(epochs):
        model.zero_grad()
        loss = nn.functional.cross_entropy(model(data), targets)
        loss = loss + proximal / 2 * sum((p - s).pow(2).sum() for p, s in zip(model.parameters(), start, strict=True))
        loss.backward()
        with torch.no_grad():
            for p in model.parameters():
                p -= lr * p.grad


@pytest.fixture
def owners(make):
    """Three workers with rows of their own, and these rows."""
    workers = make(3)
    data, targets = problem()
    scatter(data, targets, workers, alpha=1.0, least=5)
    return workers


def rows_of(workers):
    return [(w.search("#data")[0].handle.entry.value, w.search("#targets")[0].handle.entry.value) for w in workers]


def by_hand(model, workers, rounds, epochs, proximal=0.0):
    """FedAvg in plain torch."""
    for _ in range(rounds):
        trained, counts = [], []
        for data, targets in rows_of(workers):
            own = copy.deepcopy(model)
            whole_batch(own, data, targets, epochs=epochs, proximal=proximal)
            trained.append(own.state_dict())
            counts.append(len(data))
        mean = {
            name: sum(n * state[name].double() for n, state in zip(counts, trained, strict=True)) / sum(counts)
            for name, value in model.state_dict().items()
            if value.is_floating_point()
        }
        model.load_state_dict({**model.state_dict(), **{name: value.float() for name, value in mean.items()}})
    return model


@pytest.mark.parametrize("secure", [True, False])
@pytest.mark.parametrize("strategy", [FedAvg, lambda: FedProx(0.5)])
def test_as_in_plain_torch(owners, secure, strategy):
    model = network()
    made = strategy()
    expected = by_hand(copy.deepcopy(model), owners, 3, 2, made.proximal)
    fed = sy.Federation(owners, made, task=whole_batch, secure=secure)
    rounds = fed.fit(model, rounds=3, local_epochs=2)
    for name, value in model.state_dict().items():
        torch.testing.assert_close(value, expected.state_dict()[name], atol=2e-5, rtol=1e-4, msg=name)
    assert [(r.number, r.asked, r.took_part, r.rows) for r in rounds] == [(n, 3, 3, ROWS) for n in (1, 2, 3)]


def test_scores(owners):
    model = network().eval()
    scores = sy.Federation(owners).evaluate(model)
    data, targets = (torch.cat(parts) for parts in zip(*rows_of(owners), strict=True))
    with torch.no_grad():
        out = model(data)
    assert scores["accuracy"] == pytest.approx(float((out.argmax(1) == targets).double().mean()), abs=1e-4)
    assert scores["loss"] == pytest.approx(float(nn.functional.cross_entropy(out, targets)), abs=1e-3)


def test_it_learns(owners):
    model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3))  # a batch norm of two rows may leave max_value
    fed = sy.Federation(owners, arguments={"lr": 0.2, "batch_size": 8})
    before = fed.evaluate(model)
    fed.fit(model, rounds=6, local_epochs=2)
    assert fed.evaluate(model)["loss"] < before["loss"]


def test_the_counter_of_batch_norms_stays_as_it_was(owners):
    model = network()
    sy.Federation(owners, task=whole_batch).fit(model, rounds=1, local_epochs=2)
    assert int(model[1].num_batches_tracked) == 0


def test_batch_norms_stay_at_home(owners):
    model = network()
    before = copy.deepcopy(model.state_dict())
    fed = sy.Federation(owners, FedBN(), task=whole_batch)
    fed.fit(model, rounds=2, local_epochs=1)
    after = model.state_dict()
    for name in before:
        same = torch.equal(before[name], after[name])
        assert same == name.startswith("1."), name
    kept = [fed.clients._kept[worker.id]["1.running_mean"] for worker in owners]
    assert not torch.equal(kept[0], kept[1])


def test_a_sample_of_workers(make):
    workers = make(6)
    scatter(*problem(), workers)
    rounds = sy.Federation(workers, FedAvg(fraction=0.5)).fit(network(), rounds=2)
    assert [(r.asked, r.took_part) for r in rounds] == [(3, 3)] * 2


# --- workers that do not take part --------------------------------------------------


def failing(workers, how):
    """A task that fails at the first worker, whose data it knows."""
    first = rows_of(workers)[0][0]

    def task(model, data, targets, *, epochs):
        whole_batch(model, data, targets, epochs=epochs)
        if data is first:
            how(model)

    return task


def set_to(value):
    def change(model):
        with torch.no_grad():
            model[0].weight[0, 0] = value

    return change


@pytest.mark.parametrize("value", [math.nan, math.inf, 1e6])
def test_who_leaves_says_why_in_her_own_log_alone(owners, caplog, value):
    caplog.set_level(logging.WARNING, "pysmpc.federated")
    model = network()
    rest = by_hand(copy.deepcopy(model), owners[1:], 1, 1)
    [found] = sy.Federation(owners, task=failing(owners, set_to(value))).fit(model)
    assert (found.asked, found.took_part) == (3, 2)
    torch.testing.assert_close(model[0].weight, rest[0].weight, atol=2e-5, rtol=1e-4)
    [record] = caplog.records
    assert record.worker == owners[0].id
    assert "beyond" in record.reason or "NaN" in record.reason
    assert "beyond" not in repr(found)


def test_who_is_late(owners):
    import time

    model = network()
    rest = by_hand(copy.deepcopy(model), owners[1:], 1, 1)
    fed = sy.Federation(owners, task=failing(owners, lambda model: time.sleep(3.0)))
    [found] = fed.fit(model, deadline=2.9)
    assert found.took_part == 2
    torch.testing.assert_close(model[0].weight, rest[0].weight, atol=2e-5, rtol=1e-4)


def test_too_few(owners):
    model = network()
    before = copy.deepcopy(model.state_dict())
    fed = sy.Federation(owners, FedAvg(min_workers=3), task=failing(owners, set_to(math.nan)))
    with pytest.raises(RoundError, match="2 of 3 workers took part, and 3 are needed"):
        fed.fit(model)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_an_error_of_the_task_is_the_callers(owners):
    def task(model, data, targets, *, epochs):
        raise ZeroDivisionError("a mistake")

    with pytest.raises(ZeroDivisionError):
        sy.Federation(owners, task=task).fit(network())


def test_an_unequal_model(owners):
    first = rows_of(owners)[0][0]

    def task(model, data, targets, *, epochs):
        if data is first:
            model[3] = nn.Linear(6, 2)

    model = network()
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(RoundError, match=r"'3.weight' is of shape \[2, 6\] here"):
        sy.Federation(owners, task=task).fit(model)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


# --- checkpoints --------------------------------------------------------------------


@pytest.mark.parametrize("strategy", [FedAvg, FedYogi])
def test_resumed_as_if_nothing_had_happened(owners, tmp_path, strategy):
    model = network()
    expected = copy.deepcopy(model)
    sy.Federation(owners, strategy(), task=whole_batch).fit(expected, rounds=4)
    sy.Federation(owners, strategy(), task=whole_batch, checkpoints=tmp_path).fit(model, rounds=2)
    again = network()
    fed = sy.Federation(owners, strategy(), task=whole_batch, checkpoints=tmp_path)
    rounds = fed.fit(again, rounds=4, resume=True)
    assert [r.number for r in rounds] == [1, 2, 3, 4]
    torch.testing.assert_close(again[0].weight, expected[0].weight, atol=2e-5, rtol=1e-4)
    assert len(list(tmp_path.iterdir())) == 2


def test_checkpoints_of_something_else(owners, tmp_path):
    fed = sy.Federation(owners, checkpoints=tmp_path)
    assert fed.fit(network(), rounds=0, resume=True) == []
    fed.fit(network(), rounds=1)
    with pytest.raises(CheckpointError, match="another model"):
        fed.fit(nn.Linear(4, 3), resume=True)
    with pytest.raises(CheckpointError, match="is of FedAvg"):
        sy.Federation(owners, FedYogi(), checkpoints=tmp_path).fit(network(), resume=True)
    [file] = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(CheckpointError, match="cannot be read"):
        fed.fit(network(), resume=True)


def test_ends_early(owners):
    model = nn.Linear(4, 3)
    fed = sy.Federation(owners, task=lambda model, data, targets, *, epochs: None)
    assert len(fed.fit(model, rounds=9, patience=2)) == 3


# --- bad input ----------------------------------------------------------------------


def test_what_a_federation_is_made_of(owners, make):
    with pytest.raises(TypeError, match="made of workers"):
        sy.Federation(["alice"])
    with pytest.raises(PartyError, match="appear once"):
        sy.Federation([owners[0], owners[0]])
    with pytest.raises(PartyError, match="2 or more"):
        sy.Federation(owners[:1], holders=["north", "south"])
    with pytest.raises(TypeError, match="plain model"):
        sy.Federation(owners).fit(sy.encrypt(network(), sy.virtual("alice", "bob")))
    with pytest.raises(ValueError, match="local_epochs"):
        sy.Federation(owners).fit(network(), local_epochs=0)
    with pytest.raises(ObjectNotFoundError, match="0 tensors tagged '#data'"):
        sy.Federation(make(2)).fit(network())
