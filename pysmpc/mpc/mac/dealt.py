"""The key of a session, and what the dealer gives with codes under it.

A number x mod 2^128 stands for x mod 2^64; its code is alpha x mod 2^128.  A bit is the
lowest of a number mod 2^64, with its code alpha x mod 2^64.  The key alpha is the sum of
words alpha_i, one a holder's own and known to the dealer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch

from pysmpc.mpc.interfaces import Party
from pysmpc.ring import z2k, z2k_128
from pysmpc.ring.prg import KeySet
from pysmpc.ring.shares import Share

SETS = 2  # arrays of a holder: its share and its code
LANES = SETS * z2k_128.LANES
TIGHT = SETS * z2k_128.WORDS

# bytes an element that the dealer sends
MASK_COST = 8 * z2k_128.WORDS
VALUE_COST = 8 * TIGHT
BIT_MASK_COST = 8
BIT_COST = 16
JOIN_COST = 8 * z2k_128.JOIN_WORDS  # three masks of bits and two bits


@dataclass(repr=False)
class State:
    """A session's key, and the openings that wait for a check."""

    stream: int
    key: torch.Tensor  # [rows]: the alpha_i
    ones: torch.Tensor  # [rows]: 1 for the leading holder, who adds public numbers
    waiting: list[Any] = field(default_factory=list)
    opened: int = 0

    @property
    def factors(self) -> torch.Tensor:
        """[rows * 2]: of a public number in every share and code."""
        return torch.stack([self.ones, self.key], 1).reshape(-1)

    def alpha(self, keys: KeySet) -> int:
        """Dealer: the key."""
        return sum(word % (1 << 64) for word in keys.draw(self.stream, 1).reshape(-1).tolist())


def state(party: Party) -> State:
    """The session's key, drawn at first use.  No message."""
    if not party.integrity:
        stream = party.dealer.streams()
        ones = torch.zeros(party.rows, dtype=torch.int64)
        if party.lead is not None:
            ones[party.lead] = 1
        party.integrity.append(State(stream, party.dealer.keys.draw(stream, 1).reshape(-1), ones))
    found: State = party.integrity[0]
    return found


# --- numbers mod 2^128 ------------------------------------------------------------------


def deal_mask(party: Party, n: int) -> tuple[int, torch.Tensor]:
    """(stream, tight [rows * 2, 2, n]) of uniform numbers with their codes."""
    own, stream = state(party), party.dealer.streams()
    half = z2k_128.WORDS * n

    def deal(keys: KeySet, out: torch.Tensor) -> None:
        z2k_128.deal(keys, stream, half, z2k_128.total(keys, stream, n), own.alpha(keys), out)

    dealt = party.dealer.corrections(half, deal)
    words = party.dealer.keys.draw(stream, 2 * half)
    if dealt is not None:
        words[-1, half:] = dealt
    return stream, words.view(party.rows * SETS, z2k_128.WORDS, n)


def deal(party: Party, n: int, values: Callable[[KeySet], torch.Tensor]) -> torch.Tensor:
    """Tight [rows * 2, 2, n] of the words values(keys) [n] that the dealer computes."""
    own, stream = state(party), party.dealer.streams()
    half = z2k_128.WORDS * n

    def dealing(keys: KeySet, out: torch.Tensor) -> None:
        found = values(keys)
        z2k_128.deal(keys, stream, 0, found, 1, out[:half])
        z2k_128.deal(keys, stream, half, found, own.alpha(keys), out[half:])

    dealt = party.dealer.corrections(2 * half, dealing)
    return party.dealer.keys.draw(stream, 2 * half, dealt).view(party.rows * SETS, z2k_128.WORDS, n)


# --- bits -------------------------------------------------------------------------------


@dataclass(repr=False)
class Bits:
    """Shares and codes [rows, n] of numbers mod 2^64, of which the lowest bits are meant."""

    share: torch.Tensor
    code: torch.Tensor

    @property
    def parts(self) -> tuple[torch.Tensor, torch.Tensor]:
        return self.share, self.code


def deal_bit_masks(party: Party, n: int) -> tuple[int, Bits]:
    """(stream, uniform numbers with their codes)."""
    own, stream = state(party), party.dealer.streams(2)

    def deal(keys: KeySet, out: torch.Tensor) -> None:
        out.copy_(keys.take(stream + 1, z2k.scale(keys.total(stream, n), own.alpha(keys))))

    dealt = party.dealer.corrections(n, deal)
    keys = party.dealer.keys
    return stream, Bits(keys.draw(stream, n), keys.draw(stream + 1, n, dealt))


# --- words of a body --------------------------------------------------------------------


def loose(party: Party, words: torch.Tensor) -> torch.Tensor:
    """[rows * 8, n] as arrays of loose numbers, [rows * 2, 4, n]."""
    return words.reshape(party.rows * SETS, z2k_128.LANES, words.shape[-1])


def tight(party: Party, words: torch.Tensor) -> torch.Tensor:
    """[rows * 8, n] as tight numbers, [rows * 2, 2, n]."""
    return z2k_128.pack(loose(party, words).contiguous())


def lower_words(words: torch.Tensor) -> torch.Tensor:
    """[rows * 8, n] as the lower words of the shares, [rows, n], which add up to the value mod 2^64."""
    shares = words.view(words.shape[0] // (SETS * z2k_128.LANES), SETS, z2k_128.LANES, words.shape[-1])[:, 0]
    return shares[:, 0] + (shares[:, 1] << 32)


def share_of(x: torch.Tensor, shape: tuple[int, ...], scale: int = 1) -> Share:
    """Loose [rows * 2, 4, n] as a share."""
    return Share.of(x.reshape(x.shape[0] * z2k_128.LANES, x.shape[-1]), shape, scale)


def constant(party: Party, values: torch.Tensor) -> torch.Tensor:
    """Loose [rows * 2, 4, n] of public words [n]: the leading holder's, and alpha_i times them."""
    return z2k_128.affine(state(party).factors, values.reshape(-1).contiguous())
