"""Batch normalisation: secret running statistics in training, evaluation, checkpoints and repeated steps."""

import copy

import pytest
import torch
from op_checks import encrypted, parties, plain
from torch import nn
from torch.nn import functional as F
from twins import double_twin

import pysmpc as sy

KINDS = {
    "1d of rows": (nn.BatchNorm1d, (8, 4)),
    "1d": (nn.BatchNorm1d, (3, 4, 5)),
    "2d": (nn.BatchNorm2d, (3, 4, 5, 5)),
    "3d": (nn.BatchNorm3d, (3, 4, 2, 2, 2)),
}
OPTIONS = {
    "default": {},
    "another momentum": {"momentum": 0.3},
    "running mean of all": {"momentum": None},
    "momentum 0": {"momentum": 0.0},
    "momentum 1": {"momentum": 1.0},
    "without statistics": {"track_running_stats": False},
    "without weights": {"affine": False},
    "with nothing": {"affine": False, "track_running_stats": False},
}


def close(found, expected, atol=2**-10):
    found = plain(found.detach()).double()
    assert torch.allclose(found, expected.detach().double(), atol=atol, rtol=2**-9), (found - expected).abs().max()


def seen(layer):
    """With statistics that are not 0 and 1."""
    if layer.running_mean is not None:
        layer.running_mean.normal_()
        layer.running_var.uniform_(0.5, 2)
    return layer


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("options", OPTIONS)
def test_training_and_evaluation(kind, options):
    make, shape = KINDS[kind]
    layer = seen(make(4, **OPTIONS[options]))
    twin, secret = double_twin(layer), sy.encrypt(layer, parties())
    for training in (True, True, False, True):
        secret.train(training)
        twin.train(training)
        x = torch.randn(shape) * 2 + 1
        mine, theirs = encrypted(x).requires_grad_(), x.double().requires_grad_()
        found, expected = secret(mine), twin(theirs)
        close(found, expected)
        weights = torch.rand(shape)
        (found * weights).sum().backward()
        (expected * weights.double()).sum().backward()
        close(mine.grad, theirs.grad)
        for a, b in zip(secret.parameters(), twin.parameters(), strict=True):
            close(a.grad, b.grad, 2**-8)
        for (name, a), (_, b) in zip(secret.named_buffers(), twin.named_buffers(), strict=True):
            close(a, b)
            assert isinstance(a, sy.SecretTensor) == (name != "num_batches_tracked")
    opened = sy.decrypt(secret).eval()
    x = torch.randn(shape)
    if options not in ("without statistics", "with nothing"):
        close(encrypted(opened(x).detach()), twin.eval()(x.double()))


def test_statistics_wait_for_one_round():
    """Two layers, six statistics and weights: what they are moved by is truncated in one round, at their first use."""
    net = sy.encrypt(nn.Sequential(nn.BatchNorm1d(4), nn.BatchNorm1d(4)), parties())
    x = encrypted(torch.randn(8, 4))
    before = parties().stats.copy()
    net(x)
    forward = (parties().stats - before).cost.rounds
    alone = sy.encrypt(nn.Sequential(*(nn.BatchNorm1d(4, track_running_stats=False) for _ in range(2))), parties())
    before = parties().stats.copy()
    alone(x)
    assert forward == (parties().stats - before).cost.rounds
    before = parties().stats.copy()
    for buffer in net.buffers():
        if isinstance(buffer, sy.SecretTensor):
            buffer.window()
    assert (parties().stats - before).cost.rounds == 1


def test_a_large_batch():
    """Many elements to a channel: scales stay where they have room."""
    layer = nn.BatchNorm2d(2)
    twin, secret = double_twin(layer), sy.encrypt(layer, parties())
    x = torch.randn(64, 2, 16, 16) * 3 + 5
    close(secret(encrypted(x)), twin(x.double()))
    for a, b in zip(secret.buffers(), twin.buffers(), strict=True):
        close(a, b)


@pytest.mark.parametrize("make", [nn.InstanceNorm1d, nn.InstanceNorm2d])
def test_instance_norm_with_statistics(make):
    layer = seen(make(4, affine=True, track_running_stats=True))
    twin, secret = double_twin(layer), sy.encrypt(layer, parties())
    for training in (True, False):
        secret.train(training)
        twin.train(training)
        x = torch.randn((3, 4, *[5] * (2 if make is nn.InstanceNorm2d else 1)))
        close(secret(encrypted(x)), twin(x.double()))
        for a, b in zip(secret.buffers(), twin.buffers(), strict=True):
            close(a, b)


def test_a_public_layer_says_what_to_do():
    layer = seen(nn.BatchNorm1d(4))
    x = encrypted(torch.randn(5, 4))
    before = copy.deepcopy(layer.state_dict())
    with pytest.raises(TypeError, match=r"encrypt the model.*eval\(\).*track_running_stats"):
        layer(x)
    assert torch.equal(layer.running_mean, before["running_mean"])
    close(layer.eval()(x), double_twin(layer).eval()(plain(x)))
    free = nn.BatchNorm1d(4, track_running_stats=False)
    close(free(x), double_twin(free)(plain(x)))


def test_a_secret_layer_on_public_data():
    layer = seen(nn.BatchNorm1d(4))
    twin, secret = double_twin(layer), sy.encrypt(layer, parties())
    x = torch.randn(6, 4)
    close(secret(x), twin(x.double()))
    for a, b in zip(secret.buffers(), twin.buffers(), strict=True):
        close(a, b)
    close(secret.eval()(x), twin.eval()(x.double()))


def test_state_dict_and_checkpoints(tmp_path):
    first, second = (sy.encrypt(nn.BatchNorm1d(4), parties()) for _ in range(2))
    for _ in range(3):
        first(encrypted(torch.randn(6, 4)))
    expected = {name: sy.decrypt(each) for name, each in first.state_dict().items()}
    assert set(expected) == {"weight", "bias", "running_mean", "running_var", "num_batches_tracked"}
    second.load_state_dict(first.state_dict())
    third = sy.encrypt(nn.BatchNorm1d(4), parties())
    sy.save(first, None, tmp_path)
    sy.load(third, None, tmp_path)
    for module in (second, third, sy.decrypt(first)):
        for name, each in module.state_dict().items():
            assert torch.equal(sy.decrypt(each), expected[name])
    assert int(third.num_batches_tracked) == 3
    assert isinstance(third.running_var, sy.SecretTensor)


def block():
    """A residual block as of ResNet-8, with what comes before and after."""

    class Residual(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = nn.Sequential(nn.Conv2d(2, 4, 3, 2, 1, bias=False), nn.BatchNorm2d(4))
            self.second = nn.Sequential(nn.Conv2d(4, 4, 3, 1, 1, bias=False), nn.BatchNorm2d(4))
            self.short = nn.Sequential(nn.Conv2d(2, 4, 1, 2, bias=False), nn.BatchNorm2d(4))

        def forward(self, x):
            return F.relu(self.second(F.relu(self.first(x))) + self.short(x))

    stem = [nn.Conv2d(1, 2, 3, 1, 1, bias=False), nn.BatchNorm2d(2), nn.ReLU()]
    return nn.Sequential(*stem, Residual(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))


def test_a_residual_block_learns():
    """Distance of the weights from plain torch's, relative to the way that they went; repeated steps count batches."""
    net = block()
    twin, secret = double_twin(net), sy.encrypt(net, parties())
    start = [p.detach().clone() for p in twin.parameters()]
    optimizers = [torch.optim.SGD(each.parameters(), lr=0.05, momentum=0.9) for each in (secret, twin)]
    step = sy.TrainStep(secret, optimizers[0], F.mse_loss)
    for turn in range(8):
        x, y = torch.rand(6, 1, 8, 8), torch.randn(6, 3)
        step(encrypted(x), encrypted(y))
        assert step.repeats == (turn >= 4), step.reason
        optimizers[1].zero_grad()
        F.mse_loss(twin(x.double()), y.double()).backward()
        optimizers[1].step()
    pairs = zip(secret.parameters(), twin.parameters(), strict=True)
    off = sum((plain(a.detach()) - b.detach()).square().sum() for a, b in pairs)
    way = sum((b.detach() - c).square().sum() for b, c in zip(twin.parameters(), start, strict=True))
    assert (off / way).sqrt() < 0.1  # a unit near 0 may be on in one and off in the other: 0.03 of 25 runs
    for (name, a), (_, b) in zip(secret.named_buffers(), twin.named_buffers(), strict=True):
        close(a, b, 2**-5)
        assert "num" not in name or int(a) == int(b) == 8
