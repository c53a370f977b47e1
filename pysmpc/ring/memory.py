"""Memory that is swept again and again, in pages of 2 MB where the system has them.

A step goes through more pages of 4 KB than the processor's table of translated addresses (TLB) has room for.  Linux
gives larger ones to a piece that asks for them (transparent huge pages); elsewhere, and where they are switched off,
this is memory like any other.
"""

from __future__ import annotations

import contextlib
import mmap

import torch

PAGE = 1 << 21  # bytes
LEAST = 1 << 17  # words: below, most of a page would be left over


def large(words: int) -> torch.Tensor:
    """Words [words], which are not set to anything in particular."""
    if words < LEAST or not hasattr(mmap, "MADV_HUGEPAGE"):
        return torch.empty(words, dtype=torch.int64)
    size = -(-8 * words // PAGE) * PAGE
    # what is not touched of it takes no memory
    region = mmap.mmap(-1, size + PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    shift = -torch.frombuffer(region, dtype=torch.int64).data_ptr() % PAGE
    with contextlib.suppress(OSError):  # a system without them
        region.madvise(mmap.MADV_HUGEPAGE, shift, size)
    return torch.frombuffer(region, dtype=torch.int64, count=words, offset=shift)


def copied(x: torch.Tensor) -> torch.Tensor:
    """A copy of a tensor of words in such memory, if it is long enough."""
    if x.numel() < LEAST or not x.is_contiguous():
        return x.clone()
    return large(x.numel()).view(x.shape).copy_(x)
