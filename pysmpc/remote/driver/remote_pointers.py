"""Pointers to data at workers of other machines, for a driver who never sees an item."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch

from pysmpc.errors import EncodingError, PartyError, PrivacyError
from pysmpc.remote.arguments import NAMES, dtype_of, encode
from pysmpc.remote.data_steps import Items, apply
from pysmpc.remote.messages import DataInfo
from pysmpc.remote.program_messages import Fetch
from pysmpc.ring.fixedpoint import INTEGER, Precision
from pysmpc.session.session import Session
from pysmpc.tensor.secret import SecretTensor

Real = float  # within the class, `float` is a method
CHOICES = ("rows", "cut", "drawn")


class DataPointer:
    """A worker's own data, or what becomes of them by steps that she will take before she shares.

    owner, name, tags, description, shape, dtype.  Items are the rows of the first
    dimension.  `.share()` (or `sy.encrypt`) makes the owner share them: nothing but
    their names and positions passes through this process.
    """

    def __init__(self, parties: Any, owner: str, info: DataInfo) -> None:
        self._parties = parties
        self.owner = owner
        self.name = info.name
        self.tags = set(info.tags)
        self.description = info.description
        self._steps: tuple[tuple[Any, ...], ...] = ()
        self._unit: Precision | None = None
        self._bound = info.bound
        n = info.shape[0] if info.shape else 1
        self._like = Items(torch.empty(info.shape, dtype=dtype_of(info.dtype), device="meta"), _positions(n))

    @property
    def shape(self) -> torch.Size:
        """Sizes, items first."""
        return self._like.values.shape

    @property
    def dtype(self) -> torch.dtype:
        """Of the elements."""
        return self._like.values.dtype

    def __len__(self) -> int:
        return len(self._like.values)

    def __repr__(self) -> str:
        tags = "".join(f" {tag}" for tag in sorted(self.tags))
        return f"[DataPointer -> {self.owner}:{self.name}{tags}, {tuple(self.shape)}, {self.dtype}]"

    def _with(self, *step: Any) -> DataPointer:
        out = object.__new__(DataPointer)
        out.__dict__ = dict(self.__dict__)
        out._like = _shape_after(self._like, step)
        out._bound = _bound_after(self._bound, step)
        steps = list(self._steps)
        # every step works on each item by itself, so items are chosen first: less to do
        after = max((i + 1 for i, (verb, *_) in enumerate(steps) if verb in CHOICES), default=0)
        steps.insert(after if step[0] in CHOICES else len(steps), step)
        out._steps = tuple(steps)
        return out

    # --- steps ---

    def __getitem__(self, index: Any) -> DataPointer:
        """Items: a slice, or their numbers."""
        if isinstance(index, slice):
            return self._with("cut", index.start, index.stop, index.step)
        if isinstance(index, int):
            raise TypeError("one item is a slice of length one: pointer[i : i + 1]")
        numbers = torch.as_tensor(index)
        if numbers.dtype == torch.bool:
            numbers = numbers.nonzero().flatten()
        numbers = numbers.to(torch.int64).flatten()
        if len(numbers) and (int(numbers.min()) < 0 or int(numbers.max()) >= len(self)):
            raise IndexError(f"items are numbered from 0 to {len(self) - 1}")
        return self._with("rows", numbers)

    def flatten(self) -> DataPointer:
        """Each item as a row."""
        return self._with("flatten")

    def reshape(self, *sizes: int) -> DataPointer:
        """Each item in another shape: sizes without the first."""
        return self._with("reshape", list(sizes))

    def float(self) -> DataPointer:
        """As real numbers."""
        return self._with("float_")

    def long(self) -> DataPointer:
        """As integers."""
        return self._with("long")

    def scale(self, factor: Real, offset: Real = 0.0) -> DataPointer:
        """values * factor + offset."""
        return self._with("scale", Real(factor), Real(offset))

    def __truediv__(self, divisor: Real) -> DataPointer:
        return self._with("divide", Real(divisor))

    def one_hot(self, classes: int) -> DataPointer:
        """Real numbers: one at the label, zero elsewhere."""
        return self._with("one_hot", classes)

    def fix_precision(self, precision_fractional: int = 3, base: int = 10) -> DataPointer:
        """At which precision real values will be shared."""
        out = self if self.dtype.is_floating_point else self.float()
        out = out._with("float_")
        out._unit = Precision(base, precision_fractional)
        return out

    fix_prec = fix_precision

    def drawn(self, number: int, rate: Real, slots: int) -> DataPointer:
        """Rows that the owner draws, each with this rate, in so many slots; which ones, only she knows.

        number: of the batch, larger for each new one.  Pointers to data of hers with as many rows have the same rows of
        the same number, rate and slots drawn.  Slots without a row are zeros.  PrivacyError for rows chosen twice.
        """
        for verb, *chosen in self._steps:
            if verb == "rows" and len(chosen[0].unique()) != len(chosen[0]):
                raise PrivacyError("a row that is chosen more than once is drawn more than once: choose each once")
        return self._with("drawn", int(number), Real(rate), int(slots))

    def present(self) -> DataPointer:
        """Of what was drawn: 1.0 in each slot with a row, 0.0 in the others."""
        return self._with("present")

    # --- leaving home ---

    def share(self, *holders: Any, crypto_provider: Any = None, requires_grad: bool = False) -> SecretTensor:
        """The owner shares the values among all holders of the session; no round, and not a byte.

        holders: of the session, by name or worker, or none for all.  Real values need
        .fix_precision() before.
        """
        session = self._parties.session
        names = [getattr(each, "id", each) for each in holders]
        if names and set(names) != set(session.holders):
            raise PartyError(f"the holders of this session are {', '.join(session.holders)}, not {', '.join(names)}")
        provider = getattr(crypto_provider, "id", crypto_provider)
        if provider not in (None, session.provider):
            raise PartyError(f"the crypto provider of this session is {session.provider}, not {provider}")
        if self.dtype.is_floating_point and self._unit is None:
            raise TypeError(
                "real values cannot be additively shared, Use fix_precision: pointer.fix_precision().share()"
            )
        out = self.encrypted(session, self._unit or INTEGER)
        out.chained = requires_grad
        return out.requires_grad_() if requires_grad and out.dtype.is_floating_point else out

    def encrypted(self, session: Session, precision: Precision, bound: Real | None = None) -> SecretTensor:
        """As `sy.encrypt` does it: real values at a precision, integers as they are.

        bound: that this process states, in place of the one in the owner's file.
        """
        if session.recorder is not self._parties.recorder:
            raise PartyError(f"{self.name} is at {self.owner}, a worker of other parties than these")
        floating = self.dtype.is_floating_point
        unit = (self._unit or precision) if floating else INTEGER
        dtype = torch.float32 if floating else torch.bool if self.dtype == torch.bool else torch.int64
        recorder = self._parties.recorder
        out: SecretTensor = recorder.load(session, self.owner, self.name, self._steps, self.shape, unit, dtype)
        found = self._bound if bound is None else bound
        out.cell.bound = None if found is None else math.ceil(found * unit.scale) / unit.scale
        return out

    def get(self) -> torch.Tensor:
        """The values in the clear, if their owner's configuration lets this driver `get` them."""
        buffers: list[torch.Tensor] = []
        steps = [[encode(x, buffers) for x in step] for step in self._steps]
        message = Fetch(self.owner, self.name, steps, list(self.shape), NAMES[self.dtype])
        number = self._parties.link.send(message, buffers, None)
        flat: torch.Tensor = self._parties.link.fetched(number, self.owner)
        return flat.reshape(self.shape)


def _positions(n: int) -> torch.Tensor:
    return torch.empty(n, dtype=torch.int64, device="meta")


ROUNDED = 1 + 2.0**-20  # of what float32 makes of a bound


def _bound_after(bound: float | None, step: Sequence[Any]) -> float | None:
    """What a step makes of a bound."""
    verb, *arguments = step
    if verb in ("one_hot", "present"):
        return 1.0
    if bound is None or verb not in ("scale", "divide"):
        return bound
    factor, offset = arguments if verb == "scale" else (1 / arguments[0] if arguments[0] else math.inf, 0.0)
    found = (bound * abs(factor) + abs(offset)) * ROUNDED
    return found if found < math.inf else None


def _shape_after(like: Items, step: Sequence[Any]) -> Items:
    """What a step makes of shapes."""
    verb, *arguments = step
    if verb == "one_hot":  # torch has no one_hot without values
        if like.values.is_floating_point() or arguments[0] < 1:
            raise EncodingError("one_hot takes integer labels and a number of classes")
        return Items(torch.empty((*like.values.shape, arguments[0]), device="meta"), like.items)
    if verb == "drawn":
        return Items(like.values.new_empty((arguments[2], *like.values.shape[1:])), _positions(arguments[2]))
    if verb == "present":
        return Items(torch.empty(len(like.values), device="meta"), like.items)
    arguments = [x.to("meta") if isinstance(x, torch.Tensor) else x for x in arguments]
    return apply(like, verb, arguments)


class RemoteHolder:
    """One worker of a session, as its driver sees it."""

    def __init__(self, parties: Any, name: str) -> None:
        self._parties = parties
        self.id = name

    def __repr__(self) -> str:
        return f"RemoteHolder({self.id})"

    def search(self, *tags: str) -> list[DataPointer]:
        """Pointers to her data that carry all of the tags (or the name)."""
        found = self._parties.link.search(self.id, tags)
        return [DataPointer(self._parties, self.id, info) for info in found.data]


class PrivateDataLoader:
    """Batches of data of several owners; each batch is from one owner, in turn.

    sources: for each owner a tuple of pointers (data, target, ...) whose rows belong together.
    Iterating yields tuples of secrets.  A batch is shared once and kept for later epochs.
    shuffle: items are put into a random order once, and batches each epoch, by
    `generator`; positions are public, items are not.
    """

    def __init__(
        self,
        sources: Sequence[Sequence[DataPointer]],
        batch_size: int = 64,
        *,
        shuffle: bool = False,
        drop_last: bool = False,
        generator: torch.Generator | None = None,
    ) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}; at least 1 is needed")
        for pointers in sources:
            if len({len(p) for p in pointers}) != 1 or len({p.owner for p in pointers}) != 1:
                raise ValueError("the pointers of one source belong to one owner and have the same number of items")
        self._shuffle, self._generator = shuffle, generator
        self._pieces: list[list[DataPointer]] = []
        cuts = []
        for pointers in sources:
            n = len(pointers[0])
            order = torch.randperm(n, generator=generator) if shuffle else torch.arange(n)
            parts = [part for part in torch.split(order, batch_size) if len(part) == batch_size or not drop_last]
            cuts.append([[p[part] for p in pointers] for part in parts])
        for turn in range(max(map(len, cuts), default=0)):
            self._pieces += [parts[turn] for parts in cuts if turn < len(parts)]
        self._shared: list[tuple[SecretTensor, ...] | None] = [None] * len(self._pieces)

    def __len__(self) -> int:
        return len(self._pieces)

    def __getitem__(self, index: int) -> tuple[SecretTensor, ...]:
        """A batch."""
        found = self._shared[index]
        if found is None:
            found = self._shared[index] = tuple(pointer.share() for pointer in self._pieces[index])
        return found

    def __iter__(self) -> Any:
        n = len(self)
        order = torch.randperm(n, generator=self._generator).tolist() if self._shuffle else range(n)
        return (self[index] for index in order)
