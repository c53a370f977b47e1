"""Values as public numbers plus words that the dealer knows, which is what a truncation and an opening leave.

A truncation opens c = z + offset + r and returns shares of (src/c/truncate.inc.h)
    v = C - q + s J,  where C = floor(c / d) - offset / d and s = [c < 2^63] are public,
and q = floor(r / d) and J, the jump of a signed r, are words that the dealer knows.  So v is under a mask already,
-q + s J.  The dealer does not know s.  For a product it deals what has to be multiplied by each power of s, and as
s s = s a square takes two words:
    v^2 = C (2 v - C) + q^2 + s J (J - 2 q).
It holds for every divisor, every number of holders and every r, mod 2^64.  Rounding to the nearest integer subtracts a
bit, b = beta + t rho with t = 1 - 2 beta public and rho dealt, which is a third word (`Rounded`).

Each class here describes one such value: its public part, and the public factors of the dealt words.  Nothing is
opened, dealt or sent.  `affine.py` multiplies such values; `factor_of` and `affine_of` find what is known of a share.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

from pysmpc.ring import affine_kernels, z2k
from pysmpc.ring.prg import KeySet
from pysmpc.ring.shares import Share

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
        ...

    def factors(self) -> Factors:
        """Of the dealt words."""
        ...

    def words(self, keys: KeySet) -> list[torch.Tensor]:
        """Dealer: the dealt words, each [n]."""
        ...


class Affine(Factor, Protocol):
    """A `Factor` with its square; square_count: of the words of that."""

    @property
    def square_count(self) -> int: ...

    def square_factors(self) -> Factors:
        """Of the words of `squares`."""
        ...

    def squares(self, keys: KeySet) -> list[torch.Tensor]:
        """Dealer: the square of what is left without `public` is the sum of `square_factors` times these."""
        ...


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
    """The result of a truncation by `by` that opened c; base: the stream of its r.

    reopened: the stream is not of r, but of what r follows from (`reopening.Reopened`).
    """

    count = square_count = 2
    reopened = False

    base: int
    by: z2k.Divisor
    c: torch.Tensor

    def public(self) -> torch.Tensor:
        """C = floor(c / d) - offset / d, of c as a number from 0 to 2^64 - 1."""
        d: int = self.by.value
        power = d.bit_length() - 1
        if power and d == 1 << power:
            return ((self.c >> power) & ((1 << (64 - power)) - 1)) - (self.by.offset >> power)
        half = (self.c >> 1) & ((1 << 63) - 1)  # c is 2 half, or one more
        quotient = torch.div(half, d, rounding_mode="trunc") * 2
        rest = self.c - quotient * d  # below 2 d
        return quotient + (rest >= d) - self.by.offset // d

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
        nothing = torch.empty((0, n), dtype=torch.int64)
        return nothing, nothing
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
        word += found.word
        found = found.of
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


def known_of(x: Share, factor: Factor) -> affine_kernels.Known | None:
    """What kernels take of a factor that x is, where they take it: x whole, and no other words than a truncation's."""
    if not x.dense:
        return None
    multiple = 1
    while isinstance(factor, Multiple):
        multiple *= factor.factor
        factor = factor.of
    multiple = z2k.wrap(multiple)
    if isinstance(factor, Masked):
        return affine_kernels.Known(factor.mask, None, False, multiple, factor.opened)
    if isinstance(factor, Truncated):
        return affine_kernels.Known(factor.base, factor.by, factor.reopened, multiple, factor.c)
    return None


def affine_of(x: Share) -> Affine | None:
    """How x's whole body follows from dealt words; None where it has to be opened for that."""
    body = x.body
    if body.opened is not None:
        assert body.mask is not None
        return Masked(body.opened, body.mask)
    found: Affine | None = body.affine
    return found
