"""Keys of point and comparison functions, an element and a bit at a time, in Python integers.

Follows the text of src/c/fss.inc.h with another library's AES.  A state is an integer of
128 bits: the low word, and the high word above it.
"""

from kernel_oracles import WORD, aes, stream_words

GROUP, TAIL, SALT = 32, 2, 2
CONSTANT = 0x9E3779B97F4A7C15


def tail_of(bits):
    return min(bits, TAIL)


def key_words(bits, words, less):
    return (bits - tail_of(bits)) * (2 + less * words) + (words << tail_of(bits))


def hashed(salt, s, tweak=0):
    """H_tweak(s), both of 128 bits."""
    low, high = s & WORD, s >> 64
    y = (high ^ tweak * CONSTANT & WORD) | (low ^ high) << 64
    return int.from_bytes(aes(salt, y.to_bytes(16, "little")), "little") ^ y


def values(salt, s, words):
    """The mask words of a node."""
    blocks = [hashed(salt, s, 1 + k) for k in range((words + 1) // 2)]
    return [blocks[k // 2] >> 64 * (k % 2) & WORD for k in range(words)]


def leaf(salt, s, k, d):
    block = hashed(salt, s, 1 + ((k << TAIL) + d) // 2)
    return block >> 64 * (d % 2) & WORD


def roots(keys, stream, first, count, at):
    """The states of both holders at the root of element `at`, of a group of `count` from `first`."""
    found = []
    for rank, key in enumerate(keys):
        words = stream_words(key, stream, 2 * count, 2 * first)
        found.append((words[at] & ~1 | rank) | words[count + at] << 64)
    return found


def deal(salt, bits, less, alpha, inside, outside, s0, s1):
    """The rows of an element's key."""
    words, tail, rows, delta = len(inside), tail_of(bits), [], s0 ^ s1
    total = [0] * words
    for level in range(bits - tail):
        bit = alpha >> (bits - 1 - level) & 1
        h0, h1 = hashed(salt, s0), hashed(salt, s1)
        correction = h0 ^ h1 ^ (0 if bit else delta)
        rows += [correction & WORD, correction >> 64]
        if less:
            due = inside if bit else outside
            sign = 1 - 2 * (s1 & 1)
            v0, v1 = values(salt, s0, words), values(salt, s1, words)
            rows += [sign * (due[k] - total[k] - v0[k] + v1[k]) & WORD for k in range(words)]
            total = list(due)
        s0 = h0 ^ bit * s0 ^ (s0 & 1) * correction
        s1 = s0 ^ delta
    last = alpha & (1 << tail) - 1
    for k in range(words):
        for d in range(1 << tail):
            due = inside[k] if (d < last if less else d == last) else outside[k]
            sign = 1 - 2 * (s1 & 1)
            rows.append(sign * (due - total[k] - leaf(salt, s0, k, d) + leaf(salt, s1, k, d)) & WORD)
    return rows


def evaluate(salt, bits, less, words, rank, s, rows, x):
    """Holder `rank`'s shares at x."""
    tail, rows, total = tail_of(bits), iter(rows), [0] * words
    for level in range(bits - tail):
        bit, t = x >> (bits - 1 - level) & 1, s & 1
        correction = next(rows) | next(rows) << 64
        if less:
            for k, v in enumerate(values(salt, s, words)):
                total[k] += v + t * next(rows)
        s = hashed(salt, s) ^ bit * s ^ t * correction
    d = x & (1 << tail) - 1
    table = list(rows)
    for k in range(words):
        total[k] += leaf(salt, s, k, d) + (s & 1) * table[(k << tail) + d]
    return [(-v if rank else v) & WORD for v in total]


BELOW = 7  # bits of a leaf of bits


def due_bits(less, alpha):
    """Of the points of alpha's leaf, those with alpha <= point, or alpha itself."""
    low = alpha & (1 << BELOW) - 1
    return ((1 << 128) - (1 << low)) if less else 1 << low


def deal_bits(salt, bits, less, alpha, s0, s1):
    """The blocks of an element's key of bits: levels, then the leaf."""
    rows, delta = [], s0 ^ s1
    for level in range(bits - BELOW):
        bit = alpha >> (bits - 1 - level) & 1
        h0, h1 = hashed(salt, s0), hashed(salt, s1)
        rows.append(h0 ^ h1 ^ (0 if bit else delta))
        s0 = h0 ^ bit * s0 ^ (s0 & 1) * rows[-1]
        s1 = s0 ^ delta
    return [*rows, hashed(salt, s0, 1) ^ hashed(salt, s1, 1) ^ due_bits(less, alpha)]


def evaluate_bits(salt, bits, less, own, s, rows, x):
    """One holder's share of [alpha <= x] or [alpha = x]; own: what it begins with."""
    for level, correction in enumerate(rows[:-1]):
        left = hashed(salt, s) ^ (s & 1) * correction
        right = x >> (bits - 1 - level) & 1
        own ^= less & right & left
        s = left ^ right * s
    return own ^ (hashed(salt, s, 1) ^ (s & 1) * rows[-1]) >> (x & (1 << BELOW) - 1) & 1
