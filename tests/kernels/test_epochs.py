"""Keys that follow from a key and from 32 bytes, against another library's AES."""

import gc
import os
import subprocess
import sys

import pytest
import torch
from kernel_oracles import WORD, Guarded, aes, drawn, stream_words, total, unsigned

from pysmpc import _ring
from pysmpc._ring import launch
from pysmpc.ring import odd_ring
from pysmpc.ring.prg import EPOCH_BITS, KeySet, fresh_key

RECENT = 64  # epochs whose keys are kept expanded (ring.h)
LONG = 1003
EDGES = [1, 2, RECENT - 1, RECENT, RECENT + 1, 2 * RECENT, 2 * RECENT + 1, 4 * RECENT + 3]  # the table grows between


def epoch_key(root, digest):
    """CBC-MAC of 32 bytes."""
    first = aes(root, digest[:16])
    return aes(root, bytes(a ^ b for a, b in zip(first, digest[16:], strict=True)))


def epoch_words(root, digests, stream, n):
    """Words of a stream under the key of its epoch."""
    return stream_words(epoch_key(root, digests[stream >> EPOCH_BITS]), stream, n)


def begun(count, holders=1, lead=-1, target=-1):
    """Roots, the keys that follow from them, and the digests of so many epochs."""
    roots, digests = [fresh_key() for _ in range(holders)], [os.urandom(32) for _ in range(count)]
    keys = KeySet(roots, lead, target)
    for digest in digests:
        keys.follow(digest)
    return roots, keys, digests


def numbers(rng, epoch):
    """Streams of an epoch: the first, the last, and one in between."""
    base = epoch << EPOCH_BITS
    return [base, base + int(rng.integers(1, 1 << EPOCH_BITS)), base + (1 << EPOCH_BITS) - 1]


@pytest.mark.parametrize("count", EDGES)
def test_words_of_every_epoch(count, rng):
    roots, keys, digests = begun(count, 2)
    for epoch in range(count):
        for stream in numbers(rng, epoch):
            found = keys.draw(stream, 5)
            assert [unsigned(row) for row in found] == [epoch_words(root, digests, stream, 5) for root in roots]


def test_words_as_epochs_begin(rng):
    """Of the newest and of an older one, each time that another begins."""
    root, keys, digests = fresh_key(), None, []
    keys = KeySet([root])
    for epoch in range(3 * RECENT):
        digests.append(os.urandom(32))
        keys.follow(digests[-1])
        for stream in (epoch << EPOCH_BITS, int(rng.integers(0, epoch + 1)) << EPOCH_BITS | 7):
            assert unsigned(keys.draw(stream, 3)) == epoch_words(root, digests, stream, 3)


@pytest.mark.parametrize("epoch", [0, 2, RECENT, 2 * RECENT - 1])
@pytest.mark.parametrize("n", [0, 1, 17, LONG])
def test_masks_sums_and_corrections(epoch, n, rng):
    """All that is made of a stream, with the key of its epoch: of one that is expanded, and of one that is not."""
    roots, keys, digests = begun(2 * RECENT, 3, 0, 2)
    stream = numbers(rng, epoch)[1]
    derived = [epoch_key(root, digests[epoch]) for root in roots]
    words = [v for key in derived for v in stream_words(key, stream, n)]
    values = [int(v) for v in rng.integers(0, 1 << 63, 3 * n)]
    shares = Guarded(values, 1)
    launch(_ring.mask, keys.native, stream, shares.view, shares.view, n)
    assert shares.values() == [(v - m) & WORD for v, m in zip(values, words, strict=True)]
    assert unsigned(keys.total(stream, n)) == total(derived, stream, n)
    taken = Guarded(values[:n], 3)
    launch(_ring.deal_take, keys.native, stream, taken.view, n)
    rest = drawn(derived, stream, n)
    assert taken.values() == [(v - s) & WORD for v, s in zip(values[:n], rest, strict=True)]
    corrections = Guarded(values[:n], 1)
    found = keys.draw(stream, n, corrections.view)
    assert unsigned(found[:2]) == words[: 2 * n]
    assert unsigned(found[2]) == values[:n]


def test_without_epochs_all_bits_are_the_number_s(rng):
    root = fresh_key()
    for stream in (0, 3 << EPOCH_BITS, WORD):
        assert unsigned(KeySet([root]).draw(stream, 9)) == stream_words(root, stream, 9)


def test_epochs_have_no_words_in_common():
    """Neither with one another, nor with the key that they follow from, nor with those of another digest."""
    root, digests = fresh_key(), [os.urandom(32) for _ in range(2 * RECENT)]
    plain, one, other = KeySet([root]), KeySet([root]), KeySet([root])
    found = []
    for epoch, digest in enumerate(digests):
        one.follow(digest)
        other.follow(bytes([digest[0] ^ 1]) + digest[1:] if epoch % 2 else digest[:-1] + bytes([digest[-1] ^ 1]))
    for epoch in range(len(digests)):
        found += [unsigned(keys.draw(epoch << EPOCH_BITS, 2)) for keys in (plain, one, other)]
    words = [word for each in found for word in each]
    assert len(set(words)) == len(words)


def test_the_same_digests_give_the_same_keys():
    root, digests = fresh_key(), [os.urandom(32) for _ in range(RECENT + 2)]
    both = KeySet([root]), KeySet([root])
    for keys in both:
        for digest in digests:
            keys.follow(digest)
    for epoch in range(len(digests)):
        assert torch.equal(*(keys.draw(epoch << EPOCH_BITS, 9) for keys in both))


@pytest.mark.parametrize("ranks", [(0,), (1,)])
def test_pair_keys_follow(ranks):
    """Those of two holders on a ring have the epochs of the keys that they are of: also those that begin later."""
    own, after = fresh_key(), fresh_key()
    sets, digests = [KeySet([own]), KeySet([after])], []

    def follow():
        digests.append(os.urandom(32))
        for keys in sets:
            keys.follow(digests[-1])

    follow()
    pair = odd_ring.pair_keys(*sets, ranks)
    for _ in range(2 * RECENT + 1):
        follow()
    for epoch in (0, 1, RECENT, len(digests) - 1):
        stream = (epoch << EPOCH_BITS) + 5
        assert unsigned(pair.draw(stream, 4)) == epoch_words((own, after)[ranks[0]], digests, stream, 4)
    with pytest.raises(ValueError, match="at the owner of the keys"):
        pair.follow(os.urandom(32))


def test_pair_keys_may_go_before_the_keys_and_after():
    class Circle:
        pass

    root, after, digest = fresh_key(), KeySet([fresh_key()]), os.urandom(32)
    own = KeySet([root])
    for keys in (own, after):
        keys.follow(digest)
    circle = Circle()
    circle.me, circle.pair = circle, odd_ring.pair_keys(own, after, (0,))
    del circle
    gc.collect()
    own.follow(os.urandom(32))
    assert unsigned(own.draw(1, 3)) == epoch_words(root, [digest], 1, 3)
    pair = odd_ring.pair_keys(own, after, (0,))
    del own, after
    gc.collect()
    assert unsigned(pair.draw(1, 3)) == epoch_words(root, [digest], 1, 3)


@pytest.mark.parametrize("length", [0, 16, 31, 33])
def test_a_digest_has_32_bytes(length):
    with pytest.raises(ValueError, match="32 bytes"):
        KeySet([fresh_key()]).follow(bytes(length))


NOT_YET = """
import os
from pysmpc.ring.prg import EPOCH_BITS, KeySet, fresh_key
keys = KeySet([fresh_key()])
for _ in range({count}):
    keys.follow(os.urandom(32))
keys.draw(({count} << EPOCH_BITS) - 1, 4)
print("begun", flush=True)
keys.draw({stream}, 4)
print("drawn", flush=True)
"""


@pytest.mark.skipif("PYSMPC_KERNEL_TESTS" in os.environ, reason="the same whatever the target (test_targets.py)")
@pytest.mark.parametrize(
    ("count", "stream"), [(1, "1 << EPOCH_BITS"), (RECENT, f"{RECENT} << EPOCH_BITS"), (3, "(1 << 64) - 1")]
)
def test_nothing_is_drawn_from_an_epoch_that_has_not_begun(count, stream):
    """Its key would be that of nobody: the process ends."""
    script = NOT_YET.format(count=count, stream=stream)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=100)
    assert (done.returncode, done.stdout.split()) == (-6, ["begun"]), done.stderr
