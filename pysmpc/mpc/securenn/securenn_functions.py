"""Division, MaxPool and its derivative from SecureNN's comparison (algorithms 8 to 10)."""

from __future__ import annotations

import torch

from pysmpc.errors import EncodingError
from pysmpc.mpc.additive import comparison
from pysmpc.mpc.additive.products import mul
from pysmpc.mpc.additive.sharing import add, public, scale_by, sub
from pysmpc.mpc.interfaces import Cost, Party, asking, declares_openings, opening
from pysmpc.mpc.securenn import securenn_comparison
from pysmpc.ring.prg import KeySet
from pysmpc.ring.shares import Share

PLACES = 1 << 16  # that a maximum may be at


@declares_openings("compare", "select")
def division(party: Party, x: Share, y: Share, bits: int) -> Share:
    """floor(x / y) for 0 <= x, 1 <= y and a quotient below 2^bits (algorithm 8).  8 rounds a bit.

    From the highest bit of the quotient down, with the remainder u, which begins as x:
    1. z = u - 2^i y; the bit is z >= 0 (seven rounds).
    2. u = u - bit 2^i y: SelectShare (one round).

    x < 2^63 and 2^(bits - 1) y < 2^63; beyond, and for y <= 0, the result is without meaning.
    """
    rest, quotient = x.at(1), public(party, torch.zeros(x.shape, dtype=torch.int64))
    for i in reversed(range(bits)):
        part = scale_by(party, y.at(1), 1 << i)
        fits = securenn_comparison.negative(party, sub(party, rest, part)).flipped()
        rest = sub(party, rest, comparison.select(party, fits, part))
        bit = comparison.bit_share(party, fits, x.shape)
        quotient = add(party, quotient, scale_by(party, bit, 1 << i))
    return quotient


def division_cost(holders: int, n: int, bits: int) -> Cost:
    """Cost of n quotients; the last remainder is computed, too."""
    return (securenn_comparison.negative_cost(holders, n) + comparison.select_cost(holders, n, False)) * bits


@declares_openings("compare", "select", "mask")
def signed_division(party: Party, x: Share, y: Share, bits: int) -> Share:
    """x / y toward zero for either sign and |x / y| < 2^bits.  8 bits + 9 rounds.

    1. Both signs in one batch; magnitudes are v - 2 [v < 0] v.
    2. Divide magnitudes; the quotient's sign is that of one of both.
    """
    n = x.numel
    both = Share.of(torch.cat([x.words(), y.words()], 1), (2, n))
    signs = comparison.bit_share(party, securenn_comparison.negative(party, both), (2, n))
    sizes = sub(party, both, scale_by(party, mul(party, signs, both), 2)).body.words.view(party.rows, 2, n)
    first, second = (Share(signs.body, (n,), 1, None, at) for at in (0, n))
    minus = sub(party, add(party, first, second), scale_by(party, mul(party, first, second), 2))
    above, below = (Share.of(sizes[:, i].contiguous(), (n,)) for i in (0, 1))
    found = division(party, above, below, bits)
    turned = mul(party, minus, found)
    return Share(sub(party, found, scale_by(party, turned, 2)).body, x.shape)


def signed_division_cost(holders: int, n: int, bits: int) -> Cost:
    """Cost of n quotients."""
    products = opening(holders, 4 * n) + opening(holders, 2 * n) + Cost(dealt=8 * 4 * n)
    return securenn_comparison.negative_cost(holders, 2 * n) + products + division_cost(holders, n, bits)


@declares_openings("compare", "mask")
def maxpool(party: Party, x: Share) -> tuple[Share, Share]:
    """Largest of each row of [m, k], and its place, the first of equals (algorithm 9).

    A tree: 8 rounds a level for ceil(log2 k) levels, of which seven tell which of two
    neighbours is larger and one selects it with its place.  Differences must not wrap.
    """
    m, k = x.shape
    rows = party.rows
    values = x.words().view(rows, m, k)
    places = public(party, torch.arange(k).expand(m, k).contiguous()).words().view(rows, m, k)
    while k > 1:
        half = k // 2
        both = torch.stack([values, places], 3)  # [rows, m, k, 2]
        left, right, rest = both[:, :, : 2 * half : 2], both[:, :, 1 : 2 * half : 2], both[:, :, 2 * half :]
        step = (left - right).contiguous()
        difference = Share.of(step[..., 0].reshape(rows, m * half).contiguous(), (m * half,))
        keep = comparison.bit_share(party, securenn_comparison.negative(party, difference).flipped(), (m, half, 1))
        moved = mul(party, keep, Share.of(step.view(rows, 2 * m * half), (m, half, 2))).words().view(rows, m, half, 2)
        both = torch.cat([right + moved, rest], 2)
        values, places, k = both[..., 0], both[..., 1], k - half
    return (
        Share.of(values.reshape(rows, m).contiguous(), (m,), x.scale),
        Share.of(places.reshape(rows, m).contiguous(), (m,)),
    )


def maxpool_cost(holders: int, m: int, k: int) -> Cost:
    """Cost of m maxima of k."""
    cost = Cost()
    while k > 1:
        n = m * (k // 2)
        cost += securenn_comparison.negative_cost(holders, n) + opening(holders, 3 * n) + Cost(dealt=16 * n)
        k -= k // 2
    return cost


def maxpool_derivative(party: Party, places: Share, k: int) -> Share:
    """[m, k] with a one at the place of each of m maxima (algorithm 10).  Two rounds.

    1. P0 and P1 draw g from 0 to k - 1 and a large q, and send shares of place + g + k q.
    2. P2 takes it mod k, which is uniform, and shares that row of the unit matrix.
    3. Both turn it back by g, a bit of g after the other.

    What P2 sees is within 2^-45 + k 2^-47 (statistical distance) of what it would see of any other place.
    """
    if not 1 <= k <= PLACES:
        raise EncodingError(f"the derivative of MaxPool takes 1 to {PLACES} candidates, not {k}")
    m = places.numel
    pair, base, words = securenn_comparison.pair_of(party), party.dealer.streams(3), places.words()
    # 1. the masked place
    draws, spread, hide = (pair.draw(base + i, m) for i in range(3))
    turn = (((draws >> 1) & ((1 << 47) - 1)) * k) >> 47
    mask = turn + k * ((spread >> 1) & ((1 << 46) - 1))
    message = torch.empty_like(words)
    for row, rank in enumerate(party.ranks):
        torch.add(words[row], mask[row] - hide[row] if rank else hide[row], out=message[row])

    # 2. a row of the unit matrix
    def answer(keys: KeySet, asked: torch.Tensor, out: torch.Tensor) -> None:
        place = torch.remainder(asked.sum(0), k).reshape(m, 1)
        out.copy_((place == torch.arange(k)).to(torch.int64).reshape(-1))
        keys.take(stream, out)

    stream = party.dealer.streams()
    unit = party.dealer.keys.draw(stream, m * k, party.dealer.ask(message, "position", m * k, answer))
    # 3. turned back
    rows = unit.view(party.rows, m, k)
    for bit in range((k - 1).bit_length()):
        chosen = -((turn >> bit) & 1).unsqueeze(2)
        rows = rows ^ ((rows ^ rows.roll(-(1 << bit), 2)) & chosen)
    return Share.of(rows.reshape(party.rows, m * k).contiguous(), (m, k))


def maxpool_derivative_cost(holders: int, m: int, k: int) -> Cost:
    """8 bytes a maximum to P2, 8 a candidate from it."""
    return asking(holders, m, m * k)
