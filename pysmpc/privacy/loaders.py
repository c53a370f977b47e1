"""Which examples each step sees, and what may be claimed about that."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.utils.data import BatchSampler, DataLoader, RandomSampler, SequentialSampler, TensorDataset

from pysmpc.errors import PrivacyError
from pysmpc.prg import KeySet, fresh_key

#: By name: whose choice batches are, and how steps are counted.
SAMPLINGS = {
    "given": "batches as the loader gives them; every example may be in every batch",
    "epochs": "each example is in at most one batch of a pass of the loader",
    "poisson": "each example is in each batch with the same probability, drawn by the engine, unseen by others",
}


def _check_partition(loader: Any) -> None:
    if isinstance(loader, DataLoader):
        batches = loader.batch_sampler
        rows = batches.sampler if type(batches) is BatchSampler else None
        once = type(rows) is SequentialSampler or (
            type(rows) is RandomSampler and not rows.replacement and rows.num_samples <= len(loader.dataset)  # type: ignore[arg-type]
        )
        if once:
            return
    raise PrivacyError(
        'sampling="epochs" needs a torch DataLoader with torch\'s own sampler, without replacement: only then each '
        f"example is in one batch of an epoch.  This loader ({type(loader).__name__}) may repeat examples; use "
        'sampling="given", which counts every step in full'
    )


class PrivateLoader:
    """A loader whose batches may be trained on privately, one step each.

    began(): told before each pass.  gave(weights): told before each batch; weights: of its examples, 0 for padding,
    or None.
    """

    def __init__(
        self, loader: Any, sampling: str, began: Callable[[], None], gave: Callable[[torch.Tensor | None], None]
    ) -> None:
        self._loader, self._sampling, self._began, self._gave = loader, sampling, began, gave
        self.rate, self.expected = 1.0, 0.0
        if sampling == "epochs":
            _check_partition(loader)
        if sampling == "poisson":
            data = getattr(loader, "dataset", None)
            if not isinstance(data, TensorDataset) or not getattr(loader, "batch_size", None):
                raise PrivacyError(
                    'sampling="poisson" draws rows itself: pass a DataLoader over a TensorDataset, with a batch_size'
                )
            self._tensors = data.tensors
            size = int(loader.batch_size)
            self.rate, self.expected = min(1.0, size / len(data)), float(min(size, len(data)))

    def __len__(self) -> int:
        return len(self._loader)

    def tensors(self) -> tuple[torch.Tensor, ...]:
        """What rows are drawn of, where the engine draws them."""
        return self._tensors if self._sampling == "poisson" else ()

    def __iter__(self) -> Iterator[Any]:
        self._began()
        if self._sampling != "poisson":
            for batch in self._loader:
                self._gave(None)
                yield batch
            return
        for _ in range(len(self._loader)):
            rows = drawn(len(self._tensors[0]), self.rate)
            empty = not len(rows)  # then noise alone is a step: one row takes part with weight 0
            rows = torch.zeros(1, dtype=torch.int64) if empty else rows
            self._gave(torch.zeros(1) if empty else None)
            yield tuple(x[rows] for x in self._tensors)


def drawn(n: int, rate: float) -> torch.Tensor:
    """Which of n rows are in a batch, each with the rate, by a generator that nobody can seed."""
    words = KeySet([fresh_key()]).draw(0, n)[0]
    return torch.nonzero(((words >> 11) & ((1 << 53) - 1)) < round(rate * 2.0**53)).reshape(-1)
