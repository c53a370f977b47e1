"""Orthogonal columns of secret matrices, by one-sided Jacobi rotations (Hestenes 1958) in a fixed order.

For a matrix A [m, n] this finds an orthogonal V for which the columns of W = A V are orthogonal: V has the right
singular vectors, and the norms of the columns of W are the singular values.  The eigenvectors of a symmetric matrix
are those of A + 2 |A|_F I, whose eigenvalues are all positive.

    method   a sweep turns every pair of columns once, half of all columns in parallel.  For columns p and q,
             d = |p|^2 - |q|^2 and e = 2 p q, the angle t with tan 2 t = e / d makes them orthogonal.  d is taken
             2^-22 further from 0, so that there is an angle for equal columns, too
    sweeps   public, by the number of columns alone: 3 and log2 n rounded up; 2 for two columns
    rounds   25 for each of the n - 1 (n, if odd) steps of a sweep, and 6 for each sweep
"""

from __future__ import annotations

import math
from fractions import Fraction
from functools import lru_cache
from typing import Any

import torch

from pysmpc.mpc.additive.exact import constant
from pysmpc.mpc.functions import fits
from pysmpc.mpc.functions.characters import BITS, evaluate
from pysmpc.mpc.functions.normaliser import TOP, inverse_root
from pysmpc.ops.arithmetic import add, mul, sub
from pysmpc.ops.core import like
from pysmpc.ops.divisions import square
from pysmpc.ops.fine_matrices import elementwise, multiple_of_unit, product, shortened
from pysmpc.ops.linear import matrix_product
from pysmpc.ring.shares import Share
from pysmpc.tensor.secret import SecretTensor

APART = 4  # steps by which the difference of two norms is kept from 0
STRETCH = Fraction(3, 2)  # brings [1, 2] into the interval of the fit


def sweeps(n: int) -> int:
    """How many sweeps are made for n columns: enough for every matrix that was tried, and one more for most."""
    return 2 if n == 2 else 3 + (n - 1).bit_length()


@lru_cache(maxsize=64)
def pairs(n: int) -> list[tuple[list[int], list[int]]]:
    """The steps of a sweep: columns p and columns q of each, every pair once (a round-robin tournament)."""
    ring, found = list(range(n + n % 2)), []
    for _ in range(len(ring) - 1):
        met = zip(ring[: len(ring) // 2], reversed(ring[len(ring) // 2 :]), strict=True)
        step = [(min(pair), max(pair)) for pair in met if max(pair) < n]
        found.append(([p for p, _ in step], [q for _, q in step]))
        ring = [ring[0], ring[-1], *ring[1:-1]]
    return found


def _signs(x: SecretTensor) -> Share:
    """-1 where x is negative, 1 elsewhere.  Four rounds."""
    suite, party = x.session.suite.probabilistic, x.session.party
    flat = Share.of(x.window().words(), (x.numel(),))
    bits = suite.bit_share(party, suite.negative(party, flat), (x.numel(),))
    found = suite.sub(party, constant(suite, party, (x.numel(),), 1, 1), suite.scale_by(party, bits, 2).at(1))
    return Share.of(found.words(), tuple(x.shape))


def _inverse_root_of_twice(u: SecretTensor, scale: int) -> SecretTensor:
    """1 / sqrt(2 u) for u in [1, 2], to 2^-24.  Two rounds."""
    session = u.session
    suite, party = session.suite.probabilistic, session.party
    flat = Share.of(u.window().words(), (u.numel(),))
    large = suite.scale_by(party, flat, 4**TOP // u.cell.scale).at(4**TOP)
    found = evaluate(suite, party, suite.mask_open(party, large.at(1)), large, fits.RSQRT, STRETCH)
    factor = Fraction(math.isqrt(3 << 80), 1 << 41)  # of (3 u / 2)^(-1/2)
    short = session.suite.truncate(party, found.at(1), round(Fraction(1 << BITS, scale) / factor))
    return like(u, Share(short.body, tuple(u.shape), scale))


def _angles(d: Any, e: Any, scale: int) -> SecretTensor:
    """Cosines and sines [b, 2 h] of the angles t with tan 2 t = e / d.  20 rounds.

    1. sign = the sign of d; x = |d| + 2^-22 and y = e sign: five rounds.
    2. cos 2t and sin 2t = x and y over sqrt(x^2 + y^2): twelve rounds.
    3. cos t = (1 + cos 2t) / sqrt(2 (1 + cos 2t)) and sin t = sin 2t over the same root: four rounds.
    """
    session, h = d.session, d.shape[1]
    # 1. both in the right half of the plane
    signs = _signs(d)
    step = session.suite.scale_by(session.party, signs, APART)
    d = add(d, like(d, step.at(scale)))
    sign: Any = like(d, signs)
    both: Any = mul(torch.cat([d, e], 1), torch.cat([sign, sign], 1))
    # 2. of the double angle
    squares: Any = square(both)
    total = add(squares[:, :h], squares[:, h:])
    root: Any = like(d, inverse_root(session.suite, session.party, total.window(), scale))
    twice: Any = elementwise(both, torch.cat([root, root], 1), scale)
    # 3. of half of it
    u: Any = add(twice[:, :h], 1)
    half: Any = _inverse_root_of_twice(u, scale)
    return elementwise(torch.cat([u, twice[:, h:]], 1), torch.cat([half, half], 1), scale)


@lru_cache(maxsize=256)
def _places(n: int, step: int) -> tuple[torch.Tensor, torch.Tensor]:
    """(Where cosines and sines stand in the rotation [2 h, n n], 1 for a column that rests [n, n])."""
    p, q = pairs(n)[step]
    h = len(p)
    where, rests = torch.zeros(2 * h, n, n, dtype=torch.int64), torch.eye(n, dtype=torch.int64)
    for k in range(h):
        where[k, p[k], p[k]] = where[k, q[k], q[k]] = 1
        where[h + k, q[k], p[k]], where[h + k, p[k], q[k]] = 1, -1
        rests[p[k], p[k]] = rests[q[k], q[k]] = 0
    return where.reshape(2 * h, n * n), rests


def orthogonalised(a: Any, scale: int) -> tuple[SecretTensor, SecretTensor]:
    """(V [b, n, n], W = A V [b, m, n]) with V orthogonal and the columns of W orthogonal to each other.

    a: matrices [b, m, n] at a scale of 24 bits or so, with elements below 4.  V is orthogonal to 2^-22; the product of
    two columns of W is below n 2^-22.
    """
    b, m, n = a.shape
    unit = multiple_of_unit(scale, n, a).expand(b, n, n).contiguous()
    v, w = unit, a
    for _ in range(sweeps(n) if n > 1 else 0):
        whole: Any = torch.cat([w, v], 1)
        for step, (p, q) in enumerate(pairs(n)):
            w = whole[:, :m].contiguous()
            gram: Any = matrix_product(w.transpose(-2, -1), w)
            gram = gram.reshape(b, n * n)
            first, second, mixed = (gram[:, [i * n + j for i, j in zip(x, y, strict=True)]]
                                    for x, y in ((p, p), (q, q), (p, q)))  # fmt: skip
            both: Any = torch.cat([sub(first, second), add(mixed, mixed)], 1)
            both = shortened(both, scale)
            turns = _angles(both[:, : len(p)], both[:, len(p) :], scale)
            where, rests = _places(n, step)
            rotation: Any = matrix_product(turns, where)
            rotation = add(rotation.reshape(b, n, n), rests) if n % 2 else rotation.reshape(b, n, n)
            whole = product(whole, rotation, scale)
        v = whole[:, m:].contiguous()
        # angles are rounded: V is brought back to an orthogonal matrix, and W made anew
        left = sub(multiple_of_unit(3 * scale, n, v), product(v.transpose(-2, -1), v, scale))
        v = product(v, left, scale, Fraction(1, 2))
        w = product(a, v, scale)
    return v, w
