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

from pysmpc.mpc.additive.convolution_products import Geometry
from pysmpc.ops.comparing import comparing
from pysmpc.ops.convolution import each
from pysmpc.ops.core import aten, in_range, like, result
from pysmpc.ops.public_operands import public
from pysmpc.ops.registering import implements
from pysmpc.ops.resampling import adaptive_windows, average_windows, averages, averages_backward, fixed_windows
from pysmpc.ops.scales import times
from pysmpc.ops.tournament import Levels, Positions, by_pairs, halves, tournament
from pysmpc.ring.fixedpoint import INTEGER, LIMIT
from pysmpc.ring.shares import Share, ShareStorage, memory_order, strides_in
from pysmpc.tensor.secret import SecretTensor

FEW = 1 << 13  # beyond them half the rounds are not worth twice the processor time, and 1.5 times the bytes


def _geometry(x: Any, kernel: Any, stride: Any, padding: Any, ceil_mode: bool) -> Geometry:
    assert not ceil_mode
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
    if ceil_mode or any(d != 1 for d in dilation):
        return largest_of(x, 2, kernel_size, stride, padding, dilation, ceil_mode)
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
    if body.table is not None:
        return spread_back(grad, x, body.levels, body.table)
    g = _geometry(x, kernel_size, stride, padding, ceil_mode)
    session = indices.session
    known = public(grad, session, x.unit)
    share = grad.window() if known is None else session.suite.public(session.party, known.values, known.scale)
    if known is None:
        in_range(grad, None, math.prod(g.kernel))
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
    found = Share(ShareStorage(out), image.shape, scale, strides)
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
    if ceil_mode or (any(padding) and not count_include_pad):
        facts = kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override
        return averages(x, *average_windows(x.shape, 2, *facts))
    g = _geometry(x, kernel_size, stride, padding, ceil_mode)
    padded: Any = torch.nn.functional.pad(x, [g.padding[1]] * 2 + [g.padding[0]] * 2) if any(g.padding) else x
    places = _Places.of(padded.window(), g)

    def total(data: torch.Tensor) -> torch.Tensor:
        whole = places.share.window(data)
        found = whole[:, 0, 0].clone(memory_format=torch.contiguous_format)
        for at in range(1, math.prod(g.kernel)):
            found += whole[:, at // g.kernel[1], at % g.kernel[1]]
        return found

    flat = like(padded, Share(padded.cell.body, (padded.cell.body.n,), places.share.scale))
    in_range(flat, lambda values: total(values.unsqueeze(0)), math.prod(g.kernel))
    words = total(padded.cell.body.words)
    words = words.reshape(words.shape[0], places.n)
    summed = like(x, Share(ShareStorage(words), places.shape, places.share.scale, places.strides))
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
    if ceil_mode or (any(padding) and not count_include_pad):
        facts = kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override
        return averages_backward(grad, x.shape, *average_windows(x.shape, 2, *facts))
    g = _geometry(x, kernel_size, stride, padding, ceil_mode)
    places = _Places.of(_blank(x, g), g)
    part = times(grad, Fraction(1, divisor_override or math.prod(g.kernel)))
    in_range(part, None, math.prod(g.kernel))
    share = part.window()
    words = places.ordered(share.window(share.body.words))
    parts = words.reshape(words.shape[0], 1, 1, places.n).expand(-1, *g.kernel, -1)
    return like(part, _spread(x, g, parts, share.scale))


# --- windows of any form: their elements are listed in a table --------------------------


def _listed(windows: list[list[list[int]]], sizes: tuple[int, ...]) -> tuple[torch.Tensor, tuple[int, ...]]:
    """[k, windows]: flat positions in an image of the elements of each window, and how many windows a dimension.

    windows: by dimension, by window, positions along it.  Windows with fewer than k elements have one several times:
    the first of equals is the same.
    """
    found = torch.zeros((1, 1), dtype=torch.int64)
    for axis, size in zip(windows, sizes, strict=True):
        longest = max(map(len, axis))
        padded = torch.tensor([each + each[:1] * (longest - len(each)) for each in axis]).t()  # [k, out]
        found = found.unsqueeze(1).unsqueeze(-1) * size + padded.unsqueeze(0).unsqueeze(-2)
        found = found.reshape(found.shape[0] * longest, -1)
    return found, tuple(map(len, windows))


def _fixed(x: Any, n: int, kernel: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: bool) -> Any:
    size = each(kernel, n)
    steps, pads, gaps = each(stride or size, n), each(padding, n), each(dilation, n)
    windows = []
    for length, k, step, pad, gap in zip(x.shape[-n:], size, steps, pads, gaps, strict=True):
        whole = fixed_windows(length, gap * (k - 1) + 1, step, pad, ceil_mode)
        windows.append([[at for at in w[::gap] if 0 <= at < length] for w in whole])
    return _listed(windows, tuple(x.shape[-n:]))


def _flat_planes(x: SecretTensor, n: int) -> torch.Tensor:
    """[rows, planes, elements] words."""
    share = x.window()
    words = share.window(share.body.words)
    return words.reshape(words.shape[0], math.prod(x.shape[:-n]), math.prod(x.shape[-n:]))


def _largest(
    x: SecretTensor, dims: int, table: torch.Tensor, out: tuple[int, ...]
) -> tuple[SecretTensor, SecretTensor]:
    x.cell.settle()
    session = x.session
    k, lead = table.shape[0], math.prod(x.shape[:-dims])
    shape = (*x.shape[:-dims], *out)
    words = _flat_planes(x, dims)[:, :, table].transpose(1, 2).contiguous()  # [rows, k, planes, windows]
    n = math.prod(shape)
    candidates = Share.of(words.reshape(words.shape[0], k * n), (k, n), x.cell.scale)
    largest, levels, _ = tournament(session, candidates, groups=k * n <= FEW)
    values = like(x, Share.of(largest.words(), shape, largest.scale))
    tags = table.unsqueeze(1).expand(k, lead, -1).reshape(k, n)
    body = Positions(session, levels, tags, words.shape[0], table)
    return values, result(Share(body, shape, 1), session, INTEGER, torch.int64)


def largest_of(
    x: SecretTensor, n: int, kernel: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: bool
) -> tuple[SecretTensor, SecretTensor]:
    """Largest of each window of the last n dimensions, and where it stood, by a table."""
    return _largest(x, n, *_fixed(x, n, kernel, stride, padding, dilation, ceil_mode))


def spread_back(grad: Any, x: Any, levels: Levels, table: torch.Tensor) -> SecretTensor:
    """Each window's gradient to where its largest stood, by the table."""
    session = x.session
    known = public(grad, session, x.unit)
    if known is None:
        share, unit = grad.window(), grad.unit
        in_range(grad, None, table.shape[1])
    else:
        share, unit = session.suite.public(session.party, known.values.contiguous(), known.scale), x.unit
    top = Share.of(share.words(), (levels.n,), share.scale)
    parts = levels.down(session, top)  # [rows, k, planes * windows]
    rows, lead = parts.shape[0], levels.n // table.shape[1]
    flat = parts.reshape(rows, table.shape[0], lead, table.shape[1]).transpose(1, 2).reshape(rows, lead, table.numel())
    out = torch.zeros((rows, lead, x.numel() // max(lead, 1)), dtype=torch.int64)
    out.index_add_(2, table.reshape(-1), flat)
    return result(Share.of(out.reshape(rows, x.numel()), x.shape, share.scale), session, unit, grad.dtype)


@implements(aten.max_pool3d_with_indices.default)
def max_pool3d_with_indices(
    x: SecretTensor,
    kernel_size: Any,
    stride: Any = (),
    padding: Any = (0,),
    dilation: Any = (1,),
    ceil_mode: bool = False,
) -> tuple[SecretTensor, SecretTensor]:
    """As `max_pool2d_with_indices`."""
    return largest_of(x, 3, kernel_size, stride, padding, dilation, ceil_mode)


def _spread_by(indices: Any, grad: Any, x: Any) -> SecretTensor:
    body = indices.cell.body if isinstance(indices, SecretTensor) else None
    if not isinstance(body, Positions) or body.table is None:
        raise NotImplementedError("the gradient of max pooling needs the positions as max pooling returned them")
    return spread_back(grad, x, body.levels, body.table)


@implements(aten.max_pool3d_with_indices_backward.default)
def max_pool3d_with_indices_backward(
    grad: Any,
    x: Any,
    kernel_size: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    ceil_mode: bool,
    indices: SecretTensor,
) -> SecretTensor:
    """As `max_pool2d_with_indices_backward`."""
    return _spread_by(indices, grad, x)


def _adaptive_maximum(n: int) -> None:
    @implements(getattr(aten, f"adaptive_max_pool{n}d").default)
    def pool(x: SecretTensor, output_size: Any) -> tuple[SecretTensor, SecretTensor]:
        sizes = x.shape[-n:]
        windows = [list(map(list, adaptive_windows(size, out))) for size, out in zip(sizes, output_size, strict=True)]
        return _largest(x, n, *_listed(windows, tuple(sizes)))

    @implements(getattr(aten, f"adaptive_max_pool{n}d_backward").default)
    def pool_backward(grad: Any, x: Any, indices: Any) -> SecretTensor:
        return _spread_by(indices, grad, x)


_adaptive_maximum(2)
_adaptive_maximum(3)
