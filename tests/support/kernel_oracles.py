"""What the kernels compute, in Python integers and by another library's AES."""

import itertools
import os

import numpy as np
import pytest
import torch
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

WORD = (1 << 64) - 1
#: around every vector width
LENGTHS = [0, 1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 1000, 1003]
#: around the tiles of bits.inc.h and the tasks of rounds.c
TILES = [511, 512, 513, 4095, 4096, 4097]
CANARY = 0x5A5A_A5A5_DEAD_BEEF
LANES = 8

#: What no target changes: in the process that runs all tests, and not in test_targets.py's for each other target.
once = pytest.mark.skipif("PYSMPC_KERNEL_TESTS" in os.environ, reason="the same whatever the target (test_targets.py)")


def aes(key, blocks):
    """AES-128 of whole blocks."""
    cipher = Cipher(algorithms.AES(key), modes.ECB()).encryptor()
    return cipher.update(blocks) + cipher.finalize()


def stream_words(key, stream, n, first=0):
    """Words [first, first + n) of a stream, by its definition in ring.h."""
    if n == 0:
        return []
    counters = range(first >> 1, (first + n + 1) // 2)
    blocks = aes(key, b"".join(c.to_bytes(8, "little") + stream.to_bytes(8, "little") for c in counters))
    words = [int.from_bytes(blocks[i : i + 8], "little") for i in range(0, len(blocks), 8)]
    return words[first & 1 :][:n]


def total(keys, stream, n):
    """Sums over the keys of the words of a stream."""
    return [sum(words) & WORD for words in zip(*(stream_words(key, stream, n) for key in keys), strict=True)]


def drawn(keys, stream, n):
    """Sums of what all but the last holder draw of a dealt value; the last is sent the rest."""
    return total(keys[:-1], stream, n) if len(keys) > 1 else [0] * n


def dealt_share(keys, i, stream, n, corrections):
    """Holder i's share of a dealt value."""
    return list(corrections) if i == len(keys) - 1 else stream_words(keys[i], stream, n)


def total_xor(keys, stream, n):
    """Exclusive ors over the keys of the words of a stream."""
    out = [0] * n
    for key in keys:
        out = [a ^ b for a, b in zip(out, stream_words(key, stream, n), strict=True)]
    return out


def unsigned(tensor):
    """The elements of a tensor as integers in [0, 2**64)."""
    return [v & WORD for v in tensor.reshape(-1).tolist()]


def signed(value):
    """An integer mod 2**64 in [-2**63, 2**63)."""
    value &= WORD
    return value - (1 << 64) if value >> 63 else value


def tensor(values):
    """Integers mod 2**64 as an int64 tensor."""
    return torch.tensor([signed(v) for v in values], dtype=torch.int64)


def samples(rng, n):
    """Named arrays of n words: random, all ones, and the edges of the ring."""
    edges = [0, 1, WORD, 1 << 63, (1 << 63) - 1, 1 << 62, (1 << 62) - 1, WORD << 32 & WORD]
    yield "random", [int(v) for v in rng.integers(0, 1 << 64, n, dtype=np.uint64)]
    yield "ones", [WORD] * n
    yield "edges", list(itertools.islice(itertools.cycle(edges), n))


def turn(phase):
    """2^30 cos and 2^30 sin of a phase, by src/c/turns.inc.h with integers of any size."""

    def upper(x, y):
        assert max(x, y) < 1 << 32, "a product of the kernel is of 32 bits by 32"
        assert min(x, y) >= 0
        return x * y >> 32

    def horner(u, first, *others):
        return first - upper(u, horner(u, *others)) if others else first

    moved = phase + (1 << 61) & WORD
    quarter, rest = divmod(moved, 1 << 62)
    rest -= 1 << 61
    magnitude = (rest if rest >= 0 else -1 - rest) >> 29
    u = upper(magnitude, magnitude)
    cosine = (1 << 30) - (upper(u, horner(u, 2649351743, 136187638, 2799821, 30334)) + 4 >> 3)
    sine = upper(magnitude, horner(u, 3373259426, 346799333, 10696154, 157073, 1325)) + 2 >> 2
    sine = sine if rest >= 0 else -sine
    return [(cosine, sine), (-sine, cosine), (-cosine, -sine), (sine, -cosine)][quarter]


class Guarded:
    """A buffer that starts `offset` elements after an aligned address, between canaries."""

    def __init__(self, values, offset=0):
        self._n, self._at = len(values), 8 + offset
        room = torch.full((self._n + offset + 24,), CANARY, dtype=torch.int64)
        skew = (-room.data_ptr() // 8) % 8
        self._room = room
        self._at += skew
        self.view = room[self._at : self._at + self._n]
        if self._n:
            self.view.copy_(tensor(values))

    def values(self):
        """What is in it; fails if something beside it was written."""
        outside = torch.cat([self._room[: self._at], self._room[self._at + self._n :]])
        assert bool((outside == CANARY).all()), "a kernel wrote outside of its output"
        return unsigned(self.view)


def packed_words(n):
    return (n + 63) // 64


def tiles(n):
    """(first word, words, elements) of each tile of n packed bits."""
    words = packed_words(n)
    for at in range(0, words, LANES):
        width = min(LANES, words - at)
        yield at, width, min(n - at * 64, width * 64)


def pack(bits):
    """Bits as packed words, in the order of bits.inc.h."""
    out = [0] * packed_words(len(bits))
    for at, width, m in tiles(len(bits)):
        for e in range(m):
            out[at + e % width] |= (bits[at * 64 + e] & 1) << (e // width)
    return out


def unpack(words, n):
    """The first n bits of packed words."""
    out = []
    for at, width, m in tiles(n):
        out += [words[at + e % width] >> (e // width) & 1 for e in range(m)]
    return out


def planes(words, rows, n):
    """[rows][n] bits of a sequence of tiles of `rows` rows of packed words."""
    out = [[] for _ in range(rows)]
    for at, width, m in tiles(n):
        for row in range(rows):
            part = words[at * rows + row * width :][:width]
            out[row] += [part[e % width] >> (e // width) & 1 for e in range(m)]
    return out
