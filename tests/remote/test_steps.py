"""`sy.TrainStep` with workers of other machines: steps that they repeat are those of one process."""

import copy

import pytest
import torch
from torch import nn

import pysmpc as sy
from pysmpc import steps, tape
from pysmpc.errors import RemoteError
from pysmpc.remote import messages, recorder
from pysmpc.remote.arguments import reference
from pysmpc.remote.replay import Origin

ULP = 2.0**-16


def squares(out, target):
    return ((out - target) ** 2).sum() / len(target)


def mlp():
    return nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3))


def train(parties, net, batches, turns, step_of=sy.TrainStep, optimizer=None, **options):
    """Losses, whether each step was repeated, and the parameters."""
    model = sy.encrypt(copy.deepcopy(net), parties, **options)
    optimizer = (optimizer or (lambda p: torch.optim.SGD(p, lr=0.05)))(model.parameters())
    data = [[sy.encrypt(each, parties, **options) for each in batch] for batch in batches]
    step = step_of(model, optimizer, squares)
    losses, repeated = [], []
    for turn in range(turns):
        losses.append(step(*data[turn % len(data)]))
        repeated.append(step.repeats)
    return [sy.decrypt(loss) for loss in losses], repeated, [sy.decrypt(p) for p in model.parameters()], step


def batches(count, *shape):
    return [(torch.randn(4, *shape), torch.randn(4, 3)) for _ in range(count)]


CASES = {
    "sgd": {},
    "momentum": {"optimizer": lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9, weight_decay=0.01)},
    "decimal": {"precision_fractional": 3},
    "snn": {"protocol": "snn"},
    "fss": {"protocol": "fss"},
    "nearest": {"rounding": "nearest"},
}


@pytest.mark.parametrize("case", CASES)
def test_repeated_steps_are_those_of_one_process(workers, parties, case):
    net, data = mlp(), batches(3, 6)
    here = sy.virtual(*parties.names)
    before = parties.stats.copy()
    losses, repeated, weights, step = train(parties, net, data, 11, **CASES[case])
    expected, _, theirs, _ = train(here, net, data, 11, **CASES[case])
    assert (parties.stats - before).cost == here.stats.cost
    atol = 0.02 if case == "decimal" else 256 * ULP
    for mine, other in zip([*losses, *weights], [*expected, *theirs], strict=True):
        assert torch.allclose(mine, other, atol=atol, rtol=0)
    assert sum(repeated) == 6, step.reason
    assert tape.active() is None


def sessions_of(workers):
    return [a._replay for w in workers.workers.values() for a in w.attendances.values() if a._replay is not None]


def recordings(workers, parties):
    parties.wait()
    return [len(replay._steps._known) for replay in sessions_of(workers)]


class Training:
    """A model, an optimizer and batches, there."""

    def __init__(self, parties, net=None, loss=squares, turns=2, lr=0.05):
        self.parties = parties
        self.model = sy.encrypt(net or mlp(), parties)
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=lr)
        self.batches = [[sy.encrypt(each, parties) for each in batch] for batch in batches(turns, 6)]
        self.step = sy.TrainStep(self.model, self.optimizer, loss)
        self.turn = 0

    def run(self, count):
        repeated = []
        for _ in range(count):
            self.loss = self.step(*self.batches[self.turn % len(self.batches)])
            self.turn += 1
            repeated.append(self.step.repeats)
        return repeated


def test_one_message_a_step(workers, parties):
    training = Training(parties)
    training.run(7)
    parties.wait()
    sent, first = parties.traffic[0], parties.link._next
    assert training.run(5) == [True] * 5
    parties.wait()
    assert parties.link._next - first <= 10  # a repetition, and the loss before it that nobody refers to any more
    assert parties.traffic[0] - sent < 3 * 5 * 60


def test_states_agree_everywhere(workers, parties):
    training = Training(parties)
    training.run(9)
    training.model.eval()
    sy.decrypt(training.model(training.batches[0][0]))
    training.model.train()
    training.run(4)
    parties.wait()
    here = (parties.stats, parties.session.party.dealer.next_stream)
    assert all((r.session.stats, r.session.party.dealer.next_stream) == here for r in sessions_of(workers))


def test_changed_settings_are_recorded_again(workers, parties):
    training = Training(parties)
    assert training.run(6)[-1]
    for group in training.optimizer.param_groups:
        group["lr"] = 0.01
    assert training.run(5) == [False, False, False, True, True]
    assert recordings(workers, parties) == [1, 1, 1]  # the old one is gone


def test_recordings_go_with_what_was_recorded(workers, parties):
    training = Training(parties)
    training.run(6)
    assert recordings(workers, parties) == [1, 1, 1]
    del training
    sy.encrypt(torch.ones(1), parties)  # whatever comes next takes the word along
    assert recordings(workers, parties) == [0, 0, 0]


def test_more_kinds_of_batches_than_are_kept(workers, parties, monkeypatch):
    monkeypatch.setattr(steps, "KINDS", 2)
    monkeypatch.setattr(recorder, "LIMIT", 3)
    first, second = Training(parties), Training(parties)
    for training in (first, second):
        training.batches = [
            [sy.encrypt(torch.randn(items, n), parties) for n in (6, 3)] for items in (2, 3, 4) for _ in range(5)
        ]
    assert [first.step(*batch) is not None and first.step.repeats for batch in first.batches][-1]
    assert recordings(workers, parties) == [2, 2, 2]
    for batch in second.batches:
        second.step(*batch)
    assert not second.step.repeats
    assert "as many recorded steps" in second.step.reason
    del first
    second.step(*second.batches[0])
    for batch in second.batches[1:5]:
        second.step(*batch)
    assert second.step.repeats
    assert max(recordings(workers, parties)) <= 3


def test_random_public_values_are_seen(workers, parties):
    training = Training(parties, loss=lambda out, target: squares(out * torch.rand(3), target))
    assert not any(training.run(7))
    assert "random or changing" in training.step.reason
    assert recordings(workers, parties) == [0, 0, 0]
    assert sy.decrypt(training.loss) >= 0


def test_a_loss_that_opens_something_is_not_repeated(workers, parties):
    seen = []

    def loss(out, target):
        found = squares(out, target)
        seen.append(float(sy.decrypt(found.detach())))
        return found

    training = Training(parties, loss=loss)
    assert not any(training.run(6))
    assert "opens" in training.step.reason
    assert len(seen) == 6
    assert abs(sy.decrypt(training.loss) - seen[-1]) < 2 * ULP


def test_a_step_that_fails_while_it_is_recorded(workers, parties):
    trouble = []

    def loss(out, target):
        found = squares(out, target)
        if trouble:
            raise KeyError(trouble.pop())
        return found

    training = Training(parties, loss=loss)
    training.run(2)
    trouble.append("recording")
    with pytest.raises(KeyError):
        training.run(1)
    assert training.run(5) == [False, False, False, True, True]  # that one had opened the parameters
    assert sy.decrypt(training.loss) >= 0


def test_an_unknown_operation_within_a_step(workers, parties):
    training = Training(parties, loss=lambda out, target: torch.linalg.det(out[:3, :3]))
    with pytest.raises(NotImplementedError):
        training.run(1)
    training.step.loss = squares
    assert training.run(6)[-1]


def test_two_steps_in_turn(workers, parties):
    first, second = Training(parties), Training(parties, mlp(), turns=3)
    for _ in range(12):
        found = first.run(1) + second.run(1)
    assert found == [True, True]
    assert sy.decrypt(first.loss) >= 0


def test_windows_as_arguments(workers, parties):
    """Slices of one value: what travels is a window, what is recorded a copy."""
    data, targets = torch.randn(12, 6), torch.randn(12, 3)
    found = []
    for where in (parties, sy.virtual(*parties.names)):
        torch.manual_seed(1)
        model = sy.encrypt(mlp(), where)
        x, y = sy.encrypt(data, where), sy.encrypt(targets, where)
        step = sy.TrainStep(model, torch.optim.SGD(model.parameters(), lr=0.05), squares)
        for turn in range(8):
            part = slice(4 * (turn % 3), 4 * (turn % 3) + 4)
            step(x[part], y[part])
        assert step.repeats, step.reason
        found.append([sy.decrypt(p) for p in model.parameters()])
    for mine, other in zip(*found, strict=True):
        assert torch.allclose(mine, other, atol=256 * ULP, rtol=0)


def test_three_holders(three):
    with three.connect() as parties:
        training = Training(parties)
        assert training.run(6)[-1]
        assert sy.decrypt(training.loss) >= 0
        assert recordings(three, parties) == [1] * 4


def test_a_tape_that_misses_something_is_found_by_the_workers(workers, monkeypatch):
    """The second recording holds the first against what was really sent."""
    note = tape.Tape.note

    def forgetful(self, call, *args):
        if getattr(call, "__name__", "") != "truncate_finish":
            note(self, call, *args)

    monkeypatch.setattr(tape.Tape, "note", forgetful)
    with workers.connect() as parties:
        training = Training(parties)
        training.run(4)
        with pytest.raises(RemoteError, match="does not come to the same"):
            parties.wait()


def test_whose_data_a_repeated_step_has_seen(workers, parties):
    """Each of two models learns from what it was given, whatever was recorded with."""
    training = Training(parties, turns=6)
    training.run(3)
    replay = sessions_of(workers)[0]
    marks = [Origin(frozenset([f"owner {i}"]), ((f"data {i}", 1 << i),)) for i in range(6)]
    parties.wait()
    for mark, (x, _) in zip(marks, training.batches, strict=True):
        replay._origins[x.cell.slot] = mark
    weight = next(training.model.parameters())
    assert training.run(3) == [False, True, True]
    parties.wait()
    seen = [replay._origins[value.cell.slot] for value in (weight, training.loss)]
    for origin in seen:
        assert origin.owners >= {"owner 3", "owner 4", "owner 5"}
        assert not origin.owners & {"owner 0", "owner 1", "owner 2"}
        assert origin.count == 3
    training.run(1)  # the first batch again: now it went in, too
    parties.wait()
    assert "owner 0" in replay._origins[weight.cell.slot].owners


def test_a_driver_that_repeats_with_something_else(workers, parties):
    """A worker does not believe that a step fits."""
    training = Training(parties)
    training.run(6)
    step, known = training.step, next(iter(training.step._known.values()))
    sender = parties.recorder
    x, y = training.batches[0]
    small = sy.encrypt(torch.ones(3, 6), parties)
    out = sy.encrypt(torch.ones(()), parties)
    del step
    with sender._lock:
        inputs = [reference(small), reference(y)]
        sender._queue(messages.Repeat(sender._regions[known][0], inputs, 10**6), (), None)
    with pytest.raises(RemoteError, match="other arguments"):
        parties.wait()
    assert x.shape == (4, 6)
    assert out.shape == ()


def test_public_values_that_change_are_seen_however_large(workers, parties):
    """Those that travel beside an operation, and those within."""
    for size in (1, 700):
        factors = [torch.full((size, 3), 1.0 + turn) for turn in range(9)]
        turns = iter(factors)

        def loss(out, target, turns=turns):
            return squares(out, target) + (out[:1] * next(turns)).mean() * 0

        training = Training(parties, loss=loss)
        assert not any(training.run(6))
        assert "random or changing" in training.step.reason


@pytest.mark.parametrize(
    "message",
    [
        messages.Recorded(None, -1, False),
        messages.Record(1, [], [], [], -1),
        messages.Record(1, [], [], [], 7),
        messages.Repeat(7, [], 0),
    ],
    ids=["end", "empty", "check", "repeat"],
)
def test_messages_out_of_place(workers, message):
    with workers.connect() as parties:
        x = sy.encrypt(torch.ones(2), parties)
        parties.recorder._queue(message, (), None)
        with pytest.raises(RemoteError):
            sy.decrypt(x)
