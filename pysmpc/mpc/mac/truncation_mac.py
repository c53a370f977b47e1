"""Division by a public divisor, with codes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from pysmpc.mpc.additive.truncation import divisor
from pysmpc.mpc.interfaces import Cost, Party, declares_openings, opening
from pysmpc.mpc.mac.dealt import MASK_COST, VALUE_COST, constant, deal, deal_mask, loose, share_of, state
from pysmpc.mpc.mac.opening import open_words
from pysmpc.ring import z2k_128
from pysmpc.ring.prg import KeySet
from pysmpc.ring.shares import Share


@declares_openings("truncate", "check")
def truncate(party: Party, z: Share, by: int) -> Share:
    """z / by, rounded to one of the two integers next to it, as the default does.  One round."""
    return truncate_all(party, [(z, by)])[0]


@declares_openings("truncate", "check")
def truncate_all(party: Party, dividends: Sequence[tuple[Share, int]]) -> list[Share]:
    """Each z / by, all in one round.

    1. The dealer shares r, floor(r / by) and the jump of a signed r, of r mod 2^64.
    2. Open c = z + offset + r.
    3. floor(c / by) - floor(r / by) + [c < 2^63] jump - offset / by.
    """
    # 1. material
    pieces, messages = [], []
    for z, by in dividends:
        n, offset = z.numel, divisor(by).offset
        stream, mask = deal_mask(party, n)

        def quotients(keys: KeySet, stream: int = stream, n: int = n, by: int = by) -> torch.Tensor:
            return torch.cat(_quotients(keys.total(stream, n), by))

        pieces.append((deal(party, 2 * n, quotients), offset))
        words = loose(party, z.words()) + constant(party, torch.tensor([offset]))
        messages.append(z2k_128.pack(words, mask))
    # 2. open
    opened = open_words(party, messages, "truncate", [z.shape for z, _ in dividends])
    # 3. combine
    out = []
    for (z, by), (dealt, offset), c in zip(dividends, pieces, opened, strict=True):
        flat = c.reshape(-1) if party.rows else torch.zeros(z.numel, dtype=torch.int64)
        quotient = _unsigned(flat, by) - offset // by
        out.append(share_of(z2k_128.affine(state(party).factors, quotient, dealt, flat), z.shape, z.scale // by))
    return out


def _unsigned(words: torch.Tensor, by: int) -> torch.Tensor:
    """floor(word / by) of words taken as unsigned."""
    power = by.bit_length() - 1
    if by == 1 << power:
        return (words >> power) & ((1 << (64 - power)) - 1) if power else words
    return torch.from_numpy((words.numpy().view(np.uint64) // np.uint64(by)).view(np.int64))


def _quotients(r: torch.Tensor, by: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Dealer: floor(r / by) of unsigned r, and that less the same of signed r."""
    quotient, power = _unsigned(r, by), by.bit_length() - 1
    signed = r >> power if by == 1 << power else torch.div(r, by, rounding_mode="floor")
    return quotient, quotient - signed


def truncate_cost(holders: int, n: int) -> Cost:
    """Cost of truncating n elements."""
    return opening(holders, n) + Cost(dealt=(MASK_COST + 2 * VALUE_COST) * n)
