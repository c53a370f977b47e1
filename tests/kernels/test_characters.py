"""Dealt cosines and sines of multiples, and their sums: by Python's integers, and by their parts in turn."""

import pytest
import torch
from kernel_oracles import (
    LENGTHS,
    WORD,
    Guarded,
    dealt_share,
    drawn,
    stream_words,
    tensor,
    total,
    turn,
    unsigned,
)

from pysmpc import _ring
from pysmpc._ring import launch
from pysmpc.mpc.functions.characters import DealtTurns, Factors
from pysmpc.mpc.functions.masked import PIECE, Dealt
from pysmpc.ring import z2k
from pysmpc.ring.integer_functions import Multiples
from pysmpc.ring.prg import KeySet, fresh_key

MASK, STREAM, TERMS = 1 << 34, 1 << 35, 2
PIECES = [64, 100, 301]  # an odd piece begins its later planes in the middle of a block
SOME = [*(n for n in LENGTHS if n < 70), 255, 256, 257, 1003]
LARGE = 1 << 30


def draws(rng, n, low=0, high=WORD):
    return [int(v) for v in rng.integers(low, high, n, endpoint=True, dtype="uint64" if low >= 0 else "int64")]


def pieces(n, piece):
    """(number, first element, elements) of each."""
    return [(i, first, min(piece, n - first)) for i, first in enumerate(range(0, n, piece))]


def rounded(value, shift):
    return value + (1 << shift >> 1) >> shift


def multiples(words, step):
    """Cosines and sines of the first TERMS multiples, as rows: cosines first."""
    found = [[turn(k * step * w & WORD) for w in words] for k in range(1, TERMS + 1)]
    return [[pair[part] for pair in row] for part in (0, 1) for row in found]


@pytest.mark.parametrize("holders", [1, 2, 3])
@pytest.mark.parametrize("n", SOME)
def test_what_is_dealt(n, holders, rng):
    keys, [step] = [fresh_key() for _ in range(holders)], draws(rng, 1)
    for piece, shift in zip(PIECES, (0, 15, 12), strict=True):
        out = Guarded([7] * (2 * TERMS * n), 1)
        launch(_ring.turns_deal, KeySet(keys).native, MASK, STREAM, step, TERMS, piece, shift, out.view, n)
        masks, expected = total(keys, MASK, n), []
        for i, first, m in pieces(n, piece):
            rows = multiples(masks[first : first + m], step)
            values = [rounded(v, shift) for row in rows for v in row]
            others = drawn(keys, STREAM + i, len(values))
            expected += [(v - w) & WORD for v, w in zip(values, others, strict=True)]
        assert out.values() == expected


def factors(c, a, b, step, shift):
    """Of the dealt cosines and of the dealt sines."""
    rows = multiples(c, step)
    left, right = [], []
    for k in range(TERMS):
        pairs = list(zip(rows[k], rows[TERMS + k], strict=True))
        left.append([rounded(a[k] * x + b[k] * y, shift) for x, y in pairs])
        right.append([rounded(a[k] * y - b[k] * x, shift) for x, y in pairs])
    return left + right


COEFFICIENTS = {
    "large": lambda rng: ([LARGE, -LARGE], [LARGE, LARGE]),
    "both": lambda rng: (draws(rng, TERMS, -LARGE, LARGE), draws(rng, TERMS, -LARGE, LARGE)),
    "even": lambda rng: (draws(rng, TERMS, -LARGE, LARGE), [0, 0]),
    "odd, and nothing": lambda rng: ([0, 0], [draws(rng, 1, -LARGE, LARGE)[0], 0]),
}


@pytest.mark.parametrize("kind", COEFFICIENTS)
@pytest.mark.parametrize("n", SOME)
def test_sums_of_every_holder(n, kind, rng):
    keys, [step, constant] = [fresh_key() for _ in range(3)], draws(rng, 2)
    a, b = COEFFICIENTS[kind](rng)
    for piece, shift in zip(PIECES, (30, 61, 36), strict=True):
        c, sent = draws(rng, n), draws(rng, 2 * TERMS * n)
        out, given, corrections = Guarded([7] * (3 * n), 1), Guarded(c, 3), Guarded(sent, 5)
        launch(
            _ring.turns_combine, KeySet(keys, 1, 2).native, STREAM, corrections.view, given.view, tensor(a + b), step,
            TERMS, piece, shift, constant, out.view, n,
        )  # fmt: skip
        expected = [[constant * (row == 1)] * n for row in range(3)]
        for i, first, m in pieces(n, piece):
            planes = factors(c[first : first + m], a, b, step, shift)
            own = sent[2 * TERMS * first : 2 * TERMS * (first + m)]
            for row in range(3):
                words = dealt_share(keys, row, STREAM + i, len(own), own)
                for plane, found in enumerate(planes):
                    for e, factor in enumerate(found):
                        expected[row][first + e] += factor * words[plane * m + e]
        assert out.values() == [v & WORD for row in expected for v in row]
        assert given.values() == c
        assert corrections.values() == sent


def test_a_holder_alone_draws_its_words(rng):
    """Where nothing is sent, also the last holder's words are drawn."""
    key, c, n = fresh_key(), draws(rng, 40), 40
    out, corrections = Guarded([7] * n), Guarded(draws(rng, 4 * n))
    for place in (-1, 0):
        launch(
            _ring.turns_combine, KeySet([key], -1, place).native, STREAM, None if place == 0 else corrections.view,
            Guarded(c).view, tensor([1, LARGE, LARGE, 2]), 3, TERMS, 64, 31, 9, out.view, n,
        )  # fmt: skip
        words, planes = stream_words(key, STREAM, 4 * n), factors(c, [1, LARGE], [LARGE, 2], 3, 31)
        flat = [f for row in planes for f in row]
        assert out.values() == [sum(flat[e::n][k] * words[e::n][k] for k in range(4)) & WORD for e in range(n)]


def parts_of(n, terms, rng):
    """Keys of three holders, c, and coefficients of a sum of many terms."""
    keys = [fresh_key() for _ in range(3)]
    c = torch.from_numpy(rng.integers(-(1 << 63), 1 << 63, n))
    return keys, c, torch.from_numpy(rng.integers(-LARGE, LARGE, (2, terms), endpoint=True))


@pytest.mark.parametrize("n", [0, 1, 63, 2047, 2048, 2049, 5000])
def test_kernels_do_what_their_parts_do(n, threads, rng):
    """Words dealt and combined at once are those of the cosines, their factors and the products."""
    terms, step = 9, draws(rng, 1)[0]
    keys, c, coefficients = parts_of(n, terms, rng)
    everyone, hosted = KeySet(keys), KeySet(keys, 0, 2)
    for words, factor in (
        (DealtTurns(step, terms), Factors(coefficients, 36, step)),
        (DealtTurns(step, terms, 15), Factors(coefficients * torch.tensor([[0], [1]]), 41, step)),
        (DealtTurns(step, terms, 18), Factors(coefficients * torch.tensor([[1], [0]]), 31, step)),
    ):
        r, own = everyone.total(MASK, n), z2k.empty(2 * terms * n)
        for i, first, m in pieces(n, PIECE):
            found = words(r[first : first + m]).reshape(-1).contiguous()
            own[2 * terms * first : 2 * terms * (first + m)] = everyone.take(STREAM + i, found)
        expected, dealt = z2k.empty(3, n), Dealt(2 * terms, n, STREAM, own)
        for at, each in dealt.pieces(hosted):
            expected[:, at] = z2k.weighted(factor(c[at]).contiguous(), each)
        expected[0] += 12345
        for count in (1, 3):
            threads(count)
            out = z2k.empty(2 * terms * n)
            words.deal(everyone, MASK, STREAM, out, n)
            assert torch.equal(out, own)
            assert torch.equal(factor.combine(hosted, dealt, c, 12345), expected)


def test_the_sum_is_the_function(rng):
    """a cos + b sin of the difference of the opened angle and its mask, to what rounding leaves."""
    n, terms, step = 500, 3, draws(rng, 1)[0] | 1
    keys, _, coefficients = parts_of(n, terms, rng)
    everyone, hosted = KeySet(keys), KeySet(keys, 0, 2)
    x = torch.from_numpy(rng.integers(-(1 << 63), 1 << 63, n))
    words, corrections = DealtTurns(step, terms), z2k.empty(2 * terms * n)
    words.deal(everyone, MASK, STREAM, corrections, n)
    factor, dealt = Factors(coefficients, 36, step), Dealt(2 * terms, n, STREAM, corrections)
    out = factor.combine(hosted, dealt, x + everyone.total(MASK, n), 0).sum(0)
    a, b = coefficients.tolist()
    for value, found in zip(unsigned(x), out.tolist(), strict=True):
        pairs = [turn(k * step * value & WORD) for k in range(1, terms + 1)]
        exact = sum(a[k] * cosine + b[k] * sine for k, (cosine, sine) in enumerate(pairs))
        assert abs(found - exact / (1 << 6)) < 12 * terms * (1 << 30)


def test_what_does_not_fit_is_refused(rng):
    keys, c, coefficients = parts_of(4, 2, rng)
    angles, words = Multiples(3, 2, 64), z2k.empty(16)
    for shift in (-1, 30):
        with pytest.raises(ValueError, match="cosines of 30 bits"):
            angles.deal(KeySet(keys), MASK, STREAM, shift, words, 4)
    with pytest.raises(ValueError, match="expected ring elements of shape"):
        angles.deal(KeySet(keys), MASK, STREAM, 0, words[:12], 4)
    for shift in (29, 62):
        with pytest.raises(ValueError, match="from 30 to 61"):
            angles.combine(KeySet(keys), STREAM, None, c, coefficients, shift, 0)
    for wrong in (
        {"corrections": words[:12]},
        {"coefficients": coefficients[:, :1].contiguous()},
        {"c": c.reshape(2, 2)},
    ):
        given = {"corrections": None, "c": c, "coefficients": coefficients} | wrong
        with pytest.raises(ValueError, match="expected ring elements of shape"):
            angles.combine(KeySet(keys), STREAM, shift=36, constant=0, **given)
