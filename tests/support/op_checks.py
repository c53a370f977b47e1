"""`check_op`: an operation on secrets equals torch's, in value and gradient.

The oracle is torch in float64 on the values that the encoding stands for, so that what
is left is the error of the operation, counted in steps of the encoding.
"""

import torch
from twins import opened

import pysmpc as sy
from pysmpc.fixedpoint import BINARY16, Precision, decode, encode

DECIMAL3 = Precision(10, 3)
ENCODINGS = {"binary": BINARY16, "decimal": DECIMAL3}
_parties = {}


def parties(n=2):
    """Some parties to share among; sessions are reused."""
    if n not in _parties:
        _parties[n] = sy.virtual(*(f"holder{i}" for i in range(n)))
    return _parties[n]


def encrypted(values, n=2, precision=BINARY16):
    """A secret of a real tensor with a precision."""
    if precision is BINARY16:
        return sy.encrypt(values, parties(n))
    return sy.encrypt(values, parties(n), precision_fractional=precision.digits, base=precision.base)


def represented(values, precision):
    """What the encoding makes of real values, in float64."""
    return decode(encode(values, precision), precision.scale) if values.is_floating_point() else values


def uniform(shape, low, high):
    return low + (high - low) * torch.rand(shape, dtype=torch.float64)


def strided(values, precision, n):
    """(secret, twin) that are windows on something larger: transposed, every other column."""
    if values.dim() < 2:
        wide = torch.stack([values, values + 1], -1)
        return encrypted(wide, n, precision)[..., 0], represented(wide, precision)[..., 0]
    wide = torch.zeros(*values.shape[:-2], values.shape[-1], 2 * values.shape[-2], dtype=values.dtype)
    wide[..., ::2] = values.transpose(-1, -2)
    secret, twin = encrypted(wide, n, precision), represented(wide, precision)
    return secret[..., ::2].transpose(-1, -2), twin[..., ::2].transpose(-1, -2)


def dense(values, precision, n):
    return encrypted(values, n, precision), represented(values, precision)


RUNS = [("binary", 2, dense), ("binary", 2, strided), ("decimal", 2, dense)]


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
    runs = [(shape, *run) for shape in shapes for run in RUNS]
    runs.append((shapes[0], "binary", 3, dense))
    for shape, encoding, n, layout in runs:
        many = list(shape) if isinstance(shape, list) else [shape]
        precision = ENCODINGS[encoding]
        given = [values(s) if values else uniform(s, low, high) for s in many]
        what = f"{encoding}, {n} holders, {layout.__name__}, {shape}"
        secrets, twins = zip(*(layout(v, precision, n) for v in given), strict=True)
        _check(fn, secrets, twins, precision, steps, grad_steps or steps, rtol, grad, what)


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
