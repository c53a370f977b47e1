"""Least squares of secret matrices of full rank, with the pseudo-inverse that Newton's iteration finds; ranks.

domain   that of the inverse (`pysmpc.ops.matrix_inverse`): full rank, |A|_F |A^+| below 512
error    a step, and n |A|_F |A^+| 2^-23 of the largest element of the pseudo-inverse for each element of B
rounds   70 for a matrix whose inverse was not asked for before, 74 if it is not square, and 1
"""

from __future__ import annotations

from typing import Any

import torch

from pysmpc.ops.matrix_inverse import check_public, counted
from pysmpc.tensor.secret import SecretTensor

DRIVERS = (None, "gelsy", "gels", "gelsd", "gelss")


def _inverse(a: Any) -> Any:
    """The pseudo-inverse, finer than the encoding where it is a secret."""
    if isinstance(a, SecretTensor):
        return torch.ops.pysmpc.matrix_inverse.default(a)
    return torch.linalg.pinv(a.double()).to(a.dtype)


class _Solution(torch.autograd.Function):
    """X = A^+ B for matrices of full rank [..., m, n] and B [..., m, k].

    With r = B - A X and h = A^+T g, the gradient of B is h, and that of A is -h X^T + r (A^+ h)^T for m >= n, and
    -h X^T + A^+T X (g - A^T h)^T for m < n.
    """

    @staticmethod
    def forward(ctx: Any, a: Any, b: Any) -> Any:
        with torch._C._AutoDispatchBelowAutograd():
            out = torch.ops.pysmpc.settled.default(torch.matmul(_inverse(a), b))
        ctx.save_for_backward(a, b, out)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        a, b, x = ctx.saved_tensors
        with torch._C._AutoDispatchBelowAutograd():
            inverse = _inverse(a)
            h = torch.matmul(inverse.mT, grad)
            of_a = None
            if ctx.needs_input_grad[0]:
                if a.shape[-2] >= a.shape[-1]:
                    rest = torch.matmul(b - torch.matmul(a, x), torch.matmul(inverse, h).mT)
                else:
                    rest = torch.matmul(torch.matmul(inverse.mT, x), (grad - torch.matmul(a.mT, h)).mT)
                of_a = rest - torch.matmul(h, x.mT)
        return of_a, h if ctx.needs_input_grad[1] else None


def lstsq(A: Any, B: Any, rcond: float | None = None, *, driver: str | None = None) -> Any:
    """Torch's (solution, residuals, rank, singular values) of matrices that have full rank.

    Whether a secret matrix has it is not tested: the rank that is returned is the full one, and the solution of a
    matrix without it is wrong (`torch.linalg.matrix_rank` counts in secret).  Singular values are computed where
    torch's driver has them ("gelsd", "gelss").
    """
    if driver not in DRIVERS:
        raise RuntimeError(f"torch.linalg.lstsq: driver must be one of {DRIVERS[1:]}, and is {driver!r}")
    if A.dim() < 2 or not B.dim():
        raise RuntimeError("torch.linalg.lstsq: takes matrices, and vectors or matrices beside them")
    if rcond is not None and rcond > 0 and driver != "gels":
        raise NotImplementedError(
            "linalg.lstsq with rcond is not implemented for secrets: its matrices are of full rank; where singular "
            "values are to count as 0, torch.linalg.pinv(A, rtol=rcond) @ B"
        )
    vector = B.dim() == 1 or (B.dim() == A.dim() - 1 and tuple(B.shape) == tuple(A.shape[:-1]))
    b = B.unsqueeze(-1) if vector else B
    if A.shape[-2] != b.shape[-2]:
        raise RuntimeError(
            f"torch.linalg.lstsq: A and B have rows of different numbers: {A.shape[-2]} and {b.shape[-2]}"
        )
    batch = torch.broadcast_shapes(A.shape[:-2], b.shape[:-2])
    a, b = (x.expand(*batch, *x.shape[-2:]) for x in (A, b))
    m, n = a.shape[-2:]
    found = _Solution.apply(a, b)
    residuals, rank, values = found.reshape(-1)[:0], torch.empty(0, dtype=torch.int64), torch.empty(0)
    if m > n and driver not in (None, "gelsy"):
        residuals = ((torch.matmul(a, found) - b) ** 2).sum(-2)
    if driver != "gels":
        rank = torch.full(A.shape[:-2], min(m, n))
    if driver in ("gelsd", "gelss"):
        values = torch.linalg.svdvals(A.detach())
    results: Any = torch.return_types
    return results.linalg_lstsq((found.squeeze(-1) if vector else found, residuals, rank, values))


def matrix_rank(
    A: Any, tol: Any = None, hermitian: bool = False, *, atol: Any = None, rtol: Any = None, out: Any = None
) -> Any:
    """How many singular values count, as secret numbers: those above torch's tolerances and 2^-9 of the largest."""
    if out is not None:
        raise TypeError("linalg.matrix_rank of a secret takes no out=; it gives a new secret")
    check_public(tol, atol, rtol)
    if tol is not None:
        atol, rtol = tol, 0.0
    a = A.detach()
    if hermitian:
        a = a.tril() + a.tril(-1).mT
    values = torch.linalg.svdvals(a)
    return counted(values, atol, rtol, a.shape[-2:], a.dtype).sum(-1)
