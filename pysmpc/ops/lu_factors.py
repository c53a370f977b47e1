"""LU factors of secret matrices, with the pivots that LAPACK takes, which stay secret.

For each column the largest magnitude on and below the diagonal is found, and its row is exchanged with the row of the
diagonal, by a secret one-hot vector.  L takes the column divided by its pivot, and the rows below lose L's column times
U's row.  P A = L U, with P a matrix of secret zeros and ones.

    domain   elements below 2^13 and pivots above 2^-8 at 16 fractional bits.  Otherwise L and U are other numbers, and
             nobody sees that a pivot was 0.  Of magnitudes that rounding makes equal, any may become the pivot
    error    n 2^-20 of the largest element of U, and of L over the pivot
"""

from __future__ import annotations

from typing import Any

import torch

from pysmpc.mpc.functions.normaliser import reciprocal_fast
from pysmpc.ops.arithmetic import add, mul, sub
from pysmpc.ops.choosing import absolute
from pysmpc.ops.core import aten, like, result
from pysmpc.ops.decompositions import composes
from pysmpc.ops.dropout import LIBRARY
from pysmpc.ops.extrema import max_dim
from pysmpc.ops.fine_matrices import at, batched, elementwise, fine_scale, multiple_of_unit, product
from pysmpc.ops.matrix_inverse import apply_kept
from pysmpc.ops.registering import implements
from pysmpc.ops.secret_positions import bits_of
from pysmpc.ring.fixedpoint import INTEGER
from pysmpc.tensor.secret import SecretTensor

LIBRARY.define("lu_factors(Tensor x, bool pivot) -> (Tensor, Tensor, Tensor)")


def _inverse(d: SecretTensor, scale: int) -> SecretTensor:
    """1 / d at a scale: the fast reciprocal of d rounded, and a step of Newton's with d as fine as it is."""
    session, rounded = d.session, d.clone()
    rounded.cell.settle()
    rough = like(d, reciprocal_fast(session.suite, session.party, rounded.window(), scale))
    return add(rough, elementwise(rough, sub(1, elementwise(d, rough, scale)), scale))


def _largest(column: SecretTensor) -> tuple[SecretTensor, SecretTensor]:
    """(Position [b, 1] of the largest magnitude of a column [b, k], its one-hot vector [b, k] of integers)."""
    _, where = max_dim(absolute(column.clone()), 1, True)
    bits = bits_of(where, column.shape[1])
    return where, result(bits, where.session, INTEGER, torch.int64).squeeze(1)


def _exchanged(rows: Any, chosen: Any) -> Any:
    """Rows [b, k, n], the first one exchanged with the one of which a bit of chosen [b, k] is set."""
    first = torch.zeros(chosen.shape[-1], dtype=torch.int64)
    first[0] = 1
    there = mul(rows, chosen.unsqueeze(-1)).sum(1, keepdim=True)
    apart = sub(rows[:, :1], there)
    return add(rows, mul(sub(chosen, first).unsqueeze(-1), apart))


@implements(torch.ops.pysmpc.lu_factors.default)
def lu_factors(x: SecretTensor, pivot: bool) -> tuple[Any, Any, Any]:
    """(U and, below its diagonal, L [..., m, n]; P with P A = L U [..., m, m]; pivots [..., min(m, n)] from 1 on)."""
    rows: Any
    rows, rest = batched(x)
    scale, (b, m, n) = fine_scale(x), rows.shape
    eye = multiple_of_unit(scale, m, at(rows, scale)).expand(b, m, m).contiguous()
    whole: Any = torch.cat([at(rows, scale), eye], -1) if pivot else at(rows, scale)
    pivots = []
    for k in range(min(m, n)):
        part = whole[:, k:]
        if pivot and m - k > 1:
            where, chosen = _largest(part[:, :, k].contiguous())
            part = _exchanged(part, chosen)
            pivots.append(add(where, k + 1))
        if k < m - 1:
            inverse = _inverse(part[:, :1, k].contiguous(), scale)
            column = elementwise(part[:, 1:, k].contiguous(), inverse, scale).unsqueeze(-1)
            right = part[:, :1, k + 1 : n]
            changed = [part[:, 1:, :k], column, part[:, 1:, n:]]
            if k + 1 < n:
                changed.insert(2, sub(part[:, 1:, k + 1 : n], product(column, right, scale)))
            part = torch.cat([part[:, :1], torch.cat([c for c in changed if c.shape[-1]], -1)], 1)
        whole = torch.cat([whole[:, :k], part], 1) if k else part
    k = min(m, n)
    if len(pivots) < k:  # in the last row, and without pivots, each row is its own
        own = torch.arange(len(pivots), k).expand(b, -1) + 1
        pivots.append(
            result(x.session.suite.public(x.session.party, own.contiguous()), x.session, INTEGER, torch.int64)
        )
    done, order = (
        at(part.contiguous(), x.cell.unit.scale) for part in (whole[:, :, :n], whole[:, :, n:] if pivot else eye)
    )
    found: Any = torch.cat(pivots, 1) if len(pivots) > 1 else pivots[0]
    return done.reshape(*rest, m, n), order.reshape(*rest, m, m), found.reshape(*rest, k)


def _parts(packed: Any) -> tuple[Any, Any]:
    """(L, U) of what holds both."""
    m, n = packed.shape[-2:]
    k = min(m, n)
    return packed[..., :k].tril(-1) + torch.eye(m, k, dtype=packed.dtype), packed[..., :k, :].triu()


def _factors(x: Any, pivot: bool, what: str) -> tuple[Any, Any, Any]:
    """`lu_factors`, also of matrices without elements."""
    if x.dim() < 2:
        raise RuntimeError(f"{what}: takes matrices [..., m, n], and x is of shape {tuple(x.shape)}")
    if x.numel():
        packed, order, pivots = torch.ops.pysmpc.lu_factors.default(x, pivot)
        return packed, order, pivots.to(torch.int32)
    rest, (m, n) = x.shape[:-2], x.shape[-2:]
    own = torch.arange(1, min(m, n) + 1, dtype=torch.int32)
    return x.clone(), torch.eye(m, dtype=x.dtype).expand(*rest, m, m), own.expand(*rest, -1)


@composes(aten.linalg_lu_factor_ex.default)
def lu_factor_ex(x: Any, *, pivot: bool = True, check_errors: bool = False) -> tuple[Any, Any, torch.Tensor]:
    """(L and U in one, secret pivots, zeros): whether a pivot was 0 is not told, nor asked."""
    packed, _, pivots = _factors(x, pivot, "linalg.lu_factor")
    return packed, pivots, torch.zeros(x.shape[:-2], dtype=torch.int32)


@composes(aten.linalg_lu.default)
def lu(x: Any, *, pivot: bool = True) -> tuple[Any, Any, Any]:
    """(P, L, U) with P L U = A; P of secret zeros and ones."""
    packed, order, _ = _factors(x, pivot, "linalg.lu")
    return (order.transpose(-2, -1).contiguous() if pivot else torch.empty(0, dtype=x.dtype)), *_parts(packed)


def _order(pivots: Any, m: int, dtype: torch.dtype) -> Any:
    """P [..., m, m] of pivots [..., k], public or secret: rows of the identity, exchanged pair by pair."""
    if not isinstance(pivots, SecretTensor):
        return torch.lu_unpack(torch.zeros(*pivots.shape[:-1], m, pivots.shape[-1]), pivots, unpack_data=False)[0].to(
            dtype
        )
    every = ((pivots - 1).unsqueeze(-1) == torch.arange(m)).to(torch.int64)
    rows: Any = torch.eye(m, dtype=torch.int64).expand(*pivots.shape[:-1], m, m)
    for k in range(min(pivots.shape[-1], m - 1)):
        bits = every[..., k, :]
        own = (torch.arange(m) == k).to(torch.int64)
        there = (bits.unsqueeze(-1) * rows).sum(-2, keepdim=True)
        rows = rows + (bits - own).unsqueeze(-1) * (rows[..., k : k + 1, :] - there)
    return rows.transpose(-2, -1).to(dtype).contiguous()


@composes(aten.lu_unpack.default)
def lu_unpack(packed: Any, pivots: Any, unpack_data: bool = True, unpack_pivots: bool = True) -> tuple[Any, Any, Any]:
    """(P, L, U) of what `lu_factor` gave: four rounds, and two for each pivot where they are secret."""
    nothing = torch.empty(0, dtype=packed.dtype)
    order = _order(pivots, packed.shape[-2], packed.dtype) if unpack_pivots else nothing
    return (order, *_parts(packed)) if unpack_data else (order, nothing, nothing)


@composes(aten.linalg_lu_solve.default)
def lu_solve(packed: Any, pivots: Any, b: Any, *, left: bool = True, adjoint: bool = False) -> Any:
    """X with A X = B, or X A = B, or of the transpose of A, by the factors of A: two triangular systems.

    Pivots of 0 and less say that what was kept is an inverse (`matrix_inverse.apply_kept`).
    """
    if not isinstance(pivots, SecretTensor) and bool((pivots <= 0).all()):
        return apply_kept(packed, pivots, b, left)
    if not left:
        return lu_solve(packed, pivots, b.transpose(-2, -1), adjoint=not adjoint).transpose(-2, -1)
    order, lower, upper = lu_unpack(packed, pivots)
    if adjoint:
        half = torch.linalg.solve_triangular(upper.transpose(-2, -1), b, upper=False)
        full = torch.linalg.solve_triangular(lower.transpose(-2, -1), half, upper=True, unitriangular=True)
        return torch.matmul(order, full)
    half = torch.linalg.solve_triangular(
        lower, torch.matmul(order.transpose(-2, -1), b), upper=False, unitriangular=True
    )
    return torch.linalg.solve_triangular(upper, half, upper=True)
