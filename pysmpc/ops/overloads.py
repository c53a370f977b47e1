"""The other forms of an operation, as torch's schemas have them.

Of `add.Tensor`, `add.Scalar` takes a number for an operand, `add.out` writes the result
to a tensor given as `out`, and `add_.Tensor` to the first operand.  They take the same
arguments under the same names, which is how they are found here; what they do follows
from what the functional form does (`pysmpc.ops.registering.implements`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cache
from typing import Any, NamedTuple

import torch


class _Form(NamedTuple):
    """An overload: names and types of its arguments, and apart from those the names of tensors for its results."""

    overload: Any
    arguments: list[tuple[str, str]]
    targets: list[str]


@cache
def _forms(name: str) -> dict[str, _Form]:
    """The overloads of an operation of aten, by their names."""
    packet = getattr(torch.ops.aten, name, None)
    found = {}
    for each in () if packet is None else packet.overloads():
        overload = getattr(packet, each)
        arguments: list[tuple[str, str]] = []
        targets: list[str] = []
        for arg in overload._schema.arguments:
            if arg.is_out:
                targets.append(arg.name)
            else:
                arguments.append((arg.name, str(arg.type)))
        found[each] = _Form(overload, arguments, targets)
    return found


def _siblings(overload: Any) -> tuple[_Form, Iterable[_Form]]:
    """An overload of aten, and all that there are of its operation."""
    found = _forms(overload.overloadpacket.__name__)
    return found[overload._overloadname], found.values()


def functional(overload: Any) -> bool:
    """Whether an operation of aten makes values of its own: it writes to no argument and returns no view of one."""
    schema = overload._schema
    if overload.namespace != "aten" or schema.is_mutable:
        return False
    return all(arg.alias_info is None for arg in schema.arguments)


def with_numbers(overload: Any) -> Iterator[Any]:
    """Forms that take a number where this one takes a tensor."""
    mine, others = _siblings(overload)
    wanted = [((name, kind), (name, kind.replace("Tensor", "number"))) for name, kind in mine.arguments]
    for each in others:
        theirs = each.arguments
        same = len(theirs) == len(wanted) and all(given in both for given, both in zip(theirs, wanted, strict=True))
        if same and theirs != mine.arguments and not each.targets and functional(each.overload):
            yield each.overload


def with_targets(overload: Any) -> Iterator[tuple[Any, list[str]]]:
    """Forms that write to tensors of the caller's, with the names of those."""
    mine, others = _siblings(overload)
    for each in others:
        if each.targets and each.arguments == mine.arguments:
            yield each.overload, each.targets


def in_place(overload: Any) -> Iterator[Any]:
    """Forms that write to their first argument."""
    mine, _ = _siblings(overload)
    name = overload.overloadpacket.__name__
    for each in _forms(f"__i{name[2:]}" if name.startswith("__") else f"{name}_").values():
        if each.arguments == mine.arguments and each.overload._schema.is_mutable:
            yield each.overload


def surplus(form: Any, overload: Any) -> tuple[int, list[str]]:
    """How many arguments come by place in both, and the names of those that do in the form alone."""
    here, there = ([arg.name for arg in each._schema.arguments if not arg.kwarg_only] for each in (overload, form))
    return len(here), there[len(here) :]
