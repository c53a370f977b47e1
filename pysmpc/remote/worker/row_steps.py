"""Which rows are behind the results of one operation of a program, by the rule of its kind (`row_rules`)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
import torch

from pysmpc.remote.arguments import buffers_of
from pysmpc.remote.program_messages import Call, Ref, Seq
from pysmpc.remote.worker.layer_row_rules import RULES
from pysmpc.remote.worker.origins import Origin, owners_of, pattern, renewed
from pysmpc.remote.worker.row_rules import CONSTANT, READS, Unknown, copy_rule, fill_rule
from pysmpc.remote.worker.rows import (
    PUBLIC,
    Labels,
    Operand,
    Rows,
    Shape,
    fills,
    made,
)
from pysmpc.tensor.secret import SecretTensor
from pysmpc.tensor.storage import TensorStorage

PATTERNS = 32  # of origins, of an operation, that it is known of what comes of them
OPERATIONS = 1 << 10  # that are known


class _Place(NamedTuple):
    """A window on the value with this number among those that an operation reads."""

    source: int
    size: Shape
    stride: Shape
    offset: int


class Result(NamedTuple):
    """How a result lies in its memory.

    layout: sizes and strides, where it fills its memory.  alias: else, which of the values read has the same memory.
    """

    shape: Shape
    layout: tuple[Shape, Shape] | None
    alias: int | None


class Step:
    """One operation, as far as rows are concerned: it can be applied to whatever origins its values have.

    sources: the values that it reads or writes; their origins are given in that order.  written: those that it
    writes to; if there is one result, it is what was written, and else (running statistics) they have the origin of
    the last.
    """

    def __init__(
        self,
        func: Any,
        args: Any,
        kwargs: Any,
        sources: Sequence[TensorStorage],
        results: Sequence[Result],
        written: Sequence[TensorStorage],
    ) -> None:
        name = func._opname
        self.rule = RULES.get(name) or (RULES.get(name.removesuffix("_")) if written else None)
        self.constant = name in CONSTANT
        self._reads = name.removesuffix("_") in READS
        self._numbers = {id(cell): number for number, cell in enumerate(sources)}
        self._args = [self._placed(each) for each in args]
        self._kwargs = {key: self._placed(each) for key, each in kwargs.items()}
        self.written = [self._numbers[id(cell)] for cell in written]
        self.results = results
        self._known: dict[Any, Callable[[Sequence[Labels]], list[Origin]]] = {}

    def _placed(self, value: Any) -> Any:
        if isinstance(value, SecretTensor):
            number = self._numbers.get(id(value.cell))
            if number is None:
                return Operand(PUBLIC, tuple(value.size()))
            return _Place(number, tuple(value.size()), tuple(value.stride()), int(value.storage_offset()))
        if isinstance(value, torch.Tensor):
            return value if self._reads else Operand(PUBLIC, tuple(value.size()))
        if isinstance(value, list | tuple):
            return [self._placed(each) for each in value]
        return value

    def apply(self, origins: Sequence[Origin]) -> list[Origin]:
        """Origins of the results, or of what was written to; of the origins of the values read."""
        found = pattern(origins)
        if found is None:
            return self._applied(origins)
        key, labels = found
        known = self._known.get(key)
        if known is not None:
            return known(labels)
        made = self._applied(origins)
        renew = renewed(made, labels)
        if renew is not None:
            if len(self._known) >= PATTERNS:
                self._known.clear()
            self._known[key] = renew
        return made

    def _applied(self, origins: Sequence[Origin]) -> list[Origin]:
        owners = owners_of(origins)
        if self.constant:
            found = [PUBLIC] * len(self.results)
        elif self.rule not in (copy_rule, fill_rule) and not any(each.rows.terms for each in origins):
            found = [Rows(min([math.inf, *(each.rows.cap for each in origins)]))] * len(self.results)
        else:
            found = self._rows(origins)
        if self.written and len(self.results) == 1:
            return [self._after(found, origins, owners)]
        return [self._stored(rows, result, origins, owners) for rows, result in zip(found, self.results, strict=True)]

    def _rows(self, origins: Sequence[Origin]) -> list[Rows]:
        least = Rows(min(each.rows.least for each in origins))

        def given(value: Any) -> Any:
            if type(value) is _Place:
                number, size, stride, offset = value
                return Operand(origins[number].window(size, stride, offset), size)
            return [given(each) for each in value] if type(value) is list else value

        if self.rule is None:
            return [least] * len(self.results)
        try:
            args = [given(each) for each in self._args]
            kwargs = {key: given(each) for key, each in self._kwargs.items()}
            found = self.rule([result.shape for result in self.results], *args, **kwargs)
        except (Unknown, TypeError, ValueError, IndexError, AttributeError, RuntimeError):
            return [least] * len(self.results)
        listed = found if isinstance(found, list) else [found]
        if len(listed) != len(self.results):
            return [least] * len(self.results)
        return [rows if _fits(rows, result.shape) else least for rows, result in zip(listed, self.results, strict=True)]

    def _stored(self, rows: Rows, result: Result, origins: Sequence[Origin], owners: frozenset[str]) -> Origin:
        if not rows.terms and (self.constant or result.layout):
            return Origin(owners, rows)
        if result.layout:
            return Origin(owners, rows, result.layout)
        rest = [each.rows.least for number, each in enumerate(origins) if number != result.alias]
        if result.alias is None:
            return Origin(owners, Rows(min([math.inf, *rest])))
        same = origins[result.alias]
        return Origin(owners, made(min([same.rows.cap, *rest]), same.rows.terms), same.layout)

    def _after(self, found: list[Rows], origins: Sequence[Origin], owners: frozenset[str]) -> Origin:
        """Of what was written to: the result, and what it was where only a part was written."""
        before = min(origins[number].rows.least for number in self.written)
        if len(self.written) != 1 or len(self.results) != 1:
            return Origin(owners, Rows(min(each.rows.least for each in origins)))
        [rows], [result] = found, self.results
        if result.layout is None:
            return Origin(owners, Rows(min(rows.least, before)))
        return Origin(owners, rows, result.layout if rows.terms else ((), ()))


def result_of(value: Any, sources: Sequence[TensorStorage], mutable: bool) -> Result:
    """How a result of an operation on these values lies in its memory."""
    shape = tuple(value.size()) if isinstance(value, torch.Tensor) else ()
    if not isinstance(value, SecretTensor):
        return Result(shape, None, None)
    body, stride = value.cell._body, tuple(value.stride())
    if fills(shape, stride, int(value.storage_offset()), body.n):
        return Result(shape, (shape, stride), None)
    if not mutable:
        for number, cell in enumerate(sources):
            if cell._body is body:
                return Result(shape, None, number)
    return Result(shape, None, None)


def _said(value: Any, numbers: Mapping[int, int]) -> Any:
    """An argument, whatever slots its values are in: equal arguments are equal, and no others."""
    kind = type(value)
    if kind is Ref:
        return numbers.get(value.slot, -1), tuple(value.size), tuple(value.stride), value.offset
    if kind is Seq:
        return kind, tuple([_said(each, numbers) for each in value.items])
    if value is None or kind in (bool, int, float, str):
        return kind, value
    return msgspec.msgpack.encode(value)


class Operations:
    """The operations of a session: those of a training are the same in every step."""

    def __init__(self) -> None:
        self._known: dict[Any, Step] = {}

    def step(
        self,
        call: Call,
        func: Any,
        args: Any,
        kwargs: Any,
        sources: Sequence[TensorStorage],
        found: Sequence[Any],
        written: Sequence[TensorStorage],
    ) -> Step:
        """An operation that has just run, of which these results were found."""
        results = tuple(result_of(each, sources, bool(written)) for each in found)
        if func._opname in READS and any(True for each in call.args for _ in buffers_of(each)):
            return Step(func, args, kwargs, sources, results, written)
        numbers = {cell.slot: number for number, cell in enumerate(sources)}
        said = tuple([_said(each, numbers) for each in call.args])
        named = tuple([(name, _said(each, numbers)) for name, each in call.kwargs.items()])
        key = call.name, said, named, results
        known = self._known.get(key)
        if known is None:
            if len(self._known) >= OPERATIONS:
                self._known.clear()
            known = self._known[key] = Step(func, args, kwargs, sources, results, written)
        return known


def _fits(rows: Rows, shape: Shape) -> bool:
    """Whether terms are of a value of that shape."""
    return all(
        term.labels.array.shape[:-1] == tuple(shape[axis] if 0 <= axis < len(shape) else -1 for axis in term.axes)
        for term in rows.terms
    )
