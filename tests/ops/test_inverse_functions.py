"""tan, the inverse functions of sines and their hyperbolic kin, against torch in float64: values, gradients, cost."""

import math
from dataclasses import dataclass

import pytest
import torch
from op_checks import DECIMAL3, SUITE_OPTIONS, cost_of, encrypted, parties, plain

import pysmpc as sy
from pysmpc.errors import EncodingError
from pysmpc.mpc.functions import piecewise_fits as fits
from pysmpc.mpc.functions.angle import angle_cost
from pysmpc.mpc.functions.piecewise_polynomials import again_cost, piecewise_cost
from pysmpc.ring.fixedpoint import Precision

STEP = 2.0**-16
FAR = 2.0**30 - 1


def around(*ends):
    return tuple(sign * end for end in ends for sign in (-1, 1))


ENDS_OF_GROWTH = (3.0, 16.0, 128.0, 1024.0, *(8192.0 * 8**k for k in range(6)))
NEAR_ONE = tuple(1 - 2.0**-k for k in (2, 5, 8, 11, 14))


@dataclass(frozen=True)
class Function:
    """fn, what it is in float64 (of x and the step of its encoding), and the steps of 2^-16 that it may be off.

    edges: arguments near which all are tried.  spread: arguments are uniform between; far: and of every magnitude.
    to_one: and nearer and nearer to 1 and -1.  slopes: arguments where gradients are checked, and rounds of these.
    """

    fn: object
    oracle: object
    table: object
    steps: float
    edges: tuple
    spread: tuple
    far: float = 0.0
    to_one: bool = False
    slopes: tuple = (-3.0, 3.0)
    slope_rounds: int = 3
    by_pieces: bool = False  # whether the derivative is


FUNCTIONS = {
    "atan": Function(
        torch.atan, lambda x, step: x.atan(), fits.ATAN, 1.5,
        (0.0, *around(3.0, 24.0, 192.0, 1536.0, 12288.0, 2.0**18)), (-8, 8), FAR, slopes=(-(2.0**20), 2.0**20),
        by_pieces=True,
    ),
    "asinh": Function(
        torch.asinh, lambda x, step: x.asinh(), fits.ASINH, 1.4, (0.0, *around(*ENDS_OF_GROWTH)), (-8, 8), FAR,
        slopes=(-(2.0**20), 2.0**20), by_pieces=True,
    ),
    "acosh": Function(
        torch.acosh, lambda x, step: x.clamp(min=1).acosh(), fits.ACOSH, 1.4,
        (1.0, *(1 + 2.0**-k for k in (2, 5, 8, 11, 14)), *ENDS_OF_GROWTH), (0, 8), FAR, slopes=(1.001, 2.0**20),
        slope_rounds=12,
    ),
    "asin": Function(
        torch.asin, lambda x, step: x.clamp(-1, 1).asin(), fits.ASIN, 1.5, (0.0, *around(1.0, *NEAR_ONE)), (-1.1, 1.1),
        FAR, True, slopes=(-0.999, 0.999), slope_rounds=11,
    ),
    "acos": Function(
        torch.acos, lambda x, step: x.clamp(-1, 1).acos(), fits.ASIN, 2.0, (0.0, *around(1.0, *NEAR_ONE)), (-1.1, 1.1),
        FAR, True, slopes=(-0.999, 0.999), slope_rounds=11,
    ),
    "atanh": Function(
        torch.atanh, lambda x, step: x.clamp(step - 1, 1 - step).atanh(), fits.ATANH, 1.4,
        (0.0, *around(1.0, *NEAR_ONE)), (-1.1, 1.1), FAR, True, slopes=(-0.999, 0.999), slope_rounds=12,
    ),
}  # fmt: skip


def points(function, n, near):
    lo, hi = function.spread
    spread = lo + (hi - lo) * torch.rand(n // 2, dtype=torch.float64)
    sizes = 2.0 ** (-16 + (math.log2(function.far) + 16) * torch.rand(n // 2, dtype=torch.float64))
    sizes[:2] = function.far
    signs = 1 - 2.0 * torch.randint(0, 2, sizes.shape)
    close = [end + STEP * torch.randint(-(near // 8), near // 8 + 1, (near,)).double() for end in function.edges]
    beside = [(1 - 2.0 ** (-16 * torch.rand(n // 2, dtype=torch.float64))) * signs] if function.to_one else []
    return torch.cat([spread, sizes * signs, *close, *beside, torch.tensor(function.edges, dtype=torch.float64)])


def check(function, x, step=STEP, more=0.0):
    """Within the bound at the decoded arguments; a coarser encoding sees its own step."""
    values, out = plain(x), function.fn(x)
    expected = function.oracle(values, step)
    assert isinstance(out, sy.SecretTensor)
    assert (out.shape, out.dtype) == (expected.shape, x.dtype)
    error = (plain(out) - expected).abs().view(-1)
    allowed = max(step, STEP) + (function.steps - 1) * STEP + more * step
    at = error.argmax()
    assert error[at] <= allowed, f"{values.view(-1)[at]}: off by {error[at] / step:.2f} steps"


@pytest.mark.parametrize("n", [2, 3])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_values(name, n):
    check(FUNCTIONS[name], encrypted(points(FUNCTIONS[name], 10_000, 300), n))


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("n", [2, 3])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_values_of_a_million(name, n):
    """And 10^5 around each end."""
    for _ in range(10):
        check(FUNCTIONS[name], encrypted(points(FUNCTIONS[name], 100_000, 10_000), n))


@pytest.mark.parametrize("suite", SUITE_OPTIONS)
@pytest.mark.parametrize("name", ["atan", "acosh", "atanh"])
def test_under_every_suite(name, suite):
    values = points(FUNCTIONS[name], 300, 20)
    values = values[torch.randperm(len(values))[: 60 if suite in ("mac", "snn") else 400]]
    check(FUNCTIONS[name], sy.encrypt(values, sy.virtual("alice", "bob"), **SUITE_OPTIONS[suite]))


@pytest.mark.parametrize("precision", [DECIMAL3, Precision(2, 8), Precision(2, 20), Precision(2, 24)], ids=str)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_other_encodings(name, precision):
    """Errors of the functions themselves are those of 16 fractional bits; finer arguments have more pieces."""
    largest, step = (2.0**46 - 1) / precision.scale, 1 / precision.scale
    values = points(FUNCTIONS[name], 2000, 100).clamp(-largest, largest)
    fine = 1 - step * torch.arange(0, 200)
    check(FUNCTIONS[name], encrypted(torch.cat([values, fine, -fine, 2 - fine]), 2, precision), step, 0.6)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_of_a_product_whose_scale_was_left(name):
    """It is rounded first: what a step of the argument does near a singular end is there as well."""
    a = encrypted(torch.rand(500, dtype=torch.float64) * 0.8 + (1 if name == "acosh" else 0))
    x = a * encrypted(torch.ones(1, dtype=torch.float64))
    out = FUNCTIONS[name].fn(x)
    assert x.cell.scale == 1 << 16
    assert float((plain(out) - FUNCTIONS[name].oracle(plain(x), STEP)).abs().max()) < 2 * STEP


@pytest.mark.parametrize("n", [2, 3])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_gradients(name, n):
    """Of large arguments as well, whose squares no encoding holds."""
    function = FUNCTIONS[name]
    lo, hi = function.slopes
    near = [max(lo, -4), min(hi, 4)]
    values = torch.cat([lo + (hi - lo) * torch.rand(200), near[0] + (near[1] - near[0]) * torch.rand(200)]).double()
    x = encrypted(values, n).requires_grad_()
    twin = plain(x.detach()).requires_grad_()
    out = function.fn(x)
    before = x.session.stats.copy()
    out.sum().backward()
    assert (x.session.stats - before).rounds <= function.slope_rounds
    function.oracle(twin, STEP).sum().backward()
    error = (plain(x.grad) - twin.grad).abs()
    assert bool((error <= 3 * STEP + 2.0**-13 * twin.grad.abs()).all()), float(error.max() / STEP)


def test_gradients_of_a_clone_and_of_a_view():
    """What is known of an opening is of its own elements."""
    x = encrypted(torch.randn(6, 4)).requires_grad_()
    twin = plain(x.detach()).requires_grad_()
    for fn in (torch.atan, torch.asinh):
        for each in (x, twin):
            each.grad = None
            (fn(each.t()[1:]).sum() + fn(each * 2).sum() + (each * each + 1).reciprocal().sum()).backward()
        assert torch.allclose(plain(x.grad), twin.grad, atol=30 * STEP, rtol=0)


@pytest.mark.parametrize("n", [2, 3])
@pytest.mark.parametrize("size", [1, 64, 1000])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_rounds_and_bytes_are_the_declared_ones(name, size, n):
    function = FUNCTIONS[name]
    cost, _ = cost_of(function.fn, encrypted(torch.rand(size) * 3, n))
    assert cost == piecewise_cost(n, size, function.table)
    assert cost.rounds == 6


def test_the_derivative_of_atan_is_of_the_same_opening():
    x = encrypted(torch.randn(100)).requires_grad_()
    out = torch.atan(x)
    with sy.ledger() as kept:
        cost, _ = cost_of(lambda x: out.sum().backward(), x)
    assert "function" not in kept.causes
    assert "compare" not in kept.causes
    again = again_cost(2, 100, fits.ATAN_DERIVATIVE)
    assert cost.rounds == again.rounds + 1  # torch squares x on the way
    assert cost.sent == again.sent + 800


def test_an_inverse_of_one_and_a_square_is_a_quotient_where_no_atan_was_taken():
    def cost(number):
        x = encrypted(torch.randn(100))
        torch.asinh(x)  # of which the square is noted as well
        return cost_of(lambda x: torch.ones(100) / (x * x + number), x)[0]

    assert cost(1) == cost(2)


def test_costs_depend_on_no_value():
    for function in FUNCTIONS.values():
        costs = [cost_of(function.fn, encrypted(torch.full((20,), v).double()))[0] for v in (0.0, FAR, -FAR, STEP, 1.0)]
        assert all(cost == costs[0] for cost in costs)


SHAPES = {
    "empty": lambda x: x[:0],
    "one element": lambda x: x[2, 3],
    "every other": lambda x: x[::2, 1::2],
    "transposed": lambda x: x.t(),
    "expanded": lambda x: x[:, :1].expand(6, 4),
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", ["atan", "asin", "tan"])
def test_windows(name, shape):
    fn = getattr(torch, name)
    window = SHAPES[shape](encrypted(torch.rand(6, 5)))
    out, expected = fn(window), fn(plain(window))
    assert out.shape == expected.shape
    assert torch.allclose(plain(out), expected, atol=3 * STEP, rtol=2.0**-12)


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.bool])
def test_integers_become_real(dtype):
    values = torch.tensor([0, 1, 1, 0]) if dtype == torch.bool else torch.tensor([0, -3, 1 << 20, 5])
    values = values.to(dtype)
    for fn in (torch.atan, torch.asinh):
        out = fn(sy.encrypt(values, parties()))
        assert out.dtype == torch.float32
        assert torch.allclose(plain(out), fn(values.double()), atol=2 * STEP, rtol=0)


def test_an_encoding_that_is_too_fine_is_refused():
    x = encrypted(torch.rand(3), 2, Precision(2, 28))
    for fn in (torch.asin, torch.acos, torch.acosh, torch.atanh, torch.tan):
        with pytest.raises(EncodingError, match="fewer fractional bits"):
            fn(x)
    assert torch.allclose(plain(torch.atan(x)), plain(x).atan(), atol=STEP, rtol=0)


# --- tan -------------------------------------------------------------------------------


def tan_error(x):
    values = plain(x)
    out, expected = plain(torch.tan(x)), values.tan()
    allowed = (
        2.5 * STEP
        + STEP * expected.abs()
        + 2.0**-23 * expected.square()
        + 2.0**-45 * values.abs() * (1 + expected.square())
    )
    beyond = expected.abs() > 2.0**12
    return (((out - expected).abs() - allowed) * ~beyond).max()


@pytest.mark.parametrize("n", [2, 3])
def test_tan(n):
    turns = math.pi / 2 * torch.randint(-40, 40, (2000,)) + STEP * torch.randint(-200, 200, (2000,))
    x = torch.cat([20 * torch.randn(8000, dtype=torch.float64), turns.double(), 2.0**12 * torch.randn(2000).double()])
    assert tan_error(encrypted(x, n)) <= 0


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_tan_of_a_million():
    for _ in range(10):
        assert tan_error(encrypted(20 * torch.randn(100_000, dtype=torch.float64))) <= 0


def test_gradients_and_rounds_of_tan():
    x = encrypted(torch.linspace(-1.4, 1.4, 300)).requires_grad_()
    twin = plain(x.detach()).requires_grad_()
    cost, out = cost_of(torch.tan, x)
    assert cost.rounds == 10
    out.sum().backward()
    twin.tan().sum().backward()
    assert torch.allclose(plain(x.grad), twin.grad, atol=8 * STEP, rtol=2.0**-13)


# --- atan2 -----------------------------------------------------------------------------


def pairs(n):
    sizes = 2.0 ** (-16 + 45 * torch.rand(2, n, dtype=torch.float64)) * (1 - 2.0 * torch.randint(0, 2, (2, n)))
    near = torch.randint(-3, 4, (2, n)).double() * STEP
    same = sizes[0] + near[1], sizes[0] * (1 - 2.0 * torch.randint(0, 2, (n,)))
    return [
        torch.cat(each) for each in zip(10 * torch.randn(2, n, dtype=torch.float64), sizes, near, same, strict=True)
    ]


def angle_error(y, x):
    found, expected = plain(torch.atan2(y, x)), torch.atan2(plain(y) + 0.0, plain(x) + 0.0)
    return float((found - expected).abs().max() / STEP)


@pytest.mark.parametrize("n", [2, 3])
def test_atan2(n):
    y, x = (encrypted(each, n) for each in pairs(2500))
    assert angle_error(y, x) <= 1.5
    cost, _ = cost_of(torch.atan2, y, x)
    assert cost == angle_cost(n, y.numel())
    assert cost.rounds == 15


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_atan2_of_a_million():
    for _ in range(10):
        assert angle_error(*(encrypted(each) for each in pairs(25_000))) <= 1.5


@pytest.mark.parametrize("suite", SUITE_OPTIONS)
def test_atan2_under_every_suite(suite):
    places = torch.randperm(400)[:100]
    holders = sy.virtual("alice", "bob")
    y, x = (sy.encrypt(each[places], holders, **SUITE_OPTIONS[suite]) for each in pairs(100))
    assert angle_error(y, x) <= 1.5


def test_atan2_of_public_operands_and_shapes():
    y, x = torch.randn(4, 1), torch.randn(3)
    for a, b in ((encrypted(y), x), (y, encrypted(x)), (encrypted(y), encrypted(x))):
        found = torch.atan2(a, b)
        assert torch.allclose(plain(found), torch.atan2(y, x).double(), atol=2.0**-12)
        assert found.dtype == torch.float32
    points = torch.tensor([[0.0, 0.0], [0.0, 1.0], [0.0, -1.0], [1.0, 0.0], [-1.0, 0.0], [1, -1], [-1, -1], [-1, 1]])
    found = plain(torch.atan2(encrypted(points[:, 0]), encrypted(points[:, 1])))
    assert torch.allclose(found, torch.atan2(points[:, 0], points[:, 1]).double(), atol=2 * STEP)


@pytest.mark.parametrize("size", [1.0, 30.0, 1000.0, 1e5])
def test_gradients_of_atan2(size):
    """1 / (x^2 + y^2) is less than a step where a coordinate is 256: no part of the derivative."""
    y, x = (encrypted(size * torch.randn(500)).requires_grad_() for _ in range(2))
    a, b = (plain(v.detach()).requires_grad_() for v in (y, x))
    weights = torch.rand(500, dtype=torch.float64)
    for fn in (torch.atan2, torch.arctan2, lambda y, x: y.atan2(x)):
        for v in (y, x, a, b):
            v.grad = None
        (fn(y, x) * weights).sum().backward()
        (fn(a, b) * weights).sum().backward()
        radius = torch.hypot(a, b).detach()
        for found, expected in ((y, a), (x, b)):
            off = (plain(found.grad) - expected.grad).abs()  # a step of the radius, and one of its reciprocal
            assert bool((off <= (8 + 4 / radius**2 + 4 / radius) * STEP).all())
