"""Mean and largest of windows of the last two dimensions.

A window's elements are so many views of the image, one a place in the kernel, each of
the shape of the result.  The largest is found by a tree over the places in their order
(pysmpc.ops.tournament), whose bits lead the gradient back, and tell the position where somebody
reads it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import torch

from pysmpc.fixedpoint import INTEGER, LIMIT
from pysmpc.ops.comparison import comparing
from pysmpc.ops.convolution import each
from pysmpc.ops.core import aten, implements, like, public, result, times
from pysmpc.ops.tournament import Positions, by_pairs, halves, tournament
from pysmpc.protocols.convolution import Geometry
from pysmpc.shares import Body, Share, memory_order, strides_in
from pysmpc.tensor import SecretTensor

FEW = 1 << 13  # beyond them half the rounds are not worth twice the processor time, and 1.5 times the bytes


def _geometry(x: Any, kernel: Any, stride: Any, padding: Any, ceil_mode: bool) -> Geometry:
    if ceil_mode:
        raise NotImplementedError("pooling with ceil_mode=True is not implemented for secret tensors")
    size = each(kernel, 2)
    return Geometry(tuple(x.shape[-2:]), size, each(stride or size, 2), each(padding, 2), (1, 1), 1)


@dataclass
class _Places:
    """The windows of an image: a share [kernel height, kernel width, *result], and the order of its axes.

    order: the axes of the result as they follow one another in memory, from the longest
    stride; what is computed is laid out so, and read through `strides`.
    """

    share: Share
    order: tuple[int, ...]
    shape: tuple[int, ...]

    @classmethod
    def of(cls, image: Share, g: Geometry) -> _Places:
        *lead, row, col = image.strides
        shape = (*image.shape[:-2], *g.out)
        steps = (*lead, row * g.stride[0], col * g.stride[1])
        order = memory_order(steps)
        places = Share(
            image.body,
            (*g.kernel, *(shape[axis] for axis in order)),
            image.scale,
            (row, col, *(steps[axis] for axis in order)),
            image.offset,
        )
        return cls(places, order, shape)

    @property
    def n(self) -> int:
        """Windows."""
        return math.prod(self.shape)

    @property
    def strides(self) -> tuple[int, ...]:
        """Of a result [n] in memory."""
        return strides_in(self.shape, self.order)

    def ordered(self, x: torch.Tensor) -> torch.Tensor:
        """[rows, *result] as contiguous [rows, n]."""
        return x.permute(0, *(1 + axis for axis in self.order)).reshape(x.shape[0], self.n).contiguous()

    def pairs(self) -> tuple[Share, Share, Share | None]:
        """First, second of each two neighbouring places, and the last of an odd number: [.., n] each."""
        s, (kh, kw) = self.share, self.share.shape[:2]
        if kw % 2:
            flat = Share.of(s.words(), (kh * kw, self.n), s.scale)
            return halves(flat)
        shape, steps = (kh, kw // 2, *s.shape[2:]), (s.strides[0], 2 * s.strides[1], *s.strides[2:])
        first, second = (Share(s.body, shape, s.scale, steps, s.offset + at) for at in (0, s.strides[1]))
        return first, second, None


def _tags(places: _Places, g: Geometry, width: int) -> torch.Tensor:
    """[k, n] positions within the plane, row by row."""
    rows, cols = (
        (torch.arange(k) - pad).view(-1, 1) + torch.arange(out) * stride
        for k, out, stride, pad in zip(g.kernel, g.out, g.stride, g.padding, strict=True)
    )
    plane = rows.view(rows.shape[0], 1, -1, 1) * width + cols.view(1, cols.shape[0], 1, -1)
    lead = (1,) * (len(places.shape) - 2)
    wide = plane.reshape(math.prod(g.kernel), *lead, *g.out).expand(-1, *places.shape)
    return places.ordered(wide)


@implements(aten.max_pool2d_with_indices.default)
def max_pool2d_with_indices(
    x: SecretTensor,
    kernel_size: Any,
    stride: Any = (),
    padding: Any = (0,),
    dilation: Any = (1,),
    ceil_mode: bool = False,
) -> tuple[SecretTensor, SecretTensor]:
    """Largest of each window, and where in the plane it stood.

    Rounds of a comparison for each level of the tree, which is by groups of four where the windows
    have FEW elements in all, and by pairs where they have more.  Positions cost nothing until they are read.
    """
    if any(d != 1 for d in dilation):
        raise NotImplementedError("max pooling with dilation is not implemented for secret tensors")
    g = _geometry(x, kernel_size, stride, padding, ceil_mode)
    x.cell.settle()
    ph, pw = g.padding
    padded: Any = x
    if any(g.padding):
        narrow = x.session.suite.narrow
        low = LIMIT >> 2 if narrow is None else 1 << max(narrow.bits - 2, 0)
        padded = torch.nn.functional.pad(x, [pw, pw, ph, ph], value=-low / x.cell.scale)
    session = x.session
    places = _Places.of(padded.window(), g)
    k, n = math.prod(g.kernel), places.n
    if k == 1 or (k * n <= FEW and comparing(session).largest is not None):
        largest, levels, _ = tournament(session, Share.of(places.share.words(), (k, n), x.cell.scale))
    else:
        largest, levels = by_pairs(session, k, *places.pairs())
    values = like(x, Share(largest.body, places.shape, largest.scale, places.strides))
    body = Positions(session, levels, _tags(places, g, x.shape[-1]), largest.body.rows)
    where = Share(body, places.shape, 1, places.strides)
    return values, result(where, session, INTEGER, torch.int64)


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
    """Each window's gradient, to where its largest stood; a round for each level of the tree."""
    body = indices.cell.body
    if not isinstance(body, Positions):
        raise NotImplementedError("the gradient of max pooling needs the positions as max pooling returned them")
    g = _geometry(x, kernel_size, stride, padding, ceil_mode)
    session = indices.session
    known = public(grad, session, x.unit)
    share = grad.window() if known is None else session.suite.public(session.party, known.values, known.scale)
    places = _Places.of(_blank(x, g), g)
    top = Share.of(places.ordered(share.window(share.body.words)), (places.n,), share.scale)
    parts = body.levels.down(session, top).reshape(-1, *g.kernel, places.n)
    unit = x.unit if known is not None else grad.unit
    return result(_spread(x, g, parts, share.scale), session, unit, grad.dtype)


def _blank(x: SecretTensor, g: Geometry) -> Share:
    """The padded image as `max_pool2d_with_indices` saw it, without its words."""
    if any(g.padding):
        shape = (*x.shape[:-2], *(size + 2 * pad for size, pad in zip(g.image, g.padding, strict=True)))
        return Share(x.cell.body, shape)
    return x.window()


def _spread(x: SecretTensor, g: Geometry, parts: torch.Tensor, scale: int) -> Share:
    """[rows, kernel height, kernel width, n] summed back to where the windows lay on the image."""
    image = _blank(x, g)
    strides = strides_in(image.shape, memory_order(image.strides))
    apart = all(stride >= k for stride, k in zip(g.stride, g.kernel, strict=True))
    out = torch.zeros((parts.shape[0], image.numel), dtype=torch.int64)
    found = Share(Body(out), image.shape, scale, strides)
    places = _Places.of(found, g)
    whole = places.share.window(out)
    for i in range(g.kernel[0]):
        for j in range(g.kernel[1]):
            part = parts[:, i, j].reshape(parts.shape[0], *whole.shape[3:])
            whole[:, i, j].copy_(part) if apart else whole[:, i, j].add_(part)
    if any(g.padding):
        (ph, pw), (height, width) = g.padding, g.image
        inside = found.window(out)[..., ph : ph + height, pw : pw + width].contiguous()
        return Share.of(inside.reshape(out.shape[0], x.numel()), x.shape, scale)
    return found


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
    g = _geometry(x, kernel_size, stride, padding, ceil_mode)
    if any(g.padding) and not count_include_pad:
        raise NotImplementedError("average pooling with count_include_pad=False is not implemented for secrets")
    padded: Any = torch.nn.functional.pad(x, [g.padding[1]] * 2 + [g.padding[0]] * 2) if any(g.padding) else x
    places = _Places.of(padded.window(), g)
    whole = places.share.window(padded.cell.body.words)
    total = whole[:, 0, 0].clone(memory_format=torch.contiguous_format)
    for at in range(1, math.prod(g.kernel)):
        total += whole[:, at // g.kernel[1], at % g.kernel[1]]
    words = total.reshape(total.shape[0], places.n)
    summed = like(x, Share(Body(words), places.shape, places.share.scale, places.strides))
    return times(summed, Fraction(1, divisor_override or math.prod(g.kernel)))


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
    g = _geometry(x, kernel_size, stride, padding, ceil_mode)
    places = _Places.of(_blank(x, g), g)
    part = times(grad, Fraction(1, divisor_override or math.prod(g.kernel)))
    share = part.window()
    words = places.ordered(share.window(share.body.words))
    parts = words.reshape(-1, 1, 1, places.n).expand(-1, *g.kernel, -1)
    return like(part, _spread(x, g, parts, share.scale))
