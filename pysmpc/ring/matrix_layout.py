"""Where the matrices of a product stand within an array: strides, or positions.

Pure geometry.  A convolution is a product of such matrices (`pysmpc.mpc.additive.convolution_products`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

Axis = tuple[int, int]  # size and stride


def _positions(axes: Sequence[Axis]) -> torch.Tensor:
    """Offsets of all combinations of steps along axes, the last axis fastest."""
    at = torch.zeros(1, dtype=torch.int64)
    for size, stride in axes:
        at = (at.unsqueeze(-1) + torch.arange(size) * stride).reshape(-1)
    return at


def _merged(axes: Sequence[Axis]) -> Axis | None:
    """One axis that steps as the axes do together, where there is one."""
    size, stride = 1, 1
    for n, step in reversed([(n, step) for n, step in axes if n != 1]):
        if size == 1:
            size, stride = n, step
        elif step == size * stride:
            size *= n
        else:
            return None
    return size, stride


def _run(axes: Sequence[Axis]) -> int:
    """How many positions follow one another all along the axes."""
    size = 1
    for n, step in reversed([(n, step) for n, step in axes if n != 1]):
        if step != size:
            break
        size *= n
    return size


class Layout:
    """Matrices within a body: where element (i, j) of batch entry b stands.

    At offsets[b] + i * row + j * col; or, with `rows` and `cols`, at
    offsets[b] + rows[i] + cols[j], looked up in `map` if there is one, where -1 is a
    public zero.  row_run, col_run: how many rows, columns in a row are at consecutive positions.
    """

    __slots__ = ("batch", "col", "cols", "height", "col_run", "map", "offsets", "row", "row_run", "rows", "width")

    def __init__(
        self,
        rows: Sequence[Axis],
        cols: Sequence[Axis],
        batch: Sequence[Axis] = (),
        offset: int = 0,
        map: torch.Tensor | None = None,
    ) -> None:
        self.height = math.prod(n for n, _ in rows)
        self.width = math.prod(n for n, _ in cols)
        self.batch = math.prod(n for n, _ in batch)
        self.offsets = _positions(batch) + offset if batch or offset else _ORIGIN
        row, col = _merged(rows), _merged(cols)
        strided = row is not None and col is not None and map is None
        self.row, self.col = (row[1], col[1]) if strided and row and col else (0, 0)
        self.rows = None if strided else _positions(rows)
        self.cols = None if strided else _positions(cols)
        self.map = map
        self.row_run, self.col_run = _run(rows), _run(cols)

    def view(self, data: torch.Tensor) -> torch.Tensor:
        """As `take`, but a view of the data where strides say it all."""
        data, steps = data.contiguous(), self.offsets.diff()
        if self.rows is not None or self.cols is not None or not self.batch or not bool((steps == steps[:1]).all()):
            return self.take(data)
        sizes = (*data.shape[:-1], self.batch, self.height, self.width)
        strides = (*data.stride()[:-1], int(steps[0]) if len(steps) else 0, self.row, self.col)
        return data.as_strided(sizes, strides, data.storage_offset() + int(self.offsets[0]))

    def take(self, data: torch.Tensor) -> torch.Tensor:
        """The matrices themselves, [..., batch, height, width], out of [..., n] data."""
        rows = torch.arange(self.height) * self.row if self.rows is None else self.rows
        cols = torch.arange(self.width) * self.col if self.cols is None else self.cols
        at = self.offsets.reshape(-1, 1, 1) + rows.reshape(-1, 1) + cols
        if self.map is None:
            return data[..., at]
        at = self.map[at]
        return torch.where(at < 0, 0, data[..., at.clamp(min=0)])


_ORIGIN = torch.zeros(1, dtype=torch.int64)


def as_laid_out(x: torch.Tensor) -> torch.Tensor:
    """The elements of x in the order in which they lie, where they lie without gaps (a transpose); else x.

    Reductions over all of them read memory in order then, which takes a fifth of the time.
    """
    if x.is_contiguous():
        return x
    steps = x.stride()
    turned = x.permute(*sorted(range(x.dim()), key=lambda axis: -steps[axis]))
    return turned if turned.is_contiguous() else x
