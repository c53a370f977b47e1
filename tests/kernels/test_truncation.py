"""The steps of a truncation, one holder at a time, against integer arithmetic."""

import pytest
from kernel_oracles import LENGTHS, TILES, WORD, Guarded, dealt_share, drawn, samples, signed, stream_words, total

from pysmpc import _beaver, _ring
from pysmpc.prg import KeySet, fresh_key

TOP = 1 << 62
DIVISORS = [2, 4, 1 << 16, 1 << 37, 1 << 61, 3, 10, 1000, 999_983, (1 << 61) - 1, TOP - 1, 1_000_000_007]
BASE = 1 << 33


def corrections_of(keys, d, n):
    """What the dealer sends: quotient and jump of r, less what the others draw."""
    r = total(keys, BASE, n)
    quotients = [v // d for v in r]
    jumps = [v // d - signed(v) // d for v in r]
    return [
        (v - t) & WORD
        for values, stream in ((quotients, 1), (jumps, 2))
        for v, t in zip(values, drawn(keys, BASE + stream, n), strict=True)
    ]


def holder(keys, i):
    """The key set of a process that hosts holder i alone."""
    return KeySet([keys[i]], 0 if i == 0 else -1, 0 if i == len(keys) - 1 else -1)


def bounded(rng, n, offset):
    """Values of a truncation: random up to the bound, and the bound itself."""
    yield [int(v) for v in rng.integers(-offset, offset, n, endpoint=True)]
    yield [offset if i % 2 else -offset for i in range(n)]
    yield [i % 3 - 1 for i in range(n)]


@pytest.mark.parametrize("d", DIVISORS)
def test_offset(d):
    assert _beaver.Divisor(d).offset == TOP // d * d


@pytest.mark.parametrize("d", [-1, 0, 1, TOP, TOP + 1, 1 << 63])
def test_divisors_out_of_range(d):
    with pytest.raises(ValueError, match="divisor"):
        _beaver.Divisor(d)


def check(holders, d, n, z, rng):
    divisor, keys = _beaver.Divisor(d), [fresh_key() for _ in range(holders)]
    corrections = Guarded([0] * (2 * n), 1)
    _beaver.truncate_deal(KeySet(keys).native, BASE, divisor, corrections.address, n)
    assert corrections.values() == corrections_of(keys, d, n)

    shares = [[int(v) for v in rng.integers(0, WORD, n, endpoint=True, dtype="uint64")] for _ in keys[1:]]
    shares.append([(v - sum(s)) & WORD for v, s in zip(z, zip(*shares, strict=True) if n else [], strict=True)])
    c = [0] * n
    for i, share in enumerate(shares):
        source, out = Guarded(share, 3), Guarded([0] * n, 1)
        _beaver.truncate_mask(holder(keys, i).native, BASE, divisor.offset, source.address, out.address, n)
        lead = divisor.offset if i == 0 else 0
        masks = stream_words(keys[i], BASE, n)
        assert out.values() == [(v + m + lead) & WORD for v, m in zip(share, masks, strict=True)]
        c = [(a + b) & WORD for a, b in zip(c, out.values(), strict=True)]

    result, opened = [0] * n, Guarded(c, 1)
    for i in range(holders):
        out = Guarded([0] * n, 3)
        mine = corrections.address if i == holders - 1 else 0
        _beaver.truncate_finish(holder(keys, i).native, BASE, divisor, opened.address, mine, out.address, n)
        sent = corrections.values()
        quotient = dealt_share(keys, i, BASE + 1, n, sent[:n])
        jump = dealt_share(keys, i, BASE + 2, n, sent[n:])
        own = [v // d - divisor.offset // d if i == 0 else 0 for v in c]
        expected = [
            (p - q + (j if v < 1 << 63 else 0)) & WORD for p, q, j, v in zip(own, quotient, jump, c, strict=True)
        ]
        assert out.values() == expected
        result = [(a + b) & WORD for a, b in zip(result, expected, strict=True)]
    for value, got in zip(z, map(signed, result), strict=True):
        assert got in ((value // d, value // d + 1) if value % d else (value // d,))


@pytest.mark.parametrize("n", LENGTHS + TILES)
def test_lengths(n, rng):
    for d in (1 << 16, 1000):
        check(2, d, n, next(bounded(rng, n, _beaver.Divisor(d).offset)), rng)


@pytest.mark.parametrize("d", DIVISORS)
@pytest.mark.parametrize("holders", [2, 3, 5])
def test_divisors(holders, d, rng):
    for z in bounded(rng, 67, _beaver.Divisor(d).offset):
        check(holders, d, len(z), z, rng)


@pytest.mark.parametrize("n", LENGTHS)
@pytest.mark.parametrize("bits", [1, 16, 37, 62])
def test_local(bits, n, rng):
    for _, z in samples(rng, n):
        for lead in (True, False):
            source, out = Guarded(z, 1), Guarded([0] * n, 3)
            _ring.truncate_local(source.address, bits, lead, out.address, n)
            assert out.values() == [v >> bits if lead else -((-v & WORD) >> bits) & WORD for v in z]
