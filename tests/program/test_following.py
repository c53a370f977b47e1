"""Steps that are followed: whatever the Python does, and wherever it changes its mind, it is the loop's own result."""

import copy
import os
import random
import threading

import pytest
import torch
from torch import nn

import pysmpc as sy
from pysmpc.errors import PysmpcError, RangeError
from pysmpc.program.follow import Following
from pysmpc.program.loop import LOOPS, following
from pysmpc.session import session as sessions
from pysmpc.tensor.storage import flush
from pysmpc.torch_modes import FOLLOWERS

ASIDE = nn.Linear(2, 1, bias=False)


class Side:
    """A training in a session of its own; of two with the same keys every word is the same."""

    def __init__(self, net, data, keys):
        given = iter(keys)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sessions, "fresh_key", lambda: next(given))
            self.parties = sy.virtual("alice", "bob")
        self.model = sy.encrypt(copy.deepcopy(net), self.parties)
        self.batches = [[sy.encrypt(each, self.parties) for each in batch] for batch in data]
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.02, momentum=0.5)
        self.aside = sy.encrypt(copy.deepcopy(ASIDE), self.parties).requires_grad_(False)
        given = sy.encrypt(torch.zeros(1, 2), self.parties)
        sy.decrypt(self.aside(given))  # a recording keeps nothing of what it learns of other secrets
        self.kept = []

    def words(self):
        return [p.window().words() for p in self.model.parameters()]


def pair(net, data):
    keys = [os.urandom(16) for _ in range(32)]
    return Side(net, data, keys), Side(net, data, keys)


def assert_same(ours, theirs, what=None):
    assert all(map(torch.equal, ours.words(), theirs.words())), what
    assert ours.parties.stats == theirs.parties.stats, what
    assert all(each is LOOPS for each in FOLLOWERS.values()), what


def squares(out, target):
    return ((out - target) ** 2).sum() / len(target)


def net():
    return nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))


def data(sizes):
    return [(torch.randn(size, 3), torch.randn(size, 2)) for size in sizes]


def loop(side, loss, x, y):
    side.optimizer.zero_grad()
    found = loss(side.model(x), y)
    found.backward()
    side.optimizer.step()
    flush(side.parties.session)  # as a step ends
    side.optimizer.zero_grad()
    return found.detach()


class Stop(Exception):
    pass


def raising(side, out, target):
    _ = out * target
    raise Stop


def keeping(side, out, target):
    side.kept.append(out)
    side.kept.append((out * target).detach())
    return squares(out, target)


def reading(side, out, target):
    side.kept.append(sy.decrypt((out - target).detach()))
    return squares(out, target)


def unseen(side, out, target):
    with torch.no_grad():
        side.kept.append(out.abs().mean())
    return squares(out, target)


def twice(side, out, target):
    loss = squares(out, target)
    (slope,) = torch.autograd.grad(loss, side.model[2].bias, create_graph=True)
    return loss + (slope**2).sum()


def nested(side, out, target):
    for _ in range(len(side.kept) % 3):
        out = out * 0.5
    return squares(out, target)


def writing(side, out, target):
    with torch.no_grad():
        side.model[0].bias.mul_(0.5)
    return squares(out, target)


def other(side, out, target):
    return squares(out, target) + side.aside(target).sum()


def again(side, out, target):
    return squares(out, target)


def factor(side, out, target):
    return squares(out, target) * 0.5


def sigmoid(side, out, target):
    return squares(torch.sigmoid(out), target)


def shorter(side, out, target):
    return squares(out[:1], target[:1])


def public(side, out, target):
    return squares(out * torch.tensor([1.0, 2.0 + len(side.kept) % 3]), target)


MINDS = [raising, keeping, reading, unseen, twice, nested, writing, other, factor, sigmoid, shorter, public]


def run(step, side, mind, batch):
    """A turn; whether it came to its end."""
    side.mind = mind
    try:
        side.kept.append(step(*batch))
    except Stop:
        return False
    return True


def change_their_mind(turns):
    """A random program by both ways."""
    ours, theirs = pair(net(), data([4, 4, 2]))
    for each in (ours, theirs):
        each.mind = again
    step = sy.TrainStep(ours.model, ours.optimizer, lambda out, target: ours.mind(ours, out, target))

    def written(x, y):
        return loop(theirs, lambda out, target: theirs.mind(theirs, out, target), x, y)

    mind, story, batch, repeated, left = again, [], 0, 0, 0
    for _ in range(turns):
        if step.repeats and random.random() < 0.5:
            mind = random.choice(MINDS)
        elif mind in (raising, reading) or random.random() < 0.2:
            mind = again
        if random.random() < 0.2 and mind is not raising:  # what a recording learned of its copies would be lost
            batch = random.randrange(3)
        if random.random() < 0.1:
            rate = random.choice([0.02, 0.01])
            for each in (ours, theirs):
                each.optimizer.param_groups[0]["lr"] = rate
        story.append((mind.__name__, batch))
        before = step.repeats
        ended = run(step, ours, mind, ours.batches[batch])
        assert ended == run(written, theirs, mind, theirs.batches[batch]), story
        assert_same(ours, theirs, story)
        repeated += step.repeats
        left += before and not step.repeats
        if random.random() < 0.2:
            assert torch.equal(*(sy.decrypt(p.model[0].weight.detach()) for p in (ours, theirs))), story
    for mine, other in zip(ours.kept, theirs.kept, strict=True):
        if isinstance(mine, sy.SecretTensor):
            mine, other = sy.decrypt(mine.detach()), sy.decrypt(other.detach())
        assert torch.equal(mine, other), story
    assert_same(ours, theirs, story)
    return repeated, left


def test_programs_that_change_their_mind():
    found = [change_their_mind(24) for _ in range(4)]
    assert sum(repeated for repeated, _ in found) > 0
    assert sum(left for _, left in found) > 0


@pytest.mark.slow
def test_many_programs_that_change_their_mind():
    for _ in range(60):
        change_their_mind(40)


def largest(out, target):
    """Of which the gradient asks in another way than a program does."""
    return squares(out, target) + out.max()


def followed(side, loss=squares):
    step = sy.TrainStep(side.model, side.optimizer, loss)
    for turn in range(8):
        step(*side.batches[turn % 2])
    assert step.repeats
    return step


def test_a_path_is_left_at_every_operation(monkeypatch):
    """All that was followed is computed, and the rest as it comes: forward, backward, and in the update."""
    ours, theirs = pair(net(), data([4, 4]))
    step = followed(ours, largest)
    for turn in range(8):
        loop(theirs, largest, *theirs.batches[turn % 2])
    [known] = step._paths
    path = known.path
    assert len(path.nodes) > 30
    operation = Following._next
    for place in range(len(path.nodes)):

        def left(self, cls, func, args, kwargs, place=place):
            if self._at == place:
                return NotImplemented
            return operation(self, cls, func, args, kwargs)

        with monkeypatch.context() as patch:
            patch.setattr(Following, "_next", left)
            mine = step(*ours.batches[place % 2])
        assert not step.repeats
        loss = loop(theirs, largest, *theirs.batches[place % 2])
        assert torch.equal(mine.window().words(), loss.window().words())
        assert_same(ours, theirs, place)
        known.missed = 0
    step(*ours.batches[0])
    loop(theirs, largest, *theirs.batches[0])
    assert step.repeats
    assert_same(ours, theirs)


def test_what_is_kept_of_a_step_is_computed():
    ours, theirs = pair(net(), data([4, 4]))
    kept = []
    for side in (ours, theirs):
        side.model[1].register_forward_hook(lambda module, args, out, side=side: side.kept.append(out))
    step = sy.TrainStep(ours.model, ours.optimizer, squares)
    for turn in range(9):
        step(*ours.batches[turn % 2])
        loop(theirs, squares, *theirs.batches[turn % 2])
        if turn < 7:
            ours.kept.clear()
            theirs.kept.clear()
        kept.append(step.repeats)
        assert_same(ours, theirs)
    assert kept[-1]  # what the hook keeps is a result
    assert len(ours.kept) == 2
    for a, b in zip(ours.kept, theirs.kept, strict=True):
        assert torch.equal(a.window().words(), b.window().words())


def test_counts_are_those_of_the_moment():
    """Whoever asks for rounds, or for what a holder keeps, in the midst of a step sees what was done so far."""
    ours, theirs = pair(net(), data([4, 4]))
    seen = {id(ours): [], id(theirs): []}

    def counting(side):
        stats = side.parties.stats

        def hook(module, args, out):
            if looks:
                found = stats.copy()
                assert found == stats
                seen[id(side)].append(found)
                with sy.ledger() as ledger:
                    _ = out.detach().abs()
                assert len(side.parties["alice"].shares()) > 4
                seen[id(side)].append([(each.cause, each.round, each.words) for each in ledger])

        return hook

    looks = False
    for side in (ours, theirs):
        side.model[1].register_forward_hook(counting(side))
    step = followed(ours)
    for turn in range(8):
        loop(theirs, squares, *theirs.batches[turn % 2])
    looks = True
    step(*ours.batches[0])
    loop(theirs, squares, *theirs.batches[0])
    assert not step.repeats
    assert seen[id(ours)] == seen[id(theirs)]
    assert len(seen[id(ours)]) == 2
    assert_same(ours, theirs)


@pytest.mark.parametrize("change", ["number", "zero", "public tensor", "bits of a public tensor"])
def test_what_is_compared(change):
    """Numbers and plain tensors, by their bits."""
    ours, theirs = pair(net(), data([4, 4]))
    number, public = 0.5, torch.tensor([1.0, 2.0])

    def loss(out, target):
        return squares(out * number + public, target)

    step = sy.TrainStep(ours.model, ours.optimizer, loss)
    for turn in range(14):
        if turn == 8 and change == "number":
            number = 0.25
        elif turn == 8 and change == "zero":
            number = 0.0
        elif turn == 8 and change == "public tensor":
            public = torch.tensor([1.0, 3.0])
        elif turn == 8:
            public[1] = 1.0  # in place
        step(*ours.batches[turn % 2])
        loop(theirs, loss, *theirs.batches[turn % 2])
        assert_same(ours, theirs, turn)
        assert step.repeats == (4 <= turn < 8 or turn == 13), turn


def test_arguments_laid_out_in_another_way():
    """Layouts of results follow from those of arguments."""
    ours, theirs = pair(net(), [(torch.randn(3, 4), torch.randn(4, 2)) for _ in range(2)])
    for side in (ours, theirs):
        for batch in side.batches:
            batch[0] = batch[0].t()
    step = sy.TrainStep(ours.model, ours.optimizer, squares)
    for turn in range(6):
        mine = step(*ours.batches[turn % 2])
        expected = loop(theirs, squares, *theirs.batches[turn % 2])
        assert torch.allclose(sy.decrypt(mine), sy.decrypt(expected), atol=2.0**-8)
        assert ours.parties.stats.rounds == theirs.parties.stats.rounds
    assert step.repeats, step.reason


def test_an_error_within_is_told_to_whoever_asks_for_what_was_to_come():
    ours, _ = pair(net(), data([4, 4]))
    kept = []

    def loss(out, target):
        if kept_from:
            kept.append(out)
            raise Stop
        return squares(out, target)

    kept_from = False
    step = sy.TrainStep(ours.model, ours.optimizer, loss)
    for turn in range(8):
        step(*ours.batches[turn % 2])
    assert step.repeats
    kept_from = True
    with torch.no_grad():
        ours.model[0].weight.mul_(2.0**40)
    before = ours.words()
    with pytest.raises(RangeError) as found:
        step(*ours.batches[0])
    assert isinstance(found.value.__context__, Stop)
    with pytest.raises(PysmpcError, match="failed"):
        sy.decrypt(kept[0])
    assert all(map(torch.equal, before, ours.words()))


def test_another_thread_waits_for_the_step():
    ours, theirs = pair(net(), data([4, 4]))
    found = []
    weight = ours.model[0].weight.detach()

    def look():
        found.append(sy.decrypt(weight * 1))

    thread = None

    def loss(out, target):
        if thread is not None:
            thread.start()
        return squares(out, target)

    step = sy.TrainStep(ours.model, ours.optimizer, loss)
    for turn in range(8):
        step(*ours.batches[turn % 2])
        loop(theirs, squares, *theirs.batches[turn % 2])
    thread = threading.Thread(target=look)
    step(*ours.batches[0])
    loop(theirs, squares, *theirs.batches[0])
    assert step.repeats
    thread.join()
    assert torch.equal(found[0], sy.decrypt(theirs.model[0].weight.detach() * 1))


def test_a_step_within_a_step_is_part_of_it():
    ours, theirs = pair(net(), data([4, 4]))
    optimizers = [torch.optim.SGD(each.aside.requires_grad_(True).parameters(), lr=0.01) for each in (ours, theirs)]
    inner = sy.TrainStep(ours.aside, optimizers[0], squares)

    def written(x, y):
        optimizers[1].zero_grad()
        squares(theirs.aside(x), y).backward()
        optimizers[1].step()

    def within(step):
        def loss(out, target):
            step(target, target[:, :1])
            return squares(out, target)

        return loss

    outer = sy.TrainStep(ours.model, ours.optimizer, within(inner))
    for turn in range(9):
        outer(*ours.batches[turn % 2])
        with following(False):  # each step of a followed loop ends with its own round of updates
            loop(theirs, within(written), *theirs.batches[turn % 2])
        assert_same(ours, theirs)
    assert all(
        torch.equal(*(p.window().words() for p in both))
        for both in zip(ours.aside.parameters(), theirs.aside.parameters(), strict=True)
    )


# --- plain loops ---


def turn(side, mind, x, y):
    """Whether it came to its end."""
    side.optimizer.zero_grad()
    try:
        out = side.model(x)
        loss = mind(side, out, y)
        loss.backward()
    except Stop:
        return False
    side.optimizer.step()
    side.optimizer.zero_grad()
    side.kept.append(loss.detach())
    return True


def program(turns, mind_of, batches=2):
    """One program by both ways; how many regions ran as segments."""
    ours, theirs = pair(net(), data([4, 4, 2]))
    story = [(mind_of(i), random.randrange(batches) if i > 6 else i % 2) for i in range(turns)]
    repeated = 0
    with following() as loops:
        for mind, batch in story:
            loops.repeats = False
            turn(ours, mind, *ours.batches[batch])
            repeated += loops.repeats
    for mind, batch in story:
        turn(theirs, mind, *theirs.batches[batch])
        flush(theirs.parties.session)
    names = [(mind.__name__, batch) for mind, batch in story]
    for mine, other in zip(ours.kept, theirs.kept, strict=True):
        if isinstance(mine, sy.SecretTensor):
            mine, other = sy.decrypt(mine.detach()), sy.decrypt(other.detach())
        assert torch.allclose(mine, other, atol=2.0**-9), names
    return ours, theirs, repeated, names


def test_a_loop_runs_as_a_segment():
    ours, theirs, repeated, names = program(12, lambda i: again)
    assert repeated > 3
    assert_same(ours, theirs, names)


@pytest.mark.parametrize("mind", MINDS, ids=lambda m: m.__name__)
def test_a_loop_that_changes_its_mind(mind):
    ours, theirs, _, names = program(14, lambda i: mind if i in (8, 11) else again)
    for mine, other in zip(ours.model.parameters(), theirs.model.parameters(), strict=True):
        assert torch.allclose(sy.decrypt(mine.detach()), sy.decrypt(other.detach()), atol=2.0**-9), names


def test_running_statistics_of_a_loop():
    """They are written to by an operation whose schema does not say so."""
    parties, twin = sy.virtual("alice", "bob"), nn.Sequential(nn.BatchNorm1d(3), nn.Linear(3, 2))
    model = sy.encrypt(twin, parties)
    optimizers = [torch.optim.SGD(each.parameters(), lr=0.02) for each in (model, twin)]
    repeated = 0
    with following() as loops:
        for x, y in data([8] * 7):
            optimizers[1].zero_grad()
            squares(twin(x), y).backward()
            optimizers[1].step()
            x, y = sy.encrypt(x, parties), sy.encrypt(y, parties)
            optimizers[0].zero_grad()
            squares(model(x), y).backward()
            optimizers[0].step()
            repeated += loops.repeats
    assert repeated
    for mine, other in zip(model.buffers(), twin.buffers(), strict=True):
        mine = sy.decrypt(mine) if isinstance(mine, sy.SecretTensor) else mine
        assert torch.allclose(mine.double(), other.double(), atol=2.0**-8)


def test_gradients_that_are_kept_stay_as_they_were():
    """Products of this size lie in memory of the segment until that is needed."""
    parties, twin = sy.virtual("alice", "bob"), nn.Linear(160, 128)
    model = sy.encrypt(twin, parties)
    optimizers = [torch.optim.SGD(each.parameters(), lr=0.02) for each in (model, twin)]
    kept, repeated = [], 0
    with following() as loops:
        for _ in range(7):
            given = torch.randn(4, 160), torch.zeros(4, 128)
            for net, optimizer in zip((model, twin), optimizers, strict=True):
                x, y = given if net is twin else (sy.encrypt(each, parties) for each in given)
                optimizer.zero_grad()
                loss = squares(net(x), y)
                loss.backward()
                optimizer.step()
                kept.append(net.weight.grad)
                if net is model:
                    sy.decrypt(loss.detach())
            repeated += loops.repeats
    assert repeated
    for found, expected in zip(kept[::2], kept[1::2], strict=True):
        assert torch.allclose(sy.decrypt(found), expected, atol=2.0**-8)
