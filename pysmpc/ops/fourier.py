"""Torch's Fourier transforms that have real results, as products of secrets with public matrices.

The transform along each dimension is what torch makes of the unit vectors in float64.  What is complex on the way is
a pair of secrets.  A secret is real, so that transforms with complex results are refused: their real and imaginary
parts are products with those of the public matrix torch.fft.fft(torch.eye(n)).  To a step, and n 2^-24 of the largest
element; no message along one dimension, and a round for each further one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from pysmpc.ops.core import axis

Pair = tuple[Any, Any]  # real and imaginary part; None where that is 0

FINER = 1 << 8  # how much finer the public matrices are encoded


class _Product(torch.autograd.Function):
    """x times a public matrix that is encoded finely, and so is its transpose in the derivative."""

    @staticmethod
    def forward(ctx: Any, x: Any, matrix: torch.Tensor) -> Any:
        ctx.matrix = matrix
        with torch._C._AutoDispatchBelowAutograd():
            return torch.matmul(x, (matrix * FINER).to(x.dtype)) / FINER

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        return _Product.apply(grad, ctx.matrix.t()), None


def _along(x: Any, matrix: torch.Tensor, dim: int) -> Any:
    """x times a public matrix along a dimension."""
    return _Product.apply(x.movedim(dim, -1), matrix).movedim(-1, dim)


def _turned(x: Pair, matrix: torch.Tensor, dim: int) -> Pair:
    """A pair times a complex matrix along a dimension."""
    (re, im), a, b = x, matrix.real, matrix.imag
    if im is None:
        return _along(re, a, dim), _along(re, b, dim)
    return _along(re, a, dim) - _along(im, b, dim), _along(re, b, dim) + _along(im, a, dim)


def _units(k: int) -> torch.Tensor:
    return torch.eye(k, dtype=torch.complex128)


def _last(x: Pair, transform: Any, n: int, dim: int, norm: str | None) -> Any:
    """A transform with a real result, along the last of its dimensions."""
    re, im = x
    units = _units(re.shape[dim])
    out = _along(re, transform(units, n=n, norm=norm), dim)
    return out if im is None else out + _along(im, transform(1j * units, n=n, norm=norm), dim)


def _over(x: Any, s: Any, dim: Any, norm: str | None, inner: Any, last: Any) -> Any:
    """`inner` along all dimensions but the last of those that are named, and `last` along that."""
    if not x.is_floating_point():
        x = x.to(torch.get_default_dtype())
    if dim is None:
        count = x.dim() if s is None else len(s)
        axes: Sequence[int] = range(x.dim() - count, x.dim())
    else:
        axes = [axis(d, x.dim()) for d in ([dim] if isinstance(dim, int) else dim)]
    sizes = [-1] * len(axes) if s is None else list(s)
    if len(sizes) != len(axes) or not axes or len(set(axes)) < len(axes):
        raise RuntimeError(f"a transform along dimensions {list(axes)} takes a size for each of them, not {sizes}")
    given = [x.shape[d] if n == -1 else n for d, n in zip(axes, sizes, strict=True)]
    given[-1] = 2 * (x.shape[axes[-1]] - 1) if sizes[-1] == -1 else sizes[-1]
    if min(given) < 1:
        raise RuntimeError(f"invalid number of data points ({min(given)}) specified")
    pair: Pair = x, None
    for d, n in zip(axes[:-1], given[:-1], strict=True):
        pair = _turned(pair, inner(_units(x.shape[d]), n=n, norm=norm), d)
    return _last(pair, last, given[-1], axes[-1], norm)


def _no_target(out: Any) -> None:
    if out is not None:
        raise TypeError("a Fourier transform of a secret takes no out=; it gives a new secret")


def _real(last: Any, inner: Any, rank: int) -> Callable[..., Any]:
    """A transform with a real result: along one dimension, two, or any number (0)."""

    def one(input: Any, n: Any = None, dim: int = -1, norm: Any = None, *, out: Any = None) -> Any:
        _no_target(out)
        return _over(input, None if n is None else [n], [dim], norm, inner, last)

    def two(input: Any, s: Any = None, dim: Any = (-2, -1), norm: Any = None, *, out: Any = None) -> Any:
        _no_target(out)
        return _over(input, s, dim, norm, inner, last)

    def several(input: Any, s: Any = None, dim: Any = None, norm: Any = None, *, out: Any = None) -> Any:
        _no_target(out)
        return _over(input, s, dim, norm, inner, last)

    return {1: one, 2: two, 0: several}[rank]


TRANSFORMS: dict[str, Callable[..., Any]] = {  # by their names in torch.fft
    "irfft": _real(torch.fft.irfft, torch.fft.ifft, 1),
    "irfft2": _real(torch.fft.irfft, torch.fft.ifft, 2),
    "irfftn": _real(torch.fft.irfft, torch.fft.ifft, 0),
    "hfft": _real(torch.fft.hfft, torch.fft.fft, 1),
    "hfft2": _real(torch.fft.hfft, torch.fft.fft, 2),
    "hfftn": _real(torch.fft.hfft, torch.fft.fft, 0),
}
