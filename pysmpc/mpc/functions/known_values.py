"""What is known of a value beside its shares: what was opened of it, and what it was made of."""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from pysmpc.mpc.functions.masked import Masked
from pysmpc.ring.shares import Share, ShareStorage, dense_strides

#: Elements of openings that a body remembers, in multiples of its own.
REMEMBERED = 2

#: Functions whose results are known to be theirs after a truncation, too.
AT_EVERY_SCALE = frozenset(("attention", "normalised"))


class Opened:
    """An opened value and its regions, for all functions of it that have the same ends.

    It lives as long as what it was opened of, and does not keep that alive: bodies would refer to themselves, and their
    memory wait for the garbage collector.
    limit: no integer of it is larger in magnitude, where that is publicly known.
    """

    def __init__(self, masked: Masked, x: Share, of: ShareStorage) -> None:
        """x: the opened elements in a row, on the body `of` itself or on a copy."""
        self.masked, self.shape, self.scale = masked, x.shape, x.scale
        self.copy = None if x.body is of else x.body
        self.whole = weakref.ref(of)
        self.regions: dict[object, Any] = {}
        self.limit: int | None = None

    @property
    def x(self) -> Share:
        """The opened elements in a row."""
        body = self.whole() if self.copy is None else self.copy
        assert body is not None, "a value that is gone has no functions"
        return Share(body, self.shape, self.scale)

    def bounded(self, scale: int, bound: float | None) -> int | None:
        """The limit, from now on that of a public bound of x at a scale, if there is one."""
        if bound is not None:
            self.limit = math.ceil(bound * scale)
        return self.limit


@dataclass(eq=False, repr=False)
class Known:
    """What is known of a body for the sake of nonlinear functions (`ShareStorage.functions`).

    openings: the latest, by the elements of the body that were opened, in which order.
    source: where the body is the result of a function: its name, layout and scale of the result, the argument, whose
    opening serves the derivative, or what else the derivative needs.
    finer: the whole value as it was before it was truncated, where that was opened, or with more digits of a public
    number that was added.
    inverses: by elements, how 1 / x follows from what a logarithm or a root has opened.
    multiple: the share of which the body is a public multiple, and the factor, where that has such an inverse.
    copied: what the body is a copy of, for the same.
    sums: x plus a public number, where that sum was the argument of a function.
    kept: functions of the body that are asked for again and again.
    A body is never written, so none of this is ever stale.
    """

    openings: dict[object, Opened] = field(default_factory=dict)
    source: tuple[str, object, Any] | None = None
    finer: Share | None = None
    inverses: dict[object, Any] = field(default_factory=dict)
    multiple: tuple[Share, Fraction] | None = None
    copied: Share | None = None
    sums: dict[object, Share] = field(default_factory=dict)
    kept: dict[object, Any] = field(default_factory=dict)

    def truncated(self, whole: Share) -> Known | None:
        """What is known of a body that `whole` was truncated to, as far as it serves functions of that."""
        finer = whole if self.openings or self.inverses else self.finer
        source = self.source if self.source is not None and self.source[0] in AT_EVERY_SCALE else None
        return None if finer is None and source is None else Known(finer=finer, source=source)

    def undo(self) -> Callable[[], None]:
        """What makes this forget all that is learned from now on."""
        parts: list[Any] = [self, *self.openings.values(), *(each.masked for each in self.openings.values())]
        parts += [where for each in self.openings.values() for where in each.regions.values()]
        parts += [part for each in self.inverses.values() for part in (each, each.opened)]
        kept = [{k: dict(v) if isinstance(v, dict) else v for k, v in vars(part).items()} for part in parts]

        def forget() -> None:
            for part, values in zip(parts, kept, strict=True):
                vars(part).update(values)

        return forget


def distinct(x: Share) -> tuple[Share, Callable[[Share], Share]]:
    """The elements of x without repetitions and in the order of its body; what turns a result back to x's shape.

    An expanded or a transposed value costs what the value itself does, and shares its opening.
    """
    if x.dense:
        return x, lambda out: Share(out.body, x.shape, out.scale)
    if not x.numel:
        return Share.of(x.words(), x.shape, x.scale), lambda out: Share(out.body, x.shape, out.scale)
    span = [i for i, (step, size) in enumerate(zip(x.strides, x.shape, strict=True)) if step and size > 1]
    span.sort(key=lambda i: -x.strides[i])
    shape = tuple(x.shape[i] for i in span)
    core = Share(x.body, shape, x.scale, [x.strides[i] for i in span], x.offset)
    steps, row_major = dict(zip(span, dense_strides(shape), strict=True)), dense_strides(x.shape)
    strides = [steps.get(i, 0 if size > 1 else row_major[i]) for i, size in enumerate(x.shape)]
    return core, lambda out: Share(out.body, x.shape, out.scale, strides)


def elements(x: Share) -> tuple[object, ...]:
    """Which elements of the body in which order, whatever the shape: sizes and steps, adjacent ones merged."""
    merged: list[tuple[int, int]] = []
    for size, step in zip(x.shape, x.strides, strict=True):
        if size == 1:
            continue
        if merged and merged[-1][1] == size * step:
            merged[-1] = merged[-1][0] * size, step
        else:
            merged.append((size, step))
    return *merged, x.offset


def known_of(body: ShareStorage) -> Known:
    """What is known of a body, to be added to."""
    found: Known = body.functions if body.functions is not None else Known()
    body.functions = found
    return found


def note_source(out: Share, name: str, x: Any) -> None:
    """Note that `out`, a share with a body of its own, is the function `name` of x, or serves its derivative."""
    known_of(out.body).source = name, (out.layout, out.scale), x


def source_of(out: Share, name: str) -> Any:
    """The x of which `out` is the function `name`, if it is the whole result of it."""
    known: Known | None = out.body.functions
    if known is None or known.source is None or known.source[:2] != (name, (out.layout, out.scale)):
        return None
    return known.source[2]


def is_argument(x: Share) -> bool:
    """Whether some of x's body was opened for a function."""
    known: Known | None = x.body.functions
    return known is not None and bool(known.openings or known.finer)


def note_argument(x: Share, name: str) -> None:
    """Note that the function `name` was taken of x, so that its derivative is known to be one."""
    known_of(x.body).kept["argument of", name, elements(x)] = True


def is_argument_of(x: Share, name: str) -> bool:
    """Whether the function `name` was taken of x."""
    known: Known | None = x.body.functions
    return known is not None and ("argument of", name, elements(x)) in known.kept


def note_inverse(x: Share, found: Any) -> None:
    """Note how 1 / x follows from what is open (`normaliser.Inverse`)."""
    known_of(x.body).inverses[elements(x)] = found


def inverse_of(x: Share) -> tuple[Any, Fraction] | None:
    """How 1 / y follows from what is open, and the public number k with x = k y, where that is known."""
    known: Known | None = x.body.functions
    if known is None:
        return None
    if known.finer is not None:
        found = inverse_of(finest(x))
        if found is not None:
            return found
    found = known.inverses.get(elements(x))
    if found is not None:
        return found, Fraction(found.scale, x.scale)
    if known.multiple is None:
        return None
    whole, factor = known.multiple  # the body's words are factor * the other's, at the scale that is noted there
    found = inverse_of(Share(whole.body, x.shape, whole.scale, x.strides, x.offset))
    return None if found is None else (found[0], found[1] * factor / x.scale)


def is_root(x: Share) -> bool:
    """Whether x consists of square roots, none of which is negative."""
    core, _ = distinct(copied_from(x))
    found = inverse_of(core)
    return found is not None and bool(found[0].of_root) and found[1] > 0


def note_multiple(out: Share, x: Share, factor: Fraction) -> None:
    """Note that `out` is factor * x, for the sake of quotients."""
    known: Known | None = x.body.functions
    if known is None or not (known.inverses or known.multiple) or out.body is x.body or not factor:
        return
    if out.layout == x.layout:
        known_of(out.body).multiple = Share(x.body, (x.body.n,), x.scale), factor * out.scale


def note_copy(out: Share, x: Share) -> None:
    """Note that `out` has the elements of x in their order, for the sake of quotients."""
    known: Known | None = x.body.functions
    if known is not None and (known.inverses or known.multiple):
        known_of(out.body).copied = x


def copied_from(x: Share) -> Share:
    """What x is a copy of, where x has an inverse for that reason; x elsewhere."""
    known: Known | None = x.body.functions
    if known is None or known.copied is None or not x.dense:
        return x
    whole = known.copied
    spans = [(size, step) for size, step in zip(whole.shape, whole.strides, strict=True) if size != 1]
    if [size for size, _ in spans] != [size for size in x.shape if size != 1]:
        return x
    steps = iter(spans)
    strides = [next(steps)[1] if size != 1 else 0 for size in x.shape]
    return Share(whole.body, x.shape, x.scale, strides, whole.offset)


def note_sum(x: Share, value: Fraction, out: Share) -> None:
    """Note that `out` is x + value, so that it is not made anew."""
    known_of(x.body).sums[x.layout, x.scale, value] = out


def sum_of(x: Share, value: Fraction) -> Share | None:
    """x + value, if it was the argument of a function."""
    known: Known | None = x.body.functions
    return None if known is None else known.sums.get((x.layout, x.scale, value))


def note_finer(out: Share, finer: Share) -> None:
    """Note the same elements at a finer scale, for functions of them."""
    if out.layout == finer.layout and finer.body.n == out.body.n:
        known_of(out.body).finer = finer


def finest(x: Share) -> Share:
    """x, or the same elements at a finer scale, where those are at hand (`Known.finer`)."""
    known: Known | None = x.body.functions
    if known is None or known.finer is None:
        return x
    return Share(known.finer.body, x.shape, known.finer.scale, x.strides, x.offset)
