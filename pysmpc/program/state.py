"""What a segment reads, changes and returns, in memory of its own, which nothing outside refers to.

Arguments are copied in, and results are copied out, so that nothing that a user holds ever changes.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

import torch

from pysmpc.mpc.additive.products import DeferredProduct
from pysmpc.ring import memory, z2k
from pysmpc.ring.shares import Share, ShareStorage
from pysmpc.tensor.secret import SecretTensor
from pysmpc.tensor.storage import TensorStorage

Moved = list[tuple[torch.Tensor, torch.Tensor]]  # what memory was, and what it is


def source(x: SecretTensor) -> Share:
    """The words of an argument, one after the other."""
    return x.window().compact()


def kind(x: SecretTensor) -> Any:
    """What a segment supposes of an argument."""
    share = source(x)
    facts = id(x.session), tuple(x.shape), x.dtype, x.cell.scale, x.unit, x.cell.bound, x.cell.finer
    return *facts, share.dense and share.body.opened is not None


@dataclass
class Input:
    """An argument of a segment: the memory that it is copied to.

    value: what the segment is traced with.  body: its content, as the segment begins.
    """

    value: SecretTensor
    body: ShareStorage
    words: torch.Tensor
    opened: torch.Tensor | None

    @classmethod
    def of(cls, x: SecretTensor, place: int) -> Input:
        """Memory for arguments like x, with what is in x now."""
        share = source(x)
        body = ShareStorage(memory.copied(share.words()))
        body.shape = tuple(x.shape)
        opened = None
        if share.dense and share.body.opened is not None:
            assert share.body.mask is not None
            opened = body.opened = share.body.opened.clone()
            body.mask = cast(int, z2k.Stream(share.body.mask, place))  # protocols only hand it on to kernels
        cell = TensorStorage(body, x.cell.scale, x.cell.unit, x.session)
        cell.bound, cell.finer = x.cell.bound, x.cell.finer
        copy = SecretTensor(cell, x.shape, Share(body, x.shape).strides, 0, x.dtype)
        return cls(copy, body, body.words, opened)

    def copy_in(self, share: Share) -> int:
        """Copy another argument in; the stream of its mask, if it was opened."""
        self.words.copy_(share.words())
        if self.opened is None:
            return 0
        assert share.body.opened is not None
        assert share.body.mask is not None
        self.opened.copy_(share.body.opened)
        return share.body.mask

    def traced(self) -> None:
        """The trace has come to its end; others may keep its body, and have no part in runs."""
        mask: Any = self.body.mask
        if isinstance(mask, z2k.Stream):
            self.body.mask = mask.number

    def copy_out(self, x: SecretTensor, moved: Callable[[int], int]) -> None:
        """The opening that a segment made of its argument stays with the argument."""
        share, body = source(x), self.body
        if self.opened is None and body.opened is not None and share.dense and share.body.opened is None:
            assert body.mask is not None
            share.body.opened, share.body.mask = body.opened.clone(), moved(body.mask)

    def leave(self) -> Moved:
        """Go on with memory of its own.  Others may keep what it was traced with."""
        body = ShareStorage(self.words.clone())
        moved = [(self.words, body.words)]
        if self.body.opened is not None:
            body.opened, body.mask = self.body.opened.clone(), self.body.mask
            moved.append((self.body.opened, body.opened))
        self.body, self.words = body, body.words
        if self.opened is not None:
            self.opened = body.opened
        return moved


class LazyCopy(ShareStorage):
    """The result of a run, in the memory of the segment: copied once it is read, or once that memory is needed."""

    __slots__ = ("_held", "_source")

    def __init__(self, source: torch.Tensor) -> None:
        self._source: torch.Tensor | None = source
        self._held = source
        super().__init__(source)

    @property
    def rows(self) -> int:
        """Hosted holders."""
        return self._held.shape[0]

    @property
    def words(self) -> torch.Tensor:
        """A copy that stays."""
        if self._source is not None:
            self._held, self._source = self._source.clone(), None
        return self._held

    @words.setter
    def words(self, words: torch.Tensor) -> None:
        self._held = words


class State:
    """A cell that a segment changes: two buffers, of which each run reads one and writes the other.

    An interrupted run leaves the cell as it was.
    """

    def __init__(self, cell: TensorStorage) -> None:
        cell.settle()
        self.cell = cell
        self.shape = cell.body.shape
        self.scale = cell.scale
        self.began = self.bound = cell.bound  # before a run, and as it leaves it
        self.words = cell.body.words.clone()
        self.end = self.words
        self._copies: list[weakref.ref[LazyCopy] | None] = [None, None]  # of the two buffers
        self._begin = body = ShareStorage(self.words)
        body.shape = self.shape
        self._range: Any = None  # of what it ends with, where that is checked (pysmpc.mpc.derived.ranges)
        cell.replace(body, self.scale)
        cell.bound = self.bound

    @property
    def pair(self) -> tuple[torch.Tensor, torch.Tensor]:
        """What an odd run reads and writes, an even one writes and reads."""
        return self.words, self.end

    def ended(self, made: set[int], ranges: Mapping[ShareStorage, Any]) -> None:
        """The trace has come to its end.

        made: where buffers start that the trace made, and that no other state ends in.  ranges: of the bodies.
        """
        self.cell.settle()
        self.bound = self.cell.bound
        end = self.cell.body.words
        if (begins := ranges.get(self._begin)) is not None:
            begins.before = self._range = ranges.get(self.cell.body)
        start = end.untyped_storage().data_ptr()
        whole = end.storage_offset() == 0 and end.untyped_storage().nbytes() == self.words.untyped_storage().nbytes()
        if whole and start in made and end.is_contiguous():
            made.remove(start)
            self.end = end
        else:  # what did not change, or is what another value was
            self.end = end.clone()

    def leave(self) -> Moved:
        """Go on with memory of its own.  Others may keep what the trace made."""
        had = self.pair
        self.words, self.end = (memory.copied(each) for each in had)
        return list(zip(had, self.pair, strict=True))

    def copy_in(self, turn: int) -> None:
        """Have the cell's value in one of the pair, and the other free."""
        body = self.cell.body
        if body is not self._copy(turn):
            self.forget_range()
            self._detach(turn)
            self.pair[turn].copy_(body.words)
        self._detach(1 - turn)

    def forget_range(self) -> None:
        """What the next run begins with is not what the last one ended with."""
        if self._range is not None:
            self._range.forget()

    def free(self) -> None:
        """Have both free."""
        self.forget_range()
        self._detach(0)
        self._detach(1)

    def _copy(self, turn: int) -> LazyCopy | None:
        copy = self._copies[turn]
        return copy() if copy is not None else None

    def _detach(self, turn: int) -> None:
        """Whoever still refers to what is in a buffer gets a copy of it."""
        if (copy := self._copy(turn)) is not None:
            _ = copy.words

    def copy_out(self, turn: int) -> None:
        """Give the cell what is in one of the pair: what is read from it must never change."""
        copy = LazyCopy(self.pair[turn])
        copy.shape = self.shape
        self.cell.replace(copy, self.scale)
        self.cell.bound = self.bound
        self._copies[turn] = weakref.ref(copy)


class Result:
    """What a segment returns.  source: its words.  on_result: told of a copy, as soon as there is one.

    A product that nobody has read yet (a gradient of which only the update was wanted) stays one.
    """

    def __init__(self, traced: SecretTensor) -> None:
        share, body = traced.window(), traced.cell.body
        self._product = body.product if isinstance(body, DeferredProduct) else None
        self.source = share.words() if self._product is None else body.held
        self._scale, self._bound = share.scale, traced.cell.bound
        self._finer = traced.cell.finer
        self.on_result: Callable[[SecretTensor], None] | None = None
        self._like = traced
        self._copy: SecretTensor | None = None
        self._opened: torch.Tensor | None = None
        self._mask: Any = None  # under which it was opened
        self._own = False  # whether its words have memory that no other value has
        self._lent: weakref.ref[DeferredProduct] | None = None  # who reads them there

    @property
    def waits(self) -> bool:
        """Whether a part of it is made when it is first read."""
        return self._product is not None

    def leave(self) -> Moved:
        """Have the words of a product, which are hardly ever read, in memory of their own: then they are not copied."""
        whole = self.source.numel() * self.source.element_size() == self.source.untyped_storage().nbytes()
        self._own = self._product is not None and whole
        return [(self.source, torch.empty_like(self.source))] if self._own else []

    def free(self) -> None:
        """Have that memory free.  Whoever still refers to it gets a copy."""
        body = None if self._lent is None else self._lent()
        if body is not None and body.unread:
            body.own()

    def keep_opening(self, calls: list[Any]) -> None:
        """If it was opened, note that the opening is kept, too, at the end."""
        self._opened, self._mask = self._like.cell.body.opened, self._like.cell.body.mask
        if self._opened is not None:
            calls.append((self.opened, (self._opened,)))

    def opened(self, words: torch.Tensor) -> None:
        """It was opened under its mask: this is it."""
        self._held().body.opened = words.clone()

    def moved(self, moved: Callable[[Any], int]) -> None:
        """Where the stream of its mask is in this run."""
        if self._product is not None:
            body: Any = self._held().body
            body.product = self._product.masked(moved)
        if self._opened is not None:
            self._held().body.mask = moved(self._mask)

    def again(self) -> None:
        """It is there as it was traced."""
        self.there(self.source)
        if self._opened is not None:
            self.opened(self._opened)
        self.moved(lambda stream: stream.number if isinstance(stream, z2k.Stream) else stream)

    def there(self, words: torch.Tensor) -> None:
        """It is there, in these words, which may change later."""
        x = self._like
        share = Share.of(words if self._own else words.clone(), x.shape, self._scale)
        if self._product is not None:
            share.body = DeferredProduct.resumed(x.session.party, share.body.words, self._product)
            share.body.shape = share.shape
            self._lent = weakref.ref(share.body) if self._own else None
        self._copy = SecretTensor.of(share, x.session, x.unit, x.dtype)
        self._copy.cell.bound, self._copy.cell.finer = self._bound, self._finer
        if self.on_result is not None:
            self.on_result(self._copy)

    def same_as(self, other: Result) -> bool:
        """Whether the copy, once, has the words of another's trace."""
        return torch.equal(self.copy_out().cell.body.held, other.source)

    def _held(self) -> TensorStorage:
        assert self._copy is not None
        return self._copy.cell

    def copy_out(self) -> SecretTensor:
        """The copy, once."""
        copy, self._copy = self._copy, None
        assert copy is not None
        return copy
