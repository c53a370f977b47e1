"""Public operands of an operation on secrets, encoded: their scale, and how many of their digits are kept."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import torch

from pysmpc.errors import SessionMismatchError
from pysmpc.ring.fixedpoint import BINARY16, INTEGER, Encoding, Precision, check_memory, encode
from pysmpc.ring.matrix_layout import as_laid_out
from pysmpc.session.session import Session
from pysmpc.tensor.secret import SecretTensor

SIGNIFICANT = 24  # bits of a public factor
COARSE = 1 << 8  # steps, of a public factor below which its encoding keeps too few digits


@dataclass(frozen=True)
class Public:
    """A public operand: encoded integers under a scale."""

    values: torch.Tensor
    scale: int
    unit: Precision
    exact: Fraction | None = None  # the value of a small constant, of which the encoding keeps too little

    @property
    def constant(self) -> Fraction | None:
        """The value, where it is the same everywhere by construction."""
        if self.exact is not None:
            return self.exact
        v = self.values
        if v.numel() == 1 or (
            v.numel() and not any(step for n, step in zip(v.shape, v.stride(), strict=True) if n > 1)
        ):
            return Fraction(int(v.as_strided((), ())), self.scale)
        return None

    def coarser(self, bits: int) -> Public:
        """The same with so many fractional bits less, rounded, or with fewer less where the scale has no more."""
        by = min(1 << max(0, bits), self.scale & -self.scale)
        return self if by == 1 else Public((self.values + by // 2) // by, self.scale // by, self.unit)

    def shortened(self) -> Public:
        """The same without digits that no element has, nor those beyond 24 significant ones of the largest.

        None that its encoding has is left out.
        """
        if not self.values.numel():
            return self
        by = _common(self)
        x = Public(self.values // by, self.scale // by, self.unit)
        excess = x.largest().bit_length() - SIGNIFICANT - 1
        return x.coarser(min(excess, x.scale.bit_length() - x.unit.scale.bit_length()))

    def largest(self) -> int:
        """The size of its largest integer."""
        low, high = map(int, torch.aminmax(as_laid_out(self.values)))
        return max(-low, high)


def public(x: Any, session: Session, unit: Precision) -> Public | None:
    """An operand that is not a secret of the session, encoded; None if it is one."""
    if isinstance(x, SecretTensor):
        if x.cell.session is session:
            return None
        if not x.cell.session.plain:
            raise SessionMismatchError(
                f"a secret held by {x.cell.session!r} cannot be used in, or written to, a value of {session!r}; share "
                "both among the same holders with the same provider and protocol, and use out-of-place forms on "
                "public values"
            )
        share = x.window()
        return Public(share.window(share.body.words)[0], share.scale, x.unit)
    if not x.is_floating_point():
        return Public(encode(x, INTEGER), 1, INTEGER)
    if unit.scale == 1:
        unit = BINARY16
    if x.numel() and not any(x.stride()):
        values = encode(x.as_strided((), ()), unit)
        small = abs(int(values)) < COARSE
        exact = Fraction(float(x.as_strided((), ()))) if small else None
        return Public(values.expand(x.shape), unit.scale, unit, exact)
    return Public(_encoded(x, unit), unit.scale, unit)


def _encoded(x: torch.Tensor, unit: Precision) -> torch.Tensor:
    """`encode`; the words of a transposed matrix are laid out as its values are, binary ones made in two passes."""
    check_memory(x)
    if x.dim() == 2 and not x.is_contiguous() and x.t().is_contiguous():
        return _encoded(x.t(), unit).t()
    if unit.base == 2 and x.is_contiguous() and x.dtype in (torch.float32, torch.float64):
        return Encoding(x, unit).words().view(x.shape)
    return encode(x, unit)


def factor(x: Any, session: Session, unit: Precision) -> tuple[Public | None, Fraction]:
    """`public` of a factor, and a power of two that is still to be multiplied.

    Small factors are encoded larger, so that they keep their significant digits; large ones, and those that are
    products of public values, with no more fractional bits than they need, so that there is room for the product.
    Both depend on what is public.  A constant is a fraction, of which `times` takes care.
    """
    larger, power = magnified(x, unit)
    out = public(larger, session, unit)
    if out is None or out.scale == 1 or not x.numel() or out.constant is not None:
        return out, power
    wide = out.scale > out.unit.scale or out.largest() >= COARSE * out.scale
    return out.shortened() if wide else out, power


def magnified(x: Any, unit: Precision) -> tuple[Any, Fraction]:
    """A public factor, and what is to be multiplied in the end: a power of two where its elements were small."""
    if isinstance(x, SecretTensor) or not x.is_floating_point() or not x.numel():
        return x, Fraction(1)
    check_memory(x)
    scale = BINARY16.scale if unit.scale == 1 else unit.scale
    low, high = map(float, torch.aminmax(as_laid_out(x.detach())))
    largest = max(-low, high)
    if not 0 < largest * scale < COARSE:
        return x, Fraction(1)
    power = math.frexp(largest)[1] + scale.bit_length() - BINARY16.scale.bit_length()  # 16 bits, and so room for x
    return torch.ldexp(x.double(), torch.tensor(-power)), Fraction(2) ** power


def _common(x: Public) -> int:
    """The largest power of two that divides the scale and all integers."""
    power = x.scale & -x.scale
    while power > 1 and bool((x.values & (power - 1)).any()):
        power >>= 1
    return power
