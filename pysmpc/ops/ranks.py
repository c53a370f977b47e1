"""Positions of sorted rows: what is at them, and what is put to them, takes the permutations of the sort again."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch

from pysmpc.mpc.signatures import Arranged
from pysmpc.ops.core import result
from pysmpc.ring.shares import LaterBody, Share
from pysmpc.tensor.secret import SecretTensor


class Ranks(LaterBody):
    """Positions of the elements of some ranks in sorted rows: of `count` from `first` on."""

    __slots__ = ("first", "how", "kind")

    def __init__(self, how: Arranged, kind: tuple[int, int], first: int, count: int, rows: int) -> None:
        """kind: rows and elements of each.  rows: of the words that this process has."""
        self.how, self.kind, self.first = how, kind, first
        super().__init__(rows, kind[0] * count)

    def compute(self) -> torch.Tensor:
        """Where the elements stood."""
        return some_of(self.how.places(), self.first, self.n // self.kind[0] if self.kind[0] else 0).words()


def some_of(x: Share, first: int, count: int) -> Share:
    """Of rows [..., n], `count` elements from `first` on, on a body of their own."""
    if count == x.shape[-1]:
        return x
    part = Share(x.body, (*x.shape[:-1], count), x.scale, x.strides, x.offset + first)
    return Share.of(part.words(), part.shape, x.scale)


def _ranks_of(where: Any, shape: Sequence[int], dim: int) -> Ranks | None:
    """The positions of sorted lines of a tensor of this shape along a dimension, if that is what they are."""
    body = where.cell.body if isinstance(where, SecretTensor) else None
    if not isinstance(body, Ranks) or len(shape) != where.dim():
        return None
    rest = [n for d, n in enumerate(shape) if d != dim]
    own = [n for d, n in enumerate(where.shape) if d != dim]
    if rest != own or body.kind != (math.prod(rest), shape[dim] if shape else 1):
        return None
    lines = where.movedim(dim, -1) if where.dim() else where.reshape(1)
    return body if lines.window().dense else None


def in_order(x: Any, dim: int, where: Any, share: Share, unit: Any) -> SecretTensor | None:
    """x.gather(dim, where), if `where` are positions of sorted lines of a tensor of x's shape.  share: of x."""
    body = _ranks_of(where, x.shape, dim)
    if body is None:
        return None
    rows = _moved_rows(share, dim)
    lines = tuple(where.movedim(dim, -1).shape) if where.dim() else ()
    moved = some_of(
        body.how.forward(Share.of(rows.words(), body.kind, share.scale)), body.first, body.n // body.kind[0]
    )
    out = result(Share(moved.body, lines or (1,), moved.scale), where.session, unit, x.dtype)
    return out.movedim(-1, dim) if where.dim() else out.reshape(())


def _moved_rows(share: Share, dim: int) -> Share:
    """The axis of a share moved to the end."""
    order = [d for d in range(len(share.shape)) if d != dim] + ([dim] if share.shape else [])
    shape, strides = ([each[d] for d in order] for each in (share.shape, share.strides))
    return Share(share.body, shape, share.scale, strides, share.offset)


def put_back(shape: Sequence[int], dim: int, where: Any, share: Share, unit: Any, dtype: Any) -> SecretTensor | None:
    """Zeros of a shape with elements (a share) at `where`, if those are positions of sorted lines of it."""
    body = _ranks_of(where, shape, dim)
    if body is None or not body.n or tuple(share.shape) != tuple(where.shape):
        return None
    (rows, n), count = body.kind, body.n // body.kind[0]
    words = _moved_rows(share, dim).words()
    if count < n:
        ranked = words.view(words.shape[0], rows, count)
        words = torch.nn.functional.pad(ranked, (body.first, n - body.first - count)).view(words.shape[0], rows * n)
    out = body.how.back(Share.of(words.contiguous(), body.kind, share.scale))
    rest = [size for d, size in enumerate(shape) if d != dim]
    found = result(Share(out.body, (*rest, n), out.scale), where.session, unit, dtype)
    return found.movedim(-1, dim) if len(shape) else found.reshape(())
