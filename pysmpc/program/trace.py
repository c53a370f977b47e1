"""What a piece of a program comes down to, noted while it runs: kernels, operations of torch on words, messages.

What is noted does not depend on secret values, as nothing below the operations may branch on them; it does
depend on sizes, on public values and on what was opened before, and whoever keeps a trace must see to it that these
are the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from pysmpc.program.buffers import Replacement, tensors_in, with_tensors
from pysmpc.ring import z2k
from pysmpc.ring.recording import Message, attached

_EMPTY = frozenset(
    overload
    for name in ("empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided")
    for overload in (getattr(getattr(torch.ops.aten, name), each) for each in getattr(torch.ops.aten, name).overloads())
)

#: What is called with which arguments: a kernel, a message, or a function of Python.
Call = tuple[Any, tuple[Any, ...]]


class Trace:
    """The calls of a piece of a program, in order, and the memory that it made.

    first: the number of the first stream that it may draw.  epochs: from which number on numbers begin with what.
    refused: why it cannot be run again, if it cannot.  log: the messages that were moved, if they are kept.
    calls: as above; a kernel's arguments are those of `z2k.launch`.
    made: buffers that were made since the beginning, by their addresses.
    """

    def __init__(self, first: int, log: bool = False) -> None:
        self.first = first
        self.epochs: list[tuple[int, int]] = []
        self.log: list[Any] | None = [] if log else None
        self.refused: str | None = None
        self.silent = False
        self.ranges: WeakKeyDictionary[Any, Any] = WeakKeyDictionary()
        self.calls: list[Call] = []
        self.made: dict[int, torch.UntypedStorage] = {}
        self._kept: list[Any] = []  # all memory stays while notes are taken, so that an address is one buffer's

    # --- a recorder (pysmpc.ring.recording) ---

    def launched(self, kernel: z2k.Kernel, args: tuple[Any, ...]) -> None:
        """A kernel has run."""
        self.note(kernel, *args)

    def note(self, call: Any, *args: Any) -> None:
        """One call more, unless it is part of one that is noted as a whole."""
        if not self.silent:
            self.calls.append((call, args))

    def perform(self, message: Message, args: tuple[Any, ...]) -> None:
        """Move a message, and note that as a whole."""
        self.silent = True
        try:
            message(*args)
            if self.log is not None:
                self.log.append(with_tensors(args, torch.Tensor.clone))
        finally:
            self.silent = False
        self.note(message, *args)

    def operation(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> None:
        """An operation of torch on plain tensors was done."""
        if torch.Tag.nondeterministic_seeded in func.tags:
            self.refused = f"{func} draws random numbers"
        self._kept.append((args, kwargs, out))
        outs = list(tensors_in(out))
        if any(x.is_meta for x in outs):
            return  # a size and no memory: nothing is computed
        if func._schema.is_mutable:
            self.note(apply, func, args, kwargs)
        elif outs and not _views(outs, tensors_in((args, kwargs))):
            for each in outs:
                self.made[each.untyped_storage().data_ptr()] = each.untyped_storage()
            if func not in _EMPTY and (into := _into(func)) is not None:
                self.note(apply, into, args, {**kwargs, "out": outs[0]})
            elif func not in _EMPTY:
                self.note(_copied, func, args, kwargs, outs)

    # --- afterwards ---

    def note_early(self, read: torch.Tensor, call: Callable[[torch.Tensor], Any]) -> None:
        """Note call(read) where its memory is already what it is now: right after the last call that touches it."""
        buffer = Replacement({read.untyped_storage().data_ptr(): read.untyped_storage()})
        place = next((i + 1 for i in reversed(range(len(self.calls))) if buffer.touches(self.calls[i][1])), 0)
        self.calls.insert(place, (call, (read,)))


def apply(func: Any, args: Any, kwargs: Any) -> None:
    """An operation of torch that writes to one of its arguments."""
    func(*args, **kwargs)


def _copied(func: Any, args: Any, kwargs: Any, outs: Sequence[torch.Tensor]) -> None:
    for place, value in zip(outs, tensors_in(func(*args, **kwargs)), strict=True):
        place.copy_(value)


@cache
def _into(func: Any) -> Any:
    """The same operation with its result written to a tensor `out`; None if there is none."""
    wanted = [(arg.name, str(arg.type)) for arg in func._schema.arguments]
    for name in func.overloadpacket.overloads():
        found = getattr(func.overloadpacket, name)
        *args, last = found._schema.arguments
        if last.name == "out" and [(arg.name, str(arg.type)) for arg in args] == wanted:
            return found
    return None


def _views(outs: Sequence[torch.Tensor], inputs: Iterable[torch.Tensor]) -> bool:
    """Whether results are windows on memory of the operands."""
    there = {x.untyped_storage().data_ptr() for x in inputs if x.numel()}
    return all(not x.numel() or x.untyped_storage().data_ptr() in there for x in outs)


# --- torch's operations ---------------------------------------------------------------


class _Mode(TorchDispatchMode):
    """Tells a trace of operations on words, and dispatches those on secrets itself."""

    def __init__(self, trace: Trace, secret: type[torch.Tensor], dispatch: Callable[..., Any]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._trace, self._secret, self._dispatch = trace, secret, dispatch

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if any(issubclass(each, self._secret) for each in types):
            with self:
                return self._dispatch(func, types, args, kwargs)
        out = func(*args, **kwargs)
        if not self._trace.silent:
            self._trace.operation(func, args, kwargs, out)
        return out


class _Random(TorchDispatchMode):
    """For a process that has nothing to note: sees to it that a step which draws public numbers is not repeated."""

    def __init__(self, trace: Trace, secret: type[torch.Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._trace, self._secret = trace, secret

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        secrets = [each for each in types if issubclass(each, self._secret)]
        if secrets:
            most: Any = max(secrets, key=lambda each: len(each.__mro__))  # torch would ask the most derived one
            with self:
                return most.__torch_dispatch__(func, types, args, kwargs or {})
        if torch.Tag.nondeterministic_seeded in func.tags:
            self._trace.refused = f"{func} draws random numbers"
        return func(*args, **(kwargs or {}))


def watching(trace: Trace, secret: type[torch.Tensor]) -> TorchDispatchMode:
    """While within, a random number that is drawn in public refuses the trace; nothing is noted."""
    return _Random(trace, secret)


@contextmanager
def tracing(trace: Trace, secret: type[torch.Tensor], dispatch: Callable[..., Any]) -> Iterator[None]:
    """Note all that this thread does within.

    secret: the type of tensors that are not words; dispatch: called for their operations.
    """
    with attached(trace), _Mode(trace, secret, dispatch):
        yield
