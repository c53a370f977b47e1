"""How the operands of an operation come to its handler: settled, by one prologue.

    pair(x, y)     both operands, the second one encoded
    sides(x, y)    the same with the second one as it came, for what takes a public value exactly
    operand(y)     one operand beside a secret, encoded

What is a secret of the session is a Secret, a public tensor (and fixed point that nobody
shares) is Public: integers under a scale; a number of Python is a Number, exactly.  A
handler branches on these three and on nothing else.  No message.
"""

from __future__ import annotations

from fractions import Fraction
from functools import lru_cache
from typing import Any, NamedTuple

import torch

from pysmpc.errors import EncodingError
from pysmpc.ops.core import finer, float_unit, is_number, promoted, session_of
from pysmpc.ops.public_operands import Public, public
from pysmpc.ring.fixedpoint import Precision
from pysmpc.ring.shares import broadcast
from pysmpc.session.session import Session
from pysmpc.tensor.secret import SecretTensor
from pysmpc.tensor.storage import TensorStorage

Secret = SecretTensor
Number = Fraction
Operand = Secret | Public | Number


class Sides(NamedTuple):
    """Two operands of which at least one is a secret.

    session: who holds the secrets.  dtype: what torch gives the result.  x: a secret of
    the session.  y: the other operand, as it came.  first: whether x came first; where
    both are secrets, they are in their order.
    """

    session: Session
    dtype: torch.dtype
    x: Secret
    y: Any
    first: bool

    @property
    def both(self) -> bool:
        """Whether y is a secret of the session, too."""
        return isinstance(self.y, SecretTensor) and self.y.cell.session is self.session

    @property
    def shape(self) -> tuple[int, ...]:
        """What the two broadcast to.  ValueError where they do not."""
        return tuple(self.x.shape) if is_number(self.y) else broadcast(self.x.shape, self.y.shape)


class Pair(NamedTuple):
    """As `Sides`, with y encoded, and x under an encoding that can hold numbers of dtype beside a public y."""

    session: Session
    dtype: torch.dtype
    x: Secret
    y: Operand
    first: bool

    @property
    def shape(self) -> tuple[int, ...]:
        """What the two broadcast to.  ValueError where they do not."""
        y = self.y
        if isinstance(y, Number):
            return tuple(self.x.shape)
        return broadcast(self.x.shape, y.values.shape if isinstance(y, Public) else y.shape)

    @property
    def unit(self) -> Precision:
        """The encoding of the result."""
        return self.x.unit if isinstance(self.y, Number) else finer(self.x.unit, self.y.unit)


def sides(x: Any, y: Any) -> Sides:
    """The two operands, a secret first.  SessionMismatchError where they are held by different parties."""
    session = session_of(x, y)
    first = isinstance(x, SecretTensor) and x.cell.session is session
    return Sides(session, promoted(x, y), *((x, y, True) if first else (y, x, False)))


def pair(x: Any, y: Any) -> Pair:
    """The two operands, a secret first, the other encoded.

    Raises SessionMismatchError where they are held by different parties, and EncodingError
    for a public operand that the ring cannot hold.
    """
    if isinstance(x, SecretTensor):  # the common cases, briefly
        session, kind = x.cell.session, x.dtype
        if isinstance(y, SecretTensor):
            if y.cell.session is session:
                return Pair(session, kind if y.dtype is kind else promoted(x, y), x, y, True)
        elif not isinstance(y, torch.Tensor):
            dtype = kind if kind.is_floating_point else promoted(x, y)
            return Pair(session, dtype, with_unit(x, dtype), number(y), True)
        else:
            dtype = kind if y.dtype is kind else promoted(x, y)
            x = with_unit(x, dtype)
            return Pair(session, dtype, x, operand(y, x), True)
    session = session_of(x, y)
    dtype = promoted(x, y)
    if isinstance(x, SecretTensor) and x.cell.session is session:
        x = with_unit(x, dtype)
        return Pair(session, dtype, x, operand(y, x), True)
    y = with_unit(y, dtype)
    return Pair(session, dtype, y, operand(x, y), False)


def operand(y: Any, beside: Secret) -> Operand:
    """An operand as the secret beside it takes it."""
    if not isinstance(y, torch.Tensor):
        return number(y)
    found = public(y, beside.cell.session, beside.cell.unit)
    return y if found is None else found  # type: ignore[return-value]  # what is not public is a secret


def number(value: Any) -> Number:
    """A Python number, exactly; NaN and infinity raise."""
    return value if isinstance(value, Fraction) else _number(value)


@lru_cache(maxsize=4096)
def _number(value: Any) -> Number:
    if isinstance(value, complex):
        raise EncodingError("complex numbers cannot meet secrets")
    try:
        return Fraction(value)
    except (ValueError, OverflowError):
        raise EncodingError(f"{value} cannot be encoded") from None


def with_unit(x: Secret, dtype: torch.dtype) -> Secret:
    """x as a tensor of dtype: an integer secret becomes fixed point where needed."""
    cell = x.cell
    unit = cell.unit
    if dtype is x.dtype and (unit.scale != 1 or not dtype.is_floating_point):
        return x
    bound = cell.bound
    cell = TensorStorage(cell.body, cell.scale, float_unit(unit, dtype), cell.session)
    cell.bound = bound
    return SecretTensor(cell, x.size(), x.stride(), x.storage_offset(), dtype)
