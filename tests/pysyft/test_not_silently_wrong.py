"""What PySyft 0.2.9 computed wrongly without a word: here it is right, or it raises.

Each case runs on secrets through the documents' verbs and is compared with torch: the
value, and, where it is differentiable, the gradients.  Cases that are not implemented
yet must raise NotImplementedError; nothing else passes.
"""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import pysmpc as sy
from pysmpc.errors import EncodingError, RevealError

ATOL = 0.02
DIGITS = 4


def right_or_raises(secret, opened, function, *values, atol=ATOL, gradients=True):
    """function on secrets equals function on plain tensors, and so do the gradients; or it is refused."""
    plain = [v.clone().requires_grad_(gradients and v.is_floating_point()) for v in values]
    shared = [secret(v, DIGITS, gradients and v.is_floating_point()) for v in values]
    expected = function(*plain)
    try:
        result = function(*shared)
    except NotImplementedError as refusal:
        assert len(str(refusal)) > 20  # noqa: PT017
        return
    assert result.shape == expected.shape
    assert torch.allclose(opened(result).float(), expected.detach().float(), atol=atol), "the value is wrong"
    if not gradients:
        return
    assert result.requires_grad, "the graph is cut"
    weights = torch.linspace(-1, 1, expected.numel()).reshape(expected.shape).round(decimals=2)
    (expected * weights).sum().backward()
    try:
        (result * weights).sum().backward()
    except NotImplementedError:
        return
    for mine, theirs in zip(shared, plain, strict=True):
        if theirs.grad is not None:
            assert mine.grad is not None, "the graph is cut"
            assert torch.allclose(opened(mine.grad), theirs.grad, atol=atol), "a gradient is wrong"


def real(*shape):
    """Values that are no multiples of anything, some negative, none near zero."""
    magnitude = 0.5 + 2 * torch.rand(*shape)
    return (magnitude * torch.where(torch.rand(*shape) < 0.5, -1.0, 1.0)).mul(1000).round() / 1000


def conv(layer, *shape):
    """A layer with secret parameters, as a function of x and its parameters."""
    names = [name for name, _ in layer.named_parameters()]
    values = [p.detach().clone() for p in layer.parameters()]
    return (
        lambda x, *ps: torch.func.functional_call(layer, dict(zip(names, ps, strict=True)), x),
        real(*shape),
        *values,
    )


POSITIVE = torch.tensor([0.5, 0.9, 1.7, 3.0, 12.5])

WRONG = {
    "0.5 * x": (lambda x: 0.5 * x, real(4)),
    "1 / x": (lambda x: 1 / x, POSITIVE),
    "1 / x of negatives": (lambda x: 1 / x, -POSITIVE),
    "torch.bmm": (torch.bmm, real(2, 3, 4), real(2, 4, 2)),
    "torch.outer": (torch.outer, real(3), real(4)),
    "torch.ger": (torch.ger, real(3), real(4)),
    "prod": (lambda x: x.prod(), real(4)),
    "prod of a dimension": (lambda x: x.prod(dim=1), real(2, 3)),
    "torch.relu": (torch.relu, real(6)),
    "abs": (torch.abs, real(6)),
    "clamp": (lambda x: x.clamp(-1, 1.25), real(6)),
    "clamp from below": (lambda x: x.clamp(min=0.75), real(6)),
    "max_pool2d with a kernel of 3": (lambda x: F.max_pool2d(x, 3), real(1, 1, 6, 6)),
    "max_pool2d with padding of negatives": (lambda x: F.max_pool2d(x, 2, padding=1), -real(1, 1, 4, 4).abs()),
    "conv_transpose2d": (F.conv_transpose2d, real(1, 2, 3, 3), real(2, 1, 2, 2)),
    "nn.Conv1d": conv(nn.Conv1d(2, 3, 2), 1, 2, 5),
    "nn.ConvTranspose2d": conv(nn.ConvTranspose2d(2, 1, 2), 1, 2, 3, 3),
}

CUT = {
    "x * y with broadcast": (torch.mul, real(3, 1), real(1, 2)),
    "x + 0.5": (lambda x: x + 0.5, real(3)),
    "1 - x": (lambda x: 1 - x, real(3)),
    "x / y": (torch.div, real(5), POSITIVE),
    "dot": (torch.dot, real(4), real(4)),
    "x * 0.5": (lambda x: x * 0.5, real(3)),
    "x / 0.5": (lambda x: x / 0.5, real(3)),
    "2d @ 1d": (torch.matmul, real(2, 3), real(3)),
    "3d @ 3d": (torch.matmul, real(2, 2, 3), real(2, 3, 2)),
    "einsum": (lambda x, y: torch.einsum("ij,kj->ik", x, y), real(2, 3), real(4, 3)),
    "mean(0)": (lambda x: x.mean(0), real(3, 2)),
    "mean(dim=1)": (lambda x: x.mean(dim=1), real(3, 2)),
    "sum(dim=0)": (lambda x: x.sum(dim=0), real(3, 2)),
    "sum(1)": (lambda x: x.sum(1), real(3, 2)),
    "cumsum": (lambda x: x.cumsum(0), real(4)),
    "max": (lambda x: x.max(), real(5)),
    "min of a dimension": (lambda x: x.min(dim=1).values, real(3, 4)),
    "median": (lambda x: x.median(), real(5)),
    "transpose": (lambda x: x.transpose(0, 1), real(2, 3)),
    "permute": (lambda x: x.permute(2, 0, 1), real(2, 3, 2)),
    "view": (lambda x: x.view(3, 2), real(2, 3)),
    "reshape": (lambda x: x.t().reshape(-1), real(2, 3)),
    "flatten": (lambda x: x.flatten(), real(2, 3)),
    "unsqueeze": (lambda x: x.unsqueeze(1).squeeze(0), real(1, 3)),
    "expand": (lambda x: x.expand(4, 3), real(1, 3)),
    "repeat": (lambda x: x.repeat(2, 3), real(2, 3)),
    "cat": (lambda x, y: torch.cat([x, y], 1), real(2, 3), real(2, 1)),
    "stack": (lambda x, y: torch.stack([x, y]), real(2), real(2)),
    "chunk": (lambda x: x.chunk(2)[1], real(4)),
    "split": (lambda x: x.split(3)[0], real(4)),
    "unbind": (lambda x: x.unbind(1)[2], real(2, 3)),
    "roll": (lambda x: x.roll(1), real(4)),
    "flip": (lambda x: x.flip(0), real(4)),
    "tril": (lambda x: x.tril(), real(3, 3)),
    "diag": (lambda x: x.diag(), real(3, 3)),
    "pad": (lambda x: F.pad(x, (1, 2)), real(2, 3)),
    "index": (lambda x: x[1], real(3, 2)),
    "slice": (lambda x: x[..., ::2], real(2, 4)),
    "list index": (lambda x: x[[2, 0]], real(3, 2)),
    "index_select": (lambda x: x.index_select(0, torch.tensor([1, 1])), real(3, 2)),
    "gather": (lambda x: x.gather(1, torch.tensor([[1], [0]])), real(2, 2)),
    "masked_fill": (lambda x: x.masked_fill(torch.tensor([True, False]), 2.0), real(2)),
    "where": (lambda x, y: torch.where(x > y, x, y), real(4), real(4)),
    "conv2d": conv(nn.Conv2d(1, 2, 3, stride=2, padding=1), 1, 1, 5, 5),
    "max_pool2d": (lambda x: F.max_pool2d(x, 2), real(1, 2, 4, 4)),
    "avg_pool2d": (lambda x: F.avg_pool2d(x, 2), real(1, 2, 4, 4)),
    "adaptive_avg_pool2d": (lambda x: F.adaptive_avg_pool2d(x, 1), real(1, 2, 4, 4)),
    "linear": (F.linear, real(2, 3), real(4, 3), real(4)),
    "mse_loss": (F.mse_loss, real(2, 3), real(2, 3)),
    "l1_loss": (F.l1_loss, real(2, 3), real(2, 3)),
    "var": (lambda x: x.var(), real(6)),
    "var, biased": (lambda x: x.var(unbiased=False), real(6)),
    "leaky_relu": (lambda x: F.leaky_relu(x, 0.25), real(6)),
    "hardtanh": (F.hardtanh, real(6)),
    "relu6": (lambda x: F.relu6(4 * x), real(6)),
    "exp": (torch.exp, torch.tensor([-1.0, 0.5, 2.0])),
    "log": (torch.log, POSITIVE),
    "sqrt": (torch.sqrt, POSITIVE),
    "sigmoid": (torch.sigmoid, real(2, 3)),
    "tanh": (torch.tanh, real(2, 3)),
    "softmax": (lambda x: x.softmax(1), real(2, 3)),
    "gelu": (F.gelu, real(4)),
    "norm": (lambda x: x.norm(), real(4)),
    "std": (lambda x: x.std(), real(4)),
    "inverse": (torch.inverse, torch.eye(2) * 2 + 0.25),
    "matrix power": (lambda x: torch.linalg.matrix_power(x, 2), real(2, 2)),
    "x ** 0.5": (lambda x: x**0.5, POSITIVE),
    "x % 2": (lambda x: x % 2, real(4)),
    "floor division": (lambda x: torch.div(x, 2, rounding_mode="floor"), real(4)),
    "round": (torch.round, real(4)),
}

PUBLIC = {
    "x > 0.5": lambda x: x > 0.5,
    "x < y of itself": lambda x: x < x.flip(0),
    "x != y": lambda x: x != x.flip(0),
    "x == 1.5": lambda x: x == 1.5,
    "sign": torch.sign,
    "argmax": lambda x: x.argmax(),
    "argmin": lambda x: x.argmin(),
    "argmax of a dimension": lambda x: x.view(2, 3).argmax(dim=1, keepdim=True),
    "topk": lambda x: x.topk(2).values,
    "sort": lambda x: x.sort().values,
    "torch.max of two": lambda x: torch.max(x, x.flip(0)),
    "any": lambda x: (x > 1).any(),
    "all": lambda x: (x > -9).all(),
    "bucketize": lambda x: torch.bucketize(x, torch.tensor([0.0, 1.0])),
}


@pytest.mark.parametrize("name", WRONG)
def test_the_wrong_column(secret, opened, name):
    right_or_raises(secret, opened, *WRONG[name])


@pytest.mark.parametrize("name", CUT)
def test_values_and_gradients(secret, opened, name):
    right_or_raises(secret, opened, *CUT[name])


@pytest.mark.parametrize("name", PUBLIC)
def test_decisions(secret, opened, name):
    x = torch.tensor([1.5, -0.25, 0.5, 0.75, -3.0, 1.25])
    right_or_raises(secret, opened, PUBLIC[name], x, atol=0, gradients=False)


@pytest.mark.parametrize("function", [torch.argmax, torch.argmin, torch.max, torch.min])
def test_ties(secret, opened, function):
    x = torch.tensor([2.0, 3.0, -1.0, 3.0, -1.0])
    assert opened(function(secret(x))) == function(x)
    assert torch.equal(opened(secret(x.view(1, 5)).argmax(dim=1)), x.view(1, 5).argmax(dim=1))


def test_comparison_of_large_values(secret, opened):
    """Function secret sharing on 32 bits was wrong with probability |x| / 2**32."""
    x = torch.randint(-(2**51), 2**51, (4096,)).double() / 1024
    assert torch.equal(opened(secret(x) >= 0), (x >= 0).float())


def test_reciprocal_is_not_a_matter_of_luck(secret, opened):
    x = torch.linspace(0.1, 20, 500)
    for _ in range(3):
        assert torch.allclose(opened(1 / secret(x, 3)), 1 / x, atol=0.03, rtol=0.01)


def test_division_of_negatives_by_a_public_number(secret, opened):
    x = torch.arange(-2000, 2000) / 1000
    assert torch.allclose(opened(secret(x) / 7), x / 7, atol=0.0021)


def test_three_workers_multiply_and_compare(alice, bob, charlie, james):
    x, y = real(50), real(50)
    sx, sy = (v.fix_precision().share(alice, bob, charlie, crypto_provider=james) for v in (x, y))
    assert torch.allclose((sx * sy).get().float_precision(), x * y, atol=0.01)
    assert torch.equal((sx > sy).get(), x > y)


def test_a_diamond_is_walked_once(secret, opened):
    """Gradients were recursive: k paths to a node took k walks."""
    x = secret(torch.tensor([0.5]), DIGITS, True)
    y = x
    for _ in range(24):
        y = (y + y) * 0.5
    y.sum().backward()
    assert opened(x.grad).item() == pytest.approx(1, abs=0.01)


def test_a_small_network_with_views_trains(secret, opened, alice, bob, james):
    """view, cat and indexing in the middle of a network cut its graph."""

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 2)

        def forward(self, x):
            h = torch.relu(self.first(x.view(-1, 4)))
            return self.second(torch.cat([h[:, 2:], h[:, :2]], dim=1))

    model, x = Net(), real(6, 2, 2)
    (model(x) ** 2).mean().backward()
    expected = {name: p.grad.clone() for name, p in model.named_parameters()}
    model.zero_grad()
    model.fix_precision(DIGITS).share(alice, bob, crypto_provider=james, requires_grad=True)
    (model(secret(x, DIGITS)) ** 2).mean().backward()
    for name, parameter in model.named_parameters():
        assert torch.allclose(opened(parameter.grad), expected[name], atol=ATOL), name


@pytest.mark.parametrize("factor", [float("nan"), float("inf")])
def test_public_numbers_that_are_none(secret, factor):
    x = secret(real(2))
    for use in (lambda: x * factor, lambda: x + factor, lambda: x + torch.tensor([factor, 1.0])):
        with pytest.raises(EncodingError):
            use()


def test_division_by_zero(secret):
    x = secret(real(2))
    with pytest.raises(ZeroDivisionError):
        x / 0
    with pytest.raises(ZeroDivisionError):
        x / torch.tensor([1.0, 0.0])


def test_secret_masks_do_not_show_positions(secret):
    x = secret(real(3))
    with pytest.raises((RevealError, NotImplementedError)):
        x[x > 0]


@pytest.mark.parametrize(
    "unknown",
    [
        torch.digamma,
        torch.erfinv,
        torch.lgamma,
        torch.special.i0,
        lambda x: torch.linalg.eigvals(x.view(2, 2)),
        torch.bernoulli,
    ],
)
def test_an_operation_nobody_implemented_raises_with_its_name(secret, unknown):
    with pytest.raises(NotImplementedError, match=r"aten\.\w+"):
        unknown(secret(real(4)))


def test_what_reads_memory_says_so():
    plain, secret = torch.ones(3), sy.encrypt(torch.ones(3), sy.virtual("alice", "bob"))
    with pytest.raises(RevealError, match="bind the name to the secret"):
        plain.data = secret
    assert plain.tolist() == [1, 1, 1]
    plain.data = torch.zeros(2)
    assert plain.data.tolist() == [0, 0]
    with pytest.raises(RevealError, match="DLPack"):
        torch.utils.dlpack.to_dlpack(secret)
    assert torch.utils.dlpack.from_dlpack(torch.utils.dlpack.to_dlpack(plain)).tolist() == [0, 0]


def test_truth_values_in_place():
    a, b = torch.tensor([1.0, -2.0, 3.0, 0.0]), torch.tensor([1.0, 2.0, -3.0, 0.5])
    parties = sy.virtual("alice", "bob")
    x, y = sy.encrypt(a, parties), sy.encrypt(b, parties)

    def run(p, q):
        out = p == q
        out |= (p > 0).__iand__(q > 0)
        out ^= p < 1
        out[1:3] = q[1:3] > 0
        return ~out

    assert torch.equal(sy.decrypt(run(x, y)), run(a, b))


def test_no_secret_is_infinite():
    parties = sy.virtual("alice", "bob")
    x, y = (sy.encrypt(torch.tensor([1.0, 2.0, end]), parties) for end in (3.0, 3.5))
    assert sy.decrypt(x == math.inf).tolist() == [False] * 3
    assert sy.decrypt(x != -math.inf).tolist() == [True] * 3
    assert sy.decrypt(torch.isclose(x, torch.tensor([1.0, 2.1, 3.0]))).tolist() == [True, False, True]
    assert sy.decrypt(torch.isclose(x, y)).tolist() == [True, True, False]
