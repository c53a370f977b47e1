"""Matrices at a scale finer than their encoding, for algorithms of many products: 8 bits finer, where there is room.

A product of two such matrices is brought back to that scale, which is one round for the product and one for the
rounding, so that what is lost is 2^-24 at 16 fractional bits.  Elements must stay below 2^13 there.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import torch

from pysmpc.ops.arithmetic import mul
from pysmpc.ops.core import FACTOR, like, rescale
from pysmpc.ops.linear import matrix_product
from pysmpc.tensor.secret import SecretTensor

WIDEST = 1 << 20  # scales of encodings that leave room for a finer one


def fine_scale(x: SecretTensor) -> int:
    """The scale of matrices with x's encoding."""
    unit = x.cell.unit.scale
    return unit * FACTOR if unit <= WIDEST else unit


def at(x: SecretTensor, scale: int) -> SecretTensor:
    """x at a scale: a truncation, one round, or a multiplication."""
    return like(x, rescale(x.session, x.window(), scale))


def product(x: Any, y: Any, scale: int, times: Fraction = Fraction(1)) -> SecretTensor:
    """times x @ y of batches [b, m, n] and [b, n, k] at a scale: the factor is part of the divisor that rounds."""
    return shortened(matrix_product(x, y), scale, times)


def elementwise(x: Any, y: Any, scale: int) -> SecretTensor:
    """x * y at a scale."""
    return shortened(mul(x, y), scale)


def shortened(x: SecretTensor, scale: int, times: Fraction = Fraction(1)) -> SecretTensor:
    """times x at a scale, by one truncation."""
    share = x.window()
    if times == 1 and share.scale % scale:
        return at(x, scale)
    by = round(Fraction(share.scale, scale) / times)
    if by < 2:
        return x
    session = x.session
    return like(x, session.arithmetic.truncate(session.party, share, by).at(scale))


def batched(x: Any) -> tuple[Any, Sequence[int]]:
    """Matrices [..., m, n] as [b, m, n], and the sizes before those two."""
    rest = tuple(x.shape[:-2])
    return x.reshape(math.prod(rest), *x.shape[-2:]), rest


def multiple_of_unit(steps: int, n: int, beside: SecretTensor) -> SecretTensor:
    """The public identity [1, n, n] times a number of steps of the scale of what it stands beside.  No message."""
    session, scale = beside.session, beside.cell.scale
    values = (torch.eye(n, dtype=torch.int64) * steps).unsqueeze(0)
    return like(beside, session.suite.public(session.party, values, scale))


def check_square(x: Any, what: str) -> None:
    """RuntimeError unless x is a square matrix or a batch of them."""
    if x.dim() < 2 or x.shape[-1] != x.shape[-2]:
        raise RuntimeError(f"{what}: x must be batches of square matrices, and is of shape {tuple(x.shape)}")
