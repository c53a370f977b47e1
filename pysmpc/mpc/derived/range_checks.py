"""A check that a result fits into the ring, and what it reads: bounds of values, and the values themselves.

Of every value an upper bound is carried along (`Range`): that of a product is the product of the bounds, that of a sum
their sum.  Only where the bounds do not show that a result fits does a `Check` look at the values themselves, from the
sum of their shares: first at the largest magnitude of each operand, then at the result in floating point beside the
result in the ring, which tells exactly whether it wrapped.  So a check needs the shares of all holders in one process.

`ranges.py` says which operations are checked; the functions below say how large their results are.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch

from pysmpc.errors import RangeError
from pysmpc.mpc.mac.dealt import lower_words
from pysmpc.ring import product_kernels, z2k
from pysmpc.ring.fixedpoint import LIMIT
from pysmpc.ring.shares import broadcast
from pysmpc.ring.told import now
from pysmpc.whereabouts import Whereabouts, whereabouts

RING = 1 << 63  # integers of this magnitude and above wrap


Move = Callable[[torch.Tensor], torch.Tensor]


class Range:
    """How large the values of a body are.

    most: no magnitude is larger; None while nothing is known.  exact: it is the largest magnitude itself.
    before: in a recording, of what a repetition begins with: the range of what the one before ended with.
    """

    __slots__ = ("before", "exact", "most")

    def __init__(self, most: int | None = None) -> None:
        self.most = most
        self.exact = False
        self.before: Range | None = None

    def begin(self) -> None:
        """A repetition begins: the words are others, of which nothing is known but what the one before ended with."""
        self.most, self.exact = (None, False) if self.before is None else (self.before.most, self.before.exact)

    def forget(self) -> None:
        """Know nothing."""
        self.most, self.exact = None, False


class Operand(NamedTuple):
    """What a check reads of an operand.

    words: [rows, n], None where they are not there yet.  take: from the values of the body [n] to those that are
    meant.  factors: of a product whose words are not there yet.
    """

    range: Range
    words: torch.Tensor | None
    take: Move
    lanes: int
    factors: Any = None

    def look(self) -> None:
        """Have the largest magnitude in place of a bound."""
        own = self.range
        if own.exact:
            return
        own.most = matrix_product_size(*self.factors) if self.words is None else z2k.rows_most(self.rows())
        own.exact = True

    def rows(self) -> torch.Tensor:
        """Words that add up to the values."""
        assert self.words is not None
        return self.words if self.lanes == 1 else lower_words(self.words)

    def values(self) -> torch.Tensor:
        """The values that are meant."""
        return self.take(z2k.rows_sum(self.rows())[0])


def largest_magnitude(x: torch.Tensor) -> int:
    """Of integers; 0 where there are none."""
    return max(int(x.max()), -int(x.min())) if x.numel() else 0


def _compared(found: torch.Tensor, real: torch.Tensor) -> int:
    """The largest magnitude of results, from what they are mod 2^64 and, to less than 2^61, in floating point."""
    if bool(((real - found.double()).abs() > LIMIT).any()):
        return max(RING, int(real.abs().max()))
    return largest_magnitude(found)


class Check:
    """Whether an operation fits.  A call with its operands raises RangeError, or keeps in `out` the size of its result.

    what: names the operation in the error.  scale: of its result.  bound: of its magnitude, from those of the operands.
    limit: which it must stay below.  after: what becomes of the bound.  adds: whether it is a sum.
    """

    def __init__(
        self,
        what: str,
        scale: int,
        bound: Callable[..., int],
        closely: Callable[..., int],
        limit: int = RING,
        after: Callable[[int], int] | None = None,
        adds: bool = False,
    ) -> None:
        self.what, self.scale, self.bound, self.closely, self.limit, self.after, self.adds = (
            what,
            scale,
            bound,
            closely,
            limit,
            after,
            adds,
        )
        self.out = Range()
        self.where: Whereabouts | None = None

    def __call__(self, *operands: Operand) -> None:
        """Check the operation with these operands."""
        for x in operands:
            if x.range.most is None:
                x.look()
        most = self.bound(*(x.range.most for x in operands))
        if most >= now(self.limit):
            most = self._looked(operands)
        self.out.most, self.out.exact = most if self.after is None else self.after(most), False

    def _looked(self, operands: Sequence[Operand]) -> int:
        for x in operands:
            x.look()
        most = self.bound(*(x.range.most for x in operands))
        if most >= now(self.limit) and all(x.words is not None for x in operands):
            most = self.closely(*operands)
        if most >= now(self.limit):
            raise RangeError(self._message(most))
        return most

    def _message(self, most: int) -> str:
        where = self.where or whereabouts()
        bits = self.limit.bit_length() - 1 if self.limit & (self.limit - 1) == 0 else self.limit.bit_length()
        text = f"{where}: {self.what} does not fit into the {bits} bits that the ring has room for"
        ways = "scale the data down" if (room := self._room(where, most)) is None else f"{room}, or scale the data down"
        return f"{text}; {ways} (sy.virtual(checked=False) leaves this check out, and the result is wrong)"

    def _room(self, where: Whereabouts, most: int) -> str | None:
        """How many fractional digits would fit."""
        if where.digits < 1:
            return None
        power = math.log(self.scale) / (where.digits * math.log(where.base))  # of the encoding, that the result has
        if power <= 0:
            return None
        room = math.log(self.limit) - math.log(most) + math.log(self.scale)
        digits = math.floor(room / power / math.log(where.base) - 1e-6)
        if digits < 0:
            return None
        name = "frac_bits" if where.base == 2 else "precision_fractional"
        return f"encrypt with {name}={min(digits, where.digits - 1)} or less, in place of {where.digits}"


# --- how large results are, from the values themselves ------------------------------------


def product_size(x: Operand, y: Operand) -> int:
    """The largest magnitude of x * y, or what the real numbers would be where that wraps."""
    a, b = x.values(), y.values()
    return _compared(a * b, a.double() * b.double())


def matrix_product_size(x: Operand, y: Operand) -> int:
    """The same of x @ y, whose last two dimensions are those of matrices."""
    a, b = x.values(), y.values()
    batch = broadcast(a.shape[:-2], b.shape[:-2])
    a, b = a.expand(*batch, *a.shape[-2:]), b.expand(*batch, *b.shape[-2:])
    found = product_kernels.matmul(a, b, z2k.empty(*batch, a.shape[-2], b.shape[-1]))
    one, other, terms = a.double(), b.double(), a.shape[-1]
    rounded = terms * terms * largest_magnitude(a) * largest_magnitude(b) >> 52  # what floating point loses, at most
    if rounded >= LIMIT >> 1:
        most = int((one.abs() @ other.abs()).max())
        if most * terms >> 52 >= LIMIT >> 1:
            return max(RING, most)
    return _compared(found, one @ other)


def sum_size(sign: int, x: Operand, y: Operand) -> int:
    """The same of x + sign y."""
    a, b = x.values(), y.values()
    return _compared(a + sign * b, a.double() + sign * b.double())


def multiple_size(factor: int, x: Operand) -> int:
    """The same of factor x."""
    a = x.values()
    return _compared(a * z2k.wrap(now(factor)), a.double() * float(now(factor)))


def moved_size(move: Callable[..., torch.Tensor], terms: Sequence[int], *operands: Operand) -> int:
    """The same of move(*operands), which adds up to terms[k] elements of operand k."""
    values = [x.values() for x in operands]
    most = sum(n * largest_magnitude(v) for n, v in zip(terms, values, strict=True))
    if sum(terms) * most >> 52 >= LIMIT >> 1:  # what floating point loses may be too much
        return max(RING, int(move(*(v.double().abs() for v in values)).max()))
    return _compared(move(*values), move(*(v.double() for v in values)))


def own_size(x: Operand) -> int:
    """The largest magnitude of x."""
    return largest_magnitude(x.values())


def updated_size(factor: int, by: int, own: Operand, z: Operand) -> int:
    """The largest magnitude of own + factor z / by, and what truncation adds to it."""
    a, b = own.values().reshape(-1), z.values().reshape(-1)
    return int((a.double() + b.double() * (now(factor) / now(by))).abs().max()) + 2 if a.numel() else 0


# --- bounds of results, from those of the operands -----------------------------------------


def times(a: int, b: int) -> int:
    """Of an elementwise product."""
    return a * b


def unchanged(a: int) -> int:
    """Of the operand itself."""
    return a


def plus(a: int, b: int) -> int:
    """Of a sum or a difference."""
    return a + b
