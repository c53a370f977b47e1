"""Batch and group normalisation, with running statistics."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from pysmpc.mpc.functions.known_values import known_of
from pysmpc.ops.arithmetic import add, number, sub
from pysmpc.ops.core import aten, rescale, result
from pysmpc.ops.normalisation import (
    VARIANCE_BITS,
    affine_part,
    gradients_of,
    inverse_deviation,
    normal_form,
    product_of,
    settled_parts,
    slope_of,
    statistics_of,
    sum_over,
    total_of,
)
from pysmpc.ops.registering import implements
from pysmpc.ops.scales import UPDATE, times
from pysmpc.ops.writing import assign, deferred
from pysmpc.tensor.secret import SecretTensor

# --- over channels -------------------------------------------------------------------------


def _channels(x: Any) -> tuple[list[int], list[int]]:
    """All dimensions but the second, and the shape of something for each channel."""
    return [d for d in range(x.dim()) if d != 1], [1, x.shape[1]] + [1] * (x.dim() - 2)


def _given(mean: Any, variance: Any, eps: float, shape: Sequence[int]) -> tuple[Any, Any]:
    """(mean, inverse deviation) of given statistics."""
    if not isinstance(variance, SecretTensor):
        return mean.reshape(shape), (variance.double() + eps).rsqrt().reshape(shape)
    session = variance.session
    share = variance.window()
    if share.scale < 1 << VARIANCE_BITS:
        share = rescale(session, share, variance.unit.scale * max(1, (1 << VARIANCE_BITS) // variance.unit.scale))
    known = known_of(variance.window().body).kept
    key = "inverse deviation", variance.window().layout, eps
    if key not in known:
        known[key] = inverse_deviation(result(share, session, variance.unit, variance.dtype), 1, eps)
    return mean.reshape(shape), known[key].reshape(shape)


def _check_running(x: Any, *running: Any) -> None:
    for each in running:
        if each is not None and isinstance(x, SecretTensor) and not isinstance(each, SecretTensor):
            raise TypeError(
                "a normalisation of a secret would write its running statistics, which are secret, into the plain "
                "tensors of a public model; encrypt the model, or that layer of it (sy.encrypt(model, parties, "
                "private_layers=...)), or call eval() on the layer, or make it with track_running_stats=False"
            )


def _follow(running: Any, value: Any, momentum: float) -> None:
    """running + momentum (value - running), in place; done with other updates that wait, in one round for all."""
    part = number(momentum)
    if running is None or part == 0:
        return
    value = value.reshape(running.shape)
    if not isinstance(running, SecretTensor):
        running.mul_(float(1 - part)).add_(value.to(running.dtype) * momentum)
        return
    if not isinstance(value, SecretTensor):
        gap = sub(value, running)
    else:
        if value.cell.scale.bit_length() > UPDATE or value.cell.scale % running.cell.scale:
            value.cell.settle()
        session, scale = running.session, max(value.cell.scale, running.cell.scale)
        there, here = (rescale(session, each.window(), scale) for each in (value, running))
        gap = result(session.arithmetic.sub(session.party, there, here), session, running.unit, running.dtype)
    if not deferred(running, gap, part):
        assign(running, add(running, times(gap, part)).to(running.dtype))


@implements(aten.native_batch_norm.default)
def batch_norm(
    x: Any, weight: Any, bias: Any, running_mean: Any, running_var: Any, training: bool, momentum: float, eps: float
) -> tuple[Any, Any, Any]:
    """x normalised for each channel: in training by its own statistics, which the running ones follow; else by those.

    The variance that is followed is n / (n - 1) times that of the batch, as torch's.
    """
    over, place = _channels(x)
    if not training:
        mean, inverse = _given(running_mean, running_var, eps, place)
        normal = product_of(total_of(x, -mean), inverse)
        return affine_part(settled_parts(normal), weight, bias, place), torch.empty(0), torch.empty(0)
    _check_running(x, running_mean, running_var)
    s = statistics_of(x, over, eps)
    out = affine_part(s.normal, weight, bias, place)
    if running_var is not None:
        _follow(running_var, s.squares / max(1, s.n - 1), momentum)
    _follow(running_mean, s.mean, momentum)
    return out, s.mean.reshape(-1), s.inverse.reshape(-1)


@implements(aten.native_batch_norm_backward.default)
def batch_norm_backward(
    grad: Any, x: Any, weight: Any, running_mean: Any, running_var: Any, mean: Any, inverse: Any, train: bool,
    eps: float, mask: Sequence[bool],
) -> tuple[Any, Any, Any]:  # fmt: skip
    """The gradients of input, weight and bias, from products alone."""
    over, place = _channels(x)
    if mean is None or mean.numel() != x.shape[1]:
        mean, inverse = _given(running_mean, running_var, eps, place)
    normal = normal_form(x, mean, inverse, place)
    inverse = inverse.reshape(place)
    if train:
        found = gradients_of(grad, normal, inverse, weight, over, place, mask)
    else:
        found = gradients_of(grad, normal, inverse, weight, over, place, (False, *mask[1:]))
        factor = inverse if weight is None else settled_parts(product_of(inverse, weight.reshape(place)))
        found = (product_of(grad, factor) if mask[0] else None, *found[1:])
    return found[0], found[1], None if found[2] is None else found[2].reshape(-1)


# --- over groups of channels ---------------------------------------------------------------


@implements(aten.native_group_norm.default)
def group_norm(
    x: Any, weight: Any, bias: Any, n: int, channels: int, size: int, groups: int, eps: float
) -> tuple[Any, Any, Any]:
    """x normalised over groups of channels, times weight plus bias, which are of channels."""
    place = [1, channels] + [1] * (x.dim() - 2)
    if not x.numel():
        empty = x.sum().expand(n, groups)
        return x.clone(), empty, empty.clone()
    s = statistics_of(x.reshape(n, groups, -1), [2], eps)
    out = affine_part(s.normal.reshape(x.shape), weight, bias, place)
    return out, s.mean.reshape(n, groups), s.inverse.reshape(n, groups)


@implements(aten.native_group_norm_backward.default)
def group_norm_backward(
    grad: Any, x: Any, mean: Any, inverse: Any, weight: Any, n: int, channels: int, size: int, groups: int,
    mask: Sequence[bool],
) -> tuple[Any, Any, Any]:  # fmt: skip
    """The gradients of input, weight and bias, from products alone."""
    rows = [n, groups, channels // groups * size]
    normal = normal_form(x.reshape(rows), mean, inverse, (n, groups, 1))
    others = [d for d in range(x.dim()) if d != 1]
    flat = [channels]
    g = grad if weight is None else product_of(grad, weight.reshape([1, channels] + [1] * (x.dim() - 2)))
    of_x = slope_of(g.reshape(rows), normal, inverse.reshape(n, groups, 1), [2]).reshape(x.shape) if mask[0] else None
    of_weight = sum_over(product_of(grad, normal.reshape(x.shape)), others, flat) if mask[1] else None
    return of_x, of_weight, sum_over(grad, others, flat) if mask[2] else None
