"""The other forms of an operation, as torch's schemas have them.

Of `add.Tensor`, `add.Scalar` takes a number for an operand, `add.out` writes the result
to a tensor given as `out`, and `add_.Tensor` to the first operand.  They take the same
arguments under the same names, which is how they are found here; what they do follows
from what the functional form does (`pysmpc.ops.core.implements`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

_Arguments = list[tuple[str, str]]


def _arguments(overload: Any) -> _Arguments:
    """Names and types, without the tensors that the caller gives for results."""
    return [(arg.name, str(arg.type)) for arg in overload._schema.arguments if not arg.is_out]


def _overloads(packet: Any) -> Iterator[Any]:
    for name in packet.overloads():
        yield getattr(packet, name)


def functional(overload: Any) -> bool:
    """Whether an operation makes values of its own: it neither writes to an argument nor returns a view of one."""
    schema = overload._schema
    return not schema.is_mutable and all(arg.alias_info is None for arg in schema.arguments)


def with_numbers(overload: Any) -> Iterator[Any]:
    """Forms that take a number where this one takes a tensor."""
    mine = _arguments(overload)
    for found in _overloads(overload.overloadpacket):
        theirs = _arguments(found)
        same = len(theirs) == len(mine) and all(
            b in (a, (a[0], a[1].replace("Tensor", "number"))) for a, b in zip(mine, theirs, strict=True)
        )
        if same and theirs != mine and functional(found):
            yield found


def with_targets(overload: Any) -> Iterator[tuple[Any, list[str]]]:
    """Forms that write to tensors of the caller's, with the names of those."""
    mine = _arguments(overload)
    for found in _overloads(overload.overloadpacket):
        targets = [arg.name for arg in found._schema.arguments if arg.is_out]
        if targets and _arguments(found) == mine:
            yield found, targets


def in_place(overload: Any) -> Iterator[Any]:
    """Forms that write to their first argument."""
    name = overload.overloadpacket.__name__
    packet = getattr(torch.ops.aten, f"__i{name[2:]}" if name.startswith("__") else f"{name}_", None)
    if packet is None or overload.namespace != "aten":
        return
    mine = _arguments(overload)
    for found in _overloads(packet):
        if found._schema.is_mutable and _arguments(found) == mine:
            yield found


def surplus(form: Any, overload: Any) -> tuple[int, list[str]]:
    """How many arguments come by place in both, and the names of those that do in the form alone."""
    here, there = ([arg.name for arg in each._schema.arguments if not arg.kwarg_only] for each in (overload, form))
    return len(here), there[len(here) :]
