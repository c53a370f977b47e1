"""Which operations lead to each value of a session, as far as a person who approves openings has to know.

Kept at a worker whose owner wants to be asked, from the messages alone.  Each value has
a hash over the operations that lead to it: their names, public arguments, the shapes
and windows of their operands, and for data of owners their names, without the choice of
rows and without numbers of slots.  Two values with equal hashes are the same list of
operations on (perhaps) other rows of the same data.

What is not the same each time makes another hash, and so another request:
* a value that the driver shares, and a value that is restored, each of which counts as new;
* public tensors with other elements, such as masks, indices and labels, and other bounds of operands;
* a window at another place of a value that was shared before.

A step that is recorded and repeated has a hash of its own, in which its arguments and the
values that it changes stand for themselves.  A value that such steps changed is known by
what it was before the first, and the set of steps since, not by how many there were: the
loss of each further step is the same list of operations.  Anything else that writes to
such a value makes another list.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
import torch

from pysmpc.program.segment import NORMALISING
from pysmpc.remote.program_messages import (
    Call,
    Changing,
    Collect,
    Drop,
    Dtype,
    Fixed,
    Input,
    Load,
    Operation,
    Option,
    Plain,
    Record,
    Recorded,
    Ref,
    Repeat,
    Restore,
    Seq,
)
from pysmpc.tensor.secret import HANDLERS
from pysmpc.transport.wire import raw

LAST = 8  # operations that are told of each value
STEPS = 64  # recorded steps that are told apart, of a value that they change
_TEXT = 120  # characters of one
_ROWS = ("rows", "cut")  # what picks rows of an owner's data
# (place, name) of the arguments that an operation writes to
_WRITES = {
    str(func): [
        (place, argument.name)
        for place, argument in enumerate(func._schema.arguments)
        if argument.alias_info is not None and argument.alias_info.is_write
    ]
    for func in HANDLERS
    if func._schema.is_mutable
} | {str(NORMALISING): [(3, "running_mean"), (4, "running_var")]}
_NAMES = {"addmm": "linear", "mm": "matrix product", "bmm": "matrix products", "mv": "matrix by vector"}

Hash = bytes | None  # None: what leads to the value was not followed


@dataclass(frozen=True)
class Lineage:
    """What leads to a value.

    last: (number, what was done) of the last operations, in order.  base, steps: of a value that
    recorded steps changed: what it was before them, and which they were.
    """

    hash: Hash = None
    last: tuple[tuple[tuple[int, int], str], ...] = ()
    base: Hash = None
    steps: frozenset[bytes] = frozenset()

    @property
    def operations(self) -> list[str]:
        """In words, in order."""
        return [text for _, text in self.last]


@dataclass
class _Recorded:
    """A recorded step.

    hash: of what it does to its states.  reads: slots of before, beside arguments and states.  results: a hash within
    the step, and what leads to it in words.  Numbers of which each repetition is told others are in none of them.
    """

    hash: Hash
    states: list[int]
    reads: list[int]
    results: list[tuple[Hash, tuple[str, ...]]]
    changed: list[tuple[str, ...]]


@dataclass
class _Recording:
    """A step while it is recorded.

    names: hashes of values in which its arguments, and numbers that change, stand for themselves.  numbers: those.
    """

    operation: Record
    before: dict[int, Lineage]
    arguments: list[Hash]
    names: dict[int, Hash]
    reads: list[int] = field(default_factory=list)
    numbers: list[float] = field(default_factory=list)


class History:
    """Of the values of one session."""

    def __init__(self, driver: str) -> None:
        self._driver = driver
        self._values: dict[int, Lineage] = {}
        self._known: dict[int, _Recorded] = {}
        self._open: _Recording | None = None
        self._count = 0

    def of(self, slot: int) -> Lineage:
        """What leads to the value in a slot."""
        return self._values.get(slot, Lineage())

    def note(self, operation: Operation, buffers: Sequence[torch.Tensor]) -> None:
        """An operation is about to run.  buffers: public tensors that came after its message."""
        self._count += 1
        if isinstance(operation, Call):
            self._call(operation, iter(buffers))
        elif isinstance(operation, Drop):
            for slot in operation.slots:
                self._values.pop(slot, None)
                if self._open is not None:
                    self._open.names.pop(slot, None)
        elif isinstance(operation, Input):
            self._new(operation.slot, secrets.token_bytes(32), f"{self._driver}'s own {_shape(operation.shape)}")
        elif isinstance(operation, Restore):
            for restored in operation.values.values():
                self._new(restored.slot, secrets.token_bytes(32), f"restored {_shape(restored.shape)}")
        elif isinstance(operation, Collect):
            owners = ", ".join(_plainly(owner) for owner in operation.owners)
            kind = "task" if operation.loop is None else "loop on"
            whose = f"the sum of {kind} {_plainly(operation.task)} at {owners}"
            self._new(operation.slot, secrets.token_bytes(32), whose)
        elif isinstance(operation, Load):
            self._load(operation, iter(buffers))
        elif isinstance(operation, Record):
            self._record(operation)
        elif isinstance(operation, Recorded):
            self._end(operation)
        elif isinstance(operation, Repeat):
            self._repeat(operation)

    def _new(self, slot: int, hash: Hash, text: str) -> None:
        self._values[slot] = Lineage(hash, (((self._count, 0), text[:_TEXT]),))

    def _load(self, load: Load, buffers: Iterator[torch.Tensor]) -> None:
        kept = []
        for step in load.steps:
            arguments = [_encoded(value, {}, buffers) for value in step]
            if step[:1] and step[0] in _ROWS:
                arguments = ["rows"]
            elif step[:1] == ["drawn"]:
                del arguments[1:2]  # the number of the draw
            kept.append(arguments)
        facts = [load.suite, load.owner, load.data, load.shape, load.scale, load.base, load.digits, load.dtype, kept]
        whose = f"{_plainly(load.owner)}'s {_plainly(load.data)} {_shape(load.shape)}"
        self._new(load.slot, _hash("load", facts), whose)

    # --- operations ---

    def _call(self, call: Call, buffers: Iterator[torch.Tensor]) -> None:
        tensors = list(buffers)
        arguments = [*call.args, *call.kwargs.values()]
        refs = list(_refs(arguments))
        last = _last([self.of(ref.slot).last for ref in refs], ((self._count, 0), _told(call.name, arguments)))
        hashes = {ref.slot: self.of(ref.slot).hash for ref in refs}
        for slot, key in self._made(call, hashes, tensors):
            self._values[slot] = Lineage(key, last)
        if self._open is not None:
            self._open.numbers += [each.value for each in _changing(arguments)]
            named = msgspec.structs.replace(
                call, args=[_symbol(x) for x in call.args], kwargs={name: _symbol(x) for name, x in call.kwargs.items()}
            )
            self._open.names.update(self._made(named, self._symbols(refs), tensors))

    def _made(self, call: Call, hashes: Mapping[int, Hash], buffers: Sequence[torch.Tensor]) -> list[tuple[int, Hash]]:
        """(slot, hash) of all that the call makes or writes to, from the hashes of what it is given."""
        found: Hash = None
        if None not in hashes.values():
            given = iter(buffers)
            args = [_encoded(x, hashes, given) for x in call.args]
            kwargs = sorted([name, _encoded(x, hashes, given)] for name, x in call.kwargs.items())
            found = _hash("call", [call.name, args, kwargs])
        written = [
            ref.slot
            for place, name in _WRITES.get(call.name, ())
            for ref in _refs([call.args[place] if place < len(call.args) else call.kwargs.get(name)])
        ]
        places = [(slot, ["out", n]) for n, slot in enumerate(call.outs) if slot >= 0]
        places += [(slot, ["written", n]) for n, slot in enumerate(written)]
        return [(slot, None if found is None else _hash("result", [found, place])) for slot, place in places]

    # --- recorded steps ---

    def _symbols(self, refs: Sequence[Ref]) -> dict[int, Hash]:
        """Hashes of values within the step that is being recorded."""
        recording = self._open
        assert recording is not None
        for ref in refs:
            if ref.slot not in recording.names:
                recording.names[ref.slot] = _hash("read", len(recording.reads))
                recording.reads.append(ref.slot)
        return {ref.slot: recording.names[ref.slot] for ref in refs}

    def _windows(self, refs: Sequence[Ref]) -> list[Any]:
        return [_encoded(ref, {ref.slot: self.of(ref.slot).hash}, iter(())) for ref in refs]

    def _arguments(self, refs: Sequence[Ref]) -> list[Hash]:
        """A hash of each argument of a step."""
        unknown = [self.of(ref.slot).hash is None for ref in refs]
        windows = self._windows(refs)
        return [None if lost else _hash("argument", x) for lost, x in zip(unknown, windows, strict=True)]

    def _record(self, operation: Record) -> None:
        arguments = self._arguments(operation.inputs)
        names: dict[int, Hash] = {slot: _hash("state", n) for n, slot in enumerate(operation.states)}
        for n, (slot, ref) in enumerate(zip(operation.slots, operation.inputs, strict=False)):
            names[slot] = _hash("input", [n, ref.size, ref.dtype])
            self._values[slot] = Lineage(arguments[n], self.of(ref.slot).last)
        before = {slot: self.of(slot) for slot in operation.states}
        self._open = _Recording(operation, before, arguments, names)

    def _end(self, operation: Recorded) -> None:
        recording = self._open
        if recording is None or operation.results is None:
            self._open = None
            return
        found = self._symbols(operation.results)
        self._open = None
        states = recording.operation.states
        symbols = [recording.names.get(slot) for slot in states]
        whole = None if None in symbols else _hash("step", symbols)
        told: list[tuple[Hash, tuple[str, ...]]] = []
        for ref in operation.results:
            window = None if found[ref.slot] is None else _hash("window", _encoded(ref, found, iter(())))
            told.append((window, tuple(self.of(ref.slot).operations)))
        known = _Recorded(whole, states, recording.reads, told, [tuple(self.of(s).operations) for s in states])
        self._step(known, recording.before, recording.arguments, recording.numbers, operation.outs)
        if operation.keep and recording.operation.check < 0:
            self._known[recording.operation.step] = known

    def _repeat(self, operation: Repeat) -> None:
        known = self._known.get(operation.step)
        if known is not None:
            before = {slot: self.of(slot) for slot in known.states}
            self._step(known, before, self._arguments(operation.inputs), operation.numbers, operation.outs)

    def _step(
        self,
        known: _Recorded,
        before: Mapping[int, Lineage],
        arguments: Sequence[Hash],
        numbers: Sequence[float],
        outs: Sequence[int],
    ) -> None:
        """A step has run with these numbers: its results go to `outs`."""
        reads = [self.of(slot).hash for slot in known.reads]
        facts: list[Any] = [known.hash, *arguments, *reads, *([list(numbers)] if numbers else [])]
        step = None if None in facts else _hash("repeat", facts)
        after: list[Hash] = []
        for place, slot in enumerate(known.states):
            old, last = before[slot], self._told(known.changed[place], numbers)
            base = old.base if old.steps else old.hash
            if step is None or base is None:
                self._values[slot] = Lineage(None, last)
            else:
                mine = _hash("state of", [step, place])
                if mine not in old.steps and len(old.steps) >= STEPS:
                    old = Lineage(base=old.hash)
                    base = old.base
                steps = old.steps | {mine}
                self._values[slot] = Lineage(_hash("trained", [base, *sorted(steps)]), last, base, steps)
            after.append(self._values[slot].hash)
        for out, (result, texts) in zip(outs, known.results, strict=False):
            facts = [step, result, *after]
            found = None if None in facts else _hash("result of", facts)
            self._values[out] = Lineage(found, self._told(texts, numbers))

    def _told(self, texts: Sequence[str], numbers: Sequence[float]) -> tuple[tuple[tuple[int, int], str], ...]:
        with_numbers = [*texts, f"with {', '.join(f'{x:g}' for x in numbers)}"[:_TEXT]] if numbers else texts
        return tuple(((self._count, n), text) for n, text in enumerate(with_numbers))


def _hash(what: str, facts: Any) -> bytes:
    return hashlib.sha256(msgspec.msgpack.encode([what, facts])).digest()


def _refs(values: Sequence[Any]) -> Iterator[Ref]:
    for value in values:
        if isinstance(value, Ref):
            yield value
        elif isinstance(value, Seq):
            yield from _refs(value.items)


def _changing(values: Sequence[Any]) -> Iterator[Changing]:
    for value in values:
        if isinstance(value, Changing):
            yield value
        elif isinstance(value, Seq):
            yield from _changing(value.items)


def _symbol(value: Any) -> Any:
    """An argument in which numbers that change stand for themselves."""
    if isinstance(value, Changing):
        return Seq(["number", value.place])
    return Seq([_symbol(item) for item in value.items]) if isinstance(value, Seq) else value


def _encoded(value: Any, hashes: Mapping[int, Hash], buffers: Iterator[torch.Tensor]) -> Any:
    """An argument for a hash, with the hash of a value in the place of its slot."""
    if isinstance(value, Ref):
        stated = [] if value.bound is None else [value.bound]  # a bound decides which function is computed
        return ["ref", hashes.get(value.slot), value.size, value.stride, value.offset, value.dtype, *stated]
    if isinstance(value, Plain):
        content = value.data
        if content is None:
            buffer = next(buffers, None)
            content = secrets.token_bytes(32) if buffer is None else hashlib.sha256(raw(buffer)).digest()
        return ["public", value.dtype, value.shape, value.size, value.data is None, content]
    if isinstance(value, Fixed):
        words = _encoded(value.words, hashes, buffers)
        return ["fixed", words, value.scale, value.base, value.digits, value.dtype]
    if isinstance(value, Seq):
        return ["list", [_encoded(item, hashes, buffers) for item in value.items]]
    if isinstance(value, Dtype | Option):
        return ["name", value.name]
    return value.value if isinstance(value, Changing) else value


# --- words --------------------------------------------------------------------------


def _last(parts: Sequence[Sequence[Any]], own: Any) -> tuple[Any, ...]:
    """The last of several lists of operations, and one more."""
    merged = sorted({each for part in parts for each in part})
    return (*merged[1 - LAST :], own)


def _plainly(text: str) -> str:
    """A name that came from outside, for a terminal."""
    return ascii(text[:40])[1:-1]


def _shape(size: Sequence[int]) -> str:
    return "x".join(map(str, size[:8])) if size else "number"


def _told(name: str, values: Sequence[Any]) -> str:
    """A call in words: its name, and the shapes or values of its arguments."""
    verb = name.removeprefix("aten.").partition(".")[0].strip("_")
    verb = _NAMES.get(verb, verb.replace("_", " "))
    return f"{_plainly(verb)}({', '.join(filter(None, map(_argument, values)))})"[:_TEXT]


def _argument(value: Any) -> str:
    if isinstance(value, Ref):
        stated = "" if value.bound is None else f" up to {value.bound:.3g}"  # what is wrong beyond it
        return _shape(value.size) + stated
    if isinstance(value, Plain):
        return f"public {_shape(value.size)}"
    if isinstance(value, Fixed):
        return f"public {_shape(value.words.size)}"
    if isinstance(value, Seq):
        return "[" + ", ".join(map(_argument, value.items[:8])) + "]"
    if isinstance(value, bool) or value is None:
        return ""
    if isinstance(value, Changing):
        return "a number that changes"
    if isinstance(value, int | float):
        return f"{value:g}"
    return ""
