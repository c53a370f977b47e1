"""`sy.TrainStep` beside the same lines in a loop: with the same keys, every word must be the same."""

import copy
import itertools
import os

import pytest
import torch
from torch import nn

import pysmpc as sy
from pysmpc.program.compile import Compiled
from pysmpc.program.trace import Trace
from pysmpc.ring import recording
from pysmpc.session import session as sessions
from pysmpc.transport import threads as threaded


def squares(out, target):
    return ((out - target) ** 2).sum() / len(target)


def loop(model, optimizer, loss, x, y):
    optimizer.zero_grad()
    found = loss(model(x), y)
    found.backward()
    optimizer.step()
    return found.detach()


def extremes(out, target):
    """Maxima whose gradients go to all equals, and to one place."""
    return (out - target).max() + (out * target).amax(1).sum() + out.max(0).values.sum()


def mlp():
    return nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3))


def functions():
    middle = [nn.Sigmoid(), nn.Linear(5, 5), nn.Tanh(), nn.Linear(5, 5), nn.GELU()]
    return nn.Sequential(nn.Linear(6, 5), *middle, nn.Linear(5, 3), nn.SiLU())


def convolutions():
    return nn.Sequential(
        nn.Conv2d(1, 2, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(2 * 4 * 4, 3)
    )  # fmt: skip


class Training:
    """A model, an optimizer and batches in a session of their own."""

    def __init__(self, net, batches, optimizer, holders=2, **options):
        self.parties = sy.virtual(*["alice", "bob", "charlie"][:holders])
        self.model = sy.encrypt(net, self.parties, **options)
        self.batches = [[sy.encrypt(each, self.parties, **options) for each in batch] for batch in batches]
        self.optimizer = optimizer(self.model.parameters())

    def words(self):
        return [p.window().words().clone() for p in self.model.parameters()]


@pytest.fixture
def twins(monkeypatch):
    """Two trainings that differ in nothing, not even in their keys."""

    def make(net, batches, optimizer=lambda p: torch.optim.SGD(p, lr=0.02), **options):
        found = []
        keys = [os.urandom(16) for _ in range(32)]
        for _ in range(2):
            given = iter(keys)
            monkeypatch.setattr(sessions, "fresh_key", lambda given=given: next(given))
            found.append(Training(copy.deepcopy(net), batches, optimizer, **options))
        return found

    return make


def batches(count, *shape, items=4):
    return [(torch.randn(items, *shape), torch.randn(items, 3)) for _ in range(count)]


def assert_equal(ours, theirs):
    assert all(map(torch.equal, ours.words(), theirs.words()))


CASES = {
    "sgd": {"net": mlp, "shape": (6,)},
    "momentum": {"net": mlp, "shape": (6,), "optimizer": lambda p: torch.optim.SGD(p, lr=0.02, momentum=0.9)},
    "decay": {"net": mlp, "shape": (6,), "optimizer": lambda p: torch.optim.SGD(p, lr=0.02, weight_decay=0.01)},
    "decimal": {"net": mlp, "shape": (6,), "options": {"precision_fractional": 3}},
    "nearest": {"net": mlp, "shape": (6,), "options": {"rounding": "nearest"}},
    "snn": {"net": mlp, "shape": (6,), "options": {"protocol": "snn"}},
    "fss": {"net": mlp, "shape": (6,), "options": {"protocol": "fss"}},
    "three": {"net": mlp, "shape": (6,), "options": {"holders": 3}},
    "functions": {"net": functions, "shape": (6,)},
    "functions of three": {"net": functions, "shape": (6,), "options": {"holders": 3}},
    "functions, snn": {"net": functions, "shape": (6,), "options": {"protocol": "snn"}},
    "convolution": {"net": convolutions, "shape": (1, 8, 8), "optimizer": lambda p: torch.optim.SGD(p, lr=0.01)},
    "maxima": {"net": mlp, "shape": (6,), "loss": extremes},
}


@pytest.mark.parametrize("threads_", [1, 2])
@pytest.mark.parametrize("case", CASES)
def test_every_word_is_that_of_the_loop(twins, case, threads_, threads):
    threads(threads_)
    made = CASES[case]
    more = {name: made[name] for name in ("optimizer",) if name in made}
    options = dict(made.get("options", {}))
    data = batches(3, *made["shape"])
    ours, theirs = twins(made["net"](), data, **more, **options)
    loss_of = made.get("loss", squares)
    step = sy.TrainStep(ours.model, ours.optimizer, loss_of)
    repeated = 0
    for turn in range(11):
        x, y = ours.batches[turn % 3]
        a, b = theirs.batches[turn % 3]
        loss, expected = step(x, y), loop(theirs.model, theirs.optimizer, loss_of, a, b)
        repeated += step.repeats
        assert torch.equal(loss.window().words(), expected.window().words())
        assert_equal(ours, theirs)
        assert ours.parties.stats == theirs.parties.stats
    assert repeated == 6, (
        step.reason
    )  # two warm; of opened batches one recorded and one checked, and one recorded fresh


@pytest.mark.parametrize("options", [{}, {"protocol": "snn"}, {"holders": 3}], ids=["default", "snn", "three"])
@pytest.mark.parametrize("public", [False, True], ids=["secret classes", "public classes"])
def test_cross_entropy(twins, public, options):
    """What the forward pass found of log-softmax serves its derivative, in a recording as in a loop."""
    data = [(torch.randn(4, 6), nn.functional.one_hot(torch.randint(0, 3, (4,)), 3).float()) for _ in range(3)]
    ours, theirs = twins(mlp(), data, **options)
    if public:
        for each in (ours, theirs):
            each.batches = [(x, hot.argmax(1)) for (x, _), (_, hot) in zip(each.batches, data, strict=True)]
    loss_of = nn.functional.cross_entropy
    step = sy.TrainStep(ours.model, ours.optimizer, loss_of)
    repeated = 0
    for turn in range(14):
        loss = step(*ours.batches[turn % 3])
        expected = loop(theirs.model, theirs.optimizer, loss_of, *theirs.batches[turn % 3])
        repeated += step.repeats
        assert torch.equal(loss.window().words(), expected.window().words())
        assert_equal(ours, theirs)
        assert ours.parties.stats == theirs.parties.stats
    assert public or repeated >= 3, step.reason  # public classes are compared by their values


def test_openings_of_repeated_steps_serve_later_ones(twins):
    ours, theirs = twins(mlp(), batches(7, 6))
    step = sy.TrainStep(ours.model, ours.optimizer, squares)
    repeated = []
    for turn in range(14):
        step(*ours.batches[turn % 7])
        loop(theirs.model, theirs.optimizer, squares, *theirs.batches[turn % 7])
        repeated.append(step.repeats)
        assert_equal(ours, theirs)
        assert ours.parties.stats == theirs.parties.stats
    assert repeated == 4 * [False] + 3 * [True] + 2 * [False] + 5 * [True]  # fresh batches, then opened ones
    x, same = ours.batches[5][0], theirs.batches[5][0]
    assert x.cell.body.mask == same.cell.body.mask
    assert torch.equal((x * x).window().words(), (same * same).window().words())


def training(net=None, count=2, **options):
    return Training(net or mlp(), batches(count, 6), lambda p: torch.optim.SGD(p, lr=0.02), **options)


def ready(t, loss=squares):
    """A step that is repeated from the next call on, over arguments that were opened."""
    step = sy.TrainStep(t.model, t.optimizer, loss)
    for turn in range(8):
        step(*t.batches[turn % 2])
    assert step.repeats
    return step


def test_a_changed_rate_is_followed(twins):
    ours, theirs = twins(mlp(), batches(2, 6))
    step = sy.TrainStep(ours.model, ours.optimizer, squares)
    for turn in range(24):
        for each in (ours, theirs):
            each.optimizer.param_groups[0]["lr"] = 0.1 / (1 + turn // 8)
        step(*ours.batches[turn % 2])
        loop(theirs.model, theirs.optimizer, squares, *theirs.batches[turn % 2])
        assert_equal(ours, theirs)
    assert step.repeats


class Scaled(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner, self.factor = mlp(), 1.0

    def forward(self, x):
        return self.inner(x) * self.factor


def test_changed_numbers_are_followed(twins):
    """Of the loss and of a module, long after the step was checked."""
    ours, theirs = twins(Scaled(), batches(2, 6))
    weight = 1.0

    def weighted(out, target):
        return squares(out, target) * weight

    step = sy.TrainStep(ours.model, ours.optimizer, weighted)
    for turn in range(30):
        if turn == 10:
            weight = 0.25
        if turn == 20:
            ours.model.factor = theirs.model.factor = 0.5
        step(*ours.batches[turn % 2])
        loop(theirs.model, theirs.optimizer, weighted, *theirs.batches[turn % 2])
        assert_equal(ours, theirs)
        assert step.repeats == (turn % 10 > (3 if turn < 10 else 4))


@pytest.mark.parametrize("options", [{}, {"precision_fractional": 3}], ids=["binary", "decimal"])
def test_changed_thresholds_are_followed(twins, options):
    """By less than a step, too; between steps, beyond all, and beside a tensor of such."""
    ours, theirs = twins(mlp(), batches(2, 6), **options)
    threshold, beside = 1e-6, torch.tensor([0.0, 1e-6, float("inf")])

    def kept(out, target):
        near = (out > threshold) | (out < beside) | (out == threshold)
        return (torch.where(near, out - target, target) ** 2).sum() / len(target)

    step = sy.TrainStep(ours.model, ours.optimizer, kept)
    for turn in range(33):
        threshold = [1e-6, 2e-6, float("inf")][turn // 11]
        loss = step(*ours.batches[turn % 2])
        expected = loop(theirs.model, theirs.optimizer, kept, *theirs.batches[turn % 2])
        assert torch.equal(loss.window().words(), expected.window().words())
        assert_equal(ours, theirs)
        assert step.repeats == (turn % 11 > (3 if turn < 11 else 4)), step.reason


def test_a_parameter_that_was_written_to_is_followed(twins):
    ours, theirs = twins(mlp(), batches(2, 6))
    step = sy.TrainStep(ours.model, ours.optimizer, squares)
    for turn in range(12):
        if turn > 7:
            with torch.no_grad():
                for each in (ours, theirs):
                    each.model[0].weight.mul_(0.5)
        step(*ours.batches[turn % 2])
        loop(theirs.model, theirs.optimizer, squares, *theirs.batches[turn % 2])
    assert step.repeats
    assert all(map(torch.equal, map(sy.decrypt, ours.model.parameters()), map(sy.decrypt, theirs.model.parameters())))


def test_what_was_read_before_stays():
    t = training()
    step = ready(t)
    before = t.model[0].weight.detach()
    kept, value = before.clone(), sy.decrypt(before)
    losses = [step(*t.batches[turn % 2]) for turn in range(4)]
    opened = [sy.decrypt(each) for each in losses]
    step(*t.batches[0])
    assert torch.equal(sy.decrypt(kept), value)
    assert all(map(torch.equal, map(sy.decrypt, losses), opened))
    assert not torch.equal(sy.decrypt(t.model[0].weight.detach()), value)


def test_gradients_are_dropped():
    t = training()
    ready(t)
    assert all(p.grad is None for p in t.model.parameters())


def test_other_shapes_are_recorded_beside():
    t = training()
    step = ready(t)
    few = [sy.encrypt(each, t.parties) for each in (torch.randn(3, 6), torch.randn(3, 3))]
    assert [(step(*few), step.repeats)[1] for _ in range(6)] == [False, False, False, True, True, True]
    step(*t.batches[0])
    assert step.repeats


def test_slices_of_a_larger_secret():
    t = training()
    x, y = sy.encrypt(torch.randn(16, 6), t.parties), sy.encrypt(torch.randn(16, 3), t.parties)
    step = sy.TrainStep(t.model, t.optimizer, squares)
    plain = copy.deepcopy(mlp())
    with torch.no_grad():
        for mine, theirs in zip(plain.parameters(), t.model.parameters(), strict=True):
            mine.copy_(sy.decrypt(theirs.detach()))
    optimizer = torch.optim.SGD(plain.parameters(), lr=0.02)
    items = sy.decrypt(x), sy.decrypt(y)
    for turn in range(16):
        part = slice(4 * (turn % 4), 4 * (turn % 4) + 4)
        loss = step(x[part], y[part])
        expected = loop(plain, optimizer, squares, items[0][part], items[1][part])
        assert sy.decrypt(loss).sub(expected).abs() < 0.01
    assert step.repeats


class Counting(nn.Module):
    """A module whose public factor is another in each call."""

    def __init__(self):
        super().__init__()
        self.inner, self.calls = mlp(), 0

    def forward(self, x):
        self.calls += 1
        return self.inner(x) * (1 + 0.1 * self.calls)


class Dropping(nn.Module):
    """A module that draws public numbers."""

    def __init__(self):
        super().__init__()
        self.inner = mlp()

    def forward(self, x):
        return self.inner(x) * torch.rand(3)


@pytest.mark.parametrize(("net", "why"), [(Counting, "changed"), (Dropping, "changed")])
def test_steps_that_differ_run_as_written(net, why):
    t = Training(net(), batches(2, 6), lambda p: torch.optim.SGD(p, lr=0.01))
    step = sy.TrainStep(t.model, t.optimizer, squares)
    for turn in range(8):
        step(*t.batches[turn % 2])
        assert not step.repeats
    assert why in step.reason


class Few(nn.Module):
    """A mask of one element: two draws are often alike."""

    def __init__(self):
        super().__init__()
        self.inner, self.drop, self.masks = mlp(), nn.Dropout(0.5), []

    def forward(self, x):
        out = self.inner(x)
        mask = self.drop(torch.ones_like(out[:1, :1]))
        self.masks.append(mask)
        return out * mask


@pytest.mark.parametrize("layer", [nn.Dropout(0.4), nn.Dropout(0.01), nn.AlphaDropout(0.3), nn.RReLU()])
def test_a_public_mask_is_another_in_each_step(layer):
    """Whatever chance makes of the masks, none is kept: such steps run as they are written."""
    t = Training(nn.Sequential(mlp(), layer), batches(2, 6), lambda p: torch.optim.SGD(p, lr=0.01))
    step = sy.TrainStep(t.model, t.optimizer, squares)
    for turn in range(8):
        step(*t.batches[turn % 2])
        assert not step.repeats
    assert "random" in step.reason


def test_a_public_mask_of_one_element_is_never_kept():
    t = Training(Few(), batches(1, 6), lambda p: torch.optim.SGD(p, lr=0.01))
    step = sy.TrainStep(t.model, t.optimizer, squares)
    for _ in range(40):
        step(*t.batches[0])
    values = {float(sy.decrypt(mask)) for mask in t.model.masks}
    assert len(t.model.masks) == 40
    assert values == {0.0, 2.0}


def test_a_secret_mask_is_drawn_anew_by_a_repeated_step():
    width = 200
    net = nn.Sequential(nn.Linear(6, width, bias=False), nn.Dropout(0.5))
    t = Training(net, [(torch.ones(1, 6), torch.zeros(1, width))], lambda p: torch.optim.SGD(p, lr=0.01))
    step = sy.TrainStep(t.model, t.optimizer, lambda out, target: (out - target).sum())
    changed = []
    with sy.secret_masks():
        for turn in range(9):
            before = sy.decrypt(t.model[0].weight.detach())
            x, y = t.batches[0]
            step(x, y)
            moved = (before - sy.decrypt(t.model[0].weight.detach()))[:, 0]
            assert bool(((moved.abs() < 2**-12) | ((moved - 0.02).abs() < 2**-12)).all())
            changed.append(moved > 0.01)
            assert step.repeats == (turn >= 4), step.reason
    assert len({tuple(each.tolist()) for each in changed}) == 9
    assert all(50 < int(each.sum()) < 150 for each in changed)
    step(*t.batches[0])  # masks are public again
    assert not step.repeats


def test_a_lost_call_is_found(monkeypatch):
    t = training()
    kept = Trace.note

    def lossy(self, call, *args):
        if len(self.calls) != 20 or getattr(self, "lost", False):
            return kept(self, call, *args)
        self.lost = True

    monkeypatch.setattr(Trace, "note", lossy)
    step = sy.TrainStep(t.model, t.optimizer, squares)
    for turn in range(6):
        step(*t.batches[turn % 2])
    assert not step.repeats
    assert "not the same" in step.reason


def test_what_a_step_shares_is_new_in_each(twins):
    """What hides an input comes of other keys, whose numbers a repetition would not draw: it is shared as written."""
    ours, theirs = twins(mlp(), batches(2, 6))
    count = 1

    def weighted(side):
        return lambda out, target: squares(out * sy.encrypt(torch.tensor(1 / count), side.parties), target)

    step = sy.TrainStep(ours.model, ours.optimizer, weighted(ours))
    for count in range(1, 9):
        mine = step(*ours.batches[count % 2])
        other = loop(theirs.model, theirs.optimizer, weighted(theirs), *theirs.batches[count % 2])
        assert torch.equal(mine.window().words(), other.window().words())
        assert_equal(ours, theirs)
        assert ours.parties.stats == theirs.parties.stats


def test_a_secret_of_the_loss_that_changes():
    t = training()
    weight = sy.encrypt(torch.ones(3), t.parties)

    def weighted(out, target):
        return (((out - target) * weight) ** 2).sum() / len(target)

    step = ready(t, weighted)
    with torch.no_grad():
        weight.zero_()
    before = t.words()
    assert sy.decrypt(step(*t.batches[0])) == 0
    assert not step.repeats
    after = [sy.decrypt(p.detach()) for p in t.model.parameters()]
    assert all((a - sum(w) / 2**16).abs().max() < 1e-4 for a, w in zip(_flat(after), before, strict=True))


def _flat(values):
    return [each.reshape(-1) for each in values]


def test_what_a_recording_learns_of_a_constant_is_forgotten():
    """The opening of something that was there before is kept; what the step deals for it is in memory of the step."""
    t = training()
    kept = sy.encrypt(torch.linspace(-3, 3, 12).reshape(4, 3), t.parties)
    v = sy.decrypt(kept).double()
    calls = itertools.count(1)

    def weighted(out, target):
        function = torch.sigmoid if next(calls) <= 2 else nn.functional.gelu
        return ((out - target) ** 2).sum() / 4 + function(kept).sum()

    step = sy.TrainStep(t.model, t.optimizer, weighted)
    for turn in range(10):
        step(*t.batches[turn % 2])
    assert step.repeats, step.reason
    for function in (torch.sigmoid, nn.functional.gelu, nn.functional.silu):
        assert torch.allclose(sy.decrypt(function(kept)).double(), function(v), atol=2.0**-14)


def test_a_constant_that_is_used_elsewhere_too():
    t = training()
    weight = sy.encrypt(torch.tensor([1.0, 2.0, 3.0]), t.parties)
    step = ready(t, lambda out, target: (((out - target) * weight) ** 2).sum() / 64)
    for _ in range(3):
        step(*t.batches[0])
        assert torch.allclose(sy.decrypt(weight * weight), torch.tensor([1.0, 4.0, 9.0]), atol=1e-3)
    assert step.repeats


@pytest.mark.parametrize("keep", [sy.ledger, sy.profile])
def test_whoever_watches_sees_all(keep):
    t = training()
    step = ready(t)
    with keep():
        step(*t.batches[0])
    assert not step.repeats
    assert "ledger" in step.reason
    step(*t.batches[0])
    assert step.repeats


def test_evaluation_between_steps(twins):
    """A parameter that an evaluation opened is not opened again."""
    ours, theirs = twins(mlp(), batches(2, 6))
    step = sy.TrainStep(ours.model, ours.optimizer, squares)
    repeated = []
    for turn in range(12):
        step(*ours.batches[turn % 2])
        loop(theirs.model, theirs.optimizer, squares, *theirs.batches[turn % 2])
        repeated.append(step.repeats)
        if turn % 5 == 4:
            with torch.no_grad():
                assert torch.equal(*(sy.decrypt(t.model(t.batches[0][0])) for t in (ours, theirs)))
            assert ours.parties.stats == theirs.parties.stats
        assert_equal(ours, theirs)
    assert repeated == 4 * [False] + [True, False] + 4 * [True] + [False, True]


def test_public_arguments_and_models_run_as_written():
    net, (x, y) = mlp(), batches(1, 6)[0]
    step = sy.TrainStep(net, torch.optim.SGD(net.parameters(), lr=0.02), squares)
    first = [float(step(x, y)) for _ in range(5)]
    assert first == sorted(first, reverse=True)
    assert "secrets" in step.reason


def test_checked_steps_run_as_written():
    parties = sy.virtual("alice", "bob", integrity="mac")
    model = sy.encrypt(nn.Linear(3, 2), parties)
    x, y = sy.encrypt(torch.randn(4, 3), parties), sy.encrypt(torch.randn(4, 2), parties)
    step = sy.TrainStep(model, torch.optim.SGD(model.parameters(), lr=0.05), squares)
    losses = [sy.decrypt(step(x, y)) for _ in range(6)]
    assert losses[-1] < losses[0]
    assert "mac" in step.reason


def test_steps_on_what_was_dealt_ahead_run_as_written(tmp_path):
    """What was dealt serves once: a program that is noted, or served from disk, repeats nothing."""
    weights = nn.Linear(3, 2)

    def program(parties):
        model = sy.encrypt(copy.deepcopy(weights), parties)
        x, y = sy.encrypt(torch.ones(4, 3), parties), sy.encrypt(torch.zeros(4, 2), parties)
        step = sy.TrainStep(model, torch.optim.SGD(model.parameters(), lr=0.05), squares)
        losses = [sy.decrypt(step(x, y)) for _ in range(6)]
        assert "repeated by a driver" in step.reason
        return losses

    with sy.plan("alice", "bob") as plan:
        program(plan.parties)
    plan.deal(tmp_path)
    losses = program(sy.virtual("alice", "bob", material=tmp_path))
    assert losses[-1] < losses[0]


def test_parties_of_their_own():
    [party, *_] = threaded.sessions(["alice", "bob"])
    assert sy.program.segment.unfit(party) is not None


def test_an_error_leaves_no_recorder_behind():
    t = training()

    class Stop(Exception):
        pass

    def loss(out, target):
        if fails:
            raise Stop
        return squares(out, target)

    fails = False
    step = sy.TrainStep(t.model, t.optimizer, loss)
    for turn in range(2):
        step(*t.batches[turn])
    fails = True
    before = [sy.decrypt(p.detach()) for p in t.model.parameters()]
    with pytest.raises(Stop):
        step(*t.batches[0])
    assert recording.active() is None
    assert type(t.parties.session.party.dealer.next_stream) is int
    assert all(map(torch.equal, before, [sy.decrypt(p.detach()) for p in t.model.parameters()]))


def test_what_was_read_or_kept_of_parameters_stays(twins):
    """A repetition writes where an earlier one wrote: not under the eyes of whoever still looks there."""
    ours, theirs = twins(mlp(), batches(2, 6))
    step = sy.TrainStep(ours.model, ours.optimizer, squares)
    kept, expected = [], []
    for turn in range(12):
        step(*ours.batches[turn % 2])
        loop(theirs.model, theirs.optimizer, squares, *theirs.batches[turn % 2])
        kept.append([p.window() for p in ours.model.parameters()])  # not read yet
        expected.append(theirs.words())
    assert step.repeats
    for windows, words in zip(kept, expected, strict=True):
        assert all(torch.equal(window.words(), each) for window, each in zip(windows, words, strict=True))


def test_an_interrupted_repetition_changes_nothing(twins, monkeypatch):
    ours, theirs = twins(mlp(), batches(1, 6))
    step = sy.TrainStep(ours.model, ours.optimizer, squares)
    for _ in range(6):
        step(*ours.batches[0])
        loop(theirs.model, theirs.optimizer, squares, *theirs.batches[0])
    assert step.repeats
    run = Compiled.run

    def interrupted(self, *args, **options):
        run(self, *args, **options)
        raise KeyboardInterrupt

    for _ in range(2):
        with monkeypatch.context() as patch:
            patch.setattr(Compiled, "run", interrupted)
            with pytest.raises(KeyboardInterrupt):
                step(*ours.batches[0])
        assert_equal(ours, theirs)
    for training in (ours, theirs):  # the streams of the interrupted steps are gone
        training.parties.session.party.dealer._next_stream = 10**6
    for _ in range(3):
        loss = step(*ours.batches[0])
        assert torch.equal(
            loss.window().words(), loop(theirs.model, theirs.optimizer, squares, *theirs.batches[0]).window().words()
        )
        assert_equal(ours, theirs)
    assert step.repeats


def test_parameters_that_were_written_between_repetitions(twins):
    ours, theirs = twins(mlp(), batches(1, 6))
    step = sy.TrainStep(ours.model, ours.optimizer, squares)
    new, kept = torch.randn(5, 6), []
    for turn in range(12):
        step(*ours.batches[0])
        loop(theirs.model, theirs.optimizer, squares, *theirs.batches[0])
        if turn % 3 == 2:
            kept.append([p.window() for p in ours.model.parameters()])  # what is kept is not what is used
            for training in (ours, theirs):
                with torch.no_grad():
                    training.model[0].weight.copy_(new * turn / 20)
        assert_equal(ours, theirs)
    assert step.repeats


class Keeping(nn.Module):
    """A module with buffers that become an argument, a result, another buffer, and a secret from outside."""

    def __init__(self):
        super().__init__()
        self.inner = mlp()
        self.outside = None
        for name, shape in (("input", (4, 6)), ("output", (4, 3)), ("again", (4, 3)), ("constant", (3,))):
            self.register_buffer(name, torch.zeros(shape))

    def forward(self, x):
        out = self.inner(x)
        with torch.no_grad():
            self.again.copy_(self.output)
            self.input.copy_(x)
            self.output.copy_(out.detach())
            self.constant.copy_(self.outside)
        return out + self.input.sum() * 0


def test_buffers_that_are_what_other_values_are(twins):
    """No memory is exchanged that is more than one value's."""
    ours, theirs = twins(Keeping(), batches(3, 6))
    for each in (ours, theirs):
        each.model.outside = sy.encrypt(torch.arange(3.0), each.parties)
    step = sy.TrainStep(ours.model, ours.optimizer, squares)
    for turn in range(13):
        mine = step(*ours.batches[turn % 3])
        other = loop(theirs.model, theirs.optimizer, squares, *theirs.batches[turn % 3])
        assert torch.equal(sy.decrypt(mine), sy.decrypt(other))
        assert_equal(ours, theirs)
        for a, b in zip(ours.model.buffers(), theirs.model.buffers(), strict=True):
            assert torch.equal(sy.decrypt(a), sy.decrypt(b)), turn
    assert step.repeats
    assert torch.equal(sy.decrypt(ours.model.outside), torch.arange(3.0))


class Leaving(nn.Module):
    """A module that keeps what it saw at first."""

    def __init__(self):
        super().__init__()
        self.inner, self.seen = mlp(), []

    def forward(self, x):
        weight = self.inner[0].weight.detach()
        seen = x, torch.zeros_like(weight).copy_(weight)
        if len(self.seen) < 4:
            self.seen.append(seen)
        return self.inner(x)


def test_what_a_recorded_step_leaves_behind_does_not_change():
    t = Training(Leaving(), batches(3, 6), lambda p: torch.optim.SGD(p, lr=0.02))
    step = sy.TrainStep(t.model, t.optimizer, squares)
    turn = 0
    while not step.repeats:
        seen = [(sy.decrypt(x), sy.decrypt(w)) for x, w in t.model.seen]
        step(*t.batches[turn % 3])
        turn += 1
    for more in range(4):
        step(*t.batches[(turn + more) % 3])
    assert step.repeats
    assert len(seen) == len(t.model.seen) == 4
    for before, now in zip(seen, t.model.seen, strict=True):
        for a, b in zip(before, now, strict=True):
            assert torch.equal(a, sy.decrypt(b))
            assert torch.allclose(sy.decrypt(b * 1.0), a, atol=0.001)  # nor its openings


class Changing(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = mlp()

    def forward(self, x):
        return self.inner(x.mul_(0.5))


def test_arguments_that_a_step_changes(twins):
    ours, theirs = twins(Changing(), batches(2, 6))
    step = sy.TrainStep(ours.model, ours.optimizer, squares)
    for turn in range(8):
        step(*ours.batches[turn % 2])
        loop(theirs.model, theirs.optimizer, squares, *theirs.batches[turn % 2])
        for (a, _), (b, _) in zip(ours.batches, theirs.batches, strict=True):
            assert torch.equal(sy.decrypt(a), sy.decrypt(b))


def test_arguments_of_a_finer_scale_are_repeated(twins):
    ours, theirs = twins(mlp(), batches(2, 6))
    for each in (ours, theirs):
        each.batches = [(x * 0.5, y) for x, y in each.batches]
    step = sy.TrainStep(ours.model, ours.optimizer, squares)
    for turn in range(8):
        step(*ours.batches[turn % 2])
        loop(theirs.model, theirs.optimizer, squares, *theirs.batches[turn % 2])
    assert step.repeats, step.reason
    assert_equal(ours, theirs)


def test_arguments_of_other_parties():
    t = training()
    step = ready(t)
    others = sy.virtual("alice", "bob")
    with pytest.raises((ValueError, RuntimeError, sy.errors.PysmpcError)):
        step(*(sy.encrypt(torch.ones(shape), others) for shape in ((4, 6), (4, 3))))


class Settings:
    """What a user keeps beside a model, where a step looks at it."""

    def __init__(self):
        self.weight = 1.0

    def loss(self, out, target):
        return squares(out, target) * self.weight


class Surrounded(nn.Module):
    """A layer beside a public tensor, an integer buffer, a list and an object."""

    def __init__(self):
        super().__init__()
        self.inner, self.public, self.on, self.settings = mlp(), torch.ones(6), [True], Settings()
        self.register_buffer("times", torch.tensor(1))

    def forward(self, x):
        out = self.inner(x * self.public.repeat(x.shape[1] // 6 + 1)[: x.shape[1]]) * self.times
        return out * (1.0 if self.on[0] else 0.5) * self.settings.weight


def _halve(optimizer, *_):
    with torch.no_grad():
        for p in optimizer.param_groups[0]["params"]:
            p.mul_(0.5)


def _first(model):
    return next(model.parameters())


CHANGES = {
    "state of the optimizer": lambda each: each.optimizer.state.clear(),
    "a hook of the optimizer": lambda each: each.optimizer.register_step_post_hook(_halve),
    "a hook of a gradient": lambda each: _first(each.model).register_hook(lambda grad: grad * 2),
    "a hook after a gradient": lambda each: _first(each.model).register_post_accumulate_grad_hook(lambda p: None),
    "a hook of a module": lambda each: each.model.register_forward_hook(lambda module, args, out: out * 2),
    "a public tensor": lambda each: setattr(each.model, "public", torch.full((6,), 2.0)),
    "a public tensor in place": lambda each: each.model.public.data.fill_(2.0),
    "a buffer": lambda each: each.model.times.fill_(2),
    "a list": lambda each: each.model.on.__setitem__(0, False),
    "an object": lambda each: setattr(each.model.settings, "weight", 0.5),
    "the object of the loss": lambda each: setattr(each.settings, "weight", 0.5),
}


#: What asks for no other operations.
UNSEEN = {"a hook after a gradient"}


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_of_what_is_around_a_step_is_followed(twins, name):
    momentum = {"optimizer": lambda p: torch.optim.SGD(p, lr=0.02, momentum=0.5)}
    ours, theirs = twins(Surrounded(), batches(2, 6), **momentum)
    ours.settings, theirs.settings = Settings(), Settings()
    step = sy.TrainStep(ours.model, ours.optimizer, ours.settings.loss)
    for turn in range(16):
        if turn == 8:
            assert step.repeats
            for each in (ours, theirs):
                CHANGES[name](each)
        step(*ours.batches[turn % 2])
        loop(theirs.model, theirs.optimizer, theirs.settings.loss, *theirs.batches[turn % 2])
        assert_equal(ours, theirs)
        assert turn != 8 or step.repeats == (name in UNSEEN)
    assert step.repeats, step.reason


def test_bounds_of_arguments(twins):
    """What a bound leaves out is left out of repetitions, too, whose results have the bounds of the loop's."""

    def given(count, *shape):
        return [(torch.rand(4, *shape), torch.rand(4, 3)) for _ in range(count)]

    ours, theirs = twins(functions(), given(9, 6), bounded=4.0)  # each is new, so that nothing of it is open
    rounds = [training.parties.stats for training in (ours, theirs)]

    def loss(out, target):
        return ((torch.sigmoid(target) - out) ** 2).sum()

    step = sy.TrainStep(ours.model, ours.optimizer, loss)
    for turn in range(9):
        mine = step(*ours.batches[turn])
        other = loop(theirs.model, theirs.optimizer, loss, *theirs.batches[turn])
        assert torch.equal(mine.window().words(), other.window().words())
        assert mine.cell.bound == other.cell.bound
        assert_equal(ours, theirs)  # applies the updates that wait
        assert rounds[0].cost == rounds[1].cost
        assert [p.cell.bound for p in ours.model.parameters()] == [p.cell.bound for p in theirs.model.parameters()]
    assert step.repeats


def test_another_bound_is_another_step(twins):
    ours, _ = twins(mlp(), [(torch.rand(4, 6), torch.rand(4, 3))])
    step = sy.TrainStep(ours.model, ours.optimizer, lambda out, target: (out * torch.exp(target)).sum() / 99)
    x, y = torch.rand(4, 6), torch.rand(4, 3)
    a, near, unknown = (sy.encrypt(v, ours.parties, bounded=b) for v, b in ((x, None), (y, 1.0), (y, None)))
    repeated = []
    for target in [near] * 7 + [unknown] * 5 + [near] * 2:
        before = ours.parties.stats.rounds
        step(a, target)
        repeated.append((step.repeats, ours.parties.stats.rounds - before))
    assert [again for again, _ in repeated] == 5 * [False] + 2 * [True] + 4 * [False] + [True, False, True]
    assert repeated[7][1] - repeated[6][1] == 4  # an opening, and three rounds more without the bound


def test_a_parameter_that_gets_a_bound_is_recorded_again(twins):
    """A clamped parameter has one at the end of each step, and so at the beginning of the next."""
    ours, theirs = twins(mlp(), batches(1, 6))

    def clamped(model):
        with torch.no_grad():
            for p in model.parameters():
                p.clamp_(-0.5, 0.5)

    step = sy.TrainStep(ours.model, ours.optimizer, squares)
    repeated = []
    for _ in range(8):
        step(*ours.batches[0])
        loop(theirs.model, theirs.optimizer, squares, *theirs.batches[0])
        clamped(ours.model)
        clamped(theirs.model)
        assert_equal(ours, theirs)
        repeated.append(step.repeats)
    assert repeated[-1]
