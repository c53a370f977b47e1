"""Losses of secret classes: a class is made a one-hot vector by comparisons, once for loss and gradient.

Rounds: four for the vector, one to choose by it; 24.5 bytes for each class of an example.  Means divide by the number
of examples that count, or by the sum of their weights, which are secret as well: an example of `ignore_index` counts
as nothing, and so does one whose class does not exist, for which torch raises.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import torch
from torch._decomp import decomposition_table

from pysmpc.mpc.functions.known_values import known_of
from pysmpc.mpc.functions.normaliser import reciprocal_fast
from pysmpc.ops.core import FACTOR, aten, result, session_of, window
from pysmpc.ops.decompositions import composes
from pysmpc.ops.divisions import div
from pysmpc.ops.dropout import LIBRARY
from pysmpc.ops.registering import implements
from pysmpc.ops.scales import times
from pysmpc.tensor.secret import SecretTensor

#: A number of examples up to this is divided by with a table.
COUNTED = 1 << 12

LIBRARY.define("divide_by_count(Tensor x, Tensor count, int most) -> Tensor")
LIBRARY.define("divide_by_sum(Tensor x, Tensor sum) -> Tensor")
LIBRARY.define("weigh(Tensor bits, Tensor x) -> Tensor")
_divide_by_count: Any = torch.ops.pysmpc.divide_by_count.default
_divide_by_sum: Any = torch.ops.pysmpc.divide_by_sum.default
_weigh: Any = torch.ops.pysmpc.weigh.default


@implements(_divide_by_count)
def divide_by_count(x: Any, count: SecretTensor, most: int) -> SecretTensor:
    """x over one secret whole number from 1 to `most`; two rounds, of many numbers ten."""
    if count.session.suite.count_reciprocals is None or most > COUNTED:
        return divide_by_sum(x, count)
    count = result(count.window(), count.session, count.unit, count.dtype)
    count.cell.body.most = most
    return div(_with_room(x), count)


def _with_room(x: Any) -> Any:
    """x, rounded if it is so fine that a product with an inverse, as fine as both together, has no room."""
    if isinstance(x, SecretTensor):
        x.cell.settle(FACTOR)
    return x


@implements(_divide_by_sum)
def divide_by_sum(x: Any, total: SecretTensor) -> SecretTensor:
    """x over one secret number, to 2^-17 of it; 0 over 0.  Ten rounds, the first time."""
    session, unit = total.session, total.unit
    total.cell.settle()
    share, kept = total.window(), known_of(total.cell.body).kept
    scale = max(unit.scale, 1 << 16)
    key = "inverse", share.layout
    if key not in kept:
        kept[key] = reciprocal_fast(session.suite, session.party, share, scale * FACTOR)
    inverse = result(kept[key].at(scale * FACTOR), session, unit if unit.scale > 1 else x.unit, x.dtype)
    return _with_room(x) * inverse.reshape(total.shape)


@implements(_weigh)
def weigh(bits: SecretTensor, x: Any) -> SecretTensor:
    """bits * x, as fine as x: not rounded as a choice by the bits would be.  One round."""
    session = session_of(bits)
    if not isinstance(x, SecretTensor) or x.session.plain:
        return bits.to(torch.int64) * x
    shape = torch.broadcast_shapes(bits.shape, x.shape)
    shares = (window(each, 1 << 24).expand(shape) for each in (bits, x))
    return result(session.arithmetic.mul(session.party, *shares), session, x.unit, x.dtype)


def one_hot(target: SecretTensor, classes: int, dim: int) -> Any:
    """Which class it is, as bits along a new dimension; none for what is no class.  Four rounds, the first time."""
    kept = known_of(target.cell.body).kept
    key = "one hot", target.window().layout, classes, dim
    if key not in kept:
        places = torch.arange(classes).reshape([classes] + [1] * (target.dim() - dim))
        kept[key] = target.unsqueeze(dim) == places
    return kept[key]


def _chosen(x: Any, target: SecretTensor, ignore: int) -> tuple[Any, int]:
    """(Bits of x's shape, the dimension of classes)."""
    dim = 1 if x.dim() > 1 else 0
    own = one_hot(target, x.shape[dim], dim)
    if 0 <= ignore < x.shape[dim]:
        keep = torch.arange(x.shape[dim]).reshape([-1] + [1] * (x.dim() - dim - 1)) != ignore
        own = own & keep
    return own, dim


def _along(weight: Any, x: Any, dim: int) -> Any:
    return weight.reshape([-1] + [1] * (x.dim() - dim - 1))


def _nll_forward(x: Any, target: Any, weight: Any, reduction: int, ignore_index: int) -> tuple[Any, Any]:
    """(The loss, by what a mean of it was divided)."""
    own, dim = _chosen(x, target, ignore_index)
    weighted = x if weight is None else x * _along(weight, x, dim)
    losses = -(weighted * own).sum(dim)
    nothing = torch.zeros((), dtype=x.dtype)
    if reduction != 1:
        return losses.sum() if reduction else losses, nothing
    total = own.to(torch.int64).sum() if weight is None else _weights(own, weight, x, dim)
    return _over(losses.sum(), total, weight, losses.numel()), total


def _weights(own: SecretTensor, weight: Any, x: Any, dim: int) -> SecretTensor:
    return (own.to(torch.int64) * _along(weight, x, dim)).sum()


def weights_of_classes(x: Any, target: SecretTensor, weight: Any, ignore_index: int) -> SecretTensor:
    """The sum of the weights of all examples' classes, for x with a dimension of classes; a round."""
    own, dim = _chosen(x, target, ignore_index)
    return _weights(own, weight, x, dim)


def _over(x: Any, total: SecretTensor, weight: Any, most: int) -> Any:
    return _divide_by_count(x, total, most) if weight is None else _divide_by_sum(x, total)


def _nll_backward(
    grad: Any, x: Any, target: Any, weight: Any, reduction: int, ignore_index: int, total: Any
) -> SecretTensor:
    own, dim = _chosen(x, target, ignore_index)
    slope = _over(grad, total, weight, target.numel()) if reduction == 1 else grad
    if reduction == 0 and x.dim() > 1:
        slope = slope.unsqueeze(dim)
    if weight is not None:
        slope = slope * _along(weight, x, dim)
    return _weigh(own, -slope)


def _classified(function: Any, of_secrets: Any) -> None:
    """A loss of torch: as torch decomposes it for public classes."""
    way = decomposition_table[function]

    @composes(function)
    def loss(x: Any, target: Any, *more: Any, **named: Any) -> Any:
        return (of_secrets if isinstance(target, SecretTensor) else way)(x, target, *more, **named)

    @composes(_BACKWARD[function])
    def backward(grad: Any, x: Any, target: Any, *more: Any, **named: Any) -> Any:
        way = _nll_backward if isinstance(target, SecretTensor) else decomposition_table[_BACKWARD[function]]
        return way(grad, x, target, *more, **named)


_BACKWARD = {
    aten.nll_loss_forward.default: aten.nll_loss_backward.default,
    aten.nll_loss2d_forward.default: aten.nll_loss2d_backward.default,
}
for _function in _BACKWARD:
    _classified(_function, _nll_forward)


# --- margins of several classes ----------------------------------------------------------


def _gaps(x: Any, target: SecretTensor, margin: Any) -> tuple[SecretTensor, Any]:
    """(Bits of the classes, margin - x[class] + x)."""
    rows = x.reshape(-1, x.shape[-1]) if x.dim() else x.reshape(1, 1)
    own = one_hot(target.reshape(-1), rows.shape[1], 1)
    return own, rows - (rows * own).sum(1, keepdim=True) + margin


@composes(aten.multi_margin_loss.default)
def multi_margin_loss(x: Any, target: Any, p: Any = 1, margin: Any = 1, weight: Any = None, reduction: int = 1) -> Any:
    """The mean over classes of max(0, margin - x[class] + x)^p, without the class itself."""
    if not isinstance(target, SecretTensor):
        found = decomposition_table[aten.multi_margin_loss.default](x, target, p, margin, weight, reduction)
        return found if x.dim() > 1 else found.reshape(())  # which torch's own table forgets
    own, gap = _gaps(x, target, margin)
    part = torch.relu(gap) * ~own
    part = part * part if p == 2 else part
    if weight is not None:
        part = part * (own.to(torch.int64) * weight).sum(1, keepdim=True)
    losses = part.mean(1)
    if reduction == 0:
        return losses if x.dim() > 1 else losses.reshape(())
    return losses.mean() if reduction == 1 else losses.sum()


def multi_margin_slope(
    grad: Any, x: Any, target: SecretTensor, p: Any, margin: Any, weight: Any, reduction: int
) -> SecretTensor:
    """The gradient of `multi_margin_loss` for secret classes.  One comparison, and choices."""
    own, gap = _gaps(x, target, margin)
    part = torch.relu(gap) * 2 if p == 2 else (gap > 0).to(x.dtype)
    slope = part * ~own
    if weight is not None:
        slope = slope * (own.to(torch.int64) * weight).sum(1, keepdim=True)
    slope = slope - weigh(own, slope.sum(1, keepdim=True))
    slope = times(slope, Fraction(1, gap.shape[1] * (gap.shape[0] if reduction == 1 else 1)))
    by = grad.reshape(-1, 1) if reduction == 0 and x.dim() > 1 else grad
    return (slope * by).reshape(x.shape)
