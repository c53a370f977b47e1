"""The steps of a truncation whose result is opened again, one holder at a time, against integer arithmetic."""

import pytest
from kernel_oracles import LENGTHS, TILES, WORD, Guarded, dealt_share, drawn, signed, stream_words, total

from pysmpc import _beaver, _ring
from pysmpc._ring import launch
from pysmpc.ring.prg import KeySet, fresh_key

BASE, TOP, LANE = 1 << 37, 1 << 62, (1 << 16) - 1


def lanes(words, n):
    return [word >> at & LANE for word in words for at in range(0, 64, 16)][:n]


def packed(values):
    return [sum(v << 16 * i for i, v in enumerate(values[at : at + 4])) for at in range(0, len(values), 4)]


def words(rng, n):
    return [int(v) for v in rng.integers(0, WORD, n, endpoint=True, dtype="uint64")]


def holder(keys, i):
    return KeySet([keys[i]], 0 if i == 0 else -1, 0 if i == len(keys) - 1 else -1)


def corrections_of(keys, power, n):
    """l, t and h as the dealer shares them, less what the others draw; and r."""
    count, d = (n + 3) // 4, 1 << power
    low = [v % d for v in total(keys, BASE + 1, n)]
    less = [-b & WORD for b in total(keys, BASE, n)]
    sent = [(v - t) & WORD for v, t in zip(low, drawn(keys, BASE + 1, n), strict=True)]
    upper = [v >> 64 - power << 16 - power for v in less]
    tops = [(v >> 63 - power & 1) << 16 - power for v in less]
    for stream, values in ((BASE + 2, upper), (BASE + 3, tops)):
        for key in keys[:-1]:
            values = [(v - t) & LANE for v, t in zip(values, lanes(stream_words(key, stream, count), n), strict=True)]
        sent += packed(values)
    return sent, [(v * d + x) & WORD for v, x in zip(less, low, strict=True)]


def check(holders, power, n, z, rng):
    keys, divisor, d, count = (
        [fresh_key() for _ in range(holders)],
        _beaver.Divisor(1 << power),
        1 << power,
        (n + 3) // 4,
    )
    sent = Guarded(words(rng, n + 2 * count), 1)  # what was there before is not sent, as anywhere below
    launch(_ring.reopen_deal, KeySet(keys).native, BASE, divisor, sent.view, n)
    expected, r = corrections_of(keys, power, n)
    assert sent.values() == expected

    shares = [words(rng, n) for _ in keys]
    shares[0] = [(v - sum(row[i] for row in shares[1:])) & WORD for i, v in enumerate(z)]
    c = [0] * n
    for i, share in enumerate(shares):
        source, out, mine = Guarded(share, 3), Guarded(words(rng, n), 1), sent.view if i == holders - 1 else None
        launch(_ring.reopen_mask, holder(keys, i).native, BASE, divisor, source.view, mine, out.view, n)
        c = [(a + b) & WORD for a, b in zip(c, out.values(), strict=True)]
    assert c == [(v + TOP + m) & WORD for v, m in zip(z, r, strict=True)]

    opened, result, w = Guarded(c, 3), [0] * n, Guarded([0] * count, 1)
    for i in range(holders):
        out, message = Guarded(words(rng, n), 1), Guarded(words(rng, count), 3)
        mine = sent.view if i == holders - 1 else None
        own = holder(keys, i).native
        launch(_ring.reopen_finish, own, BASE, divisor, opened.view, mine, out.view, n)
        result = [(a + b) & WORD for a, b in zip(result, out.values(), strict=True)]
        launch(_ring.reopen_message, own, BASE, divisor, opened.view, out.view, message.view, n)
        upper, tops = (
            lanes(dealt_share(keys, i, BASE + k, count, sent.values()[at : at + count]), n)
            for k, at in ((2, n), (3, n + count))
        )
        told = [(a + (b if v < 1 << 63 else 0)) & LANE for a, b, v in zip(upper, tops, c, strict=True)]
        assert message.values() == packed(told)
        launch(_ring.add_lanes, w.view, message.view, w.view, count)
    for value, got in zip(z, map(signed, result), strict=True):
        assert got in ((value // d, value // d + 1) if value % d else (value // d,))
    again = Guarded(words(rng, n), 1)
    launch(_ring.reopen_opened, divisor, opened.view, w.view, again.view, n)
    masks = total(keys, BASE, n)
    assert again.values() == [(v - b) & WORD for v, b in zip(result, masks, strict=True)]
    # of p bits each, and no more
    assert all(v % (1 << 16 - power) == 0 for v in lanes(w.values(), n))


@pytest.mark.parametrize("n", LENGTHS + TILES)
def test_lengths(n, rng):
    check(2, 16, n, [int(v) for v in rng.integers(-TOP, TOP, n, endpoint=True)], rng)


@pytest.mark.parametrize("power", [1, 2, 7, 10, 15, 16])
@pytest.mark.parametrize("holders", [2, 3, 5])
def test_powers(holders, power, rng):
    check(holders, power, 67, [int(v) for v in rng.integers(-TOP, TOP, 67, endpoint=True)], rng)
    check(holders, power, 67, [TOP if i % 2 else -TOP for i in range(67)], rng)
    check(holders, power, 67, [i % 3 - 1 for i in range(67)], rng)


@pytest.mark.parametrize("n", LENGTHS)
def test_sums_of_lanes(n, rng):
    x, y = Guarded(words(rng, n), 1), Guarded(words(rng, n), 3)
    out = Guarded(words(rng, n), 1)
    launch(_ring.add_lanes, x.view, y.view, out.view, n)
    sums = [(a + b) & LANE for a, b in zip(lanes(x.values(), 4 * n), lanes(y.values(), 4 * n), strict=True)]
    assert out.values() == packed(sums)
