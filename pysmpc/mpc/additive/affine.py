"""Products that need no opening: of values that are public numbers plus dealt words.

A truncation opens c = z + offset + r and returns shares of (src/c/truncate.inc.h)
    v = C - q + s J,  where C = floor(c / d) - offset / d and s = [c < 2^63] are public,
and q = floor(r / d) and J, the jump of a signed r, are words that the dealer knows.  So v is under a mask already,
-q + s J, and an elementwise product needs products of the dealt words only, as that of two values that were opened
under masks of their own does (Beaver, CRYPTO 1991; values as public parts and dealt masks: ABY2.0, Patra, Schneider,
Suresh, Yalame, USENIX Security 2021, section 3).  The dealer does not know s.  It deals what has to be multiplied by
each power of s, and as s s = s a square takes two words:
    v^2 = C (2 v - C) + q^2 + s J (J - 2 q).
It holds for every divisor, every number of holders and every r, mod 2^64.  Rounding to the nearest integer subtracts a
bit, b = beta + t rho with t = 1 - 2 beta public and rho dealt, which is a third word (`Rounded`).

Nothing is opened here.  What is dealt is shared under streams of its own, and r, which hid one value when c was opened,
hides nothing else.  Matrix products sum over elements with different s, for which no few words are enough: those open v
under a mask of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

from pysmpc.mpc.interfaces import Cost, Party
from pysmpc.ring import z2k
from pysmpc.ring.prg import KeySet
from pysmpc.ring.shares import Share

#: Dealt words of an element of a product up to which nothing is opened.
MOST = 4

#: Elements of a selection up to which what it opened is kept for products without a round.
KEPT = 1 << 16

#: Public factors of dealt words, each [1, n] ([0, n] where no holder is hosted), or None for 1.
Factors = Sequence[torch.Tensor | None]


class Factor(Protocol):
    """A value as `public` plus the sum of `factors` times `words`.

    Nothing is kept: all of it is computed when it is asked for.  count: of the words.
    """

    @property
    def count(self) -> int: ...

    def public(self) -> torch.Tensor:
        """[1, n], or [0, n] where no holder is hosted."""

    def factors(self) -> Factors:
        """Of the dealt words."""

    def words(self, keys: KeySet) -> list[torch.Tensor]:
        """Dealer: the dealt words, each [n]."""


class Affine(Factor, Protocol):
    """A `Factor` with its square; square_count: of the words of that."""

    @property
    def square_count(self) -> int: ...

    def square_factors(self) -> Factors:
        """Of the words of `squares`."""

    def squares(self, keys: KeySet) -> list[torch.Tensor]:
        """Dealer: the square of what is left without `public` is the sum of `square_factors` times these."""


@dataclass(eq=False, repr=False)
class Masked:
    """A value that was opened less the mask of a stream."""

    count = square_count = 1

    opened: torch.Tensor
    mask: int

    def public(self) -> torch.Tensor:
        """What was opened."""
        return self.opened

    def factors(self) -> Factors:
        """One word."""
        return (None,)

    square_factors = factors

    def words(self, keys: KeySet) -> list[torch.Tensor]:
        """The mask."""
        return [keys.total(self.mask, self.opened.shape[1])]

    def squares(self, keys: KeySet) -> list[torch.Tensor]:
        """Of the mask."""
        [a] = self.words(keys)
        return [a * a]


@dataclass(eq=False, repr=False)
class Truncated:
    """The result of a truncation by `by` that opened c; base: the stream of its r."""

    count = square_count = 2

    base: int
    by: z2k.Divisor
    c: torch.Tensor

    def public(self) -> torch.Tensor:
        """C = floor(c / d) - offset / d, of c as a number from 0 to 2^64 - 1."""
        d, power = self.by.value, self.by.value.bit_length() - 1
        if power and d == 1 << power:
            return ((self.c >> power) & ((1 << (64 - power)) - 1)) - (self.by.offset >> power)
        half = (self.c >> 1) & ((1 << 63) - 1)  # c is 2 half, or one more
        quotient = torch.div(half, d, rounding_mode="trunc") * 2
        return quotient + (self.c - quotient * d >= d) - self.by.offset // d  # the rest is below 2 d

    def factors(self) -> Factors:
        """1 and s."""
        return None, (self.c >> 63) + 1

    square_factors = factors

    def dealt(self, keys: KeySet) -> tuple[torch.Tensor, torch.Tensor]:
        """Dealer: q and J."""
        n = self.c.shape[1]
        power = self.by.value.bit_length() - 1
        if self.by.value == 1 << power:
            r = keys.total(self.base, n)
            return (r >> power) & ((1 << (64 - power)) - 1), ((r >> 63) & 1) << (64 - power)
        # as they were dealt, by a division whose time does not depend on r
        last = torch.empty(z2k.truncate_words(self.by, n), dtype=torch.int64)
        z2k.truncate_deal(keys, self.base, self.by, n, last)
        others = (keys.take(self.base + k, torch.zeros(n, dtype=torch.int64)) for k in (1, 2))
        quotient, jump = (own - other for own, other in zip(last.split(n), others, strict=True))
        return quotient, jump

    def words(self, keys: KeySet) -> list[torch.Tensor]:
        """-q and J."""
        quotient, jump = self.dealt(keys)
        return [-quotient, jump]

    def squares(self, keys: KeySet) -> list[torch.Tensor]:
        """q^2 and J (J - 2 q)."""
        quotient, jump = self.dealt(keys)
        return [quotient * quotient, jump * (jump - 2 * quotient)]


@dataclass(eq=False, repr=False)
class Rounded:
    """A truncation less bits: those from `at` on of `total` that were opened as beta, under rho of a stream."""

    count, square_count = 3, 4

    of: Truncated
    beta: torch.Tensor
    stream: int
    total: int
    at: int

    def _beta(self) -> torch.Tensor:
        n = self.of.c.shape[1]
        if not self.beta.shape[0]:
            return torch.empty((0, n), dtype=torch.int64)
        return z2k.unpack_bits(self.beta[0].contiguous(), self.total)[self.at : self.at + n].reshape(1, n)

    def public(self) -> torch.Tensor:
        """C - beta."""
        return self.of.public() - self._beta()

    def factors(self) -> Factors:
        """1, s and t."""
        one, top = self.of.factors()
        return one, top, 1 - 2 * self._beta()

    def square_factors(self) -> Factors:
        """1, s, t and s t; t t = 1."""
        one, top, turn = self.factors()
        assert top is not None
        assert turn is not None
        return one, top, turn, top * turn

    def _rho(self, keys: KeySet) -> torch.Tensor:
        packed = z2k.rows_xor(keys.draw(self.stream, z2k.packed_words(self.total)))[0]
        return z2k.unpack_bits(packed, self.total)[self.at : self.at + self.of.c.shape[1]]

    def words(self, keys: KeySet) -> list[torch.Tensor]:
        """-q, J and -rho."""
        return [*self.of.words(keys), -self._rho(keys)]

    def squares(self, keys: KeySet) -> list[torch.Tensor]:
        """q^2 + rho, J (J - 2 q), 2 q rho and -2 J rho."""
        quotient, jump = self.of.dealt(keys)
        rho = self._rho(keys)
        return [quotient * quotient + rho, jump * (jump - 2 * quotient), 2 * quotient * rho, -2 * jump * rho]


@dataclass(eq=False, repr=False)
class Multiple:
    """A public multiple of a value."""

    of: Affine
    factor: int

    @property
    def count(self) -> int:
        """Those of the value."""
        return self.of.count

    @property
    def square_count(self) -> int:
        """Those of the value."""
        return self.of.square_count

    def public(self) -> torch.Tensor:
        """The multiple of the public part."""
        return self.of.public() * z2k.wrap(self.factor)

    def factors(self) -> Factors:
        """Those of the value."""
        return self.of.factors()

    def square_factors(self) -> Factors:
        """Those of the value."""
        return self.of.square_factors()

    def words(self, keys: KeySet) -> list[torch.Tensor]:
        """Multiples of the value's."""
        return [word * z2k.wrap(self.factor) for word in self.of.words(keys)]

    def squares(self, keys: KeySet) -> list[torch.Tensor]:
        """Multiples of the value's."""
        return [word * z2k.wrap(self.factor**2) for word in self.of.squares(keys)]


@dataclass(eq=False, repr=False)
class Selected:
    """bit * (a truncation), as a selection makes it: b = beta + t rho times v = C - q + s J.

    stream: of rho.  flip: b is not beta ^ rho but its opposite.
    """

    count = 5

    of: Truncated
    beta: torch.Tensor
    stream: int
    flip: bool

    def public(self) -> torch.Tensor:
        """beta C."""
        return _parts(self.beta, self.flip, self.of.c.shape[1])[0] * self.of.public()

    def factors(self) -> Factors:
        """beta, beta s, t C, t and t s."""
        beta, turn = _parts(self.beta, self.flip, self.of.c.shape[1])
        _, top = self.of.factors()
        assert top is not None
        return beta, beta * top, turn * self.of.public(), turn, turn * top

    def words(self, keys: KeySet) -> list[torch.Tensor]:
        """-q, J, rho, -q rho and J rho."""
        rho = _rho(keys, self.stream, self.of.c.shape[1])
        quotient, jump = self.of.words(keys)
        return [quotient, jump, rho, quotient * rho, jump * rho]


@dataclass(eq=False, repr=False)
class WithBit:
    """A value plus a public multiple of a bit that was opened under rho of a stream: one word more."""

    of: Factor
    beta: torch.Tensor
    stream: int
    flip: bool
    weight: int

    @property
    def count(self) -> int:
        """Those of the value, and rho."""
        return self.of.count + 1

    def public(self) -> torch.Tensor:
        """With the public part of the bit."""
        own = self.of.public()
        return own + self.weight * _parts(self.beta, self.flip, own.shape[1])[0]

    def factors(self) -> Factors:
        """Those of the value, and that of rho."""
        own = self.of.factors()
        n = next(each.shape[1] for each in own if each is not None)
        return *own, self.weight * _parts(self.beta, self.flip, n)[1]

    def words(self, keys: KeySet) -> list[torch.Tensor]:
        """Those of the value, and rho."""
        own = self.of.words(keys)
        return [*own, _rho(keys, self.stream, own[0].shape[0])]


def _parts(beta: torch.Tensor, flip: bool, n: int) -> tuple[torch.Tensor, torch.Tensor]:
    """(public part, factor of rho) of a bit, each [1, n], or [0, n] where no holder is hosted."""
    if not beta.shape[0]:
        return (torch.empty((0, n), dtype=torch.int64),) * 2
    bits = z2k.unpack_bits(beta[0].contiguous(), n).reshape(1, n)
    turn = 1 - 2 * bits
    return (1 - bits, -turn) if flip else (bits, turn)


def _rho(keys: KeySet, stream: int, n: int) -> torch.Tensor:
    """Dealer: the bits under which others were opened."""
    return z2k.unpack_bits(z2k.rows_xor(keys.draw(stream, z2k.packed_words(n)))[0], n)


@dataclass(eq=False, repr=False)
class Shifted:
    """A value plus a public integer."""

    of: Factor
    word: int

    @property
    def count(self) -> int:
        """Those of the value."""
        return self.of.count

    def public(self) -> torch.Tensor:
        """The sum."""
        return self.of.public() + self.word

    def factors(self) -> Factors:
        """Those of the value."""
        return self.of.factors()

    def words(self, keys: KeySet) -> list[torch.Tensor]:
        """Those of the value."""
        return self.of.words(keys)


def note_shifted(out: Share, x: Share, word: int) -> None:
    """Note that `out` is x plus a public integer, for products that take no round."""
    found = factor_of(x)
    if found is None or not x.dense or not out.dense or out.body.n > KEPT:
        return
    if isinstance(found, Shifted):  # one, however many numbers are added
        word, found = word + found.word, found.of
    out.body.gate = Shifted(found, z2k.wrap(word))


def note_with_bit(out: Share, x: Share, bit: Share, weight: int) -> None:
    """Note that `out` is x plus a public multiple of the bits that another share is, for the same."""
    found, known = x.body.gate, bit.body.bit
    if found is not None and known is not None and known.stream is not None and x.dense and out.dense:
        out.body.gate = WithBit(found, known.beta, known.stream, known.flip, weight)


def factor_of(x: Share) -> Factor | None:
    """How x's whole body follows from however many dealt words; None where it does not."""
    found: Factor | None = affine_of(x) or x.body.gate
    return found


def affine_of(x: Share) -> Affine | None:
    """How x's whole body follows from dealt words; None where it has to be opened for that."""
    body = x.body
    if body.opened is not None:
        assert body.mask is not None
        return Masked(body.opened, body.mask)
    found: Affine | None = body.affine
    return found


def pair_of(x: Share, y: Share, n: int) -> tuple[Affine, Affine] | None:
    """Both factors of a product of n elements, where it is better made of dealt words than of openings."""
    a, b = affine_of(x), affine_of(y)
    if a is None or b is None or a.count * b.count > MOST:
        return None
    return (a, b) if _spares(n, x, y) else None


def single_of(x: Share) -> Affine | None:
    """The same of a square."""
    a = affine_of(x)
    return None if a is None or a.square_count > MOST or not _spares(x.numel, x) else a


def _spares(n: int, *operands: Share) -> bool:
    """Whether openings are spared, none of which takes fewer bytes, since its elements are repeated."""
    fresh = [x for x in operands if x.body.opened is None]
    return bool(n and fresh) and all(x.body.n >= n for x in fresh)


def mul(party: Party, x: Share, y: Share, a: Factor, b: Factor) -> Share:
    """x * y of two shares of one shape, from what is known of their bodies.  No message between holders.

    1. The dealer shares the product of each dealt word of x with each of y.
    2. C_x y + C_y x - C_x C_y, and those words times their public factors.
    8 bytes from the dealer for each of those words, two for each truncated operand.
    """
    n = x.numel
    pairs = [(k, j) for k in range(a.count) for j in range(b.count)]

    # 1. products of words
    def words(keys: KeySet) -> list[torch.Tensor]:
        ours, theirs = ([s.gather(word.reshape(1, -1)) for word in f.words(keys)] for s, f in ((x, a), (y, b)))
        return [z2k.mul(ours[k], theirs[j]).reshape(-1) for k, j in pairs]

    def factors() -> Factors:
        ours, theirs = ([f if f is None else s.gather(f) for f in g.factors()] for s, g in ((x, a), (y, b)))
        return [_product(ours[k], theirs[j]) for k, j in pairs]

    parts = _dealt(party, n, len(pairs), words)
    # 2. combine
    left, right = x.gather(a.public()), y.gather(b.public())
    out = left * y.words() + right * x.words()
    if party.lead is not None:
        out[party.lead] -= (left * right)[0]
    return Share.of(_add(out, parts, factors()), x.shape, x.scale * y.scale)


def square(party: Party, x: Share, a: Affine) -> Share:
    """x * x elementwise, from what is known of its body.  No message between holders.

    1. The dealer shares the words whose sum, with public factors, is the square of the mask (`Affine.squares`).
    2. C (2 x - C), and those words times their public factors.
    16 bytes an element from the dealer for what was truncated, 32 for what was rounded to the nearest integer.
    """
    # 1. squares of words
    factors = [f if f is None else x.gather(f) for f in a.square_factors()]
    parts = _dealt(
        party, x.numel, len(factors), lambda keys: [x.gather(w.reshape(1, -1)).reshape(-1) for w in a.squares(keys)]
    )
    # 2. combine
    left = x.gather(a.public())
    out = 2 * x.words()
    if party.lead is not None:
        out[party.lead] -= left[0]
    return Share.of(_add(left * out, parts, factors), x.shape, x.scale * x.scale)


def product_cost(n: int, words: int) -> Cost:
    """Of n elements of `words` dealt words each."""
    return Cost(dealt=8 * words * n)


def _product(a: torch.Tensor | None, b: torch.Tensor | None) -> torch.Tensor | None:
    return b if a is None else a if b is None else a * b


def _dealt(party: Party, n: int, count: int, words: Callable[[KeySet], list[torch.Tensor]]) -> list[torch.Tensor]:
    """Shares [rows, n] of each of the dealer's words."""
    stream = party.dealer.streams(count)

    def deal(keys: KeySet, out: torch.Tensor) -> None:
        for k, (place, word) in enumerate(zip(out.split(n), words(keys), strict=True)):
            place.copy_(keys.take(stream + k, word))

    corrections = party.dealer.corrections(count * n, deal)
    sent = [None] * count if corrections is None else corrections.split(n)
    return [party.dealer.keys.draw(stream + k, n, own) for k, own in enumerate(sent)]


def _add(out: torch.Tensor, parts: Sequence[torch.Tensor], factors: Factors) -> torch.Tensor:
    for part, factor in zip(parts, factors, strict=True):
        out += part if factor is None else part * factor
    return out
