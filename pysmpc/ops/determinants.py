"""Determinants of small secret matrices, without a division by a secret: Faddeev and LeVerrier.

M_1 = I, c_k = -trace(A M_k) / k, M_(k+1) = A M_k + c_k I: then det A = (-1)^n c_n, and the adjugate, of which the
gradient is made, is (-1)^(n-1) M_n.  So both are right for singular matrices, too.

    domain   n up to 12; elements of the M_k below 2^22 at 16 fractional bits
    error    of the determinant and the adjugate, n binomial(n, n / 2) |A|^(n-1) 2^-24, for |A| of 1 and more
    rounds   2 (n - 1), and one
"""

from __future__ import annotations

from typing import Any

import torch

from pysmpc.ops.arithmetic import add, mul, neg
from pysmpc.ops.core import aten, like
from pysmpc.ops.decompositions import composes
from pysmpc.ops.dropout import LIBRARY
from pysmpc.ops.fine_matrices import at, batched, check_square, fine_scale, multiple_of_unit
from pysmpc.ops.linear import matrix_product
from pysmpc.ops.matrix_inverse import OF_DETERMINANT
from pysmpc.ops.registering import implements
from pysmpc.tensor.secret import SecretTensor

LARGEST = 12  # rows

LIBRARY.define("determinant(Tensor x) -> (Tensor, Tensor)")


@implements(torch.ops.pysmpc.determinant.default)
def determinant(x: SecretTensor) -> tuple[Any, Any]:
    """(Determinants [...], adjugates [..., n, n]), to n binomial(n, n / 2) |A|^(n-1) 2^-24, and finer than a step."""
    n = x.shape[-1]
    if n > LARGEST:
        raise NotImplementedError(
            f"determinants are of up to {LARGEST} rows, not {n}: beyond, terms cancel of which fixed point has too few "
            "digits; for a positive definite matrix, torch.linalg.cholesky(x).diagonal().prod() ** 2"
        )
    x.cell.settle()
    rows: Any
    rows, rest = batched(x)
    if not n or not rows.shape[0]:
        ones = x.session.suite.public(x.session.party, torch.ones(rest, dtype=torch.int64), 1)
        return like(x, ones), torch.zeros_like(x)
    session, scale = x.session, fine_scale(x)
    matrix: Any = like(x, multiple_of_unit(scale, n, at(rows, scale)).expand(rows.shape).window())
    eye = torch.eye(n, dtype=torch.int64)
    trace: Any = None
    for k in range(1, n + 1):
        whole: Any = matrix_product(rows, matrix) if k > 1 else at(rows, scale)
        total: Any = neg(whole.diagonal(0, -2, -1).sum(-1))
        by = whole.cell.scale // scale
        dividends = [(total.window(), by * k)] if k == n else [(total.window(), by * k), (whole.window(), by)]
        wanted = [pair for pair in dividends if pair[1] > 1]
        found = iter(session.arithmetic.truncate_all(session.party, wanted) if wanted else [])
        parts = [like(x, (next(found) if by > 1 else share).at(scale)) for share, by in dividends]
        trace = parts[0]
        if k < n:
            matrix = add(parts[1], mul(trace.unsqueeze(-1).unsqueeze(-1), eye))
    return (neg(trace) if n % 2 else trace).reshape(rest), (matrix if n % 2 else neg(matrix)).reshape(x.shape)


class _Determinant(torch.autograd.Function):
    """det A, whose gradient is the transposed adjugate."""

    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        with torch._C._AutoDispatchBelowAutograd():
            out, adjugate = torch.ops.pysmpc.determinant.default(x)
        ctx.save_for_backward(adjugate)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        (adjugate,) = ctx.saved_tensors
        return grad.unsqueeze(-1).unsqueeze(-1) * adjugate.transpose(-2, -1)


def det(A: Any, *, out: Any = None) -> Any:
    """Determinants of secret matrices, with gradients also where they are 0."""
    check_square(A, "linalg.det")
    if out is not None:
        raise TypeError("linalg.det of a secret takes no out=; it gives a new secret")
    return _Determinant.apply(A)


def _pivots(x: Any, value: int) -> torch.Tensor:
    return torch.full(x.shape[:-1], value, dtype=torch.int32)


@composes(aten._linalg_det.default)
def linalg_det(x: Any) -> tuple[Any, Any, torch.Tensor]:
    """(Determinants, adjugates, pivots): `det` below autograd, as torch asks where its function was taken before."""
    check_square(x, "linalg.det")
    out, adjugate = torch.ops.pysmpc.determinant.default(x)
    return out, adjugate, _pivots(x, OF_DETERMINANT)


@composes(aten._linalg_slogdet.default)
def linalg_slogdet(x: Any) -> tuple[Any, Any, Any, torch.Tensor]:
    """(Signs of determinants, logarithms of their magnitudes, inverses, zeros).

    The inverse, from which torch makes the gradient, is the adjugate times the reciprocal of the determinant.  Of a
    determinant of 0 they are 0, the logarithm of a step, and 0.
    """
    check_square(x, "linalg.slogdet")
    out, adjugate = torch.ops.pysmpc.determinant.default(x)
    inverse = adjugate * out.reciprocal().unsqueeze(-1).unsqueeze(-1)
    return out.sign().to(x.dtype), out.abs().log(), inverse, _pivots(x, 0)


def logdet(input: Any) -> Any:
    """Logarithms of determinants; of a negative one, that of its magnitude, where torch has NaN."""
    return torch.linalg.slogdet(input).logabsdet
