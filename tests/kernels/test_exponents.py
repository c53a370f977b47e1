"""Powers of e, dealt and combined in one pass: word for word what their parts make, which test_powers.py holds."""

import pytest
import torch
from kernel_oracles import LENGTHS, TILES, WORD, Guarded, drawn, stream_words, tensor, total, unsigned

from pysmpc import _ring
from pysmpc._ring import launch
from pysmpc.mpc.functions.exponent import DealtPowers, PowerFactors
from pysmpc.mpc.functions.masked import PIECE, Dealt
from pysmpc.ring import integer_functions, z2k
from pysmpc.ring.power_kernels import Segmented
from pysmpc.ring.prg import KeySet, fresh_key

MASK, STREAM = 1 << 34, 1 << 35
PIECES = [64, 100, 301]  # an odd piece begins its later planes in the middle of a block
SOME = [*(n for n in LENGTHS if n < 70), 255, 256, 257, 1003]


def pieces(n, piece):
    """(number, first element, elements) of each."""
    return [(i, first, min(piece, n - first)) for i, first in enumerate(range(0, n, piece))]


def random_step(rng):
    return int(rng.integers(1, 1 << 63)) >> int(rng.integers(0, 60)) or 1


def tables(rng, planes):
    mantissas, shifts = rng.integers(0, 1 << 29, planes), rng.integers(1, 63, planes)
    return torch.from_numpy(mantissas), torch.from_numpy(shifts)


@pytest.mark.parametrize("holders", [1, 2, 3])
@pytest.mark.parametrize("n", SOME)
def test_what_is_dealt(n, holders, rng):
    keys, step, segments = [fresh_key() for _ in range(holders)], random_step(rng), int(rng.integers(1, 6))
    masks, planes = tensor(total(keys, MASK, n)), 1 << segments
    for piece, bits in zip(PIECES, (18, 24, 39), strict=True):
        out = Guarded([7] * (planes * n), 1)
        launch(_ring.powers_deal, KeySet(keys).native, MASK, STREAM, 0, step, segments, 40 - bits, piece, out.view, n)
        expected = []
        for i, first, m in pieces(n, piece):
            part = masks[first : first + m].contiguous()
            values = unsigned(integer_functions.powers_dealt(part, step, segments, bits))
            others = drawn(keys, STREAM + i, len(values))
            expected += [(v - w) & WORD for v, w in zip(values, others, strict=True)]
        assert out.values() == expected


@pytest.mark.parametrize("target", [-1, 0, 2])
@pytest.mark.parametrize("n", SOME)
def test_sums_of_every_holder(n, target, rng):
    keys, step, segments = [fresh_key() for _ in range(3)], random_step(rng), int(rng.integers(1, 6))
    planes, start, constant = 1 << segments, random_step(rng), random_step(rng)
    table = tables(rng, planes)
    for piece in PIECES:
        c, sent = (torch.from_numpy(rng.integers(-(1 << 63), 1 << 63, k)) for k in (n, planes * n))
        out, given, corrections = Guarded([7] * (3 * n), 1), Guarded(unsigned(c), 3), Guarded(unsigned(sent), 5)
        launch(
            _ring.powers_combine, KeySet(keys, 1, target).native, STREAM, corrections.view, given.view, start, step,
            segments, 1, piece, *table, constant, out.view, n,
        )  # fmt: skip
        expected = [[constant * (row == 1)] * n for row in range(3)]
        for i, first, m in pieces(n, piece):
            part = c[first : first + m].contiguous()
            factors = integer_functions.powers_public(part, start, step, segments, *table).view(-1).tolist()
            own = unsigned(sent[planes * first : planes * (first + m)])
            for row in range(3):
                words = own if row == target else stream_words(keys[row], STREAM + i, len(own))
                for at, (factor, word) in enumerate(zip(factors, words, strict=True)):
                    expected[row][first + at % m] += factor * word
        assert out.values() == [v & WORD for row in expected for v in row]
        assert given.values() == unsigned(c)
        assert corrections.values() == unsigned(sent)


@pytest.mark.parametrize("n", [0, 1, 2047, 2048, 2049, *TILES[4:]])
def test_as_their_parts_do(n, threads, rng):
    """Through what the protocol hands over, with any number of threads."""
    keys, step, segments = [fresh_key() for _ in range(2)], 1 << 64 - 16 - 5, 4
    everyone, hosted = KeySet(keys), KeySet(keys, 0, 1)
    words, factors = DealtPowers(step, segments, 18), PowerFactors(-77, step, segments, tables(rng, 16))
    r, own = everyone.total(MASK, n), z2k.empty(16 * n)
    c = torch.from_numpy(rng.integers(-(1 << 63), 1 << 63, n))
    for i, first, m in pieces(n, PIECE):
        found = words(r[first : first + m]).reshape(-1).contiguous()
        own[16 * first : 16 * (first + m)] = everyone.take(STREAM + i, found)
    dealt, expected = Dealt(16, n, STREAM, own), z2k.empty(2, n)
    for at, each in dealt.pieces(hosted):
        expected[:, at] = z2k.weighted(factors(c[at]).contiguous(), each)
    expected[0] += 12345
    for count in (1, 3):
        threads(count)
        out = z2k.empty(16 * n)
        words.deal(everyone, MASK, STREAM, out, n)
        assert torch.equal(out, own)
        assert torch.equal(factors.combine(hosted, dealt, c, 12345), expected)


def test_what_does_not_fit_is_refused(rng):
    keys, c, words = KeySet([fresh_key()]), z2k.empty(4), z2k.empty(16)
    for segments in (0, 32):
        with pytest.raises(ValueError, match="bits of segments"):
            Segmented(1, segments, 64)
    window = Segmented(1, 2, 64)
    for bits in (-1, 40):
        with pytest.raises(ValueError, match="powers at 2"):
            window.deal(keys, MASK, STREAM, bits, words, 4)
    with pytest.raises(ValueError, match="ring elements of shape"):
        window.deal(keys, MASK, STREAM, 18, words[:12], 4)
    for table, sent in ((tables(rng, 8), None), (tables(rng, 4), words[:12])):
        with pytest.raises(ValueError, match="ring elements of shape"):
            window.combine(keys, STREAM, sent, c, 0, table, 0)
