"""Writing to a secret in place: what torch allows, the new value, and updates that are put off."""

from __future__ import annotations

from typing import Any

import torch

from pysmpc.errors import SessionMismatchError
from pysmpc.mpc.additive.reopening import open_in_full
from pysmpc.ops.core import rescale, same_window, session_of
from pysmpc.ops.operands import number
from pysmpc.ops.public_operands import public
from pysmpc.ops.scales import UPDATE, plan
from pysmpc.ring import told
from pysmpc.ring.shares import Share, ShareStorage, broadcast
from pysmpc.tensor.secret import SecretTensor


def assign(target: SecretTensor, value: Any) -> None:
    """Give `target` the result of an operation, where torch's rules for dtypes and shapes allow it."""
    check_assignable(target, value)
    write(target, value)


def check_assignable(target: SecretTensor, value: Any) -> None:
    if not torch.can_cast(value.dtype, target.dtype):
        raise RuntimeError(
            f"result type {value.dtype} can't be cast to the desired output type {target.dtype}; use the "
            "out-of-place form"
        )
    _check_shape(target, value)
    if isinstance(value, SecretTensor) and value.session is not target.session and not value.session.plain:
        session_of(target, value)  # raises: the message says why
        raise SessionMismatchError(
            f"a secret held by {value.session!r} cannot be written to a public value; use the out-of-place form"
        )


def _check_shape(target: SecretTensor, value: Any) -> None:
    """RuntimeError where a value does not fill a target of this shape."""
    given, shape = tuple(value.shape), tuple(target.shape)
    if given == shape:
        return
    try:
        whole = broadcast(given, shape)
    except ValueError:
        whole = given
    if whole != shape:
        raise RuntimeError(f"output with shape {list(shape)} doesn't match the broadcast shape {list(whole)}")


def write(target: SecretTensor, value: Any) -> None:
    """Give `target` a new value; what else shares its cell sees it, too."""
    _check_shape(target, value)
    cell = target.cell
    session = cell.session
    scale = 1 if target.dtype == torch.bool else cell.unit.scale  # truth values keep the unit of what was compared
    if value.dtype.is_floating_point and not target.dtype.is_floating_point:
        raise NotImplementedError(
            f"a value of {value.dtype} cannot be written to a secret of {target.dtype}: rounding needs a protocol"
        )
    if target.dtype == torch.bool and value.dtype != torch.bool:
        if isinstance(value, SecretTensor):
            raise NotImplementedError(
                f"a value of {value.dtype} cannot be written to a secret of torch.bool; compare it with 0 first: x != 0"
            )
        value = value.to(torch.bool)
    if not isinstance(value, SecretTensor) or value.session is not session:
        encoded = public(value, session, cell.unit)
        assert encoded is not None
        share = session.arithmetic.public(session.party, encoded.values.contiguous(), encoded.scale)
    elif same_window(value, target):
        return
    else:
        share = value.window()
    if share.scale == cell.scale != 1 and target.whole and target.dtype != torch.bool:
        scale = cell.scale  # as fine as it was: nothing is lost of it
    if share.scale != scale:
        share = rescale(session, share, scale)
    here = target.window()
    share = share.expand(target.shape)
    if here.dense:
        body = share.body if share.dense else Share.of(share.words(), target.shape).body
        open_in_full(body)
        cell.replace(body, scale)
        return
    cell.settle()
    if cell.scale != scale:
        whole = rescale(session, Share(cell.body, (cell.body.n,), cell.scale), scale)
        cell.replace(whole.body, scale)
    here = target.window()
    words = cell.body.words.clone()
    here.window(words).copy_(share.window(share.body.words))
    cell.replace(ShareStorage(words), scale)


def deferred(target: SecretTensor, x: Any, factor: Any, sign: int = 1) -> bool:
    """Note target += sign * factor * x for later, where that has still to be truncated.

    An optimizer updates one parameter after another; all their truncations are done
    in one round when the first of them is read (`pysmpc.tensor.storage.flush`).
    """
    cell, unit = target.cell, target.unit.scale
    if (
        not isinstance(x, SecretTensor)
        or x.session is not cell.session
        or x.shape != target.shape
        or x.unit != target.unit
        or not torch.can_cast(x.dtype, target.dtype)
        or not target.whole
    ):
        return False
    held = x.cell.scale

    def planned(factor: Any) -> told.Made:
        """(Whether x is settled first, (what multiplies it, what divides it)); nothing where it is not put off."""
        exact = number(sign * factor)
        if not exact:
            return None, ()
        settle, p, q = (False, 1, 1) if exact == 1 else plan(held, x.unit, exact, UPDATE)
        scale = int((min(held, unit) if settle else held) * q)
        return (None, ()) if p == 0 or scale <= unit or scale % unit else (settle, (p, scale // unit))

    settle, numbers = told.follow(planned, factor)
    if not numbers:
        return False
    p, by = numbers
    if settle:
        x.cell.settle()
    delta, checks = x.window().at(by * unit), cell.session.checks
    if checks is not None and cell.scale == unit:  # here, and not where it is done: that may be far from the line
        own = Share(cell.body, (cell.body.n,), unit)
        checks.owe(cell, cell.session.party.holders, (own, delta, p, by))
    cell.defer(delta, p, by)
    return True
