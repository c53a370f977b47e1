"""sy.debug: silent while secrets do what plain torch does, and the first operation that does not is named."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import pysmpc as sy
from pysmpc.demo.models import MODELS, squared_error
from pysmpc.errors import DeviationError, PartyError
from pysmpc.mpc.suite import default
from pysmpc.ring.fixedpoint import BINARY16
from pysmpc.tensor.watching import WATCHERS
from pysmpc.transport import threads


def parties():
    return sy.virtual("alice", "bob", checked=False)


def batch(side, n=8, **precision):
    x, y = torch.rand(n, 28, 28), F.one_hot(torch.randint(10, (n,)), 10).float()
    return sy.encrypt(x, side, **precision), sy.encrypt(y, side, **precision)


@pytest.mark.parametrize("precision", [{}, {"base": 10, "precision_fractional": 3}], ids=["binary", "decimal"])
@pytest.mark.parametrize("activation", ["relu", "square"])
def test_training_that_is_right_is_left_alone(activation, precision):
    side = parties()
    model = sy.encrypt(MODELS["mlp"](activation), side, **precision)
    x, y = batch(side, **precision)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.5)
    with sy.debug() as debug:
        for _ in range(2):
            optimizer.zero_grad()
            loss = squared_error(model(x), y)
            loss.backward()
            optimizer.step()
    assert debug.compared > 80
    assert not debug.skipped.keys() & {"addmm", "mm", "relu", "pow", "add_"}


@pytest.mark.parametrize(
    "function",
    [F.relu, lambda x: F.leaky_relu(x, 0.5), lambda x: F.hardtanh(x, 0.0, 1.0)],
    ids=["relu", "leaky", "hard"],
)
def test_a_value_at_the_bend_may_be_on_either_side(function):
    """To less than a step of the encoding the secret knows where it is, and what was rounded of it does not."""
    x = sy.encrypt(torch.arange(-64, 64) / 2**16, parties()).requires_grad_()
    with sy.debug() as debug:
        (function(x * 0.0301) * 50).sum().backward()
    assert debug.compared > 3
    assert torch.allclose(sy.decrypt(x.grad[96:]), torch.full((32,), 1.505), atol=2**-12)


def test_functions_and_what_is_not_compared():
    side = parties()
    x = sy.encrypt(torch.linspace(-3, 3, 60).reshape(6, 10), side)
    with sy.debug() as debug:
        out = F.layer_norm(F.gelu(x), (10,)).softmax(1) + torch.sigmoid(x[:, ::2]).sum() - x.amax(1, keepdim=True)
        F.dropout(out.tanh() / (x.exp() + 1), 0.5)
    assert debug.compared > 5
    assert WATCHERS == []


def test_an_overflow_names_layer_line_and_ranges():
    class Square(nn.Module):
        def forward(self, x):
            return x * x

    side = parties()
    model = nn.Sequential(nn.Flatten(), Square())
    x = sy.encrypt(torch.full((2, 4), 2.0**30), side)
    with pytest.raises(DeviationError, match=r"mul in 1, called from .*test_debug.py:\d+: .* is off") as e, sy.debug():
        model(x)
    assert "plain torch: " in str(e.value)
    assert WATCHERS == []


@pytest.mark.parametrize(
    ("name", "function"),
    [("log", lambda x: x.log()), ("sqrt", lambda x: x.sqrt()), ("reciprocal", lambda x: torch.reciprocal(x)),
     ("exp", lambda x: (x * 30 + 31).exp())],
    ids=["log", "sqrt", "reciprocal", "exp"],
)  # fmt: skip
def test_a_domain_that_is_left(name, function):
    side = parties()
    x = sy.encrypt(torch.tensor([0.5, -1.0, 0.0]), side)
    with pytest.raises(DeviationError, match=f"{name}, called from"), sy.debug():
        function(x)
    function(x)


def test_a_rate_too_small_for_the_encoding():
    side = parties()
    layer = sy.encrypt(nn.Linear(5, 2), side, base=10, precision_fractional=3)
    x = sy.encrypt(torch.rand(4, 5), side, base=10, precision_fractional=3)
    optimizer = torch.optim.SGD(layer.parameters(), lr=1e-5)
    with sy.debug():
        layer(x).mean().backward()
    with pytest.raises(DeviationError, match=r"add_ in SGD.*steps of its encoding, which is lost"), sy.debug():
        optimizer.step()


def test_of_parties_that_are_elsewhere():
    [session, *_] = threads.sessions(["a", "b"], suite=default)
    share = session.suite.public(session.party, torch.tensor([3 << 15]), 1 << 16)
    x = sy.SecretTensor.of(share, session, BINARY16, torch.float32)
    with pytest.raises(PartyError, match=r"sy\.virtual"), sy.debug():
        x + x
