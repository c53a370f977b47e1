"""Memory in large pages holds what memory holds, at sizes around those of a page."""

import mmap

import pytest
import torch

from pysmpc.ring import memory

PAGE = memory.PAGE // 8  # words
SIZES = [0, 1, memory.LEAST - 1, memory.LEAST, PAGE - 1, PAGE, PAGE + 1, 2 * PAGE + 3]


@pytest.mark.parametrize("n", SIZES)
def test_words_of_any_number(n):
    pieces = [memory.large(n) for _ in range(3)]
    for i, x in enumerate(pieces):
        x.fill_(i)
    for i, x in enumerate(pieces):  # none lies in another
        assert x.shape == (n,)
        assert bool((x == i).all())
        # by which repeated steps know a buffer
        assert (x.storage_offset(), x.untyped_storage().nbytes()) == (0, 8 * n)
    if n >= memory.LEAST and hasattr(mmap, "MADV_HUGEPAGE"):
        assert all(x.data_ptr() % memory.PAGE == 0 for x in pieces)


@pytest.mark.parametrize("n", SIZES)
def test_copies(n):
    x = torch.randint(-(1 << 63), (1 << 63) - 1, (2, n), dtype=torch.int64)
    for words in (x, x[1:], x.t(), x[:, ::2]):
        copy = memory.copied(words)
        assert torch.equal(copy, words)
        assert not n or copy.data_ptr() != words.data_ptr()
        copy.fill_(5)
        assert copy.shape == words.shape
    assert torch.equal(memory.copied(x), x)


def test_a_system_without_large_pages(monkeypatch):
    monkeypatch.delattr(mmap, "MADV_HUGEPAGE", raising=False)
    assert memory.large(PAGE).fill_(7).sum() == 7 * PAGE
