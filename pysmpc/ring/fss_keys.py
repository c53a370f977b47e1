"""Keys of function secret sharing, dealt and evaluated (src/c/fss.inc.h), for two holders."""

from __future__ import annotations

import torch

from pysmpc import _beaver, _ring
from pysmpc._ring import launch
from pysmpc.ring.prg import KeySet
from pysmpc.ring.z2k import Function, packed_words, sized, use_torch_threads

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
        sized(values, f.words, n),
        sized(others, f.words, n),
        n,
        first,
        last,
        sized(out, FSS_SALT + f.key_words * (last - first)),
    )


def fss_eval(
    keys: KeySet, base: int, f: Function, key: torch.Tensor, x: torch.Tensor, shift: int, first: int, out: torch.Tensor
) -> int:
    """Holders: out [rows, words, n] at x - shift, from element `first` to the end of the key, which is returned."""
    use_torch_threads()
    n = x.shape[-1]
    last = first + (key.numel() - FSS_SALT) // f.key_words
    launch(_ring.fss_eval, keys.native, base, f, key, x, shift, n, first, last, sized(out, keys.rows, f.words, n))
    return last


FSS_BITS_GRAIN = 512  # a key of bits begins at a multiple of so many elements


def fss_bits_words(f: Function, n: int) -> int:
    """Words of a key of bits for n elements; f: its bits, from 7 on, and whether it compares."""
    return FSS_SALT + int(_beaver.fss_bits_words(f, n))


def fss_bits_deal(keys: KeySet, mask: int, base: int, f: Function, first: int, last: int, out: torch.Tensor) -> None:
    """Dealer: key of bits for comparisons with (or for the points) r, the total of stream `mask`."""
    use_torch_threads()
    size = fss_bits_words(f, last - first)
    launch(_ring.fss_bits_deal, keys.native, mask, base, f, first, last, sized(out, size))


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
        sized(key, size),
        x,
        shift,
        n,
        first,
        last,
        sized(out, keys.rows, words),
    )
