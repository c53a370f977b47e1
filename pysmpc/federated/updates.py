"""What leaves a worker: an update, clipped and encoded there, times the number of rows that it was made from.

The terms are public and the same for all workers of a round.  Whether an update keeps to them is not: a worker whose
update does not leaves the round as one does that is late, and says why in its own log only.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import torch

from pysmpc.errors import EncodingError, RoundError
from pysmpc.privacy.noise_shares import noise_share, part_of
from pysmpc.ring.fixedpoint import LIMIT, Precision, decode

BITS = 24  # fractional, where there is room
FEWEST = 8
MAX_ROWS = 1 << 20
MAX_VALUE = 64.0
LARGEST_NOISE = 32  # standard deviations that no part of the noise is beyond


class Left(Exception):
    """Why a worker leaves a round.  The reason depends on its values, and is for its own log alone."""


@dataclass(frozen=True)
class Terms:
    """shapes: of what a worker leaves, by name.  max_norm: all of it together is clipped to this norm.

    max_value: of the magnitude of an element, before it is weighted.  max_rows: of a worker.  clients: at most so many
    take part.
    noise: where it is not 0, the sum is private: each worker counts the same, whatever her rows, and adds her part of
    Gaussian noise, so that `sharers` of them together add noise of this standard deviation to each element of the sum.
    """

    shapes: Mapping[str, tuple[int, ...]]
    clients: int
    max_norm: float | None = None
    max_value: float = MAX_VALUE
    max_rows: int = MAX_ROWS
    noise: float = 0.0
    sharers: int = 1

    def __post_init__(self) -> None:
        if self.max_norm is not None and not 0 < self.max_norm < math.inf:
            raise ValueError(f"max_norm is {self.max_norm}; it is a number above 0, or None for no clipping")
        if not 1 <= self.max_value < math.inf or self.max_rows < 1:
            raise ValueError(f"max_value is {self.max_value} and max_rows {self.max_rows}; both are at least 1")
        if not 0 <= self.noise < math.inf or not 1 <= self.sharers <= max(1, self.clients):
            raise ValueError(
                f"noise is {self.noise} of {self.sharers} workers; it is 0 or more, of 1 worker to all {self.clients}"
            )
        if self.noise and not (self.max_norm is not None and self.max_norm <= self.max_value):
            raise ValueError(
                f"a private sum needs max_norm, of at most max_value ({self.max_value:g}); max_norm is {self.max_norm}"
            )
        if self._room < FEWEST:
            raise EncodingError(
                f"{self.clients} workers of {self.max_rows} rows with values up to {self.max_value:g} leave "
                f"{self._room} fractional bits of 64; at least {FEWEST} are needed: declare a smaller max_rows or "
                "max_value"
            )
        if self.noise:
            part_of(self.noise, self.sharers, self.precision.scale)  # raises for noise that is too fine for its parts

    @property
    def _room(self) -> int:
        return min(BITS, math.floor(math.log2(LIMIT / self.bound)) - 1)

    @property
    def precision(self) -> Precision:
        """Of the words: as many bits as the sum of all has room for, at most 24."""
        return Precision(2, self._room)

    @property
    def size(self) -> int:
        """Words of an update: its elements, and the number of rows."""
        return 1 + sum(math.prod(shape) for shape in self.shapes.values())

    @property
    def bound(self) -> float:
        """No magnitude of the sum is above this."""
        if self.noise:
            return self.clients * (self.max_value + LARGEST_NOISE * self.noise)
        return self.clients * self.max_rows * self.max_value

    def encoded(self, values: Mapping[str, torch.Tensor], rows: int) -> torch.Tensor:
        """[size] words of an update times its rows, and the rows.  Raises Left, and RoundError for other shapes.

        Of a private sum: of an update with noise, and 1.  There, an update that is not finite is one of zeros, as
        leaving would tell of it.
        """
        self.check(values)
        whole = torch.empty(self.size, dtype=torch.float64)
        start = 0
        for name, shape in self.shapes.items():
            whole[start : start + math.prod(shape)].copy_(values[name].detach().reshape(-1))
            start += math.prod(shape)
        whole[-1] = 1.0
        if self.noise:
            rows = 1
            if not bool(torch.isfinite(whole).all()):
                whole[:-1] = 0.0
        if self.max_norm is not None:
            norm = float(whole[:-1].norm())
            if norm > self.max_norm:
                whole[:-1].mul_(self.max_norm / norm).clamp_(-self.max_norm, self.max_norm)  # rounding is not above
        least, greatest = (float(each) for each in torch.aminmax(whole))
        if not math.isfinite(least + greatest):
            raise Left("an element is NaN or infinite")
        if max(-least, greatest) > self.max_value:
            raise Left(f"an element is beyond {self.max_value:g} (max_value)")
        if not 1 <= rows <= self.max_rows:
            raise Left(f"{rows} rows; 1 to {self.max_rows} (max_rows) can take part")
        words = whole.mul_(rows * self.precision.scale).round_().long()
        if self.noise:
            words[:-1] += noise_share(self.size - 1, self.noise, self.sharers, self.precision.scale)
        return words

    def check(self, values: Mapping[str, torch.Tensor]) -> None:
        """RoundError, which is public, for other names or shapes than were declared."""
        found = {name: tuple(value.shape) for name, value in values.items()}
        wrong = [name for name in {**self.shapes, **found} if found.get(name) != self.shapes.get(name)]
        if wrong:
            first = wrong[0]
            raise RoundError(
                f"'{first}' is {_shape(found.get(first))} here, and {_shape(self.shapes.get(first))} was declared: "
                "all workers of a round must train the same model"
            )

    def mean(self, words: torch.Tensor) -> tuple[dict[str, torch.Tensor], int]:
        """The weighted mean, float64, and the number of rows, from the words of the sum."""
        return self.parted(decode(words, self.precision.scale))

    def parted(self, total: torch.Tensor) -> tuple[dict[str, torch.Tensor], int]:
        """The same of real numbers."""
        rows = round(float(total[-1]))
        flat = total[:-1].double() / rows
        out, start = {}, 0
        for name, shape in self.shapes.items():
            size = math.prod(shape)
            out[name] = flat[start : start + size].reshape(shape).clone()
            start += size
        return out, rows


def changes(
    before: Mapping[str, torch.Tensor], after: Mapping[str, torch.Tensor], staying: Collection[str] = ()
) -> dict[str, torch.Tensor]:
    """What training changed of real parameters and buffers, but those that stay.  RoundError for another model."""
    start = {name: value for name, value in before.items() if value.is_floating_point() and name not in staying}
    end = {name: value for name, value in after.items() if value.is_floating_point() and name not in staying}
    Terms({name: tuple(value.shape) for name, value in start.items()}, 1).check(end)
    return {name: value.double() - start[name].double() for name, value in end.items()}


def _shape(shape: Sequence[int] | None) -> str:
    return "absent" if shape is None else f"of shape {list(shape)}"
