"""Comparison over Z_67 and the odd ring, against Python integers."""

import numpy as np
import pytest
from kernel_oracles import LENGTHS, TILES, WORD, Guarded, samples, stream_words

from pysmpc import _ring
from pysmpc._ring import launch
from pysmpc.ring.prg import KeySet, fresh_key

BASE, P, ODD = 1 << 36, 67, WORD
EDGES = [0, 1, 2, WORD, WORD - 1, 1 << 63, (1 << 63) - 1, (1 << 63) + 1, 1 << 32]


def words_of(n):
    return 448 * ((n + 63) // 64)


def place(e, n):
    """(packed word, bit) of element e: the layout of bits.inc.h."""
    tile, inside = divmod(e, 512)
    width = min(8, (n + 63) // 64 - 8 * tile)
    return 8 * tile + inside % width, inside // width


def column(bit):
    """Byte of a row for a bit of the packed word."""
    return 8 * (bit % 8) + bit // 8


def symbols(key, stream, words, base=P):
    """[words, 64, 64] by definition: 32 digits of each 256-bit fraction, four to a row and lane."""
    out = np.zeros((words, 64, 64), dtype=np.int64)
    drawn = stream_words(key, stream, 512 * words)
    for word in range(words):
        for batch in range(16):
            for lane in range(8):
                limbs = [drawn[512 * word + 32 * batch + 8 * k + lane] for k in range(4)]
                rest = sum(limb << (64 * k) for k, limb in enumerate(limbs))
                digits = []
                for _ in range(8):
                    rest *= base**4
                    digit, rest = rest >> 256, rest & ((1 << 256) - 1)
                    digits.append([digit // base**2 // base, digit // base**2 % base])
                    digits[-1] += [digit % base**2 // base, digit % base**2 % base]
                for j, four in enumerate(zip(digits[::2], digits[1::2], strict=True)):
                    out[word, 4 * batch + j, 8 * lane : 8 * lane + 8] = four[0] + four[1]
    return out


def unpacked(words):
    """[blocks, 64, 64] symbols of a message."""
    data = np.array(words, dtype=np.uint64).view(np.uint8).reshape(-1, 8, 7, 64)
    out = np.zeros((len(data), 8, 8, 64), dtype=np.int64)
    out[:, :, :7] = data & 0x7F
    for k in range(7):
        out[:, :, 7] |= (data[:, :, k] & 0x80).astype(np.int64) >> (k + 1)
    return out.reshape(-1, 64, 64)


def test_symbols_are_digits_of_the_stream():
    key = fresh_key()
    n = 130
    x = Guarded([0] * n)
    out = Guarded([0] * words_of(n))
    launch(_ring.securenn_bits, KeySet([key, fresh_key()]).native, BASE, x.view, out.view, n)
    assert ((unpacked(out.values()) + symbols(key, BASE, 3)) % P == 0).all()
    assert unpacked(out.values()).max() < P


@pytest.mark.parametrize("n", [n for n in LENGTHS if n < 1000] + TILES[:3])
def test_shares_of_bits(n, rng):
    keys = [fresh_key(), fresh_key()]
    for _, x in samples(rng, n):
        source, out = Guarded(x, 3), Guarded([0] * words_of(n), 1)
        launch(_ring.securenn_bits, KeySet(keys).native, BASE, source.view, out.view, n)
        if n > 200:
            assert unpacked(out.values()).shape[0] * 64 >= n
            continue
        total = (unpacked(out.values()) + symbols(keys[0], BASE, (n + 63) // 64)) % P
        for e in range(n):
            word, bit = place(e, n)
            assert [int(v) for v in total[word, :, column(bit)]] == [x[e] >> i & 1 for i in range(64)]


def compared(x, r, less):
    """(both messages, beta, what P2 found) of a comparison."""
    return compared_under([fresh_key(), fresh_key()], fresh_key(), x, r, less)[:3]


def compared_under(keys, pair, x, r, less):
    """As `compared` under keys that are known, and the corrections."""
    n = len(x)
    source, share = Guarded(x), Guarded([0] * words_of(n), 1)
    launch(_ring.securenn_bits, KeySet(keys).native, BASE, source.view, share.view, n)
    copies, message = Guarded(r + r, 3), Guarded([0] * (2 * words_of(n)), 1)
    launch(
        _ring.securenn_compare,
        KeySet(keys, 0, 1).native,
        BASE,
        KeySet([pair, pair]).native,
        BASE,
        share.view,
        copies.view,
        less,
        message.view,
        n,
    )
    found = Guarded([0] * ((n + 63) // 64), 1)
    launch(_ring.securenn_found, message.view, found.view, n)
    control = stream_words(pair, BASE, 8 * ((n + 63) // 64))
    bits = [place(e, n) for e in range(n)]
    beta = [control[8 * word + 6] >> bit & 1 for word, bit in bits]
    zero = [found.values()[word] >> bit & 1 for word, bit in bits]
    return message.values(), beta, zero, share.values()


def pairs(rng, n):
    """x and r that are random, equal, next to each other, and differ in one bit; the edges with all edges."""
    x = [int(v) for v in rng.integers(0, 1 << 64, n, dtype=np.uint64)]
    r = [int(v) for v in rng.integers(0, 1 << 64, n, dtype=np.uint64)]
    for i in range(n):
        kind = i % 6
        if kind:
            other = [x[i], x[i] + 1, x[i] - 1, x[i] ^ (1 << int(rng.integers(64))), r[i]]
            r[i] = other[kind - 1] & WORD
    edges = [(a, b) for a in EDGES for b in EDGES]
    for i, (a, b) in enumerate(edges[: n // 2]):
        x[2 * i], r[2 * i] = a, b
    return x, r


@pytest.mark.parametrize("less", [False, True])
@pytest.mark.parametrize("n", LENGTHS + TILES)
def test_comparison(n, less, rng):
    x, r = pairs(rng, n)
    _, beta, zero = compared(x, r, less)
    assert [b ^ z for b, z in zip(beta, zero, strict=True)] == [int(a > b - less) for a, b in zip(x, r, strict=True)]


@pytest.mark.parametrize("less", [False, True])
def test_one_zero_at_most(less, rng):
    n = 1000
    x, r = pairs(rng, n)
    message, _, zero = compared(x, r, less)
    both = unpacked(message).reshape(2, -1, 64, 64)
    d = both.sum(0) % P
    for e in range(n):
        word, bit = place(e, n)
        assert (d[word, :, column(bit)] == 0).sum() == zero[e]


@pytest.mark.parametrize("less", [False, True])
def test_messages_are_by_definition(less, rng):
    """Each holder's numbers, in their order, times its factors, under its masks."""
    n, keys, pair = 90, [fresh_key(), fresh_key()], fresh_key()
    x, r = pairs(rng, n)
    message, beta, _, share = compared_under(keys, pair, x, r, less)
    messages = unpacked(message).reshape(2, -1, 64, 64)
    words = (n + 63) // 64
    control = stream_words(pair, BASE, 8 * words)
    factors, masks = symbols(pair, BASE + 1, words, P - 1) + 1, symbols(pair, BASE + 2, words)
    shares = [symbols(keys[0], BASE, words), unpacked(share)]
    for e in range(n):
        word, bit = place(e, n)
        at = column(bit)
        turn = sum((control[8 * word + k] >> bit & 1) << k for k in range(6))
        v = r[e] - less + beta[e]
        for lead, sign in ((1, 1), (0, -1)):
            mine = shares[1 - lead][word, :, at]
            numbers = [lead * (i > 0) for i in range(64)]
            if 0 <= v < 1 << 64:
                flips = [lead - int(mine[i]) if v >> i & 1 else int(mine[i]) for i in range(64)]
                steps = [lead * (v >> i & 1) - int(mine[i]) for i in range(64)]
                numbers = [(-s if beta[e] else s) + lead + sum(flips[i + 1 :]) for i, s in enumerate(steps)]
            due = [numbers[i ^ turn] * factors[word, i, at] + sign * masks[word, i, at] for i in range(64)]
            assert [d % P for d in due] == messages[1 - lead][word, :, at].tolist()


# --- the odd ring ---------------------------------------------------------------------


def odd(word):
    return word % ODD


@pytest.mark.parametrize("n", LENGTHS + TILES)
def test_sum_and_carry(n, rng):
    keys = [fresh_key(), fresh_key()]
    for (_, a), (_, b) in zip(samples(rng, n), samples(rng, n), strict=True):
        rows, x, carry = Guarded(a + b, 1), Guarded([0] * n, 1), Guarded([0] * n, 3)
        launch(_ring.securenn_sum, KeySet(keys).native, BASE, rows.view, x.view, carry.view, n)
        assert x.values() == [(p + q) & WORD for p, q in zip(a, b, strict=True)]
        drawn = [odd(v) for v in stream_words(keys[0], BASE, n)]
        carries = [odd(c + d) for c, d in zip(carry.values(), drawn, strict=True)]
        assert carries == [p + q >> 64 for p, q in zip(a, b, strict=True)]
        assert all(c < ODD for c in carry.values())


@pytest.mark.parametrize("n", LENGTHS + TILES)
def test_answers(n, rng):
    key = fresh_key()
    bits = [int(v) for v in rng.integers(0, 2, n)]
    packed = [0] * ((n + 63) // 64)
    for e, bit in enumerate(bits):
        word, at = place(e, n)
        packed[word] |= bit << at
    source, out = Guarded(packed, 1), Guarded([0] * n, 1)
    launch(_ring.securenn_answer, KeySet([key, fresh_key()]).native, BASE, source.view, out.view, n)
    assert [odd(v + w) for v, w in zip(out.values(), stream_words(key, BASE, n), strict=True)] == bits


@pytest.mark.parametrize("n", LENGTHS + TILES)
def test_double_and_open(n, rng):
    keys = [fresh_key(), fresh_key()]
    y = [[odd(int(v)) for v in rng.integers(0, 1 << 64, n, dtype=np.uint64)] for _ in range(2)]
    y[0][:4], y[1][:4] = [0, ODD - 1, 1, ODD - 1][:n], [0, ODD - 1, ODD - 1, 1][:n]
    shares, message = Guarded(y[0] + y[1], 1), Guarded([0] * (2 * n), 1)
    launch(_ring.securenn_double, KeySet(keys, 0, 1).native, BASE, shares.view, message.view, n)
    drawn = [[odd(v) for v in stream_words(key, BASE, n)] for key in keys]
    expected = [odd(2 * a + d) for row, words in zip(y, drawn, strict=True) for a, d in zip(row, words, strict=True)]
    assert message.values() == expected
    total = Guarded([(a + b) & WORD for a, b in zip(expected[:n], expected[n:], strict=True)], 1)
    out, x = Guarded([0] * (2 * n), 1), Guarded([0] * n, 1)
    launch(_ring.securenn_opened, 2, total.view, message.view, out.view, n)
    assert out.values() == [odd(a + b) for a, b in zip(expected[:n], expected[n:], strict=True)] * 2
    launch(_ring.securenn_total, KeySet(keys).native, BASE, x.view, n)
    assert x.values() == [odd(a + b) for a, b in zip(*drawn, strict=True)]


def test_opening_of_every_carry():
    """Sums of 2^64 - 1, which is 0, and of 2^64, which is 1."""
    a, b = [ODD - 1, 1, ODD - 1, 0], [1, ODD - 1, 2, 0]
    total = Guarded([(p + q) & WORD for p, q in zip(a, b, strict=True)])
    messages, out = Guarded(a + b), Guarded([0] * 8)
    launch(_ring.securenn_opened, 2, total.view, messages.view, out.view, 4)
    assert out.values() == [0, 0, 1, 0] * 2
