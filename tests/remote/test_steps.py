"""`sy.TrainStep` with workers of other machines: steps that they repeat are those of one process."""

import copy
import time

import pytest
import torch
from remotes import without_consent
from torch import nn

import pysmpc as sy
from pysmpc.errors import RemoteError
from pysmpc.program import loop_regions
from pysmpc.program.trace import Trace
from pysmpc.remote import program_messages
from pysmpc.remote.arguments import reference
from pysmpc.remote.limits import RECORDINGS
from pysmpc.remote.worker import recordings as recordings_there
from pysmpc.remote.worker.origins import Origin, origin_of
from pysmpc.remote.worker.replay import Replay
from pysmpc.remote.worker.rows import Rows, loaded
from pysmpc.ring import recording
from pysmpc.ring.fixedpoint import Precision
from pysmpc.session.session import virtual_session
from pysmpc.tensor.secret import SecretTensor

ULP = 2.0**-16


ONE = program_messages.Ref(0, [2], [1], 0, "float32")  # what a test shares first


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


def calm(turns, optimizer=None, margin=2.0**-7):
    """A network and batches of which no ReLU comes so near to 0 in so many steps that rounding could turn it."""
    while True:
        net, data, nearest = mlp(), batches(3, 6), []
        twin = copy.deepcopy(net)
        twin[1].register_forward_pre_hook(lambda _, given, nearest=nearest: nearest.append(given[0].abs().min()))
        optimizing = (optimizer or (lambda p: torch.optim.SGD(p, lr=0.05)))(twin.parameters())
        for turn in range(turns):
            optimizing.zero_grad()
            squares(twin(data[turn % 3][0]), data[turn % 3][1]).backward()
            optimizing.step()
        if min(nearest) > margin:
            return net, data


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
    net, data = calm(11, CASES[case].get("optimizer"))
    here = sy.virtual(*parties.names)
    before = parties.stats.copy()
    losses, repeated, weights, step = train(parties, net, data, 11, **CASES[case])
    expected, _, theirs, _ = train(here, net, data, 11, **CASES[case])
    assert without_consent((parties.stats - before).cost, here.stats.cost, len(parties.names))
    atol = 0.02 if case == "decimal" else 256 * ULP
    for mine, other in zip([*losses, *weights], [*expected, *theirs], strict=True):
        assert torch.allclose(mine, other, atol=atol, rtol=0)
    assert sum(repeated) == 6, step.reason
    assert recording.active() is None


def sessions_of(workers):
    """The latest session at each worker: one before it may still be about to go."""
    found = [[a.replay for a in w.attendances.values() if a.replay is not None] for w in workers.workers.values()]
    return [each[-1] for each in found if each]


def recordings(workers, parties):
    parties.wait()
    return [len(replay.steps._known) for replay in sessions_of(workers)]


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


def test_a_changed_rate_is_recorded_again_once(workers, parties):
    training = Training(parties)
    assert training.run(6)[-1]
    for rate, repeats in ((0.01, 2 * [False] + [True]), (0.011, 3 * [True]), (0.012, 3 * [True])):
        for group in training.optimizer.param_groups:
            group["lr"] = rate
        assert training.run(3) == repeats
        assert recordings(workers, parties) == [1, 1, 1]  # the old one is gone


def test_a_changed_threshold_is_recorded_again(workers, parties):
    """Of a mask that a loss makes; it is less than a step of the encoding, and decides all the same."""
    below, above = 2.0**-17, -(2.0**-17)
    threshold = below

    def loss(out, target):
        return ((out * 0 > threshold) * target).sum() + (out * 0).sum()

    training = Training(parties, loss=loss)
    totals = [sy.decrypt(y.sum()) for _, y in training.batches]
    for threshold in (below, above):
        repeated = []
        for _ in range(7):
            [again] = training.run(1)
            repeated.append(again)
            expected = 0.0 if threshold > 0 else float(totals[(training.turn - 1) % 2])
            assert float(sy.decrypt(training.loss)) == pytest.approx(expected, abs=2.0**-10)
        assert repeated[-1], training.step.reason


def test_recordings_go_with_what_was_recorded(workers, parties):
    training = Training(parties)
    training.run(6)
    assert recordings(workers, parties) == [1, 1, 1]
    del training
    sy.encrypt(torch.ones(1), parties)  # whatever comes next takes the word along
    assert recordings(workers, parties) == [0, 0, 0]


def test_more_kinds_of_batches_than_are_kept(workers, parties, monkeypatch):
    monkeypatch.setattr(loop_regions, "PATHS", 2)
    monkeypatch.setattr(parties.recorder.steps, "most", 3)
    first, second = Training(parties), Training(parties)
    for training in (first, second):
        training.batches = [
            [sy.encrypt(torch.randn(items, n), parties) for n in (6, 3)] for items in (2, 3, 4) for _ in range(5)
        ]
    assert [first.step(*batch) is not None and first.step.repeats for batch in first.batches][-1]
    assert recordings(workers, parties) == [2, 2, 2]
    for batch in second.batches[:10]:
        second.step(*batch)
    assert not second.step.repeats
    assert "as many recorded steps" in second.step.reason
    del first
    second.step(*second.batches[0])
    for batch in second.batches[5:10]:
        second.step(*batch)
    assert second.step.repeats
    assert max(recordings(workers, parties)) <= 3


def test_random_public_values_are_seen(workers, parties):
    training = Training(parties, loss=lambda out, target: squares(out * torch.rand(3), target))
    assert not any(training.run(7))
    assert "changed" in training.step.reason
    assert recordings(workers, parties) == [0, 0, 0]
    assert sy.decrypt(training.loss) >= 0


def test_a_loss_that_opens_something(workers, parties):
    seen = []

    def loss(out, target):
        found = squares(out, target)
        seen.append(float(sy.decrypt(found.detach())))
        return found

    training = Training(parties, loss=loss)
    training.run(6)
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
    training = Training(parties, loss=lambda out, target: torch.linalg.eigvals(out[:3, :3]))
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


def test_a_trace_that_misses_something_is_found_by_the_workers(workers, monkeypatch):
    """The second recording holds the first against what was really sent."""
    note = Trace.note

    def forgetful(self, call, *args):
        if getattr(call, "name", "") != "truncate_finish":
            note(self, call, *args)

    monkeypatch.setattr(Trace, "note", forgetful)
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
    # four rows in each batch, but two in one of them
    items = [torch.arange(4) + 4 * i if i != 4 else torch.tensor([7, 7, 8, 8]) for i in range(6)]
    layout = (4, 6), (6, 1)
    marks = [Origin(frozenset([f"owner {i}"]), loaded((4, 6), each, 0), layout) for i, each in enumerate(items)]
    parties.wait()
    for mark, (x, _) in zip(marks, training.batches, strict=True):
        replay.cell(x.cell.slot).provenance.origin = mark
    weight = next(training.model.parameters())
    assert training.run(3) == [False, True, True]
    parties.wait()
    seen = [origin_of(replay.cell(value.cell.slot)) for value in (weight, training.loss)]
    for origin in seen:
        assert origin.owners >= {"owner 3", "owner 4", "owner 5"}
        assert not origin.owners & {"owner 0", "owner 1", "owner 2"}
        assert origin.rows == Rows(2)
    training.run(1)  # the first batch again: now it went in, too
    parties.wait()
    assert "owner 0" in origin_of(replay.cell(weight.cell.slot)).owners


def test_whose_data_running_statistics_have_seen(workers, parties):
    """As an operation, and in a repeated step."""
    training = Training(parties, nn.Sequential(nn.BatchNorm1d(6), nn.Linear(6, 3)), turns=6)
    parties.wait()
    replay, mean = sessions_of(workers)[0], training.model[0].running_mean
    for turn, (x, _) in enumerate(training.batches):
        replay.cell(x.cell.slot).provenance.origin = Origin(frozenset([f"owner {turn}"]), Rows(4))
        training.run(1)
        parties.wait()
        assert f"owner {turn}" in origin_of(replay.cell(mean.cell.slot)).owners
    assert training.step.repeats, training.step.reason


def test_a_driver_that_repeats_with_something_else(workers, parties):
    """A worker does not believe that a step fits."""
    training = Training(parties)
    training.run(6)
    [(segment, _)] = training.step._paths[0].segments.values()
    sender = parties.recorder
    x, y = training.batches[0]
    small = sy.encrypt(torch.ones(3, 6), parties)
    out = sy.encrypt(torch.ones(()), parties)
    with sender.lock:
        inputs = [reference(small), reference(y)]
        sender.queue(program_messages.Repeat(sender.steps.known[segment][0], inputs, [10**6]), (), None)
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
        assert "changed" in training.step.reason


@pytest.mark.parametrize(
    "message",
    [
        program_messages.Recorded(None, [], False),
        program_messages.Record(1, [], [], [], -1),
        program_messages.Record(1, [], [], [], 7),
        program_messages.Record(1, [ONE], [10], [], 2**60),
        program_messages.Record(1, [ONE], [10, 11], [], -1),
        program_messages.Record(1, [ONE], [0], [], -1),
        program_messages.Record(1, [ONE, ONE], [10, 10], [], -1),
        program_messages.Record(1, [ONE], [10], [0, 0], -1),
        program_messages.Record(1, [ONE], [10], [10], -1),
        program_messages.Record(1, [program_messages.Ref(0, [3], [1], 0, "float32")], [10], [], -1),
        program_messages.Repeat(7, [], [0]),
        program_messages.Repeat(2**60, [ONE], [10]),
        program_messages.Call("aten.add_.Tensor", [ONE, ONE], {"alpha": program_messages.Changing(0, 1.0)}, [-1]),
    ],
    ids=[
        "end",
        "empty",
        "check",
        "far check",
        "more slots",
        "taken slot",
        "slot twice",
        "state twice",
        "no such state",
        "beyond",
        "repeat",
        "far repeat",
        "a number that changes",
    ],
)
def test_messages_out_of_place(workers, message):
    with workers.connect() as parties:
        x = sy.encrypt(torch.ones(2), parties)
        parties.recorder.queue(message, (), None)
        with pytest.raises(RemoteError):
            sy.decrypt(x)


# --- a driver that is not this one -----------------------------------------------------


class Driver:
    """One that makes its messages by hand.  Slots: 0 is its own value, 1 one of alice's, as alice sees it."""

    def __init__(self, workers, parties):
        self.parties, self.send = parties, lambda message: parties.recorder.queue(message, (), None)
        self.kept = [sy.encrypt(torch.ones(2), parties) for _ in range(2)]
        parties.wait()
        self.replays = sessions_of(workers)
        self.mark(1)

    def mark(self, slot):
        """What is there is alice's."""
        self.parties.wait()
        for replay in self.replays:
            replay.cell(slot).provenance.origin = Origin(frozenset(["alice"]), Rows(2))

    def owners(self, slot):
        """Whose data that is, at each worker."""
        self.parties.wait()
        return {origin_of(replay.cell(slot)).owners for replay in self.replays}

    def ref(self, slot):
        return program_messages.Ref(slot, [2], [1], 0, "float32")

    def call(self, name, slots, out=None):
        outs = [-1 if out is None else out]
        self.send(
            program_messages.Call(
                f"aten.{name}", [self.ref(slot) for slot in slots], {}, outs if out is not None else [-1]
            )
        )

    def share(self, slot):
        """A value of the driver's own."""
        message = program_messages.Input("default", slot, [2], 65536, 2, 16, "float32")
        self.parties.recorder.queue(message, (), torch.zeros(2, dtype=torch.int64))

    def record(self, calls=(), states=(), result=11, check=-1, step=1, keep=True, argument=0, ends=True):
        """A step whose argument is in slot 10; what comes of it goes to 12."""
        self.send(program_messages.Record(step, [self.ref(argument)], [10], list(states), check))
        for each in calls:
            self.call(*each) if isinstance(each, tuple) else each()
        if ends:
            self.send(program_messages.Recorded([self.ref(result)], [12], keep))

    def repeat(self, argument=0, out=13, step=1):
        self.send(program_messages.Repeat(step, [self.ref(argument)], [out]))

    def ends(self, match):
        with pytest.raises(RemoteError, match=match):
            self.parties.wait()


@pytest.fixture
def eve(workers):
    with workers.connect() as parties:
        yield Driver(workers, parties)


SUM = [("add.Tensor", [10, 1], 11)]


def test_whose_data_a_step_beside_its_arguments_has_seen(eve):
    eve.record(SUM)
    eve.repeat()
    assert eve.owners(13) == {frozenset(["alice", "scientist"])}


@pytest.mark.parametrize(
    ("numbers", "match"),
    [
        *(([*given], "with other numbers") for given in ((), (1.0, 1.0), (float("nan"),), (float("inf"),))),
        ([-1e-300], "with other arguments, or other values"),
    ],
    ids=["none", "more", "NaN", "infinity", "tiny"],
)
def test_numbers_that_a_step_does_not_take(eve, numbers, match):
    eve.share(2)
    rate = {"alpha": program_messages.Changing(0, 0.5)}
    eve.call("mul.Tensor", [2, 2], 3)
    call = program_messages.Call("aten.add_.Tensor", [eve.ref(2), eve.ref(3)], rate, [-1])
    eve.record([lambda: eve.send(call)], [2], 10)
    eve.send(program_messages.Repeat(1, [eve.ref(0)], [13], [0.25]))
    eve.parties.wait()
    eve.send(program_messages.Repeat(1, [eve.ref(0)], [14], numbers))
    eve.ends(match)


@pytest.mark.parametrize(
    ("name", "place", "value", "match"),
    [
        ("add_.Tensor", 1, 0.5, "out of its turn"),
        ("add_.Tensor", 0, float("nan"), "out of its turn"),
        ("add.Tensor", 0, 0.5, "does not say what follows"),
    ],
)
def test_numbers_that_change_where_none_may(eve, name, place, value, match):
    eve.share(2)
    eve.call("mul.Tensor", [2, 2], 3)
    number = {"alpha": program_messages.Changing(place, value)}
    outs = [-1] if name == "add_.Tensor" else [20]
    calls = [lambda: eve.send(program_messages.Call(f"aten.{name}", [eve.ref(2), eve.ref(3)], number, outs))]
    eve.record(calls, [2], 10)
    eve.ends(match)


def test_whose_data_each_result_of_a_step_has_seen(eve):
    eve.send(program_messages.Record(1, [eve.ref(0)], [10], [], -1))
    for other, out in ((1, 11), (10, 12)):
        eve.call("add.Tensor", [10, other], out)
    eve.send(program_messages.Recorded([eve.ref(11), eve.ref(12)], [13, 14], True))
    eve.send(program_messages.Repeat(1, [eve.ref(0)], [15, 16]))
    for slot in (13, 15):
        assert eve.owners(slot) == {frozenset(["alice", "scientist"])}
        assert eve.owners(slot + 1) == {frozenset(["scientist"])}
    eve.repeat(out=17)
    eve.ends("without a slot for each result")


def test_another_value_in_the_slot_of_one_that_a_step_reads(eve):
    """It would be taken for the driver's own, and be opened."""
    eve.record(SUM)
    eve.send(program_messages.Drop([1]))
    eve.share(1)
    eve.repeat()
    eve.ends("no longer there")


def test_another_value_in_the_slot_of_one_that_a_step_changes(eve):
    """Alice's data would be called the driver's."""
    eve.share(2)
    eve.record([("add_.Tensor", [2, 10]), ("add.Tensor", [2, 10], 11)], states=[2])
    eve.send(program_messages.Drop([2]))
    eve.share(2)
    eve.mark(2)
    eve.repeat()
    eve.ends("no longer there")


@pytest.mark.parametrize("slot", [1, 2])
def test_a_step_that_drops_what_it_reads_or_changes(eve, slot):
    eve.share(2)
    eve.record([("add.Tensor", [10, 1], 11), lambda: eve.send(program_messages.Drop([slot]))], states=[2])
    eve.ends("drops what it reads or changes")


def test_a_step_that_takes_data_in(eve):
    """Which would be called what was in its slot before."""
    eve.record([
        ("add.Tensor", [10, 10], 14), lambda: eve.send(program_messages.Drop([14])), lambda: eve.share(14),
        ("add.Tensor", [14, 10], 11),
    ])  # fmt: skip
    eve.ends("shares, opens and refreshes nothing")


@pytest.mark.parametrize("name", ["Refresh", "Open", "Restore", "failed"])
def test_a_step_that_does_something_else(eve, name):
    ref = eve.ref(0)
    message = {
        "Refresh": program_messages.Refresh(ref),
        "Open": program_messages.Open(ref, eve.parties.recorder.state(), "scientist"),
        "Restore": program_messages.Restore("default", {}),
        "failed": program_messages.Call("aten.mm.default", [ref, ref], {}, [-1], True),
    }[name]  # fmt: skip
    eve.record([*SUM, lambda: eve.send(message)])
    with pytest.raises(sy.errors.PysmpcError, match=r"cannot be repeated|nobody asked"):
        eve.parties.wait()
    assert not any(replay.steps._known for replay in eve.replays)


def test_the_result_is_what_the_step_came_to(eve):
    """Not what its slot has now: alice's data would be called the driver's."""
    eve.record([("add.Tensor", [10, 10], 11)])
    eve.call("add_.Tensor", [11, 1])
    eve.repeat()
    assert eve.owners(13) == {frozenset(["scientist"])}
    for slot, value in ((11, 3.0), (13, 2.0)):
        assert value_of(eve, slot) == pytest.approx(value, abs=0.001)


def test_what_a_step_was_recorded_with_is_not_what_it_is_repeated_with(eve):
    """Alice's batch is not to be found in the slots of a recording with the driver's."""
    eve.call("add.Tensor", [1, 1], 3)  # alice's: 2
    eve.record([("mul.Tensor", [10, 10], 14), ("add.Tensor", [14, 10], 11)])
    eve.repeat(argument=3)
    assert eve.owners(13) == {frozenset(["alice"])}
    assert value_of(eve, 13) == pytest.approx(6, abs=0.01)
    for slot, value in ((10, 1.0), (14, 1.0), (11, 2.0), (12, 2.0)):
        assert value_of(eve, slot) == pytest.approx(value, abs=0.01)
        eve.call("mul.Tensor", [slot, 0], 20 + slot)  # under the mask that it was opened with
        assert value_of(eve, 20 + slot) == pytest.approx(value, abs=0.01)


def test_a_result_that_is_an_argument_or_a_state(eve):
    eve.share(2)
    eve.record([("copy_.default", [2, 10])], states=[2], result=2)
    eve.send(program_messages.Drop([10, 12]))
    eve.record([], step=2, result=10)
    eve.call("add.Tensor", [1, 1], 3)
    for turn, argument in enumerate([0, 3, 0, 0, 3, 3]):
        eve.repeat(argument, 20 + turn)
        eve.repeat(argument, 30 + turn, step=2)
        expected = 2.0 if argument else 1.0
        assert [value_of(eve, slot) for slot in (2, 20 + turn, 30 + turn)] == [expected] * 3
        assert "alice" in next(iter(eve.owners(2))) or not turn
    assert eve.owners(30) == {frozenset(["scientist"])}
    assert eve.owners(35) == {frozenset(["alice"])}


def test_a_step_that_changes_its_argument(eve):
    eve.record([("add_.Tensor", [10, 1]), ("add.Tensor", [10, 10], 11)])
    eve.ends("in place")


@pytest.mark.parametrize("what", ["record", "repeat"])
def test_a_step_within_a_step(eve, what):
    eve.record(SUM)
    eve.parties.wait()
    eve.send(program_messages.Record(2, [eve.ref(0)], [20], [], -1))
    eve.repeat() if what == "repeat" else eve.send(program_messages.Record(3, [eve.ref(0)], [21], [], -1))
    eve.ends("within")


def test_results_that_go_where_something_is(eve):
    eve.share(2)
    eve.record([("add_.Tensor", [2, 10]), ("add.Tensor", [2, 10], 11)], states=[2])
    eve.repeat(out=2)
    eve.ends("slot 2 is not free")


def test_a_check_of_another_step(eve):
    eve.record(SUM)
    eve.send(program_messages.Drop([10, 11, 12]))
    eve.record([("mul.Tensor", [10, 1], 11)], check=1, step=2)
    eve.ends("held against one of other operations")


def test_a_check_of_operations_that_come_to_the_same(eve):
    """Whether they do would be something about the values."""
    eve.record(SUM)
    eve.send(program_messages.Drop([10, 11, 12]))
    eve.record([("add.Tensor", [1, 10], 11)], check=1, step=2)
    eve.ends("held against one of other operations")


def test_a_check_of_another_result(eve):
    twice = [("add.Tensor", [10, 1], 11), ("add.Tensor", [1, 10], 14)]
    eve.record(twice)
    eve.send(program_messages.Drop([10, 11, 12, 14]))
    eve.record(twice, check=1, step=2, result=14)
    eve.ends("held against one of other operations")


def test_a_check_with_another_value_beside_the_arguments(eve):
    eve.record(SUM)
    eve.send(program_messages.Drop([1, 10, 11, 12]))
    eve.share(1)
    eve.record(SUM, check=1, step=2)
    eve.ends("held against one of other operations or values")


PLACES = [(), (0,), (0, 1, 2)]


@pytest.mark.parametrize("check", PLACES)
@pytest.mark.parametrize("first", PLACES)
def test_recordings_over_several_batches(eve, first, check):
    """Masks are drawn under the keys of the batch; a repetition, and a recording it is held against, have others."""
    value, argument = torch.tensor([0.5, -0.75]), torch.tensor([-0.5, 1.25])
    kept = [sy.encrypt(each, eve.parties) for each in (value, *[argument] * 4)]
    beside, *arguments = (reference(each).slot for each in kept)
    calls = [("mul.Tensor", [10, beside], 14), ("mul.Tensor", [14, 10], 15), ("mul.Tensor", [15, 14], 11)]

    def program(places):
        for place, call in enumerate(calls):
            yield call
            if place in places:
                yield eve.parties.wait

    def there(slot):
        eve.parties.wait()
        cells = [replay.cell(slot) for replay in eve.replays]
        words = sum(cell._body.words[0] for cell in cells if cell._body.rows)  # mod 2^64
        return (words.double() / cells[0]._scale).float()

    expected = value**2 * argument**3
    for number, places in enumerate((first, check)):
        eve.record(program(places), argument=arguments[number], step=1 + number, check=1 if number else -1)
        assert torch.allclose(there(12), expected, atol=2.0**-10)
        eve.send(program_messages.Drop([10, 11, 12, 14, 15]))
    for each in arguments[2:]:
        eve.repeat(argument=each)
        assert torch.allclose(there(13), expected, atol=2.0**-10)
        eve.send(program_messages.Drop([13]))


def test_a_number_twice_and_too_many(eve):
    for step in range(1, RECORDINGS + 1):
        eve.record(SUM, step=step)
        eve.send(program_messages.Drop([10, 11, 12]))
    eve.parties.wait()
    assert {len(replay.steps._known) for replay in eve.replays} == {RECORDINGS}
    eve.record(SUM, step=RECORDINGS + 1)
    eve.ends("too many")


def test_a_step_without_an_end(eve, monkeypatch):
    """It cannot keep what every operation used for ever."""
    monkeypatch.setattr(recordings_there, "LONGEST", 40)
    eve.record([("add.Tensor", [10, 1], 11), lambda: eve.send(program_messages.Drop([11]))] * 50, ends=False)
    eve.ends("more than 40 operations")


def test_steps_with_codes_are_not_recorded(workers):
    with workers.connect() as parties:
        x = sy.encrypt(torch.ones(2), parties, integrity="mac")
        parties.recorder.queue(program_messages.Record(1, [reference(x)], [10], [], -1), (), None)
        with pytest.raises(RemoteError, match="with codes"):
            parties.wait()


def value_of(eve, slot):
    """The first element of what is in a slot: all holders' shares, looked up."""
    eve.parties.wait()
    words = 0
    for replay in eve.replays:
        if replay.session.party.ranks:
            cell = replay._cells[slot]
            assert not cell.pending
            words, scale = words + int(cell.body.words[0, 0]), cell.scale
    return ((words + 2**63) % 2**64 - 2**63) / scale


# --- steps that a fuzzer would write ---------------------------------------------------

ARGUMENT, STATES, OTHER, TEMPORARY = 10, (2, 3), 4, 20


def a_program(rng):
    """(operations, slot of the result) on values of four elements."""
    calls, there = [], [ARGUMENT, *STATES, OTHER]
    bounded = [ARGUMENT, OTHER]
    for number in range(int(rng.integers(1, 7))):
        kind = rng.choice(["add", "mul", "neg", "copy", "add_", "part", "clone"])
        a, b = (int(each) for each in rng.choice(there, 2))
        state, out = int(rng.choice(STATES)), TEMPORARY + number
        if kind == "mul":
            calls.append(("aten.mul.Tensor", [(int(each), 4, 0) for each in rng.choice(bounded, 2)], out))
        elif kind in ("add", "neg", "clone"):
            name = {"add": "aten.add.Tensor", "neg": "aten.neg.default", "clone": "aten.clone.default"}[kind]
            calls.append((name, [(a, 4, 0), (b, 4, 0)][: 2 if kind == "add" else 1], out))
        elif kind == "part":
            calls.append(("aten.copy_.default", [(state, 2, 1), (b, 2, 2)], None))
        else:
            name = {"copy": "aten.copy_.default", "add_": "aten.add_.Tensor"}[kind]
            calls.append((name, [(state, 4, 0), (b, 4, 0)], None))
        if calls[-1][2] is not None:
            there.append(out)
    return calls, int(rng.choice(there))


def run_as_written(replay, calls, argument):
    """Its operations, with another argument in place of the recorded one."""
    for name, slots, out in calls:
        refs = [
            program_messages.Ref(argument if slot == ARGUMENT else slot, [size], [1], offset, "float32")
            for slot, size, offset in slots
        ]
        replay.run(program_messages.Call(name, refs, {}, [-1 if out is None else out]), iter(()))


def origins(replay, slots):
    """Owners and rows of values, to be compared."""
    found = [origin_of(replay.cell(slot)) for slot in slots]
    terms = [[(axes, labels.array.tolist()) for axes, labels in each.rows.terms] for each in found]
    return [(each.owners, each.rows.cap, said) for each, said in zip(found, terms, strict=True)]


def values(replay, slot):
    cell = replay.cell(slot)
    words = cell.body.words.sum(0)
    return words.to(torch.float64) / cell.scale


def settled(replay):
    replay.run(program_messages.Flush("default"), iter(()))


@pytest.mark.parametrize("turn", range(12))
def test_random_steps_repeated_are_those_as_written(turn, rng):
    """Copies among arguments, states, constants and results: no value is ever another's."""
    calls, result = a_program(rng)
    whole, seed = program_messages.Ref, int(rng.integers(2**31))
    written, repeated = small_session(seed), small_session(seed)
    kept = []
    with torch._C._AutoDispatchBelowAutograd():
        for number, argument in enumerate([0, 1, 1, 0, 0, 1, 0]):
            run_as_written(written, calls, argument)
            settled(written)
            expected = values(written, argument if result == ARGUMENT else result)
            marks = origins(written, [argument if result == ARGUMENT else result, *STATES])
            written.run(program_messages.Drop([out for *_, out in calls if out is not None]), iter(()))
            arguments, out = [whole(argument, [4], [1], 0, "float32")], 40 + number
            if number == 0:
                repeated.run(program_messages.Record(1, arguments, [ARGUMENT], list(STATES), -1), iter(()))
                run_as_written(repeated, calls, ARGUMENT)
                settled(repeated)
                repeated.run(program_messages.Recorded([whole(result, [4], [1], 0, "float32")], [out], True), iter(()))
            else:
                repeated.run(program_messages.Repeat(1, arguments, [out]), iter(()))
            kept.append((out, expected))
            assert origins(repeated, [out, *STATES]) == marks, (calls, result)
            for slot in (0, 1, *STATES, OTHER):
                assert torch.allclose(values(repeated, slot), values(written, slot), atol=0.01), (calls, result, slot)
            for slot, value in kept:
                assert torch.allclose(values(repeated, slot), value, atol=0.01), (calls, result, slot)


def small_session(seed):
    """Arguments in 0 and 1, opened, four rows in the one and two in the other; states; a constant of three."""
    rows = {0: loaded((4,), torch.arange(4), 0), 1: loaded((4,), torch.tensor([1, 2, 1, 2]), 0), OTHER: Rows(3)}
    generator = torch.Generator().manual_seed(seed)
    found = virtual_session(["alice", "bob"])
    replay = Replay(found, "scientist", {}, {}, None)
    for slot in (0, 1, *STATES, OTHER):
        words = torch.randint(-(1 << 16), 1 << 16, (4,), generator=generator)
        share = found.suite.share(found.party, words, (4,), 1 << 16)
        origin = Origin(frozenset([f"owner {slot}"]), rows.get(slot, Rows()), ((4,), (1,)))
        replay.keep(slot, SecretTensor.of(share, found, Precision(2, 16), torch.float32).cell, origin)
    with torch._C._AutoDispatchBelowAutograd():
        for slot in (0, 1, OTHER):
            ref = program_messages.Ref(slot, [4], [1], 0, "float32")
            replay.run(program_messages.Call("aten.mul.Tensor", [ref, ref], {}, [-1]), iter(()))
    return replay


def test_a_session_that_ends_within_a_recording(workers):
    """With updates that wait: nobody computes or sends anything more, and all connections are closed."""
    parties = workers.connect()
    eve = Driver(workers, parties)
    eve.share(2)
    eve.send(program_messages.Record(1, [eve.ref(0)], [10], [2], -1))
    eve.call("mul.Tensor", [10, 1], 11)
    eve.send(program_messages.Call("aten.add_.Tensor", [eve.ref(2), eve.ref(11)], {"alpha": 0.5}, [-1]))
    parties.wait()
    assert any(cell.pending for replay in eve.replays for cell in replay._cells.values())
    engagements = [a.engagement for w in workers.workers.values() for a in w.attendances.values() if a.engagement]
    rounds = [each.session.stats.rounds for each in engagements]
    parties.link._drop()
    until = time.monotonic() + 10
    while any(stream.sock.fileno() >= 0 for each in engagements for stream in each.streams):
        assert time.monotonic() < until
        time.sleep(0.02)
    assert [each.session.stats.rounds for each in engagements] == rounds
    assert recording.active() is None


class Halving(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = mlp()

    def forward(self, x):
        return self.inner(x.mul_(0.5))


def test_arguments_that_a_step_changes(workers, parties):
    net, data, found = Halving(), batches(2, 6), []
    for where in (parties, sy.virtual(*parties.names)):
        model = sy.encrypt(copy.deepcopy(net), where, rounding="nearest")
        given = [[sy.encrypt(each, where, rounding="nearest") for each in batch] for batch in data]
        step = sy.TrainStep(model, torch.optim.SGD(model.parameters(), lr=0.05), squares)
        for turn in range(6):
            loss = step(*given[turn % 2])
        found.append([sy.decrypt(each) for each in (loss, given[0][0], given[1][0], *model.parameters())])
    assert all(map(torch.equal, *found))
