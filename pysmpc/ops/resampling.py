"""Padding, resizing and averaging: public linear maps along one dimension after another.

Where each result is one element, or a plain sum of elements, every holder moves and adds its own words, and nothing is
rounded.  Where weights are fractions of a small common denominator, they are used as integers and divided by it as a
change of scale; only other weights are rounded to the encoding.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from fractions import Fraction
from functools import lru_cache
from typing import Any

import torch

from pysmpc.ops.core import aten, moved
from pysmpc.ops.linear import matrix_product
from pysmpc.ops.placing import EXACT, mean_of
from pysmpc.ops.registering import implements
from pysmpc.ops.scales import times
from pysmpc.tensor.secret import SecretTensor

# --- moves along a dimension: an index of each result, and back ------------------------


def taken(x: SecretTensor, dim: int, index: torch.Tensor) -> SecretTensor:
    """x at public positions along a dimension."""
    return moved(x, lambda words: words.index_select(dim % x.dim() + 1, index))


def given_back(x: SecretTensor, dim: int, index: torch.Tensor, size: int) -> SecretTensor:
    """The gradient of `taken` from a dimension of a size: sums where a position was taken several times."""

    def place(words: torch.Tensor) -> torch.Tensor:
        axis = dim % x.dim() + 1
        shape = (*words.shape[:axis], size, *words.shape[axis + 1 :])
        return torch.zeros(shape, dtype=words.dtype).index_add_(axis, index, words)

    return moved(x, place, index.numel())


# --- padding ---------------------------------------------------------------------------


def _reflected(n: int, before: int, after: int) -> torch.Tensor:
    if before >= n or after >= n:
        raise RuntimeError(f"reflection padding of {before} and {after} must be smaller than the dimension of {n}")
    at = torch.arange(-before, n + after).abs()
    return torch.where(at >= n, 2 * (n - 1) - at, at)


def _replicated(n: int, before: int, after: int) -> torch.Tensor:
    return torch.arange(-before, n + after).clamp(0, n - 1)


def _padding(forward: Any, backward: Any, positions: Callable[[int, int, int], torch.Tensor]) -> None:
    def indices(shape: Sequence[int], padding: Sequence[int]) -> list[tuple[int, torch.Tensor]]:
        pairs = zip(padding[::2], padding[1::2], strict=True)
        found = [(-1 - k, positions(shape[-1 - k], *pair)) for k, pair in enumerate(pairs)]
        for dim, index in found:
            if not index.numel() or int(index.min()) < 0:
                raise RuntimeError(f"padding {tuple(padding)} leaves nothing of dimension {dim} of {tuple(shape)}")
        return found

    @implements(forward)
    def pad(x: SecretTensor, padding: Sequence[int]) -> SecretTensor:
        for dim, index in indices(x.shape, padding):
            x = taken(x, dim, index)
        return x

    @implements(backward)
    def pad_backward(grad: SecretTensor, x: torch.Tensor, padding: Sequence[int]) -> SecretTensor:
        for dim, index in indices(x.shape, padding):
            grad = given_back(grad, dim, index, x.shape[dim])
        return grad


for _n in (1, 2, 3):
    for _name, _positions in (("reflection", _reflected), ("replication", _replicated)):
        _of = f"{_name}_pad{_n}d"
        _padding(getattr(aten, _of).default, getattr(aten, f"{_of}_backward").default, _positions)


# --- weights along a dimension -------------------------------------------------------


@lru_cache(maxsize=256)
def _whole(weights: tuple[tuple[float, ...], ...]) -> tuple[torch.Tensor, int]:
    """Weights as integers over a common denominator, 0 where there is no small one."""
    known: dict[float, Fraction] = {}
    denominator = 1
    for value in {w for row in weights for w in row}:
        near = Fraction(value).limit_denominator(EXACT)
        known[value] = near
        denominator = math.lcm(denominator, near.denominator)
        if abs(float(near) - value) > 1e-12 or denominator > EXACT:
            return torch.tensor(weights, dtype=torch.float64), 0
    rows = [[int(known[w] * denominator) for w in row] for row in weights]
    return torch.tensor(rows, dtype=torch.int64).reshape(len(weights), -1), denominator


def weighted(x: SecretTensor, dim: int, weights: torch.Tensor) -> SecretTensor:
    """Public weights [out, in] applied along a dimension."""
    values, denominator = _whole(tuple(map(tuple, weights.tolist())))
    last = x.movedim(dim, -1)
    out = matrix_product(last.reshape(1, math.prod(last.shape[:-1]), last.shape[-1]), values.t().unsqueeze(0))
    out = out.reshape(*last.shape[:-1], weights.shape[0]).movedim(-1, dim)
    return times(out, Fraction(1, denominator)) if denominator > 1 else out


# --- resizing --------------------------------------------------------------------------

# weights(in, out, align_corners, scale): [in, out], by torch's own function on a unit matrix
_Weights = Callable[[int, int, Any, Any], torch.Tensor]


def _linear(n: int, size: int, align: Any, scale: Any) -> torch.Tensor:
    unit = torch.eye(n, dtype=torch.float64).unsqueeze(0)
    found: torch.Tensor = aten.upsample_linear1d.default(unit, [size], align, scale)[0]
    return found


def _planar(function: Any) -> _Weights:
    def weights(n: int, size: int, align: Any, scale: Any) -> torch.Tensor:
        # of several columns alike: torch's antialiased functions are wrong for one
        unit = torch.eye(n, dtype=torch.float64).reshape(1, n, n, 1).repeat(1, 1, 1, 4)
        found: torch.Tensor = function(unit, [size, 4], align, scale, None)[0, :, :, 0]
        return found

    return weights


def _resizing(name: str, dims: int, weights: _Weights) -> None:
    forward, backward = getattr(aten, name).default, getattr(aten, f"{name}_backward").default

    @implements(forward)
    def resize(x: SecretTensor, output_size: Sequence[int], align_corners: bool, *scales: Any) -> SecretTensor:
        for dim, size, scale in zip(range(-dims, 0), output_size, scales or (None,) * dims, strict=True):
            if size != x.shape[dim] or scale not in (None, 1):
                x = weighted(x, dim, weights(x.shape[dim], size, align_corners, scale).t())
        return x

    @implements(backward)
    def resize_backward(
        grad: SecretTensor, output_size: Sequence[int], input_size: Sequence[int], align_corners: bool, *scales: Any
    ) -> SecretTensor:
        for dim, size, scale in zip(range(-dims, 0), output_size, scales or (None,) * dims, strict=True):
            if size != input_size[dim] or scale not in (None, 1):
                grad = weighted(grad, dim, weights(input_size[dim], size, align_corners, scale))
        return grad


_resizing("upsample_linear1d", 1, _linear)
_resizing("upsample_bilinear2d", 2, _linear)
_resizing("upsample_trilinear3d", 3, _linear)
_resizing("upsample_bicubic2d", 2, _planar(aten.upsample_bicubic2d.default))
_resizing("_upsample_bilinear2d_aa", 2, _planar(aten._upsample_bilinear2d_aa.default))
_resizing("_upsample_bicubic2d_aa", 2, _planar(aten._upsample_bicubic2d_aa.default))


def _nearest(prefix: str, n: int) -> None:
    name = f"{prefix}{n}d"
    one = getattr(aten, f"{prefix}1d").default
    forward, backward = getattr(aten, name).default, getattr(aten, f"{name}_backward").default

    def index(size: int, out: int, scale: Any) -> torch.Tensor:
        at = torch.arange(size, dtype=torch.float64).reshape(1, 1, -1)
        found: torch.Tensor = one(at, [out], scale).reshape(-1).to(torch.int64)
        return found

    @implements(forward)
    def nearest(x: SecretTensor, output_size: Sequence[int], *scales: Any) -> SecretTensor:
        for dim, size, scale in zip(range(-n, 0), output_size, scales or (None,) * n, strict=True):
            x = taken(x, dim, index(x.shape[dim], size, scale))
        return x

    @implements(backward)
    def nearest_backward(
        grad: SecretTensor, output_size: Sequence[int], input_size: Sequence[int], *scales: Any
    ) -> SecretTensor:
        for dim, size, scale in zip(range(-n, 0), output_size, scales or (None,) * n, strict=True):
            grad = given_back(grad, dim, index(input_size[dim], size, scale), input_size[dim])
        return grad


for _n in (1, 2, 3):
    _nearest("upsample_nearest", _n)
    _nearest("_upsample_nearest_exact", _n)


# --- averages of windows ---------------------------------------------------------------


def adaptive_windows(n: int, out: int) -> list[range]:
    """Where each of so many windows begins and ends, as torch's adaptive pooling has them."""
    return [range(i * n // out, -(-(i + 1) * n // out)) for i in range(out)]


def fixed_windows(n: int, kernel: int, stride: int, padding: int, ceil_mode: bool) -> list[range]:
    """Windows over a padded dimension: from -padding on, the padding included."""
    room = n + 2 * padding - kernel
    out = (-(-room // stride) if ceil_mode else room // stride) + 1
    if ceil_mode and (out - 1) * stride >= n + padding:
        out -= 1  # the last window must begin inside the image or its padding before it
    if out < 1:
        raise RuntimeError(f"a window of {kernel} does not fit a dimension of {n} with padding {padding}")
    return [range(i * stride - padding, i * stride - padding + kernel) for i in range(out)]


def _members(windows: Sequence[range], n: int) -> torch.Tensor:
    """Which elements are in which window: [out, n] of 0 and 1."""
    found = torch.zeros((len(windows), n), dtype=torch.int64)
    for i, window in enumerate(windows):
        found[i, max(window.start, 0) : min(window.stop, n)] = 1
    return found


def _divided(x: SecretTensor, counts: Sequence[torch.Tensor]) -> SecretTensor:
    """x over the product of counts along its last dimensions."""
    whole = torch.ones((), dtype=torch.int64)
    for each in counts:
        whole = whole.unsqueeze(-1) * each
    return mean_of(x, whole)


def averages(x: SecretTensor, windows: Sequence[Sequence[range]], counts: Sequence[torch.Tensor]) -> SecretTensor:
    """Sums over windows of the last dimensions, over counts: no message."""
    for dim, each in zip(range(-len(windows), 0), windows, strict=True):
        x = weighted(x, dim, _members(each, x.shape[dim]))
    return _divided(x, counts)


def averages_backward(
    grad: SecretTensor, shape: Sequence[int], windows: Sequence[Sequence[range]], counts: Sequence[torch.Tensor]
) -> SecretTensor:
    """The gradient of `averages` of a shape."""
    grad = _divided(grad, counts)
    for dim, each in zip(range(-len(windows), 0), windows, strict=True):
        grad = weighted(grad, dim, _members(each, shape[dim]).t())
    return grad


def _adaptive(shape: Sequence[int], out: Sequence[int]) -> tuple[list[list[range]], list[torch.Tensor]]:
    windows = [adaptive_windows(n, size) for n, size in zip(shape[-len(out) :], out, strict=True)]
    return windows, [torch.tensor([len(w) for w in each]) for each in windows]


def _adaptive_average(n: int) -> None:
    @implements(getattr(aten, f"_adaptive_avg_pool{n}d").default)
    def pool(x: SecretTensor, output_size: Sequence[int]) -> SecretTensor:
        return averages(x, *_adaptive(x.shape, output_size))

    @implements(getattr(aten, f"_adaptive_avg_pool{n}d_backward").default)
    def pool_backward(grad: SecretTensor, x: torch.Tensor) -> SecretTensor:
        return averages_backward(grad, x.shape, *_adaptive(x.shape, grad.shape[-n:]))


_adaptive_average(2)
_adaptive_average(3)


def average_windows(
    shape: Sequence[int],
    n: int,
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    ceil_mode: bool,
    count_include_pad: bool,
    divisor: int | None,
) -> tuple[list[list[range]], list[torch.Tensor]]:
    """Windows of the last n dimensions and by what their sums are divided, as torch has them."""

    def each(values: Sequence[int]) -> Sequence[int]:
        return list(values) * n if len(values) == 1 else values

    kernel, padding = each(kernel), each(padding)
    stride = each(stride) if stride else kernel
    windows, counts = [], []
    for size, k, step, pad in zip(shape[-n:], kernel, stride, padding, strict=True):
        found = fixed_windows(size, k, step, pad, ceil_mode)
        low, high = (-pad, size + pad) if count_include_pad else (0, size)
        windows.append(found)
        counts.append(torch.tensor([min(w.stop, high) - max(w.start, low) for w in found]))
    if divisor is not None:
        counts = [torch.ones_like(c) for c in counts]
        counts[0] = counts[0] * divisor
    return windows, counts


@implements(aten.avg_pool3d.default)
def avg_pool3d(
    x: SecretTensor,
    kernel_size: Sequence[int],
    stride: Sequence[int] = (),
    padding: Sequence[int] = (0,),
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> SecretTensor:
    """Means of windows; no message."""
    facts = kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override
    return averages(x, *average_windows(x.shape, 3, *facts))


@implements(aten.avg_pool3d_backward.default)
def avg_pool3d_backward(
    grad: SecretTensor,
    x: torch.Tensor,
    kernel_size: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    ceil_mode: bool,
    count_include_pad: bool,
    divisor_override: int | None,
) -> SecretTensor:
    """Each window's gradient, spread evenly."""
    facts = kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override
    return averages_backward(grad, x.shape, *average_windows(x.shape, 3, *facts))
