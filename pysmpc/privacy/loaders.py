"""Which examples each step sees, and what may be claimed about that."""

from __future__ import annotations

import itertools
import math
import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch.utils.data import BatchSampler, DataLoader, RandomSampler, SequentialSampler, TensorDataset

from pysmpc.api import calls
from pysmpc.api import parties as api_parties
from pysmpc.errors import PrivacyError
from pysmpc.privacy.draws import FAILURE, draw, slots_for, takes_part

#: By name: whose choice batches are, and how steps are counted.
SAMPLINGS = {
    "given": "batches as the loader gives them; every example may be in every batch",
    "epochs": "each example is in at most one batch of a pass of the loader",
    "poisson": "each example is in each batch with the same probability, drawn by the engine or its owner, unseen by "
    "others",
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


#: Numbers of draws, which rise within a session.
_numbers: weakref.WeakKeyDictionary[api_parties.Parties, Iterator[int]] = weakref.WeakKeyDictionary()


class OwnersLoader:
    """Batches that owners draw secretly, each of her own rows, for an engine with sampling="poisson".

    sources: for each owner what she has, such as images and labels, with rows in step: pointers to data at a worker, or
    plain tensors where all parties are in this process.  batch_size: rows that a batch has on average, of all owners
    together.  parties: who shares them.  options: more keywords of `sy.encrypt`.

    Each row of each owner takes part with the same probability.  A batch has the same number of slots every time, and
    more of them than rows are drawn; nobody but an owner knows in which of hers a row is.

    >>> loader = sy.privacy.OwnersLoader([(alice_x, alice_y), (bob_x, bob_y)], batch_size=256, parties=parties)
    """

    def __init__(
        self, sources: Sequence[Sequence[Any]], batch_size: int, parties: api_parties.Parties, **options: Any
    ) -> None:
        self._sources = [tuple(source) for source in sources]
        if not self._sources or not all(self._sources) or len({len(source) for source in self._sources}) != 1:
            raise ValueError("each owner has the same kinds of data: [(alice_x, alice_y), (bob_x, bob_y)]")
        for source in self._sources:
            if len({len(each) for each in source}) != 1 or not len(source[0]):
                raise ValueError("data of one owner must have the same number of rows, and at least one")
            if len({getattr(each, "owner", None) for each in source}) != 1:
                raise ValueError("data of one source must be of one owner: rows are drawn by her alone")
            if not all(hasattr(each, "drawn") or type(each) is torch.Tensor for each in source):
                raise PrivacyError("owners draw from pointers to their data, or from plain tensors that are theirs")
            party = parties.session.party
            if type(source[0]) is torch.Tensor and party.rows != party.holders:
                raise PrivacyError(
                    "plain tensors are this process's own; where parties are on machines of their own, pass "
                    'pointers to their data, parties["alice"].search(...)'
                )
        theirs = [getattr(source[0], "owner", None) or source[0].data_ptr() for source in self._sources]
        if len(set(theirs)) != len(theirs):
            raise PrivacyError("rows that are listed twice are drawn twice: name each owner, and her data, once")
        self._parties, self._options = parties, options
        self.rows = sum(len(source[0]) for source in self._sources)
        if not 1 <= batch_size <= self.rows:
            raise ValueError(f"batch_size is from 1 to the {self.rows} rows of all owners, not {batch_size}")
        self.batch_size, self.rate = int(batch_size), batch_size / self.rows
        self._slots = [slots_for(len(source[0]), self.rate) for source in self._sources]
        self._numbers = _numbers.setdefault(parties, itertools.count(1))

    def __len__(self) -> int:
        return math.ceil(self.rows / self.batch_size)

    def __repr__(self) -> str:
        return f"OwnersLoader({len(self._sources)} owners, {self.batch_size} of {self.rows} rows in {self.slots} slots)"

    @property
    def slots(self) -> int:
        """Of all owners."""
        return sum(self._slots)

    @property
    def failure(self) -> float:
        """Bound of the probability that a batch lacks a row which was drawn."""
        return len(self._sources) * FAILURE

    def draw(self) -> tuple[tuple[torch.Tensor, ...], torch.Tensor]:
        """(secret tensors, secret weights) of a new batch: 1 in a slot with a row, 0 in one without, with zeros."""
        found = [self._drawn(*each) for each in zip(self._sources, self._slots, strict=True)]
        together = [torch.cat(each) if len(found) > 1 else each[0] for each in zip(*found, strict=True)]
        return tuple(together[:-1]), together[-1]

    def _drawn(self, source: Sequence[Any], slots: int) -> list[torch.Tensor]:
        n = len(source[0])
        if hasattr(source[0], "drawn"):
            number = next(self._numbers)
            chosen = [each.drawn(number, self.rate, slots) for each in source]
            chosen.append(source[0].drawn(number, self.rate, slots).present())
        else:
            index, present = draw(n, self.rate, slots)
            zero = [torch.zeros((), dtype=each.dtype) for each in source]
            masks = [present.reshape(-1, *[1] * (each.dim() - 1)) for each in source]
            chosen = [torch.where(m, x[index], z) for m, x, z in zip(masks, source, zero, strict=True)]
            chosen.append(present.to(torch.float32))
        return [calls.encrypt(each, self._parties, **self._options) for each in chosen]


class PrivateLoader:
    """A loader whose batches may be trained on privately, one step each.

    began(): told before each pass.  gave(weights): told before each batch; weights: of its examples, 0 for padding,
    or None.
    """

    def __init__(
        self, loader: Any, sampling: str, began: Callable[[], None], gave: Callable[[torch.Tensor | None], None]
    ) -> None:
        self._loader, self._sampling, self._began, self._gave = loader, sampling, began, gave
        self.rate, self.expected, self.failure = 1.0, 0.0, 0.0
        if sampling == "epochs":
            _check_partition(loader)
        if isinstance(loader, OwnersLoader):
            if sampling != "poisson":
                raise PrivacyError(f'owners draw batches for sampling="poisson", not for {sampling!r}')
            self.rate, self.expected, self.failure = loader.rate, float(loader.batch_size), loader.failure
        elif sampling == "poisson":
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
        return getattr(self, "_tensors", ())

    @property
    def unseen(self) -> bool:
        """Whether owners draw, and this process does not know what."""
        return isinstance(self._loader, OwnersLoader)

    def __iter__(self) -> Iterator[Any]:
        self._began()
        if self._sampling != "poisson":
            for batch in self._loader:
                self._gave(None)
                yield batch
            return
        for _ in range(len(self._loader)):
            if isinstance(self._loader, OwnersLoader):
                batch, weights = self._loader.draw()
                self._gave(weights)
                yield batch
                continue
            rows = drawn(len(self._tensors[0]), self.rate)
            empty = not len(rows)  # then noise alone is a step: one row takes part with weight 0
            rows = torch.zeros(1, dtype=torch.int64) if empty else rows
            self._gave(torch.zeros(1) if empty else None)
            yield tuple(x[rows] for x in self._tensors)


def drawn(n: int, rate: float) -> torch.Tensor:
    """Which of n rows are in a batch, each with the rate, by a generator that nobody can seed."""
    return torch.nonzero(takes_part(n, rate)).reshape(-1)
