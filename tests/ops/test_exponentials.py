"""Powers, logarithms, roots and reciprocals of secrets against torch in float64: values, gradients, rounds, bytes."""

import math
from dataclasses import dataclass, replace

import pytest
import torch
from op_checks import DECIMAL3, SUITE_OPTIONS, cost_of, encrypted, parties, plain
from torch.utils._python_dispatch import TorchDispatchMode

import pysmpc as sy
from pysmpc.errors import EncodingError
from pysmpc.mpc.additive.truncation import truncate_cost
from pysmpc.mpc.functions import fits
from pysmpc.mpc.functions.characters import BITS
from pysmpc.mpc.functions.exponent import power_cost
from pysmpc.mpc.functions.normaliser import logarithm_cost, reciprocal_fast_cost, root_cost
from pysmpc.ops.functions import exponentials
from pysmpc.ring.fixedpoint import Precision

STEP = 2.0**-16
FAR = 2.0**30 - 1


def highest(stretch=1.0):
    """The oracle of what is e^18 from there on."""
    return lambda x: torch.exp((x * stretch).clamp(max=18))


def at_least_a_step(fn):
    """The oracle of what takes less than one step as one step."""
    return lambda x, step: fn(x.clamp(min=step))


@dataclass(frozen=True)
class Function:
    """fn, what it is in float64 (of x, or of x and the step of its encoding), and the error that is allowed.

    steps: of 2^-16; rtol: beside them, of the result.  ends: arguments near which all are tried.
    spread: arguments are uniform up to there; of every magnitude up to `far`, positive only if so said.
    grads: arguments where gradients are checked, of which grad_rtol is the error beside a step.
    """

    fn: object
    oracle: object
    steps: float
    rtol: float
    ends: tuple = ()
    spread: tuple = (0.0, 0.0)
    far: float = FAR
    positive: bool = False
    grads: tuple = (0.25, 4.0)

    def expected(self, x, step):
        return self.oracle(x, step) if self.oracle.__code__.co_argcount == 2 else self.oracle(x)


def powers(fn, log_base):
    ends = tuple(sorted((-12 / log_base, 18 / log_base)))
    reach = (1.25 * ends[0], 1.25 * ends[1])
    return Function(fn, highest(log_base), 1.7, 2.0**-16, (*ends, 0.0), reach, grads=(-2 / log_base, 2 / log_base))


FOURS = tuple(4.0**k for k in range(-8, 15))
POSITIVE = {"ends": (*FOURS, 0.0), "spread": (0.0, 8.0)}


def to_the(p, far=2.0**8, low=2.0**-8):
    """Of arguments between which results have room."""
    ends, spread = tuple(v for v in FOURS if low < v < far), (low, 8.0)
    return Function(lambda x: x**p, lambda x: x**p, 1.7, (1 + abs(p)) * STEP, ends, spread, far, positive=True)


FUNCTIONS = {
    "exp": powers(torch.exp, 1.0),
    "exp2": powers(torch.exp2, math.log(2)),
    "expm1": replace(powers(torch.expm1, 1.0), oracle=lambda x: torch.expm1(x.clamp(max=18)), steps=1.8),
    "10 ** x": powers(lambda x: 10**x, math.log(10)),
    "0.3 ** x": powers(lambda x: 0.3**x, math.log(0.3)),
    "1.001 ** x": powers(lambda x: 1.001**x, math.log(1.001)),
    "log": Function(torch.log, at_least_a_step(torch.log), 1.1, 0.0, **POSITIVE),
    "log2": Function(torch.log2, at_least_a_step(torch.log2), 1.1, 0.0, **POSITIVE),
    "log10": Function(torch.log10, at_least_a_step(torch.log10), 1.1, 0.0, **POSITIVE),
    "log1p": Function(
        torch.log1p,
        lambda x, step: torch.log((1 + x).clamp(min=step)),
        1.1,
        0.0,
        (-1.0, 0.0, *FOURS),
        (-1.5, 8.0),
        grads=(-0.5, 4.0),
    ),
    "sqrt": Function(torch.sqrt, lambda x: x.clamp(min=0).sqrt(), 1.1, 2.0**-21, **POSITIVE),
    "rsqrt": Function(torch.rsqrt, at_least_a_step(torch.rsqrt), 1.1, 2.0**-21, **POSITIVE),
    "reciprocal": Function(
        torch.reciprocal,
        lambda x: torch.where(x == 0, 0, 1 / x),
        1.1,
        2.0**-19,
        (*FOURS, *(-v for v in FOURS), 0.0),
        (-8.0, 8.0),
    ),
    "x ** 0.3": to_the(0.3, 2.0**30 - 1, STEP),
    "x ** 1.5": to_the(1.5),
    "x ** -1.7": to_the(-1.7),
    "x ** -0.5": replace(to_the(-0.5, 2.0**30 - 1, STEP), steps=1.1, rtol=2.0**-21),
}


def points(function, n, near):
    """Arguments over the interval, of every magnitude, and around each end."""
    lo, hi = function.spread
    spread = lo + (hi - lo) * torch.rand(n // 2, dtype=torch.float64)
    most = math.log2(function.far)
    least = math.log2(lo) if function.positive and lo else -16
    sizes = 2.0 ** (least + (most - least) * torch.rand(n - n // 2, dtype=torch.float64))
    sizes[:1] = function.far
    signs = torch.ones(()) if function.positive else 1 - 2.0 * torch.randint(0, 2, sizes.shape)
    close = [end + STEP * torch.randint(-(near // 2), near // 2 + 1, (near,)).double() for end in function.ends]
    x = torch.cat([spread, sizes * signs, *close, torch.tensor(function.ends, dtype=torch.float64)])
    return x.clamp(min=max(lo, STEP)) if function.positive else x


def check(function, x, step=STEP, more=0.0):
    """Within the bound at the decoded arguments; a coarser encoding sees its own step. Returns the result."""
    values = plain(x)
    out = function.fn(x)
    expected = function.expected(values, 1 / x.cell.scale)  # the step of what was opened, a product's or a sum's
    assert isinstance(out, sy.SecretTensor)
    assert out.shape == expected.shape
    assert out.dtype == x.dtype
    allowed = max(step, STEP) + (function.steps - 1) * STEP + (function.rtol + more) * expected.abs()
    error = (plain(out) - expected).abs()
    at = (error - allowed).argmax()
    assert bool((error <= allowed).all()), (
        f"{values.view(-1)[at]}: off by {error.view(-1)[at] / step:.2f} steps of {expected.view(-1)[at]}"
    )
    return out


@pytest.mark.parametrize("n", [2, 3])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_values(name, n):
    function = FUNCTIONS[name]
    check(function, encrypted(points(function, 10_000, 300), n))


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("n", [2, 3])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_values_of_a_million(name, n):
    """And 10^5 around each end."""
    function = FUNCTIONS[name]
    for _ in range(10):
        check(function, encrypted(points(function, 100_000, 10_000), n))


@pytest.mark.parametrize("suite", SUITE_OPTIONS)
@pytest.mark.parametrize("name", ["exp", "0.3 ** x", "log", "log10", "sqrt", "reciprocal", "x ** 1.5"])
def test_under_every_suite(name, suite):
    function, size = FUNCTIONS[name], 50 if suite in ("mac", "snn") else 300
    values = points(function, size, 10)
    check(
        function,
        sy.encrypt(values[torch.randperm(len(values))[:size]], sy.virtual("alice", "bob"), **SUITE_OPTIONS[suite]),
    )


@pytest.mark.parametrize("name", [name for name in FUNCTIONS if name[0] != "x"])
def test_decimal(name):
    check(FUNCTIONS[name], encrypted(points(FUNCTIONS[name], 2000, 100).clamp(max=2.0**30), 2, DECIMAL3), 1e-3)


@pytest.mark.parametrize("digits", [8, 12, 20])
@pytest.mark.parametrize("name", ["exp", "exp2", "log", "sqrt", "rsqrt", "reciprocal"])
def test_other_encodings(name, digits):
    """Errors of the functions themselves are those of 16 fractional bits."""
    function, step = FUNCTIONS[name], 2.0**-digits
    values = points(function, 1000, 50).clamp(min=-(2.0**20), max=2.0**20)
    check(function, encrypted(values, 2, Precision(2, digits)), step, 2.0**-17 if name == "reciprocal" else 0.0)


@pytest.mark.parametrize("precision", [None, DECIMAL3, Precision(10, 6)], ids=["binary", "decimal", "micro"])
@pytest.mark.parametrize("name", ["exp", "exp2", "1.001 ** x", "log", "sqrt", "rsqrt", "reciprocal"])
def test_of_a_product_whose_scale_was_left(name, precision):
    """Ends of windows hold at every scale, whether or not it divides 2^64."""
    function = FUNCTIONS[name]
    values = points(function, 1000, 100)
    values = values[values.abs() < 2.0**13]
    options = () if precision is None else (precision,)
    x = encrypted(values, 2, *options) * encrypted(torch.ones(1), 2, *options)
    step = 1 / x.unit.scale
    assert x.cell.scale == x.unit.scale**2
    more = 2.0**-16 if name == "rsqrt" else function.rtol  # a public divisor of 16 bits
    if name == "reciprocal" and step < 2.0**-16:
        more = 2.0**-17  # a mantissa of 20 bits, of which a step is 2^-18 of the least there is, 1/4
    check(function, x, step, more)


def test_just_beside_the_ends_of_a_stretched_window():
    """Of a scale for which neither the factor of x nor the ends are whole, every element around them."""
    near = torch.arange(-300, 301).double() * STEP
    for base in (2.0, 3.7, 0.71):
        ends = [end / math.log(base) for end in (-12, 18)]
        x = encrypted(torch.cat([end + near for end in ends]).repeat(40))
        check(powers(lambda x, base=base: base**x, math.log(base)), x)


# --- gradients -------------------------------------------------------------------------


@pytest.mark.parametrize("n", [2, 3])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_gradients(name, n):
    function = FUNCTIONS[name]
    lo, hi = sorted(function.grads)
    x = encrypted(lo + (hi - lo) * torch.rand(300, dtype=torch.float64), n).requires_grad_(True)
    twin = plain(x.detach()).requires_grad_(True)
    function.fn(x).sum().backward()
    function.fn(twin).sum().backward()
    error = (plain(x.grad) - twin.grad).abs()
    assert bool((error <= 4 * STEP + 2.0**-12 * twin.grad.abs()).all()), float(error.max() / STEP)


# --- rounds and bytes ------------------------------------------------------------------


def of_log(n, size):
    return logarithm_cost(n, size) + truncate_cost(n, size, 1 << (BITS - 16))


DECLARED = {
    "exp": (power_cost, 5),
    "exp2": (power_cost, 5),
    "expm1": (power_cost, 5),
    "10 ** x": (power_cost, 5),
    "log": (of_log, 7),
    "log1p": (of_log, 7),
    "sqrt": (root_cost, 9),
    "rsqrt": (lambda n, size: root_cost(n, size, fits.RSQRT), 9),
    "reciprocal": (reciprocal_fast_cost, 8),
}


@pytest.mark.parametrize("n", [2, 3])
@pytest.mark.parametrize("size", [1, 64, 1000])
@pytest.mark.parametrize("name", DECLARED)
def test_rounds_and_bytes_are_the_declared_ones(name, size, n):
    declared, rounds = DECLARED[name]
    cost, _ = cost_of(FUNCTIONS[name].fn, encrypted(torch.rand(size) + 0.5, n))
    assert cost == declared(n, size)
    assert cost.rounds == rounds


def test_costs_depend_on_no_value():
    """Nothing is decided by an element: the extremes cost what zeros cost."""
    for function in FUNCTIONS.values():
        costs = [
            cost_of(function.fn, encrypted(torch.full((20,), v, dtype=torch.float64)))[0]
            for v in (0.0, FAR, -FAR, STEP, 1.0)
        ]
        assert all(cost == costs[0] for cost in costs)


def test_derivatives_of_powers_take_nothing_more_than_a_product():
    x = encrypted(torch.randn(64)).requires_grad_(True)
    out = torch.exp(x)
    cost, _ = cost_of(lambda x: out.sum().backward(), x)
    assert cost.rounds == 0


def test_powers_share_the_opening_of_other_functions():
    x = encrypted(torch.randn(50))
    torch.sigmoid(x)
    with sy.ledger() as kept:
        exp, two = torch.exp(x), torch.exp2(x)
    assert "function" not in kept.causes
    assert torch.allclose(plain(exp), plain(x).exp(), atol=2 * STEP, rtol=STEP)
    assert torch.allclose(plain(two), plain(x).exp2(), atol=2 * STEP, rtol=STEP)


# --- shapes and types ------------------------------------------------------------------

SHAPES = {
    "empty": lambda x: x[:0],
    "one element": lambda x: x[2, 3],
    "a column": lambda x: x[:, 1],
    "every other": lambda x: x[::2, 1::2],
    "transposed": lambda x: x.t(),
    "permuted": lambda x: x.reshape(2, 3, 5).permute(2, 0, 1),
    "expanded": lambda x: x[:, :1].expand(6, 4),
    "expanded in front": lambda x: x[1].expand(3, 5),
    "no elements, expanded": lambda x: x[:, :0].unsqueeze(0).expand(3, 6, 0),
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", ["exp", "log", "sqrt", "reciprocal", "x ** 1.5"])
def test_windows(name, shape):
    function, values = FUNCTIONS[name], 0.25 + 3 * torch.rand(6, 5)
    window = SHAPES[shape](encrypted(values))
    expected = plain(window)
    if not expected.numel():
        assert function.fn(window).shape == expected.shape
        return
    check(function, window)
    assert torch.equal(plain(window), expected)


def test_integers_below_one_count_as_a_step_of_real_numbers():
    x = sy.encrypt(torch.tensor([0, -3, 1, 4, 1 << 30]), parties())
    values = torch.tensor([STEP, STEP, 1, 4, 2.0**30]).double()
    for fn in (torch.log, torch.rsqrt):
        assert torch.allclose(plain(fn(x)), fn(values), atol=2 * STEP, rtol=2.0**-21)


@pytest.mark.parametrize("dtype", [torch.int32, torch.int64, torch.bool])
def test_integers_are_taken_as_real_numbers(dtype):
    values = torch.tensor([1, 1, 0] if dtype == torch.bool else [1, 2, 5]).to(dtype)
    x = sy.encrypt(values, parties())
    for fn in (torch.exp, torch.exp2, torch.expm1, torch.log1p, torch.sqrt):
        out = fn(x)
        assert out.dtype == torch.get_default_dtype()
        found, expected = plain(out), fn(values.double())
        assert torch.allclose(found, expected, atol=2 * STEP, rtol=STEP)


def test_integers_to_powers_of_integers_are_refused():
    """Torch's results are integers, or errors."""
    x = sy.encrypt(torch.tensor([1, 2, 3]), parties())
    for work in (lambda: 2**x, lambda: x**-1, lambda: x**x, lambda: x ** torch.tensor([1, 2, 3])):
        with pytest.raises(NotImplementedError, match=r"x\.float\(\)"):
            work()
    assert torch.allclose(plain(2.0**x), torch.tensor([2.0, 4.0, 8.0]).double(), atol=2 * STEP, rtol=STEP)
    assert torch.equal(sy.decrypt(x), torch.tensor([1, 2, 3]))


# --- powers of tensors -----------------------------------------------------------------


@pytest.mark.parametrize("n", [2, 3])
def test_powers_of_tensors(n):
    base, power = encrypted(0.1 + 3 * torch.rand(40, 25), n), encrypted(3 * torch.randn(40, 25), n)
    x, y = plain(base), plain(power)
    cases = {
        "two secrets": (base**power, x**y, y),
        "public exponents": (base ** y.float(), x ** y.float().double(), y),
        "a public base": (x.float() ** power, x.float().double() ** y, y),
        "broadcast": (base[:, :1] ** power[0], x[:, :1] ** y[0], y[0]),
    }
    for name, (found, expected, y) in cases.items():
        assert found.dtype == torch.float32, name
        error = (plain(found) - expected).abs()
        # the exponent of e is wrong by a step of 2^-20 of x's logarithm times |y|, or by one of a public factor
        allowed = 1.7 * STEP + (1 + y.abs() / 8) * STEP * expected
        if name == "public exponents":
            allowed += STEP * x.log().abs() * expected
        fits = expected < 2.0**25  # e^18 from 2^25.97 on
        assert bool((error <= allowed)[fits].all()), name


def test_bases_that_have_no_real_powers_are_refused():
    x = encrypted(torch.rand(3))
    for base in (0, -2, -0.5):
        with pytest.raises(EncodingError, match="positive"):
            base**x
    for base in (torch.tensor([1.0, 0.0, 2.0]), torch.tensor([1.0, float("nan"), 2.0])):
        with pytest.raises(EncodingError, match="positive"):
            base**x
    assert torch.equal(plain(1**x), torch.ones(3).double())


def test_a_base_too_near_one_is_refused():
    with pytest.raises(EncodingError, match="too small"):
        (1 + 1e-12) ** encrypted(torch.rand(3))


def test_results_without_room_are_refused():
    """With the way out in the message; the argument is as it was."""
    x = encrypted(torch.rand(3), 2, Precision(2, 26))
    with pytest.raises(EncodingError, match="fractional bits"):
        torch.reciprocal(x)
    assert torch.allclose(plain(torch.exp(x)), plain(x).exp(), atol=0, rtol=2 * STEP)


class OnlyIntegers(TorchDispatchMode):
    """Fails where an operation makes or takes floating point."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for each in (*args, out):
            assert not isinstance(each, torch.Tensor) or not each.dtype.is_floating_point, f"{func} in floating point"
        return out


def test_logarithms_of_public_bases_are_exact_enough():
    x = torch.cat(
        [
            2.0 ** (200 * torch.rand(2000, dtype=torch.float64) - 100),
            torch.tensor([1e-300, 1.0, 0.5], dtype=torch.float64),
        ]
    )
    found = exponentials._public_logarithm(x)
    assert float((found - x.log()).abs().max()) < 2.0**-44
    assert float((found - x.log())[(x > 0.25) & (x < 4)].abs().max()) < 2.0**-51
