"""What an optimizer's operation requires of its arguments, before it computes with them.

The tensors of all parameters become one row of integers, and the row is taken apart by the sizes of another list.  At
a worker both lists come from a driver, who may say anything: what does not fit is refused by name.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from pysmpc.errors import ChannelError
from pysmpc.tensor.secret import SecretTensor

#: Lists that may be empty: of state that an optimizer does not keep.
OPTIONAL = {"moments_": {"means", "squares"}, "descend_": {"centers"}, "over_root": {"centers"}}

MOST_BITS = 62


def check_arguments(schema: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
    """ChannelError where an operation's arguments are not as its handler reads them (4: NotImplementedError).

    1. Numbers are finite, and numbers of bits between 0 and 62.
    2. Lists: as many secrets as parameters, and those of one parameter of one shape; some lists may be empty.
    3. All are real numbers of one session.
    4. State that is written to is all of its memory, each element once.
    """
    name = schema.name
    given = {argument.name: argument for argument in schema.arguments}
    values = {**dict(zip(given, args, strict=False)), **kwargs}
    if len(args) > len(given) or values.keys() != given.keys():
        raise ChannelError(f"{name} takes {', '.join(given)}")
    lists: dict[str, Sequence[Any]] = {}
    for key, value in values.items():
        kind = str(given[key].type)
        if kind == "List[Tensor]":
            if not isinstance(value, list | tuple):
                raise ChannelError(f"{name}: {key!r} is a list of secrets")
            lists[key] = value
        else:  # 1. numbers
            _check_number(name, key, kind, value)
    # 2. lists
    _check_lengths(name, lists)
    _check_shapes(name, lists)
    # 3. one session
    secrets = [x for tensors in lists.values() for x in tensors]
    if any(x.session is not secrets[0].session for x in secrets):
        raise ChannelError(f"{name}: secrets of different sessions")
    # 4. what is written to
    for key, tensors in lists.items():
        written = given[key].alias_info
        if written is not None and written.is_write and key != "params" and not all(map(fills, tensors)):
            raise NotImplementedError(f"{name}: a tensor in {key!r} is a part of another; give it memory of its own")


def _check_number(name: str, key: str, kind: str, value: Any) -> None:
    if not isinstance(value, bool if kind == "bool" else int if kind == "int" else int | float):
        raise ChannelError(f"{name}: {key} is a public number, no {type(value).__name__}")
    if (kind == "int" and not 0 <= value <= MOST_BITS) or not math.isfinite(value):
        raise ChannelError(f"{name}: {key} cannot be {value}")


def _check_lengths(name: str, lists: Mapping[str, Sequence[Any]]) -> None:
    n = max(map(len, lists.values()))
    optional = OPTIONAL.get(name.rpartition("::")[2], ())
    for key, tensors in lists.items():
        if len(tensors) != n and (tensors or key not in optional):
            raise ChannelError(
                f"{name}: {len(tensors)} tensors in {key!r} for {n} parameters; each has one in each list"
            )
        for x in tensors:
            if not isinstance(x, SecretTensor) or x.session.plain or not x.dtype.is_floating_point:
                raise ChannelError(f"{name}: an element of {key!r} is no secret real number")
    if not n:
        raise ChannelError(f"{name}: no parameters")


def _check_shapes(name: str, lists: Mapping[str, Sequence[SecretTensor]]) -> None:
    for place, alike in enumerate(zip(*filter(None, lists.values()), strict=True)):
        if len({tuple(x.shape) for x in alike}) > 1:
            sizes = ", ".join(str(list(x.shape)) for x in alike)
            raise ChannelError(f"{name}: tensors of shapes {sizes} for parameter {place}, which has one shape")


def fills(x: SecretTensor) -> bool:
    """Whether each element of x's memory is one of x's, and one only."""
    if x.numel() != x.cell.body.n or x.storage_offset():
        return False
    step = 1
    for stride, size in sorted((stride, size) for stride, size in zip(x.stride(), x.shape, strict=True) if size > 1):
        if stride != step:
            return False
        step *= size
    return True
