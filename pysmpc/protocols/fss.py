"""Comparison by function secret sharing: one round, for two holders.

x is opened as c = x + r under a dealt mask r.  The dealer, who knows r, sends both
holders a key of the function c -> sign of c - r; each evaluates its own at c, and the
results are additive shares (Boyle, Gilboa, Ishai, TCC 2019, section 4; Boyle et al.,
EUROCRYPT 2021; AriaNN, PoPETs 2022).  The sign of x is c_63 ^ r_63 ^ [c < r on 63
bits], so a key of one comparison on 63 bits is exact for every x.  Both keys are the
same corrections under seeds that the holders have in common with the dealer alone:
src/c/fss.inc.h, and `pysmpc.fss` for other uses.

Everything that is not compared is the default's.  What is shared is u, the sign but
for c_63, and for a ReLU also u times what the dealer knows of the truncated value: the
result is linear in those, so a ReLU with its truncation takes one round as well.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, partial

import torch

from pysmpc import ring
from pysmpc.prg import KeySet
from pysmpc.protocols import comparison
from pysmpc.protocols.interfaces import Cost, Party, opening, opens
from pysmpc.protocols.truncation import MATERIAL, RHO, RHO_SHARES, divisor, truncate_cost
from pysmpc.shares import Bit, Share

SALT = 9  # streams of a key, from the base: its salt, then its seeds
PART = 8 * ring.FSS_GRAIN  # elements of one key: what is dealt is used while it is in cache

Deal = Callable[[KeySet, int, int, torch.Tensor], None]


@lru_cache(maxsize=8)
def sign_function(words: int) -> ring.Function:
    """The comparison on 63 bits, with 1 word of value, or 2 for a ReLU, or 3 for one that truncates."""
    return ring.Function(63, words, True)


@lru_cache(maxsize=1)
def zero_function() -> ring.Function:
    """The point of 64 bits."""
    return ring.Function(64, 1, False)


def _evaluate(
    party: Party, base: int, f: ring.Function, by: ring.Divisor | None, c: torch.Tensor, shift: int
) -> torch.Tensor:
    """Shares [rows, words, n] of f at c - shift, from keys of the mask of c.  No message between the holders."""
    n = c.shape[1]
    out = ring.empty(party.rows, f.words, n)
    for first in range(0, n, PART):
        last = min(first + PART, n)

        def deal(keys: KeySet, key: torch.Tensor, first: int = first, last: int = last) -> None:
            ring.fss_mask_deal(keys, base, base + SALT, f, by, first, last, key)

        key = party.dealer.broadcast(ring.FSS_SALT + f.key_words * (last - first), deal)
        if key is not None:
            ring.fss_eval(party.dealer.keys, base + SALT, f, key, c, shift, first, out)
    return out


def _key_cost(f: ring.Function, n: int) -> Cost:
    """The same key to both holders."""
    return Cost(dealt=2 * 8 * (ring.FSS_SALT * -(-n // PART) + f.key_words * n))


def _top(c: torch.Tensor, shift: int) -> torch.Tensor:
    """The top bits of c - shift, packed: [1 or 0, ceil(n / 64)]."""
    rows, n = c.shape
    if not rows:
        return ring.empty(0, ring.packed_words(n))
    return ring.pack_bits((c[0] - ring.wrap(shift)) >> 63).reshape(1, -1)


@opens("compare")
def negative(party: Party, x: Share) -> Bit:
    """The bits x < 0, for any x in [-2^63, 2^63).  One round.

    1. Open c = x + r.
    2. Shares of u from the key; the bit is c_63 ^ u.
    """
    words = x.words()
    base = party.dealer.streams(MATERIAL)
    [c] = party.channel.open([ring.truncate_mask(party.dealer.keys, base, 0, words)], "compare", [x.shape])
    u = _evaluate(party, base, sign_function(1), None, c, 0)
    return Bit(_top(c, 0), u.reshape(party.rows, c.shape[1]), None)


@opens("compare")
def zero(party: Party, x: Share) -> Share:
    """The bits x = 0 as shares of 0 and 1.  One round.

    1. Open c = x + r.
    2. Shares of [c = r] from the key of a point.
    """
    words = x.words()
    n = words.shape[1]
    base = party.dealer.streams(MATERIAL)
    [c] = party.channel.open([ring.truncate_mask(party.dealer.keys, base, 0, words)], "compare", [x.shape])
    u = _evaluate(party, base, zero_function(), None, c, 0).reshape(party.rows, n)
    out = Share.of(u, x.shape)
    out.body.bit = Bit(torch.zeros((c.shape[0], ring.packed_words(n)), dtype=torch.int64), u, None)
    return out


@opens("relu")
def relu(party: Party, x: Share, by: int = 1) -> Share:
    """max(x, 0) / by, with the bits x > 0 left on the result's body.  One round.

    Takes any x above -2^63; with a truncation, what that takes.

    1. Open c = x + offset + r.
    2. Shares of u from the key, for the sign of x - 1, and of u times r, or times its
       quotient and jump (src/c/truncate.inc.h).
    3. x / by or the part of it that is not negative: linear in those.
    """
    by_ = divisor(by) if by > 1 else None
    offset = by_.offset if by_ else 0
    keys, words = party.dealer.keys, x.words()
    n = words.shape[1]
    base = party.dealer.streams(MATERIAL)
    corrections = None
    if by_:
        deal = partial(_deal_truncation, base, by_, n)
        corrections = party.dealer.corrections(ring.truncate_words(by_, n), deal)
    # 1. open
    [c] = party.channel.open([ring.truncate_mask(keys, base, offset, words)], "relu", [x.shape])
    # 2. evaluate
    u = _evaluate(party, base, sign_function(3 if by_ else 2), by_, c, offset + 1)
    # 3. combine
    whole = ring.truncate_finish(keys, base, by_, c, corrections) if by_ else words
    out = ring.fss_relu(keys, by_, c, offset + 1, u, whole)
    result = Share.of(out, x.shape, x.scale // by)
    result.body.sign = Bit(_top(c, offset + 1), u[:, 0].contiguous(), None, True)
    return result


larger = comparison.larger_by(relu)


def _deal_truncation(base: int, by: ring.Divisor, n: int, keys: KeySet, out: torch.Tensor) -> None:
    ring.truncate_deal(keys, base, by, n, out)


@opens("select")
def select(party: Party, bit: Bit, x: Share, by: int = 1) -> Share:
    """bit * x / by, elementwise.  One round.

    1. Open c = x + offset + r and beta = bit ^ rho for a fresh dealt bit rho: the lowest
       bits of additive shares of a bit are shares of it by exclusive or.
    2. As the default, linear in what the dealer shared of rho, r and their products.
    """
    if bit.stream is not None:
        return comparison.select(party, bit, x, by)
    by_ = divisor(by) if by > 1 else None
    keys, words = party.dealer.keys, x.words()
    n = words.shape[1]
    base = party.dealer.streams(MATERIAL)

    def deal(all_: KeySet, out: torch.Tensor) -> None:
        ring.bit_deal(all_, base + RHO, base + RHO_SHARES, out[:n])
        ring.select_deal(all_, base, base + RHO, by_, out[n:])

    corrections = party.dealer.corrections((1 + ring.select_rows(by_)) * n, deal)
    # 1. open
    masked = ring.truncate_mask(keys, base, by_.offset if by_ else 0, words)
    [c], [beta] = party.channel.open_both([masked], [_under_rho(keys, base, bit)], "select", [x.shape])
    # 2. combine
    rho = keys.draw(base + RHO_SHARES, n, None if corrections is None else corrections[:n])
    rest = None if corrections is None else corrections[n:]
    out = ring.select_finish(keys, base, by_, bit.flip, c, beta ^ bit.beta, rho, rest)
    return Share.of(out, x.shape, x.scale // by)


def _under_rho(keys: KeySet, base: int, bit: Bit) -> torch.Tensor:
    """The message [rows, ceil(n / 64)] that opens a bit without beta under rho."""
    out = keys.draw(base + RHO, ring.packed_words(bit.rho.shape[1]))
    for row in range(keys.rows):
        out[row] ^= ring.pack_bits(bit.rho[row])
    return out


def negative_cost(holders: int, n: int) -> Cost:
    """Signs of n elements: 8 bytes an element and peer; 1496 from the dealer to each holder."""
    return opening(holders, n) + _key_cost(sign_function(1), n)


def zero_cost(holders: int, n: int) -> Cost:
    """Tests of n elements: 8 bytes an element and peer; 1024 from the dealer to each holder."""
    return opening(holders, n) + _key_cost(zero_function(), n)


def relu_cost(holders: int, n: int, truncated: bool, by: int = 3) -> Cost:
    """8 bytes an element and peer; from the dealer 2016 to each holder, or 2536 and what a truncation takes."""
    if not truncated:
        return opening(holders, n) + _key_cost(sign_function(2), n)
    return truncate_cost(holders, n, by) + _key_cost(sign_function(3), n)


def select_cost(holders: int, n: int, truncated: bool) -> Cost:
    """8 bytes and a bit an element and peer; 8 from the dealer beside the default's."""
    return opening(holders, n + ring.packed_words(n)) + Cost(dealt=(40 if truncated else 16) * n)
