"""Choices by secret truth values: where, relu, maxima of two, clamp, and their gradients."""

from __future__ import annotations

import math
from typing import Any

import torch

from pysmpc.mpc.functions.known_values import is_root, note_source
from pysmpc.ops.arithmetic import add, choose, mul, sub
from pysmpc.ops.comparing import both_signs, comparing, difference, in_order
from pysmpc.ops.core import aten, is_number, kept, like, promoted, result
from pysmpc.ops.infinite import is_infinite, masked, parted
from pysmpc.ops.movement import one_scale
from pysmpc.ops.operands import number, with_unit
from pysmpc.ops.registering import implements
from pysmpc.ops.scales import times
from pysmpc.ring.shares import MaskedBit, Share, broadcast, strides_in
from pysmpc.tensor.secret import SecretTensor


@implements(aten.relu.default)
def relu(x: SecretTensor) -> SecretTensor:
    """max(x, 0), and the truncation that x still owed, in four rounds.

    For |x| < 2^63 steps; where there is a truncation, for what that takes (2^62, less the divisor).
    """
    cell = x.cell
    by = cell.scale // cell.unit.scale if cell.scale > cell.unit.scale else 1
    flat, order = in_order(x)
    checks = cell.session.checks
    check = checks.truncation(flat, by) if checks is not None and by > 1 else None
    out = kept(x, comparing(cell.session).relu(cell.session.party, flat, by), check)
    return like(x, Share(out.body, x.shape, out.scale, strides_in(tuple(x.shape), order)))


def _slope(x: SecretTensor) -> MaskedBit | None:
    """Bits x > 0 that a ReLU left behind."""
    return x.cell.body.sign if x.window().order is not None else None


@implements(aten.threshold_backward.default)
def threshold_backward(grad: Any, x: SecretTensor, threshold: Any) -> SecretTensor:
    """grad where x > threshold: one round with the bits that the ReLU found."""
    bit = _slope(x) if threshold == 0 else None
    if bit is None:
        return mul(x > threshold, grad)
    _, order = in_order(x)
    if isinstance(grad, SecretTensor) and grad.session is x.session:
        share = grad.window().expand(x.shape)
        flat = Share.of(share.words_in(order), (share.numel,), share.scale)
        checks = grad.session.checks
        out = choose(bit, flat if checks is None else checks.same(share, flat), grad)
        return like(grad, Share(out.body, x.shape, out.scale, strides_in(tuple(x.shape), order)))
    bits = x.session.suite.bit_share(x.session.party, bit, (x.numel(),))
    known = Share(bits.body, x.shape, 1, strides_in(tuple(x.shape), order))
    return mul(result(known, x.session, x.unit, torch.bool).to(x.dtype), grad)


def _branches(x: Any, y: Any) -> tuple[Any, Any, torch.dtype]:
    dtype = promoted(x, y)
    if isinstance(x, SecretTensor) or isinstance(y, SecretTensor):
        (x, y), dtype = one_scale([_tensor(x), _tensor(y)])
    return x, y, dtype


def _tensor(x: Any) -> torch.Tensor:
    return x if isinstance(x, torch.Tensor) else torch.tensor(x)


@implements(aten.where.self)
def where(condition: Any, x: Any, y: Any) -> SecretTensor:
    """x where the condition holds, y elsewhere."""
    if condition.dtype != torch.bool:
        raise RuntimeError(f"where takes a condition of dtype bool, not {condition.dtype}")
    if not isinstance(condition, SecretTensor):
        for one, other, chosen in ((x, y, condition), (y, x, ~condition)):
            if isinstance(other, SecretTensor) and not isinstance(one, SecretTensor) and is_infinite(one):
                finite, places = parted(one)
                return masked(where(condition, *((finite, y) if one is x else (x, finite))), chosen & places)
        a, b, _ = _branches(x, y)
        chosen = condition.to(torch.int64)
        return add(mul(a, chosen), mul(b, 1 - chosen))
    if _is_public(x) and _is_public(y) and not condition.session.plain:
        dtype = promoted(x, y)
        step = sub_plain(x, y)
        return add(mul(with_unit(condition, dtype), step), y)
    a, b, dtype = _branches(x, y)
    shape = broadcast(condition.shape, a.shape, b.shape)
    return add(mul(condition.expand(shape), sub(a, b)), b)


def _is_public(x: Any) -> bool:
    """Whether everybody knows x: a plain tensor or number, or fixed point that nobody shares."""
    return not isinstance(x, SecretTensor) or x.session.plain


def sub_plain(x: Any, y: Any) -> torch.Tensor:
    """x - y of public branches."""
    return _tensor(x) - _tensor(y)


@implements(aten.where.ScalarOther)
def where_other(condition: Any, x: Any, y: Any) -> SecretTensor:
    """where with a number for the second branch."""
    return mul(condition, x) if y == 0 else where(condition, x, torch.tensor(y, dtype=x.dtype))


@implements(aten.where.ScalarSelf)
def where_self(condition: Any, x: Any, y: Any) -> SecretTensor:
    """where with a number for the first branch."""
    return where(condition, torch.tensor(x, dtype=y.dtype), y)


@implements(aten.abs.default)
def absolute(x: SecretTensor) -> SecretTensor:
    """|x| = 2 max(x, 0) - x, for |x| < 2^63 steps."""
    x.cell.settle()
    out = sub(times(relu(x), number(2)), x)
    note_source(out.window(), "abs", x.window())
    return out


@implements(aten.sgn.default, aten.sign.default)
def sign(x: SecretTensor) -> SecretTensor:
    """-1, 0 or 1, for |x| < 2^63 steps."""
    below, above = both_signs(x)
    return sub(above.to(x.dtype), below.to(x.dtype))


@implements(aten.maximum.default)
def maximum(x: Any, y: Any) -> SecretTensor:
    """The larger of two, for |x - y| < 2^63 steps; a public one is rounded to a step."""
    return add(relu(difference(x, y)), y)


@implements(aten.minimum.default)
def minimum(x: Any, y: Any) -> SecretTensor:
    """The smaller of two, as `maximum`."""
    return sub(x, relu(difference(x, y)))


def _is_root_above(x: SecretTensor, bound: Any) -> bool:
    """Whether x is a square root, and a bound encodes to what no square root is less than."""
    if isinstance(bound, SecretTensor) or not (is_number(bound) or bound.dim() == 0):
        return False
    return bool(x.dtype.is_floating_point and float(bound) * 2 * x.unit.scale < 1 and is_root(x.window()))


def _bounded(x: SecretTensor, bound: Any, sharp: Any) -> SecretTensor:
    if not isinstance(bound, torch.Tensor):
        bound = torch.tensor(bound, dtype=torch.int64 if isinstance(bound, int) else torch.float64)
    return sharp(x, bound)


@implements(aten.clamp.Tensor)
def clamp(x: SecretTensor, min: Any = None, max: Any = None) -> SecretTensor:
    """x within bounds, as `maximum` and `minimum`; an infinite one bounds nothing.

    A lower bound above 0 that is less than a step is a step, as what is bounded so will be divided by; where x is a
    square root, one of less than half a step bounds nothing.
    """
    out = x
    if min is not None and _is_root_above(x, min):
        min = None
    if min is not None and is_number(min) and x.dtype.is_floating_point and 0 < min < 1 / x.unit.scale:
        min = (1 + 2.0**-20) / x.unit.scale
    if min is not None and not (is_number(min) and min == -math.inf):
        out = _bounded(out, min, maximum)
    if max is not None and not (is_number(max) and max == math.inf):
        out = _bounded(out, max, minimum)
    return like(out, out.window(), promoted(x, *(b for b in (min, max) if b is not None)))


@implements(aten.hardtanh.default)
def hardtanh(x: SecretTensor, min_val: float = -1, max_val: float = 1) -> SecretTensor:
    """x within [min_val, max_val]."""
    return clamp(x, min_val, max_val)


@implements(aten.hardtanh_backward.default)
def hardtanh_backward(grad: Any, x: SecretTensor, min_val: float, max_val: float) -> SecretTensor:
    """grad where x is strictly between the bounds, which are taken exactly."""
    return mul(x > min_val, mul(x < max_val, grad))


implements(aten.clamp_min.Tensor)(lambda x, min: clamp(x, min=min))
implements(aten.clamp_max.Tensor)(lambda x, max: clamp(x, max=max))
