"""Eigenvalues of symmetric secret matrices, and singular values, with their vectors, by Jacobi's rotations.

method   the matrix over its Frobenius norm, one-sided rotations (`pysmpc.ops.jacobi`), and a sort
domain   up to 32 columns, or rows, whichever are fewer; |A|_F from 2^-6 to 2^12 at 16 fractional bits.  Vectors of
         singular values below 2^-9 |A|_F, and of values that are nearly equal, are determined by rounding.
         Torch leaves the signs of vectors open, and so does this
error    of values, a step and n 2^-22 |A|_F; of vectors, n 2^-20 |A|_F over the distance to the nearest other value
         (for singular vectors: |A|_F^2 over the distance of squares)
rounds   25 (n - 1) + 6 for each of 3 + log2 n sweeps (n for n - 1, if n is odd), and about 60
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from pysmpc.mpc.functions.normaliser import inverse_root, root
from pysmpc.ops.arithmetic import add, mul, sub
from pysmpc.ops.core import aten, like
from pysmpc.ops.divisions import square
from pysmpc.ops.fine_matrices import at, batched, check_square, elementwise, fine_scale, multiple_of_unit, shortened
from pysmpc.ops.jacobi import orthogonalised
from pysmpc.ops.linear import matrix_product, sum_dim
from pysmpc.ops.registering import implements
from pysmpc.ops.secret_positions import bits_of
from pysmpc.ops.sorting import sorted_along
from pysmpc.ring.shares import Share
from pysmpc.tensor.secret import SecretTensor

LARGEST = 32  # columns
SHIFT = 2  # Frobenius norms that are added to eigenvalues, so that all are positive


def _check_size(n: int, what: str) -> None:
    """NotImplementedError for more columns than there are rounds for."""
    if n > LARGEST:
        raise NotImplementedError(
            f"{what} is of matrices of up to {LARGEST} columns or rows, not {n}: each pair of them is turned several "
            "times, about 200 rounds a column; for the largest value, iterate v = x @ v / (x @ v).norm()"
        )


def _normed(rows: SecretTensor, scale: int) -> tuple[Any, Any]:
    """(A over its Frobenius norm, that norm [b, 1]).  21 rounds."""
    session = rows.session
    total = sum_dim(square(rows), [-2, -1], True)
    inverse = like(rows, inverse_root(session.suite, session.party, total.window(), scale))
    norm: Any = like(rows, root(session.suite, session.party, total.window(), scale))
    return elementwise(rows, inverse, scale), norm.reshape(norm.shape[0], 1)


def _ordered(values: SecretTensor, descending: bool, *vectors: Any) -> tuple[Any, ...]:
    """Values [b, n] from the smallest up, or the largest down, and columns of vectors [b, m, n] in that order."""
    found, where = sorted_along(values, -1, descending)
    if not vectors:
        return (found,)
    b, n = values.shape
    bits = bits_of(where, n)  # [b, n, n], a row for each rank
    turn: Any = like(values, Share.of(bits.words(), (b, n, n)))
    whole: Any = matrix_product(torch.cat(vectors, 1), turn.transpose(-2, -1))
    return found, *whole.split([x.shape[1] for x in vectors], 1)


def _public(x: SecretTensor, values: torch.Tensor) -> Any:
    return like(x, x.session.suite.public(x.session.party, values.contiguous(), 1))


@implements(aten._linalg_eigh.default)
def eigh(x: SecretTensor, UPLO: str = "L", compute_v: bool = True) -> tuple[Any, Any]:
    """(Eigenvalues, eigenvectors) to a step and n 2^-22 |A|_F, and n 2^-20 |A|_F over the gap between values.

    Of the symmetric matrices [..., n, n] that have the lower (upper) half of x; from the smallest value up.
    """
    check_square(x, "linalg.eigh")
    _check_size(x.shape[-1], "linalg.eigh")
    if UPLO.upper() not in ("L", "U"):
        raise RuntimeError(f"Expected UPLO argument to be 'L' or 'U', but got {UPLO}")
    n, unit = x.shape[-1], x.cell.unit.scale
    if not x.numel():
        none = _public(x, torch.zeros((*x.shape[:-1],), dtype=torch.int64))
        return none, like(x, x.window()) if compute_v else none.reshape(-1)[:0]
    x.cell.settle()
    half, other = (x.tril(), x.tril(-1)) if UPLO.upper() == "L" else (x.triu(), x.triu(1))
    rows: Any
    rows, rest = batched(add(half, other.transpose(-2, -1)))
    scale = fine_scale(x)
    a, norm = _normed(rows, scale)
    v, w = orthogonalised(add(a, multiple_of_unit(SHIFT * scale, n, a)), scale)
    parts = shortened(sub(sum_dim(mul(v, w), 1), SHIFT), scale)
    values = elementwise(parts, norm, unit)
    if not compute_v:
        (found,) = _ordered(values, False)
        return found.reshape(*rest, n), found.reshape(-1)[:0]
    found, vectors = _ordered(values, False, at(v, unit))
    return found.reshape(*rest, n), vectors.reshape(*rest, n, n)


def _completed(u: Any) -> Any:
    """Orthonormal columns [b, m, n], and further ones to make them [b, m, m]: of a QR factorisation."""
    turned, _ = torch.ops.pysmpc.reflected.default(u)
    return torch.cat([u, turned.transpose(-2, -1)[:, :, u.shape[-1] :]], -1)


def _empty(x: SecretTensor, full: bool, rest: Sequence[int]) -> tuple[Any, Any, Any]:
    """Of matrices without elements: orthonormal vectors, and no values, or values of no matrices."""
    m, n = x.shape[-2:]
    k = min(m, n)
    u, v = (torch.eye(size, size if full else k, dtype=torch.int64).expand(*rest, size, -1) for size in (m, n))
    return _public(x, u), _public(x, torch.zeros(*rest, k, dtype=torch.int64)), _public(x, v.transpose(-2, -1))


@implements(aten._linalg_svd.default)
def svd(
    x: SecretTensor, full_matrices: bool = False, compute_uv: bool = True, *, driver: str | None = None
) -> tuple[Any, Any, Any]:
    """(U, S, V^T) to a step and n 2^-22 |A|_F; vectors, n 2^-20 |A|_F^2 over the gap between squares of values.

    Of matrices [..., m, n] of full rank; from the largest value down.  driver: which of its methods torch would take.
    """
    m, n = x.shape[-2:]
    _check_size(min(m, n), "linalg.svd")
    unit, scale = x.cell.unit.scale, fine_scale(x)
    if not x.numel():
        u, values, vh = _empty(x, full_matrices, tuple(x.shape[:-2]))
        return (u, values, vh) if compute_uv else (values.reshape(-1)[:0], values, values.reshape(-1)[:0])
    if m < n:
        u, values, vh = svd(x.transpose(-2, -1), full_matrices, compute_uv)
        return (vh.transpose(-2, -1), values, u.transpose(-2, -1)) if compute_uv else (u, values, vh)
    x.cell.settle()
    rows: Any
    rows, rest = batched(x)
    session = x.session
    a, norm = _normed(rows, scale)
    v, w = orthogonalised(a, scale)
    squares = sum_dim(square(w), 1, True)
    inverse = like(x, inverse_root(session.suite, session.party, squares.window(), scale))
    u = elementwise(w, inverse, scale)
    values = elementwise(shortened(sum_dim(mul(w, u), 1), scale), norm, unit)
    if not compute_uv:
        (values,) = _ordered(values, True)
        return values.reshape(-1)[:0], values.reshape(*rest, n), values.reshape(-1)[:0]
    values, u, v = _ordered(values, True, at(u, unit), at(v, unit))
    if full_matrices and m > n:
        u = _completed(u)
    return u.reshape(*rest, m, -1), values.reshape(*rest, n), v.transpose(-2, -1).reshape(*rest, n, n)
