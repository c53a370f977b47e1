"""Python that always runs, while nothing is computed that a recording already knows how to compute.

`Noting` wrote down the operations on secrets that a piece of a program asks for: a `Path`.  The next time `Following`
compares what comes with the path, operation by operation: the function, which values it is called with, numbers and
public tensors by value, whether autograd asks.  While it is the same nothing is computed: what is handed out is a
promise, a secret of the known size on a cell without content.  Who has come to the end of the path runs the segment
that was recorded with it.  As soon as something differs, or somebody asks for the content of a promise, what was
followed is computed operation by operation, in its order, and the program goes on as it is written.  So the Python may
do whatever it likes, and nothing is ever out of date.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable
from typing import Any

import torch

from pysmpc.errors import PysmpcError
from pysmpc.program.changing import let_change
from pysmpc.program.path import (
    Changing,
    Kind,
    Listener,
    Made,
    Node,
    Operand,
    Path,
    Public,
    Same,
    Several,
    layout,
    leaves,
    leaves_of,
    rebuilt,
    secrets_in,
)
from pysmpc.program.roots import Places, is_public
from pysmpc.session.session import Session
from pysmpc.session.stats import Stats
from pysmpc.tensor.secret import SecretTensor
from pysmpc.tensor.storage import FACTS, TensorStorage, flush
from pysmpc.tensor.watching import WATCHERS
from pysmpc.torch_modes import FOLLOWERS, keep_promises
from pysmpc.whereabouts import called_in

_CPU = torch.device("cpu")
_wrapper: Any = torch.Tensor._make_wrapper_subclass


class WaitingStats(Stats):
    """The counters of a session while it is followed: whoever reads them has what was followed computed first."""

    def __getattribute__(self, name: str) -> Any:
        if name == "__class__":  # of which two that are compared must be; another thread finds them as they were
            return Stats
        keep_promises()
        return object.__getattribute__(self, name)


class Following(Listener):
    """Holds a program against a path, on other arguments.

    over: whether it left the path, and goes on by itself.
    """

    def __init__(self, path: Path, session: Session) -> None:
        self.over = False
        self._path, self._session = path, session
        self._nodes, self._numbers, self._single = path.nodes, path.numbers, path.single
        self._at, self._length = 0, len(path.nodes)
        self._failed: BaseException | None = None
        self._layouts = [each for _, each in path.values]
        self._late = path.late
        self._places = Places(path, self._layouts)
        self._stands: dict[int, SecretTensor] = {}  # what a recording reads in the place of values with roots
        # of each number the cell, if that is no promise
        self._known: list[Any] = [None if type(each) is Kind else each for each in path.cells]
        self._cells: list[Callable[[], TensorStorage | None] | None] = [
            None if each is None else weakref.ref(each) for each in self._known
        ]
        self._held: dict[int, tuple[dict[str, Any], Any]] = {}
        self._given: dict[int, float] = {}  # numbers that may be others each time, as they are now

    def __enter__(self) -> None:
        super().__enter__()
        object.__setattr__(self._session.stats, "__class__", WaitingStats)

    def _leave(self) -> None:
        """Whoever looks at the session needs nothing of this any more."""
        FOLLOWERS.pop(self._thread, None)
        object.__setattr__(self._session.stats, "__class__", Stats)

    def _next(self, cls: Any, func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        """The promise of an operation's result; NotImplemented where the path has another."""
        node = self._nodes[self._at]
        if not self._fits(node, func, args, kwargs):
            if not let_change(self._path, node, func, args, kwargs):
                return NotImplemented
            self._freed()
            if not self._fits(node, func, args, kwargs):
                return NotImplemented
        if node.taking:
            return self._part(cls, node, args, kwargs)
        self._at += 1
        if type(node.outs) is Made and not node.changed:
            return self._secret(node.outs)
        for number in node.changed:
            self._hold(number)
        return self._made(node.outs, args, kwargs)

    def _freed(self) -> None:
        """The path has a number more that may change: what was recorded of it has another way to that."""

    def _fits(self, node: Node, func: Any, args: Any, kwargs: dict[str, Any]) -> bool:
        """Whether this is what the node asks for."""
        return (
            node.func is func
            and len(node.args) == len(args)
            and not WATCHERS
            and not torch._C._len_torch_dispatch_stack()
            and node.context.lasts()
            and (self._takes(node, args, kwargs) if node.taking else self._same_all(node.args, args))
            and len(node.kwargs) == len(kwargs)
            and (not kwargs or node.taking or all(k in kwargs and self._same(x, kwargs[k]) for k, x in node.kwargs))
        )

    def _takes(self, node: Node, args: Any, kwargs: dict[str, Any]) -> bool:
        """Whether this takes a part, whichever, of the same thing."""
        return (
            self._same_all(node.args[:1], args[:1])
            and is_public((*args[1:], *kwargs.values()))
            and kwargs.keys() == dict(node.kwargs).keys()
            and args[0].cell.scale == args[0].unit.scale
        )

    def _part(self, cls: Any, node: Node, args: Any, kwargs: dict[str, Any]) -> Any:
        """Take it at once: that is nobody's work but moving words."""
        self.busy = True
        try:
            out = cls.__torch_dispatch__(node.func, (), args, kwargs)
        finally:
            self.busy = False
        found = list(leaves_of(out))
        if len(found) == len(node.made) and all(map(self._begins_at, node.made, found)):
            self._at += 1
        else:
            self.keep()
        return out

    def _begins_at(self, made: Made, x: Any) -> bool:
        number = self._numbers[made.value]
        if self._cells[number] is None:  # rows, which have a cell of their own
            self._known[number], self._cells[number] = x.cell, weakref.ref(x.cell)
        return self._places.begins(made.value, x)

    def _same_all(self, wanted: tuple[Any, ...], values: Any) -> bool:
        for want, x in zip(wanted, values, strict=True):
            if type(want) is Operand:
                value, requires_grad = want
                number = self._numbers[value]
                found = self._cells[number]
                if (
                    not isinstance(x, SecretTensor)
                    or (not self._bind(number, x.cell) if found is None else found() is not x.cell)
                    or x.requires_grad is not requires_grad
                    or not (
                        self._places.begins(value, x)
                        if value in self._places.roots
                        else number in self._single or self._layouts[value] == layout(x)
                    )
                ):
                    return False
            elif not self._same(want, x):
                return False
        return True

    def _bind(self, number: int, cell: TensorStorage) -> bool:
        """Whether this may be what the path reads there, which is not known before: from now on it is."""
        if (
            self._late.get(number) != cell.unit
            or type(cell) is not TensorStorage
            or cell.session is not self._session
            or any(cell is each for each in self._known)
            or any(ref is not None and ref() is cell for ref in self._cells)
        ):
            return False
        self._known[number], self._cells[number] = cell, weakref.ref(cell)
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
        if kind is Changing:
            self._given[want.place] = x
            return type(x) is float and math.isfinite(x)  # what cannot be encoded raises at its line
        if type(x) is not kind or want != x:
            return False
        return kind is not float or want != 0 or math.copysign(1, want) == math.copysign(1, x)

    def _made(self, outs: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        kind = type(outs)
        if kind is Made:
            return self._secret(outs)
        if kind is Same:
            return list(secrets_in((*args, *kwargs.values())))[outs.place]
        if kind is Several:
            return rebuilt(outs.kind, (self._made(each, args, kwargs) for each in outs.items))
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

    def _alive(self) -> list[int]:
        """The cells of the path that somebody holds, and that are still promises."""
        made = [i for i, cell in enumerate(self._known) if cell is None]
        return [i for i in made if (ref := self._cells[i]) is not None and ref() is not None]

    def fail(self, error: BaseException) -> None:
        """The segment did not come to its end: nobody gets what was promised of it."""
        self._failed = error

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
                self.compute()
            except BaseException as error:
                self._failed = error
                raise

    def compute(self, look: Callable[[Any, Any, Any], None] | None = None) -> None:
        """Call the handlers of what was followed.  look: told of each operation before."""
        for node in self._path.nodes[: self._at]:
            if not node.view and not node.taking:
                self._compute(node, look)
            elif self._stands and not node.taking:
                self._view(node)

    def _view(self, node: Node) -> None:
        """The same view of what stands for its operand, if something does."""
        operand = next(each for each in leaves(Several(tuple, node.args)) if type(each) is Operand)
        if operand.value in self._stands:
            cls: Any = self._session.tensor or SecretTensor
            with node.context.again():
                made: dict[int, SecretTensor] = {}
                out = cls.__torch_dispatch__(
                    node.func, (), [self._operand(x, made) for x in node.args], dict(node.kwargs)
                )
            for want, x in zip(leaves(node.outs), leaves_of(out), strict=True):
                self._stands[want.value] = x

    def _compute(self, node: Node, look: Callable[[Any, Any, Any], None] | None) -> None:
        cls: Any = self._session.tensor or SecretTensor
        made: dict[int, SecretTensor] = {}
        with node.context.again(), called_in(node.layer):
            args = [self._operand(x, made) for x in node.args]
            kwargs = {k: self._operand(x, made) for k, x in node.kwargs}
            if look is not None:
                look(node.func, args, kwargs)
            out = cls.__torch_dispatch__(node.func, (), args, kwargs)
        for want, x in zip(leaves(node.outs), leaves_of(out), strict=True):
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
                stand = self._stands.get(x.value)
                cell = self._known[self._path.values[x.value][0]] if stand is None else stand.cell
                size, stride, offset, dtype = self._layouts[x.value] if stand is None else layout(stand)
                made[x.value] = SecretTensor(cell, size, stride, offset, dtype, x.requires_grad)
            return made[x.value]
        if kind is Public:
            return x.copy
        if kind is Changing:
            return self._given[x.place]
        return rebuilt(x.kind, (self._operand(each, made) for each in x.items)) if kind is Several else x

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
    return sorted(FACTS - {"inner", "places"} if type(cell) is TensorStorage else FACTS)
