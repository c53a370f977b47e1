"""Torch's Fourier transforms, as products of real secrets with public matrices.

torch.fft, stft and istft come down to three operations: of real numbers, of complex ones, and with a real result.
Along one dimension each is linear, on real and imaginary parts side by side; what it makes of the unit vectors in
float64 is its matrix, which `finer` encodes.  To a step, and n 2^-25 (two holders' encoding of 16 bits; in general
n / 2^9 steps) of the largest element.  No message along one dimension; along each further one the result of the one
before is rounded first, one round and 16 bytes an element and peer.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch

from pysmpc.ops.complex_values import joined, of, shaped, to_last
from pysmpc.ops.core import aten
from pysmpc.tensor.secret import MAY_BE_COMPLEX

FINER = 8  # bits by which public matrices are encoded finer than secrets


def _finer(matrix: torch.Tensor) -> int:
    """A power of two with which a matrix is multiplied before it is encoded.

    Half of the bits that its largest entry is below 1 make it finer, the other half leave room for the sum.
    """
    largest = float(matrix.abs().max()) if matrix.numel() else 1.0
    below = max(0, -math.frexp(largest)[1]) if largest else 0
    return 1 << FINER + below // 2


def _times(x: Any, matrix: torch.Tensor) -> Any:
    """A real secret [..., k] times a public matrix [k, m]."""
    finer = _finer(matrix)
    rows = math.prod(x.shape[:-1])
    out = aten.mm.default(shaped(x, (rows, x.shape[-1])), (matrix * finer).to(x.dtype)) / finer
    return shaped(out, (*x.shape[:-1], matrix.shape[1]))


def _parts(x: torch.Tensor) -> torch.Tensor:
    """Real and imaginary parts side by side in the last dimension."""
    return torch.view_as_real(x.resolve_conj()).flatten(-2)


def _units(n: int) -> torch.Tensor:
    """What a transform makes of real and imaginary units: [2n, n], 1 and 1j for each element."""
    one = torch.eye(n, dtype=torch.complex128)
    return torch.stack([one, 1j * one], 1).reshape(2 * n, n)


def _along(pair: Any, dim: int, transform: Callable[[torch.Tensor], torch.Tensor]) -> Any:
    """Parts [..., 2] of which those along a dimension are transformed."""
    moved = to_last(pair, dim, -2)
    *others, n, _ = moved.shape
    out = _times(shaped(moved, (*others, 2 * n)), _parts(transform(_units(n))))
    return to_last(shaped(out, (*others, out.shape[-1] // 2, 2)), -2, dim)


@of(aten._fft_c2c)
def complex_to_complex(x: Any, dim: Sequence[int], normalization: int, forward: bool) -> Any:
    """The transform of complex numbers along dimensions."""
    pair = x.pair
    for d in dim:
        pair = _along(pair, d % x.dim(), lambda units: aten._fft_c2c.default(units, [1], normalization, forward))
    return joined(pair) if len(dim) else x.clone()


def real_to_complex(x: Any, dim: Sequence[int], normalization: int, onesided: bool) -> Any:
    """The transform of real numbers, of which the last of the dimensions may be given by half of it."""
    *others, last = (d % x.dim() for d in dim)
    moved = to_last(x, last)
    units = torch.eye(moved.shape[-1], dtype=torch.float64)
    out = _times(moved, _parts(aten._fft_r2c.default(units, [1], normalization, onesided)))
    pair = to_last(shaped(out, (*moved.shape[:-1], out.shape[-1] // 2, 2)), -2, last)
    return complex_to_complex(joined(pair), others, normalization, True) if others else joined(pair)


@of(aten._fft_c2r)
def complex_to_real(x: Any, dim: Sequence[int], normalization: int, last_dim_size: int) -> Any:
    """The transform back to real numbers, of the half that is stored along the last of the dimensions."""
    *others, last = (d % x.dim() for d in dim)
    x = complex_to_complex(x, others, normalization, False) if others else x
    moved = to_last(x.pair, last, -2)
    *others, n, _ = moved.shape
    matrix = aten._fft_c2r.default(_units(n), [1], normalization, last_dim_size)
    return to_last(_times(shaped(moved, (*others, 2 * n)), matrix), -1, last)


MAY_BE_COMPLEX[aten._fft_r2c.default] = lambda args, kwargs: real_to_complex(*args, **(kwargs or {}))
