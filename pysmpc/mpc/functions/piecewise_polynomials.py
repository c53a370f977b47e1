"""Functions of many magnitudes, or with a singular end: a trigonometric sum on each of several intervals of |x|.

Near 0 the function is smooth, and one sum serves both signs; further out each interval has a sum g of its own
(`characters`) over z = |x|.  Its two parts, E of the constant and the cosines and O of the sines, are even and odd in
x, so that g(|x|) = E(x) + sign(x) O(x) and sign(x) g(|x|) = sign(x) E(x) + O(x) take no absolute value.  In which
interval x lies is said by the bits x >= end and x > -end, of the same opening, in which everything is linear but one
product for each interval and part.  `piecewise_fits` has the tables, tools/fit_functions.py makes them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Literal

import torch

from pysmpc.errors import EncodingError
from pysmpc.mpc.additive.products import product_cost
from pysmpc.mpc.additive.truncation import truncate_cost
from pysmpc.mpc.functions.characters import BITS, Fit, evaluate
from pysmpc.mpc.functions.known_values import Opened, distinct
from pysmpc.mpc.functions.masked import deal_words_cost, mask_open_cost
from pysmpc.mpc.functions.regions import threshold_bits_cost
from pysmpc.mpc.functions.smooth import opened
from pysmpc.mpc.interfaces import Cost, Party
from pysmpc.mpc.operations import Suite
from pysmpc.ring.fixedpoint import LIMIT
from pysmpc.ring.shares import Share

#: Bits of the largest argument, in integers: further out there are no pieces.
FARTHEST = 46


@dataclass(frozen=True)
class Table:
    """A function by pieces.

    symmetry: "odd" and "even" functions, whose pieces are over |x|, and "right", a function that is 0 to the left of
    its first piece, where it begins.
    pieces: intervals that follow one another; the first of an odd or even function is around 0, and for both signs.
    growth: for a function that grows like log x: by how much from one piece to the next, each eight times as long as
    the one before; such pieces go on for ever.
    beyond: the value from the end of the last piece on, for x > 0.
    finest: the largest scale of an argument for which all that lies between two pieces has one.
    """

    name: str
    symmetry: Literal["odd", "even", "right"]
    pieces: tuple[Fit, ...]
    beyond: float = 0.0
    growth: float = 0.0
    finest: int = LIMIT

    @property
    def error(self) -> float:
        """The largest of any piece."""
        return max(piece.error for piece in self.pieces)


@dataclass(eq=False)
class Reached:
    """The bits x >= end of an opening."""

    bits: Share


def _all_pieces(table: Table, scale: int) -> Iterator[Fit]:
    """The pieces of a table, and those that follow from its last, as far as arguments go."""
    yield from table.pieces
    piece = table.pieces[-1]
    while table.growth and math.ceil(piece.hi * scale) < 1 << FARTHEST:
        lo, hi, constant = 8 * piece.lo, 8 * piece.hi, piece.constant + table.growth
        piece = replace(piece, lo=lo, hi=hi, period=8 * piece.period, constant=constant)
        yield piece


def pieces_of(table: Table, scale: int) -> tuple[list[Fit], list[int]]:
    """(pieces, ends): those that hold an integer of a scale; where each begins in integers, and where the last ends."""
    if scale > table.finest:
        raise EncodingError(f"{table.name} of a secret of scale {scale} is too fine: use fewer fractional bits")
    pieces, ends = [], [math.ceil(Fraction(table.pieces[0].lo) * scale)]
    for piece in _all_pieces(table, scale):
        end = math.ceil(Fraction(piece.hi) * scale)
        if end > ends[-1] and ends[-1] < 1 << FARTHEST:
            pieces.append(piece)
            ends.append(end)
    return pieces, ends


def _even(fit: Fit) -> Fit:
    return replace(fit, sines=(0.0,) * fit.terms)


def _odd(fit: Fit) -> Fit:
    return replace(fit, constant=0.0, cosines=(0.0,) * fit.terms)


def _reached(suite: Suite, party: Party, found: Opened, x: Share, ends: Sequence[int]) -> list[Share]:
    """The bits x >= end, [n] for each end; compared once for an opening."""
    new = [end for end in ends if ("reached", end) not in found.regions]
    if new:
        bits, n = suite.thresholds(party, x, new, 64, found.masked), x.numel
        for i, end in enumerate(new):
            row = Share(bits.body, (n,), 1, (1,), i * n)
            found.regions["reached", end] = Reached(Share.of(row.words(), (n,)))
    return [found.regions["reached", end].bits for end in ends]


def piecewise(
    suite: Suite, party: Party, x: Share, table: Table, scale: int, bits: int = BITS, beyond: Fraction | None = None
) -> Share:
    """The function of a table at `scale`, on its whole domain.  Six rounds; two for another one of the same pieces.

    1. Open c = x + r.
    2. The bits x >= end and x > -end for each end of a piece: three rounds.
    3. The sums of all pieces: linear in dealt words.
    4. Each times the bit of its piece, or that with the sign of x: one round.
    5. Add them, and what the function is beyond; divide by what they are too fine: one round.

    bits: of the sums; less make room for larger results.  beyond: in place of the table's.
    """
    by = round(Fraction(1 << bits) / scale)
    if by < 2:
        raise EncodingError(f"{table.name}: results of scale {scale} have no room; use fewer fractional bits")
    pieces, ends = pieces_of(table, x.scale)
    core, back = distinct(x)
    # 1. open
    found = opened(suite, party, core)
    flat = Share(found.x.body, (found.x.numel,), x.scale)
    n, two_sided = flat.numel, table.symmetry != "right"
    # 2. bits
    inner = ends[1:] if two_sided else ends
    reached = _reached(suite, party, found, flat, [*inner, *(1 - end for end in inner)] if two_sided else inner)
    right, left = reached[: len(inner)], reached[len(inner) :]
    # 3. and 4. sums, and the bits by which they are multiplied
    factors: list[Share] = []
    values: list[Share] = []

    def term(bit: Share, piece: Fit) -> None:
        value = evaluate(suite, party, found.masked, flat, piece, bits=bits)
        factors.append(bit)
        values.append(Share(value.body, (n,)))

    if two_sided:
        term(suite.sub(party, left[0], right[0]), pieces[0])
    for i, piece in enumerate(pieces[1:] if two_sided else pieces):
        here = suite.sub(party, right[i], right[i + 1])
        if not two_sided:
            term(here, piece)
            continue
        there = suite.sub(party, left[i + 1], left[i])
        either, signed = suite.add(party, here, there), suite.sub(party, here, there)
        odd = table.symmetry == "odd"
        term(signed if odd else either, _even(piece))
        term(either if odd else signed, _odd(piece))
    count = len(values)
    words = suite.mul(party, stacked(factors), stacked(values)).words()
    # 5. add, divide
    out = Share.of(words.reshape(words.shape[0], count, n).sum(1), (n,))
    last = Fraction(table.beyond) if beyond is None else beyond
    if last:
        out = suite.add(party, out, _beyond(suite, party, table, right[-1], left, round(last * (1 << bits))))
    out = suite.truncate(party, out.at(1), by)
    return back(Share(out.body, core.shape, scale))


def _beyond(suite: Suite, party: Party, table: Table, right: Share, left: Sequence[Share], value: int) -> Share:
    """The value where x is to the right of all pieces, and what it is by symmetry to the left of them."""
    if not left:
        return suite.scale_by(party, right, value)
    one = suite.public(party, torch.ones(right.shape, dtype=torch.int64))
    there = suite.sub(party, one, left[-1])
    combine = suite.sub if table.symmetry == "odd" else suite.add
    return suite.scale_by(party, combine(party, right, there), value)


def stacked(parts: Sequence[Share]) -> Share:
    """Values one after another."""
    words = torch.cat([part.words() for part in parts], 1)
    return Share.of(words, (words.shape[1],))


def piecewise_cost(holders: int, n: int, table: Table, scale: int = 1 << 16) -> Cost:
    """Of `piecewise` with the default suite, for an argument of a scale, and a binary scale of results."""
    pieces, ends = pieces_of(table, scale)
    two_sided = table.symmetry != "right"
    limits = 2 * (len(ends) - 1) if two_sided else len(ends)
    words = sum(deal_words_cost(holders, n, 2 * piece.terms).dealt for piece in pieces)
    opening = mask_open_cost(holders, n) + threshold_bits_cost(holders, n, limits, limits)
    return opening + Cost(dealt=words) + again_cost(holders, n, table, scale)


def again_cost(holders: int, n: int, table: Table, scale: int = 1 << 16) -> Cost:
    """Of another function of the same argument and pieces: two rounds."""
    count = len(pieces_of(table, scale)[0])
    products = 2 * count - 1 if table.symmetry != "right" else count
    by = round(Fraction(1 << BITS) / scale)
    return product_cost(holders, 2 * products * n, products * n) + truncate_cost(holders, n, by)
