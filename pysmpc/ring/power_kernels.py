"""Powers of e over a window, dealt and combined in one pass each (src/c/powers.inc.h)."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from pysmpc import _ring
from pysmpc._ring import launch
from pysmpc.ring.integer_functions import POWER_BITS
from pysmpc.ring.prg import KeySet
from pysmpc.ring.z2k import empty, optional, sized, use_torch_threads, wrap


@dataclass(frozen=True)
class Segmented:
    """Words times `step` go once round 2^segments segments; elements are in pieces that have a stream each.

    The words of a piece of m elements are [2^segments, m].
    """

    step: int
    segments: int
    piece: int

    def __post_init__(self) -> None:
        """Raise ValueError for segments that a word cannot tell."""
        if not 0 < self.segments < 32:
            raise ValueError(f"powers of {self.segments} bits of segments: from 1 to 31")

    @property
    def planes(self) -> int:
        """Dealt words an element."""
        return 1 << self.segments

    def deal(self, keys: KeySet, mask: int, stream: int, bits: int, corrections: torch.Tensor, n: int) -> None:
        """corrections [planes n] = powers at 2^bits of the stream `mask`, less others' words.

        Powers: `integer_functions.powers_dealt`.
        """
        use_torch_threads()
        shift = POWER_BITS - bits
        if not 0 < shift <= POWER_BITS:
            raise ValueError(f"powers at 2^{bits}: from 0, below {POWER_BITS}")
        launch(
            _ring.powers_deal, keys.native, mask, stream, 0, wrap(self.step), self.segments, shift, self.piece,
            sized(corrections, self.planes * n), n,
        )  # fmt: skip

    def combine(
        self,
        keys: KeySet,
        stream: int,
        corrections: torch.Tensor | None,
        c: torch.Tensor,
        start: int,
        table: tuple[torch.Tensor, torch.Tensor],
        constant: int,
    ) -> torch.Tensor:
        """[rows, n] sums of what was dealt, times `integer_functions.powers_public` of public c [n].

        table: mantissas and shifts, as there.  The lead adds a constant.
        """
        use_torch_threads()
        n, planes = c.numel(), self.planes
        mantissas, shifts = (sized(column, planes) for column in table)
        corrections, out = optional(corrections, planes * n), empty(keys.rows, n)
        launch(
            _ring.powers_combine, keys.native, stream, corrections, sized(c, n), wrap(start), wrap(self.step),
            self.segments, 1, self.piece, mantissas, shifts, wrap(constant), out, n,
        )  # fmt: skip
        return out
