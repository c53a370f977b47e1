"""Private training by an ordinary loop: noise, sensitivity, budgets, sampling, and what is refused."""

import copy
import itertools
import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset, WeightedRandomSampler

import pysmpc as sy
from pysmpc.errors import BudgetSpentError, PrivacyError
from pysmpc.privacy import engine as engines
from pysmpc.privacy.engine import sensitivity
from pysmpc.privacy.loaders import drawn

BUDGET = {"target_epsilon": 8.0, "target_delta": 1e-3, "accountant": "rdp"}


@pytest.fixture
def parties():
    return sy.virtual("alice", "bob")


def data_of(parties, n=24, features=6):
    x = torch.randn(n, features)
    return TensorDataset(sy.encrypt(x, parties), sy.encrypt((x[:, 0] > 0).long(), parties))


def network():
    return nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 2))


def made(parties, *, lr=0.1, norm=1.0, epochs=1, loader=None, noise_multiplier=None, reduction="mean", **how):
    model = sy.encrypt(network(), parties)
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    engine = sy.privacy.Engine(**(BUDGET | how))
    loader = loader or DataLoader(data_of(parties), batch_size=8, shuffle=True)
    return engine, *engine.make_private(
        model, optimizer, loader, max_grad_norm=norm, epochs=epochs, noise_multiplier=noise_multiplier,
        loss_reduction=reduction,
    )  # fmt: skip


def train(model, optimizer, loader, reduction="mean", passes=1):
    steps = 0
    for _ in range(passes):
        for x, y in loader:
            optimizer.zero_grad()
            F.cross_entropy(model(x), y, reduction=reduction).backward()
            optimizer.step()
            steps += 1
    return steps


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_a_step_is_that_of_clipped_gradients(parties, monkeypatch, reduction):
    monkeypatch.setattr(engines, "gaussian_noise", lambda x, std, dealt: x * 0)
    _, model, optimizer, loader = made(parties, lr=1.0, norm=0.3, noise_multiplier=5.0, reduction=reduction)
    plain = sy.decrypt(model)
    vars(plain[0]).pop("forward"), vars(plain[2]).pop("forward")
    twin = copy.deepcopy(plain)
    x, y = next(iter(loader))
    F.cross_entropy(model(x), y, reduction=reduction).backward()
    optimizer.step()
    xs, ys = sy.decrypt(x), sy.decrypt(y)
    sums = [torch.zeros_like(p) for p in twin.parameters()]
    for i in range(8):
        twin.zero_grad()
        F.cross_entropy(twin(xs[i : i + 1]), ys[i : i + 1]).backward()
        norm = math.sqrt(sum(float(p.grad.square().sum()) for p in twin.parameters()))
        for total, p in zip(sums, twin.parameters(), strict=True):
            total += p.grad * min(1, 0.3 / norm)
    for p, before, total in zip(model.parameters(), plain.parameters(), sums, strict=True):
        assert torch.allclose(sy.decrypt(p), before - total / 8, atol=2**-10)


@pytest.mark.parametrize(("noise", "holders"), [("holders", 2), ("holders", 3), ("provider", 2)])
def test_noise_is_that_of_the_sensitivity(noise, holders):
    parties = sy.virtual(*["alice", "bob", "charlie"][:holders])
    multiplier, norm, n = 2.0, 0.5, 4000
    model = sy.encrypt(nn.Linear(n // 2 - 1, 2), parties)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    engine = sy.privacy.Engine(**BUDGET, noise=noise)
    x = torch.zeros(4, n // 2 - 1)
    loader = [(sy.encrypt(x, parties), sy.encrypt(torch.zeros(4, dtype=torch.int64), parties))]
    engine.make_private(model, optimizer, loader, max_grad_norm=norm, noise_multiplier=multiplier)
    engine._gave(None)
    F.cross_entropy(model(loader[0][0]), loader[0][1]).backward()
    optimizer.step()
    found = sy.decrypt(model.weight.grad).double() * 4 / norm
    variance = (holders if noise == "holders" else 1) * (multiplier * sensitivity(n)) ** 2
    assert float(found.square().mean()) == pytest.approx(variance, rel=0.13)
    assert sensitivity(10**6) >= 1 + 1000 * 2.0**-16


def test_the_budget_lasts_as_long_as_it_was_planned_for(parties):
    engine, model, optimizer, loader = made(parties, epochs=2)
    assert train(model, optimizer, loader, passes=2) == 6
    assert 0.9 * 8 < engine.epsilon() <= 8
    before = sy.decrypt(model.state_dict())
    spent = engine.epsilon()
    with pytest.raises(BudgetSpentError, match="another step would exceed epsilon 8"):
        train(model, optimizer, loader, passes=2)
    assert engine.epsilon() >= spent
    assert engine.epsilon() <= 8
    steps = engine.accountant.steps
    with pytest.raises(BudgetSpentError):
        train(model, optimizer, loader)
    assert engine.accountant.steps == steps
    if steps == 6:
        after = sy.decrypt(model.state_dict())
        assert all(torch.equal(before[name], after[name]) for name in before)


def test_passes_are_counted_where_batches_are_disjoint(parties):
    engine, model, optimizer, loader = made(parties, sampling="epochs", epochs=2)
    given, *_ = made(parties, sampling="given", epochs=2)
    assert engine.noise_multiplier < given.noise_multiplier
    train(model, optimizer, loader, passes=2)
    assert engine.accountant.steps == 2
    with pytest.raises(BudgetSpentError, match="another pass of the loader"):
        next(iter(loader))


def test_sampling_by_the_engine(parties):
    engine, model, optimizer, loader = made(parties, sampling="poisson", epochs=2)
    given, *_ = made(parties, sampling="given", epochs=2)
    assert engine.noise_multiplier < given.noise_multiplier
    assert engine.accountant.after(1e-3, engine.noise_multiplier, 8 / 24, 6) <= 8
    train(model, optimizer, loader, passes=2)
    assert engine.accountant.history == {(engine.noise_multiplier, 8 / 24): 6}


def test_a_batch_of_nobody_is_noise_alone(parties, monkeypatch):
    loader = DataLoader(data_of(parties), batch_size=1)
    engine, model, optimizer, private = made(parties, sampling="poisson", loader=loader, noise_multiplier=4.0)
    monkeypatch.setattr(engines, "gaussian_noise", lambda x, std, dealt: x * 0)
    monkeypatch.setattr("pysmpc.privacy.loaders.drawn", lambda n, rate: torch.zeros(0, dtype=torch.int64))
    x, y = next(iter(private))
    F.cross_entropy(model(x), y).backward()
    optimizer.step()
    assert all(float(sy.decrypt(p.grad).abs().max()) == 0 for p in model.parameters())
    assert engine.accountant.steps == 1


def test_rows_are_drawn_one_by_one():
    n, rate, times = 500, 0.1, 60
    found = torch.stack([torch.bincount(drawn(n, rate), minlength=n) for _ in range(times)]).double()
    assert int(found.max()) == 1
    assert abs(float(found.mean()) - rate) < 6 * math.sqrt(rate / (n * times))
    # sizes vary as those of independent draws
    assert 0.4 < float(found.sum(1).var()) / (n * rate * (1 - rate)) < 2.2
    assert len(drawn(n, 1.0)) == n
    assert len(drawn(n, 0.0)) == 0


def test_checkpoints(parties):
    engine, model, optimizer, loader = made(parties, epochs=2)
    train(model, optimizer, loader)
    other, *_ = made(parties, epochs=5)
    other.load_state_dict(engine.state_dict())
    assert other.epsilon() == engine.epsilon()
    assert other.noise_multiplier == engine.noise_multiplier
    assert "of 8 at delta 0.001" in other.summary()


def test_a_recorded_step_is_repeated_with_new_noise(parties):
    loader = DataLoader(data_of(parties, 32), batch_size=4)
    engine, model, optimizer, private = made(parties, loader=loader, noise_multiplier=50.0)
    step = sy.TrainStep(model, optimizer, F.cross_entropy)
    weights = [sy.decrypt(model[0].weight)]
    for x, y in private:
        step(x, y)
        weights.append(sy.decrypt(model[0].weight))
    assert step.repeats
    assert engine.accountant.steps == 8
    moves = [b - a for a, b in itertools.pairwise(weights)]
    assert all(not torch.allclose(a, b, atol=1e-3) for a, b in itertools.pairwise(moves))


def test_adam(parties):
    model = sy.encrypt(network(), parties)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    engine = sy.privacy.Engine(**BUDGET)
    loader = DataLoader(data_of(parties), batch_size=12)
    train(*engine.make_private(model, optimizer, loader))
    assert engine.accountant.steps == 2


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"target_epsilon": 0}, "target epsilon"),
        ({"target_delta": 1.0}, "delta is between"),
        ({"sampling": "shuffled"}, "unknown sampling 'shuffled'"),
        ({"noise": "nobody"}, "unknown noise 'nobody'"),
        ({"accountant": "x"}, "unknown accountant 'x'"),
        ({"unit": "row"}, "unknown unit 'row'"),
    ],
)
def test_bad_settings(how, words):
    with pytest.raises((ValueError, NotImplementedError), match=words):
        sy.privacy.Engine(**(BUDGET | how))


def test_claims_that_do_not_hold(parties):
    data = data_of(parties)
    again = DataLoader(data, batch_size=8, sampler=WeightedRandomSampler([1.0] * 24, 24))
    for loader in (again, [(1, 2)], DataLoader(data, batch_size=8, sampler=[0, 0, 1])):
        with pytest.raises(PrivacyError, match='sampling="epochs" needs'):
            made(parties, sampling="epochs", loader=loader)
    with pytest.raises(PrivacyError, match='sampling="poisson" draws rows itself'):
        made(parties, sampling="poisson", loader=[(1, 2)])


def test_what_is_no_private_step(parties):
    _, model, optimizer, loader = made(parties, noise_multiplier=50.0)
    x, y = sy.encrypt(torch.randn(4, 6), parties), sy.encrypt(torch.zeros(4, dtype=torch.int64), parties)
    before = sy.decrypt(model.state_dict())
    F.cross_entropy(model(x), y).backward()
    with pytest.raises(PrivacyError, match="a batch of the loader"):
        optimizer.step()
    batches = iter(loader)
    x, y = next(batches)
    F.cross_entropy(model(x), y).backward()
    with pytest.raises(PrivacyError, match="was used 2 times"):
        optimizer.step()
    model[0].weight.grad = torch.zeros_like(model[0].weight)
    with pytest.raises(PrivacyError, match="did not come through its layer"):
        optimizer.step()
    after = sy.decrypt(model.state_dict())
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_models_that_are_refused(parties):
    engine = sy.privacy.Engine(**BUDGET)
    loader = DataLoader(data_of(parties), batch_size=8)
    plain = network()
    with pytest.raises(PrivacyError, match="is not secret"):
        engine.make_private(plain, torch.optim.SGD(plain.parameters(), lr=0.1), loader)
    secret = sy.encrypt(network(), parties)
    with pytest.raises(PrivacyError, match="none of the model's"):
        engine.make_private(secret, torch.optim.SGD(sy.encrypt(network(), parties).parameters(), lr=0.1), loader)
    optimizer = torch.optim.SGD(secret.parameters(), lr=0.1)
    with pytest.raises(ValueError, match="max_grad_norm"):
        engine.make_private(secret, optimizer, loader, max_grad_norm=0.0)
    with pytest.raises(ValueError, match="loss_reduction"):
        engine.make_private(secret, optimizer, loader, loss_reduction="none")
    engine.make_private(secret, optimizer, loader)
    with pytest.raises(PrivacyError, match="has a model already"):
        engine.make_private(secret, optimizer, loader)


def test_an_input_that_is_changed_after_its_layer(parties):
    """What a norm is taken of is what the layer was given, or nothing is."""

    class Late(nn.Sequential):
        def forward(self, x):
            hidden = self[0](x) * 2
            out = self[2](hidden)
            hidden.mul_(0.25)
            return out

    model = sy.encrypt(Late(*network()), parties)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    model, optimizer, loader = sy.privacy.Engine(**BUDGET).make_private(
        model, optimizer, DataLoader(data_of(parties), batch_size=8)
    )
    x, y = next(iter(loader))
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        F.cross_entropy(model(x), y).backward()


def test_layers_that_are_trained_later_are_not_left_out(parties):
    """A parameter that was frozen, or not the optimizer's, in the beginning has no clipped gradient."""
    model = sy.encrypt(network(), parties)
    for p in model[0].parameters():
        p.requires_grad_(False)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    loader = DataLoader(data_of(parties), batch_size=8, shuffle=True)
    model, optimizer, loader = sy.privacy.Engine(**BUDGET).make_private(model, optimizer, loader)
    for p in model[0].parameters():
        p.requires_grad_(True)
    before = [sy.decrypt(p.detach()) for p in model.parameters()]
    with pytest.raises(PrivacyError, match="did not come through its layer"):
        train(model, optimizer, loader)
    assert all(torch.equal(a, sy.decrypt(p.detach())) for a, p in zip(before, model.parameters(), strict=True))


@pytest.mark.parametrize(
    "norm", [nn.BatchNorm1d(5, affine=False), nn.InstanceNorm1d(5, track_running_stats=True)], ids=str
)
def test_norms_that_are_put_back_into_training_mode(parties, norm):
    """model.train() at the top of a loop turns them on again."""
    model = sy.encrypt(nn.Sequential(nn.Linear(6, 5), norm, nn.Linear(5, 2)), parties).eval()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    loader = DataLoader(data_of(parties), batch_size=8, shuffle=True)
    model, optimizer, loader = sy.privacy.Engine(**BUDGET).make_private(model, optimizer, loader)
    model.train()
    with pytest.raises(PrivacyError, match="computes from all examples of a batch"):
        train(model, optimizer, loader)
