"""Python that always runs, while nothing is computed that a recording already knows how to compute.

`Noting` writes down the operations on secrets that a piece of a program asks for: a `Path`.  The next time `Following`
compares what comes with the path, operation by operation: the function, which values it is called with, numbers and
public tensors by value, whether autograd asks.  While it is the same nothing is computed: what is handed out is a
promise, a secret of the known size on a cell without content.  Who has come to the end of the path runs the segment
that was recorded with it.  As soon as something differs, or somebody asks for the content of a promise, what was
followed is computed operation by operation, in its order, and the program goes on as it is written.  So the Python may
do whatever it likes, and nothing is ever out of date.

Values are numbered: a value is a layout (size, strides, offset, dtype) on a cell, and cells are numbered, too.
"""

from __future__ import annotations

import math
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, NamedTuple

import torch
from torch.utils._python_dispatch import _disable_current_modes

from pysmpc.errors import PysmpcError
from pysmpc.ops import views
from pysmpc.ops.dropout import masks, masks_are_secret
from pysmpc.program.segment import Segment, changed, written
from pysmpc.ring.fixedpoint import Precision
from pysmpc.ring.shares import dense_strides
from pysmpc.session.session import Session
from pysmpc.session.stats import Stats
from pysmpc.tensor.secret import FACTS, HANDLERS, WATCHERS, SecretTensor, TensorStorage, flush
from pysmpc.torch_modes import FOLLOWERS, asked, in_backward, keep_promises

Layout = tuple[Any, ...]

LONGEST = 1 << 14  # operations of a path

_CPU = torch.device("cpu")
_wrapper: Any = torch.Tensor._make_wrapper_subclass

_CONSTANTS = (
    type(None), bool, int, float, complex, str, Fraction, Precision, torch.dtype, torch.device, torch.layout,
    torch.memory_format,
)  # fmt: skip


class Operand(NamedTuple):
    """A secret that an operation is called with."""

    value: int
    requires_grad: bool


class Several(NamedTuple):
    """A list or a tuple of arguments or results."""

    kind: type
    items: tuple[Any, ...]


class Public:
    """A plain tensor, by its bits."""

    def __init__(self, x: torch.Tensor) -> None:
        with _disable_current_modes():
            self.copy = x.detach().clone().requires_grad_(x.requires_grad)
        self._bits = _bits(self.copy)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Public) and self.same(other.copy)

    __hash__ = None  # type: ignore[assignment]

    def same(self, x: Any) -> bool:
        """Whether x is a plain tensor of these bits."""
        mine = self.copy
        if not _plain(x) or x.dtype is not mine.dtype or x.shape != mine.shape:
            return False
        if x.requires_grad != mine.requires_grad:
            return False
        return torch.equal(_bits(x), self._bits)


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


@dataclass
class Node:
    """One operation.

    args, kwargs, outs: of `Operand`, `Several`, `Public`, numbers; outs of `Same` and `Made`.  changed: cells that it
    writes to.  view: whether it only makes another layout; given: of an argument of the path.
    """

    func: Any
    args: tuple[Any, ...]
    kwargs: tuple[tuple[str, Any], ...]
    context: Context
    changed: tuple[int, ...] = ()
    view: bool = False
    given: bool = False
    outs: Any = None


@dataclass
class Path:
    """Operations, in their order.

    arguments: how many there are, the first cells.  cells: a `Kind`, or the cell itself where it was there before; None
    for an argument.  values: the cell and the layout of each.  result: a value.  refused: why it cannot be followed.
    numbers: the cell of each value.  single: cells that the path makes and of which it knows one value: a secret on one
    can have no other layout, as that would come of an operation.
    """

    arguments: int
    nodes: list[Node] = field(default_factory=list)
    cells: list[Any] = field(default_factory=list)
    values: list[tuple[int, Layout]] = field(default_factory=list)
    result: int = -1
    refused: str | None = None
    numbers: list[int] = field(default_factory=list)
    single: frozenset[int] = frozenset()

    def same(self, other: Path) -> bool:
        """Whether both are the same operations, with the same public values."""
        return (self.nodes, self.cells, self.values, self.result) == (
            other.nodes, other.cells, other.values, other.result,
        )  # fmt: skip


class WaitingStats(Stats):
    """The counters of a session while it is followed: whoever reads them has what was followed computed first."""

    def __getattribute__(self, name: str) -> Any:
        if name == "__class__":  # of which two that are compared must be; another thread finds them as they were
            return Stats
        keep_promises()
        return object.__getattribute__(self, name)


def layout(x: torch.Tensor) -> Layout:
    """Where a secret's elements are in its cell, and their dtype."""
    return x.size(), x.stride(), x.storage_offset(), x.dtype


def _plain(x: Any) -> bool:
    return type(x) in (torch.Tensor, torch.nn.Parameter) and x.layout is torch.strided and x.device.type == "cpu"


def _bits(x: torch.Tensor) -> torch.Tensor:
    with _disable_current_modes():
        return x.detach().contiguous().reshape(-1).view(torch.uint8)


def _secrets(values: Any) -> Iterator[SecretTensor]:
    for x in values:
        if isinstance(x, SecretTensor):
            yield x
        elif isinstance(x, list | tuple):
            yield from _secrets(x)


class _Listener:
    """Takes the operations of this thread while it is entered."""

    busy = False

    def __enter__(self) -> None:
        self._thread = threading.get_ident()
        FOLLOWERS[self._thread] = self

    def __exit__(self, *error: object) -> None:
        FOLLOWERS.pop(self._thread, None)


# --- writing a path ------------------------------------------------------------------


class Noting(_Listener):
    """Writes down what a segment is recorded from.  path: that."""

    def __init__(self, segment: Segment, arguments: Sequence[SecretTensor]) -> None:
        self.path = Path(len(arguments))
        self._segment, self._session = segment, segment.session
        self._cells: dict[int, int] = {}
        self._values: dict[tuple[int, Layout], int] = {}
        self._alive: list[TensorStorage] = []  # so that no other cell gets the number of one
        for x in arguments:
            self._cell(x.cell, None)
            self._value(x)

    def __enter__(self) -> None:
        super().__enter__()
        self._segment.outside = True

    def __exit__(self, *error: object) -> None:
        self._segment.outside = False
        super().__exit__(*error)

    def keep(self) -> None:
        """Nothing was promised."""

    def end(self, result: SecretTensor) -> None:
        """All of it has run, and this came of it."""
        self.path.result = self._value(result)
        numbers = self.path.numbers = [number for number, _ in self.path.values]
        made = (number for number, cell in enumerate(self.path.cells) if type(cell) is Kind)
        self.path.single = frozenset(number for number in made if numbers.count(number) == 1)
        if result.stride() != dense_strides(tuple(result.shape)) or result.storage_offset():
            self.path.refused = "its result is a view"
        self._alive, self._cells, self._values = [], {}, {}

    def operation(self, cls: Any, func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        """Carry one out, and write it down."""
        path = self.path
        node = Node(func, self._noted_all(args), tuple((k, self._noted(v)) for k, v in kwargs.items()), Context.now())
        if func._schema.is_mutable and not all(isinstance(x, SecretTensor) for x in written(func, args, kwargs)):
            path.refused = f"{func} writes to a plain tensor"
        else:
            # what is compared is a copy, and so is what the recording reads: the user may write to the other meanwhile
            args, kwargs = _with_copies(node.args, args), {k: _with_copy(v, kwargs[k]) for k, v in node.kwargs}
        self.busy, self._segment.outside = True, False
        try:
            out = cls.__torch_dispatch__(func, (), args, kwargs)
        except BaseException:
            path.refused = "an operation of it fails"
            raise
        finally:
            self.busy, self._segment.outside = False, True
        secrets = list(_secrets((*args, *kwargs.values())))
        if func._schema.is_mutable:
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
        if _plain(x):
            return Public(x)
        if not isinstance(x, _CONSTANTS):
            self.path.refused = f"an operation takes a {type(x).__name__}"
        return x

    def _cell(self, cell: TensorStorage, kind: Any) -> int:
        """The number of a cell; kind: what the path is told of a new one."""
        number = self._cells.get(id(cell))
        if number is None:
            number = self._cells[id(cell)] = len(self.path.cells)
            self._alive.append(cell)
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
            given = _leaves(Several(tuple, (*node.args, *dict(node.kwargs).values())))
            if any(out is x.copy for x in given if type(x) is Public):
                self.path.refused = f"{node.func} hands out a plain argument"
            return Public(out)  # isnan and the like: it depends on no secret value
        for place, x in enumerate(secrets):
            if x is out:
                return Same(place)
        number = self._cells.get(id(out.cell))
        if number is not None and number < self.path.arguments:
            node.given = True
            if not node.view:
                self.path.refused = f"{node.func} hands out an argument"
        return Made(self._value(out, Kind(type(out.cell), out.cell.unit, out.cell.session)), out.chained)


def _with_copies(noted: Sequence[Any], values: Any) -> tuple[Any, ...]:
    return tuple(_with_copy(a, x) for a, x in zip(noted, values, strict=True))


def _with_copy(noted: Any, x: Any) -> Any:
    if type(noted) is Public:
        return noted.copy
    return noted.kind(_with_copies(noted.items, x)) if type(noted) is Several else x


# --- following one -------------------------------------------------------------------


class Following(_Listener):
    """Holds a program against a path, on other arguments.

    over: whether it left the path, and goes on by itself.
    """

    def __init__(self, path: Path, session: Session, arguments: Sequence[SecretTensor]) -> None:
        self.over = False
        self._path, self._session = path, session
        self._nodes, self._numbers, self._single = path.nodes, path.numbers, path.single
        self._at, self._length = 0, len(path.nodes)
        self._failed: BaseException | None = None
        self._arguments = [x.cell for x in arguments]
        self._layouts = [each for _, each in path.values]
        self._layouts[: len(arguments)] = map(layout, arguments)
        self._given = dict(enumerate(self._layouts[: len(arguments)]))  # layouts of arguments and views of them
        known = [*self._arguments, *path.cells[len(arguments) :]]
        self._known: list[Any] = [None if type(each) is Kind else each for each in known]  # not those that are promises
        self._cells: list[Callable[[], TensorStorage | None] | None] = [
            None if each is None else weakref.ref(each) for each in self._known
        ]
        self._held: dict[int, tuple[dict[str, Any], Any]] = {}

    def __enter__(self) -> None:
        super().__enter__()
        object.__setattr__(self._session.stats, "__class__", WaitingStats)

    def __exit__(self, *error: object) -> None:
        super().__exit__(*error)
        if error[0] is not None:
            self.keep()
        self._leave()

    def _leave(self) -> None:
        """Whoever looks at the session needs nothing of this any more."""
        FOLLOWERS.pop(self._thread, None)
        object.__setattr__(self._session.stats, "__class__", Stats)

    def operation(self, cls: Any, func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        """The promise of its result, or, where the path has another, the result."""
        if self._at < self._length:
            node = self._nodes[self._at]
            if (
                node.func is func
                and len(node.args) == len(args)
                and not WATCHERS
                and not torch._C._len_torch_dispatch_stack()
                and node.context.lasts()
                and self._same_all(node.args, args)
                and len(node.kwargs) == len(kwargs)
                and (not kwargs or all(k in kwargs and self._same(x, kwargs[k]) for k, x in node.kwargs))
            ):
                self._at += 1
                if type(node.outs) is Made and not node.given and not node.changed:
                    return self._secret(node.outs)
                return self._promised(cls, node, args, kwargs)
        self.keep()
        return cls.__torch_dispatch__(func, (), args, kwargs)

    def _same_all(self, wanted: tuple[Any, ...], values: Any) -> bool:
        for want, x in zip(wanted, values, strict=True):
            if type(want) is Operand:
                value, requires_grad = want
                number = self._numbers[value]
                found = self._cells[number]
                if (
                    not isinstance(x, SecretTensor)
                    or found is None
                    or found() is not x.cell
                    or x.requires_grad is not requires_grad
                    or not (number in self._single or self._layouts[value] == layout(x))
                ):
                    return False
            elif not self._same(want, x):
                return False
        return True

    def _same(self, want: Any, x: Any) -> bool:
        kind = type(want)
        if kind is Operand:
            return self._same_all((want,), (x,))
        if kind is Several:
            return type(x) is want.kind and len(x) == len(want.items) and self._same_all(want.items, x)
        if kind is Public:
            found_same: bool = want.same(x)
            return found_same
        if type(x) is not kind or want != x:
            return False
        return kind is not float or want != 0 or math.copysign(1, want) == math.copysign(1, x)

    def _promised(self, cls: Any, node: Node, args: Any, kwargs: dict[str, Any]) -> Any:
        if node.given:  # a view of an argument, whose strides may be others than those of the recording
            self.busy = True
            try:
                out = cls.__torch_dispatch__(node.func, (), args, kwargs)
            finally:
                self.busy = False
            for made, x in zip(_leaves(node.outs), _secrets([out]), strict=True):
                if type(made) is Made:
                    self._layouts[made.value] = layout(x)
                    if self._given.setdefault(made.value, layout(x)) != layout(x):  # in the recording it was the same
                        self._layouts[made.value] = self._given[made.value]
                        self._at -= 1
                        self.keep()
            return out
        for number in node.changed:
            self._hold(number)
        return self._made(node.outs, args, kwargs)

    def _made(self, outs: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        kind = type(outs)
        if kind is Made:
            return self._secret(outs)
        if kind is Same:
            return list(_secrets((*args, *kwargs.values())))[outs.place]
        if kind is Several:
            return outs.kind(self._made(each, args, kwargs) for each in outs.items)
        if kind is Public:
            return outs.copy.detach().clone()
        return outs

    def _secret(self, made: Made) -> SecretTensor:
        value, chained = made
        number = self._numbers[value]
        found = self._cells[number]
        cell = None if found is None else found()
        if cell is None:
            cell = self._promise(number)
        size, stride, offset, dtype = self._layouts[value]
        x: SecretTensor = _wrapper(
            cell.session.tensor or SecretTensor,
            size,
            strides=stride,
            storage_offset=offset,
            dtype=dtype,
            device=_CPU,
            requires_grad=False,
        )
        x.cell, x.chained = cell, chained
        return x

    def _promise(self, number: int) -> TensorStorage:
        """A cell without content."""
        kind = self._path.cells[number]
        cell: TensorStorage = kind.type.__new__(kind.type)
        cell.unit, cell.session, cell.promise = kind.unit, kind.session, self
        self._cells[number] = weakref.ref(cell)
        return cell

    def _hold(self, number: int) -> None:
        """Take the content of a cell that was there before, since an operation gives it another."""
        cell = self._known[number]
        if cell is None or number in self._held:
            return
        facts = {name: getattr(cell, name) for name in _facts(cell)}
        self._held[number] = facts, getattr(cell, "promise", None)
        cell.promise = self
        for name in facts:
            delattr(cell, name)

    def _restore(self) -> None:
        for number, (facts, promise) in self._held.items():
            cell = self._known[number]
            for name, value in facts.items():
                setattr(cell, name, value)
            cell.promise = promise
        self._held = {}

    # --- at the end ---

    def whole(self, result: Any) -> bool:
        """Whether all of the path was followed, and nothing is left to compute but its result and what it changes.

        True: cells are as they were before, and whoever runs the segment calls `fulfil`.  False: all is computed.
        """
        path = self._path
        number, wanted = path.values[path.result]
        if not self.over and self._at == len(path.nodes) and isinstance(result, SecretTensor):
            found = self._cells[number]
            made = [i for i, cell in enumerate(self._known) if cell is None]
            alive = [i for i in made if (ref := self._cells[i]) is not None and ref() is not None]
            if found is not None and found() is result.cell and layout(result) == wanted and alive == [number]:
                self.over = True
                self._restore()
                return True
        self.keep()
        return False

    def fail(self, error: BaseException) -> None:
        """The segment did not come to its end: nobody gets what was promised of it."""
        self._failed = error

    def fulfil(self, result: SecretTensor, out: SecretTensor) -> None:
        """The result of the path is that of the segment."""
        self._take(result.cell, out.cell)

    def keep(self) -> None:
        """Compute what was followed, operation by operation: it is over."""
        with self._session.lock:
            if self._failed is not None:
                raise PysmpcError("this value was to come of operations that failed; run them again") from self._failed
            if self.over:
                return
            self.over = True
            self._leave()
            self._restore()
            try:
                for node in self._path.nodes[: self._at]:
                    if not node.view:
                        self._compute(node)
            except BaseException as error:
                self._failed = error
                raise

    def _compute(self, node: Node) -> None:
        cls: Any = self._session.tensor or SecretTensor
        made: dict[int, SecretTensor] = {}
        with node.context.again():
            args = [self._operand(x, made) for x in node.args]
            out = cls.__torch_dispatch__(node.func, (), args, {k: self._operand(x, made) for k, x in node.kwargs})
        for want, x in zip(_leaves(node.outs), _leaves_of(out), strict=True):
            if type(want) is Made:
                if layout(x) != self._layouts[want.value]:
                    raise PysmpcError(f"{node.func} gave another layout than in the recording; please report it")
                number = self._path.values[want.value][0]
                if self._known[number] is None:
                    found = self._cells[number]
                    promise = None if found is None else found()
                    self._known[number] = x.cell if promise is None else self._take(promise, x.cell)

    def _operand(self, x: Any, made: dict[int, SecretTensor]) -> Any:
        kind = type(x)
        if kind is Operand:
            if x.value not in made:
                cell = self._known[self._path.values[x.value][0]]
                size, stride, offset, dtype = self._layouts[x.value]
                made[x.value] = SecretTensor(cell, size, stride, offset, dtype, x.requires_grad)
            return made[x.value]
        if kind is Public:
            return x.copy
        return x.kind(self._operand(each, made) for each in x.items) if kind is Several else x

    def _take(self, promise: TensorStorage, cell: TensorStorage) -> TensorStorage:
        """Give a promise the content of a cell."""
        if promise is cell:
            return cell
        if cell.pending:
            flush(cell.session)
        promise.session, promise.unit = cell.session, cell.unit
        for name in _facts(cell):
            setattr(promise, name, getattr(cell, name))
        promise.promise = cell  # whose slot at workers of other machines is free when it is gone
        if hasattr(cell, "slot"):
            promise.slot = cell.slot
        return promise


def _facts(cell: TensorStorage) -> list[str]:
    kept = FACTS if type(cell) is not TensorStorage else FACTS - {"inner", "places"}
    return sorted(kept)


def _leaves(outs: Any) -> Iterator[Any]:
    """The results of a node one after another."""
    if type(outs) is Several:
        for each in outs.items:
            yield from _leaves(each)
    else:
        yield outs


def _leaves_of(out: Any) -> Iterator[Any]:
    if isinstance(out, list | tuple):
        for each in out:
            yield from _leaves_of(each)
    else:
        yield out
