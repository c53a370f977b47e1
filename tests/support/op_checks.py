"""`check_op`: an operation on secrets equals torch's, in value and gradient.

The oracle is torch in float64 on the values that the encoding stands for, so that what
is left is the error of the operation, counted in steps of the encoding.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from twins import opened

import pysmpc as sy
from pysmpc.ring.fixedpoint import BINARY16, Precision, decode, encode

DECIMAL3 = Precision(10, 3)
ENCODINGS = {"binary": BINARY16, "decimal": DECIMAL3}
#: Options of `sy.encrypt` and `sy.virtual` for every suite but the default one.
SUITE_OPTIONS = {
    "fss": {"protocol": "fss"},
    "snn": {"protocol": "snn"},
    "nearest": {"rounding": "nearest"},
    "mac": {"integrity": "mac"},
}
_parties = {}


def parties(n=2):
    """Some parties to share among; sessions are reused."""
    if n not in _parties:
        _parties[n] = sy.virtual(*(f"holder{i}" for i in range(n)))
    return _parties[n]


def encrypted(values, n=2, precision=BINARY16, **options):
    """A secret of a real tensor with a precision; options: of `sy.encrypt`."""
    if precision is not BINARY16:
        options = {"precision_fractional": precision.digits, "base": precision.base, **options}
    return sy.encrypt(values, parties(n), **options)


def represented(values, precision):
    """What the encoding makes of real values, in float64."""
    return decode(encode(values, precision), precision.scale) if values.is_floating_point() else values


def uniform(shape, low, high):
    return low + (high - low) * torch.rand(shape, dtype=torch.float64)


def strided(values, precision, n, **options):
    """(secret, twin) that are windows on something larger: transposed, every other column."""
    if values.dim() < 2:
        wide = torch.stack([values, torch.ones_like(values)], -1)
        return encrypted(wide, n, precision, **options)[..., 0], represented(wide, precision)[..., 0]
    wide = torch.zeros(*values.shape[:-2], values.shape[-1], 2 * values.shape[-2], dtype=values.dtype)
    wide[..., ::2] = values.transpose(-1, -2)
    secret, twin = encrypted(wide, n, precision, **options), represented(wide, precision)
    return secret[..., ::2].transpose(-1, -2), twin[..., ::2].transpose(-1, -2)


def dense(values, precision, n, **options):
    return encrypted(values, n, precision, **options), represented(values, precision)


@dataclass(frozen=True)
class Run:
    """How an operation is run: the encoding, the holders, where the operands lie, and the suite (options)."""

    name: str
    encoding: str = "binary"
    holders: int = 2
    layout: Callable = dense
    options: dict = field(default_factory=dict)

    @property
    def precision(self):
        return ENCODINGS[self.encoding]

    def operands(self, values, **options):
        """(secrets, twins) of plain values.  options: of `sy.encrypt`, beside the suite's."""
        pairs = [self.layout(v, self.precision, self.holders, **self.options, **options) for v in values]
        return zip(*pairs, strict=True)


RUNS = [Run("binary"), Run("windows", layout=strided), Run("decimal", encoding="decimal")]
THREE = Run("three-holders", holders=3)
SUITES = [Run(name, options=options) for name, options in SUITE_OPTIONS.items()]


def results(out):
    return [x for x in (out if isinstance(out, tuple | list) else [out]) if isinstance(x, torch.Tensor)]


def plain(x):
    """The value of a result, in float64 where it is real."""
    if not isinstance(x, sy.SecretTensor):
        return x.detach()
    return opened(x) if x.dtype.is_floating_point else sy.decrypt(x)


def assert_close(found, expected, steps, precision, rtol, what):
    assert tuple(found.shape) == tuple(expected.shape), (
        f"{what}: shape {tuple(found.shape)}, not {tuple(expected.shape)}"
    )
    if not expected.dtype.is_floating_point:
        assert found.dtype == expected.dtype, f"{what}: {found.dtype}, not {expected.dtype}"
        assert torch.equal(found, expected), f"{what}: {found} != {expected}"
        return
    assert found.dtype.is_floating_point, f"{what}: {found.dtype} where torch has {expected.dtype}"
    found, expected = found.double(), expected.detach()
    if found.numel():
        excess = (found - expected).abs() - rtol * expected.abs()
        worst = float(excess.max()) * precision.scale
        assert worst <= steps + 1e-6, f"{what}: off by {worst:.2f} steps of {1 / precision.scale:.3g} (allowed {steps})"


def check_op(
    fn, shapes=((3,), (2, 5), (0,), ()), low=-2.0, high=2.0, steps=1.0, grad_steps=None, rtol=0.0, grad=True,
    values=None,
):  # fmt: skip
    """fn of secrets equals fn of plain tensors.

    shapes: of one operand, or lists of shapes for several; values: makes operands of
    shapes instead.  steps, rtol: error allowed in units of the encoding, and relatively;
    grad_steps: in gradients; grad: whether to check them.

    Each shape runs in the binary and the decimal encoding, and on windows of something
    larger; the first of them also with three holders.
    """
    runs = [(shape, run) for shape in shapes for run in RUNS]
    for shape, run in [*runs, (shapes[0], THREE)]:
        check_run(fn, shape, run, low, high, steps, grad_steps, rtol, grad, values)


def operands(shape, low=-2.0, high=2.0, values=None):
    """Plain operands for a shape, or for a list of shapes."""
    many = shape if isinstance(shape, list) else [shape]
    return [values(s) if values else uniform(s, low, high) for s in many]


def check_run(
    fn, shape, run, low=-2.0, high=2.0, steps=1.0, grad_steps=None, rtol=0.0, grad=True, values=None, bounded=None
):  # fmt: skip
    """`check_op` for operands of one shape, run in one way.  bounded: of each operand."""
    secrets, twins = run.operands(operands(shape, low, high, values), bounded=bounded)
    what = f"{run.name}, {shape}"
    _check(fn, secrets, twins, run.precision, steps, grad_steps or steps, rtol, grad, what)


def _check(fn, secrets, twins, precision, steps, grad_steps, rtol, grad, what):
    secrets = [s.detach().requires_grad_(grad and s.dtype.is_floating_point) for s in secrets]
    twins = [t.detach().requires_grad_(grad and t.dtype.is_floating_point) for t in twins]
    before = [plain(s) for s in secrets]
    found, expected = results(fn(*secrets)), results(fn(*twins))
    assert len(found) == len(expected), what
    for mine, theirs in zip(found, expected, strict=True):
        assert isinstance(mine, sy.SecretTensor), f"{what}: the result is public"
        assert_close(plain(mine), theirs.detach(), steps, precision, rtol, what)
    for mine, value in zip(secrets, before, strict=True):
        assert torch.equal(plain(mine), value) or fn.__name__ == "in_place", f"{what}: an operand was changed"
    if not grad:
        return
    loss, twin_loss = 0, 0
    for mine, theirs in zip(found, expected, strict=True):
        if theirs.requires_grad:
            weights = represented(uniform(theirs.shape, -1, 1), precision)
            loss, twin_loss = (mine * weights).sum() + loss, (theirs * weights).sum() + twin_loss
    if not isinstance(loss, torch.Tensor):
        return
    loss.backward()
    twin_loss.backward()
    for i, (mine, theirs) in enumerate(zip(secrets, twins, strict=True)):
        assert (mine.grad is None) == (theirs.grad is None), f"{what}: gradient {i}"
        if theirs.grad is not None:
            assert_close(plain(mine.grad), theirs.grad, grad_steps, precision, rtol, f"{what}, gradient {i}")


def twins(net, **options):
    """The net on secrets, and in float64 with what the encoding makes of its weights."""
    secret = sy.encrypt(net, parties(), **options)
    twin = copy.deepcopy(net).double()
    with torch.no_grad():
        for a, b in zip(twin.parameters(), secret.parameters(), strict=True):
            a.copy_(plain(b.detach()))
    return secret, twin


def cost_of(work, *args):
    """(what a call sent and was dealt, its result), of secrets of one session."""
    stats = args[0].session.stats
    before = stats.copy()
    out = work(*args)
    return (stats - before).cost, out
