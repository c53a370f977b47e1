"""Numbers mod 2^128, with which shares carry codes: the Python face of src/c/wide.inc.h.

A continuation of `pysmpc.ring.z2k`, by the same rules.  Loose numbers are four words of
weights 1, 2^32, 2^64 and 2^96, [..., 4, n]: sums and differences are torch's own, word by
word, for as long as none overflows (2^30 additions).  Tight ones are their lower and upper
halves, [..., 2, n].  Several arrays stand along the first dimension: `sets`.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from pysmpc import _ring
from pysmpc.ring.prg import KeySet
from pysmpc.ring.z2k import empty, launch, optional, packed_words, sized, use_torch_threads

LANES = 4
WORDS = 2
SUMS = 48  # of random sets of numbers
LEAVES = 32  # pairs of the bits of a word
DEALT_BITS = 3 * LEAVES + 1  # of a word, for a comparison
JOIN_WORDS = 7  # dealt for a join of one element

_LOW = (1 << 32) - 1


def loose_words(x: torch.Tensor) -> torch.Tensor:
    """Words [..., n] as weights 1 and 2^32, [..., 2, n]."""
    return torch.stack([x & _LOW, (x >> 32) & _LOW], -2)


def pack(x: torch.Tensor, m: torch.Tensor | None = None, subtract: bool = False) -> torch.Tensor:
    """Tight x + m, or x - m, of loose x [sets, 4, n] and tight m [sets, 2, n]."""
    use_torch_threads()
    sets, _, n = x.shape
    out = empty(sets, WORDS, n)
    launch(_ring.wide_pack, sets, sized(x, sets, LANES, n), optional(m, sets, WORDS, n), subtract, out, n)
    return out


def loosen(z: torch.Tensor) -> torch.Tensor:
    """Tight [sets, 2, n] as loose [sets, 4, n]."""
    use_torch_threads()
    sets, _, n = z.shape
    out = empty(sets, LANES, n)
    launch(_ring.wide_combine, sets, sized(z, sets, WORDS, n), None, None, None, None, out, n)
    return out


def combine(
    z: torch.Tensor | None,
    x: torch.Tensor,
    d: torch.Tensor,
    a: torch.Tensor | None = None,
    e: torch.Tensor | None = None,
) -> torch.Tensor:
    """Loose z + x d + a e: z, a [sets, 2, n] tight, x [sets, 4, n] loose, d, e [n] public words."""
    use_torch_threads()
    sets, _, n = x.shape
    out = empty(sets, LANES, n)
    launch(
        _ring.wide_combine,
        sets,
        optional(z, sets, WORDS, n),
        sized(x, sets, LANES, n),
        sized(d, n),
        optional(a, sets, WORDS, n),
        optional(e, n),
        out,
        n,
    )
    return out


def scaled(a: torch.Tensor, e: torch.Tensor) -> torch.Tensor:
    """Loose a e: tight a [sets, 2, n], public words e [n]."""
    use_torch_threads()
    sets, _, n = a.shape
    out = empty(sets, LANES, n)
    launch(_ring.wide_combine, sets, None, None, None, sized(a, sets, WORDS, n), sized(e, n), out, n)
    return out


def affine(
    factors: torch.Tensor, v: torch.Tensor, dealt: torch.Tensor | None = None, c: torch.Tensor | None = None
) -> torch.Tensor:
    """Loose factors [sets] times public words v [n].

    With tight dealt [sets, 2, 2 n] = [q, j] and public c [n]: less q, and plus j where c is not negative.
    """
    use_torch_threads()
    sets, n = len(factors), len(v)
    out = empty(sets, LANES, n)
    launch(
        _ring.wide_affine,
        sets,
        sized(v, n),
        factors,
        optional(dealt, sets, WORDS, 2 * n),
        optional(c, n),
        out,
        n,
    )
    return out


def total(keys: KeySet, stream: int, n: int) -> torch.Tensor:
    """Dealer: tight [2, n], the sum of what all holders draw of the stream, lower halves first."""
    use_torch_threads()
    out = empty(WORDS, n)
    launch(_ring.wide_deal, keys.native, stream, 0, None, False, 0, 0, out, n)
    return out


def deal(keys: KeySet, stream: int, first: int, values: torch.Tensor, factor: int, out: torch.Tensor) -> None:
    """Dealer: out [2 n] = factor * values less what all but the last holder draw from word `first`.

    values: words [n], or tight [2, n].
    """
    use_torch_threads()
    n = values.shape[-1]
    low, high = factor & ((1 << 64) - 1), factor >> 64
    launch(_ring.wide_deal, keys.native, stream, first, values, values.dim() == 2, low, high, sized(out, WORDS * n), n)


def add_matmul(z: torch.Tensor, d: torch.Tensor, y: torch.Tensor, left: bool = False) -> None:
    """Tight z [sets, 2, batch * m * n] += d @ y: words d [batch, m, k], tight y [sets, 2, batch, k, n], of any strides.

    left: y @ d, of y [sets, 2, batch, m, k] and d [batch, k, n].
    """
    use_torch_threads()
    sets, batch = len(y), len(d)
    (m, k), (k_, n) = (y.shape[3:], d.shape[1:]) if left else (d.shape[1:], y.shape[3:])
    if k != k_ or y.shape[1:3] != (WORDS, batch):
        raise ValueError(
            f"products of {tuple(d.shape)} and {tuple(y.shape)}, with y on the {'left' if left else 'right'}"
        )
    sized(z, sets, WORDS, batch * m * n)
    launch(_ring.wide_matmul, sets, batch, m, n, k, d, *d.stride(), y, *y.stride(), left, z)


def sums(coins: torch.Tensor, parts: Sequence[tuple[torch.Tensor, torch.Tensor | None]]) -> torch.Tensor:
    """Loose [parts, 4, 48]: for each of the lowest bits of public coins [n], the sum of the numbers where it is 1.

    Of a part, the lower halves [n], and the upper ones; without these, sums mod 2^64.
    """
    use_torch_threads()
    n = len(coins)
    halves = [each for low, high in parts for each in (sized(low, n), optional(high, n))]
    out = empty(len(parts), WORDS, SUMS)
    if parts:
        launch(_ring.wide_sums, len(parts), coins, halves, out, n)
    return loosen(out)


# --- bits, each the lowest of a number mod 2^64 -----------------------------------------


def leaves_deal(keys: KeySet, mask: int, stream: int, n: int, alpha: int, out: torch.Tensor) -> None:
    """Dealer: for `leaves` of n elements, of r, the total of the stream `mask`: shares and codes, out [2 * 97 n]."""
    use_torch_threads()
    launch(_ring.wide_leaves_deal, keys.native, mask, stream, alpha, sized(out, 2 * DEALT_BITS * n), n)


def leaves(
    keys: KeySet, stream: int, corrections: torch.Tensor | None, factors: torch.Tensor, c: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """[rows, 2 * 32 n]: for pairs of bits of 2 c and 2 r, whether the first is less, and whether it is equal.

    With bit 63 of r, [rows, n].  c [n] public; corrections [97 n]; factors [rows]: a public 1.  Neighbours stand half
    of all pairs apart.  Codes come from the stream behind that of shares.
    """
    use_torch_threads()
    rows, n = keys.rows, len(c)
    out, top = empty(rows, 2 * LEAVES * n), empty(rows, n)
    dealt = optional(corrections, DEALT_BITS * n)
    launch(_ring.wide_leaves, keys.native, stream, dealt, c, sized(factors, rows), out, top, n)
    return out, top


def join_deal(keys: KeySet, masks: int, stream: int, n: int, alpha: int, out: torch.Tensor) -> None:
    """Dealer: for a join, out [7 n]: codes [3 n] of the total of `masks`, shares and codes of its products [2, 2 n]."""
    use_torch_threads()
    launch(_ring.wide_join_deal, keys.native, masks, stream, alpha, sized(out, JOIN_WORDS * n), n)


def factors(
    keys: KeySet, masks: int, corrections: torch.Tensor | None, x: torch.Tensor, y: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """equal_1, less_0 and equal_0 of shares x and codes y, [rows, 4 n], less masks of a stream.

    The lowest bits of shares, packed, the other 63 [rows, 3 n], and the codes [rows, 3 n]; corrections [3 n] of those.
    """
    use_torch_threads()
    rows, n = keys.rows, x.shape[1] // 4
    packed, rest, code = empty(rows, packed_words(3 * n)), empty(rows, 3 * n), empty(rows, 3 * n)
    dealt = optional(corrections, 3 * n)
    both = (sized(each, rows, 4 * n) for each in (x, y))
    launch(_ring.wide_factors, keys.native, masks, dealt, *both, packed, rest, code, n)
    return packed, rest, code


def join(
    keys: KeySet,
    masks: tuple[int, torch.Tensor | None],
    dealt: tuple[int, torch.Tensor | None],
    x: torch.Tensor,
    opened: torch.Tensor,
) -> torch.Tensor:
    """[rows, 2 n] of x [rows, 4 n], neighbours joined: less_1 + equal_1 less_0 and equal_1 equal_0.

    masks: stream and corrections [3 n] of those of equal_1, less_0, equal_0, under which `opened` [3 n], of which the
    lowest bits are meant, was opened; dealt: the same [2 n] of the products of the first with the others.
    """
    use_torch_threads()
    rows, n = keys.rows, x.shape[1] // 4
    out = empty(rows, 2 * n)
    launch(
        _ring.wide_join,
        keys.native,
        masks[0],
        optional(masks[1], 3 * n),
        dealt[0],
        optional(dealt[1], 2 * n),
        sized(x, rows, 4 * n),
        sized(opened, 3 * n),
        out,
        n,
    )
    return out


def count_bits(packed: torch.Tensor, n: int) -> torch.Tensor:
    """[n] sums over the rows of the bits of [rows, ceil(n / 64)]; [0] of no rows."""
    use_torch_threads()
    rows = len(packed)
    out = empty(n if rows else 0)
    if rows:
        launch(_ring.wide_count, sized(packed, rows, packed_words(n)), rows, out, n)
    return out
