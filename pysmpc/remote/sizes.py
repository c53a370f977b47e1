"""How many elements an operation's results will have, known from its message alone.

Most operations cannot come to much, whatever they do: a product of sizes bounds them.
Of the others torch tells the shapes of results on tensors without memory ("meta").
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Hashable, Iterable
from typing import Any

import torch

import pysmpc.ops  # noqa: F401  (fills the table of operations)
from pysmpc.remote.arguments import dtype_of
from pysmpc.remote.program_messages import Call, Dtype, Fixed, Option, Plain, Ref, Seq, Value
from pysmpc.tensor.secret import HANDLERS

_KEPT = 4096  # calls whose results are remembered
_BY_NAME = {str(func): func for func in HANDLERS}


class Sizes:
    """Of the operations of one session, most of which come again and again."""

    def __init__(self) -> None:
        self._known: dict[Hashable, int] = {}

    def of(self, call: Call) -> int:
        """Elements of the results; 0 if only running it can tell."""
        if call.failed or (func := _BY_NAME.get(call.name)) is None:
            return 0
        if func._schema.is_mutable:
            return 0
        key = (call.name, _key(call.args), tuple(call.kwargs), _key(call.kwargs.values()))
        found = self._known.get(key)
        if found is None:
            if len(self._known) >= _KEPT:
                self._known.clear()
            found = self._known[key] = _elements(func, call)
        return found


def extent(values: Iterable[Any]) -> tuple[int, int]:
    """(elements of the largest tensor or list of tensors, more than any operation of the table makes of them)."""
    widest, bound = 0, 1
    for value in values:
        kind = type(value)
        if kind is Ref or kind is Plain or kind is Fixed:
            count = 1
            for n in (value.words if kind is Fixed else value).size:
                count *= n if n > 0 else 0
            if count > widest:
                widest = count
            bound *= count + 1
        elif kind is Seq:
            inner, more = extent(value.items)
            widest, bound = max(widest, inner, total(value.items)), bound * more
        elif kind is int:
            bound *= abs(value) + 1
    return widest, bound


def total(values: Iterable[Any]) -> int:
    """Elements of the tensors of a list together, of which an operation makes one."""
    return sum(math.prod(max(n, 0) for n in x.size) for x in values if isinstance(x, Ref | Plain))


def _key(values: Any) -> Hashable:
    """Equal for arguments of equal shapes and equal numbers."""
    found: list[Hashable] = []
    for value in values:
        if isinstance(value, Fixed):
            found.append((0, value.dtype, tuple(value.words.size)))
        elif isinstance(value, Ref | Plain):
            found.append((0, value.dtype, tuple(value.size)))
        elif isinstance(value, Seq):
            found.append((1, _key(value.items)))
        elif isinstance(value, Dtype | Option):
            found.append((2, value.name))
        else:
            found.append((type(value), value))
    return tuple(found)


def _elements(func: Any, call: Call) -> int:
    with contextlib.suppress(Exception):  # not this way: its handler will say what is wrong with it, if anything is
        kwargs = {name: _meta(value) for name, value in call.kwargs.items()}
        out = func(*map(_meta, call.args), **kwargs)
        return sum(x.numel() for x in (out if isinstance(out, list | tuple) else [out]) if isinstance(x, torch.Tensor))
    return 0


def _meta(value: Value) -> Any:
    if isinstance(value, Fixed):
        return torch.empty(value.words.size, dtype=dtype_of(value.dtype), device="meta")
    if isinstance(value, Ref | Plain):
        return torch.empty(value.size, dtype=dtype_of(value.dtype), device="meta")
    if isinstance(value, Seq):
        return [_meta(item) for item in value.items]
    if isinstance(value, Dtype):
        return dtype_of(value.name)
    if isinstance(value, Option):  # never where it names: memory would be taken there
        return torch.device("meta") if value.name == "cpu" else None
    return value
