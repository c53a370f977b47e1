"""Convolutions and pooling."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import torch

from pysmpc import ring
from pysmpc.fixedpoint import INTEGER, LIMIT
from pysmpc.ops.arithmetic import add, mul, with_unit
from pysmpc.ops.core import Public, aten, finer, implements, promoted, public, result, session_of, times, window
from pysmpc.ops.extrema import needs_gradient, remember, tournament
from pysmpc.ops.linear import sum_dim
from pysmpc.protocols import convolution as geometry
from pysmpc.protocols.convolution import Geometry
from pysmpc.shares import Share, dense_strides
from pysmpc.tensor import SecretTensor


def _all(values: Sequence[int], n: int) -> tuple[int, ...]:
    return tuple(values) * n if len(values) == 1 else tuple(values)


def _geometry(
    image: Sequence[int], kernel: Sequence[int], stride: Any, padding: Any, dilation: Any, transposed: bool, groups: int
) -> Geometry:
    if transposed:
        raise NotImplementedError("transposed convolution is not implemented for secret tensors")
    n = len(image) - 2
    return Geometry(
        tuple(image[2:]), tuple(kernel[2:]), _all(stride, n), _all(padding, n), _all(dilation, n), groups
    )  # fmt: skip


def _contract(x: Any, left: Any, y: Any, right: Any, g: Geometry) -> tuple[torch.Tensor, int, Any]:
    """(words [rows, size], scale, unit) of the product of two layouts, one operand maybe public."""
    session = session_of(x, y)
    hidden = x if isinstance(x, SecretTensor) and x.session is session else y
    a, b = (_operand(t, session, hidden.unit) for t in (x, y))
    unit = finer(*(t.unit if isinstance(t, SecretTensor | Public) else hidden.unit for t in (x, y)))
    scale = a.scale * b.scale
    if isinstance(a, Share) and isinstance(b, Share):
        words = session.suite.contract(session.party, a, left(g, *geometry.of(a)), b, right(g, *geometry.of(b)))
        return words, scale, unit
    first, second = left(g, *_place(a)), right(g, *_place(b))
    rows = hidden.cell.body.rows
    out = ring.empty(rows, first.batch, first.height, second.width)
    for row in range(rows):
        ring.matmul(first.take(_words(a, row)), second.take(_words(b, row)), out[row])
    return out.reshape(rows, first.batch * first.height * second.width), scale, unit


def _operand(x: Any, session: Any, unit: Any) -> Share | Public:
    plain = public(x, session, unit)
    if plain is None:
        return window(x)
    values = plain.values.contiguous()
    if session.suite.lanes > 1:  # words that no public number may multiply: the suite's own product does
        shared: Share = session.suite.public(session.party, values, plain.scale)
        return shared
    return Public(values, plain.scale, plain.unit)


def _place(x: Share | Public) -> tuple[tuple[int, ...], tuple[int, ...], int]:
    return geometry.of(x) if isinstance(x, Share) else (tuple(x.values.shape), x.values.stride(), 0)


def _words(x: Share | Public, row: int) -> torch.Tensor:
    return x.body.words[row] if isinstance(x, Share) else x.values.reshape(-1)


def _channels_last(words: torch.Tensor, n: int, channels: int, space: Sequence[int], groups: int, scale: int) -> Share:
    """[groups, (n, space), channel] as an image [n, channels, *space]: a window, or a copy for groups."""
    shape = (n, channels, *space)
    area = math.prod(space)
    if groups > 1:
        each = channels // groups
        split = words.reshape(words.shape[0], groups, n, area, each).permute(0, 2, 1, 4, 3).contiguous()
        return Share.of(split.reshape(words.shape[0], math.prod(shape)), shape, scale)
    inner = [channels * step for step in dense_strides(tuple(space))]
    share = Share.of(words, shape, scale)
    return Share(share.body, shape, scale, (area * channels, 1, *inner))


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
    if x.dim() == weight.dim() - 1:
        return convolution(
            x.unsqueeze(0), weight, bias, stride, padding, dilation, transposed, output_padding, groups
        ).squeeze(0)  # fmt: skip
    g = _geometry(x.shape, weight.shape, stride, padding, dilation, transposed, groups)
    if x.shape[1] != weight.shape[1] * groups or weight.shape[0] % groups:
        raise RuntimeError(f"weight {tuple(weight.shape)} in {groups} groups does not fit input {tuple(x.shape)}")
    if min(g.out, default=1) < 1:
        raise RuntimeError(f"a kernel of {g.kernel} does not fit an image of {g.image}")
    dtype = promoted(x, weight)
    x, weight = (with_unit(t, dtype) if isinstance(t, SecretTensor) else t for t in (x, weight))
    words, scale, unit = _contract(x, geometry.windows, weight, geometry.filters, g)
    share = _channels_last(words, x.shape[0], weight.shape[0], g.out, groups, scale)
    out = result(share, session_of(x, weight), unit, dtype)
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
    g = _geometry(x.shape, weight.shape, stride, padding, dilation, transposed, groups)
    dtype = promoted(grad, x, weight)
    for_x = for_weight = for_bias = None
    if output_mask[0]:
        words, scale, unit = _contract(grad, geometry.reversed_windows, weight, geometry.channels, g)
        share = _channels_last(words, x.shape[0], x.shape[1], g.image, groups, scale)
        for_x = result(share, session_of(grad, weight), unit, dtype)
    if output_mask[1]:
        words, scale, unit = _contract(grad, geometry.outputs, x, geometry.windows, g)
        for_weight = result(Share.of(words, weight.shape, scale), session_of(grad, x), unit, dtype)
    if output_mask[2]:
        axes = [0, *range(2, grad.dim())]
        for_bias = sum_dim(grad, axes) if isinstance(grad, SecretTensor) else grad.sum(axes)
    return for_x, for_weight, for_bias


def _pool_geometry(x: Any, kernel: Any, stride: Any, padding: Any, ceil_mode: bool) -> Geometry:
    if ceil_mode:
        raise NotImplementedError("pooling with ceil_mode=True is not implemented for secret tensors")
    n = len(kernel)
    return Geometry(
        tuple(x.shape[-n:]), tuple(kernel), _all(stride or kernel, n), _all(padding, n), (1,) * n, 1
    )  # fmt: skip


@implements(aten.avg_pool2d.default)
def avg_pool2d(
    x: SecretTensor,
    kernel_size: Any,
    stride: Any = (),
    padding: Any = (0,),
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> SecretTensor:
    """Means of windows; no message."""
    kernel = _all(kernel_size, 2)
    g = _pool_geometry(x, kernel, stride, padding, ceil_mode)
    if any(g.padding) and not count_include_pad:
        raise NotImplementedError("average pooling with count_include_pad=False is not implemented for secrets")
    padded = torch.nn.functional.pad(x, [g.padding[1]] * 2 + [g.padding[0]] * 2) if any(g.padding) else x
    parts = padded.unfold(-2, kernel[0], g.stride[0]).unfold(-2, kernel[1], g.stride[1])
    return times(sum_dim(parts, [-2, -1]), Fraction(1, divisor_override or math.prod(kernel)))


@implements(aten.avg_pool2d_backward.default)
def avg_pool2d_backward(
    grad: SecretTensor,
    x: Any,
    kernel_size: Any,
    stride: Any,
    padding: Any,
    ceil_mode: bool,
    count_include_pad: bool,
    divisor_override: int | None,
) -> SecretTensor:
    """Each window's gradient, spread evenly."""
    kernel = _all(kernel_size, 2)
    g = _pool_geometry(x, kernel, stride, padding, ceil_mode)
    part = times(grad, Fraction(1, divisor_override or math.prod(kernel)))
    return _spread(part.unsqueeze(-1).unsqueeze(-1).expand(*grad.shape, *kernel), x.shape, g)


def _spread(parts: SecretTensor, shape: Sequence[int], g: Geometry) -> SecretTensor:
    """[..., *out, *kernel] summed back to where the windows lay on [..., *image]."""
    share = parts.window()
    words = share.window(share.body.words)
    (kh, kw), (sh, sw), (ph, pw) = g.kernel, g.stride, g.padding
    oh, ow = parts.shape[-4:-2]
    out = torch.zeros((words.shape[0], *shape[:-2], shape[-2] + 2 * ph, shape[-1] + 2 * pw), dtype=torch.int64)
    for i in range(kh):
        for j in range(kw):
            place = out[..., i : i + sh * (oh - 1) + 1 : sh, j : j + sw * (ow - 1) + 1 : sw]
            place += words[..., i, j]
    out = out[..., ph : ph + shape[-2], pw : pw + shape[-1]].contiguous()
    flat = out.reshape(out.shape[0], math.prod(shape))
    return result(Share.of(flat, shape, share.scale), parts.session, parts.unit, parts.dtype)


@implements(aten.max_pool2d_with_indices.default)
def max_pool2d_with_indices(
    x: SecretTensor,
    kernel_size: Any,
    stride: Any = (),
    padding: Any = (0,),
    dilation: Any = (1,),
    ceil_mode: bool = False,
) -> tuple[SecretTensor, SecretTensor]:
    """Largest of each window, and where in the plane it stood; a tree of comparisons."""
    if any(d != 1 for d in dilation):
        raise NotImplementedError("max pooling with dilation is not implemented for secret tensors")
    kernel = _all(kernel_size, 2)
    g = _pool_geometry(x, kernel, stride, padding, ceil_mode)
    x.cell.settle()
    ph, pw = g.padding
    padded: Any = x
    if any(g.padding):
        padded = torch.nn.functional.pad(x, [pw, pw, ph, ph], value=-(LIMIT >> 2) / x.cell.scale)
    parts = padded.unfold(-2, kernel[0], g.stride[0]).unfold(-2, kernel[1], g.stride[1])
    lead = tuple(parts.shape[:-2])
    columns: Any = parts.reshape(-1, math.prod(kernel))
    places = _places(lead, kernel, g, x.shape[-1])
    one_hot = needs_gradient(x)
    tags = torch.eye(columns.shape[1], dtype=torch.int64).expand(columns.shape[0], -1, -1) if one_hot else places
    values, found = tournament(columns, tags)
    indices = sum_dim(mul(found, places.squeeze(-1)), [1]) if one_hot else found.squeeze(1)
    if one_hot:
        remember(indices, x, found)
    return values.reshape(lead), indices.reshape(lead)


def _places(lead: Sequence[int], kernel: Sequence[int], g: Geometry, width: int) -> torch.Tensor:
    """[windows, kernel, 1] positions within the plane, row by row."""
    oh, ow = lead[-2:]
    (sh, sw), (ph, pw), (kh, kw) = g.stride, g.padding, kernel
    row = (torch.arange(oh) * sh - ph).view(-1, 1, 1, 1) + torch.arange(kh).view(-1, 1)
    col = (torch.arange(ow) * sw - pw).view(-1, 1, 1) + torch.arange(kw)
    plane = (row * width + col).reshape(oh * ow, kh * kw)
    return plane.repeat(math.prod(lead[:-2]), 1).unsqueeze(-1)


@implements(aten.max_pool2d_with_indices_backward.default)
def max_pool2d_with_indices_backward(
    grad: Any,
    x: Any,
    kernel_size: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    ceil_mode: bool,
    indices: SecretTensor,
) -> SecretTensor:
    """Each window's gradient, to where its largest stood."""
    origin = indices.cell.body.origin
    if origin is None:
        raise NotImplementedError("the gradient of max pooling needs the forward pass to have run with gradients on")
    kernel = _all(kernel_size, 2)
    g = _pool_geometry(x, kernel, stride, padding, ceil_mode)
    width = math.prod(kernel)
    rows = result(Share(origin[2], (origin[2].n // width, width)), indices.session, INTEGER, torch.int64)
    spread = mul(rows, grad.reshape(-1, 1))
    return _spread(spread.reshape(*grad.shape, *kernel), x.shape, g)
