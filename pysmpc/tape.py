"""A program recorded once, and run again without the Python in between.

What the layers above do to words comes down to calls of the compiled modules, which
take addresses and numbers, and to operations of torch on words.  A tape notes both, in
order, keeps the memory they use, and repeats them: on the same memory, under fresh
stream numbers.  What is noted does not depend on secret values, as nothing here may
branch on them; it does depend on sizes, on public values and on what was opened
before, and whoever keeps a tape must see to it that these are the same.
"""

from __future__ import annotations

import bisect
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache, partial
from typing import Any, NoReturn
from weakref import WeakKeyDictionary

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from pysmpc import ring
from pysmpc.arena import Arena, Exchange
from pysmpc.prg import EPOCH_BITS

_NATIVE = ("pysmpc._ring", "pysmpc._beaver")
_NOT_NOTED = frozenset(["set_threads", "keep_memory"])
_EMPTY = frozenset(
    overload
    for name in ("empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided")
    for overload in (getattr(getattr(torch.ops.aten, name), each) for each in getattr(torch.ops.aten, name).overloads())
)


class Fresh(int):
    """A stream number drawn while a tape was recorded: in a run it moves with the run's first."""

    __slots__ = ()

    def __add__(self, other: int) -> Fresh:
        return Fresh(int(self) + other)

    __radd__ = __add__


class Given(int):
    """A stream number that every run is given anew.  place: which."""

    place: int

    def __new__(cls, value: int, place: int) -> Given:
        self = int.__new__(cls, value)
        self.place = place
        return self

    def __add__(self, other: int) -> NoReturn:
        raise TypeError("streams beside the one that was given are not known")

    __radd__ = __add__


def _marked(args: Sequence[Any]) -> tuple[int, ...]:
    """Which arguments are stream numbers of a recording, or have some within."""
    return tuple(i for i, x in enumerate(args) if isinstance(x, Fresh | Given) or (type(x) is tuple and _marked(x)))


Prepare = Callable[..., Callable[[], None]]
_Call = tuple[Callable[..., Any], tuple[Any, ...], tuple[int, ...]]  # arguments, and which of them are marked

# A call made ready: without arguments left, if none of them ever changes; else with them, and which of them are
# numbers that move with the run's first stream, and which are others, with the places in those that are tuples.
_Ready = tuple[Callable[..., Any], tuple[Any, ...] | None, tuple[int, ...], tuple[tuple[int, tuple[int, ...]], ...]]


class Message:
    """A way to move messages.  into: how many of its last arguments it writes; it reads the others.

    prepare(*args): the call with these arguments, made ready to be done time and again.
    """

    __slots__ = ("call", "into", "prepare")

    def __init__(self, call: Callable[..., None], into: int, prepare: Prepare | None = None) -> None:
        self.call, self.into = call, into
        self.prepare: Prepare = prepare or partial(partial, call)

    def __call__(self, *args: Any) -> None:
        self.call(*args)

    def pretend(self, args: tuple[Any, ...], logged: tuple[Any, ...]) -> bool:
        """Whether it would send what was sent; receive what was received."""
        if len(args) != len(logged):
            return False
        border = len(args) - self.into
        for mine, theirs in zip(args[:border], logged[:border], strict=True):
            if isinstance(mine, torch.Tensor):
                if not torch.equal(mine, theirs):
                    return False
            elif mine != theirs:
                return False
        for mine, theirs in zip(args[border:], logged[border:], strict=True):
            mine.copy_(theirs)
        return True


class Tape:
    """What was noted, in order.

    refused: why this cannot be run again, if it cannot.
    """

    def __init__(self, first: int, log: bool = False) -> None:
        """first: the stream number that is drawn next.  log: keep the messages that are moved."""
        self.first = first
        self.epochs: list[tuple[int, int]] = []  # from which number on numbers begin with what, as it was recorded
        self.log: list[Any] | None = [] if log else None
        self.refused: str | None = None
        self.silent = False  # while something is done that is noted as a whole
        self.ranges: WeakKeyDictionary[Any, Any] = WeakKeyDictionary()  # of bodies (pysmpc.protocols.ranges)
        self._calls: list[_Call] = []
        self._turned: list[_Call] = []
        self._ready: dict[bool, list[_Ready]] = {}
        self._uses: dict[int, Any] = {}  # what a call refers to beside its arguments, by its number
        self._kept: list[Any] = []
        self._made: dict[int, torch.UntypedStorage] = {}
        self._products: list[Any] = []

    def __len__(self) -> int:
        return len(self._calls)

    def keep(self, thing: Any) -> None:
        """Memory that calls refer to by address must live as long as the tape."""
        self._kept.append(thing)

    def note(self, call: Callable[..., Any], *args: Any) -> None:
        """One call more, unless it is part of one that is noted as a whole."""
        if not self.silent:
            self._ready.clear()
            self._calls.append((call, args, _marked(args)))

    def note_early(self, read: torch.Tensor, call: Callable[..., Any]) -> None:
        """Note call(read), which reads this memory alone, where it is already what it is now: as soon as can be."""
        piece = Exchange({read.untyped_storage().data_ptr(): read.untyped_storage()})
        refer = [i for i, (_, args, _) in enumerate(self._calls) if piece.touches((args, self._uses.get(i)))]
        place = refer[-1] + 1 if refer else 0
        self._ready.clear()
        self._calls.insert(place, (call, (read,), ()))
        self._uses = {i + (i >= place): use for i, use in self._uses.items()}

    def perform(self, message: Message, args: tuple[Any, ...]) -> None:
        """Move a message, and note that as a whole."""
        self.silent = True
        try:
            message(*args)
            if self.log is not None:
                self.log.append(tree_map(lambda x: x.clone() if isinstance(x, torch.Tensor) else x, args))
        finally:
            self.silent = False
        self.note(message, *args)

    def moved(self, stream: int, first: int, epochs: Sequence[tuple[int, int]] = ()) -> int:
        """Where a stream of the recording is in a run whose streams begin at `first`; one drawn before stays.

        A run is within one epoch, as one operation asks for it; a recording that it is compared with may be over
        several, which are told.
        """
        if stream < self.first:
            return int(stream)
        found = first + (stream - self.first) % (1 << EPOCH_BITS)
        if epochs:
            number = found % (1 << EPOCH_BITS)
            found = number + epochs[bisect.bisect(epochs, number, key=lambda each: each[0]) - 1][1]
        return found

    def run(
        self,
        first: int,
        given: Sequence[int] = (),
        log: Sequence[Any] | None = None,
        epochs: Sequence[tuple[int, int]] = (),
        turned: bool = False,
    ) -> bool:
        """Do it all again, with streams from `first` on.  turned: with memory exchanged as `pack` was told.

        log: no message is moved; those that would be sent are held against those of the log,
        from which come those that would be received.  False if one is another.  epochs: of the log's recording.
        """
        shift = first - self.first
        logged = iter(log or ())

        def moved(x: Any) -> Any:
            if type(x) is Fresh:
                return self.moved(int(x), first, epochs)
            if type(x) is Given:
                return given[x.place]
            return tuple(map(moved, x)) if type(x) is tuple else x

        ring.use_torch_threads()
        with torch.no_grad():
            if log is None:
                for call, given_args, moving, others in self._ready_calls(turned):
                    if given_args is None:
                        call()
                        continue
                    changed = list(given_args)
                    for i in moving:
                        changed[i] += shift
                    for i, places in others:
                        changed[i] = _with(changed[i], places, moved)
                    call(*changed)
                return True
            for call, args, marked in self._calls:
                if type(call) is Message:
                    if not call.pretend(args, next(logged, ())):
                        return False
                else:
                    call(*(moved(x) if i in marked else x for i, x in enumerate(args)))
        return next(logged, None) is None

    def _ready_calls(self, turned: bool) -> list[_Ready]:
        """The calls, ready to be done time and again."""
        if turned not in self._ready:
            calls = self._turned if turned else self._calls
            self._ready[turned] = [self._ready_call(*each) for each in calls]
        return self._ready[turned]

    def _ready_call(self, call: Callable[..., Any], args: tuple[Any, ...], marked: tuple[int, ...]) -> _Ready:
        plain = tuple(self.moved(int(x), self.first) if type(x) is Fresh else x for x in args)
        moving = tuple(i for i in marked if type(args[i]) is Fresh and args[i] >= self.first)
        given = [i for i in marked if type(args[i]) is not Fresh]
        others = tuple((i, _marked(args[i]) if type(args[i]) is tuple else ()) for i in given)
        return (call, plain, moving, others) if moving or others else (_ready(call, plain), None, (), ())

    def made(self) -> set[int]:
        """Where memory starts that was made since the recording began."""
        return set(self._made)

    def pack(
        self,
        moved: Sequence[tuple[torch.Tensor, torch.Tensor]] = (),
        pairs: Sequence[tuple[torch.Tensor, torch.Tensor]] = (),
    ) -> None:
        """Let memory that is no longer needed at one call serve later ones, as it does where memory is freed.

        moved: memory, and other of its size that takes its place.  pairs: such memory that is exchanged in every
        other run.
        """
        for tensor, _ in moved:
            self._made.pop(tensor.untyped_storage().data_ptr(), None)
        self._ready.clear()
        arena = Arena(self._made, [(args, self._uses.get(i)) for i, (_, args, _) in enumerate(self._calls)])
        away = Exchange({old.untyped_storage().data_ptr(): new.untyped_storage() for old, new in moved})
        self._calls = [(call, away.moved(arena.moved(args)), marked) for call, args, marked in self._calls]
        self._kept = [away.moved(arena.moved(each)) for each in self._kept]
        self._made = {}
        places = {a.untyped_storage().data_ptr(): b.untyped_storage() for x, y in pairs for a, b in ((x, y), (y, x))}
        turn = Exchange(places)
        self._turned = [(call, turn.moved(args), marked) for call, args, marked in self._calls]

    # --- what is noted ---

    def product(self, kind: type[Any], args: tuple[Any, ...]) -> _Product:
        """A product is made anew in every run, as it refers to streams."""
        place = len(self._products)
        self._products.append(kind(*args))

        def make(*args: Any) -> None:
            self._products[place] = kind(*args)

        self.note(make, *args)
        return _Product(self, place, args)

    def method(self, place: int, name: str, args: tuple[Any, ...], factors: Any) -> None:
        """A call on a product, which reads its factors."""
        products = self._products

        def call(*args: Any) -> None:
            getattr(products[place], name)(*args)

        call(*args)
        self.note(call, *args)
        self._uses[len(self._calls) - 1] = factors

    def torch(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> None:
        """An operation of torch on plain tensors, after it was done."""
        self.keep((args, kwargs, out))
        if torch.Tag.nondeterministic_seeded in func.tags:
            self.refused = f"{func} draws random numbers"
        outs = [x for x in tree_leaves(out) if isinstance(x, torch.Tensor)]
        if any(x.is_meta for x in outs):
            return  # a size and no memory: nothing is computed
        if func._schema.is_mutable:
            self.note(_apply, func, args, kwargs)
        elif outs and not _views(outs, tree_leaves((args, kwargs))):
            for each in outs:
                self._made[each.untyped_storage().data_ptr()] = each.untyped_storage()
            if func not in _EMPTY and (into := _into(func)) is not None:
                self.note(_apply, into, args, {**kwargs, "out": outs[0]})
            elif func not in _EMPTY:
                self.note(_again, func, args, kwargs, outs)


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


def _with(value: Any, places: tuple[int, ...], change: Callable[[Any], Any]) -> Any:
    """A marked number changed, or the marked ones of a tuple."""
    if not places:
        return change(value)
    changed = list(value)
    for i in places:
        changed[i] = change(changed[i])
    return tuple(changed)


def _ready(call: Callable[..., Any], args: tuple[Any, ...]) -> Callable[[], Any]:
    """The call with these arguments, by as few others as can be."""
    if type(call) is Message:
        return call.prepare(*args)
    if call is _apply:
        func, given, named = args
        return partial(func, *given, **named)
    return partial(call, *args)


def _apply(func: Any, args: Any, kwargs: Any) -> None:
    func(*args, **kwargs)


def _again(func: Any, args: Any, kwargs: Any, outs: Sequence[torch.Tensor]) -> None:
    for place, value in zip(outs, tree_leaves(func(*args, **kwargs)), strict=True):
        place.copy_(value)


def _views(outs: Sequence[torch.Tensor], inputs: Sequence[Any]) -> bool:
    """Whether results are windows on memory of the operands."""
    there = {x.untyped_storage().data_ptr() for x in inputs if isinstance(x, torch.Tensor) and x.numel()}
    return all(not x.numel() or x.untyped_storage().data_ptr() in there for x in outs)


class _Native:
    """Stands for a compiled module while anything is recorded."""

    def __init__(self, module: Any) -> None:
        self._module = module

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._module, name)
        if name == "Product":
            return lambda *args: found(*args) if (tape := active()) is None else tape.product(found, args)
        if isinstance(found, type) or not callable(found) or name in _NOT_NOTED:
            return found

        def call(*args: Any) -> Any:
            out = found(*args)
            if out is None and (tape := active()) is not None:  # what gives a result changes nothing
                tape.note(found, *args)
            return out

        return call


class _Product:
    def __init__(self, tape: Tape, place: int, factors: Any) -> None:
        self._tape, self._place, self._factors = tape, place, factors

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *args: self._tape.method(self._place, name, args, self._factors)


class _Mode(TorchDispatchMode):  # type: ignore[no-untyped-call]
    def __init__(self, tape: Tape, secret: type[torch.Tensor], dispatch: Callable[..., Any]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._tape, self._secret, self._dispatch = tape, secret, dispatch

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if any(issubclass(each, self._secret) for each in types):
            with self:
                return self._dispatch(func, types, args, kwargs)
        out = func(*args, **kwargs)
        if not self._tape.silent:
            self._tape.torch(func, args, kwargs, out)
        return out


class _Random(TorchDispatchMode):
    """For a process that has nothing to note: sees to it that a step which draws public numbers is not repeated."""

    def __init__(self, tape: Tape, secret: type[torch.Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._tape, self._secret = tape, secret

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        secrets = [each for each in types if issubclass(each, self._secret)]
        if secrets:
            most: Any = max(secrets, key=lambda each: len(each.__mro__))  # torch would ask the most derived one
            with self:
                return most.__torch_dispatch__(func, types, args, kwargs or {})
        if torch.Tag.nondeterministic_seeded in func.tags:
            self._tape.refused = f"{func} draws random numbers"
        return func(*args, **(kwargs or {}))


def watching(tape: Tape, secret: type[torch.Tensor]) -> TorchDispatchMode:
    """While within, a random number that is drawn in public refuses the tape; nothing is noted."""
    return _Random(tape, secret)


# --- what is being recorded, by which thread ----------------------------------------

_tapes: dict[int, Tape] = {}
_installing = threading.Lock()
_installed: list[tuple[Any, str, Any]] = []  # (module, name, what was there)


def active() -> Tape | None:
    """The tape that this thread's work is noted on."""
    return _tapes.get(threading.get_ident())


def perform(
    call: Callable[..., None], *args: Any, into: Sequence[torch.Tensor] = (), prepare: Prepare | None = None
) -> None:
    """call(*args, *into): move messages, which a repetition does again as a whole.

    into: tensors that it writes.  prepare(*args, *into): the same, made ready to be done time and again.
    """
    tape = active()
    if tape is None:
        call(*args, *into)
    else:
        tape.perform(Message(call, len(into), prepare), (*args, *into))


def _references(things: Sequence[Any]) -> Iterator[tuple[Any, str, Any]]:
    """(module, name, thing) wherever a module of this package refers to one of them."""
    for title, module in list(sys.modules.items()):
        if title.startswith("pysmpc."):
            for name, found in list(vars(module).items()):
                if any(found is thing for thing in things):
                    yield module, name, found


def _install() -> None:
    """Put what takes notes in place of the compiled modules, wherever this package refers to them."""
    address = ring._address

    def kept(tensor: torch.Tensor, *shape: int) -> int:
        if (tape := active()) is not None:
            tape.keep(tensor)
        return address(tensor, *shape)

    for module, name, found in _references([address, *(sys.modules[name] for name in _NATIVE)]):
        _installed.append((module, name, found))
        setattr(module, name, kept if found is address else _Native(found))


def _remove() -> None:
    for module, name, found in _installed:
        setattr(module, name, found)
    _installed.clear()


@contextmanager
def recording(tape: Tape, secret: type[torch.Tensor], dispatch: Callable[..., Any]) -> Iterator[None]:
    """Note all that is done within, by this thread; others may be recording, too.

    secret: the type of tensors that are not words; dispatch: called for their operations.
    """
    thread = threading.get_ident()
    with _installing:
        if not _tapes:
            _install()
        _tapes[thread] = tape
    try:
        with _Mode(tape, secret, dispatch):
            yield
    finally:
        with _installing:
            del _tapes[thread]
            if not _tapes:
                _remove()
