"""A worker's own data: files under names and tags, and what may be done to them before they are shared.

Items are the rows of the first dimension.  Whatever is shared remembers which items it
came from.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from pysmpc.datasets import idx
from pysmpc.errors import ConfigurationError, RemoteError
from pysmpc.federated.errors import ObjectNotFoundError
from pysmpc.remote.config import Data
from pysmpc.remote.messages import DataInfo


class Entry(NamedTuple):
    """A tensor, and what is said about it.  table: number of the table that its rows are of."""

    tensor: torch.Tensor
    data: Data
    table: int = 0


class Items(NamedTuple):
    """Elements, and the numbers of the items that they came from."""

    values: torch.Tensor
    items: torch.Tensor


class Store:
    """All of a worker's data, by name."""

    def __init__(self, data: Mapping[str, Data]) -> None:
        self._entries: dict[str, Entry] = {}
        tables = {"": 0}
        for name, each in data.items():
            table = tables.setdefault(each.table, len(tables))
            for key, tensor in read(Path(each.path)):
                self._entries[f"{name}/{key}" if key else name] = Entry(tensor, each, table)

    def __len__(self) -> int:
        return len(self._entries)

    def __getitem__(self, name: str) -> Entry:
        try:
            return self._entries[name]
        except KeyError:
            raise ObjectNotFoundError(f"there are no data named {name!r} here") from None

    def search(self, tags: Sequence[str]) -> list[DataInfo]:
        """What carries all of the tags, or is called so."""
        return [
            DataInfo(name, list(tensor.shape), str(tensor.dtype).removeprefix("torch."), data.tags, data.description)
            for name, (tensor, data, _) in self._entries.items()
            if all(tag in data.tags or tag == name for tag in tags)
        ]

    def items(self, name: str, steps: Sequence[Sequence[Any]]) -> Items:
        """Data after the steps."""
        tensor = self[name].tensor
        found = Items(tensor, torch.arange(len(tensor) if tensor.dim() else 1))
        for verb, *arguments in steps:
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


# --- steps --------------------------------------------------------------------------

Step = Callable[..., Items]
STEPS: dict[str, Step] = {}


def step(function: Step) -> Step:
    """A step that drivers may name."""
    STEPS[function.__name__] = function
    return function


def apply(found: Items, verb: str, arguments: Sequence[Any]) -> Items:
    """One step; RemoteError for one that is not listed."""
    if verb not in STEPS:
        raise RemoteError(
            f"{str(verb)[:80]!r} is not done to data before they are shared; there are {', '.join(STEPS)}"
        )
    try:
        return STEPS[verb](found, *arguments)
    except (TypeError, IndexError, RuntimeError, ValueError) as error:
        raise RemoteError(f"{verb}: {error}") from None


@step
def rows(found: Items, index: torch.Tensor) -> Items:
    """Items by their numbers."""
    return Items(found.values[index], found.items[index])


@step
def cut(found: Items, start: int | None, stop: int | None, stride: int | None) -> Items:
    """A range of items."""
    where = slice(start, stop, stride)
    return Items(found.values[where], found.items[where])


@step
def flatten(found: Items) -> Items:
    """Each item as a row."""
    return Items(found.values.flatten(1), found.items)


@step
def reshape(found: Items, sizes: Sequence[int]) -> Items:
    """Each item in another shape."""
    return Items(found.values.reshape(len(found.values), *sizes), found.items)


@step
def float_(found: Items) -> Items:
    """As real numbers."""
    return Items(found.values.float(), found.items)


@step
def long(found: Items) -> Items:
    """As integers."""
    return Items(found.values.long(), found.items)


@step
def scale(found: Items, factor: float, offset: float) -> Items:
    """values * factor + offset, real."""
    return Items(found.values.float() * factor + offset, found.items)


@step
def divide(found: Items, divisor: float) -> Items:
    """values / divisor, real."""
    return Items(found.values.float() / divisor, found.items)


@step
def one_hot(found: Items, classes: int) -> Items:
    """Real numbers: one at the label, zero elsewhere."""
    if found.values.is_floating_point() or classes < 1:
        raise RemoteError("one_hot takes integer labels and a number of classes")
    return Items(torch.nn.functional.one_hot(found.values.long(), classes).float(), found.items)
