"""Convolutions."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import torch

from pysmpc.mpc.additive import convolution_products as geometry
from pysmpc.mpc.additive.convolution_products import Geometry
from pysmpc.ops.arithmetic import add
from pysmpc.ops.core import aten, finer, promoted, result, session_of, window
from pysmpc.ops.linear import check_same_dtype, sum_dim
from pysmpc.ops.operands import sides, with_unit
from pysmpc.ops.public_operands import Public, magnified, public
from pysmpc.ops.registering import implements
from pysmpc.ops.scales import times
from pysmpc.ring import product_kernels, z2k
from pysmpc.ring.shares import Share, ShareStorage, dense_strides
from pysmpc.tensor.secret import SecretTensor


def each(values: Sequence[int], n: int) -> tuple[int, ...]:
    return tuple(values) * n if len(values) == 1 else tuple(values)


def _geometry(
    image: Sequence[int], kernel: Sequence[int], stride: Any, padding: Any, dilation: Any, groups: int
) -> Geometry:
    n = len(image) - 2
    return Geometry(
        tuple(image[2:]), tuple(kernel[2:]), each(stride, n), each(padding, n), each(dilation, n), groups
    )  # fmt: skip


def _contract(x: Any, left: Any, y: Any, right: Any, g: Geometry) -> tuple[torch.Tensor, int, Any, Fraction]:
    """(words [rows, size], scale, unit, factor that is still due) of the product of two layouts, one maybe public."""
    session, _, hidden, _, _ = sides(x, y)
    (x, first_power), (y, second_power) = (magnified(t, hidden.unit) for t in (x, y))
    power = first_power * second_power
    a, b = (_operand(t, session, hidden.unit) for t in (x, y))
    unit = finer(*(t.unit if isinstance(t, SecretTensor | Public) else hidden.unit for t in (x, y)))
    scale = a.scale * b.scale
    if isinstance(a, Share) and isinstance(b, Share):
        words = session.arithmetic.contract(session.party, a, left(g, *geometry.of(a)), b, right(g, *geometry.of(b)))
        return words, scale, unit, power
    first, second = left(g, *_place(a)), right(g, *_place(b))
    rows = hidden.cell.body.rows
    if session.checks is not None and scale > 1:
        checks = session.checks
        one, other = (
            checks.operand(t, layout.take) if isinstance(t, Share) else checks.public_operand(t.values, layout.take)
            for t, layout in ((a, first), (b, second))
        )
        checks.contraction(one, other, first.width, scale)
    out = z2k.empty(rows, first.batch, first.height, second.width)
    for row in range(rows):
        product_kernels.matmul(first.take(_words(a, row)), second.take(_words(b, row)), out[row])
    return out.reshape(rows, first.batch * first.height * second.width), scale, unit, power


def _operand(x: Any, session: Any, unit: Any) -> Share | Public:
    plain = public(x, session, unit)
    if plain is None:
        return window(x)
    values = plain.values.contiguous()
    if not session.suite.additive:  # no public number may multiply its words: the suite's own product does
        shared: Share = session.suite.public(session.party, values, plain.scale)
        return shared
    return Public(values, plain.scale, plain.unit)


def _due(x: SecretTensor, power: Fraction) -> SecretTensor:
    return x if power == 1 else times(x, power)


def _place(x: Share | Public) -> tuple[tuple[int, ...], tuple[int, ...], int]:
    return geometry.of(x) if isinstance(x, Share) else (tuple(x.values.shape), x.values.stride(), 0)


def _words(x: Share | Public, row: int) -> torch.Tensor:
    return x.body.words[row] if isinstance(x, Share) else x.values.reshape(-1)


def _batch_last(words: torch.Tensor, n: int, channels: int, space: Sequence[int], scale: int) -> Share:
    """[groups, channel, (space, n)] as an image [n, channels, *space]: a window."""
    body = ShareStorage(words)
    body.shape = (channels, *space, n)
    steps = dense_strides(body.shape)
    return Share(body, (n, channels, *space), scale, (steps[-1], *steps[:-1]))


@implements(aten.convolution.default)
def convolution(
    x: Any,
    weight: Any,
    bias: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    transposed: bool,
    output_padding: Any,
    groups: int,
) -> SecretTensor:
    """Convolution in any number of dimensions; one product."""
    check_same_dtype(x, weight)
    if x.dim() == weight.dim() - 1:
        return convolution(
            x.unsqueeze(0), weight, bias, stride, padding, dilation, transposed, output_padding, groups
        ).squeeze(0)  # fmt: skip
    if transposed:
        return _transposed(x, weight, bias, stride, padding, dilation, output_padding, groups)
    g = _geometry(x.shape, weight.shape, stride, padding, dilation, groups)
    if x.shape[1] != weight.shape[1] * groups or weight.shape[0] % groups:
        raise RuntimeError(f"weight {tuple(weight.shape)} in {groups} groups does not fit input {tuple(x.shape)}")
    if min(g.out, default=1) < 1:
        raise RuntimeError(f"a kernel of {g.kernel} does not fit an image of {g.image}")
    dtype = promoted(x, weight)
    x, weight = (with_unit(t, dtype) if isinstance(t, SecretTensor) else t for t in (x, weight))
    words, scale, unit, power = _contract(weight, geometry.filters, x, geometry.windows, g)
    share = _batch_last(words, x.shape[0], weight.shape[0], g.out, scale)
    out = _due(result(share, session_of(x, weight), unit, dtype), power)
    return out if bias is None else add(out, bias.view(-1, *[1] * len(g.image)))


@implements(aten.convolution_backward.default)
def convolution_backward(
    grad: Any,
    x: Any,
    weight: Any,
    bias_sizes: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    transposed: bool,
    output_padding: Any,
    groups: int,
    output_mask: Sequence[bool],
) -> tuple[Any, Any, Any]:
    """Gradients with respect to image, weight and bias."""
    if transposed:
        return _transposed_backward(grad, x, weight, stride, padding, dilation, groups, output_mask)
    g = _geometry(x.shape, weight.shape, stride, padding, dilation, groups)
    dtype = promoted(grad, x, weight)
    for_x = for_weight = for_bias = None
    if output_mask[0]:
        words, scale, unit, power = _contract(weight, geometry.channels, grad, geometry.reversed_windows, g)
        share = _batch_last(words, x.shape[0], x.shape[1], g.image, scale)
        for_x = _due(result(share, session_of(grad, weight), unit, dtype), power)
    if output_mask[1]:
        words, scale, unit, power = _contract(grad, geometry.outputs, x, geometry.windows_turned, g)
        for_weight = _due(result(Share.of(words, weight.shape, scale), session_of(grad, x), unit, dtype), power)
    if output_mask[2]:
        for_bias = _over_images(grad)
    return for_x, for_weight, for_bias


def _over_images(grad: Any) -> Any:
    axes = [0, *range(2, grad.dim())]
    return sum_dim(grad, axes) if isinstance(grad, SecretTensor) else grad.sum(axes)


# --- transposed: the gradient of a convolution with respect to its image, and back -------


def _transposed(
    x: Any, weight: Any, bias: Any, stride: Any, padding: Any, dilation: Any, output_padding: Any, groups: int
) -> SecretTensor:
    """x is what a convolution with `weight` would make of the result; one product."""
    n = x.dim() - 2
    if x.shape[1] != weight.shape[0] or weight.shape[0] % groups:
        raise RuntimeError(f"weight {tuple(weight.shape)} in {groups} groups does not fit input {tuple(x.shape)}")
    facts = (each(v, n) for v in (stride, padding, dilation, output_padding))
    space = [
        (size - 1) * step - 2 * pad + gap * (k - 1) + more + 1
        for size, k, step, pad, gap, more in zip(x.shape[2:], weight.shape[2:], *facts, strict=True)
    ]
    if min(space, default=1) < 1:
        raise RuntimeError(f"padding {tuple(padding)} leaves nothing of an image of {tuple(x.shape[2:])}")
    shape = (x.shape[0], weight.shape[1] * groups, *space)
    g = _geometry(shape, weight.shape, stride, padding, dilation, groups)
    dtype = promoted(x, weight)
    x, weight = (with_unit(t, dtype) if isinstance(t, SecretTensor) else t for t in (_widened(x, g), weight))
    words, scale, unit, power = _contract(weight, geometry.channels, x, geometry.reversed_windows, g)
    share = _batch_last(words, shape[0], shape[1], g.image, scale)
    out = _due(result(share, session_of(x, weight), unit, dtype), power)
    return out if bias is None else add(out, bias.view(-1, *[1] * n))


def _widened(x: Any, g: Geometry) -> Any:
    """x with zeros where an output padding of a stride or more makes room for what is not there."""
    more = [out - size for out, size in zip(g.out, x.shape[2:], strict=True)]
    return torch.nn.functional.pad(x, [v for n in reversed(more) for v in (0, n)]) if any(more) else x


def _transposed_backward(
    grad: Any, x: Any, weight: Any, stride: Any, padding: Any, dilation: Any, groups: int, output_mask: Sequence[bool]
) -> tuple[Any, Any, Any]:
    g = _geometry(grad.shape, weight.shape, stride, padding, dilation, groups)
    dtype = promoted(grad, x, weight)
    for_x = for_weight = None
    if output_mask[0]:
        words, scale, unit, power = _contract(weight, geometry.filters, grad, geometry.windows, g)
        share = _batch_last(words, x.shape[0], x.shape[1], g.out, scale)
        for_x = _due(result(share, session_of(grad, weight), unit, dtype), power)
        for_x = for_x[(slice(None), slice(None), *(slice(0, n) for n in x.shape[2:]))]
    if output_mask[1]:
        words, scale, unit, power = _contract(_widened(x, g), geometry.outputs, grad, geometry.windows_turned, g)
        for_weight = _due(result(Share.of(words, weight.shape, scale), session_of(grad, x), unit, dtype), power)
    return for_x, for_weight, _over_images(grad) if output_mask[2] else None
