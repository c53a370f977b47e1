"""What a process knows of a secret: the shares of the holders it hosts.

`ShareStorage` is storage: `words` is [rows, n], one row of ring elements for every hosted
holder (n holders in one process, one in a worker, none in the provider).  It is never
written after it was made, which is why a mask, once drawn, and the opening under it
stay valid for the life of the value and serve every product it takes part in.

`Share` is a strided window on a body, with the scale of the encoding.  Transposes,
slices and expansions are windows on the same body and inherit its opening.
"""

from __future__ import annotations

import itertools
import math
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch

from pysmpc.ring.matrix_layout import Layout

_serial = itertools.count(1)


def next_serial() -> int:
    """A number that no body and no other object at a worker has; later ones are larger."""
    return next(_serial)


@dataclass(eq=False, repr=False)
class MaskedBit:
    """Shared bits: public beta = bit ^ rho, and shares of the bit rho.

    beta: [1 or 0, ceil(n / 64)] packed; rho: [rows, n]; stream: that of rho, None where
    the dealer does not know it; flip: the value is not(bit).
    """

    beta: torch.Tensor
    rho: torch.Tensor
    stream: int | None
    flip: bool = False

    def flipped(self) -> MaskedBit:
        """not(bit), for nothing."""
        return MaskedBit(self.beta, self.rho, self.stream, not self.flip)


@dataclass(frozen=True)
class Extremum:
    """Of what, along which axes, and whether the smallest."""

    body: weakref.ref[ShareStorage]
    layout: tuple[object, ...]
    axes: tuple[int, ...]
    least: bool


class ShareStorage:
    """Immutable ring elements [rows, n] of the hosted holders."""

    __slots__ = (
        "words", "n", "serial", "mask", "opened", "bit", "sign", "origin", "ties", "most", "zeros", "compacted",
        "shape", "binary", "divisor", "masked", "functions", "range", "affine", "gate", "multiple",
        "__weakref__",
    )  # fmt: skip

    def __init__(self, words: torch.Tensor) -> None:
        self.words = words
        self.n = words.shape[1]
        self.shape: tuple[int, ...] = (self.n,)  # in which a holder shows what it keeps
        self.serial = next(_serial)
        self.mask: int | None = None  # stream under which `opened` was opened
        self.opened: torch.Tensor | None = None  # [1 or 0, n] value - mask
        self.masked: Any = None  # words of the mask, where they are authenticated and so not drawn again
        self.bit: MaskedBit | None = None  # the values are these bits
        self.sign: MaskedBit | None = None  # the bits of value > 0, where a ReLU found them
        self.binary: torch.Tensor | None = None  # binary shares [rows, n], where they were made
        self.divisor: Any = None  # what divisions by these values share (pysmpc.mpc.derived.division)
        self.functions: Any = None  # openings for nonlinear functions (pysmpc.mpc.functions.smooth)
        self.range: Any = None  # how large the values are, where that is checked (pysmpc.mpc.derived.range_checks)
        self.affine: Any = None  # for elementwise products without an opening (pysmpc.mpc.additive.affine_values)
        self.gate: Any = None  # the same of more words, for products that have to take no round (`Suite.mul_at_once`)
        self.multiple: tuple[Share, int] | None = None  # the words are those of a dense share times a public number
        self.zeros = False  # public zeros, until something else is written
        self.origin: Extremum | None = None  # the values are extrema
        # the values are bits that in a shape have one at least set along these axes
        self.ties: tuple[tuple[int, ...], tuple[int, ...]] | None = None
        self.most: int | None = None  # the values are whole numbers from 1 to this
        self.compacted: dict[tuple[object, ...], ShareStorage] = {}  # copies of slices, oldest first

    @property
    def rows(self) -> int:
        """Hosted holders."""
        return self.held.shape[0]

    @property
    def held(self) -> torch.Tensor:
        """The words as they are now, whatever is still to be added to them."""
        return self.words

    def __repr__(self) -> str:
        return f"Body({self.rows} x {self.n})"


class LaterBody(ShareStorage):
    """A body whose words are computed when they are first read.

    Whether they are read follows from the program, so all processes agree.
    """

    __slots__ = ("_found", "_rows")

    def __init__(self, rows: int, n: int) -> None:
        self._rows = rows
        super().__init__(torch.empty((1, 1), dtype=torch.int64).expand(rows, n))
        self._found: torch.Tensor | None = None

    def compute(self) -> torch.Tensor:
        """The words [rows, n]."""
        raise NotImplementedError

    @property
    def rows(self) -> int:
        """Hosted holders."""
        return self._rows

    @property
    def held(self) -> Any:
        """The words, once somebody has read them."""
        return self._found

    @property
    def words(self) -> torch.Tensor:
        """The words, computed now where nobody has read them before."""
        if self._found is None:
            self._found = self.compute()
        return self._found

    @words.setter
    def words(self, words: torch.Tensor) -> None:
        self._found = words


@lru_cache(maxsize=1 << 14)
def dense_strides(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Row-major strides, torch's way (sizes of zero count as one)."""
    strides, step = [], 1
    for size in reversed(shape):
        strides.append(step)
        step *= max(size, 1)
    return tuple(reversed(strides))


@lru_cache(maxsize=1 << 12)
def memory_order(strides: tuple[int, ...]) -> tuple[int, ...]:
    """The axes from the longest stride to the shortest."""
    return tuple(sorted(range(len(strides)), key=lambda axis: -strides[axis]))


@lru_cache(maxsize=1 << 12)
def strides_in(shape: tuple[int, ...], order: tuple[int, ...]) -> tuple[int, ...]:
    """Strides of a dense array of a shape whose axes follow one another in an order."""
    steps = dense_strides(tuple(shape[axis] for axis in order))
    return tuple(step for _, step in sorted(zip(order, steps, strict=True)))


def broadcast(*shapes: Sequence[int]) -> tuple[int, ...]:
    """The shape that all shapes expand to; ValueError where they do not fit."""
    out = tuple(shapes[0])
    for shape in shapes[1:]:
        shape = tuple(shape)
        if shape == out:
            continue
        long, short = (out, shape) if len(out) >= len(shape) else (shape, out)
        lead = len(long) - len(short)
        merged = list(long)
        for i, size in enumerate(short, lead):
            if merged[i] == 1:
                merged[i] = size
            elif size not in (1, merged[i]):
                raise ValueError(f"shapes {', '.join(str(tuple(s)) for s in shapes)} do not broadcast together")
        out = tuple(merged)
    return out


@lru_cache(maxsize=4096)
def _matrices(shape: tuple[int, ...], strides: tuple[int, ...], offset: int) -> Layout:
    *batch, row, col = zip(shape, strides, strict=True)
    return Layout([row], [col], batch, offset)


class Share:
    """A window on a body: shape, strides and offset in elements, and a scale."""

    __slots__ = ("body", "shape", "strides", "offset", "scale")

    def __init__(
        self,
        body: ShareStorage,
        shape: Sequence[int],
        scale: int = 1,
        strides: Sequence[int] | None = None,
        offset: int = 0,
    ) -> None:
        self.body = body
        self.shape = tuple(shape)
        self.scale = scale
        self.strides = dense_strides(self.shape) if strides is None else tuple(strides)
        self.offset = offset

    @classmethod
    def of(cls, words: torch.Tensor, shape: Sequence[int], scale: int = 1) -> Share:
        """A share that owns contiguous words [rows, numel]."""
        body = ShareStorage(words)
        body.shape = tuple(shape)
        return cls(body, shape, scale)

    def __repr__(self) -> str:
        return f"Share(shape={self.shape}, scale={self.scale}, rows={self.body.rows})"

    @property
    def numel(self) -> int:
        return math.prod(self.shape)

    @property
    def dense(self) -> bool:
        """Whether the window is its whole body, in order."""
        return self.offset == 0 and self.numel == self.body.n and self.strides == dense_strides(self.shape)

    @property
    def order(self) -> tuple[int, ...] | None:
        """The axes as they follow one another in the body, where the window is its whole body; None elsewhere."""
        if self.offset or self.numel != self.body.n:
            return None
        order = memory_order(self.strides)
        steps = strides_in(self.shape, order)
        same = all(a == b or size == 1 for a, b, size in zip(self.strides, steps, self.shape, strict=True))
        return order if same else None

    @classmethod
    def ordered(cls, words: torch.Tensor, shape: Sequence[int], order: tuple[int, ...], scale: int = 1) -> Share:
        """A share of contiguous words [rows, numel] whose axes follow one another in an order."""
        body = ShareStorage(words)
        body.shape = tuple(shape[axis] for axis in order)
        return cls(body, shape, scale, strides_in(tuple(shape), order))

    def words_in(self, order: tuple[int, ...]) -> torch.Tensor:
        """The shares as contiguous [rows, numel], the axes in an order."""
        shape, steps = ([values[axis] for axis in order] for values in (self.shape, self.strides))
        return Share(self.body, shape, self.scale, steps, self.offset).words()

    @property
    def layout(self) -> tuple[object, ...]:
        """Which elements of the body, in which order."""
        return self.shape, self.strides, self.offset

    def extremum(self, found: ShareStorage) -> Extremum | None:
        """How values were found as extrema of this window, if they were."""
        origin = found.origin
        return origin if origin is not None and origin.body() is self.body and origin.layout == self.layout else None

    def at(self, scale: int) -> Share:
        """The same integers under another scale."""
        return Share(self.body, self.shape, scale, self.strides, self.offset)

    def window(self, data: torch.Tensor) -> torch.Tensor:
        """This window on [rows, n] data that runs parallel to the body."""
        rows = data.shape[0]
        return data.as_strided((rows, *self.shape), (data.shape[1], *self.strides), data.storage_offset() + self.offset)

    def gather(self, data: torch.Tensor) -> torch.Tensor:
        """The window as contiguous [rows, numel]; data itself where it is dense."""
        return data if self.dense else self.window(data).reshape(data.shape[0], self.numel).contiguous()

    def words(self) -> torch.Tensor:
        """The shares as contiguous [rows, numel]."""
        return self.gather(self.body.words)

    def matrices(self) -> Layout:
        """[..., m, k] as a layout."""
        return _matrices(self.shape, self.strides, self.offset)

    def expand(self, shape: Sequence[int]) -> Share:
        """Broadcast to a shape, by strides of zero."""
        if tuple(shape) == self.shape:
            return self
        lead = len(shape) - len(self.shape)
        strides = [0] * lead + [
            0 if mine == 1 and size != 1 else step
            for mine, size, step in zip(self.shape, shape[lead:], self.strides, strict=True)
        ]
        return Share(self.body, shape, self.scale, strides, self.offset)

    def compact(self) -> Share:
        """This share on a body of its own size.

        Opening a value opens its whole body.  A small slice of a large body is copied
        first, and the copy remembered with its opening, whichever way round the slice is
        read.  A body keeps the latest copies, up to its own size: which ones depends on
        the program alone, never on when a process collects garbage, since all processes
        must agree on what has been opened.
        """
        span = [i for i, (step, size) in enumerate(zip(self.strides, self.shape, strict=True)) if step and size > 1]
        distinct = math.prod(self.shape[i] for i in span)
        if 2 * distinct >= self.body.n:
            return self
        span.sort(key=lambda i: -self.strides[i])
        shape = tuple(self.shape[i] for i in span)
        core = Share(self.body, shape, self.scale, [self.strides[i] for i in span], self.offset)
        known = self.body.compacted
        body = known.get(core.layout)
        if body is None:
            body = known[core.layout] = ShareStorage(core.words())
            spare = self.body.n - sum(each.n for each in known.values())
            while spare < 0:
                spare += known.pop(next(iter(known))).n
        steps = dict(zip(span, dense_strides(shape), strict=True))
        row_major = dense_strides(self.shape)
        strides = [steps.get(i, 0 if size > 1 else row_major[i]) for i, size in enumerate(self.shape)]
        return Share(body, self.shape, self.scale, strides)
