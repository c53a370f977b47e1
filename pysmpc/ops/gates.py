"""What recurrent layers are made of: products of gates that take no round, and openings that travel together.

torch has no operations for these; workers of other machines are sent them like any other.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from pysmpc.mpc.additive.affine_values import factor_of
from pysmpc.mpc.functions.known_values import finest
from pysmpc.mpc.functions.smooth import opened_beside
from pysmpc.ops.arithmetic import mul
from pysmpc.ops.core import finer, promoted, result, window
from pysmpc.ops.dropout import LIBRARY
from pysmpc.ops.functions.argument import argument
from pysmpc.ops.registering import implements
from pysmpc.tensor.secret import SecretTensor

LIBRARY.define("gated(Tensor x, Tensor y) -> Tensor")
LIBRARY.define("open_beside(Tensor x, Tensor y) -> Tensor")
LIBRARY.define("prepared(Tensor x, Tensor[] others) -> Tensor")
GATED: Any = torch.ops.pysmpc.gated.default
_open_beside: Any = torch.ops.pysmpc.open_beside.default
_prepared: Any = torch.ops.pysmpc.prepared.default


def is_shared(x: Any) -> bool:
    """Whether x is a secret that holders share."""
    return isinstance(x, SecretTensor) and not x.session.plain


@implements(GATED)
def of_gates(x: Any, y: Any) -> Any:
    """x * y, without a round where both are results of functions, or were truncated (`Suite.mul_at_once`)."""
    if not (is_shared(x) and is_shared(y)) or x.session is not y.session:
        return mul(x, y)
    session = x.session
    out = session.arithmetic.mul_at_once(session.party, window(x), window(y))
    return result(out, session, finer(x.unit, y.unit), promoted(x, y))


@implements(_open_beside)
def open_beside(x: SecretTensor, y: SecretTensor) -> SecretTensor:
    """y at the scale of its encoding; in the same round x is opened for a function that is asked for next."""
    session, unit = x.session, y.unit.scale
    x = argument(x, "sigmoid")
    by = y.cell.scale // unit
    z, checks = y.window(), session.checks
    dividends = [(z, by)] if by > 1 else []
    check = checks.truncation(z, by) if checks is not None and by > 1 else None
    found = opened_beside(session.suite, session.party, finest(x.window()), dividends)
    if by <= 1:
        return y
    [out] = found
    if checks is not None:
        out = checks.keep(out, check)
    return result(out.at(unit), session, y.unit, y.dtype)


@implements(_prepared)
def open_for_products(x: Any, others: Sequence[Any]) -> Any:
    """x; it and the others are opened for products in one round, those that are shared in its session."""
    every = [each for each in (x, *others) if is_shared(each)]
    session = every[0].session
    session.suite.together(session.party, (), (), [window(each) for each in every if each.session is session])
    return SecretTensor(x.cell, x.size(), x.stride(), x.storage_offset(), x.dtype)


def product(x: Any, y: Any) -> Any:
    """x * y of gates: see `of_gates`."""
    return GATED(x, y) if is_shared(x) and is_shared(y) else x * y


def prepare(*factors: Any, gates: Sequence[Any] = ()) -> None:
    """Open factors of later products in one round, and those of `product` that would take one; others stay."""
    every = [each.detach() for each in factors if is_shared(each)]
    every += [each.detach() for each in gates if is_shared(each) and factor_of(window(each)) is None]
    if len(every) > 1:
        _prepared(every[0], every[1:])


class _Product(torch.autograd.Function):
    """`product` with its derivative."""

    @staticmethod
    def forward(ctx: Any, x: Any, y: Any) -> Any:
        ctx.save_for_backward(x, y)
        with torch._C._AutoDispatchBelowAutograd():
            return product(x, y)

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        x, y = ctx.saved_tensors
        return grad * y, grad * x


class _Beside(torch.autograd.Function):
    """`open_beside`, which is y."""

    @staticmethod
    def forward(ctx: Any, x: Any, y: Any) -> Any:
        if not (is_shared(x) and is_shared(y) and x.session is y.session):
            return y.clone()
        with torch._C._AutoDispatchBelowAutograd():
            return _open_beside(x, y)

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        return None, grad


def differentiable_product(x: Any, y: Any) -> Any:
    """`product`, above autograd."""
    return _Product.apply(x, y)


def settled_beside(x: Any, y: Any) -> Any:
    """y, divided out in the round in which x is opened for sigmoid or tanh; above autograd."""
    return _Beside.apply(x, y)
