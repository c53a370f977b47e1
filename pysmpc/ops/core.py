"""What every operation needs: the session of its operands, their shares, the dtype and tensor of its result.

Beside it: `registering` fills the table of operations, `public_operands` encodes what is not secret, `scales` keeps
scales in range, `writing` changes a secret in place.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from fractions import Fraction
from numbers import Number
from typing import Any

import torch

from pysmpc.errors import SessionMismatchError
from pysmpc.mpc.derived.range_checks import Check
from pysmpc.ring.fixedpoint import BINARY16, Precision
from pysmpc.ring.shares import Share
from pysmpc.session.session import Session
from pysmpc.tensor.secret import SecretTensor
from pysmpc.tensor.storage import TensorStorage

aten = torch.ops.aten

FACTOR = 1 << 8


def session_of(*operands: Any) -> Session:
    """The session of the secrets among the operands; public ones join any."""
    found: Session | None = None
    for x in operands:
        if isinstance(x, SecretTensor):
            session = x.cell.session
            if found is None or (found.plain and not session.plain):
                found = session
            elif session is not found and not session.plain:
                raise SessionMismatchError(
                    f"one secret is held by {found!r}, another by {session!r}; share both among the same "
                    "holders with the same provider and protocol"
                )
    assert found is not None
    return found


def finer(a: Precision, b: Precision) -> Precision:
    """The precision with more steps to one."""
    return a if a.scale >= b.scale else b


def window(x: SecretTensor, headroom: int = FACTOR) -> Share:
    """The operand's share, its cell settled if its scale is too fine; that of a public value stays as fine as it is."""
    if x.cell.session.plain:
        x = same_value(x, x.cell.scale)
    x.cell.settle(headroom)
    return x.window()


def result(share: Share, session: Session, unit: Precision, dtype: torch.dtype) -> SecretTensor:
    """A new tensor for a result."""
    return SecretTensor.of(share, session, unit, dtype)


def like(x: SecretTensor, share: Share, dtype: torch.dtype | None = None) -> SecretTensor:
    """A new tensor with the unit and dtype of x."""
    return SecretTensor.of(share, x.cell.session, x.cell.unit, dtype or x.dtype)


def same_value(x: SecretTensor, scale: int) -> SecretTensor:
    """x's integers under another scale; mask, opening and signs stay valid."""
    cell = TensorStorage(x.cell.body, scale, x.cell.unit, x.cell.session)
    return SecretTensor(cell, x.size(), x.stride(), x.storage_offset(), x.dtype)


def is_number(x: Any) -> bool:
    """Whether x is a Python number (or an exact fraction)."""
    return not isinstance(x, torch.Tensor) and isinstance(x, (int, float, Fraction, Number))


def same_window(x: SecretTensor, y: SecretTensor) -> bool:
    """Whether two tensors are the same elements of one cell in the same order."""
    return (
        x.cell is y.cell
        and x.shape == y.shape
        and x.stride() == y.stride()
        and x.storage_offset() == y.storage_offset()
    )


def promoted(*operands: Any) -> torch.dtype:
    """The dtype torch would give the result."""
    dtype = torch.bool
    for x in sorted(operands, key=is_number):
        if isinstance(x, torch.Tensor):
            kind = x.dtype
        elif isinstance(x, Fraction):
            continue
        elif isinstance(x, bool):
            kind = torch.bool
        else:
            kind = torch.int64 if isinstance(x, int) else torch.get_default_dtype()
            if dtype.is_floating_point or (dtype != torch.bool and not kind.is_floating_point):
                continue  # a number does not widen a tensor of its kind
        if kind is not dtype:
            dtype = torch.promote_types(dtype, kind)
    return dtype


def float_unit(unit: Precision, dtype: torch.dtype) -> Precision:
    """The unit a result of this dtype needs: real values cannot be held as integers."""
    return BINARY16 if dtype.is_floating_point and unit.scale == 1 else unit


def rescale(session: Session, x: Share, scale: int) -> Share:
    """x at another scale: multiply up, divide down."""
    if x.scale == scale:
        return x
    common = math.gcd(x.scale, scale)
    up, down = scale // common, x.scale // common
    if up > 1:
        x = session.arithmetic.scale_by(session.party, x, up).at(x.scale * up)
    if down > 1:
        x = session.arithmetic.truncate(session.party, x, down)
    return x.at(scale)


def in_range(
    x: SecretTensor, move: Callable[..., torch.Tensor] | None, terms: int, beside: SecretTensor | None = None
) -> Check | None:
    """Check sums of up to so many elements of x, where that can be: those that move(values) makes of its values.

    beside: to each of which an element of this is added; move takes its values first.  move: None for what is
    checked as if all elements were as large as the largest.  For what adds up words by itself; `kept` tells the
    result what was found.
    """
    checks = x.session.checks
    if checks is None or (terms < 2 and beside is None):
        return None
    return checks.total([*([] if beside is None else [(beside.window(), 1)]), (x.window(), terms)], move)


def within(*operands: Any) -> None:
    """Check arguments of a function that takes what can be encrypted, |x| < 2^62 steps of its scale."""
    for x in operands:
        if isinstance(x, SecretTensor) and x.session.checks is not None:
            x.session.checks.within(x.window())


def kept(x: SecretTensor, out: Share, check: Check | None) -> Share:
    """A result, with what `in_range` found."""
    checks = x.session.checks
    return out if checks is None else checks.keep(out, check)


def moved(x: SecretTensor, move: Callable[[torch.Tensor], torch.Tensor], terms: int = 1) -> SecretTensor:
    """x with its elements moved: `move` acts on [rows, *shape] share words.  terms: how many it adds up, at most."""
    check = in_range(x, lambda values: move(values.unsqueeze(0)).squeeze(0), terms)
    share = x.window()
    words = move(share.window(share.body.words)).contiguous()
    shape = words.shape[1:]
    out = Share.of(words.reshape(words.shape[0], math.prod(shape)), shape, share.scale)
    checks = x.session.checks
    if checks is not None:
        out = checks.keep(out, check) if terms > 1 else checks.same(share, out)
    return like(x, out)


def dims(dim: Any, ndim: int) -> list[int]:
    """Dimensions as a sorted list; None and () mean all."""
    if dim is None or (isinstance(dim, Sequence) and not len(dim)):
        return list(range(ndim))
    listed = sorted(axis(d, ndim) for d in (dim if isinstance(dim, Sequence) else [dim]))
    if len(set(listed)) < len(listed):
        raise RuntimeError(f"a dimension appears twice in {list(dim)}")
    return listed if ndim else []


def axis(dim: int, ndim: int) -> int:
    """A dimension counted from the first; a scalar has one, as in torch.  IndexError where it is out of range."""
    span = max(ndim, 1)
    if not -span <= dim < span:
        raise IndexError(f"Dimension out of range (expected to be in range of [{-span}, {span - 1}], but got {dim})")
    return dim % span
