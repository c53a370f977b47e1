"""Bits in both worlds and selection by them, one holder at a time."""

import pytest
from kernel_oracles import (
    LENGTHS,
    TILES,
    WORD,
    Guarded,
    dealt_share,
    drawn,
    pack,
    samples,
    signed,
    total,
    total_xor,
    unpack,
)

from pysmpc import _beaver, _ring
from pysmpc._ring import launch
from pysmpc.ring.prg import KeySet, fresh_key

BASE, RHO, RHO_SHARES = 1 << 36, (1 << 36) + 14, (1 << 36) + 5
DIVISORS = [None, 2, 1 << 16, 1 << 37, 3, 1000, (1 << 61) - 1]


def holder(keys, i):
    return KeySet([keys[i]], 0 if i == 0 else -1, 0 if i == len(keys) - 1 else -1)


def bits_of(keys, n):
    """The dealt bits rho."""
    return unpack(total_xor(keys, RHO, (n + 63) // 64), n)


def dealt_bits(keys, n):
    """The dealer's corrections, and each holder's shares of rho."""
    corrections = Guarded([0] * n, 1)
    launch(_ring.bit_deal, KeySet(keys).native, RHO, RHO_SHARES, corrections.view, n)
    return [dealt_share(keys, i, RHO_SHARES, n, corrections.values()) for i in range(len(keys))]


@pytest.mark.parametrize("n", LENGTHS + TILES)
@pytest.mark.parametrize("holders", [2, 3])
def test_shared_bits(holders, n, rng):
    keys = [fresh_key() for _ in range(holders)]
    rho, shares = bits_of(keys, n), dealt_bits(keys, n)
    assert [sum(column) & WORD for column in zip(*shares, strict=True)] == rho
    beta = [int(v) for v in rng.integers(0, 2, n)]
    packed, result = Guarded(pack(beta), 1), [0] * n
    for i, share in enumerate(shares):
        source, out = Guarded(share, 3), Guarded([0] * n, 1)
        launch(_ring.bit_share, holder(keys, i).native, packed.view, source.view, out.view, n)
        lead = int(i == 0)
        expected = [(b * lead + (1 - 2 * b) * s) & WORD for b, s in zip(beta, share, strict=True)]
        assert out.values() == expected
        result = [(a + b) & WORD for a, b in zip(result, expected, strict=True)]
    assert result == [b ^ r for b, r in zip(beta, rho, strict=True)]


def corrections_of(keys, d, n):
    """By definition: [quotient, jump,] and their products with rho, less what the others draw."""
    r, rho = total(keys, BASE, n), bits_of(keys, n)
    if d is None:
        rows = [[v * b for v, b in zip(r, rho, strict=True)]]
    else:
        quotient = [v // d for v in r]
        jump = [v // d - signed(v) // d for v in r]
        rows = [quotient, jump, *([v * b for v, b in zip(row, rho, strict=True)] for row in (quotient, jump))]
    return [
        (v - t) & WORD
        for stream, row in enumerate(rows, 1)
        for v, t in zip(row, drawn(keys, BASE + stream, n), strict=True)
    ]


def check(holders, d, flip, n, z, rng):
    keys = [fresh_key() for _ in range(holders)]
    divisor = None if d is None else _beaver.Divisor(d)
    offset = divisor.offset if divisor else 0
    rows = 4 if divisor else 1
    corrections = Guarded([0] * (rows * n), 1)
    launch(_ring.select_deal, KeySet(keys).native, BASE, RHO, divisor, corrections.view, n)
    assert corrections.values() == corrections_of(keys, d, n)
    c = Guarded([(v + offset + m) & WORD for v, m in zip(z, total(keys, BASE, n), strict=True)], 3)
    beta = [int(v) for v in rng.integers(0, 2, n)]
    packed = Guarded(pack(beta), 1)
    result = [0] * n
    for i, share in enumerate(dealt_bits(keys, n)):
        rho, out = Guarded(share, 3), Guarded([0] * n, 1)
        mine = corrections.view if i == holders - 1 else None
        launch(
            _ring.select_finish,
            holder(keys, i).native,
            BASE,
            divisor,
            flip,
            c.view,
            packed.view,
            rho.view,
            mine,
            out.view,
            n,
        )
        result = [(a + b) & WORD for a, b in zip(result, out.values(), strict=True)]
    bits = [b ^ r ^ flip for b, r in zip(beta, bits_of(keys, n), strict=True)]
    for value, bit, got in zip(z, bits, map(signed, result), strict=True):
        if not bit:
            assert got == 0
        elif d is None:
            assert got == signed(value)
        else:
            assert got in ((value // d, value // d + 1) if value % d else (value // d,))


@pytest.mark.parametrize("n", LENGTHS + TILES)
def test_lengths(n, rng):
    check(2, None, False, n, next(samples(rng, n))[1], rng)
    offset = _beaver.Divisor(1 << 16).offset
    check(2, 1 << 16, True, n, [int(v) for v in rng.integers(-offset, offset, n, endpoint=True)], rng)


@pytest.mark.parametrize("d", DIVISORS)
@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("holders", [2, 3, 5])
def test_divisors(holders, flip, d, rng):
    offset = _beaver.Divisor(d).offset if d else (1 << 63) - 1
    z = [offset, -offset, 0, 1, -1, *(int(v) for v in rng.integers(-offset, offset, 70, endpoint=True))]
    check(holders, d, flip, len(z), z, rng)
