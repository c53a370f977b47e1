"""Numbers of which the operations of a path may have others each time: rates that a schedule or Adam's steps change.

A path is noted with all numbers as they are.  Where one differs in a place of which an operation says what follows
(`CHANGING`), the path is changed instead of left: from then on any number will do there, and segments that are recorded
are told the numbers of each run (`pysmpc.ring.told`).
"""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite
from typing import Any

import torch

from pysmpc.program.path import Changing, Node, Path

aten, ours = torch.ops.aten, torch.ops.pysmpc

#: Arguments from which handlers make whatever they need by `told.follow`.
CHANGING: dict[Any, frozenset[str]] = {
    aten.add_.Tensor: frozenset(("alpha",)),
    aten.sub_.Tensor: frozenset(("alpha",)),
    ours.descend_.default: frozenset(("eps", "factor", "shrink")),
    ours.step_.default: frozenset(("factor", "shrink")),
    ours.together.default: frozenset(("a", "b")),
    ours.moments_.default: frozenset(("mean",)),
}


def let_change(path: Path, node: Node, func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> bool:
    """Have the numbers of a node that differ from those of a call free, where they may be; whether any was freed."""
    may = CHANGING.get(func)
    if may is None or node.func is not func or len(node.args) != len(args) or len(node.kwargs) != len(kwargs):
        return False
    names = [argument.name for argument in func._schema.arguments]
    found = path.changing
    node.args = tuple(
        _freed(path, want, x) if name in may else want for name, want, x in zip(names, node.args, args, strict=False)
    )
    node.kwargs = tuple((k, _freed(path, want, kwargs.get(k)) if k in may else want) for k, want in node.kwargs)
    return path.changing > found


def _freed(path: Path, want: Any, x: Any) -> Any:
    if type(want) is not float or type(x) is not float or want == x or not isfinite(x):
        return want
    path.changing += 1
    return Changing(path.changing - 1)
