"""Public bounds of secrets: that they hold, where they go, what they refuse, and that none comes from a secret."""

import copy
import math
import re

import numpy as np
import pytest
import torch
from op_cases import CASES
from op_checks import RUNS, SUITES, dense, operands, parties
from torch import nn
from torch.nn import functional as F
from twins import opened

import pysmpc as sy
from pysmpc.errors import EncodingError, RangeError
from pysmpc.mpc.functions.softmax import near_window
from pysmpc.ops import bounds
from pysmpc.tensor.secret import HANDLERS
from pysmpc.tensor.storage import Estimate

E = 2.0**-16


def secret(values, bounded=None, **options):
    return sy.encrypt(torch.as_tensor(values), parties(), bounded=bounded, **options)


def bound(x):
    return x.cell.bound


def uniform(*shape, size=4.0):
    return (2 * torch.rand(shape, dtype=torch.float64) - 1) * size


# --- what is stated -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value",
    [torch.tensor([1.5, -3.0]), np.array([1.0, 3.0]), [0.5, 3], 3.0, -3, torch.tensor([3, -2]), torch.ones(2, 2)],
    ids=["tensor", "array", "list", "number", "integer", "integers", "matrix"],
)
def test_what_is_encrypted(value):
    x = secret(value, bounded=3.0)
    assert bound(x) == 3
    assert torch.allclose(sy.decrypt(x).double(), torch.as_tensor(value).double(), atol=E)
    with pytest.raises(RangeError, match="bounded=2 states"):
        secret(value, bounded=2) if torch.as_tensor(value).abs().max() > 2 else secret(9.0, bounded=2)


def test_an_error_names_no_value():
    with pytest.raises(RangeError) as caught:
        secret([0.25, -7.625, 1.0], bounded=3.5)
    assert "7.6" not in str(caught.value)
    assert isinstance(caught.value, EncodingError)


def test_nothing_stated_is_nothing_known():
    x = secret(uniform(3, 4))
    found = x, x * 2, x @ x.t(), x.sum(0), x.abs(), torch.cat([x, x]), x[0], torch.exp(x), F.gelu(x), x.max(1)[0]
    for value in found:
        assert bound(value) is None


def test_a_bound_between_two_steps():
    x = secret([0.1], bounded=0.1)
    assert bound(x) >= float(opened(x).max())
    assert bound(secret([0.1], bounded=0.1, precision_fractional=3)) >= 0.1


@pytest.mark.parametrize("wrong", [-1, math.nan, math.inf, "8", True, [8.0]])
def test_what_is_no_bound(wrong):
    with pytest.raises(ValueError, match="bounded= is the largest magnitude"):
        secret(1.0, bounded=wrong)
    with pytest.raises(ValueError, match="bounded= is the largest magnitude"):
        sy.bounded(secret(1.0), wrong)


def test_a_module():
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    hidden = sy.encrypt(model, parties(), bounded=2.0)
    assert all(bound(p) == 2 for p in hidden.parameters())
    with pytest.raises(RangeError):
        sy.encrypt(model, parties(), bounded=0.5)


def test_public_fixed_point():
    plain = sy.encrypt  # the verb for tensors of fixed precision, too
    fixed = sy.api.steps.fix_precision(torch.tensor([1.5, -2.0]))
    assert bound(plain(fixed, parties(), bounded=2)) == 2
    with pytest.raises(RangeError):
        plain(fixed, parties(), bounded=1.9)


def test_bounded():
    x = secret(uniform(5), requires_grad=True)
    before = parties().stats.copy()
    y = sy.bounded(x, 4.0)
    assert (parties().stats - before).cost == sy.virtual("a", "b").stats.cost
    assert bound(x) is None
    assert 4 <= bound(y) < 4.001
    assert torch.equal(opened(y.detach()), opened(x.detach()))
    (y * 3).sum().backward()
    assert torch.allclose(sy.decrypt(x.grad), torch.full((5,), 3.0).to(x.grad.dtype), atol=E)


def test_what_is_stated_wrongly_of_a_secret():
    x = secret([0.5, -6.0, 2.0])
    with pytest.raises(RangeError, match="bounded=5 states"):
        sy.bounded(x, 5.0)
    assert bound(sy.bounded(x * x, 36.0)) >= 36  # of a product that was not rounded yet
    assert bound(sy.bounded(x[::2], 2.0)) < 3
    with pytest.raises(RangeError):
        sy.bounded(secret([3, -4]), 3)
    with pytest.raises(TypeError, match="no secret"):
        sy.bounded(torch.ones(2), 2.0)


def test_nothing_of_it_is_shown():
    x = secret([1.0, 2.0], bounded=5.625)
    assert "5.6" not in repr(x)
    assert "5.6" not in repr(x.session)


# --- bounds hold --------------------------------------------------------------------------------


@pytest.mark.parametrize("case", CASES, ids=str)
def test_no_result_is_beyond_its_bound(case):
    """Of operands at the ends of their bounds, in every operation of the table."""
    for run in (RUNS[0], RUNS[2]):
        given = operands(case.first, case.low, case.high, case.values)
        secrets = []
        for values in given:
            size = float(values.abs().max()) if values.numel() and values.dtype != torch.bool else 1.0
            x, _ = dense(values, run.precision, 2, bounded=size if size < 2**40 else None)
            secrets.append(x)
        found = case.fn(*secrets)
        for each in found if isinstance(found, tuple | list) else [found]:
            if isinstance(each, sy.SecretTensor) and bound(each) is not None and each.numel():
                value = opened(each) if each.dtype.is_floating_point else sy.decrypt(each).double()
                assert float(value.abs().max()) <= bound(each), (case.name, run.name)


def test_the_table_has_every_form():
    """In place, with numbers: what torch's schemas derive has the rule of the operation that it is derived from."""
    ruled = {name for name, handler in HANDLERS.items() if getattr(handler, "__wrapped__", None) is not None}
    aten = torch.ops.aten
    for form in (aten.mul.Scalar, aten.mul_.Tensor, aten.mul_.Scalar, aten.clamp_.default, aten.copy_.default,
                 aten.fill_.Scalar, aten.zero_.default, aten.relu_.default, aten.add_.Scalar):  # fmt: skip
        assert form in ruled, form
    assert all(overload in HANDLERS or overload._schema.name for overload in bounds.RULES)


FOLLOWED = {
    "negation": (lambda x: -x, 4),
    "view": (lambda x: x.reshape(-1)[2:].detach(), 4),
    "transpose": (lambda x: x.t(), 4),
    "expand": (lambda x: x[0].expand(5, 3), 4),
    "index": (lambda x: x[torch.tensor([1, 0])], 4),
    "windows": (lambda x: x.unfold(1, 2, 1), 4),
    "cat": (lambda x: torch.cat([x, x * 2]), 8),
    "stack": (lambda x: torch.stack([x, x * 0.5]), 4),
    "cat with public": (lambda x: torch.cat([x, torch.full((1, 3), 6.0)]), 6),
    "sum": (lambda x: x.sum(), 24),
    "sum of rows": (lambda x: x.sum(0), 8),
    "mean": (lambda x: x.mean(), 4),
    "difference": (lambda x: x - x[0], 8),
    "number": (lambda x: 1 - x, 5),
    "public": (lambda x: x + torch.tensor([0.5, -3.0, 1.0]), 7),
    "public factor": (lambda x: x * torch.tensor([0.5, -3.0, 1.0]), 12),
    "square": (lambda x: x * x, 16),
    "power": (lambda x: x**3, 64),
    "quotient": (lambda x: x / 8, 0.5),
    "quotient by public": (lambda x: x / torch.tensor([0.5, -4.0, 1.0]), 8),
    "matrices": (lambda x: x @ x.t(), 48),
    "public matrix": (lambda x: x @ torch.tensor([[1.0, 0.5]] * 3), 12),
    "convolution": (lambda x: F.conv1d(x[None], x[None, :, :2]), 64),
    "relu": (F.relu, 4),
    "abs": (torch.abs, 4),
    "clamp": (lambda x: x.clamp(-0.5, 2), 2),
    "clamp beyond": (lambda x: x.clamp(-9, 9), 4),
    "where": (lambda x: torch.where(x > 0, x, 7.0), 7),
    "comparison": (lambda x: x > 1, 1),
    "sigmoid": (torch.sigmoid, 1),
    "softmax": (lambda x: torch.softmax(x, -1), 1),
    "exp": (torch.exp, math.exp(4)),
    "maximum": (lambda x: x.max(1).values, 4),
    "zeros": (torch.zeros_like, 0),
    "copy": (lambda x: x.clone(), 4),
}


@pytest.mark.parametrize("name", FOLLOWED)
def test_where_a_bound_goes(name):
    function, expected = FOLLOWED[name]
    x = secret(uniform(2, 3), bounded=4.0)
    found = bound(function(x))
    assert expected <= found <= expected * 1.01 + 0.01


@pytest.mark.parametrize(
    "function",
    [lambda x, y: x + y, lambda x, y: x * y, lambda x, y: x @ y.t(), lambda x, y: torch.cat([x, y]), torch.maximum,
     lambda x, y: torch.where(x > 0, x, y), lambda x, y: 1 / x, lambda x, y: x / (y * y + 1),
     lambda x, y: torch.log(x * x + 1)],
)  # fmt: skip
def test_what_is_of_unknown_size(function):
    assert bound(function(secret(uniform(2, 2), bounded=4.0), secret(uniform(2, 2)))) is None


def test_functions_whose_results_are_bounded():
    x = secret(uniform(3))
    for function in (torch.sigmoid, torch.tanh, torch.sin, torch.erf, lambda x: torch.softmax(x, -1), lambda x: x < 0):
        assert 1 <= bound(function(x)) < 1.002


def test_integers_and_truths():
    x = secret(torch.tensor([3, -4, 2]), bounded=4)
    assert (bound(x * x), bound(x + x), bound(x.sum()), bound(x > 2)) == (16, 8, 12, 1)
    assert bound(secret(torch.tensor([True, False])).to(torch.int64)) is None
    assert bound((x > 0).float()) == 1
    assert bound(F.one_hot(torch.tensor([0, 2]), 3) * x) == 4


def test_integers_wrap_as_those_of_torch():
    """docs/integers.md: what their bounds do not hold is no error."""
    values = torch.tensor([3 << 38, -(5 << 37)])
    x = secret(values, bounded=2.0**41)
    assert torch.equal(sy.decrypt(x * x), values * values)
    assert bound(x * x) is None
    assert torch.equal(sy.decrypt(x * (1 << 30)), values * (1 << 30))
    assert torch.equal(sy.decrypt((x * 4096).sum() * 4096), (values * 4096).sum() * 4096)


# --- writing ---------------------------------------------------------------------------------


def written(change, known=4.0):
    x = secret(uniform(3, 2), bounded=known)
    change(x)
    if bound(x) is not None:
        assert float(opened(x).abs().max()) <= bound(x)
    return bound(x)


def test_writing():
    assert written(lambda x: x.add_(1)) is None  # what is added to again and again
    assert written(lambda x: x.sub_(x)) is None
    assert written(lambda x: x.zero_()) == 0
    assert written(lambda x: x.fill_(9.0)) == 9
    assert written(lambda x: x.fill_(9.0), None) is None
    assert 1 <= written(lambda x: x.clamp_(-1, 1)) < 1.01
    assert 1 <= written(lambda x: x.sigmoid_(), None) < 1.01
    assert 2 <= written(lambda x: x.div_(2)) < 2.01
    assert written(lambda x: x.copy_(secret(uniform(3, 2)))) is None
    assert 1 <= written(lambda x: x.copy_(secret(uniform(3, 2, size=1), bounded=1.0))) < 1.01


def test_writing_in_other_ways():
    """Whatever writes to a value forgets its bound, unless a rule says more."""
    y = secret(uniform(3, 2) * 9)
    assert written(lambda x: torch.add(x, y, out=x)) is None
    assert written(lambda x: x.log_()) is None
    assert written(lambda x: x.index_add_(0, torch.tensor([0, 0]), y[:2])) is None
    assert written(lambda x: x.index_put_((torch.tensor([0]),), y[:1])) is None
    assert written(lambda x: x.index_put_((torch.tensor([0]),), x[:1] * 0.5)) is not None
    assert written(lambda x: x.scatter_(0, torch.tensor([[0, 1]]), y[:1])) is None
    assert written(lambda x: x.copy_(y * 0.5)) is None


def test_writing_a_part():
    assert 4 <= written(lambda x: x[0].fill_(1.0)) < 4.01  # the larger of the two
    assert 7 <= written(lambda x: x[0].fill_(7.0)) < 7.02
    assert 7 <= written(lambda x: x[:, 1].copy_(secret(uniform(3, size=7), bounded=7.0))) < 7.02
    assert written(lambda x: x[0].copy_(secret(uniform(2)))) is None
    assert written(lambda x: x[0].copy_(secret(uniform(2), bounded=4.0)), None) is None

    def set_item(x):
        x[1:] = 5.0

    assert 5 <= written(set_item) < 5.02


def test_writing_to_what_shares_a_cell():
    x = secret(uniform(4), bounded=4.0)
    view = x[:2]
    x.mul_(3)
    assert 12 <= bound(view) < 12.1
    view.add_(1)
    assert bound(x) is None


def test_an_update_that_waits():
    x, y = secret(uniform(4), bounded=4.0), secret(uniform(4), bounded=4.0)
    x.add_(y * y, alpha=0.1)
    assert bound(x) is None
    opened(x)
    assert bound(x) is None


def test_operations_that_change_no_value():
    x = secret(uniform(4), bounded=4.0)
    sy.api.steps.refresh(x)
    assert bound(x) == 4
    y = x * x
    y.cell.settle()
    assert 16 <= bound(y) < 16.1
    assert bound(copy.deepcopy(x)) == 4


# --- functions ---------------------------------------------------------------------------------


def rounds(function, x):
    before = parties().stats.copy()
    function(x)
    return (parties().stats - before).rounds


@pytest.mark.parametrize(
    ("function", "inside", "outside"),
    [(torch.exp, 14.9, 15.1), (torch.sigmoid, 12.4, 12.6), (torch.tanh, 6.2, 6.3), (torch.erf, 3.3, 3.5),
     (F.gelu, 4.9, 5.1), (F.silu, 14.4, 14.6), (torch.exp2, 21, 22), (F.softplus, 12.4, 12.6)],
)  # fmt: skip
def test_up_to_where_thresholds_are_left_out(function, inside, outside):
    for size, expected in ((inside, 2), (outside, 5)):
        x = uniform(400, size=size)
        x[0], x[1] = size, -size
        assert rounds(function, secret(x, bounded=size)) == expected
        found, right = opened(function(secret(x, bounded=size))), function(opened(secret(x)))
        assert ((found - right).abs() <= 3 * E + 2.0**-15 * right.abs()).all() or size > 18


@pytest.mark.parametrize("run", SUITES, ids=lambda run: run.name)
def test_bounded_functions_of_every_suite(run):
    x = uniform(30, size=3)
    for function in (torch.exp, torch.sigmoid, F.gelu):
        found = opened(function(secret(x, bounded=3.0, **run.options)))
        assert ((found - function(x)).abs() <= 6 * E + 2.0**-14 * function(x).abs()).all()


def test_three_holders():
    x = sy.encrypt(uniform(10), parties(3), bounded=4.0)
    before = parties(3).stats.copy()
    torch.exp(x)
    assert (parties(3).stats - before).rounds == 2


def test_softmax_over_ten():
    for size, less in ((5.0, 8), (14.0, 0), (16.0, -4)):  # without a maximum, without comparisons, with both
        assert rounds(lambda x: torch.softmax(x, -1), secret(uniform(4, 10), bounded=size)) == 17 - less
        assert rounds(lambda x: torch.log_softmax(x, -1), secret(uniform(4, 10), bounded=size)) == 16 - less
        assert rounds(lambda x: torch.logsumexp(x, -1), secret(uniform(4, 10), bounded=size)) == 16 - less


@pytest.mark.parametrize("n", [1, 3, 10, 300])
def test_softmax_without_a_maximum(n):
    size = max(k / 8 for k in range(100) if near_window(n, k / 8))
    rows = [uniform(20, n, size=size), uniform(20, n, size=size).sign() * size, torch.full((4, n), -size)]
    x = torch.cat(rows).double()
    x[-1, 0] = size
    a = secret(x, bounded=size)
    for function in (torch.softmax, torch.log_softmax, torch.logsumexp):
        found, right = opened(function(a, -1)), function(opened(a), -1)
        assert ((found - right).abs() <= 1.2 * E).all()
    b, t = secret(x, bounded=size, requires_grad=True), opened(a).requires_grad_()
    weights = uniform(*x.shape, size=1)
    for function in (torch.softmax, torch.log_softmax):
        (function(b, -1) * weights).sum().backward()
        (function(t, -1) * weights).sum().backward()
    assert ((opened(b.grad) - t.grad).abs() <= (n + 20) * E).all()


def test_a_declaration_within_a_program():
    x = secret(uniform(20, size=2))
    assert rounds(torch.exp, x @ torch.eye(20)) == 5
    assert rounds(torch.exp, sy.bounded(x @ torch.eye(20), 2.0)) == 2


# --- overflow ----------------------------------------------------------------------------------


T = torch.tensor
OVERFLOWS = {
    "mse of house prices": (F.mse_loss, [T([250e3, 310e3, 120e3]), T([200e3, 300e3, 150e3])], {}),
    "dot of salaries": (lambda a: a @ a, [T([60e3, 52e3, 71e3])], {}),
    "var of prices": (lambda a: a.var(), [T([1e5, 3e5, 2e5, 4e5])], {}),
    "sum of squares": (lambda a: (a * a).sum(), [torch.full((40000,), 300.0)], {}),
    "product times a tenth": (lambda a: a * a * 0.1, [T([10e3, 9e3])], {}),
    "product at 24 bits": (lambda a, b: a * b, [T([60e3]), T([1.5])], {"frac_bits": 24}),
    "product at 30 bits": (lambda a, b: a * b, [T([3.3, 4.4]), T([10.0, -20.0])], {"frac_bits": 30}),
    "large matmul": (lambda a, b: a @ b, [torch.full((2, 100), 1e4), torch.full((100, 2), 1e4)], {}),
    "large sum": (lambda a: a.sum(), [torch.full((100,), 5e13, dtype=torch.float64)], {}),
    "square": (torch.square, [T([5e4])], {}),
    "power": (lambda a: a**4, [T([300.0])], {}),
    "convolution": (F.conv1d, [torch.full((1, 8, 9), 1e4), torch.full((2, 8, 3), 1e4)], {}),
    "public matrix": (lambda a: a @ torch.full((100, 2), 1e4).to(a.dtype), [torch.full((2, 100), 1e8)], {}),
    "in place": (lambda a: a.mul_(a), [T([5e4])], {}),
    "decimal": (torch.square, [T([5e4])], {"precision_fractional": 5}),
    "a sum at the ring's end": (lambda a: a + a + a, [T([7e13], dtype=torch.float64)], {}),
}


@pytest.mark.parametrize("name", OVERFLOWS)
def test_what_must_overflow_raises_before_it_is_computed(name):
    function, values, options = OVERFLOWS[name]
    given = [secret(v, bounded=float(v.abs().max()), **options) for v in values]
    words = [x.window().words().clone() for x in given]
    before = parties().stats.copy()
    with pytest.raises(RangeError, match="magnitudes up to") as caught:
        function(*given)
    if name not in ("product times a tenth", "sum of squares", "a sum at the ring's end"):  # at their second operation
        assert (parties().stats - before).cost == sy.virtual("a", "b").stats.cost
    assert all(torch.equal(x.window().words(), w) for x, w in zip(given, words, strict=True))
    assert re.match(r"aten\.\w+", str(caught.value))


@pytest.mark.parametrize("name", [n for n in OVERFLOWS if n not in ("large sum", "a sum at the ring's end")])
def test_the_encoding_that_an_error_names_fits(name):
    function, values, options = OVERFLOWS[name]
    for _ in range(3):  # a program of several operations may have to be told more than once
        given = [secret(v, bounded=float(v.abs().max()), **options) for v in values]
        try:
            found = function(*given)
            break
        except RangeError as error:
            [(option, digits)] = re.findall(r"(frac_bits|precision_fractional)=(\d+)", str(error))
            options = {option: int(digits)}
    found, right = opened(found).double(), function(*[v.double() for v in values])
    assert ((found - right).abs() <= 1e-2 * right.abs()).all()


def test_a_bias_of_unknown_size():
    x, weight = (secret(torch.full((2, 50), 1e4), bounded=1e4) for _ in range(2))
    with pytest.raises(RangeError, match=r"aten\.addmm"):
        F.linear(x, weight, secret(torch.ones(2)))
    assert bound(F.linear(x * 1e-3, weight * 1e-3, secret(torch.ones(2)))) is None


def test_what_just_fits_is_right():
    """Up to where RangeError begins: a bound is not raised at while the ring holds it."""
    for size in (2.0**k for k in range(1, 20)):
        x = secret([size, -size], bounded=size)
        try:
            found = opened(x * x)
        except RangeError:
            assert size * size * 2**32 >= 2**62
            break
        assert torch.allclose(found, torch.full((2,), size * size, dtype=found.dtype))


def test_estimates_raise_nothing():
    """What many layers could come to at the worst is not what they come to."""
    layers = [layer for _ in range(9) for layer in (nn.Linear(64, 64), nn.ReLU())]
    model = nn.Sequential(*layers, nn.Linear(64, 3))
    hidden = sy.encrypt(model, parties(), bounded=1.0)
    x = uniform(4, 64, size=1).float()
    out = hidden(secret(x, bounded=1.0))
    assert bound(out) is None
    assert isinstance(bound(hidden[0](secret(x, bounded=1.0))), Estimate)
    assert torch.allclose(opened(out.detach()), model(x).detach().double(), atol=1e-2)
    F.mse_loss(out, secret(uniform(4, 3), bounded=4.0)).backward()


def test_a_training_step_with_bounds():
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(4 * 36, 5))
    hidden = sy.encrypt(model, parties(), bounded=1.0)
    optimizer = torch.optim.SGD(hidden.parameters(), lr=0.1, momentum=0.9)
    x, y = uniform(3, 1, 14, 14, size=1).float(), torch.eye(5)[:3]
    for _ in range(3):
        optimizer.zero_grad()
        F.mse_loss(hidden(secret(x, bounded=1.0)), secret(y, bounded=1.0)).backward()
        optimizer.step()
    assert all(bound(p) is None for p in hidden.parameters())


def test_composed_operations_name_themselves():
    x = secret([5e4, 1.0], bounded=5e4)
    with pytest.raises(RangeError, match="aten"):
        F.huber_loss(x * 1.0, secret([1.0, 2.0], bounded=2.0), delta=6e4)
