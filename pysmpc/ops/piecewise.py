"""Functions made of a few straight pieces, beyond those that torch's decompositions reach."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import torch

from pysmpc.mpc.functions.known_values import known_of
from pysmpc.ops.arithmetic import add, mul, sub, with_unit
from pysmpc.ops.choosing import absolute, maximum, minimum
from pysmpc.ops.comparing import equal, less
from pysmpc.ops.core import aten, is_number
from pysmpc.ops.decompositions import composes
from pysmpc.ops.integers import floor
from pysmpc.ops.linear import REDUCTIONS
from pysmpc.ops.logic import logical_or
from pysmpc.ops.movement import clone
from pysmpc.ops.registering import implements
from pysmpc.ops.scales import times
from pysmpc.tensor.secret import SecretTensor


@implements(aten.hardshrink_backward.default, aten.softshrink_backward.default)
def shrink_backward(grad: Any, x: SecretTensor, lambd: Any) -> SecretTensor:
    """grad where |x| > lambd; the two bounds in one batch of comparisons, and two products."""
    outside = torch.stack([less(x, -lambd), less(lambd, x)])
    return mul(logical_or(outside[0], outside[1]), grad)


def _without_nan(y: Any) -> None:
    if isinstance(y, torch.Tensor) and not isinstance(y, SecretTensor) and bool(y.isnan().any()):
        raise NotImplementedError("fmax and fmin of a secret and NaN are not implemented; a secret is never NaN")


@implements(aten.fmax.default)
def fmax(x: Any, y: Any) -> SecretTensor:
    """The larger of two: as `maximum`, as no secret is NaN."""
    _without_nan(x)
    _without_nan(y)
    return maximum(x, y)


@implements(aten.fmin.default)
def fmin(x: Any, y: Any) -> SecretTensor:
    """The smaller of two: as `minimum`, as no secret is NaN."""
    _without_nan(x)
    _without_nan(y)
    return minimum(x, y)


@implements(aten.nan_to_num.default)
def nan_to_num(x: SecretTensor, nan: Any = None, posinf: Any = None, neginf: Any = None) -> SecretTensor:
    """x itself: no secret is NaN or infinite."""
    return clone(x)


@implements(aten.copysign.Tensor, aten.copysign.Scalar)
def copysign(x: Any, y: Any) -> SecretTensor:
    """|x| with the sign of y."""
    size = absolute(x) if isinstance(x, SecretTensor) else x.abs()
    if isinstance(y, SecretTensor):
        return mul(size, sub(1, mul(less(y, 0).to(torch.int64), 2)))
    if is_number(y):
        return mul(size, int(math.copysign(1, y)))
    return mul(size, torch.copysign(torch.ones(()), y).to(torch.int64))


@implements(aten.round.default)
def round_(x: SecretTensor) -> SecretTensor:
    """The nearest integer, of two as near the even one; as `floor`, 16 rounds."""
    if not x.dtype.is_floating_point:
        return clone(x)
    raised = add(x, Fraction(1, 2))
    below = floor(raised)
    odd = sub(below, mul(floor(times(below, Fraction(1, 2))), 2))
    tie = equal(raised, below)
    return sub(below, mul(odd, tie.to(torch.int64))).to(x.dtype)


@implements(aten.round.decimals)
def round_decimals(x: SecretTensor, *, decimals: int) -> SecretTensor:
    """The nearest multiple of 10^-decimals, as `round_`."""
    by = Fraction(10) ** decimals
    return times(round_(times(x, by)), 1 / by)


@implements(aten.angle.default)
def angle(x: SecretTensor) -> SecretTensor:
    """0, and pi where x is negative."""
    if not x.dtype.is_floating_point:
        x = with_unit(x, torch.get_default_dtype())
    return mul(less(x, 0).to(x.dtype), math.pi)


# --- torch's own formulas compute every piece on all of x, where those that are not chosen may leave the ring ------


def _pieces(x: SecretTensor) -> tuple[SecretTensor, SecretTensor]:
    """max(x, 0) and min(x, 0), found once for a value."""
    known, key = known_of(x.window().body).kept, ("pieces", x.window().layout)
    if key not in known:
        above = torch.relu(x.detach())
        known[key] = above, x.detach() - above
    above, below = known[key]
    return above, below


@composes(aten.elu.default)
def elu(x: SecretTensor, alpha: Any = 1, scale: Any = 1, input_scale: Any = 1) -> Any:
    """scale times x, or alpha (e^(input_scale x) - 1) below 0."""
    above, below = _pieces(x)
    return above * scale + torch.expm1(below * input_scale) * (alpha * scale)


@composes(aten.elu_backward.default)
def elu_backward(grad: Any, alpha: Any, scale: Any, input_scale: Any, is_result: bool, x: SecretTensor) -> Any:
    """grad times scale, or alpha scale input_scale e^(input_scale x) below 0, which the result tells as well."""
    above, below = _pieces(x)
    steep = below + alpha * scale if is_result else torch.exp(below * input_scale) * (alpha * scale)
    slope, more = steep * input_scale, scale - alpha * scale * input_scale
    if more != 0:  # by that much steeper above 0
        slope = slope + aten.threshold_backward.default(torch.full(x.shape, more, dtype=x.dtype), above, 0)
    return slope * grad


@composes(aten.smooth_l1_loss.default)
def smooth_l1_loss(x: Any, target: Any, reduction: int = 1, beta: float = 1.0) -> Any:
    """m (|x - target| - m / 2) / beta, where m is |x - target|, but beta at most."""
    size = (x - target).abs()
    if beta == 0:
        return REDUCTIONS[reduction](size)
    near = size - torch.relu(size - beta)
    return REDUCTIONS[reduction](near * (size - near / 2) / beta)


@composes(aten.huber_loss.default)
def huber_loss(x: Any, target: Any, reduction: int = 1, delta: float = 1.0) -> Any:
    """delta times `smooth_l1_loss`."""
    return smooth_l1_loss(x, target, reduction, delta) * delta
