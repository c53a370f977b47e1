"""Packing and bit planes against Python integers."""

import pytest
from kernel_oracles import LENGTHS, TILES, Guarded, pack, packed_words, planes, samples, unpack

from pysmpc import _ring
from pysmpc._ring import launch


@pytest.mark.parametrize("n", LENGTHS + TILES)
def test_pack_and_unpack(n, rng):
    for _, x in samples(rng, n):
        source, packed, out = Guarded(x, 1), Guarded([0] * packed_words(n), 3), Guarded([7] * n, 1)
        launch(_ring.pack_bits, source.view, packed.view, n)
        assert packed.values() == pack(x)
        launch(_ring.unpack_bits, packed.view, out.view, n)
        assert out.values() == [v & 1 for v in x] == unpack(pack(x), n)


@pytest.mark.parametrize("n", LENGTHS + TILES)
def test_decompose(n, rng):
    for _, x in samples(rng, n):
        source, out = Guarded(x, 1), Guarded([7] * (64 * packed_words(n)), 3)
        launch(_ring.decompose, source.view, out.view, n)
        assert planes(out.values(), 64, n) == [[v >> bit & 1 for v in x] for bit in range(64)]
