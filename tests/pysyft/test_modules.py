"""The documents' verbs on modules and optimizers."""

import copy
import warnings

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import pysmpc as sy
from pysmpc.compat.pysyft.fixed_optimizers import FixedPrecision
from pysmpc.compat.pysyft.pysyft_errors import NothingToGetError
from pysmpc.errors import EncodingError


def net():
    return nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 1))


def data(n=8):
    return torch.randn(n, 3), torch.randn(n, 1)


def step(model, optimizer, x, y):
    optimizer.zero_grad()
    loss = ((model(x) - y) ** 2).sum() / len(x)
    loss.backward()
    optimizer.step()
    return loss


def close(model, reference, atol):
    for name, value in reference.state_dict().items():
        assert torch.allclose(model.state_dict()[name], value, atol=atol), name


@pytest.mark.parametrize("early", [True, False], ids=["optimizer first", "optimizer last"])
def test_training_as_the_document_does(alice, bob, james, secret, early):
    model, (x, y) = net(), data()
    reference = copy.deepcopy(model)
    options = {"lr": 0.05, "momentum": 0.9}
    if early:
        optimizer = torch.optim.SGD(model.parameters(), **options)
    model = model.fix_precision(5).share(alice, bob, crypto_provider=james, requires_grad=True)
    if not early:
        optimizer = torch.optim.SGD(model.parameters(), **options)
    optimizer = optimizer.fix_precision()
    plain = torch.optim.SGD(reference.parameters(), **options)
    sx, sy_ = secret(x, 5), secret(y, 5)
    for _ in range(3):
        loss = step(model, optimizer, sx, sy_)
        expected = step(reference, plain, x, y)
        assert loss.get().float_precision().item() == pytest.approx(expected.item(), abs=5e-3)
    assert model.get() is model
    assert model.float_precision() is model
    assert all(type(p) is nn.Parameter and p.requires_grad for p in model.parameters())
    close(model, reference, 2e-3)
    optimizer.zero_grad()


def test_parameters_say_what_they_are(alice, bob, james):
    model = nn.Linear(2, 1).fix_precision()
    assert repr(model.bias).startswith("Parameter containing:\nParameter>AutogradTensor>FixedPrecisionTensor>tensor([")
    model.share(alice, bob, crypto_provider=james, requires_grad=True)
    assert repr(model.bias).startswith(
        "Parameter containing:\nParameter>AutogradTensor>FixedPrecisionTensor>[AdditiveSharingTensor]\n\t-> ["
    )
    assert isinstance(model.bias, nn.Parameter)
    assert model.location == [alice, bob]
    assert model.owner.id == "me"


def test_sharing_without_gradients(alice, bob, secret):
    model, (x, _) = net(), data()
    expected = model(x).detach()
    model.fix_precision().share(alice, bob, crypto_provider=sy.VirtualWorker(sy.TorchHook.active, "james"))
    assert not any(p.requires_grad for p in model.parameters())
    assert torch.allclose(model(secret(x)).get().float_precision(), expected, atol=0.02)
    model.get().float_precision()
    assert all(p.requires_grad for p in model.parameters())


def test_frozen_parameters_stay_frozen(alice, bob):
    model = net()
    model[0].weight.requires_grad_(False)
    model.fix_precision().share(alice, bob, requires_grad=True)
    assert [p.requires_grad for p in model.parameters()] == [False, True, True, True]
    model.get().float_precision()
    assert [p.requires_grad for p in model.parameters()] == [False, True, True, True]


def test_parameters_keep_their_identity(alice, bob):
    model = net()
    before = list(model.parameters())
    model.fix_prec().share(alice, bob, requires_grad=True)
    assert all(a is b for a, b in zip(before, model.parameters(), strict=True))
    model.get().float_prec()
    assert all(a is b for a, b in zip(before, model.parameters(), strict=True))


def test_a_parameter_in_use_is_replaced_with_a_warning(alice, bob):
    model = net()
    output = model(torch.ones(1, 3))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model.fix_precision().share(alice, bob)
    identical = all(isinstance(p, sy.SecretTensor) for p in model.parameters())
    assert identical
    assert all("graph" in str(w.message) for w in caught)
    if not caught:
        with pytest.raises(RuntimeError):
            output.sum().backward()


def test_tied_parameters_stay_tied(alice, bob):
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    model[1].weight = model[0].weight
    model.fix_precision().share(alice, bob)
    assert model[1].weight is model[0].weight
    model.get().float_precision()
    assert model[1].weight is model[0].weight


def test_buffers_go_with_the_parameters(alice, bob):
    model = nn.BatchNorm1d(2)
    model.running_mean += 1.5
    model.fix_precision().share(alice, bob)
    assert isinstance(model.running_mean, sy.SecretTensor)
    model.get().float_precision()
    assert torch.equal(model.running_mean, torch.full((2,), 1.5))


def test_nothing_changes_when_something_raises(alice, bob):
    model = net()
    with torch.no_grad():
        model[2].bias.fill_(float("nan"))
    with pytest.raises(EncodingError):
        model.fix_precision()
    assert all(type(p) is nn.Parameter for p in model.parameters())
    with pytest.raises(TypeError, match="Use fix_precision"):
        net().share(alice, bob)
    with pytest.raises(NothingToGetError):
        net().get()
    with pytest.raises(NotImplementedError, match="falcon"):
        net().fix_precision().share(alice, bob, protocol="falcon")


def test_encrypt_and_decrypt(alice, bob, james):
    model = net()
    reference = copy.deepcopy(model)
    secret = model.encrypt(workers=[alice, bob], crypto_provider=james, precision_fractional=5, inplace=False)
    assert secret is not model
    assert type(model[0].weight) is nn.Parameter
    assert model.encrypt(workers=[alice, bob], precision_fractional=5) is model
    assert model.decrypt() is model
    close(model, reference, 1e-5)
    close(secret.decrypt(inplace=False), reference, 1e-5)
    assert isinstance(secret[0].weight, sy.SecretTensor)
    with pytest.raises(TypeError, match="workers="):
        model.encrypt()
    with pytest.raises(NotImplementedError, match="falcon"):
        model.encrypt("falcon", workers=[alice, bob])


def test_copy(alice, bob):
    model = net().fix_precision().share(alice, bob)
    other = model.copy()
    model.get().float_precision()
    close(other.get().float_precision(), model, 0)


@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.Adam], ids=lambda o: o.__name__)
def test_a_federated_round(bob, optimizer):
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Tanh(), nn.Linear(4, 1))
    (x, y), reference = data(), copy.deepcopy(model)
    opt, plain = optimizer(model.parameters(), lr=0.05), optimizer(reference.parameters(), lr=0.05)
    px, py = x.send(bob), y.send(bob)
    model.send(bob)
    assert model.location == bob
    losses = [step(model, opt, px, py).get().item() for _ in range(3)]
    assert losses == pytest.approx([step(reference, plain, x, y).item() for _ in range(3)], abs=1e-5)
    assert model.get() is model
    close(model, reference, 1e-5)
    assert torch.allclose(model[0].weight.grad, reference[0].weight.grad, atol=1e-5)


def test_rounds_at_several_workers(alice, bob):
    model, reference = net(), None
    reference = copy.deepcopy(model)
    opt, plain = torch.optim.SGD(model.parameters(), lr=0.05), torch.optim.SGD(reference.parameters(), lr=0.05)
    for worker in (alice, bob, alice):
        x, y = data()
        model.send(worker)
        loss = step(model, opt, x.send(worker), y.send(worker))
        model.get()
        assert loss.get().item() == pytest.approx(step(reference, plain, x, y).item(), abs=1e-5)
    close(model, reference, 1e-5)
    assert alice.objects_count() == bob.objects_count() == 0


def test_moving_a_module(alice, bob):
    model = net()
    reference = copy.deepcopy(model)
    model.send(alice).move(bob)
    assert (model.location, alice.objects_count()) == (bob, 0)
    close(model.get(), reference, 0)
    with pytest.raises(TypeError, match="one worker"):
        model.send(alice, bob)


def test_secure_aggregation(alice, bob, james):
    models = [net().send(worker) for worker in (alice, bob)]
    plain = [copy.deepcopy(m).get() for m in models]
    for parameters in zip(*(m.parameters() for m in models), strict=True):
        shared = [p.copy().fix_precision(5).share(alice, bob, crypto_provider=james).get() for p in parameters]
        mean = ((shared[0] + shared[1]) / 2).get().float_precision()
        expected = [dict(m.named_parameters()) for m in plain]
        assert any(
            torch.allclose(mean, (expected[0][n] + expected[1][n]) / 2, atol=1e-4)
            for n in expected[0]
            if expected[0][n].shape == mean.shape
        )


# --- optimizers ---


def test_hyperparameters(hook):
    optimizer = torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=0.02, momentum=0.9, nesterov=True)
    assert optimizer.fix_precision() is optimizer
    [group] = optimizer.param_groups
    assert repr(group["lr"]) == "FixedPrecisionTensor>tensor(20)"
    assert repr(group["momentum"]) == "FixedPrecisionTensor>tensor(900)"
    assert (group["lr"], group["weight_decay"], group["nesterov"]) == (0.02, 0, True)
    assert "lr: FixedPrecisionTensor>tensor(20)" in repr(optimizer)
    assert isinstance(copy.deepcopy(optimizer).param_groups[0]["lr"], FixedPrecision)
    assert f"{group['lr']:.3f}" == "0.020"
    optimizer.float_precision()
    assert type(group["lr"]) is float


def test_rounding_of_hyperparameters(hook):
    optimizer = torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=0.29, momentum=0.999)
    optimizer.fix_precision(precision_fractional=2)
    assert (optimizer.param_groups[0]["lr"], optimizer.param_groups[0]["momentum"]) == (0.29, 0.99)


def test_a_rate_that_would_vanish_raises(hook):
    optimizer = torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=0.0004, momentum=0.9)
    with pytest.raises(EncodingError, match=r"lr=0.0004 would become 0 at precision 3"):
        optimizer.fix_precision()
    assert optimizer.param_groups[0]["momentum"] == 0.9
    assert optimizer.fix_precision(precision_fractional=4).param_groups[0]["lr"] == 0.0004
    with pytest.raises(EncodingError, match="eps"):
        torch.optim.Adam(nn.Linear(1, 1).parameters(), lr=0.01).fix_precision()


def test_a_fixed_optimizer_trains_plain_models(hook):
    model, (x, y) = net(), data()
    reference = copy.deepcopy(model)
    step(model, torch.optim.SGD(model.parameters(), lr=0.05).fix_precision(), x, y)
    step(reference, torch.optim.SGD(reference.parameters(), lr=0.05), x, y)
    close(model, reference, 1e-6)


def test_losses_of_torch(secret, alice, bob, james):
    model, (x, y) = net(), data()
    expected = F.mse_loss(model(x), y).item()
    model.fix_precision(5).share(alice, bob, crypto_provider=james)
    loss = F.mse_loss(model(secret(x, 5)), secret(y, 5))
    assert loss.get().float_precision().item() == pytest.approx(expected, abs=2e-3)


@pytest.mark.parametrize("name", ["Adadelta", "Adagrad", "Adam", "AdamW", "Adamax", "NAdam", "RAdam", "RMSprop"])
@pytest.mark.parametrize("opened", [False, True], ids=["public", "plain tensors"])
def test_optimizers_step_secrets_by_gradients_that_everybody_knows(name, opened):
    """Of a sum of a linear layer on public data."""
    plain, x = nn.Linear(3, 2), torch.rand(4, 3) + 0.5
    start = [p.detach().clone() for p in plain.parameters()]
    model = sy.encrypt(copy.deepcopy(plain), sy.virtual("alice", "bob"))
    for each in (plain, model):
        optimizer = getattr(torch.optim, name)(each.parameters(), lr=0.1)
        each(x).sum().backward()
        for p in each.parameters() if opened else ():
            p.grad = sy.decrypt(p.grad) if isinstance(p.grad, sy.SecretTensor) else p.grad
        optimizer.step()
        assert optimizer.state
    for mine, theirs, first in zip(model.parameters(), plain.parameters(), start, strict=True):
        assert (sy.decrypt(mine.detach()) - theirs).abs().max() < 2**-10 * (theirs - first).abs().max() + 2**-14
