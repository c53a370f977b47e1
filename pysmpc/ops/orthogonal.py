"""QR factors of secret matrices, by Householder's reflections with LAPACK's signs.

For each column x below and on the diagonal, u = x / |x|, v = u + sign(u_1) e_1, and all columns lose
v (v^T A) / (1 + |u_1|).  A column that is 0 below the diagonal is left as it is, as in LAPACK, by a secret bit.

    domain   full rank, columns of a norm from 2^-8 to 2^11 at 16 fractional bits; without one, the last columns of Q
             are other ones.  No pivoting, as none is needed
    error    of Q, and of R beside the norm of A, n 2^-18
    rounds   25 for each of min(m - 1, n) columns, and 3
"""

from __future__ import annotations

from typing import Any

import torch

from pysmpc.mpc.additive.exact import constant
from pysmpc.mpc.functions import fits
from pysmpc.mpc.functions.characters import BITS, evaluate
from pysmpc.mpc.functions.normaliser import TOP, inverse_root
from pysmpc.ops.arithmetic import add, mul, sub
from pysmpc.ops.core import aten, like
from pysmpc.ops.decompositions import composes
from pysmpc.ops.divisions import square
from pysmpc.ops.dropout import LIBRARY
from pysmpc.ops.fine_matrices import at, batched, elementwise, multiple_of_unit, product
from pysmpc.ops.linear import sum_dim
from pysmpc.ops.registering import implements
from pysmpc.ring.shares import Share
from pysmpc.tensor.secret import SecretTensor

ROOM = 1 << 4  # how much finer than the encoding

LIBRARY.define("reflected(Tensor x) -> (Tensor, Tensor)")


def _inverse_of_one_to_two(x: SecretTensor, scale: int) -> SecretTensor:
    """1 / x for x in [1, 2], to 2^-20.  Three rounds."""
    session = x.session
    suite, party = session.suite.probabilistic, session.party
    flat = Share.of(x.window().words(), (x.numel(),))
    large = suite.scale_by(party, flat, 4**TOP // x.cell.scale).at(4**TOP)
    found = evaluate(suite, party, suite.mask_open(party, large.at(1)), large, fits.RECIPROCAL)
    short = session.suite.truncate(party, found.at(1), (1 << BITS) // scale).at(scale)
    return like(x, Share(short.body, tuple(x.shape), scale))


def _signs(first: SecretTensor, rest: SecretTensor) -> tuple[SecretTensor, SecretTensor]:
    """(Whether first elements [b] are negative, whether sums of squares [b] of the others are 0).  Four rounds."""
    session, b = first.session, first.numel()
    suite, party = session.suite.probabilistic, session.party
    less = suite.sub(party, rest.window().at(1), constant(suite, party, (b,), 1, 1))
    both = Share.of(torch.cat([first.window().at(1).words(), less.words()], 1), (2 * b,))
    bits = suite.bit_share(party, suite.negative(party, both), (2 * b,))
    parts = [Share.of(Share(bits.body, (b,), 1, (1,), k * b).words(), (b,)) for k in range(2)]
    return like(first, parts[0]), like(first, parts[1])


@implements(torch.ops.pysmpc.reflected.default)
def reflected(x: SecretTensor) -> tuple[Any, Any]:
    """(Q^T [..., m, m], R [..., m, n]) of matrices [..., m, n], to n 2^-18 of their norm."""
    rows: Any
    rows, rest = batched(x)
    session, scale, (b, m, n) = x.session, x.cell.unit.scale * ROOM, rows.shape
    whole: Any = at(rows, scale)
    eye = multiple_of_unit(scale, m, whole).expand(b, m, m)
    whole = torch.cat([whole, eye.contiguous()], -1)
    for k in range(min(m - 1, n)):
        part = whole[:, k:]
        x_k: Any = part[:, :, k].contiguous()
        squares = square(x_k)
        below = sum_dim(squares[:, 1:], -1)
        total = add(below, squares[:, 0])
        negative, nothing = _signs(x_k[:, 0].contiguous(), below)
        root: Any = like(x, inverse_root(session.suite, session.party, total.window(), scale))
        sign: Any = sub(1, mul(negative, 2))
        u: Any = elementwise(x_k, root.unsqueeze(-1), scale)
        first = torch.zeros(m - k, dtype=torch.int64)
        first[0] = 1
        v: Any = add(u, mul(sign.unsqueeze(-1), first))
        inverse: Any = _inverse_of_one_to_two(add(mul(u[:, 0], sign), 1), scale)
        inverse = mul(inverse, sub(1, nothing))
        scaled: Any = elementwise(v, inverse.unsqueeze(-1), scale)
        taken = product(v.unsqueeze(-1), product(scaled.unsqueeze(-2), part, scale), scale)
        changed = sub(part, taken)
        whole = torch.cat([whole[:, :k], changed], 1) if k else changed
    out = at(whole, x.cell.unit.scale)
    q, r = out[:, :, n:], out[:, :, :n].triu()
    return q.reshape(*rest, m, m).contiguous(), r.reshape(*rest, m, n).contiguous()


@composes(aten.linalg_qr.default)
def qr(x: Any, mode: str = "reduced") -> tuple[Any, Any]:
    """(Q, R) of matrices of full rank, in torch's modes."""
    if mode not in ("reduced", "complete", "r"):
        raise RuntimeError(f"qr received unrecognized mode {mode!r}: it is 'reduced', 'complete' or 'r'")
    m, n = x.shape[-2:]
    k = m if mode == "complete" else min(m, n)
    if not x.numel():
        q = torch.eye(m, dtype=x.dtype)[:, :k].expand(*x.shape[:-2], m, k) + x.sum() * 0
        r = x[..., :k, :].clone()
    else:
        turned, r = torch.ops.pysmpc.reflected.default(x)
        q, r = turned.transpose(-2, -1)[..., :k], r[..., :k, :]
    return (q[..., :0, :0].reshape(0) if mode == "r" else q), r


def householder_product(A: Any, tau: Any, *, out: Any = None) -> Any:
    """The first n columns of H_1 H_2 ... H_k with H_i = I - tau_i v_i v_i^T, v_i below the diagonal of A [..., m, n].

    Two products for each of the k reflections, 4 rounds.  Gradients are those of these products, where torch divides
    by what is near 0 for some reflections.
    """
    if out is not None:
        raise TypeError("linalg.householder_product of secrets takes no out=; it gives a new secret")
    (m, n), k = A.shape[-2:], tau.shape[-1]
    if m < n or k > n:
        raise RuntimeError(f"linalg.householder_product: takes [m, n] and [k] with m >= n >= k, not {m}, {n} and {k}")
    rows = torch.arange(m)
    q: Any = torch.eye(m, n, dtype=A.dtype).expand(*A.shape[:-2], m, n)
    for i in reversed(range(k)):
        v = A[..., i] * (rows > i).to(A.dtype) + (rows == i).to(A.dtype)
        scaled = v * tau[..., i : i + 1]
        q = q - torch.matmul(scaled.unsqueeze(-1), torch.matmul(v.unsqueeze(-2), q))
    return q if k and A.numel() else q + A * 0


def ormqr(input: Any, tau: Any, other: Any, left: bool = True, transpose: bool = False, *, out: Any = None) -> Any:
    """Q C, C Q, Q^T C or C Q^T with Q = H_1 H_2 ... H_k of `householder_product`: two products for each reflection."""
    if out is not None:
        raise TypeError("ormqr of secrets takes no out=; it gives a new secret")
    c = other if left else other.transpose(-2, -1)
    m, k = input.shape[-2], tau.shape[-1]
    if c.shape[-2] != m or k > input.shape[-1]:
        raise RuntimeError(f"ormqr: reflections of {m} elements, {k} of them, do not fit {tuple(other.shape)}")
    rows = torch.arange(m)
    forward = transpose if left else not transpose  # H_1 first
    for i in range(k) if forward else reversed(range(k)):
        v = input[..., i] * (rows > i).to(input.dtype) + (rows == i).to(input.dtype)
        scaled = v * tau[..., i : i + 1]
        c = c - torch.matmul(scaled.unsqueeze(-1), torch.matmul(v.unsqueeze(-2), c))
    c = c if k and input.numel() else c + input.sum() * 0
    return c if left else c.transpose(-2, -1)
