"""Where a value at a worker came from: whose data went into it, and how many of this worker's own rows.

It belongs to the value itself, whatever slot a driver calls it by: to its cell, which
views of one another share.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from pysmpc.remote.program_messages import Ref
from pysmpc.remote.worker import rows
from pysmpc.remote.worker.rows import PUBLIC, Labels, Rows, Shape
from pysmpc.ring.shares import dense_strides
from pysmpc.tensor.storage import TensorStorage


@dataclass(frozen=True, eq=False)
class Origin:
    """Whose data a value was computed from.

    owners: names.  rows: of this worker's own data, behind each number.  layout: sizes and strides of
    the memory that the rows are of, where they have terms.
    """

    owners: frozenset[str] = frozenset()
    rows: Rows = PUBLIC
    layout: tuple[Shape, Shape] = ((), ())

    def window(self, size: Shape, stride: Shape, offset: int) -> Rows:
        """The rows of a window on the value."""
        return rows.seen(self.rows, self.layout, size, stride, offset) if self.rows.terms else self.rows

    def copied(self, size: Shape, stride: Shape, offset: int) -> Origin:
        """The origin of a copy of a window, in order."""
        if not self.rows.terms:
            return self
        return Origin(self.owners, self.window(size, stride, offset), (size, dense_strides(size)))

    def of(self, ref: Ref) -> Origin:
        """The origin of a copy of what a driver refers to."""
        return self.copied(tuple(ref.size), tuple(ref.stride), ref.offset)


NOBODY = Origin()


class Provenance:
    """A worker's notes on a value.  written: operations so far and the program's digest, when it was last written."""

    __slots__ = ("origin", "written")

    def __init__(self, origin: Origin, written: tuple[int, bytes]) -> None:
        self.origin, self.written = origin, written


def origin_of(cell: TensorStorage) -> Origin:
    """Where the value of a cell came from."""
    return cell.provenance.origin  # type: ignore[no-any-return]


def owners_of(origins: Iterable[Origin]) -> frozenset[str]:
    """The owners of any."""
    found: frozenset[str] = frozenset()
    for origin in origins:
        if not origin.owners <= found:
            found = origin.owners | found if found else origin.owners
    return found


def combined(origins: Sequence[Origin]) -> Origin:
    """The origin of what any numbers of values went into, of which no more is known."""
    first = origins[0]
    if not first.rows.terms and all(each is first for each in origins):
        return first
    return Origin(owners_of(origins), Rows(min([each.rows.least for each in origins])))


# --- what is the same for other rows ------------------------------------------------


def pattern(origins: Sequence[Origin]) -> tuple[Any, list[Labels]] | None:
    """What of origins decides how many rows are behind what is computed from them, and the labels that may be others.

    None where more than that decides: where a row occurs twice, or in labels that are not the same.
    """
    parts: list[Any] = []
    labels: list[Labels] = []
    for origin in origins:
        rows = origin.rows
        if not rows.terms:
            parts.append((origin.owners, rows.cap))
            continue
        terms = []
        for axes, own in rows.terms:
            if not own.distinct:
                return None
            place = next((place for place, known in enumerate(labels) if own.same(known)), len(labels))
            if place == len(labels):
                labels.append(own)
            terms.append((axes, place))
        parts.append((origin.owners, rows.cap, tuple(terms), origin.layout))
    spans = sorted(each.span for each in labels) if len(labels) > 1 else []
    if any(later[0] <= former[1] for former, later in pairwise(spans)):
        return None
    return (tuple(parts), tuple([each.array.shape for each in labels])), labels


def renewed(origins: Sequence[Origin], labels: Sequence[Labels]) -> Callable[[Sequence[Labels]], list[Origin]] | None:
    """The same origins of other labels.  None where some are of labels that are not among these."""
    places = {id(each): place for place, each in enumerate(labels)}
    if any(id(term.labels) not in places for origin in origins for term in origin.rows.terms):
        return None

    def renew(others: Sequence[Labels]) -> list[Origin]:
        found = []
        for origin in origins:
            if origin.rows.terms:
                terms = tuple(term._replace(labels=others[places[id(term.labels)]]) for term in origin.rows.terms)
                origin = Origin(origin.owners, Rows(origin.rows.cap, terms), origin.layout)
            found.append(origin)
        return found

    return renew
