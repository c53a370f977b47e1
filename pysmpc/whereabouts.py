"""Where a program is: the operation, the layer and the encoding that an error names.

Found from the Python stack and autograd's current node, at the moment when an error is raised: it costs nothing before.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
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


_told = threading.local()


@contextmanager
def called_in(layer: str) -> Iterator[None]:
    """While within, what this thread computes was called in a layer: it runs later than it was called."""
    before, _told.layer = getattr(_told, "layer", None), layer
    try:
        yield
    finally:
        _told.layer = before


_inner: dict[str, bool] = {}  # files: whether they are of this library or torch


def line_outside() -> tuple[str, int]:
    """File and line of the program that uses this library, where this is called; "" where there is none."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        file = frame.f_code.co_filename
        inner = _inner.get(file)
        if inner is None:
            inner = _inner[file] = "/pysmpc/" in file or "/torch/" in file
        if not inner:
            return file, frame.f_lineno
        frame = frame.f_back
    return "", 0


def whereabouts(ended: bool = True) -> Whereabouts:
    """Where this thread is.

    ended: the program ends here, with an error.  If it goes on, only the variables of frames of torch and of this
    package are looked at: Python keeps what it shows of a frame, and autograd copies gradients that somebody keeps.
    """
    operation, layer, base, digits = "", "", 0, 0
    modules: list[nn.Module] = []
    roots: list[nn.Module] = []
    node = torch._C._current_autograd_node()
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        name = frame.f_code.co_name
        if name in ("_dispatched", "run_watched"):
            operation, base, digits = _operation(frame.f_locals) or (operation, base, digits)
        elif name == "_call_impl" and isinstance(found := frame.f_locals.get("self"), nn.Module):
            modules.append(found)
        elif name == "step" and isinstance(found := frame.f_locals.get("self"), torch.optim.Optimizer):
            layer = layer or type(found).__name__
        elif name == "_plainly":  # of `sy.TrainStep`
            roots.append(frame.f_locals["self"].model)
        elif node is not None and ended:
            roots += [x for x in (*frame.f_locals.values(), *frame.f_globals.values()) if isinstance(x, nn.Module)]
        frame = frame.f_back
    told: str | None = getattr(_told, "layer", None)
    if told is not None:
        layer = told
    elif node is not None:
        layer = f"{_layer_of(node, roots)} backward".strip()
    elif modules:
        layer = _path(modules[-1], modules[0])
    return Whereabouts(operation, layer, base, digits)


def _operation(local: dict[str, Any]) -> tuple[str, int, int] | None:
    """The name of an operation that is being carried out, and the encoding of its first real secret."""
    if "func" not in local:
        return None
    func = local["func"]
    name = func if isinstance(func, str) else str(func).split(".")[1]
    for x in tree_leaves((local.get("args"), local.get("kwargs"))):
        if isinstance(x, torch.Tensor) and (unit := getattr(x, "unit", None)) is not None and unit.scale > 1:
            return name, unit.base, unit.digits
    return name, 0, 0


def _path(root: nn.Module, part: nn.Module) -> str:
    for name, module in root.named_modules(remove_duplicate=False):
        if module is part:
            return name or type(part).__name__
    return type(part).__name__


def _layer_of(node: Any, roots: list[nn.Module]) -> str:
    """The module whose parameter an operation of the backward pass has to do with."""
    nodes = [node, *(each for each, _ in node.next_functions if each is not None)]
    wanted = {id(v) for each in nodes if (v := getattr(each, "variable", None)) is not None}
    for root in roots if wanted else ():
        for name, parameter in root.named_parameters():
            if id(parameter) in wanted:
                return name.rpartition(".")[0] or type(root).__name__
    return ""
