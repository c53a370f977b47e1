"""Functions in integers, the same words on every machine: turns, noise, and powers of e."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from pysmpc import _ring
from pysmpc._ring import launch
from pysmpc.ring.prg import KeySet
from pysmpc.ring.z2k import empty, optional, sized, use_torch_threads, wrap

# --- functions in integers, the same words on every machine ----------------------


TURNS_BITS = 30  # scale of cosines and sines


def turns(phase: torch.Tensor, count: int) -> torch.Tensor:
    """[n] -> [2 * count, n]: rows 2 k - 2 and 2 k - 1 are cos and sin of k times an angle, 1 <= k <= count.

    A phase is a fraction of a turn, as a word: the angle is 2 pi phase / 2^64.  Results are integers at scale
    2^TURNS_BITS, off by less than 2^-29.5 for every multiple (src/c/turns.inc.h), and the same bits on every
    target.  Nothing branches on a phase or indexes by one, so that the phase may be secret.
    """
    use_torch_threads()
    n = phase.numel()
    out = empty(2 * count, n)
    launch(_ring.turns, sized(phase, n), count, out, n)
    return out


@dataclass(frozen=True)
class Multiples:
    """The first `terms` multiples of the angles of words times `step`, of elements in pieces that have a stream each.

    The words of a piece of m elements are [2 terms, m]: cosines of all multiples, then their sines.
    """

    step: int
    terms: int
    piece: int

    def deal(self, keys: KeySet, mask: int, stream: int, shift: int, corrections: torch.Tensor, n: int) -> None:
        """corrections [2 terms n] = the words at 2^(30 - shift) less others', of n angles of the stream `mask`."""
        use_torch_threads()
        if not 0 <= shift < TURNS_BITS:
            raise ValueError(f"cosines of {TURNS_BITS} bits less {shift}")
        corrections = sized(corrections, 2 * self.terms * n)
        launch(
            _ring.turns_deal, keys.native, mask, stream, wrap(self.step), self.terms, self.piece, shift, corrections, n
        )

    def combine(
        self,
        keys: KeySet,
        stream: int,
        corrections: torch.Tensor | None,
        c: torch.Tensor,
        coefficients: torch.Tensor,
        shift: int,
        constant: int,
    ) -> torch.Tensor:
        """[rows, n] sums of what was dealt, times a cos + b sin and a sin - b cos of public c [n].

        The lead adds a constant.
        coefficients: [2, terms] of magnitude 2^30 at most, a and then b.  shift: by how many bits the factors are
        rounded, 30 to 61.
        """
        use_torch_threads()
        if not TURNS_BITS <= shift < 62:
            raise ValueError(f"factors of 61 bits less {shift}: from {TURNS_BITS} to 61")
        n = c.numel()
        corrections = optional(corrections, 2 * self.terms * n)
        coefficients, out = sized(coefficients, 2, self.terms), empty(keys.rows, n)
        launch(
            _ring.turns_combine, keys.native, stream, corrections, sized(c, n), coefficients, wrap(self.step),
            self.terms, self.piece, shift, wrap(constant), out, n,
        )  # fmt: skip
        return out


def add_gaussian(words: torch.Tensor, thresholds: torch.Tensor, factor: int, z: torch.Tensor) -> torch.Tensor:
    """z [n] += factor times the number of thresholds below the lower 63 bits of words [n], the upper bit its sign.

    Returns [n]: how many thresholds a word is equal to; there, more bits have to decide.  Every word is compared with
    every threshold (src/c/gaussian.inc.h), so that words may be secret.
    """
    use_torch_threads()
    n = words.numel()
    tied = torch.empty_like(z)
    launch(_ring.gaussian, sized(words, n), thresholds, thresholds.numel(), factor, sized(z, n), tied, n)
    return tied


POWER_BITS = 40  # scale of powers of e before they are rounded
TABLE_BITS = 29  # and of public ones


def powers_dealt(r: torch.Tensor, step: int, segments: int, bits: int) -> torch.Tensor:
    """[n] -> [2^segments, n]: of y = r step mod 2^64 a power of e at 2^bits in the row of its segment, else 0.

    The upper `segments` bits of y are the segment; the next 33 less 2^32 are what is left of it, v 2^32 with |v| <= 1,
    and the power is that of -v, off by less than 2^-40.8 before it is rounded (src/c/powers.inc.h).  The same bits on
    every target; nothing branches on r or indexes by it.
    """
    use_torch_threads()
    n, shift = r.numel(), POWER_BITS - bits
    if not (0 < segments < 32 and 0 < shift <= POWER_BITS):
        raise ValueError(f"powers of {segments} bits of segments (1 to 31) at 2^{bits} (from 0, below {POWER_BITS})")
    out = empty(1 << segments, n)
    launch(_ring.powers_dealt, r, wrap(step), segments, shift, out, n)
    return out


def powers_public(
    c: torch.Tensor, start: int, step: int, segments: int, mantissas: torch.Tensor, shifts: torch.Tensor
) -> torch.Tensor:
    """[n] -> [2^segments, n]: what `powers_dealt` of r = c - x is multiplied by, for public c.

    With y = (c - start) step, its segment s and v as there: row p is mantissas[i] 2^-shifts[i] for i = s - p mod
    2^segments, times e^v at 2^29, rounded.  mantissas: below 2^29.  shifts: 1 to 62.
    """
    use_torch_threads()
    n, planes = c.numel(), 1 << segments
    if not 0 < segments < 32:
        raise ValueError(f"powers of {segments} bits of segments: from 1 to 31")
    out = empty(planes, n)
    mantissas, shifts = sized(mantissas, planes), sized(shifts, planes)
    launch(_ring.powers_public, c, wrap(start), wrap(step), segments, mantissas, shifts, out, n)
    return out
