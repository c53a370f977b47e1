"""Which rows of an owner's data stand behind each number of a value, by the structure of the program.

A value has terms.  A term says of each number which rows went into one part of it: it
runs along some axes of the value (its row axes), is the same along all others, and
holds the numbers (labels) of the rows.  What is combined elementwise has the terms of
all operands.  A sum over a row axis unites the rows along it, term by term.  So many
rows stand behind a number as its smallest term has, and none of hers set no limit.

What is not followed any more is a cap: the least number of rows behind any number, of
any term.  To forget terms for a cap is always sound, as no operation on a value leaves
fewer rows behind a number than the fewest of its operands had.

Nothing here reads a share: all of it follows from shapes, public indices and the
numbers of the rows, which the driver has chosen.
"""

from __future__ import annotations

import itertools
import math
import weakref
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

Array = npt.NDArray[np.int64]
Shape = tuple[int, ...]

TERMS = 8  # of a value; more become a cap
SIZE = 1 << 20  # labels of a term; a term of more becomes a cap
TABLE = 40  # bits of the number of a row within its table


class Labels:
    """Numbers of rows, [size of each row axis..., members]; -1 is no row."""

    __slots__ = ("__weakref__", "_least", "_total", "array")

    def __init__(self, array: Array) -> None:
        self.array = array
        self._least: float | None = None
        self._total: float | None = None

    @property
    def least(self) -> float:
        """Different rows of the place that has the fewest; places without any do not count."""
        if self._least is None:
            members = self.array.shape[-1]
            flat = self.array.reshape(-1, members) if members else self.array.reshape(0, 1)
            if len(flat) == 1:
                self._least = self.total
            else:
                ordered = np.sort(flat, axis=1)
                first = np.ones_like(ordered, dtype=bool)
                first[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
                counts = (first & (ordered >= 0)).sum(1)
                counts = counts[counts > 0]
                self._least = int(counts.min()) if len(counts) else math.inf
        return self._least

    @property
    def total(self) -> float:
        """Different rows in all; no limit where there are none."""
        if self._total is None:
            found = set(self.array.ravel().tolist())
            found.discard(-1)
            self._total = len(found) or math.inf
        return self._total

    @property
    def distinct(self) -> bool:
        """Whether each place has one row, and no two the same."""
        return self.array.shape[-1] == 1 and self.total == self.array.size

    @property
    def span(self) -> tuple[int, int]:
        """Numbers of the first row and the last, where there are any."""
        return (int(self.array.min()), int(self.array.max())) if self.array.size else (-1, -1)

    def same(self, other: Labels) -> bool:
        """Whether both name the same rows in the same places."""
        return self is other or (self.array.shape == other.array.shape and np.array_equal(self.array, other.array))

    def without(self, places: Sequence[int]) -> Labels | None:
        """Without some of the axes, where nothing differs along them; else None."""
        array = self.array
        for place in sorted(places, reverse=True):
            first = array.take([0], place)
            if not np.array_equal(array, np.broadcast_to(first, array.shape)):
                return None
            array = first.squeeze(place)
        return Labels(array)

    def over(self, places: Sequence[int]) -> Labels:
        """United along some of the axes."""
        kept = [i for i in range(self.array.ndim - 1) if i not in places]
        moved = self.array.transpose(*kept, *places, self.array.ndim - 1)
        sizes = [self.array.shape[i] for i in kept]
        return Labels(moved.reshape(*sizes, math.prod(moved.shape[len(kept) :])))


class Term(NamedTuple):
    """axes: along which the rows differ, ascending; those of the labels, in that order."""

    axes: Shape
    labels: Labels


class Rows(NamedTuple):
    """What stands behind a value of some shape.  cap: rows behind each number, whatever the terms say."""

    cap: float = math.inf
    terms: tuple[Term, ...] = ()

    @property
    def least(self) -> float:
        """Rows behind the number that has the fewest; infinite where no row of hers is."""
        return min([self.cap, *(term.labels.least for term in self.terms)])


PUBLIC = Rows()

_loaded: weakref.WeakValueDictionary[bytes, Labels] = weakref.WeakValueDictionary()


def loaded(shape: Sequence[int], items: torch.Tensor, table: int) -> Rows:
    """Rows of data whose first axis has these items of a table."""
    array = items.numpy().astype(np.int64).reshape(-1, 1) + (table << TABLE)
    if not shape or len(array) != shape[0]:
        return collapsed(made(math.inf, [((0,), Labels(array))]))
    key = array.tobytes()
    labels = _loaded.get(key)
    if labels is None:
        labels = _loaded[key] = Labels(array)
    return made(math.inf, [((0,), labels)])


def made(cap: float, terms: Iterable[tuple[Shape, Labels]]) -> Rows:
    """Rows of terms, each once, without those that are too many or too large."""
    kept: list[Term] = []
    for axes, labels in terms:
        if 1 in labels.array.shape[:-1]:
            sizes = labels.array.shape
            axes = tuple(axis for axis, size in zip(axes, sizes, strict=False) if size != 1)
            labels = Labels(labels.array.reshape(*(n for n in sizes[:-1] if n != 1), sizes[-1]))
        if not axes or len(kept) == TERMS or labels.array.size > SIZE:
            cap = min(cap, labels.least)
        elif not any(term.axes == axes and term.labels.same(labels) for term in kept):
            kept.append(Term(axes, labels))
    return Rows(cap, tuple(kept))


def collapsed(rows: Rows) -> Rows:
    """No terms, but what their smallest number says."""
    return Rows(rows.least) if rows.terms else rows


# --- operations ---------------------------------------------------------------------


class Operand(NamedTuple):
    """A tensor among the arguments of an operation."""

    rows: Rows
    shape: Shape


def carried(rows: Rows, axis: Callable[[int], int | None]) -> Rows:
    """Where each axis went; a term along an axis that went nowhere becomes a cap, if its rows differ along it."""
    cap, terms = rows.cap, []
    for term in rows.terms:
        moved = [axis(old) for old in term.axes]
        axes = [new for new in moved if new is not None]
        gone = [place for place, new in enumerate(moved) if new is None]
        labels = term.labels.without(gone) if axes and gone else term.labels
        if labels is None or not axes:
            cap = min(cap, term.labels.least)
        elif axes == sorted(axes):
            terms.append((tuple(axes), labels))
        else:
            order = sorted(range(len(axes)), key=axes.__getitem__)
            terms.append((tuple(sorted(axes)), Labels(labels.array.transpose(*order, len(order)))))
    return made(cap, terms)


def joined(*rows: Rows) -> Rows:
    """The terms of all, of values of one shape."""
    return made(min([math.inf, *(each.cap for each in rows)]), [term for each in rows for term in each.terms])


def elementwise(shape: Shape, operands: Sequence[Operand]) -> Rows:
    """Of numbers combined place by place, broadcast to a shape."""
    found = []
    for rows, own in operands:
        if rows.terms and own != shape:
            lead = len(shape) - len(own)
            sizes, start = own, lead
            rows = carried(rows, lambda d, start=start, sizes=sizes: _same(shape, d + start, sizes[d]))  # type: ignore[misc]
        found.append(rows)
    return joined(*found)


def _same(shape: Shape, axis: int, size: int) -> int | None:
    return axis if 0 <= axis < len(shape) and shape[axis] == size else None


def reduced(rows: Rows, axes: Sequence[int], keep: bool, unite: bool = True) -> Rows:
    """Of a reduction over axes.  unite: every number along them went into the result, as in a sum; else any one did."""
    gone = set(axes)

    def place(axis: int) -> int:
        return axis if keep else axis - sum(each < axis for each in gone)

    cap, terms = rows.cap, []
    for term in rows.terms:
        over = [i for i, axis in enumerate(term.axes) if axis in gone]
        if over and not unite:
            cap = min(cap, term.labels.least)
        elif len(over) == len(term.axes):
            cap = min(cap, term.labels.total)
        else:
            left = tuple(place(axis) for axis in term.axes if axis not in gone)
            terms.append((left, term.labels.over(over) if over else term.labels))
    return made(cap, terms)


def product(x: Operand, y: Operand) -> Rows:
    """Of [..., m, k] @ [..., k, n]: sums over k; batches as they are."""
    last = len(x.shape) - 1
    left = reduced(x.rows, [last], True)
    right = reduced(y.rows, [last - 1], True)
    return joined(left, right)


def concatenated(operands: Sequence[Operand], axis: int) -> Rows:
    """Of values one after the other along an axis: each term of one goes on as each of the next."""
    everywhere: list[tuple[Shape, Labels]] = []
    along: list[list[Term | None]] = []
    for rows, _ in operands:
        everywhere.extend(term for term in rows.terms if axis not in term.axes)
        along.append([term for term in rows.terms if axis in term.axes] or [None])
    cap = min(rows.cap for rows, _ in operands)
    if math.prod(map(len, along)) > TERMS:
        return made(min([cap, *(t.labels.least for each in along for t in each if t is not None)]), everywhere)
    for parts in itertools.product(*along):
        given = [part for part in parts if part is not None]
        if given:
            chain = _chain(parts, [shape for _, shape in operands], axis)
            if chain is None:
                cap = min([cap, *(part.labels.least for part in given)])
            else:
                everywhere.append(chain)
    return made(cap, everywhere)


def _chain(parts: Sequence[Term | None], shapes: Sequence[Shape], axis: int) -> tuple[Shape, Labels] | None:
    axes = tuple(sorted({each for part in parts if part is not None for each in part.axes}))
    members = max(part.labels.array.shape[-1] for part in parts if part is not None)
    if sum(math.prod(shape[each] for each in axes) for shape in shapes) * members > SIZE:
        return None
    arrays = []
    for part, shape in zip(parts, shapes, strict=True):
        whole = np.full((*(shape[each] for each in axes), members), -1, dtype=np.int64)
        if part is not None:
            own = part.labels.array
            sizes = [shape[each] if each in part.axes else 1 for each in axes]
            whole[..., : own.shape[-1]] = own.reshape(*sizes, own.shape[-1])
        arrays.append(whole)
    return axes, Labels(np.concatenate(arrays, axes.index(axis)))


def taken(rows: Rows, axis: int, index: torch.Tensor) -> Rows:
    """Of entries by their numbers along an axis."""
    picked = index.numpy()
    cap, terms = rows.cap, []
    for term in rows.terms:
        labels = term.labels
        if axis in term.axes:
            place = term.axes.index(axis)
            sizes = labels.array.shape
            if math.prod((*sizes[:place], picked.size, *sizes[place + 1 :])) > SIZE:
                cap = min(cap, labels.least)
                continue
            labels = Labels(np.take(labels.array, picked, axis=place))
        terms.append((term.axes, labels))
    return made(cap, terms)


def moved(rows: Rows, shape: Shape, move: Callable[[torch.Tensor], torch.Tensor]) -> Rows:
    """Of what an operation that computes nothing does.  move: does it to a tensor of that shape; zeros are its own."""
    cap, terms = rows.cap, []
    for axes, labels in rows.terms:
        places = math.prod(shape[axis] for axis in axes)
        sizes = [size if axis in axes else 1 for axis, size in enumerate(shape)]
        at = move(torch.arange(1, places + 1).reshape(sizes).expand(shape))
        left = []
        for axis in reversed(range(at.dim())):
            if at.shape[axis] > 1 and not torch.equal(at, at.narrow(axis, 0, 1).expand(at.shape)):
                left.append(axis)
            elif at.shape[axis]:
                at = at.select(axis, 0)
            else:
                return PUBLIC  # no numbers
        if at.numel() * labels.array.shape[-1] > SIZE:
            cap = min(cap, labels.least)
            continue
        flat = labels.array.reshape(places, labels.array.shape[-1])
        flat = np.concatenate([np.full_like(flat[:1], -1), flat])
        terms.append((tuple(reversed(left)), Labels(flat[at.numpy()])))
    return made(cap, terms)


# --- windows ------------------------------------------------------------------------


@lru_cache(maxsize=1 << 12)
def _along(n: int, step: int, size: Shape, stride: Shape, offset: int) -> tuple[Shape, Array, bool] | None:
    """Which entry of an axis, of n that are `step` apart in memory, each place of a window is at.

    (axes of the window along which that changes, numbers of the entries, whether they are all in order); None
    where that is not known.
    """
    # what is a multiple of the whole axis in memory changes nothing
    axes = [d for d, (m, t) in enumerate(zip(size, stride, strict=True)) if m > 1 and t % (n * step)]
    axes.sort(key=lambda d: stride[d])
    inside = 0
    while axes and inside + (size[axes[0]] - 1) * stride[axes[0]] < step:
        inside += (size[axes[0]] - 1) * stride[axes[0]]
        del axes[0]
    axes.sort()
    if math.prod(size[d] for d in axes) > SIZE:
        return None
    at = np.array(offset, dtype=np.int64)
    for d in axes:
        at = at[..., None] + np.arange(size[d], dtype=np.int64) * stride[d]
    if inside and int((at % step).max()) + inside >= step:
        return None
    entries = at // step % n
    return tuple(axes), entries, len(axes) == 1 and np.array_equal(entries, np.arange(n))


def seen(rows: Rows, layout: tuple[Shape, Shape], size: Shape, stride: Shape, offset: int) -> Rows:
    """Of a window on memory.  layout: sizes and strides of all of it, which the rows are of."""
    if not rows.terms or (offset == 0 and layout == (size, stride)):
        return rows
    if 0 in size:
        return PUBLIC
    sizes, steps = layout
    cap, terms = rows.cap, []
    for axes, labels in rows.terms:
        found = [_along(sizes[axis], steps[axis], size, stride, offset) for axis in axes]
        parts = [each for each in found if each is not None]
        if len(parts) < len(found):
            cap = min(cap, labels.least)
        elif len(parts) == 1 and parts[0][2]:
            terms.append((parts[0][0], labels))
        else:
            new = tuple(sorted({axis for own, _, _ in parts for axis in own}))
            if math.prod(size[axis] for axis in new) * labels.array.shape[-1] > SIZE:
                cap = min(cap, labels.least)
                continue
            index = [at.reshape([size[axis] if axis in own else 1 for axis in new]) for own, at, _ in parts]
            array = labels.array[tuple(index)]
            terms.append((new, Labels(array.reshape(*(size[axis] for axis in new), array.shape[-1]))))
    return made(cap, terms)


@lru_cache(maxsize=1 << 12)
def fills(size: Shape, stride: Shape, offset: int, n: int) -> bool:
    """Whether a window covers memory of n numbers, each once."""
    step = 1
    for t, m in sorted((t, m) for m, t in zip(size, stride, strict=True) if m != 1):
        if t != step:
            return False
        step *= m
    return offset == 0 and step == n
