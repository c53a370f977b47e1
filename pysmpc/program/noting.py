"""Noting: a program runs, and what it asks of secrets is written down as a path."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from fractions import Fraction
from functools import partial
from typing import Any

import torch

from pysmpc.ops import views
from pysmpc.program.path import (
    Context,
    Kind,
    Layout,
    Listener,
    Made,
    Node,
    Operand,
    Path,
    Public,
    Same,
    Several,
    is_plain,
    layout,
    leaves,
    rebuilt,
    secrets_in,
)
from pysmpc.program.roots import find_roots
from pysmpc.program.segment import changed, writes, written
from pysmpc.ring.fixedpoint import Precision
from pysmpc.session.session import Session
from pysmpc.tensor.secret import HANDLERS, SecretTensor
from pysmpc.tensor.storage import TensorStorage
from pysmpc.whereabouts import whereabouts

LONGEST = 1 << 14  # operations of a path

_CONSTANTS = (
    type(None), bool, int, float, complex, str, Fraction, Precision, torch.dtype, torch.device, torch.layout,
    torch.memory_format,
)  # fmt: skip


class Noting(Listener):
    """Writes down what a segment will be recorded from.  path: that."""

    def __init__(self, session: Session) -> None:
        self.path = Path()
        self._session = session
        self._cells: dict[int, int] = {}
        self._values: dict[tuple[int, Layout], int] = {}
        self._watched: list[Any] = []  # a cell that goes takes its number with it, since another may get its address

    def keep(self) -> None:
        """Nothing was promised."""

    def end(self) -> None:
        """All of it has run; what came of it is whatever is alive.  What it only read may be another next time."""
        path = self.path
        written = {number for node in path.nodes for number in node.changed}
        for number, cell in enumerate(path.cells):
            if type(cell) is not Kind and type(cell) is not TensorStorage:
                path.refused = f"it takes a {type(cell).__name__}"
            elif type(cell) is TensorStorage and number not in written:
                path.late[number], path.cells[number] = cell.unit, None
        find_roots(path)
        numbers = path.numbers = [number for number, _ in path.values]
        made = (number for number, cell in enumerate(path.cells) if type(cell) is Kind)
        path.single = frozenset(number for number in made if numbers.count(number) == 1)
        self._watched, self._cells, self._values = [], {}, {}

    def operation(self, cls: Any, func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        """Carry one out, and write it down."""
        path = self.path
        node = Node(func, self._noted_all(args), tuple((k, self._noted(v)) for k, v in kwargs.items()), Context.now())
        node.layer = whereabouts(ended=False).layer
        if writes(func) and not all(isinstance(x, SecretTensor) for x in written(func, args, kwargs)):
            path.refused = f"{func} writes to a plain tensor"
        else:
            # what is compared is a copy, and so is what the recording reads: the user may write to the other meanwhile
            args, kwargs = _with_copies(node.args, args), {k: _with_copy(v, kwargs[k]) for k, v in node.kwargs}
        self.busy = True
        try:
            out = cls.__torch_dispatch__(func, (), args, kwargs)
        except BaseException:
            path.refused = "an operation of it fails"
            raise
        finally:
            self.busy = False
        secrets = list(secrets_in((*args, *kwargs.values())))
        if writes(func):
            node.changed = tuple({self._cell(x.cell, None) for x in changed(func, args, kwargs)})
        node.view = HANDLERS[func].__module__ == views.__name__ if func in HANDLERS else False
        if node.view and func._schema.is_mutable:
            path.refused = f"{func} changes the shape of a secret in place"
        node.outs = self._result(out, secrets, node)
        if len(path.nodes) >= LONGEST:
            path.refused = f"it has more than {LONGEST} operations"
        else:
            path.nodes.append(node)
        return out

    def _noted_all(self, values: Any) -> tuple[Any, ...]:
        return tuple(self._noted(x) for x in values)

    def _noted(self, x: Any) -> Any:
        if isinstance(x, SecretTensor):
            if x.cell.session is not self._session and id(x.cell) not in self._cells:
                self.path.refused = "it takes public fixed-precision values, or those of other parties, from outside"
            return Operand(self._value(x), x.requires_grad)
        if isinstance(x, list | tuple):
            return Several(type(x), self._noted_all(x))
        if is_plain(x):
            return Public(x)
        if not isinstance(x, _CONSTANTS):
            self.path.refused = f"an operation takes a {type(x).__name__}"
        return x

    def _cell(self, cell: TensorStorage, kind: Any) -> int:
        """The number of a cell; kind: what the path is told of a new one."""
        number = self._cells.get(id(cell))
        if number is None:
            number = self._cells[id(cell)] = len(self.path.cells)
            self._watched.append(weakref.ref(cell, partial(_forget, self._cells, id(cell))))
            self.path.cells.append(kind)
        return number

    def _value(self, x: SecretTensor, kind: Any = None) -> int:
        key = self._cell(x.cell, kind or x.cell), layout(x)  # a cell that is not known was there before
        value = self._values.get(key)
        if value is None:
            value = self._values[key] = len(self.path.values)
            self.path.values.append(key)
        return value

    def _result(self, out: Any, secrets: list[SecretTensor], node: Node) -> Any:
        if isinstance(out, list | tuple):
            return Several(type(out), tuple(self._result(x, secrets, node) for x in out))
        if not isinstance(out, SecretTensor):
            if not isinstance(out, torch.Tensor):
                return out
            given = leaves(Several(tuple, (*node.args, *dict(node.kwargs).values())))
            if any(out is x.copy for x in given if type(x) is Public):
                self.path.refused = f"{node.func} hands out a plain argument"
            return Public(out)  # isnan and the like: it depends on no secret value
        for place, x in enumerate(secrets):
            if x is out:
                return Same(place)
        return Made(self._value(out, Kind(type(out.cell), out.cell.unit, out.cell.session)), out.chained)


def _forget(cells: dict[int, int], address: int, _: Any) -> None:
    cells.pop(address, None)


def _with_copies(noted: Sequence[Any], values: Any) -> tuple[Any, ...]:
    return tuple(_with_copy(a, x) for a, x in zip(noted, values, strict=True))


def _with_copy(noted: Any, x: Any) -> Any:
    if type(noted) is Public:
        return noted.copy
    return rebuilt(noted.kind, iter(_with_copies(noted.items, x))) if type(noted) is Several else x
