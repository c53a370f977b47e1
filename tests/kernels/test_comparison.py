"""The rounds of a comparison, one holder at a time: every opened bit less its mask is what
the circuit of src/c/compare.inc.h is defined to hold at that point."""

import functools
import operator

import pytest
from kernel_oracles import (
    LENGTHS,
    TILES,
    WORD,
    Guarded,
    packed_words,
    planes,
    samples,
    total,
    total_xor,
    unpack,
)

from pysmpc import _beaver, _ring
from pysmpc._ring import launch
from pysmpc.ring.prg import KeySet, fresh_key

BASE = 1 << 35
KNOWN = BASE + 16
S_NODE_MASKS, S_ROOT_MASKS, S_RHO = 10, 11, 14
HALF = (1 << 63) - 1


def holder(keys, i):
    return KeySet([keys[i]], 0 if i == 0 else -1, 0 if i == len(keys) - 1 else -1)


def groups(c, r, size):
    """[group](lt, eq) of c and r modulo 2^63, in groups of bits from the lowest up.

    The top group of four is three bits wide: 63 bits are compared.
    """
    c, r, out = c & HALF, r & HALF, []
    for at in range(0, 64, size):
        a, b = c >> at & (1 << size) - 1, r >> at & (1 << size) - 1
        out.append((int(a < b), int(a == b)))
    return out


def node_inputs(parts, with_eq):
    """eq_3 eq_2 eq_1 [eq_0] lt_2 lt_1 lt_0"""
    return [parts[i][1] for i in range(3, 0 if not with_eq else -1, -1)] + [parts[i][0] for i in (2, 1, 0)]


def combined(messages):
    out = [0] * len(messages[0])
    for message in messages:
        out = [a ^ b for a, b in zip(out, message, strict=True)]
    return out


def run(holders, c, offset, rng, width=4, shared=False, masks=None):
    """All rounds from the opened c for values of 16 * width bits; the bits that come out, checked on the way.

    shared: the monomials of r are those of another comparison, from KNOWN.
    masks: under which they are opened, where that is not a stream of its own.
    """
    n = len(c)
    words = packed_words(n)
    keys = [fresh_key() for _ in range(holders)]
    each = [holder(keys, i) for i in range(holders)]
    state_size, *message_sizes, dealt = _beaver.compare_sizes(n, width, shared)
    corrections = Guarded([0] * dealt, 1)
    given = None if masks is None else Guarded(masks, 5)
    address = given.view if given else None
    launch(_ring.compare_deal, KeySet(keys).native, BASE, width, corrections.view, n, shared, address)
    mine = [corrections.view if i == holders - 1 else None for i in range(holders)]
    known, chunk_corrections = BASE, corrections
    if shared:
        known, chunk_corrections = KNOWN, Guarded([0] * _beaver.compare_sizes(n, width)[4], 1)
        launch(_ring.compare_deal, KeySet(keys).native, KNOWN, width, chunk_corrections.view, n, False, address)
    chunks_of = [chunk_corrections.view if i == holders - 1 else None for i in range(holders)]
    r = total(keys, known, n) if masks is None else masks
    opened_c = Guarded(c, 3)
    lowest, up = 4 - width, 64 - 16 * width  # the bits that count are at the top
    shifted = [(v - offset << up) & WORD for v in c]
    lower = [v << up & WORD for v in r]

    # round 1: inputs of the nodes, from chunks of four bits; the lowest node needs no eq_0
    chunks = [groups(a, b, 4) for a, b in zip(shifted, lower, strict=True)]
    states, messages = [], []
    for i in range(holders):
        state, message = Guarded([0] * state_size, 1), Guarded([0] * message_sizes[0], 1)
        launch(
            _ring.compare_chunks,
            each[i].native,
            BASE,
            width,
            chunks_of[i],
            opened_c.view,
            offset,
            state.view,
            message.view,
            n,
            known,
        )
        states.append(state)
        messages.append(message.values())
    first = combined(messages)
    masks = total_xor(keys, BASE + S_NODE_MASKS, len(first))
    bits = planes([a ^ b for a, b in zip(first, masks, strict=True)], 7 * width - 1, n)
    expected = [
        functools.reduce(
            operator.iadd, (node_inputs(chunk[4 * j : 4 * j + 4], j > lowest) for j in range(lowest, 4)), []
        )
        for chunk in chunks
    ]
    assert [list(column) for column in zip(*bits, strict=True)] == expected
    kept = planes(combined([state.values() for state in states]), width + 1, n)
    assert [list(column) for column in zip(*kept, strict=True)] == [
        [chunk[4 * j + 3][0] for j in range(lowest, 4)] + [(a ^ b) >> 63]
        for chunk, a, b in zip(chunks, shifted, lower, strict=True)
    ]

    # round 2: inputs of the root, from nodes of sixteen bits
    nodes = [groups(a, b, 16) for a, b in zip(shifted, lower, strict=True)]
    for node in nodes:  # what is below says nothing
        node[:lowest] = [(0, 0)] * lowest
        node[lowest] = node[lowest][0], 0 if lowest else node[lowest][1]
    opened, signs, messages = Guarded(first, 1), [], []
    for i in range(holders):
        sign, message = Guarded([0] * words, 1), Guarded([0] * message_sizes[1], 1)
        launch(
            _ring.compare_nodes,
            each[i].native,
            BASE,
            width,
            mine[i],
            opened.view,
            states[i].view,
            sign.view,
            message.view,
            n,
            shared,
        )
        signs.append(sign)
        messages.append(message.values())
    second = combined(messages)
    if width == 1:  # of one node, the sign under rho
        masks = total_xor(keys, BASE + S_RHO, words)
        return r, unpack([a ^ b for a, b in zip(second, masks, strict=True)], n)
    masks = total_xor(keys, BASE + S_ROOT_MASKS, len(second))
    bits = planes([a ^ b for a, b in zip(second, masks, strict=True)], 6, n)
    assert [list(column) for column in zip(*bits, strict=True)] == [node_inputs(node, False) for node in nodes]

    # round 3: the sign, under rho
    opened, messages = Guarded(second, 1), []
    for i in range(holders):
        message = Guarded([0] * message_sizes[2], 1)
        launch(
            _ring.compare_root,
            each[i].native,
            BASE,
            width,
            mine[i],
            opened.view,
            signs[i].view,
            message.view,
            n,
            shared,
        )
        messages.append(message.values())
    masks = total_xor(keys, BASE + S_RHO, words)
    return r, unpack([a ^ b for a, b in zip(combined(messages), masks, strict=True)], n)


@pytest.mark.parametrize("n", LENGTHS + TILES[:3])
def test_lengths(n, rng):
    for _, c in samples(rng, n):
        r, bits = run(2, c, 0, rng)
        assert bits == [(a - b & WORD) >> 63 for a, b in zip(c, r, strict=True)]


@pytest.mark.parametrize("holders", [1, 2, 3, 5])
@pytest.mark.parametrize("offset", [0, 1, 1 << 62, WORD])
def test_holders(holders, offset, rng):
    c = next(samples(rng, 70))[1]
    r, bits = run(holders, c, offset, rng)
    assert bits == [(a - offset - b & WORD) >> 63 for a, b in zip(c, r, strict=True)]


@pytest.mark.parametrize("width", [1, 4])
@pytest.mark.parametrize("n", [*LENGTHS, *TILES[:3]])
@pytest.mark.parametrize("shared", [False, True])
def test_masks_that_are_given(n, width, shared, rng):
    """As of a difference of two values that are open under masks of their own."""
    for (_, c), (_, masks) in zip(samples(rng, n), samples(rng, n), strict=True):
        r, bits = run(3, c, 0, rng, width, shared, masks)
        assert r == masks
        assert bits == [(a - b) >> 16 * width - 1 & 1 for a, b in zip(c, masks, strict=True)]


@pytest.mark.parametrize("width", [1, 2, 3])
@pytest.mark.parametrize("n", [1, 63, 70, 513])
def test_short_values(n, width, rng):
    """What c - offset - r is modulo 2^(16 * width) decides, whatever is above."""
    offset = int(rng.integers(0, WORD, endpoint=True, dtype="uint64"))
    for holders, (_, c) in zip((2, 1, 3), samples(rng, n), strict=False):
        r, bits = run(holders, c, offset, rng, width)
        assert bits == [(a - offset - b) >> 16 * width - 1 & 1 for a, b in zip(c, r, strict=True)]


@pytest.mark.parametrize("width", [1, 2, 3, 4])
@pytest.mark.parametrize("n", [1, 64, 70, 513])
def test_the_monomials_of_another_comparison(n, width, rng):
    """All else is the comparison's own: the masks are checked in every round."""
    offset = int(rng.integers(0, WORD, endpoint=True, dtype="uint64"))
    for holders, (_, c) in zip((2, 3, 1), samples(rng, n), strict=False):
        r, bits = run(holders, c, offset, rng, width, shared=True)
        assert bits == [(a - offset - b) >> 16 * width - 1 & 1 for a, b in zip(c, r, strict=True)]


@pytest.mark.parametrize("n", TILES[3:])
def test_many(n, rng):
    c = [int(v) for v in rng.integers(0, WORD, n, endpoint=True, dtype="uint64")]
    r, bits = run(2, c, 1 << 62, rng)
    assert bits == [(a - (1 << 62) - b & WORD) >> 63 for a, b in zip(c, r, strict=True)]


def test_neighbours_of_the_mask():
    """x = c - r of every sign and magnitude, down to 0 and -1: differences in one bit only."""
    small = [0, 1, -1, 2, -2, *(s << k for k in range(2, 63, 3) for s in (1, -1)), (1 << 63) - 1, -(1 << 63)]
    n, keys = len(small), [fresh_key(), fresh_key()]
    sizes = _beaver.compare_sizes(n, 4)
    c = [(x + m) & WORD for x, m in zip(small, total(keys, BASE, n), strict=True)]
    both = KeySet(keys, 0, 1)
    corrections, opened = Guarded([0] * sizes[4]), Guarded(c)
    launch(_ring.compare_deal, KeySet(keys).native, BASE, 4, corrections.view, n, False, None)
    state, message = Guarded([0] * (2 * sizes[0])), Guarded([0] * (2 * sizes[1]))
    launch(
        _ring.compare_chunks, both.native, BASE, 4, corrections.view, opened.view, 0, state.view, message.view, n, BASE
    )

    def open_xor(guarded):
        values = guarded.values()
        half = len(values) // 2
        return Guarded(combined([values[:half], values[half:]]))

    sign, second, third = (Guarded([0] * (2 * size)) for size in (packed_words(n), sizes[2], sizes[3]))
    nodes = open_xor(message)
    launch(
        _ring.compare_nodes,
        both.native,
        BASE,
        4,
        corrections.view,
        nodes.view,
        state.view,
        sign.view,
        second.view,
        n,
        False,
    )
    root = open_xor(second)
    launch(_ring.compare_root, both.native, BASE, 4, corrections.view, root.view, sign.view, third.view, n, False)
    beta, rho = open_xor(third).values(), total_xor(keys, BASE + S_RHO, packed_words(n))
    assert unpack([a ^ b for a, b in zip(beta, rho, strict=True)], n) == [int(x < 0) for x in small]
