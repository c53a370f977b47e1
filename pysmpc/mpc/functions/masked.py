"""One opening of a value under a mask that the dealer knows, and what the dealer shares about the mask.

A function f(c - r) of the opened c and the mask r is, for the functions of this package, a sum of
products g_j(c) h_j(r).  The dealer shares the words h_j(r); the factors g_j(c) are public, and so the
sum is linear: no message.  Factors have to be the same integers at every holder, since they multiply
uniform shares: they come out of integer arithmetic, never out of floating point.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import torch

from pysmpc.mpc.additive.truncation import MATERIAL
from pysmpc.mpc.interfaces import Cost, Party, declares_openings, opening
from pysmpc.ring import z2k
from pysmpc.ring.prg import KeySet
from pysmpc.ring.shares import Share

PIECE = 1 << 11  # elements whose words are drawn and combined at a time: they stay in cache


@dataclass(eq=False, repr=False)
class Masked:
    """A value x, opened as c = x + r over the whole ring.

    base: the stream of r, followed by those of the comparisons of `regions`.  c: [1, n], or [0, n]
    where no holder is hosted.  chunks: corrections of what comparisons with public thresholds share
    (None before the first of them, or where this process is sent none).
    """

    base: int
    c: torch.Tensor
    shape: tuple[int, ...]
    compared: bool = False
    multiplied: bool = False  # whether the stream of products of r with a bit was used
    chunks: torch.Tensor | None = None
    known: dict[object, Any] = field(default_factory=dict)  # words already dealt, by what they are for

    @property
    def n(self) -> int:
        """Elements."""
        return self.c.shape[1]

    def mask(self, keys: KeySet) -> torch.Tensor:
        """Dealer: r, [n] words."""
        return keys.total(self.base, self.n)


@dataclass(eq=False, repr=False)
class Dealt:
    """Shares of `planes` dealt words for each of n elements, a stream for every piece of elements."""

    planes: int
    n: int
    stream: int
    corrections: torch.Tensor | None

    def pieces(self, keys: KeySet) -> Iterator[tuple[slice, torch.Tensor]]:
        """(elements, their words [rows, planes, m])."""
        for i, first in enumerate(range(0, self.n, PIECE)):
            last = min(first + PIECE, self.n)
            at = slice(self.planes * first, self.planes * last)
            own = None if self.corrections is None else self.corrections[at]
            words = keys.draw(self.stream + i, self.planes * (last - first), own)
            yield slice(first, last), words.view(keys.rows, self.planes, last - first)


Words = Callable[[torch.Tensor], torch.Tensor]


@runtime_checkable
class DealtAtOnce(Protocol):
    """Words that a kernel deals for all pieces, the same ones as calls make."""

    def __call__(self, r: torch.Tensor, /) -> torch.Tensor: ...

    def deal(self, keys: KeySet, mask: int, stream: int, corrections: torch.Tensor, n: int) -> None:
        """Of n elements, masked by the stream `mask`, with a stream for every piece from `stream` on."""


@runtime_checkable
class CombinedAtOnce(Protocol):
    """Factors that a kernel computes, and multiplies by what was dealt, for all pieces: the same ones as calls make."""

    def __call__(self, c: torch.Tensor, /) -> torch.Tensor: ...

    def combine(self, keys: KeySet, dealt: Dealt, c: torch.Tensor, constant: int) -> torch.Tensor:
        """[rows, n] sums for c [n], to which the lead adds the constant."""
        ...


class MaskOpen(Protocol):
    def __call__(self, party: Party, x: Share, /) -> Masked:
        """x in the order of its elements: the opening runs parallel to x.words()."""
        ...


class DealWords(Protocol):
    def __call__(self, party: Party, x: Masked, planes: int, words: Words, /) -> Any:
        """words: of m elements of r, [planes, m].  Returns what `combine` takes."""


class Combine(Protocol):
    def __call__(
        self, party: Party, x: Masked, dealt: Any, factors: Words, constant: int = 0, scale: int = 1, /
    ) -> Share:
        """factors: of m elements of c, [planes, m].  constant: public, added to each.  scale: of the result."""
        ...


class Together(Protocol):
    def __call__(
        self,
        party: Party,
        functions: Sequence[Share] = (),
        dividends: Sequence[tuple[Share, int]] = (),
        factors: Sequence[Share] = (),
        /,
    ) -> tuple[list[Masked], list[Share]]:
        """functions: as `MaskOpen` takes them.  dividends: values and their divisors.  factors: of later products."""
        ...


@declares_openings("function")
def mask_open(party: Party, x: Share) -> Masked:
    """Open c = x + r for a fresh uniform r.  One round, 8 bytes an element to every other holder."""
    base, words = party.dealer.streams(MATERIAL), x.words()
    [c] = party.channel.open([z2k.truncate_mask(party.dealer.keys, base, 0, words)], "function", [x.shape])
    return Masked(base, c, x.shape)


def mask_open_cost(holders: int, n: int) -> Cost:
    """One word an element and peer."""
    return opening(holders, n)


def deal_words(party: Party, x: Masked, planes: int, words: Words) -> Dealt:
    """Shares of words(r), [planes, m] for m elements of the mask r.  No message between holders.

    8 bytes a word from the dealer.
    """
    n = x.n
    stream = party.dealer.streams(max(1, -(-n // PIECE)))

    def deal(keys: KeySet, out: torch.Tensor) -> None:
        if isinstance(words, DealtAtOnce):
            words.deal(keys, x.base, stream, out, n)
            return
        r = x.mask(keys)
        for i, first in enumerate(range(0, n, PIECE)):
            piece = r[first : first + PIECE]
            found = words(piece).reshape(-1).contiguous()
            out[planes * first : planes * first + found.numel()] = keys.take(stream + i, found)

    return Dealt(planes, n, stream, party.dealer.corrections(planes * n, deal))


def deal_words_cost(holders: int, n: int, planes: int) -> Cost:
    """Words for n elements."""
    return Cost(dealt=8 * planes * n)


def combine(party: Party, x: Masked, dealt: Dealt, factors: Words, constant: int = 0, scale: int = 1) -> Share:
    """The sum over the planes of factors(c) [planes, m] times the dealt words, plus a public constant.  No message."""
    if party.rows and isinstance(factors, CombinedAtOnce):
        return Share.of(factors.combine(party.dealer.keys, dealt, x.c[0], constant), x.shape, scale)
    out = z2k.empty(party.rows, x.n)
    if party.rows:
        for at, words in dealt.pieces(party.dealer.keys):
            out[:, at] = z2k.weighted(factors(x.c[0, at]).contiguous(), words)
        if party.lead is not None and constant:
            out[party.lead] += z2k.wrap(constant)
    return Share.of(out, x.shape, scale)
