"""What may be done to data before they are shared: the driver knows the shapes of the results, a worker does it.

Items are the rows of the first dimension.  Whatever is shared remembers which items it came from.  Steps refuse
arguments and shapes, which are public; values that leave the range saturate and are counted, in the same time whatever
they are: no step branches or indexes on a value, or makes numbers (subnormal ones) that processors are slower with.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch

from pysmpc.errors import RemoteError
from pysmpc.remote.arguments import leaves
from pysmpc.ring.fixedpoint import saturating_integers
from pysmpc.tensor.secret import SecretTensor

TINY = torch.finfo(torch.float32).tiny  # the least normal float32, 2**-126

HUGE = 1 / TINY

LARGEST = torch.finfo(torch.float32).max


class Items(NamedTuple):
    """Elements, the numbers of the items that they came from, and how many elements were out of range so far.

    The last is a tensor of one number, which is for the owner to read, and for nothing else here.  present: of rows
    that the owner drew, in which places there is one; the numbers of the items say nothing then.
    """

    values: torch.Tensor
    items: torch.Tensor
    saturated: torch.Tensor | int = 0
    present: torch.Tensor | None = None

    def having(self, values: torch.Tensor, saturated: torch.Tensor | int = 0) -> Items:
        """Other elements of the same items, so many of which were out of range."""
        return Items(values, self.items, self.saturated + saturated, self.present)

    def at(self, where: torch.Tensor | slice) -> Items:
        """Some of the items."""
        present = None if self.present is None else self.present[where]
        return Items(self.values[where], self.items[where], self.saturated, present)


Step = Callable[..., Items]

STEPS: dict[str, Step] = {}


def step(function: Step) -> Step:
    """A step that drivers may name."""
    STEPS[function.__name__] = function
    return function


def apply(found: Items, verb: str, arguments: Sequence[Any]) -> Items:
    """One step; RemoteError for one that is not listed, and for arguments or shapes that it cannot be done with."""
    if verb not in STEPS:
        raise RemoteError(
            f"{str(verb)[:80]!r} is not done to data before they are shared; there are {', '.join(STEPS)}"
        )
    if any(isinstance(x, SecretTensor) for x in leaves(arguments)):
        raise RemoteError(f"{verb}: arguments of steps are public, and here is a secret")
    try:
        return STEPS[verb](found, *arguments)
    except (TypeError, IndexError, RuntimeError, ValueError, OverflowError) as error:
        raise RemoteError(f"{verb}: {error}") from None


@step
def rows(found: Items, index: torch.Tensor) -> Items:
    """Items by their numbers."""
    if not isinstance(index, torch.Tensor) or index.dtype != torch.int64 or index.dim() != 1:
        raise RemoteError("items are chosen by a list of their numbers")
    n = len(found.items)
    if not index.is_meta and index.numel() and not 0 <= int(index.min()) <= int(index.max()) < n:
        raise IndexError(f"items are numbered from 0 to {n - 1}")
    return found.at(index)


@step
def cut(found: Items, start: int | None, stop: int | None, stride: int | None) -> Items:
    """A range of items."""
    return found.at(slice(start, stop, stride))


@step
def drawn(found: Items, *arguments: Any) -> Items:
    """Rows that the owner draws.  Only of data that she shares, as which rows they are is secret (`Draws`)."""
    raise RemoteError("rows that an owner draws are shared, and never fetched: nobody else may know which they are")


@step
def present(found: Items) -> Items:
    """Real numbers: one in each slot that has a row, zero elsewhere."""
    if found.present is None:
        raise RemoteError("only of rows that an owner draws it is a question which slots have one")
    return found.having(found.present.to(torch.float32))


@step
def flatten(found: Items) -> Items:
    """Each item as a row."""
    return found.having(found.values.flatten(1))


@step
def reshape(found: Items, sizes: Sequence[int]) -> Items:
    """Each item in another shape."""
    return found.having(found.values.reshape(len(found.values), *sizes))


@step
def float_(found: Items) -> Items:
    """As real numbers."""
    values = found.values
    return found.having(*_single(values)) if values.dtype == torch.float64 else found.having(values.float())


@step
def long(found: Items) -> Items:
    """As integers, toward zero."""
    values = found.values
    return found.having(*saturating_integers(values)) if values.is_floating_point() else found.having(values.long())


@step
def scale(found: Items, factor: float, offset: float) -> Items:
    """values * factor + offset, real."""
    factor, offset = _public("the factor", factor), _public("the offset", offset)
    if factor and abs(factor) < TINY:
        raise RemoteError(f"the factor is public and at least 2**-126 in magnitude, or zero, not {factor!r}")
    if abs(offset) < TINY:
        offset = 0.0
    real = float_(found)
    return real.having(*_single(real.values.double() * factor + offset))


@step
def divide(found: Items, divisor: float) -> Items:
    """values / divisor, real."""
    divisor = _public("the divisor", divisor)
    if abs(divisor) < TINY:
        raise RemoteError(f"the divisor is public and at least 2**-126 in magnitude, not {divisor!r}")
    real = float_(found)
    # in float64 by the inverse, as the time of a division depends on what is divided; float32 hides the difference
    return real.having(*_single(real.values.double() * (1 / divisor)))


@step
def one_hot(found: Items, classes: int) -> Items:
    """Real numbers: one at the label, zero elsewhere; nothing but zeros for a label that is none of the classes."""
    if found.values.is_floating_point() or type(classes) is not int or classes < 1:
        raise RemoteError("one_hot takes integer labels and a number of classes")
    labels = found.values.long()
    outside = ((labels < 0) | (labels >= classes)).sum()
    return found.having((labels.unsqueeze(-1) == torch.arange(classes)).float(), outside)


def _public(what: str, value: Any) -> float:
    """A public number as a float; RemoteError unless it is one that no value in range leads out of float64 with."""
    if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value) or abs(value) > HUGE:
        raise RemoteError(f"{what} is a public number of at most 2**126 in magnitude, not {str(value)[:80]}")
    return float(value)


def _single(values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """float64 as float32, and how many were out of range: the largest numbers there are stand for them.

    Numbers too small become zero here, since the processor takes longer for subnormal ones.
    """
    kept = values.clamp(-LARGEST, LARGEST)
    kept = torch.where(kept.abs() < TINY, torch.zeros_like(kept), kept)
    return kept.float(), (values.abs() > LARGEST).sum()
