"""Layer, batch, group and RMS normalisation: (x - mean) / sqrt(variance + eps), and its derivatives.

The inverse root is of n (variance + eps) as the squares leave it, at the square of the scale: there an
eps of 1e-5 is many steps, and nothing is lost of a small variance.  What was normalised is kept with the
inverse root that torch saves for the derivative, which takes products alone.

With d = x - mean, r = 1 / sqrt(sum of d^2 / n + eps) and z = d r, the gradient is
r (g - mean of g - z mean of g z), for the gradient g of z.  RMS normalisation is the same with 0 for
both means, that of x and that of g.  All errors are relative, 2^-16, and a few steps.  Means are finer
than the encoding: an error of theirs is the same for all elements of a group, which the gradient of a
weight adds up.  Rounds: eleven and a product with the weight; seven of them on one element a group.
Bytes: for each element those of two products, a truncation, and what the weight takes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from pysmpc.mpc.additive.exact import constant
from pysmpc.mpc.functions.normaliser import inverse_root_short
from pysmpc.mpc.functions.smooth import known_of, note_source, source_of
from pysmpc.ops.arithmetic import add, mul, number, sub
from pysmpc.ops.core import FACTOR, aten, rescale, result, same_value, within
from pysmpc.ops.divisions import square
from pysmpc.ops.linear import sum_dim
from pysmpc.ops.registering import implements
from pysmpc.ops.scales import UPDATE, times
from pysmpc.ops.writing import assign, deferred
from pysmpc.ring.shares import Share
from pysmpc.tensor.secret import SecretTensor

MEAN_BITS = 46  # of the scale at which the mean of a gradient is rounded, which leaves 2^16 for its size
VARIANCE_BITS = 32  # of the scale at which a given variance takes its eps


@dataclass(frozen=True)
class _Statistics:
    """Of x over some dimensions, which are kept with one element.

    squares: the sum of (x - mean)^2, n its terms; of a public x, tensors in float64.
    mean: None where 0 is taken for it.
    """

    mean: Any
    normal: Any  # (x - mean) inverse
    inverse: Any
    squares: Any
    n: int


def _settled(x: Any) -> Any:
    if isinstance(x, SecretTensor):
        x.cell.settle()
    return x


def _fine_scale(x: SecretTensor) -> int:
    """That of what is the same for all elements of a group, where each of them would have the same error.

    At most 256 times as fine as the encoding, so that a product with an element leaves room for 2^22.
    """
    unit = x.unit.scale
    return unit * max(1, min(FACTOR, (1 << 40) // unit**2))


def _means(x: Any, over: Sequence[int]) -> tuple[Any, Any]:
    """(The mean to a step, the mean finely.)  One round."""
    if not isinstance(x, SecretTensor):
        mean = x.double().mean(list(over), keepdim=True)
        return mean, mean
    n = math.prod(x.shape[d] for d in over)
    session, unit, fine = x.session, x.unit.scale, _fine_scale(x)
    total = sum_dim(x, list(over), True).window()
    total = total.at(total.scale * n)
    up = fine // math.gcd(fine, total.scale)
    if up > 1:
        total = session.arithmetic.scale_by(session.party, total, up).at(total.scale * up)
    if total.scale == fine == unit:
        whole = result(total, session, x.unit, x.dtype)
        return whole, whole
    down = [total.scale // each for each in (unit, fine)]
    shares = session.arithmetic.truncate_all(session.party, [(total, by) for by in down if by > 1])
    found = [result(share.at(s), session, x.unit, x.dtype) for share, s in zip(shares, (unit, fine), strict=False)]
    return found[0], found[1] if len(found) > 1 else result(total, session, x.unit, x.dtype)


def _less(x: Any, y: Any) -> Any:
    """x - y, as fine as the finer one of them."""
    if any(not isinstance(each, SecretTensor) or each.session.plain for each in (x, y)):
        return _total(x, -y)
    session, scale = x.session, max(x.cell.scale, y.cell.scale)
    if scale % x.cell.scale or scale % y.cell.scale:
        return sub(x, y)
    a, b = (rescale(session, each.window(), scale) for each in (x, y))
    return result(session.arithmetic.sub(session.party, a, b), session, x.unit, x.dtype)


def inverse_deviation(squares: SecretTensor, n: int, eps: float) -> SecretTensor:
    """1 / sqrt(squares / n + eps), 256 times as fine as the encoding; an eps of less than a step counts as one.

    Seven rounds; nine for an eps of less than some 2^-20.
    """
    within(squares)
    session, unit = squares.session, squares.unit
    share = squares.window()
    share = share.at(share.scale * n)
    word = round(number(eps) * share.scale) or 1
    more = constant(session.suite, session.party, share.shape, word, share.scale)
    low = (max(1, word).bit_length() - 1) // 2
    total = session.arithmetic.add(session.party, share, more)
    out = inverse_root_short(session.suite, session.party, total, unit.scale * FACTOR, low)
    return result(out, session, unit, squares.dtype)


def _statistics(x: Any, over: Sequence[int], eps: float, centre: bool = True) -> _Statistics:
    n = math.prod(x.shape[d] for d in over)
    if not isinstance(x, SecretTensor):
        mean = x.double().mean(list(over), keepdim=True) if centre else None
        centred = x.double() if mean is None else x.double() - mean
        squares = centred.square().sum(list(over), keepdim=True)
        inverse = (squares / n + eps).rsqrt()
        return _Statistics(mean, centred * inverse, inverse, squares, n)
    x = _settled(x)
    coarse, mean = _means(x, over) if centre else (None, None)
    squares = sum_dim(square(x if coarse is None else _settled(sub(x, coarse))), list(over), True)
    inverse = inverse_deviation(squares, n, eps)
    normal = (_settled if centre else _fine)(mul(x if mean is None else _less(x, mean), inverse))
    note_source(inverse.window(), "normalised", normal)
    return _Statistics(mean, normal, inverse, squares, n)


def _affine(normal: Any, weight: Any, bias: Any, shape: Sequence[int]) -> Any:
    """weight * normal + bias, each of them as of this shape."""
    out = normal if weight is None else _product(normal, weight.reshape(shape))
    return out if bias is None else _total(out, bias.reshape(shape))


def _product(x: Any, y: Any) -> Any:
    return mul(x, y) if isinstance(x, SecretTensor) or isinstance(y, SecretTensor) else x * y


def _total(x: Any, y: Any) -> Any:
    return add(x, y) if isinstance(x, SecretTensor) or isinstance(y, SecretTensor) else x + y


def _normal(x: Any, mean: Any, inverse: Any, shape: Sequence[int]) -> Any:
    """What the forward pass normalised, or the same again.  inverse: as the forward pass returned it."""
    found: Any = source_of(_whole(inverse), "normalised") if isinstance(inverse, SecretTensor) else None
    if found is not None:
        return found.reshape(x.shape)
    if mean is None:
        return _fine(_product(x, inverse.reshape(shape)))
    return _settled(_product(_total(x, -mean.reshape(shape)), inverse.reshape(shape)))


def _whole(x: SecretTensor) -> Share:
    """The elements of x in the layout that its body was made with."""
    known = x.window().body.functions
    if known is None or known.source is None or not x.window().dense:
        return x.window()
    (shape, strides, offset), _ = known.source[1]
    return Share(x.window().body, shape, x.cell.scale, strides, offset)


def _sum(x: Any, over: Sequence[int], shape: Sequence[int]) -> Any:
    if not over:
        return x.reshape(shape)
    found = sum_dim(x, list(over)) if isinstance(x, SecretTensor) else x.sum(list(over))
    return found.reshape(shape)


def _slope(g: Any, normal: Any, inverse: Any, over: Sequence[int], centre: bool = True) -> Any:
    """The gradient of x from g, that of what was normalised.

    What is the same for all elements of a group must be far finer than a step: its rounding would add up over a
    group to a gradient of the layer before, in which the rounding of single elements cancels.

    1. The sum of g, exactly, where x was centred.
    2. The mean of g z, 256 times as fine as the encoding: a product and a truncation.
    3. g less both, 256 times as fine: a product and a truncation.
    4. That times the inverse deviation.
    """
    n = math.prod(g.shape[d] for d in over)
    along = _product(normal, _fine(_over(_sum_of(_product(_fine(g), normal), over), n)))
    mean = _over(_sum_of(g, over), n) if centre else None
    if isinstance(g, SecretTensor):
        scale = along.cell.scale if isinstance(along, SecretTensor) else g.cell.scale
        g = _at(g, scale)
        mean = mean if mean is None else _at(mean, scale, n)
    centred = g if mean is None else _total(g, -mean)
    return _product(_fine(_total(centred, -along)), inverse)


def _sum_of(x: Any, over: Sequence[int]) -> Any:
    return sum_dim(x, list(over), True) if isinstance(x, SecretTensor) else x.double().sum(list(over), keepdim=True)


def _over(total: Any, n: int) -> Any:
    """total / n, exactly."""
    return same_value(total, total.cell.scale * n) if isinstance(total, SecretTensor) else total / n


def _fine(x: Any) -> Any:
    """x, 256 times as fine as its encoding where it is finer still: one round."""
    return _at(x, min(x.cell.scale, x.unit.scale * FACTOR)) if isinstance(x, SecretTensor) else x


def _at(x: SecretTensor, scale: int, n: int = 1) -> SecretTensor:
    """x at this scale; a mean of n elements is rounded at a finer one."""
    share, session = x.window(), x.session
    if n > 1 and scale % share.scale:
        up = 1
        while (share.scale * up * 2).bit_length() <= MEAN_BITS:
            up *= 2
        share = rescale(session, share, share.scale * up)
    return result(rescale(session, share, scale), session, x.unit, x.dtype)


def _gradients(
    grad: Any, normal: Any, inverse: Any, weight: Any, over: Sequence[int], shape: Sequence[int], mask: Sequence[bool]
) -> tuple[Any, Any, Any]:
    """Of x, weight and bias, where over are the dimensions of the statistics and shape is how the weight meets x."""
    others = [d for d in range(grad.dim()) if shape[d] == 1 != grad.shape[d]]
    flat = None if weight is None else weight.shape
    g = grad if weight is None else _product(grad, weight.reshape(shape))
    of_x = _slope(g, normal, inverse, over) if mask[0] else None
    of_weight = _sum(_product(grad, normal), others, flat) if mask[1] and flat is not None else None
    return of_x, of_weight, _sum(grad, others, flat or [n for n in shape if n != 1]) if mask[2] else None


# --- over the last dimensions ------------------------------------------------------------


def _last(x: Any, shape: Sequence[int]) -> tuple[list[int], list[int]]:
    """The last dimensions, and the shape of a weight."""
    first = x.dim() - len(shape)
    if first < 0 or list(x.shape[first:]) != list(shape):
        raise RuntimeError(f"a normalisation over {list(shape)} does not fit an input of shape {list(x.shape)}")
    return list(range(first, x.dim())), [1] * first + list(shape)


@implements(aten.native_layer_norm.default)
def layer_norm(x: Any, shape: Sequence[int], weight: Any, bias: Any, eps: float) -> tuple[Any, Any, Any]:
    """x normalised over its last dimensions, times weight plus bias; the mean and the inverse deviation."""
    over, place = _last(x, shape)
    if not x.numel():
        empty = x.sum(over, keepdim=True)
        return _affine(x.clone(), weight, bias, place), empty, empty.clone()
    s = _statistics(x, over, eps)
    return _affine(s.normal, weight, bias, place), s.mean, s.inverse


@implements(aten.native_layer_norm_backward.default)
def layer_norm_backward(
    grad: Any, x: Any, shape: Sequence[int], mean: Any, inverse: Any, weight: Any, bias: Any, mask: Sequence[bool]
) -> tuple[Any, Any, Any]:
    """The gradients of input, weight and bias, from products alone."""
    over, place = _last(x, shape)
    normal = _normal(x, mean, inverse, mean.shape)
    found = _gradients(grad, normal, inverse, weight, over, place, mask)
    return found[0], found[1], None if found[2] is None else found[2].reshape(list(shape))


#: torch 2.9 and later; what is older takes RMS normalisation apart.
HAS_RMS_NORM = hasattr(aten, "_fused_rms_norm_backward")


def rms_norm(x: Any, shape: Sequence[int], weight: Any, eps: float | None) -> tuple[Any, Any]:
    """x / sqrt(mean of x^2 + eps) over its last dimensions, times weight; and the inverse root.

    eps: of the dtype, where it is None; less than a step counts as one, as in layer normalisation.  torch has this
    operation for other devices; `pysmpc.api.torch_guards` sends secrets here.
    """
    over, place = _last(x, shape)
    if not x.numel():
        return _affine(x.clone(), weight, None, place), x.sum(over, keepdim=True)
    s = _statistics(x, over, torch.finfo(x.dtype).eps if eps is None else eps, centre=False)
    return _affine(s.normal, weight, None, place), s.inverse


def rms_norm_backward(
    grad: Any, x: Any, shape: Sequence[int], inverse: Any, weight: Any, mask: Sequence[bool]
) -> tuple[Any, Any]:
    """The gradients of input and weight, from products alone."""
    over, place = _last(x, shape)
    normal = _normal(x, None, inverse, inverse.shape)
    g = grad if weight is None else _product(grad, weight.reshape(place))
    of_x = _slope(g, normal, inverse, over, centre=False) if mask[0] else None
    others = list(range(x.dim() - len(shape)))
    return of_x, _sum(_product(grad, normal), others, list(shape)) if mask[1] and weight is not None else None


if HAS_RMS_NORM:
    implements(aten._fused_rms_norm.default)(rms_norm)
    implements(aten._fused_rms_norm_backward.default)(rms_norm_backward)


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
        normal = _product(_total(x, -mean), inverse)
        return _affine(_settled(normal), weight, bias, place), torch.empty(0), torch.empty(0)
    _check_running(x, running_mean, running_var)
    s = _statistics(x, over, eps)
    out = _affine(s.normal, weight, bias, place)
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
    normal = _normal(x, mean, inverse, place)
    inverse = inverse.reshape(place)
    if train:
        found = _gradients(grad, normal, inverse, weight, over, place, mask)
    else:
        found = _gradients(grad, normal, inverse, weight, over, place, (False, *mask[1:]))
        factor = inverse if weight is None else _settled(_product(inverse, weight.reshape(place)))
        found = (_product(grad, factor) if mask[0] else None, *found[1:])
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
    s = _statistics(x.reshape(n, groups, -1), [2], eps)
    out = _affine(s.normal.reshape(x.shape), weight, bias, place)
    return out, s.mean.reshape(n, groups), s.inverse.reshape(n, groups)


@implements(aten.native_group_norm_backward.default)
def group_norm_backward(
    grad: Any, x: Any, mean: Any, inverse: Any, weight: Any, n: int, channels: int, size: int, groups: int,
    mask: Sequence[bool],
) -> tuple[Any, Any, Any]:  # fmt: skip
    """The gradients of input, weight and bias, from products alone."""
    rows = [n, groups, channels // groups * size]
    normal = _normal(x.reshape(rows), mean, inverse, (n, groups, 1))
    others = [d for d in range(x.dim()) if d != 1]
    flat = [channels]
    g = grad if weight is None else _product(grad, weight.reshape([1, channels] + [1] * (x.dim() - 2)))
    of_x = _slope(g.reshape(rows), normal, inverse.reshape(n, groups, 1), [2]).reshape(x.shape) if mask[0] else None
    of_weight = _sum(_product(grad, normal.reshape(x.shape)), others, flat) if mask[1] else None
    return of_x, of_weight, _sum(grad, others, flat) if mask[2] else None
