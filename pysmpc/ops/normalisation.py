"""Layer, batch, group and RMS normalisation: (x - mean) / sqrt(variance + eps), and its derivatives.

The inverse root is of n (variance + eps) as the squares leave it, at the square of the scale: there an
eps of 1e-5 is many steps, and nothing is lost of a small variance.  What was normalised is kept with the
inverse root that torch saves for the derivative, which takes products alone.

With d = x - mean, r = 1 / sqrt(sum of d^2 / n + eps) and z = d r, the gradient is
r (g - mean of g - z mean of g z), for the gradient g of z.  RMS normalisation is the same with 0 for
both means, that of x and that of g.  All errors are relative, 2^-16, and a few
steps.  Rounds: thirteen and a product with the weight; seven of them on one element a group.  Bytes: of
`rsqrt` for each group; for each element those of two products, a truncation, and what the weight takes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import torch

from pysmpc.ops.arithmetic import add, mul, number, square, sub
from pysmpc.ops.core import FACTOR, assign, aten, implements, plain_target, rescale, result
from pysmpc.ops.linear import mean_dim, sum_dim
from pysmpc.protocols.exact import constant
from pysmpc.protocols.functions.normaliser import inverse_root
from pysmpc.protocols.functions.smooth import known_of, note_source, source_of
from pysmpc.shares import Share
from pysmpc.tensor import SecretTensor

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


def _fine(x: Any) -> Any:
    """x in 256ths of a step, which weights of some hundreds leave exact."""
    if not isinstance(x, SecretTensor) or x.cell.scale <= x.unit.scale * FACTOR:
        return x
    return result(rescale(x.session, x.window(), x.unit.scale * FACTOR), x.session, x.unit, x.dtype)


def _mean(x: Any, over: Sequence[int]) -> Any:
    if isinstance(x, SecretTensor):
        return _settled(mean_dim(x, list(over), True))
    return x.double().mean(list(over), keepdim=True)


def inverse_deviation(squares: SecretTensor, n: int, eps: float) -> SecretTensor:
    """1 / sqrt(squares / n + eps), 256 times as fine as the encoding; an eps of less than a step counts as one.

    Nine rounds.
    """
    session, unit = squares.session, squares.unit
    share = squares.window()
    share = share.at(share.scale * n)
    word = round(number(eps) * share.scale) or 1
    more = constant(session.suite, session.party, share.shape, word, share.scale)
    low = (max(1, word).bit_length() - 1) // 2
    total = session.suite.add(session.party, share, more)
    out = inverse_root(session.suite, session.party, total, unit.scale * FACTOR, low)
    return result(out, session, unit, squares.dtype)


def _statistics(x: Any, over: Sequence[int], eps: float, centre: bool = True) -> _Statistics:
    n = math.prod(x.shape[d] for d in over)
    mean = _mean(x, over) if centre else None
    if not isinstance(x, SecretTensor):
        centred = x.double() if mean is None else x.double() - mean
        squares = centred.square().sum(list(over), keepdim=True)
        inverse = (squares / n + eps).rsqrt()
        return _Statistics(mean, centred * inverse, inverse, squares, n)
    centred = _settled(x if mean is None else sub(x, mean))
    squares = sum_dim(square(centred), list(over), True)
    inverse = inverse_deviation(squares, n, eps)
    normal = (_settled if centre else _fine)(mul(centred, inverse))
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
    """The gradient of x from g, that of what was normalised."""
    g = _settled(g)
    along = _product(normal, _mean(_product(g, normal), over))
    rest = _settled(_total(_total(g, -_mean(g, over)) if centre else g, -along))
    return _product(rest, inverse)


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
    operation for other devices; `pysmpc.guards` sends secrets here.
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
            raise plain_target("updating the running statistics of a batch normalisation")


def _follow(running: Any, value: Any, momentum: float) -> None:
    """running (1 - momentum) + value * momentum, in place."""
    if running is not None:
        part = number(momentum)
        value = value.reshape(running.shape)
        if isinstance(running, SecretTensor):
            assign(running, add(mul(running, 1 - part), _product(value, part)).to(running.dtype))
        else:
            running.mul_(float(1 - part)).add_(value.to(running.dtype) * momentum)


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
        _follow(running_var, _product(s.squares, Fraction(1, max(1, s.n - 1))), momentum)
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
