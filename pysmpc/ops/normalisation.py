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
from pysmpc.mpc.functions.known_values import note_source, source_of
from pysmpc.mpc.functions.normaliser import inverse_root_short
from pysmpc.ops.arithmetic import add, mul, number, sub
from pysmpc.ops.core import FACTOR, aten, rescale, result, same_value, within
from pysmpc.ops.divisions import square
from pysmpc.ops.linear import sum_dim
from pysmpc.ops.registering import implements
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


def settled_parts(x: Any) -> Any:
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
        return total_of(x, -y)
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


def statistics_of(x: Any, over: Sequence[int], eps: float, centre: bool = True) -> _Statistics:
    n = math.prod(x.shape[d] for d in over)
    if not isinstance(x, SecretTensor):
        mean = x.double().mean(list(over), keepdim=True) if centre else None
        centred = x.double() if mean is None else x.double() - mean
        squares = centred.square().sum(list(over), keepdim=True)
        inverse = (squares / n + eps).rsqrt()
        return _Statistics(mean, centred * inverse, inverse, squares, n)
    x = settled_parts(x)
    coarse, mean = _means(x, over) if centre else (None, None)
    squares = sum_dim(square(x if coarse is None else settled_parts(sub(x, coarse))), list(over), True)
    inverse = inverse_deviation(squares, n, eps)
    normal = (settled_parts if centre else _fine)(mul(x if mean is None else _less(x, mean), inverse))
    note_source(inverse.window(), "normalised", normal)
    return _Statistics(mean, normal, inverse, squares, n)


def affine_part(normal: Any, weight: Any, bias: Any, shape: Sequence[int]) -> Any:
    """weight * normal + bias, each of them as of this shape."""
    out = normal if weight is None else product_of(normal, weight.reshape(shape))
    return out if bias is None else total_of(out, bias.reshape(shape))


def product_of(x: Any, y: Any) -> Any:
    return mul(x, y) if isinstance(x, SecretTensor) or isinstance(y, SecretTensor) else x * y


def total_of(x: Any, y: Any) -> Any:
    return add(x, y) if isinstance(x, SecretTensor) or isinstance(y, SecretTensor) else x + y


def normal_form(x: Any, mean: Any, inverse: Any, shape: Sequence[int]) -> Any:
    """What the forward pass normalised, or the same again.  inverse: as the forward pass returned it."""
    found: Any = source_of(_whole(inverse), "normalised") if isinstance(inverse, SecretTensor) else None
    if found is not None:
        return found.reshape(x.shape)
    if mean is None:
        return _fine(product_of(x, inverse.reshape(shape)))
    return settled_parts(product_of(total_of(x, -mean.reshape(shape)), inverse.reshape(shape)))


def _whole(x: SecretTensor) -> Share:
    """The elements of x in the layout that its body was made with."""
    known = x.window().body.functions
    if known is None or known.source is None or not x.window().dense:
        return x.window()
    (shape, strides, offset), _ = known.source[1]
    return Share(x.window().body, shape, x.cell.scale, strides, offset)


def sum_over(x: Any, over: Sequence[int], shape: Sequence[int]) -> Any:
    if not over:
        return x.reshape(shape)
    found = sum_dim(x, list(over)) if isinstance(x, SecretTensor) else x.sum(list(over))
    return found.reshape(shape)


def slope_of(g: Any, normal: Any, inverse: Any, over: Sequence[int], centre: bool = True) -> Any:
    """The gradient of x from g, that of what was normalised.

    What is the same for all elements of a group must be far finer than a step: its rounding would add up over a
    group to a gradient of the layer before, in which the rounding of single elements cancels.

    1. The sum of g, exactly, where x was centred.
    2. The mean of g z, 256 times as fine as the encoding: a product and a truncation.
    3. g less both, 256 times as fine: a product and a truncation.
    4. That times the inverse deviation.
    """
    n = math.prod(g.shape[d] for d in over)
    along = product_of(normal, _fine(_over(_sum_of(product_of(_fine(g), normal), over), n)))
    mean = _over(_sum_of(g, over), n) if centre else None
    if isinstance(g, SecretTensor):
        scale = along.cell.scale if isinstance(along, SecretTensor) else g.cell.scale
        g = _at(g, scale)
        mean = mean if mean is None else _at(mean, scale, n)
    centred = g if mean is None else total_of(g, -mean)
    return product_of(_fine(total_of(centred, -along)), inverse)


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


def gradients_of(
    grad: Any, normal: Any, inverse: Any, weight: Any, over: Sequence[int], shape: Sequence[int], mask: Sequence[bool]
) -> tuple[Any, Any, Any]:
    """Of x, weight and bias, where over are the dimensions of the statistics and shape is how the weight meets x."""
    others = [d for d in range(grad.dim()) if shape[d] == 1 != grad.shape[d]]
    flat = None if weight is None else weight.shape
    g = grad if weight is None else product_of(grad, weight.reshape(shape))
    of_x = slope_of(g, normal, inverse, over) if mask[0] else None
    of_weight = sum_over(product_of(grad, normal), others, flat) if mask[1] and flat is not None else None
    return of_x, of_weight, sum_over(grad, others, flat or [n for n in shape if n != 1]) if mask[2] else None


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
        return affine_part(x.clone(), weight, bias, place), empty, empty.clone()
    s = statistics_of(x, over, eps)
    return affine_part(s.normal, weight, bias, place), s.mean, s.inverse


@implements(aten.native_layer_norm_backward.default)
def layer_norm_backward(
    grad: Any, x: Any, shape: Sequence[int], mean: Any, inverse: Any, weight: Any, bias: Any, mask: Sequence[bool]
) -> tuple[Any, Any, Any]:
    """The gradients of input, weight and bias, from products alone."""
    over, place = _last(x, shape)
    normal = normal_form(x, mean, inverse, mean.shape)
    found = gradients_of(grad, normal, inverse, weight, over, place, mask)
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
        return affine_part(x.clone(), weight, None, place), x.sum(over, keepdim=True)
    s = statistics_of(x, over, torch.finfo(x.dtype).eps if eps is None else eps, centre=False)
    return affine_part(s.normal, weight, None, place), s.inverse


def rms_norm_backward(
    grad: Any, x: Any, shape: Sequence[int], inverse: Any, weight: Any, mask: Sequence[bool]
) -> tuple[Any, Any]:
    """The gradients of input and weight, from products alone."""
    over, place = _last(x, shape)
    normal = normal_form(x, None, inverse, inverse.shape)
    g = grad if weight is None else product_of(grad, weight.reshape(place))
    of_x = slope_of(g, normal, inverse, over, centre=False) if mask[0] else None
    others = list(range(x.dim() - len(shape)))
    return of_x, sum_over(product_of(grad, normal), others, list(shape)) if mask[1] and weight is not None else None


if HAS_RMS_NORM:
    implements(aten._fused_rms_norm.default)(rms_norm)
    implements(aten._fused_rms_norm_backward.default)(rms_norm_backward)
