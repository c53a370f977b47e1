"""Triangular systems and Cholesky factors of secret matrices, row after row and column after column.

method   forward substitution, with all reciprocals of the diagonal at once; L L^T = A column by column
domain   no 0 on the diagonal, solutions and their parts below 2^21; positive definite matrices, of elements below
         2^13 and with pivots above 2^-8 for Cholesky (16 fractional bits).  Others give other numbers: nobody sees
         that a pivot was not positive
error    of a solution, a step and n 2^-20 of the largest of its terms; of L, n 2^-21 / (the smallest pivot)^(1/2)
rounds   of a system 12 + 2 + 2 (n - 1), and 1 to round it; of Cholesky 13 n - 2, and 2
"""

from __future__ import annotations

from typing import Any

import torch

from pysmpc.mpc.functions.normaliser import inverse_root, reciprocal_fast
from pysmpc.ops.arithmetic import add, sub
from pysmpc.ops.core import aten, like
from pysmpc.ops.decompositions import composes
from pysmpc.ops.dropout import LIBRARY
from pysmpc.ops.fine_matrices import at, batched, check_square, elementwise, fine_scale, product
from pysmpc.ops.registering import implements
from pysmpc.tensor.secret import SecretTensor

ROOM = 1 << 4  # how much finer than the encoding solutions are computed, which may be large


def _reciprocals(d: SecretTensor) -> SecretTensor:
    """1 / d of a diagonal [b, n], finely: the fast reciprocal and a step of Newton's.  Twelve rounds."""
    session, scale = d.session, fine_scale(d)
    d.cell.settle()
    rough = like(d, reciprocal_fast(session.suite, session.party, d.window(), scale))
    error = sub(1, elementwise(d, rough, scale))
    return add(rough, elementwise(rough, error, scale))


def _forward(a: Any, b: Any, unit: bool) -> Any:
    """X with A X = B for lower triangular A [c, n, n] and B [c, n, k], at least one secret."""
    secret = a if isinstance(a, SecretTensor) else b
    scale = secret.cell.unit.scale * ROOM
    n = a.shape[-1]
    below, given = a.tril(-1), b
    if not unit:
        diagonal = a.diagonal(0, -2, -1)
        inverse = _reciprocals(diagonal) if isinstance(a, SecretTensor) else diagonal.reciprocal()
        below, given = below * inverse.unsqueeze(-1), b * inverse.unsqueeze(-1)
    below, given = (at(x, scale) if isinstance(x, SecretTensor) else x for x in (below, given))
    found: list[Any] = [given[:, :1]]
    for k in range(1, n):
        before = torch.cat(found, 1) if len(found) > 1 else found[0]
        row = product(below[:, k : k + 1, :k], before, scale)
        found.append(sub(given[:, k : k + 1], row))
    return torch.cat(found, 1) if n > 1 else found[0]


@implements(aten.linalg_solve_triangular.default)
def solve_triangular(a: Any, b: Any, *, upper: bool, left: bool = True, unitriangular: bool = False) -> Any:
    """X with A X = B, or X A = B, to a step and n 2^-20 of its largest term, for triangular matrices A.

    The other half of A is not read.
    """
    check_square(a, "linalg.solve_triangular")
    if not left:
        found = solve_triangular(
            a.transpose(-2, -1), b.transpose(-2, -1), upper=not upper, left=True, unitriangular=unitriangular
        )
        return found.transpose(-2, -1)
    if a.shape[-1] != b.shape[-2]:
        raise RuntimeError(f"linalg.solve_triangular: incompatible shapes of A {tuple(a.shape)} and B {tuple(b.shape)}")
    batch = torch.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    a, b = (x.expand(*batch, *x.shape[-2:]) for x in (a, b))
    if not b.numel():
        return torch.zeros_like(b) if isinstance(b, SecretTensor) else like(a, _nothing(a, b))
    (a, _), (b, rest) = batched(a), batched(b)
    if upper:
        a, b = a.flip(-2, -1), b.flip(-2)
    found = _forward(a, b, unitriangular)
    if isinstance(found, SecretTensor):
        found = at(found, found.cell.unit.scale)
    if upper:
        found = found.flip(-2)
    return found.reshape(*rest, *found.shape[-2:])


def _nothing(a: SecretTensor, b: torch.Tensor) -> Any:
    """A secret of no elements, of b's shape."""
    return a.session.suite.public(a.session.party, torch.zeros(b.shape, dtype=torch.int64), a.unit.scale)


@composes(aten.triangular_solve.default)
def triangular_solve(
    b: Any, a: Any, upper: bool = True, transpose: bool = False, unitriangular: bool = False
) -> tuple[Any, Any]:
    """(X with A X = B, A), or of the transpose of A: as `solve_triangular`."""
    matrix = a.transpose(-2, -1) if transpose else a
    found = torch.linalg.solve_triangular(matrix, b, upper=upper != transpose, unitriangular=unitriangular)
    return found, a.clone()


# --- Cholesky -----------------------------------------------------------------------------

LIBRARY.define("cholesky(Tensor x) -> Tensor")


@implements(torch.ops.pysmpc.cholesky.default)
def cholesky(x: SecretTensor) -> Any:
    """L with L L^T = A, to a step and n 2^-21 over the root of the smallest pivot, for positive definite matrices.

    The lower half is read.  For each column: 1 / sqrt of the pivot, the column times that, and what is left less its
    outer product.
    """
    if not x.numel():
        return torch.zeros_like(x)
    rows, rest = batched(x)
    session, scale, n = x.session, fine_scale(x), x.shape[-1]
    left, columns = at(rows, scale), []
    for k in range(n):
        pivot: Any = left[:, :1, :1]
        root = like(x, inverse_root(session.suite, session.party, pivot.window(), scale))
        column: Any = elementwise(left[:, :, :1], root, scale)
        columns.append(aten.constant_pad_nd.default(column.squeeze(-1), [k, 0], 0.0))
        if k < n - 1:
            rest_of = column[:, 1:]
            left = sub(left[:, 1:, 1:], product(rest_of, rest_of.transpose(-2, -1), scale))
    whole: Any = torch.stack(columns, -1)
    found = at(whole, x.cell.unit.scale)
    return found.reshape(*rest, n, n)


def _factor(x: Any, upper: bool) -> Any:
    found = torch.ops.pysmpc.cholesky.default(x.transpose(-2, -1) if upper else x)
    return found.transpose(-2, -1) if upper else found


@composes(aten.linalg_cholesky_ex.default)
def cholesky_ex(x: Any, *, upper: bool = False, check_errors: bool = False) -> tuple[Any, torch.Tensor]:
    """(Cholesky factors, zeros): whether a matrix is positive definite is not told, nor asked."""
    check_square(x, "linalg.cholesky")
    return _factor(x, upper), torch.zeros(x.shape[:-2], dtype=torch.int32)


@composes(aten.cholesky.default)
def old_cholesky(x: Any, upper: bool = False) -> Any:
    """The same by its old name."""
    check_square(x, "cholesky")
    return _factor(x, upper)


@composes(aten.cholesky_solve.default)
def cholesky_solve(b: Any, factor: Any, upper: bool = False) -> Any:
    """X with L L^T X = B, or U^T U X = B: two triangular systems."""
    lower = factor.transpose(-2, -1) if upper else factor
    half = torch.linalg.solve_triangular(lower, b, upper=False)
    return torch.linalg.solve_triangular(lower.transpose(-2, -1), half, upper=True)


@composes(aten.cholesky_inverse.default)
def cholesky_inverse(factor: Any, upper: bool = False) -> Any:
    """(L L^T)^-1 or (U^T U)^-1: a triangular system and a product."""
    lower = factor.transpose(-2, -1) if upper else factor
    eye = torch.eye(factor.shape[-1], dtype=factor.dtype).expand(factor.shape)
    half = torch.linalg.solve_triangular(lower, eye, upper=False)
    return torch.matmul(half.transpose(-2, -1), half)
