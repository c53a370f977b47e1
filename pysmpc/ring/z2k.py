"""Arithmetic on shares: the Python face of the compiled kernels.

Kernels are called through one door, `launch(kernel, *arguments)`, which checks that each argument is of
the kind that the kernel declares and tells whoever records this thread (`pysmpc._ring`).  With
`pysmpc.ring.prg` and the continuations of this module, `residues` and `wide`, it is the only one who does.  Functions
take contiguous int64 tensors and check their sizes; [rows, n] tensors have a row for every
hosted holder, and none in the provider.  Sums, products and comparisons of
torch.int64 tensors wrap mod 2**64, so linear operations on windows are torch's own.
"""

from __future__ import annotations

import torch

from pysmpc import _beaver, _ring
from pysmpc._ring import Kernel, Launches, Stream, launch, record_launches
from pysmpc.ring.prg import KeySet

__all__ = ["Kernel", "Launches", "Stream", "launch", "record_launches"]  # of the compiled module, for other layers

Divisor = _beaver.Divisor
Function = _beaver.Function

target = _ring.target
reason = _ring.reason
supported = _ring.supported
products = _ring.products
compiler = _ring.compiler

KEPT = 1 << 28


def keep_memory() -> None:
    """Have freed buffers kept for the next (up to KEPT bytes), with the GNU C library.

    Every step needs buffers of the same sizes; without this, a step of the article's
    network took 700 page faults to get them again, with it 8.
    """
    _ring.keep_memory(KEPT)


_threads = 0


def use_torch_threads() -> None:
    """Let the kernels use as many threads as torch does (torch.set_num_threads)."""
    global _threads
    wanted = torch.get_num_threads()
    if wanted != _threads:
        _ring.set_threads(wanted)
        _threads = wanted


def wrap(value: int) -> int:
    """An integer mod 2**64, as the int64 that torch takes."""
    value &= (1 << 64) - 1
    return value - (1 << 64) if value >> 63 else value


def sized(tensor: torch.Tensor, *shape: int) -> torch.Tensor:
    """The tensor, if it has this shape."""
    if tensor.shape != shape:
        raise ValueError(f"expected ring elements of shape {shape}, got {tuple(tensor.shape)}")
    return tensor


def optional(tensor: torch.Tensor | None, *shape: int) -> torch.Tensor | None:
    return None if tensor is None else sized(tensor, *shape)


def empty(*shape: int) -> torch.Tensor:
    """Uninitialised ring elements."""
    return torch.empty(shape, dtype=torch.int64)


# --- elementwise ---------------------------------------------------------------


def add(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """x + y, of equal shape."""
    out = torch.empty_like(x)
    launch(_ring.add, x, sized(y, *x.shape), out, x.numel())
    return out


def sub(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """x - y, of equal shape."""
    out = torch.empty_like(x)
    launch(_ring.sub, x, sized(y, *x.shape), out, x.numel())
    return out


def mul(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """x * y elementwise, of equal shape."""
    out = torch.empty_like(x)
    launch(_ring.mul, x, sized(y, *x.shape), out, x.numel())
    return out


def scale(x: torch.Tensor, factor: int) -> torch.Tensor:
    """factor * x for any integer factor."""
    out = torch.empty_like(x)
    launch(_ring.scale, x, factor, out, x.numel())
    return out


def rows_sum(x: torch.Tensor) -> torch.Tensor:
    """[rows, n] -> [1, n] sums; [0, n] -> [0, n]."""
    rows, n = x.shape
    out = empty(min(rows, 1), n)
    if rows:
        launch(_ring.rows_sum, x, rows, out, n)
    return out


def rows_xor(x: torch.Tensor) -> torch.Tensor:
    """[rows, n] -> [1, n] exclusive ors; [0, n] -> [0, n]."""
    rows, n = x.shape
    out = empty(min(rows, 1), n)
    if rows:
        launch(_ring.rows_xor, x, rows, out, n)
    return out


def rows_most(x: torch.Tensor) -> int:
    """The largest magnitude of the sums over the rows of [rows, n], at most 2^63; 0 where there are none.

    It says something about what is shared: for checks where all shares are in one process anyway.
    """
    rows, n = x.shape
    if not rows or not n:
        return 0
    out = empty(2)
    launch(_ring.rows_extremes, x, rows, n, out)
    high, low = map(int, out.tolist())
    return max(high, -low)


def weighted(factors: torch.Tensor, words: torch.Tensor, out: torch.Tensor | None = None) -> torch.Tensor:
    """[K, n] and [rows, K, n] -> [rows, n]: the sum over K of factors * words; written to `out` if there is one."""
    use_torch_threads()
    rows, count, n = words.shape
    if out is None:
        out = empty(rows, n)
    launch(_ring.weighted, sized(factors, count, n), words, rows, count, sized(out, rows, n), n)
    return out


def combinations(
    x: torch.Tensor, weights: torch.Tensor, constants: torch.Tensor, lead: int | None, out: torch.Tensor, first: int = 0
) -> torch.Tensor:
    """Write public combinations of rows [rows, count * n] to out [rows, ...], from element `first` of its rows on.

    [sums, n] each: the sum over count of weights [sums, count] times x, and in the row `lead` constants [sums].
    """
    use_torch_threads()
    rows, width = x.shape
    sums, count = weights.shape
    n = width // count
    if width != count * n or not 0 <= first <= out.shape[1] - sums * n:
        raise ValueError(f"{sums} sums of {count} of {width} elements, from element {first} of {out.shape[1]} on")
    launch(
        _ring.combinations, x, rows, count, weights, sized(constants, sums), sums, -1 if lead is None else lead,
        sized(out, rows, out.shape[1]), first, out.shape[1], n,
    )  # fmt: skip
    return out


# --- bits ----------------------------------------------------------------------


def packed_words(n: int) -> int:
    """Words of n packed bits."""
    return (n + 63) // 64


def pack_bits(x: torch.Tensor) -> torch.Tensor:
    """[n] lowest bits -> [ceil(n / 64)]; the order is that of src/c/bits.inc.h."""
    out = empty(packed_words(x.numel()))
    launch(_ring.pack_bits, x, out, x.numel())
    return out


def unpack_bits(packed: torch.Tensor, n: int) -> torch.Tensor:
    """[ceil(n / 64)] -> [n] of 0 and 1."""
    out = empty(n)
    launch(_ring.unpack_bits, sized(packed, packed_words(n)), out, n)
    return out


def decompose(x: torch.Tensor) -> torch.Tensor:
    """[n] -> [64 * ceil(n / 64)] bit planes, tile by tile."""
    out = empty(64 * packed_words(x.numel()))
    launch(_ring.decompose, x, out, x.numel())
    return out


# --- truncation (src/c/truncate.inc.h) ---------------------------------------------


def truncate_words(divisor: Divisor, n: int) -> int:
    """Words of corrections for n elements: 2 n; for powers of two up to 2**40, about 13 n / 8."""
    return n + ((n + 1) // 2 + (n + 7) // 8 if divisor.short else n)


def truncate_deal(
    keys: KeySet,
    base: int,
    divisor: Divisor,
    n: int,
    out: torch.Tensor,
    owed: torch.Tensor | None = None,
    factor: int = 1,
) -> None:
    """Dealer: corrections for n elements; owed [n]: what the shares of z lack of it, times factor."""
    use_torch_threads()
    launch(
        _ring.truncate_deal,
        keys.native,
        base,
        divisor,
        sized(out, truncate_words(divisor, n)),
        n,
        optional(owed, n),
        factor,
    )


def truncate_mask(
    keys: KeySet, base: int, offset: int, z: torch.Tensor, factor: int = 1, halves: int = 0
) -> torch.Tensor:
    """Holders: the message factor * z + offset + r, [rows, n].

    halves: 0, or of how many holders upper halves are to be summed, two in a word: [rows, (n + 1) // 2].
    """
    use_torch_threads()
    rows, n = z.shape
    if rows != keys.rows:
        raise ValueError(f"{rows} rows of shares, of a party that has {keys.rows}")
    out = torch.empty_like(z) if not halves else empty(keys.rows, (n + 1) // 2)
    if halves and n % 2:
        out[:, -1:] = 0
    launch(_ring.truncate_mask, keys.native, base, offset, z, out, n, factor, halves)
    return out


def truncate_finish(
    keys: KeySet,
    base: int,
    divisor: Divisor,
    c: torch.Tensor,
    corrections: torch.Tensor | None,
    x: torch.Tensor | None = None,
    halves: int = 0,
) -> torch.Tensor:
    """Holders: shares of the quotient from the opened c, plus x, [rows, n].

    halves: as of the messages; there must be an x then.
    """
    if halves and x is None:
        raise ValueError("of upper halves alone nobody knows how many there are: hand over x")
    n = x.shape[1] if halves and x is not None else c.shape[1]
    out = empty(keys.rows, n)
    launch(
        _ring.truncate_finish,
        keys.native,
        base,
        divisor,
        c,
        optional(corrections, truncate_words(divisor, n)),
        out,
        n,
        optional(x, keys.rows, n),
        halves,
    )
    return out


def truncate_local(z: torch.Tensor, bits: int, lead: bool, out: torch.Tensor) -> None:
    """One of two holders: its share shifted by `bits` (SecureML)."""
    launch(_ring.truncate_local, z, bits, lead, sized(out, *z.shape), z.numel())
