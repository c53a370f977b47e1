"""Keys of point and comparison functions against Python integers and another library's AES."""

import fss_oracle as oracle
import pytest
from kernel_oracles import WORD, Guarded, total

from pysmpc import _beaver, _ring
from pysmpc._ring import launch
from pysmpc.ring.prg import KeySet, fresh_key

BASE = 40
LENGTHS = [1, 2, 31, 32, 33, 65]


def holder(keys, i):
    return KeySet([keys[i]], 0 if i == 0 else -1, 0 if i == len(keys) - 1 else -1)


class Run:
    """A key for n random elements and what both holders make of it at the points."""

    def __init__(self, rng, bits, words, less, alpha, points, *, first=0):
        n = len(alpha)
        self.bits, self.words, self.less, self.alpha, self.points = bits, words, less, alpha, points
        self.keys = [fresh_key(), fresh_key()]
        draw = lambda: [int(v) for v in rng.integers(0, WORD, words * n, dtype="uint64", endpoint=True)]  # noqa: E731
        self.inside, self.outside = draw(), draw() if less else [0] * (words * n)
        self.f = _beaver.Function(bits, words, less)
        self.key = Guarded([0] * (2 + self.f.key_words * (n - first)), 1)
        a, x, inside, outside = (Guarded(v, 1) for v in (alpha, points, self.inside, self.outside))
        both = KeySet(self.keys).native
        launch(_ring.fss_deal, both, BASE, self.f, a.view, inside.view, outside.view, n, first, n, self.key.view)
        self.shares = []
        for rank in range(2):
            out = Guarded([0] * (words * n), 1)
            mine = holder(self.keys, rank).native
            launch(_ring.fss_eval, mine, BASE, self.f, self.key.view, x.view, 0, n, first, n, out.view)
            self.shares.append(out.values())

    def value(self, k, e):
        return sum(share[k * len(self.alpha) + e] for share in self.shares) & WORD

    def expected(self, k, e):
        low = (1 << self.bits) - 1
        a, x = self.alpha[e] & low, self.points[e] & low
        holds = x < a if self.less else x == a
        return (self.inside if holds else self.outside)[k * len(self.alpha) + e]

    def check(self, first=0):
        n = len(self.alpha)
        wrong = [(k, e) for k in range(self.words) for e in range(first, n) if self.value(k, e) != self.expected(k, e)]
        assert not wrong


def words_of(rng, n):
    return [int(v) for v in rng.integers(0, WORD, n, dtype="uint64", endpoint=True)]


def near(rng, alpha, bits):
    """Points of which many are alpha, its neighbours, or alpha with one bit turned."""
    out = []
    for a in alpha:
        kind, r = int(rng.integers(5)), words_of(rng, 1)[0]
        out.append([r, a, a + 1 & WORD, a - 1 & WORD, a ^ 1 << int(rng.integers(bits))][kind])
    return out


@pytest.mark.parametrize("less", [False, True])
@pytest.mark.parametrize("n", LENGTHS)
def test_lengths(n, less, rng):
    alpha = words_of(rng, n)
    Run(rng, 64, 1, less, alpha, near(rng, alpha, 64)).check()


@pytest.mark.parametrize("less", [False, True])
@pytest.mark.parametrize("words", [1, 2, 3, 4])
@pytest.mark.parametrize("bits", [1, 2, 3, 8, 63, 64])
def test_bits_and_words(bits, words, less, rng):
    alpha = words_of(rng, 300)
    Run(rng, bits, words, less, alpha, near(rng, alpha, bits)).check()


@pytest.mark.parametrize("less", [False, True])
def test_every_point_of_a_small_domain(less, rng):
    pairs = [(a, x) for a in range(32) for x in range(32)]
    alpha, points = zip(*pairs, strict=True)
    Run(rng, 5, 2, less, list(alpha), list(points)).check()


@pytest.mark.parametrize("less", [False, True])
def test_edges_of_the_domain(less, rng):
    edges = [0, 1, 2, 3, 4, WORD, WORD - 1, WORD - 3, WORD - 4, 1 << 63, (1 << 63) - 1, (1 << 63) + 1, 1 << 62, 1 << 32]
    alpha, points = zip(*((a, x) for a in edges for x in edges), strict=True)
    for bits in (63, 64):
        Run(rng, bits, 1, less, list(alpha), list(points)).check()


@pytest.mark.parametrize("less", [False, True])
def test_a_later_part(less, rng):
    """A key for the elements from 128 on."""
    alpha = words_of(rng, 150)
    Run(rng, 64, 1, less, alpha, near(rng, alpha, 64), first=128).check(first=128)


@pytest.mark.parametrize("less", [False, True])
@pytest.mark.parametrize(("bits", "words"), [(1, 1), (2, 3), (7, 1), (64, 1), (63, 3)])
def test_keys_and_shares_are_those_of_the_definition(bits, words, less, rng):
    n = 35
    alpha = words_of(rng, n)
    run = Run(rng, bits, words, less, alpha, near(rng, alpha, bits))
    key = run.key.values()
    salt, key = key[:2], key[2:]
    assert salt == total(run.keys, BASE, 2)
    salt = b"".join(word.to_bytes(8, "little") for word in salt)
    size = oracle.key_words(bits, words, less)
    assert run.f.key_words == size
    for e in (0, 1, 31, 32, 34):
        start, count = (0, 32) if e < 32 else (32, n - 32)
        at = e - start
        s0, s1 = oracle.roots(run.keys, BASE + 1, start, count, at)
        inside, outside = ([v[k * n + e] for k in range(words)] for v in (run.inside, run.outside))
        rows = oracle.deal(salt, bits, less, alpha[e], inside, outside, s0, s1)
        assert [key[size * start + row * count + at] for row in range(size)] == rows
        for rank, s in enumerate((s0, s1)):
            mine = oracle.evaluate(salt, bits, less, words, rank, s, rows, run.points[e])
            assert mine == [run.shares[rank][k * n + e] for k in range(words)]


def test_sizes_are_checked():
    for bits, words in ((0, 1), (65, 1), (8, 0), (8, 5)):
        with pytest.raises(ValueError, match="keys are for"):
            _beaver.Function(bits, words, True)
