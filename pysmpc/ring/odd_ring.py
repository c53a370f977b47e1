"""Bits over Z_67 and the ring Z_(2^64 - 1): the Python face of SecureNN's kernels.

A continuation of `pysmpc.ring.z2k`, by the same rules.  Elements of the odd ring are words
from 0 to 2^64 - 2 in int64 tensors.  A packed share of bits takes 7 bytes a bit and
64 elements (src/c/securenn.inc.h); the other holder's is a stream and never stored.
"""

from __future__ import annotations

import torch

from pysmpc import _ring
from pysmpc.ring.prg import KeySet
from pysmpc.ring.z2k import empty, launch, optional, packed_words, sized, use_torch_threads

ODD = (1 << 64) - 1


def symbol_words(n: int) -> int:
    """Words of a packed share of the bits of n elements, and of a message of a comparison."""
    return _ring.securenn_words(n)


def pair_keys(own: KeySet, after: KeySet, ranks: tuple[int, ...]) -> KeySet:
    """The key that two holders have in common, once for each hosted one, from their ring of keys."""
    out = KeySet([])
    out.native, out.rows = _ring.pair_keys(own.native, after.native, ranks), own.rows
    return out


# --- comparison over Z_67 ----------------------------------------------------------


def deal_bits(everyone: KeySet, stream: int, x: torch.Tensor, out: torch.Tensor) -> None:
    """P2: out [symbol_words(n)], the last holder's share of the bits of x [n]; the first's is the stream."""
    use_torch_threads()
    n = x.numel()
    launch(_ring.securenn_bits, everyone.native, stream, x, sized(out, symbol_words(n)), n)


def compare(
    keys: KeySet, bits: int, pair: KeySet, base: int, share: torch.Tensor | None, r: torch.Tensor, less: bool
) -> torch.Tensor:
    """Holders: the messages [rows, symbol_words(n)] that tell P2 beta ^ (x > r - less).

    bits, share: of the bits of x; r [rows, n]: each holder's copy of the number.
    """
    use_torch_threads()
    n = r.shape[1]
    out = empty(keys.rows, symbol_words(n))
    launch(
        _ring.securenn_compare, keys.native, bits, pair.native, base, optional(share, symbol_words(n)), r, less, out, n
    )
    return out


def found(messages: torch.Tensor, n: int) -> torch.Tensor:
    """P2: packed bits of the elements that have a zero in the sum of both messages."""
    use_torch_threads()
    out = empty(packed_words(n))
    launch(_ring.securenn_found, sized(messages, 2, symbol_words(n)), out, n)
    return out


def control_bits(pair: KeySet, base: int, n: int) -> torch.Tensor:
    """Holders: the packed bits beta of a comparison, [rows, ceil(n / 64)]."""
    control = pair.draw(base, 8 * packed_words(n))
    return control.view(pair.rows, packed_words(n), 8)[:, :, 6].contiguous()


# --- the odd ring ------------------------------------------------------------------


def carry_sum(everyone: KeySet, stream: int, a: torch.Tensor, carry: torch.Tensor) -> torch.Tensor:
    """P2: the sum [n] of the two rows of a; in `carry`, the last holder's share of where it wrapped."""
    use_torch_threads()
    n = a.shape[1]
    x = empty(n)
    launch(_ring.securenn_sum, everyone.native, stream, sized(a, 2, n), x, sized(carry, n), n)
    return x


def answer_bits(everyone: KeySet, stream: int, packed: torch.Tensor, out: torch.Tensor) -> None:
    """P2: the last holder's share [n] of packed bits."""
    use_torch_threads()
    n = out.numel()
    launch(_ring.securenn_answer, everyone.native, stream, sized(packed, packed_words(n)), out, n)


def total(everyone: KeySet, stream: int, n: int) -> torch.Tensor:
    """P2: the sum [n] of both holders' elements of a stream."""
    use_torch_threads()
    out = empty(n)
    launch(_ring.securenn_total, everyone.native, stream, out, n)
    return out


def finish(
    keys: KeySet,
    own: int,
    pair: KeySet,
    base: int,
    shift: tuple[int, int],
    a: torch.Tensor,
    delta: torch.Tensor | None,
    eta: torch.Tensor | None,
) -> torch.Tensor:
    """Holders: shares of (a + shift[0] mod 2^64) + shift[1], in the odd ring."""
    use_torch_threads()
    rows, n = a.shape
    before, after = shift[0] % (1 << 64), shift[1] % ODD
    out = empty(rows, n)
    launch(
        _ring.securenn_finish,
        keys.native,
        own,
        pair.native,
        base,
        before,
        after,
        a,
        optional(delta, n),
        optional(eta, n),
        out,
        n,
    )
    return out


def double(keys: KeySet, stream: int, y: torch.Tensor) -> torch.Tensor:
    """Holders: the messages 2 y + x [rows, n], x being the stream."""
    use_torch_threads()
    out = torch.empty_like(y)
    launch(_ring.securenn_double, keys.native, stream, y, out, y.shape[1])
    return out


def opened(total: torch.Tensor, messages: torch.Tensor) -> torch.Tensor:
    """Each holder's copy [rows, n] of the sum of two messages, from their sum mod 2^64."""
    rows, n = messages.shape
    out = torch.empty_like(messages)
    if rows:
        launch(_ring.securenn_opened, rows, sized(total, 1, n), messages, out, n)
    return out
