"""torch.func, torch.utils.checkpoint, and torch.nn.utils.parametrizations on secrets: torch's own, unmodified."""

import copy

import pytest
import torch
from op_checks import encrypted, parties, plain
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations, parametrize
from torch.utils.checkpoint import checkpoint, checkpoint_sequential

import pysmpc as sy

NEAR = 2.0**-10

pytestmark = [  # of torch, about itself
    pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated"),
    pytest.mark.filterwarnings("ignore:.torch.nn.utils.weight_norm. is deprecated"),
]


def apart(found, expected):
    return float((plain(found).double() - expected.detach().double()).abs().max())


def net():
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))


# --- torch.func -----------------------------------------------------------------------


def loss(w, x):
    return (torch.tanh(x @ w) ** 2).sum()


TRANSFORMS = {
    "grad": lambda w, x: torch.func.grad(loss)(w, x),
    "grad and value": lambda w, x: torch.func.grad_and_value(loss)(w, x)[1],
    "vjp": lambda w, x: torch.func.vjp(torch.tanh, w)[1](w)[0],
    "jvp": lambda w, x: torch.func.jvp(lambda v: torch.tanh(x @ v), (w,), (w,))[1],
    "jacrev": lambda w, x: torch.func.jacrev(lambda v: v * v)(w),
    "jacfwd": lambda w, x: torch.func.jacfwd(lambda v: v * v)(w),
    "hessian": lambda w, x: torch.func.hessian(loss)(w, x),
    "hessian of a fit": lambda w, x: torch.func.hessian(lambda v: F.softplus(x @ v).sum())(w),
    "hessian times a vector": lambda w, x: torch.func.jvp(torch.func.grad(loss), (w, x), (w, x))[1],
    "hessian, the older function": lambda w, x: torch.autograd.functional.hessian(lambda v: loss(v, x), w),
    "jvp of a view": lambda w, x: torch.func.jvp(lambda v: (v.t()[0] * 2).cumsum(0), (w,), (w,))[1],
    "vmap": lambda w, x: torch.vmap(lambda row: (row @ w).sum())(x),
    "gradients of each row": lambda w, x: torch.vmap(torch.func.grad(loss), (None, 0))(w, x),
}


@pytest.mark.parametrize("name", TRANSFORMS)
def test_transforms(name):
    w, x = torch.randn(3, 2), torch.randn(4, 3)
    near = 16 * NEAR if "hessian" in name else NEAR  # a derivative of a rounded derivative: 4.2 in 25 draws
    assert apart(TRANSFORMS[name](encrypted(w), encrypted(x)), TRANSFORMS[name](w, x)) < near


def test_functional_call():
    model, x = net(), torch.randn(4, 3)
    secret = sy.encrypt(model, parties())
    parameters = {name: p.detach() * 2 for name, p in secret.named_parameters()}
    expected = torch.func.functional_call(model, {name: p * 2 for name, p in model.named_parameters()}, (x,))
    assert apart(torch.func.functional_call(secret, parameters, (encrypted(x),)), expected) < NEAR


# --- checkpoints of activations -------------------------------------------------------

CHECKPOINTS = {
    "no reentry": lambda model, x: checkpoint(model, x, use_reentrant=False),
    "reentrant": lambda model, x: checkpoint(model, x, use_reentrant=True),
    "in parts": lambda model, x: checkpoint_sequential(model, 2, x, use_reentrant=False),
}


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_checkpoints(name):
    model, x = net(), torch.randn(4, 3)
    secret = sy.encrypt(model, parties())
    CHECKPOINTS[name](secret, encrypted(x).requires_grad_()).square().sum().backward()
    model(x).square().sum().backward()
    for mine, theirs in zip(secret.parameters(), model.parameters(), strict=True):
        assert apart(mine.grad, theirs.grad) < NEAR


# --- parametrizations -----------------------------------------------------------------


class Symmetric(nn.Module):
    def forward(self, weight):
        return weight.triu() + weight.triu(1).mT


def symmetric():
    layer = nn.Linear(3, 3)
    parametrize.register_parametrization(layer, "weight", Symmetric())
    return layer


PARAMETRIZED = {
    "weight norm": lambda: parametrizations.weight_norm(nn.Linear(3, 3)),
    "weight norm of columns": lambda: parametrizations.weight_norm(nn.Linear(3, 3), dim=1),
    "weight norm of all": lambda: parametrizations.weight_norm(nn.Linear(3, 3), dim=None),
    "spectral norm": lambda: parametrizations.spectral_norm(nn.Linear(3, 3)),
    "spectral norm, older": lambda: nn.utils.spectral_norm(nn.Linear(3, 3)),
    "reflections": lambda: parametrizations.orthogonal(nn.Linear(3, 3), orthogonal_map="householder"),
    "exponentials": lambda: parametrizations.orthogonal(nn.Linear(3, 3), orthogonal_map="matrix_exp"),
    "Cayley": lambda: parametrizations.orthogonal(nn.Linear(3, 3), orthogonal_map="cayley"),
    "one's own": symmetric,
}


@pytest.mark.parametrize("name", PARAMETRIZED)
def test_training(name):
    model, x, y = PARAMETRIZED[name](), torch.randn(4, 3), torch.randn(4, 3)
    secret = sy.encrypt(copy.deepcopy(model), parties())
    for each, data, target in ((secret, encrypted(x), encrypted(y)), (model, x, y)):
        optimizer = torch.optim.SGD(each.parameters(), lr=0.1)
        for _ in range(2):
            optimizer.zero_grad()
            ((each(data) - target) ** 2).mean().backward()
            optimizer.step()
    for mine, theirs in zip(secret.parameters(), model.parameters(), strict=True):
        assert apart(mine, theirs) < NEAR


@pytest.mark.parametrize("norm", [parametrizations.weight_norm, nn.utils.weight_norm])
def test_weight_norm_of_an_encrypted_layer(norm):
    layer, x = nn.Linear(3, 2), torch.randn(4, 3)
    secret = norm(sy.encrypt(layer, parties()))
    layer = norm(layer)
    secret(encrypted(x)).square().sum().backward()
    layer(x).square().sum().backward()
    for mine, theirs in zip(secret.parameters(), layer.parameters(), strict=True):
        assert apart(mine.grad, theirs.grad) < NEAR


@pytest.mark.parametrize("name", ["spectral_norm", "orthogonal"])
def test_what_must_be_registered_before_a_layer_is_encrypted(name):
    secret = sy.encrypt(nn.Linear(3, 2), parties())
    with pytest.raises(NotImplementedError, match="aten"):
        getattr(parametrizations, name)(secret)


def test_products_of_reflections():
    a, tau = torch.randn(4, 3, dtype=torch.float64), torch.rand(3, dtype=torch.float64)
    found = torch.linalg.householder_product(encrypted(a), encrypted(tau))
    assert apart(found, torch.linalg.householder_product(a, tau)) < NEAR
    assert torch.equal(plain(torch.linalg.householder_product(encrypted(a), tau[:0])), torch.eye(4, 3).double())
