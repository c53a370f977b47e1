"""Smooth functions of secrets against torch in float64: values, gradients, rounds and bytes."""

import gc
import math
import weakref
from dataclasses import dataclass, replace

import pytest
import torch
from op_checks import DECIMAL3, SUITE_OPTIONS, cost_of, encrypted, parties, plain
from torch import nn
from torch.nn import functional as F
from twins import double_twin

import pysmpc as sy
from pysmpc.errors import EncodingError
from pysmpc.mpc.functions import fits
from pysmpc.mpc.functions.characters import Fit
from pysmpc.mpc.functions.smooth import derivative_cost, function_cost
from pysmpc.ring.fixedpoint import BINARY16

STEP = 2.0**-16


@dataclass(frozen=True)
class Function:
    """fn, and its fit; the errors of values and gradients that are allowed, in steps of 2^-16.

    stretch: the factor of the argument.  edges: where its intervals end, if not where the fit does.
    far: the largest argument.
    """

    fn: object
    fit: Fit | None
    steps: float
    grad_steps: float
    stretch: float = 1.0
    edges: tuple = ()
    far: float = 2.0**30 - 1

    @property
    def ends(self):
        return self.edges or (self.fit.lo / self.stretch, self.fit.hi / self.stretch)


FUNCTIONS = {
    "sigmoid": Function(torch.sigmoid, fits.SIGMOID, 1.3, 1.7),
    "logsigmoid": Function(F.logsigmoid, fits.SOFTPLUS, 1.3, 1.4),
    "tanh": Function(torch.tanh, fits.TANH_PLUS_ONE, 1.5, 3.5),
    "erf": Function(torch.erf, fits.ERF_PLUS_ONE, 1.2, 1.3),
    "erfc": Function(torch.erfc, fits.ERF_PLUS_ONE, 1.2, 1.3),
    "silu": Function(F.silu, fits.SILU, 1.8, 3.8),
    "mish": Function(F.mish, fits.MISH, 2.1, 6.3),
    "gelu": Function(F.gelu, fits.GELU, 1.2, 1.8),
    "gelu by tanh": Function(lambda x: F.gelu(x, approximate="tanh"), fits.GELU_TANH, 1.2, 1.8),
    "softplus": Function(F.softplus, fits.SOFTPLUS, 1.3, 1.3),
    "softplus, beta 3": Function(lambda x: F.softplus(x, 3, 30), fits.SOFTPLUS, 1.2, 1.3, 3),
    "softplus, beta 0.3": Function(lambda x: F.softplus(x, 0.3), fits.SOFTPLUS, 1.9, 1.3, 0.3),
    "softplus, an early threshold": Function(
        lambda x: F.softplus(x, 2, 5), fits.SOFTPLUS, 1.2, 1.3, 2, edges=(-6.25, 2.5)
    ),
    "sin": Function(torch.sin, None, 1.1, 1.1, edges=(0.0, math.pi), far=2.0**14),
    "cos": Function(torch.cos, None, 1.1, 1.1, edges=(0.0, math.pi), far=2.0**14),
}


def points(function, n, near):
    """Arguments over the interval and somewhat beyond, of every magnitude, and near each end and zero."""
    lo, hi = function.ends
    reach = 1.5 * max(abs(lo), abs(hi))
    spread = reach * (2 * torch.rand(n // 2, dtype=torch.float64) - 1)
    most = math.log2(function.far)
    sizes = 2.0 ** (-16 + (most + 16) * torch.rand(n - n // 2, dtype=torch.float64))
    sizes[:2] = function.far
    signs = 1 - 2.0 * torch.randint(0, 2, sizes.shape)
    signs[:2] = torch.tensor([-1.0, 1.0])
    close = [end + STEP * torch.randint(-(near // 8), near // 8 + 1, (near,)).double() for end in (lo, hi, 0.0)]
    return torch.cat([spread, sizes * signs, *close])


def errors(function, x):
    """(the largest error of values, of gradients) in float64 at the decoded arguments; x is a secret."""
    twin = plain(x).detach().requires_grad_(True)
    x = x.detach().requires_grad_(True)
    out, expected = function.fn(x), function.fn(twin)
    assert isinstance(out, sy.SecretTensor)
    assert out.shape == expected.shape
    assert out.dtype == x.dtype
    assert out.cell.scale == x.unit.scale
    out.sum().backward()
    expected.sum().backward()
    return (
        float((plain(out) - expected.detach()).abs().max()),
        float((plain(x.grad) - twin.grad).abs().max()),
    )


def check(function, x, step=STEP, more=0.0):
    """Within the bound, of which a coarser encoding sees its own step and the error of the fit."""
    found = errors(function, x)
    for error, steps in zip(found, (function.steps, function.grad_steps), strict=True):
        allowed = max(step, STEP) + (steps - 1) * STEP + more * step
        assert error <= allowed, f"{error / step:.2f} steps, {error / STEP:.2f} of 2^-16"


@pytest.mark.parametrize("n", [2, 3])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_values_and_gradients(name, n):
    function = FUNCTIONS[name]
    check(function, encrypted(points(function, 10_000, 1000), n))


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("n", [2, 3])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_values_and_gradients_of_a_million(name, n):
    function = FUNCTIONS[name]
    for _ in range(10):
        check(function, encrypted(points(function, 100_000, 10_000), n))


OF_ALL_KINDS = ["sigmoid", "logsigmoid", "silu", "softplus, beta 3", "sin"]


@pytest.mark.parametrize("suite", SUITE_OPTIONS)
@pytest.mark.parametrize("name", OF_ALL_KINDS)
def test_under_every_suite(name, suite):
    function, size = FUNCTIONS[name], 500 if suite == "mac" else 3000
    x = sy.encrypt(points(function, size, size // 10), sy.virtual("alice", "bob"), **SUITE_OPTIONS[suite])
    # nearest: half a step for the chosen sum, in place of one
    check(replace(function, steps=function.steps - 0.4) if suite == "nearest" else function, x)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_decimal(name):
    function = replace(FUNCTIONS[name], far=2.0**30)
    if name in ("sin", "cos"):
        function = replace(function, far=2.0**14)
    more = 0.2 if name in ("erf", "erfc") else 0.05  # the factor 2 / sqrt(pi), of a rounded derivative
    check(function, encrypted(points(function, 3000, 300), 2, DECIMAL3), 1e-3, more)


@pytest.mark.parametrize("precision", [None, DECIMAL3], ids=["binary", "decimal"])
@pytest.mark.parametrize("name", [name for name in FUNCTIONS if name not in ("sin", "cos")])
def test_of_a_product_whose_scale_was_left(name, precision):
    """Nothing is truncated before the opening; what grows like x is truncated at the end."""
    function = FUNCTIONS[name]
    values = points(replace(function, far=2.0**14), 2000, 300)
    precision = precision or BINARY16
    x = encrypted(values, 2, precision) * encrypted(torch.ones(1), 2, precision)
    scale = x.cell.scale
    assert scale == x.unit.scale**2
    check(function, x, 1 / x.unit.scale, 1.0)
    if name not in ("softplus, beta 0.3", "erf", "erfc"):  # whose slopes would have too few bits, or are of a square
        assert x.cell.scale == scale


@pytest.mark.parametrize("n", [2, 3])
@pytest.mark.parametrize("size", [1, 64, 1000])
@pytest.mark.parametrize("name", [name for name, function in FUNCTIONS.items() if function.fit])
def test_rounds_and_bytes_are_the_declared_ones(name, size, n):
    function = FUNCTIONS[name]
    x = encrypted(torch.randn(size), n).requires_grad_(True)
    cost, out = cost_of(function.fn, x)
    assert cost == function_cost(n, size, function.fit)
    assert cost.rounds == 5
    back, _ = cost_of(lambda x: out.sum().backward(), x)
    if name not in ("erf", "erfc"):  # torch squares x on the way
        assert back == derivative_cost(n, size)
        assert back.rounds == 1


def test_rounds_and_bytes_of_sin_and_cos():
    x = encrypted(torch.randn(1000)).requires_grad_(True)
    cost, out = cost_of(torch.sin, x)
    assert (cost.rounds, cost.sent, cost.dealt) == (2, 16_000, 29_000)
    back, _ = cost_of(lambda x: out.sum().backward(), x)
    assert (back.rounds, back.sent, back.dealt) == (1, 8000, 13_000)


@pytest.mark.parametrize("first", ["sigmoid", "silu", "softplus", "gelu"])
def test_one_opening_serves_all_functions_of_a_value(first):
    """In whatever shape the value is read."""
    x = encrypted(torch.randn(6, 5))
    FUNCTIONS[first].fn(x)
    with sy.ledger() as kept:
        outs = [f.fn(x.t()) for f in FUNCTIONS.values() if f.fit] + [torch.sigmoid(x.reshape(2, 15))]
    assert "function" not in kept.causes
    for f, out in zip([f for f in FUNCTIONS.values() if f.fit], outs, strict=False):
        assert torch.allclose(plain(out), f.fn(plain(x).t()), atol=3 * STEP, rtol=0)


SHAPES = {
    "empty": lambda x: x[:0],
    "one element": lambda x: x[2, 3],
    "a column": lambda x: x[:, 1],
    "every other": lambda x: x[::2, 1::2],
    "transposed": lambda x: x.t(),
    "permuted": lambda x: x.reshape(2, 3, 5).permute(2, 0, 1),
    "expanded": lambda x: x[:, :1].expand(6, 4),
    "expanded in front": lambda x: x[1].expand(3, 5),
}


@pytest.mark.parametrize("name", ["sigmoid", "silu", "tanh", "logsigmoid", "cos"])
@pytest.mark.parametrize("shape", SHAPES)
def test_windows(name, shape):
    fn, x = FUNCTIONS[name].fn, encrypted(3 * torch.randn(6, 5)).requires_grad_(True)
    twin = plain(x).detach().requires_grad_(True)
    out, expected = fn(SHAPES[shape](x)), fn(SHAPES[shape](twin))
    assert out.shape == expected.shape
    assert torch.allclose(plain(out), expected.detach(), atol=2 * STEP, rtol=0)
    weights = torch.randint(-3, 4, out.shape).double()
    (out * weights).sum().backward()
    (expected * weights).sum().backward()
    assert torch.allclose(plain(x.grad), twin.grad, atol=50 * STEP, rtol=0)


def test_repeated_elements_are_computed_once():
    x = encrypted(torch.randn(10, 1))
    cost, out = cost_of(torch.sigmoid, x.expand(10, 500))
    assert out.shape == (10, 500)
    assert cost == function_cost(2, 10, fits.SIGMOID)


def test_a_slice_of_something_large_costs_what_the_slice_does():
    cost, _ = cost_of(torch.sigmoid, encrypted(torch.randn(100, 100))[:, 3])
    assert cost == function_cost(2, 100, fits.SIGMOID)


def test_derivatives_after_the_argument_was_truncated():
    """A product, truncated by what else reads it between the passes, is not opened again."""
    v = encrypted(torch.randn(40)).requires_grad_(True)
    x = v * v
    out = F.silu(x)
    x.detach().cell.settle()
    with sy.ledger() as kept:
        out.sum().backward()
    assert "function" not in kept.causes
    twin = plain(v.detach()).requires_grad_(True)
    F.silu(twin * twin).sum().backward()
    assert torch.allclose(plain(v.grad), twin.grad, atol=30 * STEP, rtol=0)


@pytest.mark.parametrize("fn", [torch.sigmoid, torch.tanh])
def test_what_was_written_to_a_result_is_what_counts(fn):
    """A derivative is taken where the result is, not where it was."""
    backward = torch.ops.aten.sigmoid_backward if fn is torch.sigmoid else torch.ops.aten.tanh_backward

    def check(out, found):
        value = plain(out)
        slope = value * (1 - value) if fn is torch.sigmoid else 1 - value * value
        # three steps of the derivative, and twice what the function, of which it is not made, is off
        assert torch.allclose(plain(found), slope, atol=5.5 * STEP, rtol=0)

    out, grad = fn(encrypted(torch.randn(5, 5))), encrypted(torch.ones(5, 5))
    check(out, backward(grad, out))
    check(out.t(), backward(grad, out.t()))
    check(out[2:], backward(grad[2:], out[2:]))
    check(out * 0.5, backward(grad, out * 0.5))
    out.mul_(0.5)
    check(out, backward(grad, out))


def test_in_place():
    x = encrypted(torch.randn(20))
    wanted = torch.sigmoid(plain(x))
    assert x.sigmoid_() is x
    assert torch.allclose(plain(x), wanted, atol=2 * STEP, rtol=0)
    once = plain(x)
    assert torch.allclose(plain(torch.tanh(x)), torch.tanh(once), atol=2 * STEP, rtol=0)


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.bool])
def test_integers_become_real(dtype):
    values = torch.tensor([0, 1, 1, 0]) if dtype == torch.bool else torch.tensor([0, -3, 1 << 30, 5])
    values = values.to(dtype)
    x = sy.encrypt(values, parties())
    for fn in (torch.sigmoid, torch.tanh, torch.erf, torch.erfc):
        out = fn(x)
        assert out.dtype == fn(values).dtype == torch.float32
        assert out.unit.scale == 1 << 16
        assert torch.allclose(plain(out), fn(values.double()), atol=2 * STEP, rtol=0)
    for fn in (F.silu, F.gelu, F.mish, F.softplus, F.logsigmoid):
        with pytest.raises(NotImplementedError, match="real numbers"):
            fn(x)


def test_what_softplus_and_gelu_refuse():
    x = encrypted(torch.randn(3))
    with pytest.raises(EncodingError, match="beta=0"):
        F.softplus(x, 0)
    with pytest.raises(EncodingError, match=r"too small|no room"):
        F.softplus(x, 1e-12)
    with pytest.raises(RuntimeError, match="none or tanh"):
        torch.ops.aten.gelu(x, approximate="cubic")
    with pytest.raises(EncodingError):
        F.softplus(x, float("nan"))


def test_a_negative_beta():
    x = encrypted(12 * torch.randn(500)).requires_grad_(True)
    twin = plain(x.detach()).requires_grad_(True)
    for beta, threshold in ((-1, 20), (-2, 5)):
        out, expected = F.softplus(x, beta, threshold), F.softplus(twin, beta, threshold)
        assert torch.allclose(plain(out), expected.detach(), atol=2 * STEP, rtol=0)
        assert torch.allclose(
            plain(torch.autograd.grad(out.sum(), x)[0]), torch.autograd.grad(expected.sum(), twin)[0],
            atol=2 * STEP, rtol=0,
        )  # fmt: skip


def test_two_functions_that_grow_like_x():
    """Their ends differ, so that neither may use what was dealt for the other's product with x."""
    x = encrypted(torch.cat([torch.linspace(-40, 40, 999), torch.tensor([2.0**29, -(2.0**29)])]))
    found = plain(F.silu(x) + F.gelu(x) + F.mish(x))
    v = plain(x)
    assert torch.allclose(found, F.silu(v) + F.gelu(v) + F.mish(v), atol=6 * STEP, rtol=0)


LAYERS = {
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
    "gelu": nn.GELU,
    "gelu by tanh": lambda: nn.GELU("tanh"),
    "silu": nn.SiLU,
    "mish": nn.Mish,
    "softplus": nn.Softplus,
    "logsigmoid": nn.LogSigmoid,
}


@pytest.mark.parametrize("name", LAYERS)
def test_an_mlp_trains_as_in_plain_torch(name):
    model = nn.Sequential(nn.Linear(6, 8), LAYERS[name](), nn.Linear(8, 8), LAYERS[name](), nn.Linear(8, 2))
    x, y = torch.randn(16, 6), torch.randn(16, 2)
    secret, twin = sy.encrypt(model, parties()), double_twin(model)
    a, b = encrypted(x), encrypted(y)
    u, v = plain(a), plain(b)
    optimizers = [torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9) for net in (secret, twin)]
    for _ in range(10):
        losses = []
        for net, optimizer, given, wanted in zip((secret, twin), optimizers, (a, u), (b, v), strict=True):
            optimizer.zero_grad()
            loss = F.mse_loss(net(given), wanted)
            loss.backward()
            optimizer.step()
            losses.append(loss.detach())
        assert abs(float(plain(losses[0])) - float(losses[1])) < 2.0**-9
    for mine, theirs in zip(secret.parameters(), twin.parameters(), strict=True):
        assert float((plain(mine) - theirs.detach()).abs().max()) < 2.0**-7


FUNCTIONS_OF_ONE_OPENING = [torch.sigmoid, torch.tanh, F.silu, torch.sin, torch.exp, lambda x: torch.sigmoid(x.t())]


@pytest.mark.parametrize("fn", FUNCTIONS_OF_ONE_OPENING)
def test_what_was_opened_goes_with_the_value(fn):
    """No body refers to itself: its memory does not wait for the garbage collector."""
    p = parties(2)
    x = sy.encrypt(torch.randn(3, 4), p)
    fn(x)
    body = weakref.ref(x.cell.body)
    gc.disable()
    try:
        assert body() is not None
        del x
        assert body() is None
    finally:
        gc.enable()
