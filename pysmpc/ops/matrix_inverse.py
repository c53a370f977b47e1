"""Inverses and pseudo-inverses of secret matrices, and what is solved with them, by Newton's iteration.

Y' = g Y ((1 + l) I - A Y), g = 4 / (1 + l)^2, is Newton's iteration Y (2 I - A Y) (Schulz 1933) with the scaling of
Chebyshev polynomials: where the eigenvalues of A Y are in [l, 1], those of A Y' are in [4 l / (1 + l)^2, 1].  The
lower bound l is public, so that as many steps as bring it to 1 are enough: as few as the logarithm of the condition,
whatever the size.  There are products of matrices and nothing else: no pivots, no decision by any value.

    method   A is divided by its Frobenius norm; Y = A^T; STEPS times the iteration; times the norm's inverse.  Where A
             is not square, A Y (or Y A) does not tell what rounding adds to Y beside the rows (columns) of A, which
             grows: before the last step Y becomes (Y A)^T Y, or Y (A Y)^T, where its square is left of that
    domain   full rank, |A|_F |A^-1|_2 at most 512 (Frobenius and spectral norm: the condition for one large singular
             value, sqrt(n) times it for n equal ones), and |A|_F from 2^-6 to 2^14 at 16 fractional bits.  Beyond that
             condition the smallest singular values are inverted as if they were larger
    error    a step, and n |A|_F |A^-1| 2^-23 of the largest element of the inverse
    rounds   1 for the squares, 9 for their root, 2, then 4 STEPS = 56, and 2 to bring it back; 4 more if not square
    sent     about 64 STEPS bytes an element of a square matrix
"""

from __future__ import annotations

from fractions import Fraction
from functools import lru_cache
from typing import Any

import torch

from pysmpc.mpc.functions.known_values import known_of
from pysmpc.mpc.functions.normaliser import inverse_root
from pysmpc.ops.arithmetic import sub
from pysmpc.ops.core import aten, like, same_value
from pysmpc.ops.decompositions import composes
from pysmpc.ops.divisions import square
from pysmpc.ops.dropout import LIBRARY
from pysmpc.ops.fine_matrices import (
    batched,
    check_square,
    elementwise,
    fine_scale,
    multiple_of_unit,
    product,
    shortened,
)
from pysmpc.ops.linear import sum_dim
from pysmpc.ops.registering import implements
from pysmpc.tensor.secret import SecretTensor

LEAST = 64  # steps of the finer scale: of the eigenvalues of A A^T over the square of the Frobenius norm
DIGITS = 1 << 60  # of the public numbers of a step


@lru_cache(maxsize=16)
def schedule(scale: int) -> list[tuple[int, Fraction]]:
    """(1 + l in steps, g) of each iteration at a scale, until l is 1 up to a step, and the last one with l = 1."""
    least, found = Fraction(LEAST, scale), []
    while round(least * scale) < scale:
        found.append((scale + round(least * scale), 4 / (1 + least) ** 2))
        least = Fraction(round(4 * least / (1 + least) ** 2 * DIGITS), DIGITS)
    return [*found, (2 * scale, Fraction(1))]


LIBRARY.define("matrix_inverse(Tensor x) -> Tensor")


@implements(torch.ops.pysmpc.matrix_inverse.default)
def matrix_inverse(x: SecretTensor) -> SecretTensor:
    """Inverses, to a step and n |A|_F |A^-1| 2^-23 of the largest element; see above.

    Those of matrices [..., n, n], or pseudo-inverses [..., n, m] of matrices [..., m, n] of full rank.  It is finer
    than the encoding, as a factor of what is solved with it, and remembered with the matrix.
    """
    if not x.dtype.is_floating_point:
        raise RuntimeError(f"matrices of {x.dtype} have no inverses; call .float() first")
    x.cell.settle()
    share = x.window()
    kept = known_of(share.body).kept
    key = "inverse", share.layout
    if key not in kept:
        found: Any = _inverse(x) if x.numel() else x.transpose(-2, -1)
        kept[key] = found.window()
    return like(x, kept[key])


def _inverse(x: SecretTensor) -> Any:
    rows, rest = batched(x)
    scale = fine_scale(x)
    m, n = rows.shape[-2:]
    # the norm
    total = sum_dim(square(rows), [-2, -1], True)
    root = like(x, inverse_root(x.session.suite, x.session.party, total.window(), scale))
    a = elementwise(rows, root, scale)
    # the iteration, in products of the smaller size
    y: Any = a.transpose(-2, -1)
    for more, factor in schedule(scale):
        if factor == 1 and m != n:
            y = product(product(y, a, scale).mT, y, scale) if m < n else product(y, product(a, y, scale).mT, scale)
        left = sub(multiple_of_unit(more, min(m, n), a), product(a, y, scale) if m <= n else product(y, a, scale))
        y = product(y, left, scale, factor) if m <= n else product(left, y, scale, factor)
    out: Any = elementwise(y, root, scale)
    return out.reshape(*rest, n, m)


OF_DETERMINANT = -1  # for pivots: what is kept is no inverse


def _settled(x: Any) -> Any:
    """x at the scale of its encoding, as a value of its own: what is remembered stays as fine as it is."""
    return torch.ops.pysmpc.settled.default(x) if isinstance(x, SecretTensor) else x


LIBRARY.define("settled(Tensor x) -> Tensor")


@implements(torch.ops.pysmpc.settled.default)
def settled(x: SecretTensor) -> SecretTensor:
    """x at the scale of its encoding: one round, or none."""
    out = same_value(x, x.cell.scale)
    return shortened(out, x.cell.unit.scale) if x.cell.scale > x.cell.unit.scale else out


def _info(x: Any) -> torch.Tensor:
    """Torch's account of what went wrong, for each matrix: nothing, as nobody can tell."""
    return torch.zeros(x.shape[:-2], dtype=torch.int32)


@composes(aten.linalg_inv_ex.default)
def inv_ex(x: Any, *, check_errors: bool = False) -> tuple[Any, torch.Tensor]:
    """(inverses, zeros): whether a matrix can be inverted is not told, nor asked."""
    check_square(x, "linalg.inv")
    return _settled(torch.ops.pysmpc.matrix_inverse.default(x)), _info(x)


# --- solving ----------------------------------------------------------------------------


def _is_vector(x: Any, b: Any) -> bool:
    """Whether b holds vectors, as torch tells: of one dimension, or of the sizes of x but the last."""
    return b.dim() == 1 or (b.dim() == x.dim() - 1 and tuple(b.shape) == tuple(x.shape[:-1]))


def _applied(inverse: Any, b: Any, left: bool) -> Any:
    return torch.matmul(inverse, b) if left else torch.matmul(b, inverse)


@composes(aten._linalg_solve_ex.default)
def solve_ex(x: Any, b: Any, *, left: bool = True, check_errors: bool = False) -> tuple[Any, Any, Any, Any]:
    """(A^-1 B or B A^-1, inverses, zeros, zeros), which is a product with the inverse.

    Where torch keeps an LU factorisation for the gradient, the inverse is kept, and pivots of 0, which torch never
    has, say so (`lu_factors.lu_solve`).
    """
    check_square(x, "linalg.solve")
    if isinstance(x, SecretTensor):
        inverse = torch.ops.pysmpc.matrix_inverse.default(x)
    else:
        inverse = torch.linalg.inv(x.double()).to(x.dtype)
    vector = _is_vector(x, b)
    if vector and not left:
        raise RuntimeError("linalg.solve: vectors are solved for from the left: left=True")
    found = _settled(_applied(inverse, b.unsqueeze(-1) if vector else b, left))
    return found.squeeze(-1) if vector else found, inverse, torch.zeros(x.shape[:-1], dtype=torch.int32), _info(x)


def apply_kept(kept: Any, pivots: torch.Tensor, b: Any, left: bool) -> Any:
    """The gradients of `solve_ex` and of log-determinants, as torch asks for them: what was kept, applied."""
    if bool((pivots == OF_DETERMINANT).any()):
        raise NotImplementedError(
            "the gradient of a determinant is not implemented where its function was taken from torch before "
            "there were parties; call torch.linalg.det(x) by that name"
        )
    return _settled(_applied(kept.transpose(-2, -1), b, left))


# --- pseudo-inverses ---------------------------------------------------


LEAST_RATIO = 2.0**-9  # of singular values that count, to the largest: what is less may be rounding


def check_public(*cuts: Any) -> None:
    """NotImplementedError for secret cut-offs."""
    if any(isinstance(cut, SecretTensor) for cut in cuts):
        raise NotImplementedError("atol and rtol are public numbers: secret ones are not implemented")


def counted(values: Any, atol: Any, rtol: Any, sizes: Any, dtype: torch.dtype) -> Any:
    """Which singular values [..., k], sorted down, are no 0, as secret bits: as torch tells, but from 2^-9 of the
    largest on."""
    check_public(atol, rtol)
    atol = torch.zeros(()) if atol is None else torch.as_tensor(atol)
    if rtol is None:
        rtol = torch.where(atol > 0, 0.0, max(sizes) * torch.finfo(dtype).eps)
    least = values[..., :1] * torch.as_tensor(rtol).clamp(min=LEAST_RATIO).unsqueeze(-1)
    if bool((atol > 0).any()):
        least = torch.maximum(least, atol.to(dtype).unsqueeze(-1).expand(least.shape))
    return values > least


@composes(aten.linalg_pinv.atol_rtol_tensor)
def pinv(x: Any, *, atol: Any = None, rtol: Any = None, hermitian: bool = False) -> Any:
    """The pseudo-inverse: of matrices of full rank by the same iteration, with rtol=0; else of singular values.

    With torch's cut-off, singular values of less than 2^-9 of the largest count as 0, and no matrix has to be of full
    rank: which those are is a secret bit of each.  |A^+| 2^-16 for each unit of |A| |A^+|, and the rounds of the
    singular values and 20.
    """
    check_public(atol, rtol)
    if hermitian:
        x = x.tril() + x.tril(-1).transpose(-2, -1)
    whole = rtol is not None and not bool((torch.as_tensor(rtol) != 0).any())
    if not x.numel() or (whole and (atol is None or not bool((torch.as_tensor(atol) != 0).any()))):
        return _settled(torch.ops.pysmpc.matrix_inverse.default(x))
    u, values, vh = torch.linalg.svd(x, full_matrices=False)
    kept = counted(values, atol, rtol, x.shape[-2:], x.dtype)
    inverse = values.reciprocal() * kept
    return torch.matmul(vh.transpose(-2, -1) * inverse.unsqueeze(-2), u.transpose(-2, -1))
