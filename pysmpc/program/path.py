"""A path: what a piece of a program asked of secrets, operation by operation.

A node has the function, its operands by number, numbers and plain tensors by value, and what a handler may look at
beside them.  Values are numbered: a value is a layout (size, strides, offset, dtype) on a cell, and cells are numbered,
too.  `noting` writes a path, `follow` holds a program against one.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch.utils._python_dispatch import _disable_current_modes

from pysmpc.ops.dropout import masks, masks_are_secret
from pysmpc.ring.fixedpoint import Precision
from pysmpc.session.session import Session
from pysmpc.tensor.secret import SecretTensor
from pysmpc.tensor.storage import TensorStorage
from pysmpc.torch_modes import FOLLOWERS, asked, in_backward

Layout = tuple[Any, ...]


class Operand(NamedTuple):
    """A secret that an operation is called with."""

    value: int
    requires_grad: bool


class Several(NamedTuple):
    """A list or a tuple of arguments or results."""

    kind: type
    items: tuple[Any, ...]


class Changing(NamedTuple):
    """A number that may be another each time, as a rate that a scheduler sets; the place among those of the path."""

    place: int


class Public:
    """A plain tensor, by its bits."""

    def __init__(self, x: torch.Tensor) -> None:
        with _disable_current_modes():
            self.copy = x.detach().clone().requires_grad_(x.requires_grad)
        self._bits = bits_of(self.copy)

    def same(self, x: Any) -> bool:
        """Whether x is a plain tensor of these bits."""
        mine = self.copy
        if not is_plain(x) or x.dtype is not mine.dtype or x.shape != mine.shape:
            return False
        if x.requires_grad != mine.requires_grad:
            return False
        return torch.equal(bits_of(x), self._bits)


class Same(NamedTuple):
    """A result that is one of the secrets that the operation was called with, by its place among them."""

    place: int


class Made(NamedTuple):
    """A result on a cell of its own, or a view."""

    value: int
    chained: bool


class Kind(NamedTuple):
    """A cell that the path makes.  session: another than the path's for a public value."""

    type: type[TensorStorage]
    unit: Precision
    session: Session


class Context(NamedTuple):
    """What a handler may look at beside its arguments."""

    backward: bool
    grad: bool
    secret_masks: bool
    dtype: torch.dtype

    @classmethod
    def now(cls) -> Context:
        """Of this thread."""
        return cls(in_backward(), torch.is_grad_enabled(), masks_are_secret(), torch.get_default_dtype())

    def lasts(self) -> bool:
        """Whether it is that of this thread, in which no operation runs later than it was called."""
        return (
            (torch._C._current_graph_task_id() != -1) is self.backward
            and torch.is_grad_enabled() is self.grad
            and masks_are_secret() is self.secret_masks
            and torch.get_default_dtype() is self.dtype
        )

    @contextmanager
    def again(self) -> Iterator[None]:
        """Within, it is that of this thread, below autograd as all handlers are."""
        before = torch.get_default_dtype()
        with (
            asked(self.backward),
            torch.set_grad_enabled(self.grad),
            masks(self.secret_masks),
            torch._C._AutoDispatchBelowAutograd(),
        ):
            if before is self.dtype:
                yield
                return
            torch.set_default_dtype(self.dtype)
            try:
                yield
            finally:
                torch.set_default_dtype(before)


@dataclass(eq=False)
class Node:
    """One operation.

    args, kwargs, outs: of `Operand`, `Several`, `Public`, numbers; outs of `Same` and `Made`.  changed: cells that it
    writes to.  view: whether it only makes another layout.  taking: whether it only takes a part of what is read, as a
    batch of a data set is taken: it may be another part next time, and is taken at once.  layer: where it was called,
    for errors.
    """

    func: Any
    args: tuple[Any, ...]
    kwargs: tuple[tuple[str, Any], ...]
    context: Context
    changed: tuple[int, ...] = ()
    view: bool = False
    taking: bool = False
    layer: str = ""
    outs: Any = None

    @property
    def made(self) -> list[Made]:
        """The results that are secrets with a layout of their own."""
        return [out for out in leaves(self.outs) if type(out) is Made]


@dataclass(eq=False)
class Path:
    """Operations, in their order.

    cells: a `Kind`, or the cell itself where it was there before.  values: the cell and the layout of each.  refused:
    why it cannot be followed.  late: cells that were there before, and that it only reads: another may come in the
    place of each (noted with the precision).  roots: of values on such cells, the value of which they are views: a
    part that was taken, or what the path was given; where it lies in its cell may differ each time.  inputs: the
    roots that it computes with; wholes: the late cells of which it takes all.  numbers: the cell of each value.
    changing: how many numbers may be others each time (`Changing`).
    single: cells that the path makes and of which it knows one value: a secret on one can have no other layout, as
    that would come of an operation.
    """

    nodes: list[Node] = field(default_factory=list)
    cells: list[Any] = field(default_factory=list)
    values: list[tuple[int, Layout]] = field(default_factory=list)
    refused: str | None = None
    late: dict[int, Precision] = field(default_factory=dict)
    roots: dict[int, int] = field(default_factory=dict)
    inputs: list[int] = field(default_factory=list)
    wholes: list[int] = field(default_factory=list)
    numbers: list[int] = field(default_factory=list)
    single: frozenset[int] = frozenset()
    changing: int = 0


def layout(x: torch.Tensor) -> Layout:
    """Where a secret's elements are in its cell, and their dtype."""
    return x.size(), x.stride(), x.storage_offset(), x.dtype


def is_plain(x: Any) -> bool:
    return type(x) in (torch.Tensor, torch.nn.Parameter) and x.layout is torch.strided and x.device.type == "cpu"


def bits_of(x: torch.Tensor) -> torch.Tensor:
    with _disable_current_modes():
        return x.detach().contiguous().reshape(-1).view(torch.uint8)


def secrets_in(values: Any) -> Iterator[SecretTensor]:
    for x in values:
        if isinstance(x, SecretTensor):
            yield x
        elif isinstance(x, list | tuple):
            yield from secrets_in(x)


class Listener:
    """Takes the operations of this thread while it is entered."""

    busy = False

    def __enter__(self) -> None:
        self._thread = threading.get_ident()
        FOLLOWERS[self._thread] = self

    def __exit__(self, *error: object) -> None:
        FOLLOWERS.pop(self._thread, None)


def rebuilt(kind: type, items: Iterator[Any]) -> Any:
    """A list or a tuple of a kind; a tuple whose fields have names takes one by one."""
    return kind(*items) if hasattr(kind, "_fields") else kind(items)


def leaves(outs: Any) -> Iterator[Any]:
    """The results of a node one after another."""
    if type(outs) is Several:
        for each in outs.items:
            yield from leaves(each)
    else:
        yield outs


def leaves_of(out: Any) -> Iterator[Any]:
    if isinstance(out, list | tuple):
        for each in out:
            yield from leaves_of(each)
    else:
        yield out
