"""The steps of a truncation, one holder at a time, against integer arithmetic."""

import pytest
from kernel_oracles import LENGTHS, TILES, WORD, Guarded, dealt_share, drawn, samples, signed, stream_words, total

from pysmpc import _beaver, _ring
from pysmpc._ring import launch
from pysmpc.ring.prg import KeySet, fresh_key

TOP = 1 << 62
DIVISORS = [
    2,
    4,
    1 << 16,
    1 << 37,
    1 << 40,
    1 << 41,
    1 << 61,
    3,
    10,
    1000,
    999_983,
    (1 << 61) - 1,
    TOP - 1,
    1_000_000_007,
]
BASE = 1 << 33


def corrections_of(keys, d, n, less):
    """What the dealer sends: quotient and jump of r, less what the others draw."""
    r = [(v - w) & WORD for v, w in zip(total(keys, BASE, n), less, strict=True)]
    quotients = [(v // d - t) & WORD for v, t in zip(r, drawn(keys, BASE + 1, n), strict=True)]
    if not short(d):
        jumps = [v // d - signed(v) // d for v in r]
        return quotients + [(v - t) & WORD for v, t in zip(jumps, drawn(keys, BASE + 2, n), strict=True)]
    tops = [v >> 63 for v in r]
    for key in keys[:-1]:
        parts = stream_words(key, BASE + 2, (n + 1) // 2), stream_words(key, BASE + 3, (n + 7) // 8)
        tops = [v - t for v, t in zip(tops, joined(*parts, n), strict=True)]
    low, high = [v & 0xFFFF_FFFF for v in tops], [v >> 32 & 0xFF for v in tops]
    return quotients + packed(low, 32) + packed(high, 8)


def short(d):
    """Whether jumps are dealt in 40 bits: 32 of each, then 8 of each."""
    return d <= 1 << 40 and d & (d - 1) == 0


def packed(values, bits):
    """As many to a word as fit, the first lowest."""
    each = 64 // bits
    return [sum(v << bits * i for i, v in enumerate(values[at : at + each])) for at in range(0, len(values), each)]


def unpacked(words, bits, n):
    return [word >> at & (1 << bits) - 1 for word in words for at in range(0, 64, bits)][:n]


def joined(low, high, n):
    return [a | b << 32 for a, b in zip(unpacked(low, 32, n), unpacked(high, 8, n), strict=True)]


def jump_shares(keys, i, d, n, sent):
    """Holder i's shares of the jumps."""
    if not short(d):
        return dealt_share(keys, i, BASE + 2, n, sent)
    low, high = (n + 1) // 2, (n + 7) // 8
    parts = dealt_share(keys, i, BASE + 2, low, sent[:low]), dealt_share(keys, i, BASE + 3, high, sent[low:])
    return [(v << (65 - d.bit_length())) & WORD for v in joined(*parts, n)]


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


def words(rng, n):
    return [int(v) for v in rng.integers(0, WORD, n, endpoint=True, dtype="uint64")]


def check(holders, d, n, z, rng, factor=1, owes=False, adds=False):
    """A truncation of z, which is factor (odd) times what the holders share plus what they are owed."""
    divisor, keys = _beaver.Divisor(d), [fresh_key() for _ in range(holders)]
    corrections = Guarded([0] * (n + ((n + 1) // 2 + (n + 7) // 8 if short(d) else n)), 1)
    owed = Guarded(words(rng, n) if owes else [0] * n, 3)
    dealing = (owed.view if owes else None, factor & WORD)
    launch(_ring.truncate_deal, KeySet(keys).native, BASE, divisor, corrections.view, n, *dealing)
    assert corrections.values() == corrections_of(keys, d, n, [factor * v for v in owed.values()])

    shares = [words(rng, n) for _ in keys[1:]]
    whole = [(v * pow(factor, -1, 1 << 64) - w) & WORD for v, w in zip(z, owed.values(), strict=True)]
    shares.append([(v - sum(s)) & WORD for v, s in zip(whole, zip(*shares, strict=True) if n else [], strict=True)])
    c = [0] * n
    for i, share in enumerate(shares):
        source, out = Guarded(share, 3), Guarded([0] * n, 1)
        launch(
            _ring.truncate_mask,
            holder(keys, i).native,
            BASE,
            divisor.offset,
            source.view,
            out.view,
            n,
            factor & WORD,
            0,
        )
        lead = divisor.offset if i == 0 else 0
        masks = stream_words(keys[i], BASE, n)
        assert out.values() == [(factor * v + m + lead) & WORD for v, m in zip(share, masks, strict=True)]
        c = [(a + b) & WORD for a, b in zip(c, out.values(), strict=True)]

    result, opened = [0] * n, Guarded(c, 1)
    for i in range(holders):
        out = Guarded([0] * n, 3)
        mine = corrections.view if i == holders - 1 else None
        x = Guarded(words(rng, n) if adds else [0] * n, 1)
        adding = x.view if adds else None
        launch(_ring.truncate_finish, holder(keys, i).native, BASE, divisor, opened.view, mine, out.view, n, adding, 0)
        sent = corrections.values()
        quotient = dealt_share(keys, i, BASE + 1, n, sent[:n])
        jump = jump_shares(keys, i, d, n, sent[n:])
        own = [v // d - divisor.offset // d if i == 0 else 0 for v in c]
        expected = [
            (p - q + (j if v < 1 << 63 else 0)) & WORD for p, q, j, v in zip(own, quotient, jump, c, strict=True)
        ]
        assert out.values() == [(a + b) & WORD for a, b in zip(expected, x.values(), strict=True)]
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


@pytest.mark.parametrize("n", [1, 64, 513])
@pytest.mark.parametrize("d", [1 << 16, 1 << 37, 1000])
@pytest.mark.parametrize("factor", [1, -1, 12345])
def test_updates(factor, d, n, rng):
    for z in bounded(rng, n, _beaver.Divisor(d).offset):
        check(3, d, n, z, rng, factor, owes=True, adds=True)


@pytest.mark.parametrize("n", [1, 2, 63, 64, 513, 4097])
@pytest.mark.parametrize("holders", [2, 3, 5])
@pytest.mark.parametrize("d", [1 << 38, 3 << 39])
def test_upper_halves(d, holders, n, rng):
    """Messages of halves are those of words, cut; what is opened of them divides like c with a middle for the rest."""
    keys, divisor = [fresh_key() for _ in range(holders)], _beaver.Divisor(d)
    factor, even, sums = 12345, (n + 1) // 2, [0] * ((n + 1) // 2)
    for i in range(holders):
        share, whole, out = Guarded(words(rng, n), 3), Guarded([0] * n, 1), Guarded([0] * even, 1)
        given = holder(keys, i).native, BASE, divisor.offset, share.view
        launch(_ring.truncate_mask, *given, whole.view, n, factor, 0)
        launch(_ring.truncate_mask, *given, out.view, n, factor, holders)
        cut = [v >> 32 for v in whole.values()]
        pairs = [low | high << 32 for low, high in zip(cut[::2], [*cut[1::2], 0], strict=False)]
        assert out.values() == pairs
        sums = [(a + b) & WORD for a, b in zip(sums, pairs, strict=True)]
    lanes = [half for word in sums for half in (word & 0xFFFFFFFF, word >> 32)][:n]
    less = [half >> 30 & 1 if i % 2 == 0 and holders % 2 == 0 else 0 for i, half in enumerate(lanes)]
    c = [((h << 32) + (1 if i % 2 else holders) * 2**31 - less[i]) & WORD for i, h in enumerate(lanes)]
    opened, halved = Guarded(c, 1), Guarded(sums, 1)
    for i in range(holders):
        x, out, expected = Guarded(words(rng, n), 1), Guarded([0] * n, 3), Guarded([0] * n, 1)
        given = holder(keys, i).native, BASE, divisor
        launch(_ring.truncate_finish, *given, opened.view, None, expected.view, n, x.view, 0)
        launch(_ring.truncate_finish, *given, halved.view, None, out.view, n, x.view, holders)
        assert out.values() == expected.values()


@pytest.mark.parametrize("n", LENGTHS)
@pytest.mark.parametrize("bits", [1, 16, 37, 62])
def test_local(bits, n, rng):
    for _, z in samples(rng, n):
        for lead in (True, False):
            source, out = Guarded(z, 1), Guarded([0] * n, 3)
            launch(_ring.truncate_local, source.view, bits, lead, out.view, n)
            assert out.values() == [v >> bits if lead else -((-v & WORD) >> bits) & WORD for v in z]
