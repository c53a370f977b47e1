"""Logic: truth values, the bits of integers, any and all.

Between secrets on the protocols of `pysmpc.mpc.additive.boolean`; a public operand is a
public factor for truth values, and a public mask for integers.
"""

from __future__ import annotations

from typing import Any

import torch

from pysmpc.ops.arithmetic import add, mul, neg, sub
from pysmpc.ops.comparing import equal, logical, logical_not, not_less
from pysmpc.ops.core import aten, dims, is_number, like, promoted, result, session_of
from pysmpc.ops.linear import sum_dim
from pysmpc.ops.operands import operand, sides
from pysmpc.ops.public_operands import Public
from pysmpc.ops.registering import implements
from pysmpc.ring.shares import broadcast
from pysmpc.tensor.secret import SecretTensor


def _truths(x: Any) -> Any:
    """Truth values of anything, as torch sees them: not zero."""
    if isinstance(x, SecretTensor):
        return x if x.dtype == torch.bool else logical_not(equal(x, 0))
    return (x if isinstance(x, torch.Tensor) else torch.tensor(x)).to(torch.bool)


def _secret(x: Any) -> bool:
    return isinstance(x, SecretTensor) and not x.session.plain


def _between(x: SecretTensor, y: SecretTensor, name: str) -> SecretTensor:
    """A protocol of two secret operands, broadcast."""
    session = session_of(x, y)
    shape = broadcast(x.shape, y.shape)
    share = getattr(session.suite, name)(session.party, x.window().expand(shape), y.window().expand(shape))
    return result(share, session, x.unit, promoted(x, y))


def _number(x: SecretTensor) -> Any:
    return x.to(torch.int64)


@implements(aten.logical_and.default)
def logical_and(x: Any, y: Any) -> SecretTensor:
    """x and y; one round."""
    x, y = _truths(x), _truths(y)
    if _secret(x) and _secret(y):
        return _between(x, y, "logical_and")
    return logical(mul(x.to(torch.int64), y.to(torch.int64)))


@implements(aten.logical_or.default)
def logical_or(x: Any, y: Any) -> SecretTensor:
    """x or y; one round."""
    x, y = _truths(x), _truths(y)
    if isinstance(x, SecretTensor) and not isinstance(y, SecretTensor) and not bool(y.any()):
        return x.expand(broadcast(x.shape, y.shape))
    return logical_not(logical_and(torch.logical_not(x), torch.logical_not(y)))


@implements(aten.logical_xor.default)
def logical_xor(x: Any, y: Any) -> SecretTensor:
    """x or y, not both; one round."""
    x, y = _truths(x), _truths(y)
    if _secret(x) and _secret(y):
        return _between(x, y, "logical_xor")
    a, b = x.to(torch.int64), y.to(torch.int64)
    return logical(a + b - 2 * (a * b))


def _integers(x: Any, y: Any) -> tuple[Any, Any, torch.dtype]:
    """Operands of a bitwise operation on integers, the secret one first."""
    _, dtype, x, y, _ = sides(x, y)
    if dtype.is_floating_point:
        raise RuntimeError(f"operations on bits are for integers and booleans, not for {dtype}")
    x, y = (v if is_number(v) else v.to(dtype) for v in (x, y))
    for v in (x, y):
        if isinstance(v, SecretTensor):
            v.cell.settle()
    return x, y, dtype


def _and(x: Any, y: Any, dtype: torch.dtype) -> SecretTensor:
    """x & y of integers, x a secret."""
    other = operand(torch.tensor(y) if is_number(y) else y, x)
    if isinstance(other, SecretTensor):
        return _between(x, other, "bitwise_and")
    assert isinstance(other, Public)
    mask = other.values
    shape = broadcast(x.shape, mask.shape)
    if mask.numel() != 1:
        mask = mask.expand(shape)
    share = x.session.suite.bitwise_and_public(x.session.party, x.window().expand(shape), mask)
    return like(x, share, dtype)


def _are_truths(x: Any, y: Any) -> bool:
    return promoted(x, y) == torch.bool


@implements(aten.bitwise_and.Tensor)
def bitwise_and(x: Any, y: Any) -> SecretTensor:
    """x & y."""
    return logical_and(x, y) if _are_truths(x, y) else _and(*_integers(x, y))


@implements(aten.bitwise_or.Tensor)
def bitwise_or(x: Any, y: Any) -> SecretTensor:
    """x | y = x + y - (x & y)."""
    if _are_truths(x, y):
        return logical_or(x, y)
    x, y, dtype = _integers(x, y)
    return sub(add(x, y), _and(x, y, dtype))


@implements(aten.bitwise_xor.Tensor)
def bitwise_xor(x: Any, y: Any) -> SecretTensor:
    """x ^ y = x + y - 2 (x & y)."""
    if _are_truths(x, y):
        return logical_xor(x, y)
    x, y, dtype = _integers(x, y)
    return sub(add(x, y), mul(_and(x, y, dtype), 2))


@implements(aten.bitwise_not.default)
def bitwise_not(x: SecretTensor) -> SecretTensor:
    """~x = -x - 1, or not x.  No message."""
    if x.dtype.is_floating_point:
        raise RuntimeError(f"operations on bits are for integers and booleans, not for {x.dtype}")
    return logical_not(x) if x.dtype == torch.bool else sub(neg(x), 1)


def _counted(x: SecretTensor, dim: Any, keepdim: bool, every: bool) -> SecretTensor:
    """Whether the number of truths along dimensions reaches all of them, or one."""
    truths = _truths(x)
    axes = dims(dim, x.dim())
    count = sum_dim(truths, axes, keepdim) if axes else _number(truths)
    enough = truths.numel() // max(count.numel(), 1) if every else 1
    return not_less(count, enough)


@implements(aten.any.default, aten.any.dim, aten.any.dims)
def any_(x: SecretTensor, dim: Any = None, keepdim: bool = False) -> SecretTensor:
    """Whether one is true: a count and one comparison, four rounds."""
    return _counted(x, dim, keepdim, every=False)


@implements(aten.all.default, aten.all.dim, aten.all.dims)
def all_(x: SecretTensor, dim: Any = None, keepdim: bool = False) -> SecretTensor:
    """Whether all are true: a count and one comparison, four rounds."""
    return _counted(x, dim, keepdim, every=True)
