"""Where a program is: the operation, the layer and the encoding that an error names.

Found from the Python stack and autograd's current node, at the moment when an error is raised: it costs nothing before.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from types import FrameType
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.utils._pytree import tree_leaves


class Whereabouts(NamedTuple):
    """operation: as torch names it, "" if there is none.  layer: as `sy.profile` names layers.  base, digits: of the
    encoding of the operation's first secret, 0 if there is none."""

    operation: str = ""
    layer: str = ""
    base: int = 0
    digits: int = 0

    def __str__(self) -> str:
        return f"{self.operation or 'an operation'}{f' in layer {self.layer}' if self.layer else ''}"


def whereabouts() -> Whereabouts:
    """Where this thread is."""
    operation, layer, base, digits = "", "", 0, 0
    modules: list[nn.Module] = []
    frames = list(_frames())
    for frame in frames:
        name, local = frame.f_code.co_name, frame.f_locals
        if name in ("_dispatched", "run_watched") and "func" in local:
            operation = _operation(local["func"])
            for x in tree_leaves((local.get("args"), local.get("kwargs"))):
                if (unit := getattr(x, "unit", None)) is not None and isinstance(x, torch.Tensor) and unit.scale > 1:
                    base, digits = unit.base, unit.digits
                    break
        elif name == "_call_impl" and isinstance(local.get("self"), nn.Module):
            modules.append(local["self"])
        elif name == "step" and isinstance(local.get("self"), torch.optim.Optimizer) and not layer:
            layer = type(local["self"]).__name__
    node = torch._C._current_autograd_node()
    if node is not None:
        layer = f"{_layer_of(node, frames)} backward".strip()
    elif modules:
        layer = _path(modules[-1], modules[0])
    return Whereabouts(operation, layer, base, digits)


def _frames() -> Iterator[FrameType]:
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        yield frame
        frame = frame.f_back


def _operation(func: Any) -> str:
    return func if isinstance(func, str) else str(func).split(".")[1]


def _path(root: nn.Module, part: nn.Module) -> str:
    for name, module in root.named_modules(remove_duplicate=False):
        if module is part:
            return name or type(part).__name__
    return type(part).__name__


def _layer_of(node: Any, frames: list[FrameType]) -> str:
    """The module whose parameter an operation of the backward pass has to do with, among those that callers know."""
    nodes = [node, *(each for each, _ in node.next_functions if each is not None)]
    wanted = {id(v) for each in nodes if (v := getattr(each, "variable", None)) is not None}
    if not wanted:
        return ""
    for frame in frames:
        for found in [*frame.f_locals.values(), *frame.f_globals.values()]:
            if isinstance(found, nn.Module):
                for name, parameter in found.named_parameters():
                    if id(parameter) in wanted:
                        return name.rpartition(".")[0] or type(found).__name__
    return ""
