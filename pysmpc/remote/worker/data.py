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
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from pysmpc.datasets import idx
from pysmpc.errors import ConfigurationError, ObjectNotFoundError, RemoteError
from pysmpc.privacy.draws import Drawn, draw
from pysmpc.remote.arguments import DTYPES
from pysmpc.remote.config import Bounds, Data
from pysmpc.remote.data_steps import Items, apply
from pysmpc.remote.messages import DataInfo


class Entry(NamedTuple):
    """A tensor, and what is said about it.

    table: number of the table that its rows are of.  bound: of its magnitudes, as the owner's file states it.
    """

    tensor: torch.Tensor
    data: Data
    table: int = 0
    bound: float | None = None


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
