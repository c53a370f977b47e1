"""Maxima and minima along a dimension, by a tree of comparisons.

A level halves the candidates: four rounds for the larger value, one for what
identifies it, which moves up with it.  The identity is a one-hot vector where a gradient will need it,
the position alone otherwise.  Ties go to the first, as torch's do on the CPU.  Any two
candidates must be less than 2^63 steps apart; what can be encrypted is (docs/integers.md).
"""

from __future__ import annotations

import weakref
from typing import Any

import torch

from pysmpc.fixedpoint import INTEGER
from pysmpc.ops.arithmetic import mul, neg
from pysmpc.ops.comparison import comparing, truth
from pysmpc.ops.core import aten, implements, like, result
from pysmpc.ops.linear import sum_dim
from pysmpc.ops.movement import cat, clone
from pysmpc.ops.placing import scatter_public
from pysmpc.shares import Share
from pysmpc.tensor import SecretTensor


def _columns(x: SecretTensor, dim: int | None) -> SecretTensor:
    """[groups, candidates], on its own body, settled."""
    flat = x.reshape(1, -1) if dim is None else x.movedim(dim, -1).reshape(-1, x.shape[dim])
    if flat.shape[-1] == 0:
        raise IndexError("a maximum of no elements has no value")
    flat.cell.settle()
    return flat


def tournament(x: SecretTensor, tags: Any) -> tuple[SecretTensor, Any]:
    """Largest of each row of [groups, k], and the tag of where it stood.

    tags: public integers [groups, k, width] that identify the candidates.
    """
    values, session = x, x.session
    while values.shape[1] > 1:
        half = values.shape[1] // 2
        # neighbours meet, so that candidates stay in order and the first of equals wins
        left, right, rest = values[:, : 2 * half : 2], values[:, 1 : 2 * half : 2], values[:, 2 * half :]
        left_tags, right_tags, rest_tags = tags[:, : 2 * half : 2], tags[:, 1 : 2 * half : 2], tags[:, 2 * half :]
        higher, bit = comparing(session).larger(session.party, left.window(), right.window())
        values = cat([like(x, higher), rest], 1)
        wide = truth(left, bit).unsqueeze(2).to(torch.int64)
        chosen = left_tags + wide * (right_tags - left_tags)
        tags = torch.cat([chosen, rest_tags], 1)
    if not isinstance(tags, SecretTensor):
        share = x.session.suite.public(x.session.party, tags.contiguous())
        tags = result(share, x.session, INTEGER, torch.int64)
    return values, tags[:, 0]


def _tournament(x: SecretTensor, one_hot: bool) -> tuple[SecretTensor, Any]:
    return tournament(x, _tags(x, one_hot))


def _tags(x: SecretTensor, one_hot: bool) -> torch.Tensor:
    """One-hot rows, or positions, for the candidates of [groups, k]."""
    groups, k = x.shape
    each = torch.eye(k, dtype=torch.int64) if one_hot else torch.arange(k).unsqueeze(1)
    return each.expand(groups, k, -1)


def needs_gradient(x: SecretTensor) -> bool:
    return torch.is_grad_enabled() and x.requires_grad


def remember(extremum: SecretTensor, x: SecretTensor, tags: SecretTensor) -> None:
    """Note where in x an extremum stood: the backward pass will ask."""
    one_hot = clone(tags).cell.body
    one_hot.one_hot = True
    extremum.cell.body.origin = (weakref.ref(x.cell.body), x.window().layout, one_hot)


def _along(x: SecretTensor, dim: int, keepdim: bool, one_hot: bool) -> tuple[SecretTensor, SecretTensor]:
    """(largest, position) along a dimension."""
    if x.dim() == 0:
        x, keepdim = x.reshape(1), False
    dim = dim % x.dim()
    values, tags = _tournament(_columns(x, dim), one_hot)
    shape = list(x.shape)
    del shape[dim]
    if one_hot:
        positions = sum_dim(mul(tags, torch.arange(x.shape[dim])), [1])
        remember(positions, x, tags)
    else:
        positions = tags.squeeze(1)
    values = values.reshape(shape)
    positions = positions.reshape(shape)
    return (values.unsqueeze(dim), positions.unsqueeze(dim)) if keepdim else (values, positions)


@implements(aten.max.dim)
def max_dim(x: SecretTensor, dim: int, keepdim: bool = False) -> Any:
    """Largest and its position along a dimension."""
    return _along(x, dim, keepdim, needs_gradient(x))


@implements(aten.min.dim)
def min_dim(x: SecretTensor, dim: int, keepdim: bool = False) -> Any:
    """Smallest and its position along a dimension."""
    values, positions = _along(neg(x), dim, keepdim, needs_gradient(x))
    return neg(values), positions


@implements(aten.argmax.default)
def argmax(x: SecretTensor, dim: int | None = None, keepdim: bool = False) -> SecretTensor:
    """Position of the largest."""
    if dim is None:
        _, tags = _tournament(_columns(x, None), False)
        return tags.reshape((1,) * x.dim() if keepdim else ())
    return _along(x, dim, keepdim, False)[1]


@implements(aten.argmin.default)
def argmin(x: SecretTensor, dim: int | None = None, keepdim: bool = False) -> SecretTensor:
    """Position of the smallest."""
    return argmax(neg(x), dim, keepdim)


@implements(aten.max.default)
def max_all(x: SecretTensor) -> SecretTensor:
    """Largest of all; its gradient goes to the first of the largest."""
    columns = _columns(x, None)
    values, tags = _tournament(columns, needs_gradient(x))
    out = values.reshape(())
    if needs_gradient(x):
        remember(out, x, tags)
    return out


@implements(aten.min.default)
def min_all(x: SecretTensor) -> SecretTensor:
    """Smallest of all."""
    columns = _columns(neg(x), None)
    values, tags = _tournament(columns, needs_gradient(x))
    out = neg(values.reshape(()))
    if needs_gradient(x):
        remember(out, x, tags)
    return out


def _extremum(overload: Any, along: Any) -> None:
    @implements(overload)
    def handler(x: SecretTensor, dim: Any = (), keepdim: bool = False) -> SecretTensor:
        axes = sorted((d % x.dim() for d in dim), reverse=True) if dim else list(reversed(range(x.dim())))
        if needs_gradient(x):
            raise NotImplementedError(f"the gradient of {overload} is not implemented; use max(dim) or min(dim)")
        for axis in axes:
            x = along(x, axis, keepdim)[0]
        return x


_extremum(aten.amax.default, max_dim)
_extremum(aten.amin.default, min_dim)


@implements(aten.scatter.src)
def scatter(zeros: Any, dim: int, positions: Any, grad: Any) -> SecretTensor:
    """Elements at public positions; of secret ones, the gradient of an extremum along a dimension: grad where it stood.

    Secret positions are known by the one-hot rows found on the way forward.
    """
    if not isinstance(positions, SecretTensor):
        return scatter_public(zeros, dim, positions, grad)
    origin = positions.cell.body.origin if isinstance(positions, SecretTensor) else None
    public = zeros.window().words() if isinstance(zeros, SecretTensor) and zeros.session.plain else zeros
    blank = zeros.cell.body.zeros if isinstance(public, SecretTensor) else not bool(public.any())
    dim = dim % max(zeros.dim(), 1)
    shape = list(zeros.shape) or [1]
    width = shape.pop(dim)
    if (
        origin is None
        or not blank
        or not positions.window().dense
        or positions.numel() * width != origin[2].n
        or zeros.numel() != origin[2].n
    ):
        raise NotImplementedError("scatter to secret positions is not implemented; multiply by a one-hot vector")
    share = Share(origin[2], (origin[2].n // width, width))
    rows = result(share, positions.session, INTEGER, torch.int64)
    spread = mul(rows, grad.reshape(-1, 1))
    return spread.reshape(*shape, width).movedim(-1, dim).reshape(zeros.shape)
