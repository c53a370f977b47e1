"""Public numbers of which each run of a recorded step is told others, such as a rate that a scheduler sets.

While a step is recorded, an operation gets such a number as a `Number`.  It must not compute with it at once: what it
makes of it, it makes by `follow` and `tensor`, and before each run that is made again.  The results are ordinary
integers and tensors to everybody but the kernels, who read what they are now.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from pysmpc.ring.z2k import Told

#: (what must be the same in each run, integers that follow)
Made = tuple[Any, tuple[int, ...]]


class Number(float):
    """A number as it was when the step was recorded.  now: in the next run.  book: who is told of what follows.

    place: among the numbers of the book.
    """

    now: float
    book: Numbers
    place: int

    def __new__(cls, value: float, book: Numbers, place: int) -> Number:
        """A number of a book."""
        out = super().__new__(cls, value)
        out.now, out.book, out.place = float(value), book, place
        return out


class Numbers:
    """The numbers of one recorded step, and all that follows from them.

    refused: why it cannot be run with others, if it cannot.
    """

    def __init__(self) -> None:
        self.refused: str | None = None
        self._numbers: list[Number] = []
        self._used: set[int] = set()
        self._again: list[Callable[[], bool]] = []

    def number(self, value: float) -> Number:
        """One more, as an operation is to be called with."""
        self._numbers.append(Number(value, self, len(self._numbers)))
        return self._numbers[-1]

    @property
    def values(self) -> list[float]:
        """What they are in the next run."""
        return [each.now for each in self._numbers]

    def use(self, numbers: Sequence[Any], again: Callable[[], bool]) -> None:
        """again: makes what follows from the numbers anew; whether the calls of the step are those that they were."""
        self._used.update(id(x) for x in numbers)
        self._again.append(again)

    def end(self) -> None:
        """The step was recorded.  A number of which nothing follows may have been read in another way."""
        if any(id(x) not in self._used for x in self._numbers):
            self.refused = self.refused or "a public number changes, of which an operation does not say what follows"

    def take(self, values: Sequence[float]) -> bool:
        """Have everything follow from these; whether the calls of the step are those that they were."""
        for number, value in zip(self._numbers, values, strict=True):
            number.now = value
        try:
            found = [again() for again in self._again]  # each of them, whatever the others say
        except (ValueError, ArithmeticError):
            return False  # the operation itself will raise it, at its line
        return all(found)


def now(x: Any) -> Any:
    """What a number is in this run."""
    return x.now if isinstance(x, Told | Number) else x


def _book(numbers: Sequence[Any]) -> Numbers | None:
    return next((x.book for x in numbers if isinstance(x, Told | Number)), None)


def follow(function: Callable[..., Made], *numbers: Any) -> Made:
    """function(*numbers), made again for each run where one of them changes."""
    form, integers = function(*map(now, numbers))
    book = _book(numbers)
    if book is None:
        return form, integers
    told = tuple(Told(x, book) for x in integers)

    def again() -> bool:
        found, values = function(*map(now, numbers))
        if found != form or len(values) != len(told):
            return False
        for x, value in zip(told, values, strict=True):
            x.now = value
        return True

    book.use(numbers, again)
    return form, told


def tensor(values: Sequence[int]) -> torch.Tensor:
    """Integers as a tensor, which changes with them."""
    out = torch.tensor([now(x) for x in values], dtype=torch.int64)
    book = _book(values)
    if book is not None:

        def again() -> bool:
            out.copy_(torch.tensor([now(x) for x in values], dtype=torch.int64))
            return True

        book.use(values, again)
    return out


def refuse(reason: str, *numbers: Any) -> None:
    """Say that what is done with these numbers cannot be done with others."""
    book = _book(numbers)
    if book is not None:
        book.refused = book.refused or reason
