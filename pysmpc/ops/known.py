"""Products of public values that are kept as fixed point: everybody knows their sizes, so they keep their digits.

A gradient is public until it meets a secret: the weights of a loss, one over the number of its elements.  Small ones
have few steps at the scale of the encoding, and are multiplied by large secrets later on.
"""

from __future__ import annotations

from fractions import Fraction

import torch

from pysmpc.errors import EncodingError
from pysmpc.ops.core import FACTOR, finer, result
from pysmpc.ops.public_operands import SIGNIFICANT, Public, magnified, public
from pysmpc.ops.scales import ALIGN
from pysmpc.ring.fixedpoint import LIMIT
from pysmpc.tensor.secret import SecretTensor

ROOM = LIMIT.bit_length() - 1  # bits of a product


def product(x: SecretTensor, y: torch.Tensor, dtype: torch.dtype) -> SecretTensor | None:
    """x * y of two public values; None where neither is finer than a product takes operands as they are."""
    fine = [each for each in (x, y) if isinstance(each, SecretTensor) and each.cell.scale > each.unit.scale * FACTOR]
    if not fine:
        return None
    if isinstance(y, SecretTensor):
        return _product(x, _public(y), dtype)
    larger, power = magnified(y, x.unit)
    other = public(larger, x.session, x.unit)
    assert other is not None  # it is no secret
    out = _product(x, other, dtype)
    return out if power == 1 else multiple(out, power)


def multiple(x: SecretTensor, factor: Fraction) -> SecretTensor:
    """factor * x for a public x, the factor with 24 significant bits or more."""
    bits = SIGNIFICANT + factor.denominator.bit_length() - abs(factor.numerator).bit_length()
    scale = 1 << max(0, bits)
    return _product(x, Public(torch.tensor(round(factor * scale)), scale, x.unit), x.dtype)


def _public(x: SecretTensor) -> Public:
    share = x.window()
    return Public(share.window(share.body.words)[0], share.scale, x.unit)


def _bits(x: Public) -> int:
    return int(x.values.abs().max()).bit_length() if x.values.numel() else 0


def _product(x: SecretTensor, y: Public, dtype: torch.dtype) -> SecretTensor:
    a, b, session = _public(x), y, x.session
    excess = _bits(a) + _bits(b) - ROOM
    if excess > 0:
        more = max(0, min(excess, _bits(a) - _bits(b)))  # of the longer one first
        less = max(0, min(excess, _bits(b) - _bits(a)))
        half = -(-(excess - more - less) // 2)
        a, b = a.coarser(more + half), b.coarser(less + half)
    if _bits(a) + _bits(b) > ROOM:
        raise EncodingError("a product of public fixed-point values is out of range: use fewer fractional bits")
    out = Public(a.values * b.values, a.scale * b.scale, finer(x.unit, y.unit))
    out = out.coarser(out.scale.bit_length() - ALIGN - 1)
    share = session.suite.public(session.party, out.values.contiguous(), out.scale)
    return result(share, session, out.unit, dtype)
