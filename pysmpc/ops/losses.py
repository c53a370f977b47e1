"""Losses of public classes: margins of several classes, whose gradients torch does not decompose."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import torch

from pysmpc.errors import RevealError
from pysmpc.ops.arithmetic import mul
from pysmpc.ops.classes import multi_margin_slope
from pysmpc.ops.core import aten
from pysmpc.ops.decompositions import composes
from pysmpc.ops.linear import REDUCTIONS
from pysmpc.ops.registering import implements
from pysmpc.ops.scales import times
from pysmpc.tensor.secret import SecretTensor


def _over_examples(x: SecretTensor, grad: Any, reduction: int) -> Any:
    """A loss's gradient, by example: [n, 1], or one number for all."""
    if reduction == 0:
        return grad.reshape(-1, 1) if x.dim() > 1 else grad
    return grad / x.shape[0] if reduction == 1 and x.dim() > 1 else grad


@implements(aten.multi_margin_loss_backward.default)
def multi_margin_loss_backward(
    grad: Any, x: SecretTensor, target: Any, p: Any, margin: Any, weight: Any = None, reduction: int = 1
) -> SecretTensor:
    """Of max(0, margin - x[target] + x[i])^p over the number of classes, for p = 1 or 2."""
    if isinstance(target, SecretTensor):
        return multi_margin_slope(grad, x, target, p, margin, weight, reduction)
    rows = x.reshape(-1, x.shape[-1]) if x.dim() else x.reshape(1, 1)
    classes = target.reshape(-1, 1)
    own = torch.zeros(rows.shape, dtype=torch.int64).scatter(1, classes, 1)
    gap = rows - rows.gather(1, classes) + margin
    part = mul((gap > 0).to(torch.int64), 1 - own)
    slope: Any = part if p == 1 else times(mul(torch.relu(gap), 1 - own), Fraction(2))
    if weight is not None:
        slope = mul(slope, weight[classes]) if not isinstance(weight, SecretTensor) else slope * weight.index_select(
            0, classes.reshape(-1)).unsqueeze(1)  # fmt: skip
    slope = times(slope.to(x.dtype), Fraction(1, rows.shape[-1]))
    slope = slope - mul(slope.sum(1, keepdim=True), own)
    return mul(slope, _over_examples(x, grad, reduction)).reshape(x.shape)


def _labels(rows: SecretTensor, target: Any) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """(classes [n, labels], 1 for those that count, 1 for the classes that are labels), up to the first -1."""
    if isinstance(target, SecretTensor):
        raise RevealError("multilabel_margin_loss takes public labels; secret ones would show which elements are read")
    labels = target.reshape(rows.shape)
    known = (labels >= 0).to(torch.int64).cumprod(1)
    classes = labels * known
    return classes, known, torch.zeros(rows.shape, dtype=torch.int64).scatter_reduce(1, classes, known, "amax")


def _gaps(rows: SecretTensor, classes: torch.Tensor) -> Any:
    """1 - x[label] + x[class], [n, labels, classes]."""
    return rows.unsqueeze(1) - rows.gather(1, classes).unsqueeze(2) + 1


@implements(aten.multilabel_margin_loss_forward.default)
def multilabel_margin_loss_forward(x: SecretTensor, target: Any, reduction: int) -> tuple[SecretTensor, torch.Tensor]:
    """The sum of max(0, 1 - x[j] + x[i]) over labels j and others i, over the number of classes; one ReLU.

    Labels are public.  (Torch's own decomposition also counts what follows the first -1.)
    """
    rows = x.reshape(-1, x.shape[-1]) if x.dim() else x.reshape(1, 1)
    classes, known, own = _labels(rows, target)
    part = mul(torch.relu(_gaps(rows, classes)), known.unsqueeze(2) * (1 - own).unsqueeze(1))
    losses = times(part.sum((1, 2)), Fraction(1, rows.shape[-1]))
    out = REDUCTIONS[reduction](losses if x.dim() > 1 or reduction else losses.reshape(()))
    return out, own.to(x.dtype).reshape(target.shape)


@implements(aten.multilabel_margin_loss_backward.default)
def multilabel_margin_loss_backward(
    grad: Any, x: SecretTensor, target: Any, reduction: int, is_target: Any
) -> SecretTensor:
    """The gradient of `multilabel_margin_loss_forward`; one comparison."""
    rows = x.reshape(-1, x.shape[-1]) if x.dim() else x.reshape(1, 1)
    classes, known, own = _labels(rows, target)
    active = mul((_gaps(rows, classes) > 0).to(torch.int64), known.unsqueeze(2) * (1 - own).unsqueeze(1))
    to_labels = torch.scatter_add(torch.zeros(rows.shape, dtype=torch.int64), 1, classes, active.sum(2))
    slope = times((active.sum(1) - to_labels).to(x.dtype), Fraction(1, rows.shape[-1]))
    return mul(slope, _over_examples(x, grad, reduction)).reshape(x.shape)


@composes(aten.soft_margin_loss.default)
def soft_margin_loss(x: Any, target: Any, reduction: int = 1) -> Any:
    """log(1 + exp(-x target)), as softplus, which no large value overflows."""
    return REDUCTIONS[reduction](torch.nn.functional.softplus(-(x * target)))


@composes(aten.soft_margin_loss_backward.default)
def soft_margin_loss_backward(grad: Any, x: Any, target: Any, reduction: int) -> Any:
    """-target sigmoid(-x target), over the number of elements for a mean."""
    slope = torch.sigmoid(-(x * target)) * -target
    return (slope / x.numel() if reduction == 1 else slope) * grad


@composes(aten.binary_cross_entropy_backward.default)
def binary_cross_entropy_backward(grad: Any, x: Any, target: Any, weight: Any = None, reduction: int = 1) -> Any:
    """(1 - target) / (1 - x) - target / x, times the weights, over the number of elements for a mean.

    torch divides x - target by x (1 - x), of which few digits are left where x is near 0 or 1.  What is less than a
    step counts as one.
    """
    rest = 1 - x
    if isinstance(x, SecretTensor):
        below = torch.stack([rest, x]).clamp_min(1 / x.unit.scale)
        slope = (torch.stack([1 - target, -target]) / below).sum(0)  # in one division
    else:
        slope = (x - target) / (x * rest).clamp_min(1e-12)
    if weight is not None:
        slope = slope * weight
    return (slope / slope.numel() if reduction == 1 else slope) * grad
