"""Products: of matrices of words, and of shares with dealt ones (src/c/matmul.h, src/c/product.h)."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch

from pysmpc import _ring
from pysmpc._ring import launch
from pysmpc.ring.matrix_layout import Layout
from pysmpc.ring.prg import KeySet
from pysmpc.ring.z2k import empty, optional, sized, use_torch_threads

# --- matrix products -------------------------------------------------------------


def matmul(a: torch.Tensor, b: torch.Tensor, out: torch.Tensor, accumulate: bool = False) -> torch.Tensor:
    """out (+)= a @ b mod 2**64 for [..., m, k] and [..., k, n] of any strides.

    Leading sizes agree; out is contiguous.
    """
    use_torch_threads()
    *batch, m, k = a.shape
    n = b.shape[-1]
    if b.shape[:-1] != (*batch, k) or out.shape != (*batch, m, n):
        raise ValueError(f"matmul of {tuple(a.shape)} and {tuple(b.shape)} into {tuple(out.shape)}")
    *sa, a_row, a_col = a.stride()
    *sb, b_row, b_col = b.stride()
    kernel = _ring.matmul_add if accumulate else _ring.matmul
    for index in range(math.prod(batch)):
        i, da, db = index, 0, 0
        for size, step_a, step_b in zip(reversed(batch), reversed(sa), reversed(sb), strict=True):
            i, at = divmod(i, size)
            da += at * step_a
            db += at * step_b
        launch(kernel, a, da, a_row, a_col, b, db, b_row, b_col, out, index * m * n, n, m, n, k)
    return out


# --- Beaver combines ---------------------------------------------------------------


def beaver_mul(
    keys: KeySet, d: torch.Tensor, y: torch.Tensor, a: torch.Tensor, e: torch.Tensor, z: torch.Tensor
) -> torch.Tensor:
    """z += d * y + a * e for each hosted holder; d, e: [1, n], y, a, z: [rows, n]."""
    rows, n = z.shape
    public = min(rows, 1)
    launch(
        _ring.beaver_mul,
        keys.native,
        sized(d, public, n),
        sized(y, rows, n),
        sized(a, rows, n),
        sized(e, public, n),
        z,
        n,
    )
    return z


def beaver_square(keys: KeySet, d: torch.Tensor, x: torch.Tensor, a: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
    """z += d * (x + a) for each hosted holder."""
    rows, n = z.shape
    launch(_ring.beaver_square, keys.native, sized(d, min(rows, 1), n), sized(x, rows, n), sized(a, rows, n), z, n)
    return z


class Factor:
    """A factor of a product in place: words [rows, n], their opening [1 or 0, n], the
    stream of their mask, and where the matrices are."""

    __slots__ = ("layout", "opened", "places", "words")

    def __init__(self, words: torch.Tensor, opened: torch.Tensor, stream: int, layout: Layout) -> None:
        self.words, self.opened, self.layout = words, opened, layout
        rows, n = words.shape
        sized(opened, min(rows, 1), n)
        self.places = (
            stream,
            n,
            layout.row,
            layout.col,
            layout.offsets,
            layout.rows,
            layout.cols,
            layout.map,
            layout.row_run,
            layout.col_run,
            0 if layout.map is None else layout.map.numel(),
        )


class Product:
    """A Beaver product of matrices: see src/c/product.h."""

    __slots__ = ("_masks", "factors", "size")

    def __init__(self, x: Factor, y: Factor) -> None:
        use_torch_threads()
        a, b = x.layout, y.layout
        if a.width != b.height or a.batch != b.batch:
            raise ValueError(f"{a.batch} matrices of width {a.width} do not fit {b.batch} of height {b.height}")
        self.factors: tuple[Factor, Factor] | None = (x, y)
        self._masks = (*x.places, *y.places, a.batch, a.height, b.width, a.width)
        self.size = a.batch * a.height * b.width

    def deal(self, keys: KeySet, stream: int, out: torch.Tensor) -> None:
        """Dealer: corrections of the product of the masks."""
        launch(_ring.product_deal, *self._masks, keys.native, stream, sized(out, self.size))

    def combine(self, keys: KeySet, stream: int, corrections: torch.Tensor | None) -> torch.Tensor:
        """Holders: shares of the product, [rows, size]."""
        out = empty(keys.rows, self.size)
        dealt = optional(corrections, self.size)
        launch(_ring.product_combine, *self._masks, *self._words(), keys.native, stream, dealt, out)
        return out

    def masks(self, keys: KeySet) -> torch.Tensor:
        """Dealer: the product of the masks, [size]."""
        out = empty(self.size)
        launch(_ring.product_masks, *self._masks, keys.native, out)
        return out

    def part(self, keys: KeySet) -> torch.Tensor:
        """Holders: shares of the product less that of the masks, [rows, size]."""
        out = empty(keys.rows, self.size)
        launch(_ring.product_part, *self._masks, *self._words(), keys.native, out)
        return out

    def masked(self, moved: Callable[[Any], int]) -> Product:
        """What is left once `part` is done: to deal the product of the masks, whose streams are now moved(each)."""
        out = object.__new__(Product)
        out.factors, out.size = None, self.size
        x, y = (factor.places for factor in self.factors or ())
        out._masks = (moved(x[0]), *x[1:], moved(y[0]), *y[1:], *self._masks[-4:])
        return out

    def _words(self) -> tuple[torch.Tensor, ...]:
        if self.factors is None:
            raise ValueError("of this product only the masks are left")
        x, y = self.factors
        return x.words, x.opened, y.words, y.opened
