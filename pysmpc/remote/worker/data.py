"""A worker's own data: files under names and tags, and what may be done to them before they are shared.

Items are the rows of the first dimension.  Whatever is shared remembers which items it
came from.

Values are checked once, when a worker reads them: against the bounds in its owner's file, and for NaN and
infinity.  After that, nothing a driver asks for fails because of a value, since a driver who sees
which steps fail would read the data by a binary search.  Steps refuse arguments and shapes, which are
public; values that leave the range saturate and are counted, in the same time whatever they are: no
step branches or indexes on a value, or makes numbers (subnormal ones) that processors are slower with.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from pysmpc.datasets import idx
from pysmpc.errors import ConfigurationError, ObjectNotFoundError, RemoteError
from pysmpc.privacy.draws import Drawn, draw
from pysmpc.remote.arguments import DTYPES, leaves
from pysmpc.remote.config import Bounds, Data
from pysmpc.remote.messages import DataInfo
from pysmpc.ring.fixedpoint import saturating_integers
from pysmpc.tensor.secret import SecretTensor

TINY = torch.finfo(torch.float32).tiny  # the least normal float32, 2**-126
HUGE = 1 / TINY
LARGEST = torch.finfo(torch.float32).max


class Entry(NamedTuple):
    """A tensor, and what is said about it.

    table: number of the table that its rows are of.  bound: of its magnitudes, as the owner's file states it.
    """

    tensor: torch.Tensor
    data: Data
    table: int = 0
    bound: float | None = None


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


class Draws:
    """Rows that an owner draws for one driver, secretly.  The last draw is kept, for data with rows in step."""

    def __init__(self) -> None:
        self._key: tuple[int, float, int, int] | None = None  # with how many rows
        self._drawn: Drawn | None = None

    def take(self, found: Items, number: int, rate: float, slots: int) -> Items:
        """Items of the draw of this number, made at its first use, in slots.  RemoteError for bad arguments."""
        n = len(found.items)
        if type(number) is not int or type(slots) is not int or not 1 <= slots <= max(n, 1):
            raise RemoteError("rows are drawn for a number, into 1 slot or more, and no more than there are rows")
        if not isinstance(rate, float) or not 0 < rate <= 1 or found.present is not None or not n:
            raise RemoteError("rows are drawn once, at a rate from 0 to 1, of data that have some")
        if self._drawn is None or self._key != (number, rate, slots, n):
            if self._key is not None and number <= self._key[0]:
                raise RemoteError(f"draw {number} comes after draw {self._key[0]}, and is no new one")
            self._key, self._drawn = (number, rate, slots, n), draw(n, rate, slots)
        index, present = self._drawn
        values = found.values[index]
        shown = present.reshape(-1, *[1] * (values.dim() - 1))
        zero = torch.zeros((), dtype=values.dtype)
        return Items(torch.where(shown, values, zero), torch.zeros_like(index), found.saturated, present)


class Store:
    """All of a worker's data, by name."""

    def __init__(self, data: Mapping[str, Data]) -> None:
        """Read and check all of it; ConfigurationError for what cannot be read or is out of its bounds."""
        self._entries: dict[str, Entry] = {}
        tables = {"": 0}
        for name, each in data.items():
            table = tables.setdefault(each.table, len(tables))
            unknown = set(each.arrays)
            for key, tensor in read(Path(each.path)):
                entry = f"{name}/{key}" if key else name
                bounds = each.bounds(key)
                self._entries[entry] = Entry(checked(f"data.{entry}", tensor, bounds), each, table, bounds.largest)
                unknown.discard(key)
            if unknown:
                raise ConfigurationError(
                    f"data.{name}.arrays: {each.path} has no array named {', '.join(map(repr, sorted(unknown)))}"
                )

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def names(self) -> list[str]:
        """Of all of it."""
        return list(self._entries)

    def __getitem__(self, name: str) -> Entry:
        try:
            return self._entries[name]
        except KeyError:
            raise ObjectNotFoundError(f"there are no data named {name!r} here") from None

    def search(self, tags: Sequence[str]) -> list[DataInfo]:
        """What carries all of the tags, or is called so."""
        return [
            DataInfo(
                name, list(tensor.shape), str(tensor.dtype).removeprefix("torch."), data.tags, data.description, bound
            )
            for name, (tensor, data, _, bound) in self._entries.items()
            if all(tag in data.tags or tag == name for tag in tags)
        ]

    def items(self, name: str, steps: Sequence[Sequence[Any]], draws: Draws | None = None) -> Items:
        """Data after the steps.  draws: of the driver, for data that stay secret."""
        tensor = self[name].tensor
        found = Items(tensor, torch.arange(len(tensor) if tensor.dim() else 1))
        for verb, *arguments in steps:
            if verb == "drawn" and draws is not None and len(arguments) == 3:
                found = draws.take(found, *arguments)
            else:
                found = apply(found, verb, arguments)
        return found


# --- files --------------------------------------------------------------------------


def read(path: Path) -> Iterator[tuple[str, torch.Tensor]]:
    """(key, tensor) of a file; the key is empty where a file has one tensor."""
    suffixes = [s for s in path.suffixes if s != ".gz"]
    kind = suffixes[-1] if suffixes else ""
    try:
        if kind == ".npz":
            with np.load(path, allow_pickle=False) as arrays:
                for key in arrays.files:
                    yield key, _numbers(arrays[key])
        elif kind == ".npy":
            yield "", _numbers(np.load(path, allow_pickle=False))
        elif kind == ".safetensors":
            from safetensors.torch import load_file

            yield from load_file(path).items()
        elif kind == ".csv":
            yield "", _csv(path)
        elif "idx" in path.name:
            yield "", _numbers(idx.read(path, idx.read_bytes(path)[3]))
        else:
            raise ConfigurationError(f"{path} is none of .npz, .npy, .safetensors, .csv and IDX")
    except ConfigurationError:
        raise
    except Exception as error:
        raise ConfigurationError(f"{path} cannot be read: {error}") from None


def _numbers(array: Any) -> torch.Tensor:
    if isinstance(array, torch.Tensor):
        return array
    if array.dtype.kind not in "biuf":
        raise ConfigurationError(f"arrays of {array.dtype} are no numbers")
    if array.dtype.kind == "u" and array.dtype.itemsize > 1:
        if (array > np.iinfo(np.int64).max).any():
            raise ConfigurationError("whole numbers of 2**63 and above cannot be shared")
        array = array.astype(np.int64)
    return torch.from_numpy(np.ascontiguousarray(array.astype(array.dtype.newbyteorder("="))))


def _csv(path: Path) -> torch.Tensor:
    """Rows of numbers, after a line of names if there is one."""
    with path.open(newline="", encoding="utf-8") as file:
        lines = [line for line in csv.reader(file) if line]
    if lines and not _is_number(lines[0][0]):
        lines = lines[1:]
    if not lines:
        raise ConfigurationError(f"{path} has no rows of numbers")
    return torch.tensor([[float(cell) for cell in line] for line in lines], dtype=torch.float64).float()


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


# --- checks when data are read ------------------------------------------------------


def checked(what: str, tensor: torch.Tensor, bounds: Bounds) -> torch.Tensor:
    """The tensor as it will be used, if its values are within bounds; ConfigurationError, for its owner, if not.

    NaN and infinity are refused, whatever the bounds.  Subnormal numbers, below 2**-126, become zero.
    """
    if tensor.dtype not in DTYPES.values():
        raise ConfigurationError(f"{what}: elements of {tensor.dtype} cannot be shared; there are {', '.join(DTYPES)}")
    floating = tensor.is_floating_point()
    if floating:
        _refuse(what, ~torch.isfinite(tensor), "NaN or infinite; clean the data first")
    if bounds.classes is not None:
        if floating:
            raise ConfigurationError(f"{what}: labels are whole numbers, these are {tensor.dtype}")
        labels = tensor.long()
        _refuse(what, (labels < 0) | (labels >= bounds.classes), f"no labels from 0 to {bounds.classes - 1}")
    values = tensor.double() if floating else tensor.long()
    if bounds.min is not None:
        least = bounds.min if floating else _within_int64(math.ceil(bounds.min))
        _refuse(what, values < least, f"below min, which is {bounds.min}")
    if bounds.max is not None:
        greatest = bounds.max if floating else _within_int64(math.floor(bounds.max))
        _refuse(what, values > greatest, f"above max, which is {bounds.max}")
    if floating and tensor.dtype != torch.float16:  # whose subnormal numbers are normal ones wherever they are used
        return torch.where(tensor.abs() < torch.finfo(tensor.dtype).tiny, torch.zeros_like(tensor), tensor)
    return tensor


def _within_int64(bound: int) -> int:
    return min(max(bound, -(1 << 63)), (1 << 63) - 1)


def _refuse(what: str, bad: torch.Tensor, how: str) -> None:
    """ConfigurationError if any element is bad: how many are, and where the first is, but no value."""
    if count := int(bad.sum()):
        first = bad.nonzero()[0].tolist()
        raise ConfigurationError(f"{what}: {count} of {bad.numel()} values are {how}; the first is at {first}")


# --- steps --------------------------------------------------------------------------

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
