"""Keys and streams of uniform ring elements (AES-128 in counter mode).

A key comes from the operating system and is never shown.  A stream is named by a
number under a key; a word of a stream masks one value and nothing else, which is why
stream numbers are handed out by a counter (`pysmpc.session.dealer`) and never reused.  The keys
of a session with workers change with every batch of operations (`pysmpc.session.transcript`);
the upper bits of a stream's number tell under which of them it is drawn.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

import torch

from pysmpc import _ring
from pysmpc._ring import launch

KEY_BYTES = 16
EPOCH_BITS = 40  # of a stream's number; those above tell under which of the keys that follow from one it is drawn


def fresh_key() -> bytes:
    """Sixteen bytes from the operating system's generator."""
    return os.urandom(KEY_BYTES)


class KeySet:
    """Expanded keys of some holders, in the order of the holders.

    lead, target: position of the leading holder (who adds public constants) and of
    the one who is sent the dealer's corrections; -1 where they are not in this set.
    """

    __slots__ = ("native", "rows", "target")

    def __init__(self, keys: Sequence[bytes], lead: int = -1, target: int = -1) -> None:
        self.native = _ring.Keys(list(keys), lead, target)
        self.rows = len(keys)
        self.target = target

    def __repr__(self) -> str:
        return f"KeySet(of {self.rows})"

    def follow(self, digest: bytes) -> None:
        """Begin an epoch: its streams are drawn under keys that follow from these and 32 bytes."""
        self.native.follow(digest)

    def draw(
        self, stream: int, n: int, corrections: torch.Tensor | None = None, out: torch.Tensor | None = None
    ) -> torch.Tensor:
        """[rows, n] dealt shares: uniform words, and for the target the corrections, where there are any.

        out: where they are wanted; the corrections may be the target's row of it.
        """
        out = torch.empty((self.rows, n), dtype=torch.int64) if out is None else out
        launch(_ring.draw, self.native, stream, corrections, out, n)
        return out

    def mask(self, stream: int, shares: torch.Tensor) -> torch.Tensor:
        """[rows, n] shares minus the words of the stream."""
        out = torch.empty_like(shares)
        launch(_ring.mask, self.native, stream, shares, out, shares.shape[1])
        return out

    def total(self, stream: int, n: int) -> torch.Tensor:
        """[n] sum over the keys of the words of the stream."""
        out = torch.empty(n, dtype=torch.int64)
        launch(_ring.deal_sum, self.native, stream, out, n)
        return out

    def encode(self, stream: int, values: torch.Tensor, bits: int, out: torch.Tensor) -> None:
        """out [n] = integers of values [n] at scale 2^bits, less what all but the last holder draw: for an owner.

        values: float32 or float64, at least two in a row, at a multiple of 8 bytes of their storage; of magnitudes
        below 2^(62 - bits), none of them NaN.
        """
        n, size = values.numel(), values.element_size()
        whole = values[: n - n % 2].view(torch.int64)  # of an odd number the last stands behind it
        launch(_ring.encode, self.native, stream, whole, size, bits, out, n)

    def take(self, stream: int, values: torch.Tensor) -> torch.Tensor:
        """values less what all but the last holder draw, in place: the corrections, the last holder's shares."""
        launch(_ring.deal_take, self.native, stream, values, values.numel())
        return values
