"""Modules, optimizers and losses of torch on secrets, against a twin in float64."""

import copy

import pytest
import torch
from op_checks import encrypted, parties
from torch import nn
from torch.nn import functional as F
from twins import double_twin, opened, representable, task

import pysmpc as sy

ULP = 2.0**-16
OPTIMIZERS = {
    "plain": {"lr": 0.05},
    "odd rate": {"lr": 0.0173},
    "momentum": {"lr": 0.05, "momentum": 0.9},
    "dampening": {"lr": 0.05, "momentum": 0.9, "dampening": 0.5},
    "decay": {"lr": 0.05, "weight_decay": 0.01},
    "nesterov": {"lr": 0.05, "momentum": 0.9, "weight_decay": 0.01, "nesterov": True},
    "maximize": {"lr": 0.01, "maximize": True},
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_sgd(name):
    """A linear model: nothing to turn over, so that errors add up and do no more."""
    model, x, y = nn.Sequential(nn.Linear(6, 4), nn.Linear(4, 2)), torch.randn(8, 6), torch.randn(8, 2)
    secret, twin = sy.encrypt(model, parties()), double_twin(model)
    a, b = encrypted(x), encrypted(y)
    optimizers = [torch.optim.SGD(m.parameters(), **OPTIMIZERS[name]) for m in (secret, twin)]
    for step in range(1, 6):
        for net, optimizer, inputs, target in (
            (secret, optimizers[0], a, b),
            (twin, optimizers[1], representable(x), representable(y)),
        ):
            optimizer.zero_grad()
            F.mse_loss(net(inputs), target).backward()
            optimizer.step()
        for mine, theirs in zip(secret.parameters(), twin.parameters(), strict=True):
            assert float((opened(mine) - theirs.detach()).abs().max()) <= 4 * step * ULP


@pytest.mark.parametrize("holders", [2, 3])
@pytest.mark.parametrize("loss", ["mse", "sum of squares", "sum"])
def test_a_network(holders, loss):
    model, x, y = task(16, 10, 12, 8, 3)
    losses = {
        "mse": F.mse_loss,
        "sum of squares": lambda out, target: ((out - target) ** 2).sum() / out.shape[0],
        "sum": lambda out, target: (out - target).sum() / 16,
    }
    secret, twin = sy.encrypt(model, parties(holders)), double_twin(model)
    found = losses[loss](secret(encrypted(x, holders)), encrypted(y, holders))
    expected = losses[loss](twin(representable(x)), representable(y))
    assert abs(float(opened(found) - expected.detach())) <= 16 * ULP
    found.backward()
    expected.backward()
    for mine, theirs in zip(secret.parameters(), twin.parameters(), strict=True):
        assert float((opened(mine.grad) - theirs.grad).abs().max()) <= 8 * ULP


def test_two_backward_passes_and_accumulation():
    model, x, y = task(8, 5, 6, 2)
    secret, twin = sy.encrypt(model, parties()), double_twin(model)
    for net, inputs, target in ((secret, encrypted(x), encrypted(y)), (twin, representable(x), representable(y))):
        loss = F.mse_loss(net(inputs), target)
        loss.backward(retain_graph=True)
        loss.backward()
        F.mse_loss(net(inputs), target).backward()
    for mine, theirs in zip(secret.parameters(), twin.parameters(), strict=True):
        assert float((opened(mine.grad) - theirs.grad).abs().max()) <= 12 * ULP
    secret.zero_grad(set_to_none=False)
    assert all(bool((sy.decrypt(p.grad) == 0).all()) for p in secret.parameters())


def test_accumulation_before_an_update_that_waits():
    """zero_grad(set_to_none=False) after step() must not reach into the update."""
    model, x, y = task(8, 5, 6, 2)
    secret, twin = sy.encrypt(model, parties()), double_twin(model)
    for net, inputs, target in ((secret, encrypted(x), encrypted(y)), (twin, representable(x), representable(y))):
        optimizer = torch.optim.SGD(net.parameters(), lr=0.05)
        F.mse_loss(net(inputs), target).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=False)
    for mine, theirs in zip(secret.parameters(), twin.parameters(), strict=True):
        assert float((opened(mine) - theirs.detach()).abs().max()) <= 2 * ULP


def test_updates_share_rounds():
    """Four parameters, gradients of two scales: one opening for all."""
    model, x, y = task(8, 5, 6, 2)
    secret, a, b = sy.encrypt(model, parties()), encrypted(x), encrypted(y)
    optimizer = torch.optim.SGD(secret.parameters(), lr=0.05)
    F.mse_loss(secret(a), b).backward()
    before = parties().stats.copy()
    optimizer.step()
    for parameter in secret.parameters():
        parameter.cell.body  # noqa: B018  (the first read does all of them)
    assert (parties().stats - before).rounds == 1


def test_plain_data_and_secret_model():
    model, x, y = task(8, 5, 6, 2)
    secret, twin = sy.encrypt(model, parties()), double_twin(model)
    found, expected = F.mse_loss(secret(x), y), F.mse_loss(twin(x.double()), y.double())
    found.backward()
    expected.backward()
    for mine, theirs in zip(secret.parameters(), twin.parameters(), strict=True):
        assert float((opened(mine.grad) - theirs.grad).abs().max()) <= 16 * ULP


def test_secret_data_and_plain_model():
    model, x, _y = task(8, 5, 6, 2)
    twin = copy.deepcopy(model).double()
    found, expected = model(encrypted(x)), twin(representable(x))
    assert float((opened(found) - expected.detach()).abs().max()) <= 32 * ULP


def test_training_a_plain_model_on_secret_data_is_refused():
    """The gradient would be secret, the parameter public: no silent opening."""
    model, x, y = task(8, 5, 6, 2)
    with pytest.raises((TypeError, RuntimeError, NotImplementedError)):  # noqa: PT012
        F.mse_loss(model(encrypted(x)), encrypted(y)).backward()
        torch.optim.SGD(model.parameters(), lr=0.1).step()


def test_module_round_trip():
    model, x, _ = task(4, 5, 6, 2)
    secret = sy.encrypt(model, parties())
    back = sy.decrypt(secret)
    for (name, mine), (other, theirs) in zip(back.named_parameters(), model.named_parameters(), strict=True):
        assert name == other
        assert type(mine) is nn.Parameter
        assert torch.equal(mine, representable(theirs).float())
    assert torch.allclose(back(x), model(x), atol=1e-3)
    assert not any(isinstance(p, sy.SecretTensor) for p in model.parameters())
    assert all(isinstance(p, sy.SecretTensor) and isinstance(p, nn.Parameter) for p in secret.parameters())


def test_state_dict():
    model, _x, _ = task(4, 5, 6, 2)
    first, second = sy.encrypt(model, parties()), sy.encrypt(task(4, 5, 6, 2)[0], parties())
    second.load_state_dict(first.state_dict())
    for mine, theirs in zip(second.parameters(), first.parameters(), strict=True):
        assert torch.equal(opened(mine), opened(theirs))
        assert mine is not theirs
    with torch.no_grad():
        next(first.parameters()).add_(1)
    assert not torch.equal(opened(next(first.parameters())), opened(next(second.parameters())))
    second.load_state_dict(model.state_dict())  # a plain one is encoded
    for mine, theirs in zip(second.parameters(), model.parameters(), strict=True):
        assert torch.equal(opened(mine), representable(theirs))


def test_deepcopy():
    secret = sy.encrypt(task(4, 5, 6, 2)[0], parties())
    copied = copy.deepcopy(secret)
    with torch.no_grad():
        for p in secret.parameters():
            p.mul_(0)
    for mine, theirs in zip(copied.parameters(), secret.parameters(), strict=True):
        assert isinstance(mine, nn.Parameter)
        assert mine.requires_grad
        assert bool((opened(theirs) == 0).all())
        assert bool((opened(mine) != 0).any())


def test_a_parameter_that_is_used_twice():
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4))
    model[2].weight = model[0].weight
    secret = sy.encrypt(model, parties())
    assert secret[0].weight is secret[2].weight
    twin = double_twin(model)
    x = torch.rand(3, 4) + 0.5
    with torch.no_grad():
        for net in (twin, secret):
            net[0].bias.fill_(3.0)
    found, expected = secret(encrypted(x)).sum(), twin(representable(x)).sum()
    found.backward()
    expected.backward()
    assert float((opened(secret[0].weight.grad) - twin[0].weight.grad).abs().max()) <= 32 * ULP


def test_no_grad_and_frozen_parameters():
    secret = sy.encrypt(task(4, 5, 6, 2)[0], parties())
    with torch.no_grad():
        assert not secret(encrypted(torch.randn(2, 5))).requires_grad
    secret[0].requires_grad_(False)
    secret(encrypted(torch.randn(2, 5))).sum().backward()
    assert secret[0].weight.grad is None
    assert secret[2].weight.grad is not None
    with torch.inference_mode():
        out = secret(encrypted(torch.randn(2, 5)))
    assert sy.decrypt(out).shape == (2, 2)


def test_a_value_that_autograd_saved_may_not_be_written():
    x = encrypted(torch.rand(3)).requires_grad_()
    y = torch.relu(x)
    y.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


def test_hooks_see_secret_gradients():
    x, seen = encrypted(torch.rand(3)).requires_grad_(), []
    y = x * 2
    y.register_hook(lambda g: seen.append(g) or g * 3)
    y.sum().backward()
    assert torch.equal(opened(x.grad), torch.full((3,), 6.0).double())
    assert sy.decrypt(seen[0]).tolist() == [1.0, 1.0, 1.0]
