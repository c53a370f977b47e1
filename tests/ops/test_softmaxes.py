"""Softmax, its logarithm and log-sum-exp of secrets against torch in float64: values, gradients, rounds and bytes."""

import pytest
import torch
from op_checks import DECIMAL3, SUITE_OPTIONS, cost_of, encrypted, parties, plain
from torch import nn
from torch.nn import functional as F
from twins import double_twin

import pysmpc as sy
from pysmpc.errors import EncodingError
from pysmpc.mpc.functions.softmax import log_of_sum_cost, quotients_cost, softmax_cost

STEP = 2.0**-16
STEPS = 1.2  # of values
FUNCTIONS = {
    "softmax": lambda x: torch.softmax(x, -1),
    "log_softmax": lambda x: torch.log_softmax(x, -1),
    "logsumexp": lambda x: torch.logsumexp(x, -1),
}
functions = pytest.mark.parametrize("name", FUNCTIONS)


def logits(rows, n, spread):
    """Of a spread, with ties; some rows have one large value, others many that are just kept, or just not."""
    x = spread * (2 * torch.rand(rows, n, dtype=torch.float64) - 1)
    x[rows // 4 : rows // 2, 0] = spread
    deep = -30 + STEP * torch.randint(-3, 4, (rows // 4, n)).double()
    deep[:, -1] = 0
    x[: rows // 4] = deep
    x[-1] = x[-1, 0]
    return x


def check(name, x, step=STEP):
    values = plain(x)
    out, expected = FUNCTIONS[name](x), FUNCTIONS[name](values)
    assert out.shape == expected.shape
    assert out.dtype == x.dtype
    error = float((plain(out) - expected).abs().max())
    assert error <= max(step, STEP) + (STEPS - 1) * STEP, f"{error / step:.2f} steps"
    return out


@pytest.mark.parametrize("holders", [2, 3])
@pytest.mark.parametrize("spread", [1.0, 10.0, 400.0, 2.0**30 - 1])
@pytest.mark.parametrize("n", [1, 2, 3, 10, 64, 65, 1000])
@functions
def test_values(name, n, spread, holders):
    check(name, encrypted(logits(max(8, 1000 // n), n, spread), holders))


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("holders", [2, 3])
@pytest.mark.parametrize("n", [1, 2, 10, 1000])
@functions
def test_values_of_a_million(name, n, holders):
    for turn in range(20):
        check(name, encrypted(logits(50_000 // n, n, (1.0, 10.0, 400.0, 2.0**30 - 1)[turn % 4]), holders))


@pytest.mark.parametrize("n", [4096, 4097, 8192])
def test_long_rows(n):
    """Around the numbers of values for which the sum has one more power of four."""
    x = torch.zeros(3, n, dtype=torch.float64)
    x[1] = -12 * torch.rand(n)
    x[2, 1:] = -22
    for name in FUNCTIONS:
        check(name, encrypted(x))


def test_of_more_values_the_sum_has_fewer_bits():
    """And the error grows: by a few steps for 2^17 values that all are small beside one."""
    x = -11 - torch.rand(1, 1 << 17)
    x[0, 5] = 0
    assert float((plain(torch.softmax(encrypted(x), 1)) - x.double().softmax(1)).abs().max()) < 32 * STEP


@pytest.mark.parametrize("suite", SUITE_OPTIONS)
@functions
def test_under_every_suite(name, suite):
    for spread in (8.0, 2.0**30 - 1):
        check(name, sy.encrypt(logits(8, 5, spread), sy.virtual("alice", "bob"), **SUITE_OPTIONS[suite]))


@pytest.mark.parametrize("spread", [1.0, 400.0, 2.0**30])
@functions
def test_decimal(name, spread):
    check(name, encrypted(logits(60, 10, spread), 2, DECIMAL3), 1e-3)


@pytest.mark.parametrize("precision", [None, DECIMAL3], ids=["binary", "decimal"])
@functions
def test_of_a_product_whose_scale_was_left(name, precision):
    options = () if precision is None else (precision,)
    x = encrypted(logits(40, 10, 100.0), 2, *options) * encrypted(torch.ones(1), 2, *options)
    assert x.cell.scale == x.unit.scale**2
    check(name, x, 1 / x.unit.scale)


def test_the_only_large_value_is_one():
    """Though its share of the sum comes out a little above one, at the end of the window."""
    x = torch.full((4000, 3), -100.0)
    x[:, 1] = 0
    out = plain(torch.softmax(encrypted(x), 1))
    assert float((out - x.double().softmax(1)).abs().max()) <= STEP


# --- gradients -------------------------------------------------------------------------


def gradients(fn, x, n=2, **options):
    x = encrypted(x, n, **options).requires_grad_(True)
    twin = plain(x.detach()).requires_grad_(True)
    weights = torch.randn(twin.shape, dtype=torch.float64)
    (fn(x) * weights).sum().backward()
    (fn(twin) * weights).sum().backward()
    return float((plain(x.grad) - twin.grad).abs().max())


@pytest.mark.parametrize("holders", [2, 3])
@pytest.mark.parametrize("n", [1, 2, 10, 100])
@functions
def test_gradients(name, n, holders):
    def fn(x):
        out = FUNCTIONS[name](x)
        return out if out.dim() == x.dim() else out.unsqueeze(-1) * torch.ones(n)

    assert gradients(fn, logits(16, n, 20.0), holders) < (8 + n) * STEP


@pytest.mark.parametrize("dim", [0, 1, 2, -1, -3])
def test_along_every_dimension(dim):
    x = encrypted(4 * torch.randn(3, 4, 5)).requires_grad_(True)
    twin = plain(x.detach()).requires_grad_(True)
    for name in ("softmax", "log_softmax", "logsumexp"):
        fn = getattr(torch, name)
        out, expected = fn(x, dim), fn(twin, dim)
        assert out.shape == expected.shape
        assert torch.allclose(plain(out.detach()), expected.detach(), atol=2 * STEP, rtol=0)
        x.grad = twin.grad = None
        (out * out).sum().backward()
        (expected * expected).sum().backward()
        # Gradients are g softmax and g - softmax * sum(g): a step of the softmax counts g or sum(g) times.
        counts = expected.detach().abs() if name == "logsumexp" else expected.detach().abs().sum(dim)
        allowed = 16 + 4 * float(counts.max())
        assert torch.allclose(plain(x.grad), twin.grad, atol=allowed * STEP, rtol=0)


@pytest.mark.parametrize("dim", [(0, 2), (1,), (0, 1, 2), (-1, -2)])
@pytest.mark.parametrize("keepdim", [False, True])
def test_logsumexp_over_several_dimensions(dim, keepdim):
    x = encrypted(4 * torch.randn(3, 4, 5))
    out, expected = torch.logsumexp(x, dim, keepdim), torch.logsumexp(plain(x), dim, keepdim)
    assert out.shape == expected.shape
    assert torch.allclose(plain(out), expected, atol=2 * STEP, rtol=0)


WINDOWS = {
    "a row": lambda x: x[1],
    "every other": lambda x: x[::2, 1::2],
    "transposed": lambda x: x.t(),
    "expanded": lambda x: x[:, :1].expand(6, 4),
    "expanded in front": lambda x: x[1].expand(3, 5),
    "permuted": lambda x: x.reshape(2, 3, 5).permute(2, 0, 1),
}


@pytest.mark.parametrize("window", WINDOWS)
@functions
def test_windows(name, window):
    check(name, WINDOWS[window](encrypted(5 * torch.randn(6, 5))))


def test_scalars_and_nothing():
    x = encrypted(torch.tensor(1.5))
    assert plain(torch.softmax(x, 0)) == 1
    assert abs(float(plain(torch.log_softmax(x, -1)))) <= STEP
    assert abs(float(plain(torch.logsumexp(x, 0))) - 1.5) <= STEP
    nothing = encrypted(torch.zeros(0, 3))
    for fn in (torch.softmax, torch.log_softmax):
        assert fn(nothing, 1).shape == fn(nothing, 0).shape == (0, 3)
    assert torch.logsumexp(nothing, 1).shape == (0,)
    with pytest.raises(EncodingError, match="minus infinity"):
        torch.logsumexp(nothing, 0)
    with pytest.raises(IndexError):
        torch.softmax(encrypted(torch.rand(2, 3)), 2)
    with pytest.raises(NotImplementedError, match=r"x\.float\(\)"):
        torch.softmax(sy.encrypt(torch.tensor([1, 2]), parties()), 0)


# --- rounds and bytes ------------------------------------------------------------------


LAST = {"softmax": softmax_cost, "log_softmax": None, "logsumexp": None}


@pytest.mark.parametrize("holders", [2, 3])
@pytest.mark.parametrize(("rows", "n"), [(1, 10), (64, 10), (7, 65), (100, 1)])
@functions
def test_rounds_and_bytes_are_the_declared_ones(name, rows, n, holders):
    """Those of a maximum, and thirteen rounds, or twelve without a power at the end."""
    largest, _ = cost_of(lambda x: torch.amax(x, 1), encrypted(torch.randn(rows, n), holders))
    cost, _ = cost_of(FUNCTIONS[name], encrypted(torch.randn(rows, n), holders))
    last = softmax_cost(holders, rows, n) if name == "softmax" else log_of_sum_cost(holders, rows, 1 << 16)
    assert cost == largest + quotients_cost(holders, rows, n) + last
    assert cost.rounds - largest.rounds == (13 if name == "softmax" else 12)


def test_costs_depend_on_no_value():
    for name in FUNCTIONS:
        costs = [
            cost_of(FUNCTIONS[name], encrypted(values))[0]
            for values in (torch.zeros(5, 4), logits(5, 4, 2.0**29), torch.eye(5)[:, :4] * 100)
        ]
        assert costs[0] == costs[1] == costs[2]


def test_the_derivative_of_log_softmax_takes_no_other_maximum():
    x = encrypted(torch.randn(16, 10)).requires_grad_(True)
    out = torch.log_softmax(x, 1)
    weights = torch.randn(16, 10)
    with sy.ledger() as kept:
        cost, _ = cost_of(lambda x: (out * weights).sum().backward(), x)
    assert "compare" not in kept.causes
    assert cost.rounds <= 5


# --- losses ----------------------------------------------------------------------------


def test_cross_entropy_of_public_and_of_secret_targets():
    x = encrypted(3 * torch.randn(12, 5)).requires_grad_(True)
    classes = torch.randint(0, 5, (12,))
    hot = F.one_hot(classes, 5).float()
    for target in (classes, hot, encrypted(hot)):
        twin = plain(x.detach()).requires_grad_(True)
        x.grad = None
        loss = F.cross_entropy(x, target)
        expected = F.cross_entropy(twin, classes)
        loss.backward()
        expected.backward()
        assert abs(float(plain(loss.detach())) - float(expected.detach())) < 3 * STEP
        assert torch.allclose(plain(x.grad), twin.grad, atol=4 * STEP, rtol=0)


@pytest.mark.parametrize("secret", [False, True], ids=["public classes", "secret classes"])
def test_a_classifier_trains_as_in_plain_torch(secret):
    model = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 4))
    x, classes = torch.randn(16, 6), torch.randint(0, 4, (16,))
    net, twin = sy.encrypt(model, parties()), double_twin(model)
    a = encrypted(x)
    u = plain(a)
    target = encrypted(F.one_hot(classes, 4).float()) if secret else classes
    optimizers = [torch.optim.SGD(each.parameters(), lr=0.2, momentum=0.9) for each in (net, twin)]
    for _ in range(10):
        losses = []
        for each, optimizer, given, wanted in zip((net, twin), optimizers, (a, u), (target, classes), strict=True):
            optimizer.zero_grad()
            loss = F.cross_entropy(each(given), wanted)
            loss.backward()
            optimizer.step()
            losses.append(loss.detach())
        assert abs(float(plain(losses[0])) - float(losses[1])) < 2.0**-9
    for mine, theirs in zip(net.parameters(), twin.parameters(), strict=True):
        assert float((plain(mine) - theirs.detach()).abs().max()) < 2.0**-7


def test_dtypes():
    x = encrypted(torch.randn(3, 4))
    assert torch.ops.aten._safe_softmax(x, 1, torch.float64).dtype == torch.float64
    assert torch.softmax(x, 1, dtype=torch.float64).dtype == torch.float64
    with pytest.raises(NotImplementedError, match="half to float"):
        torch._softmax(x, 1, True)
