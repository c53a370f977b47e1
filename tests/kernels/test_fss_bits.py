"""Keys of bits against Python integers and another library's AES."""

import fss_oracle as oracle
import pytest
from kernel_oracles import WORD, Guarded, once, stream_words, total

from pysmpc import _beaver, _ring
from pysmpc._ring import launch
from pysmpc.ring.prg import KeySet, fresh_key

MASK, BASE = 5, 40
LENGTHS = [1, 2, 31, 32, 33, 65, 511, 512, 513, 600, 1025]


def words_of(rng, n):
    return [int(v) for v in rng.integers(0, WORD, n, dtype="uint64", endpoint=True)]


def near(rng, alpha, bits):
    """Points of which many are alpha, its neighbours, or alpha with one bit turned."""
    out = []
    for a in alpha:
        kind, r = int(rng.integers(5)), words_of(rng, 1)[0]
        out.append([r, a, a + 1 & WORD, a - 1 & WORD, a ^ 1 << int(rng.integers(bits))][kind])
    return out


class Run:
    """A key for n elements from `first`, their masks, and what both holders make of it at points near those."""

    def __init__(self, rng, bits, less, n, *, first=0, shift=0):
        self.keys, self.bits, self.less, self.n = [fresh_key(), fresh_key()], bits, less, n
        self.f = _beaver.Function(bits, 1, less)
        self.masks = total(self.keys, MASK, first + n)[first:]
        self.points = near(rng, self.masks, bits)
        self.key = Guarded([0] * (2 + _beaver.fss_bits_words(self.f, n)), 1)
        launch(_ring.fss_bits_deal, KeySet(self.keys).native, MASK, BASE, self.f, first, first + n, self.key.view)
        x = Guarded([0] * first + [(point + shift) & WORD for point in self.points], 1)
        words = (first + n + 63) // 64
        self.packed = []
        for rank, key in enumerate(self.keys):
            out = Guarded([0] * words, 1)
            mine = KeySet([key], 0 if rank == 0 else -1, 0 if rank else -1).native
            launch(
                _ring.fss_bits_eval,
                mine,
                BASE,
                self.f,
                self.key.view,
                x.view,
                shift,
                first + n,
                first,
                first + n,
                out.view,
            )
            self.packed.append(out.values()[first // 64 :])

    def shares(self):
        """The shares of both holders, an element a number."""
        out = []
        for packed in self.packed:
            words, bits = Guarded(packed, 1), Guarded([0] * self.n, 1)
            launch(_ring.unpack_bits, words.view, bits.view, self.n)
            out.append(bits.values())
        return out

    def expected(self):
        low = (1 << self.bits) - 1
        for r, c in zip(self.masks, self.points, strict=True):
            above = r >> self.bits & 1 if self.bits < 64 else 0
            yield int((c & low) < (r & low)) ^ above if self.less else int(c & low == r & low)

    def check(self):
        assert [a ^ b for a, b in zip(*self.shares(), strict=True)] == list(self.expected())


@pytest.mark.parametrize("less", [False, True])
@pytest.mark.parametrize("n", LENGTHS)
def test_lengths(n, less, rng):
    Run(rng, 63, less, n, shift=7).check()


@pytest.mark.parametrize("less", [False, True])
@pytest.mark.parametrize("bits", [7, 8, 9, 14, 32, 62, 63, 64])
def test_bits(bits, less, rng):
    Run(rng, bits, less, 700).check()


@pytest.mark.parametrize("less", [False, True])
def test_a_later_part(less, rng):
    run = Run(rng, 63, less, 150, first=512)
    run.check()
    # under a hash of its own
    assert run.key.values()[:2] == total(run.keys, BASE, 2 * (512 // 128 + 1))[-2:]


def test_every_point_of_a_leaf(rng):
    """All pairs of a mask and a point of seven bits occur."""
    run = Run(rng, 7, True, 1 << 15)
    run.check()
    assert len({(r & 127, c & 127) for r, c in zip(run.masks, run.points, strict=True)}) > 4000


@pytest.mark.parametrize("less", [False, True])
@pytest.mark.parametrize("bits", [7, 8, 63, 64])
def test_keys_and_shares_are_those_of_the_definition(bits, less, rng):
    n = 35
    run = Run(rng, bits, less, n)
    key = run.key.values()
    salt, key = key[:2], key[2:]
    assert salt == total(run.keys, BASE, 2)
    salt = b"".join(word.to_bytes(8, "little") for word in salt)
    size = 2 * (bits - oracle.BELOW + 1)
    assert len(key) == size * n + 1
    shares = run.shares()
    roots = [stream_words(k, BASE + 1, 2 * n) for k in run.keys]
    constants = Guarded([0] * n, 1)
    last = Guarded(key[-1:], 1)
    launch(_ring.unpack_bits, last.view, constants.view, n)
    for e in (0, 1, 31, 32, 34):
        start, count = (0, 32) if e < 32 else (32, n - 32)
        at = e - start
        own = [words[2 * e] & 1 for words in roots]
        s0, s1 = ((words[2 * e] & ~1 | rank) | words[2 * e + 1] << 64 for rank, words in enumerate(roots))
        r, low = run.masks[e], (1 << bits) - 1
        rows = oracle.deal_bits(salt, bits, less, r & low, s0, s1)
        places = [size * start + 2 * (row * count + at) for row in range(len(rows))]
        assert [key[place] | key[place + 1] << 64 for place in places] == rows
        constant = (1 ^ (r >> bits & 1 if bits < 64 else 0)) if less else 0
        assert constants.values()[e] == constant ^ own[0] ^ own[1]
        own[0] ^= constants.values()[e]
        for rank, s in enumerate((s0, s1)):
            assert oracle.evaluate_bits(salt, bits, less, own[rank], s, rows, run.points[e] & low) == shares[rank][e]


@once  # every target's shares are those of the definition, by the tests above
@pytest.mark.parametrize("n", [1, 100])
def test_a_share_alone_tells_nothing(n, rng):
    """Either holder's bits are as often one as zero, whatever the function's value."""
    ones = [0, 0]
    for _ in range(4000 // n):
        for rank, share in enumerate(Run(rng, 8, True, n).shares()):
            ones[rank] += sum(share)
    assert all(abs(count - 2000) < 6 * 32 for count in ones)
