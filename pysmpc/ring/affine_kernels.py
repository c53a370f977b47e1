"""Elementwise products that need no opening (src/c/affine.inc.h): one call of the dealer and one of the holders."""

from __future__ import annotations

from typing import NamedTuple

import torch

from pysmpc import _ring
from pysmpc._ring import launch
from pysmpc.ring.prg import KeySet
from pysmpc.ring.z2k import Divisor, empty, optional, sized, use_torch_threads


class Known(NamedTuple):
    """A factor: `factor` times what was opened as c [1 or 0, n] under the mask of a stream, or times what a truncation
    by `divisor` made of it; reopened: the stream is of the mask under which that may be opened again (`reopening`)."""

    stream: int
    divisor: Divisor | None
    reopened: bool
    factor: int
    c: torch.Tensor

    @property
    def words(self) -> int:
        """Dealt words of an element."""
        return 1 if self.divisor is None else 2

    def _held(self, rows: int, n: int) -> tuple[Divisor | None, int, torch.Tensor]:
        return self.divisor, self.factor, sized(self.c, min(rows, 1), n)


def product_rows(x: Known, y: Known | None) -> int:
    """Dealt words of an element of x y, or of the square of x: as many streams."""
    return x.words if y is None else x.words * y.words


def affine_deal(keys: KeySet, base: int, x: Known, y: Known | None, out: torch.Tensor) -> None:
    """Dealer: corrections [product_rows * n] of the products of the dealt words of x and y, or of the square of x."""
    use_torch_threads()
    n = out.numel() // product_rows(x, y)
    if y is None:
        launch(_ring.affine_square_deal, keys.native, base, *x[:4], out, n)
    else:
        launch(_ring.affine_mul_deal, keys.native, base, *x[:4], *y[:4], out, n)


def affine_mul(
    keys: KeySet,
    base: int,
    x: Known,
    y: Known,
    xs: torch.Tensor,
    ys: torch.Tensor,
    corrections: torch.Tensor | None,
) -> torch.Tensor:
    """Holders: shares [rows, n] of the product of xs and ys, [rows, n] each."""
    use_torch_threads()
    rows, n = keys.rows, xs.shape[1]
    out = empty(rows, n)
    dealt = optional(corrections, product_rows(x, y) * n)
    given = sized(xs, rows, n), sized(ys, rows, n)
    launch(_ring.affine_mul, keys.native, base, *x._held(rows, n), *y._held(rows, n), *given, dealt, out, n)
    return out


def affine_square(
    keys: KeySet, base: int, x: Known, xs: torch.Tensor, corrections: torch.Tensor | None
) -> torch.Tensor:
    """Holders: shares [rows, n] of the square of xs [rows, n]."""
    use_torch_threads()
    rows, n = keys.rows, xs.shape[1]
    out = empty(rows, n)
    dealt = optional(corrections, product_rows(x, None) * n)
    launch(_ring.affine_square, keys.native, base, *x._held(rows, n), sized(xs, rows, n), dealt, out, n)
    return out
