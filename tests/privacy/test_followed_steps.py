"""Private steps that are followed and repeated: words of the loop as written, and noise that is new in each."""

import copy
import itertools
import math
import os

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import pysmpc as sy
from pysmpc.errors import BudgetSpentError, PrivacyError
from pysmpc.mpc.derived import secret_noise
from pysmpc.privacy.engine import sensitivity
from pysmpc.program.loop import following
from pysmpc.ring.prg import fresh_key
from pysmpc.session import session as sessions

BUDGET = {"target_epsilon": 1e9, "target_delta": 1e-5, "accountant": "rdp"}
RECORDED = 4  # steps until one is repeated


@pytest.fixture(autouse=True)
def loops():
    """They begin anew in each test."""
    with following() as found:
        yield found


def network(layers=2):
    return nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 2)) if layers == 2 else nn.Linear(6, 2)


def private(parties, net, loader, noise="provider", multiplier=1.0, optimizer=None, **how):
    model = sy.encrypt(copy.deepcopy(net), parties)
    optimizer = (optimizer or (lambda p: torch.optim.SGD(p, lr=0.1)))(model.parameters())
    engine = sy.privacy.Engine(**(BUDGET | {"noise": noise} | how))
    return engine, *engine.make_private(model, optimizer, loader, noise_multiplier=multiplier)


def cross_entropy(model, x, y):
    return F.cross_entropy(model(x), y)


def train(model, optimizer, loader, loops, loss=cross_entropy):
    """Which steps were repeated."""
    repeats = []
    for x, y in loader:
        optimizer.zero_grad()
        loss(model, x, y).backward()
        optimizer.step()
        next(model.parameters()).cell.body  # noqa: B018  (the end of the step)
        repeats.append(loops.repeats)
    return repeats


def pairs(parties, count, items=4):
    return [
        (sy.encrypt(torch.randn(items, 6), parties), sy.encrypt(torch.randint(2, (items,)), parties))
        for _ in range(count)
    ]


@pytest.fixture
def alike(monkeypatch):
    """alike(count): calls with equal numbers draw equal keys of sessions, and of noise; the keys of noise."""

    def make(count=256):
        keys, noise = [[os.urandom(16) for _ in range(n)] for n in (64, count)]
        drawn = []

        def begin():
            given, for_noise = iter(keys), iter(noise)
            drawn.append([])
            monkeypatch.setattr(sessions, "fresh_key", lambda: next(given))
            monkeypatch.setattr(secret_noise, "fresh_key", lambda: drawn[-1].append(next(for_noise)) or drawn[-1][-1])

        return begin, drawn

    return make


CASES = {
    "one layer": {"noise": "holders", "layers": 1},
    "provider": {},
    "holders": {"noise": "holders"},
    "three holders": {"noise": "holders", "names": ("alice", "bob", "charlie")},
    "fss": {"noise": "holders", "protocol": "fss"},
    "momentum": {"optimizer": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.01)},
}


@pytest.mark.parametrize(
    "case", [pytest.param(case, marks=[] if case == "one layer" else pytest.mark.slow) for case in CASES]
)
def test_every_word_is_that_of_the_loop_as_written(alike, loops, case):
    how, steps = dict(CASES[case]), RECORDED + 2
    names, protocol = how.pop("names", ("alice", "bob")), how.pop("protocol", None)
    begin, drawn = alike()
    torch.manual_seed(seed := int.from_bytes(os.urandom(4), "little"))
    net, found = network(how.pop("layers", 2)), []
    for eager in (False, True):
        torch.manual_seed(seed + 1)
        begin()
        loops.begin_anew()
        parties = sy.virtual(*names, protocol=protocol, eager=eager)
        _, model, optimizer, loader = private(parties, net, pairs(parties, steps), **how)
        before = parties.stats.copy()
        repeats = train(model, optimizer, loader, loops)
        assert any(repeats) is not eager
        stream = parties.session.party.dealer.next_stream
        found.append(([p.window().words() for p in model.parameters()], parties.stats - before, stream))
    (words, cost, stream), (expected, wanted, other) = found
    assert all(map(torch.equal, words, expected))
    assert cost == wanted
    assert stream == other  # a repetition takes as many new numbers as the step that it repeats
    assert drawn[0] == drawn[1]
    assert len(drawn[0]) == steps * len(words) * (len(names) if how.get("noise") == "holders" else 1)


def nothing(model, x, y):
    return (model(x) * 0).sum() + y.sum() * 0


def distance(noise):
    """sqrt(n) times the distance of Kolmogorov and Smirnov to a standard normal distribution."""
    at, n = torch.special.ndtr(noise.sort().values), noise.numel()
    places = torch.arange(n, dtype=torch.float64) / n
    return math.sqrt(n) * float(torch.maximum(at - places, places + 1 / n - at).max())


@pytest.mark.parametrize("noise", ["provider", "holders"])
def test_noise_of_repeated_steps_is_new_and_gaussian(monkeypatch, loops, noise):
    keys, n = [], 40 * 25 + 25
    monkeypatch.setattr(secret_noise, "fresh_key", lambda: keys.append(fresh_key()) or keys[-1])
    parties = sy.virtual("alice", "bob")
    x, y = sy.encrypt(torch.randn(4, 40), parties), sy.encrypt(torch.zeros(4), parties)
    engine, model, optimizer, loader = private(parties, nn.Linear(40, 25), [(x, y)] * (RECORDED + 6), noise)
    repeats, found = [], []
    for x, y in loader:
        repeats += train(model, optimizer, [(x, y)], loops, nothing)
        found.append(torch.cat([sy.decrypt(p.grad).double().reshape(-1) for p in model.parameters()]))
        engine._gave(None)
    assert sum(repeats) >= 6
    deviation = sensitivity(n) / 4 * (math.sqrt(2) if noise == "holders" else 1)
    steps = torch.stack(found) / deviation
    assert distance(steps[-6:].reshape(-1)) < 2.7  # beyond with a probability below 10^-6
    assert all(distance(step) < 2.9 for step in steps)
    for one, other in itertools.combinations(steps, 2):
        assert abs(float((one * other).mean())) < 6 / math.sqrt(n)
    assert len(set(keys)) == len(keys) == len(found) * 2 * (2 if noise == "holders" else 1)


@pytest.mark.parametrize("noise", ["provider", pytest.param("holders", marks=pytest.mark.slow)])
def test_another_deviation_is_never_a_repetition(loops, noise):
    parties = sy.virtual("alice", "bob")
    x, y = sy.encrypt(torch.zeros(4, 40), parties), sy.encrypt(torch.zeros(4), parties)
    engine, model, optimizer, loader = private(parties, nn.Linear(40, 25), [(x, y)] * (RECORDED + 9), noise)
    widths, repeats = [], []
    for i, (x, y) in enumerate(loader):
        if i == RECORDED + 1:
            assert repeats[-1]
            engine.noise_multiplier = 3.0
        repeats += train(model, optimizer, [(x, y)], loops, nothing)
        widths.append(float(sy.decrypt(model.weight.grad).double().square().mean().sqrt()))
        engine._gave(None)
    assert not repeats[RECORDED + 1]
    assert repeats[-1]  # it is recorded anew
    expected = sensitivity(1025) / 4 * (math.sqrt(2) if noise == "holders" else 1)
    assert widths == pytest.approx([expected] * (RECORDED + 1) + [3 * expected] * 8, rel=0.15)


def test_a_budget_that_is_spent_raises_before_a_repetition(loops):
    parties = sy.virtual("alice", "bob")
    multiplier, steps = 5.0, RECORDED + 1
    counted = sy.privacy.Accountant("rdp")
    counted.step(multiplier, steps=steps)
    enough = counted.epsilon(1e-5) * 1.0001
    engine, model, optimizer, loader = private(
        parties, network(1), pairs(parties, steps + 1), multiplier=multiplier, target_epsilon=enough
    )
    batches = list(loader)
    for batch in batches[:steps]:
        engine._gave(None)
        [repeated] = train(model, optimizer, [batch], loops)
    assert repeated
    before = [p.window().words().clone() for p in model.parameters()]
    engine._gave(None)
    with pytest.raises(BudgetSpentError, match="another step would exceed"):
        train(model, optimizer, batches[steps:], loops)
    assert engine.accountant.steps == steps
    assert all(map(torch.equal, before, (p.window().words() for p in model.parameters())))


def test_batches_that_owners_draw_are_one_kind_of_step(loops):
    parties = sy.virtual("alice", "bob")
    sources = [(x := torch.randn(60, 6), (x[:, 0] > 0).long()) for _ in range(2)]
    loader = sy.privacy.OwnersLoader(sources, 15, parties)
    engine, model, optimizer, loader = private(parties, network(1), loader, sampling="poisson", target_epsilon=8.0)
    repeats = train(model, optimizer, itertools.chain(loader, loader), loops)
    assert all(repeats[RECORDED:]), repeats
    assert engine.accountant.steps == len(repeats)


def test_gradients_that_are_not_dropped(loops):
    """What was left of a step before is replaced; where nothing replaces it, it may have been added to."""
    parties = sy.virtual("alice", "bob")
    engine, model, optimizer, loader = private(parties, network(), pairs(parties, 3))
    (x, y), *others = list(loader)
    engine._gave(None)
    cross_entropy(model, x, y).backward()
    optimizer.step()
    for x, y in others:
        engine._gave(None)
        hidden = F.relu(model[0](x))
        F.cross_entropy(F.linear(hidden, model[2].weight), y).backward()  # past its layer
        before = [sy.decrypt(p.detach()) for p in model.parameters()]
        optimizer.step()
        after = [sy.decrypt(p.detach()) for p in model.parameters()]
        assert [torch.equal(a, b) for a, b in zip(before, after, strict=True)] == [False, False, True, True]
        assert model[2].weight.grad is None
        model[2].weight.grad = model[0].weight.grad.t()[:2] @ model[0].weight.grad.t()[:5].t()
        engine._gave(None)
        cross_entropy(model, x, y).backward()
        with pytest.raises(PrivacyError, match="did not come through its layer"):
            optimizer.step()
        engine._taps.clear()
        optimizer.zero_grad()
        engine._gave(None)
        cross_entropy(model, x, y).backward()
        optimizer.step()
    assert copy.deepcopy(model) is not model
