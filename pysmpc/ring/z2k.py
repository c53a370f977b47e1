"""Arithmetic on shares: the Python face of the compiled kernels.

Kernels are called through one door, `launch(kernel, *arguments)`, which checks that each argument is of
the kind that the kernel declares and tells whoever records this thread (`pysmpc._ring`).  With
`pysmpc.ring.prg` and the continuations of this module, `residues` and `wide`, it is the only one who does.  Functions
take contiguous int64 tensors and check their sizes; [rows, n] tensors have a row for every
hosted holder, and none in the provider.  Sums, products and comparisons of
torch.int64 tensors wrap mod 2**64, so linear operations on windows are torch's own.
"""

from __future__ import annotations

import math

import torch

from pysmpc import _beaver, _ring
from pysmpc._ring import Kernel, Launches, Stream, launch, record_launches
from pysmpc.ring.matrix_layout import Layout
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


def _sized(tensor: torch.Tensor, *shape: int) -> torch.Tensor:
    """The tensor, if it has this shape."""
    if tensor.shape != shape:
        raise ValueError(f"expected ring elements of shape {shape}, got {tuple(tensor.shape)}")
    return tensor


def _optional(tensor: torch.Tensor | None, *shape: int) -> torch.Tensor | None:
    return None if tensor is None else _sized(tensor, *shape)


def empty(*shape: int) -> torch.Tensor:
    """Uninitialised ring elements."""
    return torch.empty(shape, dtype=torch.int64)


# --- elementwise ---------------------------------------------------------------


def add(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """x + y, of equal shape."""
    out = torch.empty_like(x)
    launch(_ring.add, x, _sized(y, *x.shape), out, x.numel())
    return out


def sub(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """x - y, of equal shape."""
    out = torch.empty_like(x)
    launch(_ring.sub, x, _sized(y, *x.shape), out, x.numel())
    return out


def mul(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """x * y elementwise, of equal shape."""
    out = torch.empty_like(x)
    launch(_ring.mul, x, _sized(y, *x.shape), out, x.numel())
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
    launch(_ring.weighted, _sized(factors, count, n), words, rows, count, _sized(out, rows, n), n)
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
    launch(_ring.unpack_bits, _sized(packed, packed_words(n)), out, n)
    return out


def decompose(x: torch.Tensor) -> torch.Tensor:
    """[n] -> [64 * ceil(n / 64)] bit planes, tile by tile."""
    out = empty(64 * packed_words(x.numel()))
    launch(_ring.decompose, x, out, x.numel())
    return out


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
    launch(_ring.turns, _sized(phase, n), count, out, n)
    return out


def add_gaussian(words: torch.Tensor, thresholds: torch.Tensor, factor: int, z: torch.Tensor) -> torch.Tensor:
    """z [n] += factor times the number of thresholds below the lower 63 bits of words [n], the upper bit its sign.

    Returns [n]: how many thresholds a word is equal to; there, more bits have to decide.  Every word is compared with
    every threshold (src/c/gaussian.inc.h), so that words may be secret.
    """
    use_torch_threads()
    n = words.numel()
    tied = torch.empty_like(z)
    launch(_ring.gaussian, _sized(words, n), thresholds, thresholds.numel(), factor, _sized(z, n), tied, n)
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

    With y = (c - start) step, its segment and v as there: in row p the power of e of the segment p before that of y,
    which is mantissas[i] 2^-shifts[i], times e^v at 2^29, rounded.  mantissas: below 2^29.  shifts: 1 to 62.
    """
    use_torch_threads()
    n, planes = c.numel(), 1 << segments
    if not 0 < segments < 32:
        raise ValueError(f"powers of {segments} bits of segments: from 1 to 31")
    out = empty(planes, n)
    mantissas, shifts = _sized(mantissas, planes), _sized(shifts, planes)
    launch(_ring.powers_public, c, wrap(start), wrap(step), segments, mantissas, shifts, out, n)
    return out


# --- matrix products -------------------------------------------------------------


def matmul(a: torch.Tensor, b: torch.Tensor, out: torch.Tensor, accumulate: bool = False) -> torch.Tensor:
    """out (+)= a @ b mod 2**64 for [..., m, k] and [..., k, n] of any strides.

    Leading sizes agree; out is contiguous.
    """
    use_torch_threads()
    *batch, m, k = a.shape
    n = b.shape[-1]
    if b.shape[:-1] != (*batch, k) or out.shape != (*batch, m, n):
        raise ValueError(f"matmul of {tuple(a.shape)} and {tuple(b.shape)} into {tuple(out.shape)}")
    *sa, a_row, a_col = a.stride()
    *sb, b_row, b_col = b.stride()
    kernel = _ring.matmul_add if accumulate else _ring.matmul
    for index in range(math.prod(batch)):
        i, da, db = index, 0, 0
        for size, step_a, step_b in zip(reversed(batch), reversed(sa), reversed(sb), strict=True):
            i, at = divmod(i, size)
            da += at * step_a
            db += at * step_b
        launch(kernel, a, da, a_row, a_col, b, db, b_row, b_col, out, index * m * n, n, m, n, k)
    return out


# --- Beaver combines ---------------------------------------------------------------


def beaver_mul(
    keys: KeySet, d: torch.Tensor, y: torch.Tensor, a: torch.Tensor, e: torch.Tensor, z: torch.Tensor
) -> torch.Tensor:
    """z += d * y + a * e for each hosted holder; d, e: [1, n], y, a, z: [rows, n]."""
    rows, n = z.shape
    public = min(rows, 1)
    launch(
        _ring.beaver_mul,
        keys.native,
        _sized(d, public, n),
        _sized(y, rows, n),
        _sized(a, rows, n),
        _sized(e, public, n),
        z,
        n,
    )
    return z


def beaver_square(keys: KeySet, d: torch.Tensor, x: torch.Tensor, a: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
    """z += d * (x + a) for each hosted holder."""
    rows, n = z.shape
    launch(_ring.beaver_square, keys.native, _sized(d, min(rows, 1), n), _sized(x, rows, n), _sized(a, rows, n), z, n)
    return z


class Factor:
    """A factor of a product in place: words [rows, n], their opening [1 or 0, n], the
    stream of their mask, and where the matrices are."""

    __slots__ = ("layout", "opened", "places", "words")

    def __init__(self, words: torch.Tensor, opened: torch.Tensor, stream: int, layout: Layout) -> None:
        self.words, self.opened, self.layout = words, opened, layout
        rows, n = words.shape
        _sized(opened, min(rows, 1), n)
        self.places = (
            stream,
            n,
            layout.row,
            layout.col,
            layout.offsets,
            layout.rows,
            layout.cols,
            layout.map,
            layout.row_run,
            layout.col_run,
            0 if layout.map is None else layout.map.numel(),
        )


class Product:
    """A Beaver product of matrices: see src/c/product.h."""

    __slots__ = ("_masks", "factors", "size")

    def __init__(self, x: Factor, y: Factor) -> None:
        use_torch_threads()
        a, b = x.layout, y.layout
        if a.width != b.height or a.batch != b.batch:
            raise ValueError(f"{a.batch} matrices of width {a.width} do not fit {b.batch} of height {b.height}")
        self.factors = (x, y)
        self._masks = (*x.places, *y.places, a.batch, a.height, b.width, a.width)
        self.size = a.batch * a.height * b.width

    def deal(self, keys: KeySet, stream: int, out: torch.Tensor) -> None:
        """Dealer: corrections of the product of the masks."""
        launch(_ring.product_deal, *self._masks, keys.native, stream, _sized(out, self.size))

    def combine(self, keys: KeySet, stream: int, corrections: torch.Tensor | None) -> torch.Tensor:
        """Holders: shares of the product, [rows, size]."""
        out = empty(keys.rows, self.size)
        dealt = _optional(corrections, self.size)
        launch(_ring.product_combine, *self._masks, *self._words(), keys.native, stream, dealt, out)
        return out

    def masks(self, keys: KeySet) -> torch.Tensor:
        """Dealer: the product of the masks, [size]."""
        out = empty(self.size)
        launch(_ring.product_masks, *self._masks, keys.native, out)
        return out

    def part(self, keys: KeySet) -> torch.Tensor:
        """Holders: shares of the product less that of the masks, [rows, size]."""
        out = empty(keys.rows, self.size)
        launch(_ring.product_part, *self._masks, *self._words(), keys.native, out)
        return out

    def _words(self) -> tuple[torch.Tensor, ...]:
        x, y = self.factors
        return x.words, x.opened, y.words, y.opened


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
        _sized(out, truncate_words(divisor, n)),
        n,
        _optional(owed, n),
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
        _optional(corrections, truncate_words(divisor, n)),
        out,
        n,
        _optional(x, keys.rows, n),
        halves,
    )
    return out


def truncate_local(z: torch.Tensor, bits: int, lead: bool, out: torch.Tensor) -> None:
    """One of two holders: its share shifted by `bits` (SecureML)."""
    launch(_ring.truncate_local, z, bits, lead, _sized(out, *z.shape), z.numel())


# --- comparison (src/c/compare.inc.h) -----------------------------------------------


NODES = 4  # of a comparison of whole words; one for every 16 bits of what is known to be shorter


def compare_sizes(n: int, nodes: int = NODES, known: bool = False) -> tuple[int, int, int, int, int]:
    """Words of state, of each of three messages of one holder, and of corrections; one node has two messages.

    known: of a comparison that uses the monomials of r that were dealt for another of the same opening.
    """
    return _beaver.compare_sizes(n, nodes, known)


def compare_deal(
    keys: KeySet,
    base: int,
    n: int,
    out: torch.Tensor,
    nodes: int = NODES,
    known: bool = False,
    masks: torch.Tensor | None = None,
) -> None:
    """Dealer: corrections for the sign bits of n elements; known: without the monomials of r.

    masks [n]: under which they are opened, where that is not what the stream `base` shares.
    """
    use_torch_threads()
    words = compare_sizes(n, nodes, known)[4]
    launch(_ring.compare_deal, keys.native, base, nodes, _sized(out, words), n, known, _optional(masks, n))


def compare_chunks(
    keys: KeySet,
    base: int,
    corrections: torch.Tensor | None,
    c: torch.Tensor,
    offset: int,
    nodes: int = NODES,
    known: int | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Holders, round 1: (state, message) from the opened c.

    known: base of the comparison whose monomials of r these are, if another's; it had as many nodes, and
    the corrections are those of that one, too.
    """
    n = c.shape[1]
    sizes = compare_sizes(n, nodes)
    state, message = empty(keys.rows, sizes[0]), empty(keys.rows, sizes[1])
    launch(
        _ring.compare_chunks,
        keys.native,
        base,
        nodes,
        corrections,
        c,
        offset,
        state,
        message,
        n,
        base if known is None else known,
    )
    return state, message


def compare_nodes(
    keys: KeySet,
    base: int,
    corrections: torch.Tensor | None,
    opened: torch.Tensor,
    state: torch.Tensor,
    n: int,
    nodes: int = NODES,
    known: bool = False,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Holders, round 2: (sign so far, message); of one node, the message is the sign bit under rho.

    known: the corrections were dealt without the monomials of r.
    """
    sign, message = empty(keys.rows, packed_words(n)), empty(keys.rows, compare_sizes(n, nodes)[2])
    launch(
        _ring.compare_nodes,
        keys.native,
        base,
        nodes,
        corrections,
        opened,
        state,
        sign,
        message,
        n,
        known,
    )
    return sign, message


def compare_root(
    keys: KeySet,
    base: int,
    corrections: torch.Tensor | None,
    opened: torch.Tensor,
    sign: torch.Tensor,
    n: int,
    nodes: int = NODES,
    known: bool = False,
) -> torch.Tensor:
    """Holders, round 3: the sign bit under rho; known: as of the nodes."""
    message = empty(keys.rows, compare_sizes(n, nodes)[3])
    launch(_ring.compare_root, keys.native, base, nodes, corrections, opened, sign, message, n, known)
    return message


# --- bits in both worlds (src/c/select.inc.h) ----------------------------------------


def bit_deal(keys: KeySet, rho: int, stream: int, out: torch.Tensor) -> None:
    """Dealer: corrections [n] of arithmetic shares of the bits of stream rho."""
    launch(_ring.bit_deal, keys.native, rho, stream, out, out.numel())


def bit_share(keys: KeySet, beta: torch.Tensor, rho: torch.Tensor) -> torch.Tensor:
    """Holders: arithmetic shares [rows, n] of the bits beta ^ rho."""
    out = torch.empty_like(rho)
    launch(_ring.bit_share, keys.native, beta, rho, out, rho.shape[1])
    return out


def select_rows(divisor: Divisor | None) -> int:
    """Corrections an element of a select."""
    return 1 if divisor is None else 4


def select_deal(keys: KeySet, base: int, rho: int, divisor: Divisor | None, out: torch.Tensor) -> None:
    """Dealer: corrections [select_rows * n]."""
    use_torch_threads()
    n = out.numel() // select_rows(divisor)
    launch(_ring.select_deal, keys.native, base, rho, divisor, out, n)


def select_finish(
    keys: KeySet,
    base: int,
    divisor: Divisor | None,
    flip: bool,
    c: torch.Tensor,
    beta: torch.Tensor,
    rho: torch.Tensor,
    corrections: torch.Tensor | None,
) -> torch.Tensor:
    """Holders: shares [rows, n] of bit * floor(z / divisor) from the opened c."""
    n = c.shape[1]
    out = empty(keys.rows, n)
    launch(
        _ring.select_finish,
        keys.native,
        base,
        divisor,
        flip,
        c,
        beta,
        _sized(rho, keys.rows, n),
        _optional(corrections, select_rows(divisor) * n),
        out,
        n,
    )
    return out


# --- function secret sharing (src/c/fss.inc.h), for two holders ----------------------

FSS_SALT = 2  # words of a key for all its elements


def fss_deal(
    keys: KeySet,
    base: int,
    f: Function,
    alpha: torch.Tensor,
    values: torch.Tensor,
    others: torch.Tensor,
    first: int,
    last: int,
    out: torch.Tensor,
) -> None:
    """Dealer: key of the elements [first, last) of alpha [n]; values where f holds, others elsewhere, [words, n]."""
    use_torch_threads()
    n = alpha.numel()
    launch(
        _ring.fss_deal,
        keys.native,
        base,
        f,
        alpha,
        _sized(values, f.words, n),
        _sized(others, f.words, n),
        n,
        first,
        last,
        _sized(out, FSS_SALT + f.key_words * (last - first)),
    )


def fss_eval(
    keys: KeySet, base: int, f: Function, key: torch.Tensor, x: torch.Tensor, shift: int, first: int, out: torch.Tensor
) -> int:
    """Holders: out [rows, words, n] at x - shift, from element `first` to the end of the key, which is returned."""
    use_torch_threads()
    n = x.shape[-1]
    last = first + (key.numel() - FSS_SALT) // f.key_words
    launch(_ring.fss_eval, keys.native, base, f, key, x, shift, n, first, last, _sized(out, keys.rows, f.words, n))
    return last


FSS_BITS_GRAIN = 512  # a key of bits begins at a multiple of so many elements


def fss_bits_words(f: Function, n: int) -> int:
    """Words of a key of bits for n elements; f: its bits, from 7 on, and whether it compares."""
    return FSS_SALT + int(_beaver.fss_bits_words(f, n))


def fss_bits_deal(keys: KeySet, mask: int, base: int, f: Function, first: int, last: int, out: torch.Tensor) -> None:
    """Dealer: key of bits for comparisons with (or for the points) r, the total of stream `mask`."""
    use_torch_threads()
    size = fss_bits_words(f, last - first)
    launch(_ring.fss_bits_deal, keys.native, mask, base, f, first, last, _sized(out, size))


def fss_bits_eval(
    keys: KeySet,
    base: int,
    f: Function,
    key: torch.Tensor,
    x: torch.Tensor,
    shift: int,
    first: int,
    last: int,
    out: torch.Tensor,
) -> None:
    """Holders: packed shares [rows, ceil(n / 64)] by exclusive or at x - shift, x [n], of the elements of a key."""
    use_torch_threads()
    n = x.shape[-1]
    words, size = packed_words(n), fss_bits_words(f, last - first)
    launch(
        _ring.fss_bits_eval,
        keys.native,
        base,
        f,
        _sized(key, size),
        x,
        shift,
        n,
        first,
        last,
        _sized(out, keys.rows, words),
    )
