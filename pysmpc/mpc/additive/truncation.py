"""Division of a secret by a public divisor: how products get their scale back.

The default opens z under a dealt mask and is within one step of the exact quotient
for every |z| <= 2^62 - divisor, any number of holders and any divisor; it rounds up
with probability (z mod d) / d, so the error is unbiased.  src/c/truncate.inc.h has the
derivation (compare Escudero, Ghosh, Keller, Rachuri, Scholl, CRYPTO 2020, section
5.1; the wrap is found from the most significant bit of the mask).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache, partial

import torch

from pysmpc.errors import PartyError
from pysmpc.mpc.additive.affine_values import Truncated
from pysmpc.mpc.additive.products import DeferredProduct, begin
from pysmpc.mpc.additive.reopening import Reopened, reopens
from pysmpc.mpc.interfaces import Cost, Party, declares_openings, opening
from pysmpc.mpc.signatures import Update
from pysmpc.ring import product_kernels, reopen_kernels, told, z2k
from pysmpc.ring.prg import KeySet
from pysmpc.ring.shares import Share

# Streams of one piece of material: r, quotient, jump, rho quotient, rho jump, shares
# of rho, and those of a comparison (src/c/compare.inc.h).
MATERIAL = 16
RHO_SHARES = 5
RHO = 14


def divisor(value: int) -> z2k.Divisor:
    """A divisor with its reciprocal; one of its own where it changes from run to run."""
    if not isinstance(value, z2k.Told):
        return _divisor(value)
    found = z2k.Divisor(told.now(value))

    def formed(by: int) -> told.Made:
        found.become(by)
        return (found.short, reopens(by)), ()

    told.follow(formed, value)
    return found


@lru_cache(maxsize=4096)
def _divisor(value: int) -> z2k.Divisor:
    return z2k.Divisor(value)


@declares_openings("truncate")
def truncate(party: Party, z: Share, by: int) -> Share:
    """z / by, rounded to one of the two integers next to it, at scale z.scale // by.

    1. The dealer shares floor(r / by) and the jump of a signed r.
    2. Open c = z + offset + r.
    3. floor(c / by) - floor(r / by) + [c < 2^63] jump - offset / by.
    One round, 8 bytes an element to every other holder; 16 from the dealer, or 13 where by is a
    power of two up to 2^40, or 12 where that is up to 2^16 (`reopening`).
    """
    return truncate_all(party, [(z, by)])[0]


@declares_openings("truncate")
def truncate_all(party: Party, dividends: Sequence[tuple[Share, int]]) -> list[Share]:
    """Each z / by as `truncate` does it, all in one round; elementwise products of the results take none."""
    begin(party, *(z.body for z, _ in dividends))
    messages, pieces = masked_dividends(party, dividends)
    opened = party.channel.open(messages, "truncate", [z.shape for z, _ in dividends])
    return quotients(party, dividends, pieces, opened)


#: base, divisor and corrections of a truncation
Piece = tuple[int, z2k.Divisor, torch.Tensor | None]


def masked_dividends(party: Party, dividends: Sequence[tuple[Share, int]]) -> tuple[list[torch.Tensor], list[Piece]]:
    """(Messages that open the dividends, what `quotients` takes of each): no product of them is still to be begun."""
    keys = party.dealer.keys
    messages: list[torch.Tensor] = []
    pieces: list[Piece] = []
    for z, by in dividends:
        by_ = divisor(by)
        words = z.words()
        base = party.dealer.streams(MATERIAL)
        n = words.shape[1]
        if reopens(by):
            corrections = party.dealer.corrections(
                reopen_kernels.reopen_words(n), partial(_deal_reopened, base, by_, n)
            )
            messages.append(reopen_kernels.reopen_mask(keys, base, by_, words, corrections))
        else:
            corrections = party.dealer.corrections(z2k.truncate_words(by_, n), partial(_deal, base, by_, n))
            messages.append(z2k.truncate_mask(keys, base, by_.offset, words))
        pieces.append((base, by_, corrections))
    return messages, pieces


def quotients(
    party: Party, dividends: Sequence[tuple[Share, int]], pieces: Sequence[Piece], opened: Sequence[torch.Tensor]
) -> list[Share]:
    """The quotients, of what was opened."""
    found = []
    for (z, by), (base, by_, corrections), c in zip(dividends, pieces, opened, strict=True):
        again = reopens(by)
        finish = reopen_kernels.reopen_finish if again else z2k.truncate_finish
        out = Share.of(finish(party.dealer.keys, base, by_, c, corrections), z.shape, z.scale // by)
        out.body.affine = (Reopened if again else Truncated)(base, by_, c)
        found.append(out)
    return found


def _deal(base: int, by: z2k.Divisor, n: int, keys: KeySet, out: torch.Tensor) -> None:
    z2k.truncate_deal(keys, base, by, n, out)


def _deal_reopened(base: int, by: z2k.Divisor, n: int, keys: KeySet, out: torch.Tensor) -> None:
    reopen_kernels.reopen_deal(keys, base, by, out, n)


@declares_openings("truncate")
def update_all(party: Party, updates: Sequence[Update]) -> list[Share]:
    """own + factor * z / by for each (own, z, factor, by), all in one round; own is whole and of z's elements.

    As `truncate`, of factor * z.  By a large divisor (`halved`) messages are upper halves only, 4
    bytes an element: the result is within 1 1/8 of the quotient, for |z| <= 2^62 - 2^36.
    Where z is a product whose c was not dealt, it never is: holders open
    c = factor * (z - a b) + offset + s, which is the same for r = s - factor * a b, and the
    dealer knows both.
    """
    keys = party.dealer.keys
    begin(party, *(z.body for _, z, _, _ in updates))
    pieces, messages = [], []
    for own, z, factor, by in updates:
        by_ = divisor(by)
        base = party.dealer.streams(MATERIAL)
        late = z.body.product if isinstance(z.body, DeferredProduct) and z.dense else None
        words = z.body.held if late else z.words()
        n = words.shape[1]
        deal = partial(_deal_update, base, by_, n, late, factor)
        corrections = party.dealer.corrections(z2k.truncate_words(by_, n), deal)
        half, [offset] = told.follow(lambda by: (halved(party.holders, by), (divisor(by).offset,)), by)
        halves = party.holders if half else 0
        messages.append(z2k.truncate_mask(keys, base, offset, words, factor, halves))
        pieces.append((base, by_, corrections, own, halves))
    opened = party.channel.open(messages, "truncate", [z.shape for _, z, _, _ in updates])
    return [
        Share.of(z2k.truncate_finish(keys, base, by, c, corrections, own.body.words, halves), own.shape, own.scale)
        for (base, by, corrections, own, halves), c in zip(pieces, opened, strict=True)
    ]


def halved(holders: int, by: int) -> bool:
    """Whether the upper halves of the messages of an update are enough: what is lost is 1/8 of a step at most.

    Sums of upper halves are wrong by at most (2 n - 1) 2^31 (src/c/truncate.inc.h).
    """
    return by >= (2 * holders - 1) << 34


def update_cost(holders: int, n: int, by: int) -> Cost:
    """Cost of an update of n elements."""
    words = (n + 1) // 2 if halved(holders, by) else n
    return opening(holders, words) + Cost(dealt=8 * z2k.truncate_words(divisor(by), n))


def _deal_update(
    base: int,
    by: z2k.Divisor,
    n: int,
    late: product_kernels.Product | None,
    factor: int,
    keys: KeySet,
    out: torch.Tensor,
) -> None:
    z2k.truncate_deal(keys, base, by, n, out, late.masks(keys) if late else None, factor)


def truncate_cost(holders: int, n: int, by: int = 3) -> Cost:
    """Cost of truncating n elements; without `by`, that of a divisor which is no power of two."""
    words = reopen_kernels.reopen_words(n) if reopens(by) else z2k.truncate_words(divisor(by), n)
    return opening(holders, n) + Cost(dealt=8 * words)


def truncate_local(party: Party, z: Share, by: int) -> Share:
    """z / by for two holders and a power of two, without a message (SecureML).

    Each element is wrong by 2^64 / by with probability |z| / 2^64 (Mohassel and
    Zhang, S&P 2017, theorem 1): not the default, and not for large values.
    """
    if party.holders != 2:
        raise PartyError(f"local truncation is for two holders, not {party.holders}; use the default truncation")
    bits = by.bit_length() - 1
    if by != 1 << bits:
        raise ValueError(f"local truncation divides by powers of two, not by {by}; use the default truncation")
    words = z.words()
    out = z2k.empty(*words.shape)
    for row, rank in enumerate(party.ranks):
        z2k.truncate_local(words[row], bits, rank == 0, out[row])
    return Share.of(out, z.shape, z.scale // by)
