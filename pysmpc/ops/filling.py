"""New tensors of one number, like a secret one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import torch

from pysmpc.mpc.functions.known_values import known_of
from pysmpc.ops.core import aten, float_unit, result
from pysmpc.ops.registering import implements, in_place
from pysmpc.ring.fixedpoint import INTEGER
from pysmpc.ring.shares import Share
from pysmpc.session.session import plain_session
from pysmpc.tensor.secret import SecretTensor


def constant(
    x: SecretTensor, value: Any, shape: Sequence[int], secret: bool, dtype: torch.dtype, like: Any = None
) -> SecretTensor:
    """A tensor of one public value: as shares, or (if it will not be written) in the clear.

    like: a tensor whose elements are in memory as those of the result are to be.
    """
    session = x.session if secret else plain_session
    unit = x.unit if dtype.is_floating_point else INTEGER
    unit = float_unit(unit, dtype)
    word = int(Fraction(value) * unit.scale)
    values = torch.full((), word, dtype=torch.int64)
    if secret:
        share = session.arithmetic.public(session.party, values.expand(tuple(shape)).contiguous(), unit.scale)
        if like is not None and (order := Share(share.body, shape, 1, like.stride()).order) is not None:
            share = Share.ordered(share.body.words, shape, order, unit.scale)
    else:
        share = session.arithmetic.public(session.party, values, unit.scale).expand(tuple(shape))
    share.body.zeros = secret and word == 0
    return result(share, session, unit, dtype)


def _like(overload: Any, value: Any, secret: bool) -> None:
    @implements(overload)
    def handler(
        x: SecretTensor,
        *,
        dtype: torch.dtype | None = None,
        layout: Any = None,
        device: Any = None,
        pin_memory: Any = None,
        memory_format: Any = None,
    ) -> SecretTensor:
        return constant(x, value, x.shape, secret, dtype or x.dtype, None if x.is_contiguous() else x)


def _new(overload: Any, value: Any) -> None:
    @implements(overload)
    def handler(
        x: SecretTensor,
        size: Sequence[int],
        *,
        dtype: torch.dtype | None = None,
        layout: Any = None,
        device: Any = None,
        pin_memory: Any = None,
    ) -> SecretTensor:
        return constant(x, value, size, True, dtype or x.dtype)


@implements(aten.full_like.default)
def full_like(
    x: SecretTensor,
    value: Any,
    *,
    dtype: torch.dtype | None = None,
    layout: Any = None,
    device: Any = None,
    pin_memory: Any = None,
    memory_format: Any = None,
) -> SecretTensor:
    """A public number everywhere, as shares."""
    return constant(x, value, x.shape, True, dtype or x.dtype)


@implements(aten.new_empty_strided.default)
def new_empty_strided(
    x: SecretTensor,
    size: Sequence[int],
    stride: Sequence[int],
    *,
    dtype: torch.dtype | None = None,
    layout: Any = None,
    device: Any = None,
    pin_memory: Any = None,
) -> SecretTensor:
    """Zeros in a memory layout: where autograd keeps the gradient of a leaf of that layout."""
    last = sum((n - 1) * step for n, step in zip(size, stride, strict=True)) if math.prod(size) else -1
    flat = constant(x, 0, (last + 1,), True, dtype or x.dtype)
    return SecretTensor(flat.cell, size, stride, 0, flat.dtype)


def _filled(x: SecretTensor, value: Any) -> SecretTensor:
    out = constant(x, value, x.shape, True, x.dtype)
    known_of(out.cell.body).kept["constant"] = value
    return out


_like(aten.zeros_like.default, 0, True)
_like(aten.empty_like.default, 0, True)
_like(aten.ones_like.default, 1, False)
_new(aten.new_zeros.default, 0)
_new(aten.new_empty.default, 0)
_new(aten.new_ones.default, 1)
in_place(aten.zero_.default, lambda x: _filled(x, 0))
in_place(aten.fill_.Scalar, _filled)
