"""Datasets whose parts are at workers, and the loader that takes batches of them in turn."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from pysmpc.compat.pysyft import labels, verbs
from pysmpc.compat.pysyft.pointers import PointerTensor
from pysmpc.compat.pysyft.pysyft_errors import WorkerNotFoundException, unsupported
from pysmpc.compat.pysyft.workers import VirtualWorker

Batch = tuple[Any, Any]


class BaseDataset(Dataset[Any]):
    """Data and targets, rows in step, here or at one worker.

    transform: applied to the data of an item, or of a batch, when it is taken.
    """

    def __init__(
        self, data: Any, targets: Any, transform: Callable[[Any], Any] | None = None, owner: Any = None, **options: Any
    ) -> None:
        unsupported("BaseDataset", owner=owner, **options)
        if len(data) != len(targets):
            raise ValueError(f"{len(data)} rows of data and {len(targets)} of targets; there must be one target a row")
        self.data, self.targets, self.transform = data, targets, transform

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: Any) -> Batch:
        data = self.data[index]
        return data if self.transform is None else self.transform(data), self.targets[index]

    def __repr__(self) -> str:
        where = f" at {self.location.id}" if isinstance(self.data, PointerTensor) else ""
        return f"BaseDataset({len(self)} rows{where})"

    def _each(self, change: Callable[[Any], Any]) -> BaseDataset:
        return BaseDataset(change(self.data), change(self.targets), self.transform)

    @property
    def location(self) -> Any:
        """The worker that has it."""
        return labels.location(self.data)

    def send(self, worker: Any) -> BaseDataset:
        """A copy at a worker."""
        return self._each(lambda x: verbs.send(x, worker))

    def get(self) -> BaseDataset:
        """Back from its worker, or opened."""
        return self._each(verbs.get)

    def fix_prec(self, *arguments: Any, **options: Any) -> BaseDataset:
        """At fixed precision; targets of whole numbers stay as they are."""
        return self._each(lambda x: verbs.fix_precision(x, *arguments, **options) if x.is_floating_point() else x)

    fix_precision = fix_prec

    def float_prec(self) -> BaseDataset:
        """As real numbers again."""
        return self._each(verbs.float_precision)

    float_precision = float_prec

    def share(self, *workers: Any, **options: Any) -> BaseDataset:
        """Shared among workers."""
        return self._each(lambda x: verbs.share(x, *workers, **options))

    def federate(self, workers: Sequence[Any]) -> FederatedDataset:
        """Cut into equal runs of rows, one for each worker, and sent there."""
        return federate(self, workers)


def federate(dataset: Dataset[Any], workers: Sequence[Any]) -> FederatedDataset:
    """Any dataset of (data, target) items, cut into equal runs of rows, one for each worker.

    For a split in which workers have different classes see `pysmpc.federated.dirichlet`.
    """
    names = list(workers)
    if not names:
        raise ValueError("a dataset is federated among workers; there is none")
    size = len(dataset)  # type: ignore[arg-type]
    if size < len(names):
        raise ValueError(f"{size} rows cannot be cut among {len(names)} workers")
    step = math.ceil(size / len(names))
    if isinstance(dataset, BaseDataset) and dataset.transform is None:
        runs: Iterable[Batch] = [dataset[start : start + step] for start in range(0, size, step)]
    else:
        runs = DataLoader(dataset, batch_size=step)
    parts = [BaseDataset(data, targets).send(worker) for (data, targets), worker in zip(runs, names, strict=False)]
    return FederatedDataset(parts)


class FederatedDataset:
    """The parts of a dataset, by the names of their workers."""

    def __init__(self, datasets: Iterable[BaseDataset]) -> None:
        self.datasets = {part.location.id: part for part in datasets}
        if not self.datasets:
            raise ValueError("a federated dataset has at least one part")

    @property
    def workers(self) -> list[str]:
        """Names of those who have a part."""
        return list(self.datasets)

    def __getitem__(self, worker: str | VirtualWorker) -> BaseDataset:
        name = getattr(worker, "id", worker)
        if name not in self.datasets:
            raise WorkerNotFoundException(f"{name} has no part of this dataset; {', '.join(self.datasets)} have")
        return self.datasets[name]

    def get_dataset(self, worker: str | VirtualWorker) -> BaseDataset:
        """The part of a worker, brought here; the worker has it no longer."""
        part = self[worker].get()
        del self.datasets[getattr(worker, "id", worker)]
        return part

    def __len__(self) -> int:
        return sum(len(part) for part in self.datasets.values())

    def __repr__(self) -> str:
        parts = ", ".join(f"{name}: {len(part)} rows" for name, part in self.datasets.items())
        return f"FederatedDataset({parts})"


class FederatedDataLoader:
    """Batches of pointers (data, target), each at one worker: all of the first worker's, then the next one's.

    iter_per_worker: dictionaries by worker instead, of one batch of each who has one left.  num_iterators: the same, of
    at most so many workers at once.  Only row numbers are drawn here, in a new order each time if `shuffle`.
    """

    def __init__(
        self,
        federated_dataset: FederatedDataset,
        batch_size: int = 8,
        shuffle: bool = False,
        num_iterators: int = 1,
        drop_last: bool = False,
        collate_fn: Any = None,
        iter_per_worker: bool = False,
        **options: Any,
    ) -> None:
        unsupported("FederatedDataLoader", collate_fn=collate_fn, **options)
        if batch_size < 1 or num_iterators < 1:
            raise ValueError(f"batch_size is {batch_size} and num_iterators {num_iterators}; both are at least 1")
        self.federated_dataset, self.batch_size, self.drop_last = federated_dataset, batch_size, drop_last
        self.shuffle, self.num_iterators, self.iter_per_worker = shuffle, num_iterators, iter_per_worker

    @property
    def workers(self) -> list[str]:
        """Names of those who have rows."""
        return self.federated_dataset.workers

    def _batches(self, part: BaseDataset) -> Iterator[Batch]:
        order = torch.randperm(len(part)).tolist() if self.shuffle else None
        for start in range(0, len(part), self.batch_size):
            stop = min(start + self.batch_size, len(part))
            if stop - start < self.batch_size and self.drop_last:
                return
            yield part[start:stop] if order is None else part[order[start:stop]]

    def _count(self, part: BaseDataset) -> int:
        return len(part) // self.batch_size if self.drop_last else math.ceil(len(part) / self.batch_size)

    def __len__(self) -> int:
        counts = [self._count(part) for part in self.federated_dataset.datasets.values()]
        width = len(counts) if self.iter_per_worker else self.num_iterators
        if width == 1:
            return sum(counts)
        return sum(max(counts[first : first + width]) for first in range(0, len(counts), width))

    def __iter__(self) -> Iterator[Any]:
        parts = self.federated_dataset.datasets
        width = len(parts) if self.iter_per_worker else self.num_iterators
        if width == 1 and not self.iter_per_worker:
            for part in parts.values():
                yield from self._batches(part)
            return
        names = list(parts)
        for first in range(0, len(names), width):
            there = {name: self._batches(parts[name]) for name in names[first : first + width]}
            while batches := {name: batch for name, own in there.items() if (batch := next(own, None)) is not None}:
                yield {parts[name].location: batch for name, batch in batches.items()}
