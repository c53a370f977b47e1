"""Truncations by powers of two up to 2^16 of what is opened again (src/c/reopen.inc.h): one call a step.

Lanes are of 16 bits, four in a word.
"""

from __future__ import annotations

import torch

from pysmpc import _ring
from pysmpc._ring import launch
from pysmpc.ring.prg import KeySet
from pysmpc.ring.z2k import Divisor, empty, optional, sized, use_torch_threads


def lane_words(n: int) -> int:
    """Words of n lanes."""
    return (n + 3) // 4


def reopen_words(n: int) -> int:
    """Words of corrections for n elements."""
    return n + 2 * lane_words(n)


def _checked(divisor: Divisor) -> Divisor:
    by: int = divisor.value
    if by > 1 << 16 or by & (by - 1):
        raise ValueError(f"only powers of two up to 2**16 leave 16 bits to be opened, not {by}")
    return divisor


def reopen_deal(keys: KeySet, base: int, divisor: Divisor, out: torch.Tensor, n: int) -> None:
    """Dealer: corrections [reopen_words(n)]."""
    use_torch_threads()
    launch(_ring.reopen_deal, keys.native, base, _checked(divisor), sized(out, reopen_words(n)), n)


def reopen_mask(
    keys: KeySet, base: int, divisor: Divisor, z: torch.Tensor, corrections: torch.Tensor | None
) -> torch.Tensor:
    """Holders: the message z + offset + r, [rows, n]."""
    use_torch_threads()
    rows, n = z.shape
    if rows != keys.rows:
        raise ValueError(f"{rows} rows of shares, of a party that has {keys.rows}")
    out = torch.empty_like(z)
    dealt = optional(corrections, reopen_words(n))
    launch(_ring.reopen_mask, keys.native, base, _checked(divisor), z, dealt, out, n)
    return out


def reopen_finish(
    keys: KeySet, base: int, divisor: Divisor, c: torch.Tensor, corrections: torch.Tensor | None
) -> torch.Tensor:
    """Holders: shares of the quotient from the opened c, [rows, n]."""
    n = c.shape[1]
    out = empty(keys.rows, n)
    dealt = optional(corrections, reopen_words(n))
    launch(_ring.reopen_finish, keys.native, base, _checked(divisor), c, dealt, out, n)
    return out


def reopen_message(keys: KeySet, base: int, divisor: Divisor, c: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """Holders: the message that opens the quotient v again, [rows, lane_words(n)]."""
    rows, n = sized(v, keys.rows, c.shape[1]).shape
    out = empty(rows, lane_words(n))
    launch(_ring.reopen_message, keys.native, base, _checked(divisor), c, v, out, n)
    return out


def reopen_opened(divisor: Divisor, c: torch.Tensor, lanes: torch.Tensor) -> torch.Tensor:
    """The quotient less its mask, [1 or 0, n], from the sums of the messages."""
    n = c.shape[1]
    out = empty(*c.shape)
    if len(c):
        launch(_ring.reopen_opened, _checked(divisor), c, sized(lanes, 1, lane_words(n)), out, n)
    return out


def add_lanes(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """x + y, lane by lane, of equal shape."""
    out = torch.empty_like(x)
    launch(_ring.add_lanes, x, sized(y, *x.shape), out, x.numel())
    return out


def rows_lanes(x: torch.Tensor) -> torch.Tensor:
    """[rows, n] -> [1, n] sums, lane by lane; [0, n] -> [0, n]."""
    out = x[:1]
    for row in range(1, len(x)):
        out = add_lanes(out, x[row : row + 1])
    return out
