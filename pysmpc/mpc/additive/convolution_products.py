"""Convolutions as products of windows, for any number of spatial dimensions.

An image [N, C, *S] of any strides is read through layouts (`pysmpc.ring.matrix_layout`) with its
batch innermost, so that a place in the kernel is a run of consecutive words and windows
are taken where they lie; padding is a position without a word.  Results are laid out
so, too.  The image and the filter are opened under their own masks, once; the
gradients use the same openings.  Cost: that of a product (`products.product_cost`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch

from pysmpc.ring.matrix_layout import Axis, Layout
from pysmpc.ring.shares import Share, dense_strides


@dataclass(frozen=True)
class Geometry:
    """Sizes of a convolution; each tuple has an entry a spatial dimension."""

    image: tuple[int, ...]
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int

    @property
    def out(self) -> tuple[int, ...]:
        """Spatial sizes of the result."""
        return tuple(
            (size + 2 * pad - step * (k - 1) - 1) // stride + 1
            for size, k, stride, pad, step in zip(
                self.image, self.kernel, self.stride, self.padding, self.dilation, strict=True
            )
        )


Strides = tuple[int, ...]


def _placed_map(
    axes: Sequence[Axis], sizes: Sequence[int], strides: Sequence[int], before: Sequence[int], spread: Sequence[int],
    padded: Sequence[int], last: Axis, offset: int,
) -> torch.Tensor:  # fmt: skip
    """Positions of an image [axes, padded and spread space, last] in its body; -1 in the gaps."""
    at = torch.full((1,), offset, dtype=torch.int64)
    for size, stride in axes:
        at = (at.unsqueeze(-1) + torch.arange(size) * stride).reshape(-1)
    real = torch.ones_like(at, dtype=torch.bool)
    for size, stride, skip, step, total in zip(sizes, strides, before, spread, padded, strict=True):
        u = torch.arange(total) - skip
        inside = (u >= 0) & (u % step == 0) & (u // step < size)
        at = (at.unsqueeze(-1) + torch.where(inside, u // step, 0) * stride).reshape(-1)
        real = (real.unsqueeze(-1) & inside).reshape(-1)
    found = torch.where(real, at, -1).unsqueeze(-1)
    return torch.where(found < 0, -1, found + torch.arange(last[0]) * last[1]).reshape(-1)


def _image(
    shape: Sequence[int], strides: Strides, offset: int, before: Sequence[int], spread: Sequence[int],
    padded: tuple[int, ...],
) -> tuple[Strides, int, torch.Tensor | None]:  # fmt: skip
    """(strides, offset, map) of an image once padded and spread, its batch innermost; itself if it is that."""
    innermost = shape[0] == 1 or strides[0] == 1
    if innermost and padded == tuple(shape[2:]) and not any(before) and all(step == 1 for step in spread):
        return strides, offset, None
    found = _placed_map(
        [(shape[1], strides[1])], shape[2:], strides[2:], before, spread, padded, (shape[0], strides[0]), offset
    )
    steps = dense_strides((shape[1], *padded, shape[0]))
    return (steps[-1], *steps[:-1]), 0, found


@lru_cache(maxsize=32)
def windows(g: Geometry, shape: tuple[int, ...], strides: Strides, offset: int) -> Layout:
    """[groups, (channel, kernel), (out, n)] of an image."""
    return _windows(g, shape, strides, offset, False)


@lru_cache(maxsize=32)
def windows_turned(g: Geometry, shape: tuple[int, ...], strides: Strides, offset: int) -> Layout:
    """[groups, (out, n), (channel, kernel)] of an image."""
    return _windows(g, shape, strides, offset, True)


def _windows(g: Geometry, shape: tuple[int, ...], strides: Strides, offset: int, turned: bool) -> Layout:
    n, channels = shape[0], shape[1] // g.groups
    padded = tuple(size + 2 * pad for size, pad in zip(g.image, g.padding, strict=True))
    steps, offset, found = _image(shape, strides, offset, g.padding, (1,) * len(padded), padded)
    space = steps[2:]
    taps = [(channels, steps[1]), *((k, d * p) for k, d, p in zip(g.kernel, g.dilation, space, strict=True))]
    places = [*((o, s * p) for o, s, p in zip(g.out, g.stride, space, strict=True)), (n, steps[0])]
    rows, cols = (places, taps) if turned else (taps, places)
    return Layout(rows, cols, [(g.groups, channels * steps[1])], offset, found)


@lru_cache(maxsize=32)
def filters(g: Geometry, shape: tuple[int, ...], strides: Strides, offset: int) -> Layout:
    """[groups, filter, (channel, kernel)] of a weight [filters, channels / groups, *kernel]."""
    each = shape[0] // g.groups
    return Layout(
        rows=[(each, strides[0])],
        cols=list(zip(shape[1:], strides[1:], strict=True)),
        batch=[(g.groups, each * strides[0])],
        offset=offset,
    )


@lru_cache(maxsize=32)
def outputs(g: Geometry, shape: tuple[int, ...], strides: Strides, offset: int) -> Layout:
    """[groups, filter, (out, n)] of a result (or its gradient)."""
    each, none = shape[1] // g.groups, (0,) * len(g.out)
    steps, offset, found = _image(shape, strides, offset, none, (1,) * len(g.out), tuple(shape[2:]))
    return Layout(
        rows=[(each, steps[1])],
        cols=[*zip(shape[2:], steps[2:], strict=True), (shape[0], steps[0])],
        batch=[(g.groups, each * steps[1])],
        offset=offset,
        map=found,
    )


@lru_cache(maxsize=32)
def reversed_windows(g: Geometry, shape: tuple[int, ...], strides: Strides, offset: int) -> Layout:
    """[groups, (filter, kernel), (image, n)]: where each pixel met each filter.

    shape, strides, offset are those of the gradient of the result, which is spread by
    the stride and padded so that a window of it, kernel reversed, lies under a pixel.
    """
    n, each = shape[0], shape[1] // g.groups
    reach = [d * (k - 1) for k, d in zip(g.kernel, g.dilation, strict=True)]
    padded = tuple(size + r for size, r in zip(g.image, reach, strict=True))
    before = [r - pad for r, pad in zip(reach, g.padding, strict=True)]
    steps, offset, found = _image(shape, strides, offset, before, g.stride, padded)
    space = steps[2:]
    return Layout(
        rows=[(each, steps[1]), *((k, -d * p) for k, d, p in zip(g.kernel, g.dilation, space, strict=True))],
        cols=[*zip(g.image, space, strict=True), (n, steps[0])],
        batch=[(g.groups, each * steps[1])],
        offset=offset + sum(r * p for r, p in zip(reach, space, strict=True)),
        map=found,
    )


@lru_cache(maxsize=32)
def channels(g: Geometry, shape: tuple[int, ...], strides: Strides, offset: int) -> Layout:
    """[groups, channel, (filter, kernel)] of a weight."""
    each = shape[0] // g.groups
    return Layout(
        rows=[(shape[1], strides[1])],
        cols=[(each, strides[0]), *zip(shape[2:], strides[2:], strict=True)],
        batch=[(g.groups, each * strides[0])],
        offset=offset,
    )


def of(share: Share) -> tuple[tuple[int, ...], Strides, int]:
    """What a layout needs to know of a share."""
    return share.shape, share.strides, share.offset
