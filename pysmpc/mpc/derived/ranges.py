"""Whether products, sums and truncations fit into the ring, where the shares of all holders are in one process.

Integers wrap mod 2^64, and a truncation is wrong beyond 2^62.  Nobody who holds one share can see that.  A process that
holds all of them can: `Checked` has the operations of a suite that overflow, and before each of them looks at how
large the operands are.  Of every value an upper bound is carried along (`Range`): that of a product is the product of
the bounds, that of a sum their sum.  Only where the bounds do not show that the result fits are the values themselves
looked at, from the sum of their shares: first the largest magnitude of each operand, then the result in floating
point beside the result in the ring, which tells exactly whether it wrapped.

The checks change nothing of what the protocols do, send or draw, and decide nothing but whether to raise RangeError.
Where a program is recorded (`pysmpc.ring.recording`), they are noted and made again in every run.

Integers (scale 1) wrap as torch's do, and are not checked.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch

from pysmpc.errors import RangeError
from pysmpc.mpc.additive.products import DeferredProduct, Unopened
from pysmpc.mpc.additive.truncation import halved
from pysmpc.mpc.functions.known_values import is_argument
from pysmpc.mpc.interfaces import Party
from pysmpc.mpc.mac.dealt import lower_words
from pysmpc.mpc.operations import Suite
from pysmpc.mpc.signatures import Binary, Update
from pysmpc.ring import product_kernels, z2k
from pysmpc.ring.fixedpoint import LIMIT
from pysmpc.ring.matrix_layout import Layout
from pysmpc.ring.recording import active
from pysmpc.ring.shares import MaskedBit, Share, ShareStorage, broadcast
from pysmpc.torch_modes import in_backward
from pysmpc.whereabouts import Whereabouts, whereabouts

RING = 1 << 63  # integers of this magnitude and above wrap
HALVES = 1 << 36  # how much less than 2^62 an update takes of which upper halves are sent

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
        own.most = _matrices(*self.factors) if self.words is None else z2k.rows_most(self.rows())
        own.exact = True

    def rows(self) -> torch.Tensor:
        """Words that add up to the values."""
        assert self.words is not None
        return self.words if self.lanes == 1 else lower_words(self.words)

    def values(self) -> torch.Tensor:
        """The values that are meant."""
        return self.take(z2k.rows_sum(self.rows())[0])


def _largest(x: torch.Tensor) -> int:
    return max(int(x.max()), -int(x.min())) if x.numel() else 0


def _compared(found: torch.Tensor, real: torch.Tensor) -> int:
    """The largest magnitude of results, from what they are mod 2^64 and, to less than 2^61, in floating point."""
    if bool(((real - found.double()).abs() > LIMIT).any()):
        return max(RING, int(real.abs().max()))
    return _largest(found)


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
        if most >= self.limit:
            most = self._looked(operands)
        self.out.most, self.out.exact = most if self.after is None else self.after(most), False

    def _looked(self, operands: Sequence[Operand]) -> int:
        for x in operands:
            x.look()
        most = self.bound(*(x.range.most for x in operands))
        if most >= self.limit and all(x.words is not None for x in operands):
            most = self.closely(*operands)
        if most >= self.limit:
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


# --- magnitudes of results, from the values themselves ------------------------------------


def _product(x: Operand, y: Operand) -> int:
    a, b = x.values(), y.values()
    return _compared(a * b, a.double() * b.double())


def _matrices(x: Operand, y: Operand) -> int:
    a, b = x.values(), y.values()
    batch = broadcast(a.shape[:-2], b.shape[:-2])
    a, b = a.expand(*batch, *a.shape[-2:]), b.expand(*batch, *b.shape[-2:])
    found = product_kernels.matmul(a, b, z2k.empty(*batch, a.shape[-2], b.shape[-1]))
    one, other, terms = a.double(), b.double(), a.shape[-1]
    if terms * terms * _largest(a) * _largest(b) >> 52 >= LIMIT >> 1:  # what floating point loses may be too much
        most = int((one.abs() @ other.abs()).max())
        if most * terms >> 52 >= LIMIT >> 1:
            return max(RING, most)
    return _compared(found, one @ other)


def _sum(sign: int, x: Operand, y: Operand) -> int:
    a, b = x.values(), y.values()
    return _compared(a + sign * b, a.double() + sign * b.double())


def _multiple(factor: int, x: Operand) -> int:
    a = x.values()
    return _compared(a * z2k.wrap(factor), a.double() * float(factor))


def _moved(move: Callable[..., torch.Tensor], terms: Sequence[int], *operands: Operand) -> int:
    values = [x.values() for x in operands]
    most = sum(n * _largest(v) for n, v in zip(terms, values, strict=True))
    if sum(terms) * most >> 52 >= LIMIT >> 1:  # what floating point loses may be too much
        return max(RING, int(move(*(v.double().abs() for v in values)).max()))
    return _compared(move(*values), move(*(v.double() for v in values)))


def _itself(x: Operand) -> int:
    return _largest(x.values())


def _updated(factor: int, by: int, own: Operand, z: Operand) -> int:
    a, b = own.values().reshape(-1), z.values().reshape(-1)
    return int((a.double() + b.double() * (factor / by)).abs().max()) + 2 if a.numel() else 0


def _times(a: int, b: int) -> int:
    return a * b


def _same(a: int) -> int:
    return a


def _plus(a: int, b: int) -> int:
    return a + b


def _flat(values: torch.Tensor) -> torch.Tensor:
    return values


class Checked:
    """Those operations of a suite that may overflow, checked: see the fields of `Suite` of the same names."""

    def __init__(self, suite: Suite) -> None:
        self.suite = suite
        self._owed: dict[int, Check] = {}  # of updates that wait, by their cells

    # --- operands and results ---

    def operand(self, x: Share, take: Move | None = None) -> Operand:
        """What a check reads of a share."""
        body = x.body
        known = self._known(body)
        product = body.product if isinstance(body, DeferredProduct) else None
        if product is not None and product.factors is not None:
            factors = [Operand(Range(), f.words, f.layout.take, self.suite.lanes) for f in product.factors]
            return Operand(known, None, _flat, self.suite.lanes, factors)
        if isinstance(body, Unopened) and body.operands is not None:
            factors = [Operand(Range(), f.body.words, f.matrices().take, self.suite.lanes) for f in body.operands]
            return Operand(known, None, _flat, self.suite.lanes, factors)
        return Operand(known, body.words, take or partial(_window, x.shape, x.strides, x.offset), self.suite.lanes)

    def _known(self, body: ShareStorage) -> Range:
        recorder = active()
        if recorder is None:
            if body.range is None:
                body.range = Range()
            known: Range = body.range
            return known
        if body not in recorder.ranges:
            recorder.ranges[body] = Range()
            recorder.note(recorder.ranges[body].begin)
        found: Range = recorder.ranges[body]
        return found

    @staticmethod
    def _public(values: torch.Tensor) -> Operand:
        own = Range(_largest(values))
        own.exact = True
        return Operand(own, values.reshape(1, -1).contiguous(), partial(torch.reshape, shape=values.shape), 1)

    def _run(self, check: Check, *operands: Operand) -> Check:
        """Check now, and in every repetition."""
        recorder = active()
        if recorder is None:
            check(*operands)
            return check
        before, recorder.silent = recorder.silent, True
        try:
            check(*operands)
        finally:
            recorder.silent = before
        check.where = whereabouts(ended=False)
        recorder.note(check, *operands)
        return check

    def keep(self, out: Share, check: Check | None) -> Share:
        """A result, with what its check found."""
        if check is not None:
            if (recorder := active()) is None:
                out.body.range = check.out
            else:
                recorder.ranges[out.body] = check.out
        return out

    def public(self, party: Party, values: torch.Tensor, scale: int = 1) -> Share:
        """A public constant as a share."""
        return self.suite.public(party, values, scale)

    def neg(self, party: Party, x: Share) -> Share:
        """-x."""
        return self.same(x, self.suite.neg(party, x))

    def same(self, x: Share, out: Share) -> Share:
        """A result of the magnitudes of x: looked at where that is needed."""
        return out

    # --- products ---

    def mul(self, party: Party, x: Share, y: Share) -> Share:
        """x * y."""
        return self._multiplied(self.suite.mul, party, x, y)

    def mul_at_once(self, party: Party, x: Share, y: Share) -> Share:
        """x * y."""
        return self._multiplied(self.suite.mul_at_once, party, x, y)

    def _multiplied(self, protocol: Binary, party: Party, x: Share, y: Share) -> Share:
        if x.scale * y.scale == 1:
            return protocol(party, x, y)
        a, b = self.operand(x), self.operand(y)
        check = self._run(Check("the product", x.scale * y.scale, _times, _product), a, b)
        return self.keep(protocol(party, x, y), check)

    def square(self, party: Party, x: Share) -> Share:
        """x * x.  In derivatives such as that of erf, e^(-x^2), what is asked for comes from an opening of x, and its
        square is not looked at: it may wrap."""
        if x.scale == 1 or (is_argument(x) and in_backward()):
            return self.suite.square(party, x)
        return self._squared(party, x)

    def _squared(self, party: Party, x: Share) -> Share:
        a = self.operand(x)
        check = self._run(Check("the square", x.scale * x.scale, _times, _product), a, a)
        return self.keep(self.suite.square(party, x), check)

    def matmul(self, party: Party, x: Share, y: Share) -> Share:
        """x @ y."""
        if x.scale * y.scale == 1:
            return self.suite.matmul(party, x, y)
        a, b = self.operand(x), self.operand(y)
        check = self._run(self._terms(x.scale * y.scale, x.shape[-1]), a, b)
        return self.keep(self.suite.matmul(party, x, y), check)

    @staticmethod
    def _terms(scale: int, terms: int) -> Check:
        return Check("the matrix product", scale, lambda a, b: terms * a * b, _matrices)

    def contract(self, party: Party, x: Share, left: Layout, y: Share, right: Layout) -> torch.Tensor:
        """x @ y of matrices that layouts find in the bodies."""
        if x.scale * y.scale > 1:
            self.contraction(self.operand(x, left.take), self.operand(y, right.take), left.width, x.scale * y.scale)
        return self.suite.contract(party, x, left, y, right)

    def contraction(self, a: Operand, b: Operand, terms: int, scale: int) -> None:
        """A convolution's product."""
        self._run(Check("the convolution", scale, lambda a, b: terms * a * b, _matrices), a, b)

    def public_operand(self, values: torch.Tensor, take: Move) -> Operand:
        """A public tensor, of whose elements [n] the matrices of a layout are taken."""
        return self._public(values.reshape(-1))._replace(take=take)

    def mul_public(self, party: Party, x: Share, values: torch.Tensor, scale: int = 1) -> Share:
        """x * values."""
        if x.scale * scale == 1:
            return self.suite.mul_public(party, x, values, scale)
        check = Check("the product with a public tensor", x.scale * scale, _times, _product)
        self._run(check, self.operand(x), self._public(values))
        return self.keep(self.suite.mul_public(party, x, values, scale), check)

    def matmul_public(self, party: Party, x: Share, values: torch.Tensor, scale: int = 1, left: bool = True) -> Share:
        """x @ values or values @ x."""
        if x.scale * scale == 1:
            return self.suite.matmul_public(party, x, values, scale, left)
        a, b = self.operand(x), self._public(values)
        pair = (a, b) if left else (b, a)
        check = self._run(self._terms(x.scale * scale, (x if left else values).shape[-1]), *pair)
        return self.keep(self.suite.matmul_public(party, x, values, scale, left), check)

    def scale_by(self, party: Party, x: Share, factor: int) -> Share:
        """factor * x."""
        if x.scale == 1:
            return self.suite.scale_by(party, x, factor)
        size = abs(factor)
        check = Check("a multiple", x.scale, lambda a: a * size, partial(_multiple, factor))
        self._run(check, self.operand(x))
        return self.keep(self.suite.scale_by(party, x, factor), check)

    # --- sums ---

    def add(self, party: Party, x: Share, y: Share) -> Share:
        """x + y."""
        return self._added(party, x, y, 1)

    def sub(self, party: Party, x: Share, y: Share) -> Share:
        """x - y."""
        return self._added(party, x, y, -1)

    def _added(self, party: Party, x: Share, y: Share, sign: int) -> Share:
        protocol = self.suite.add if sign > 0 else self.suite.sub
        if x.scale == 1:
            return protocol(party, x, y)
        what = "the sum" if sign > 0 else "the difference"
        check = self._run(Check(what, x.scale, _plus, partial(_sum, sign), adds=True), self.operand(x), self.operand(y))
        return self.keep(protocol(party, x, y), check)

    def total(self, parts: Sequence[tuple[Share, int]], move: Callable[..., torch.Tensor] | None) -> Check | None:
        """Check sums of up to so many elements of each share: those that move(values of each) makes of them.

        move: None where sums are checked as if their elements were the largest that there are.
        """
        terms = [n for _, n in parts]

        def bound(*most: int) -> int:
            return sum(n * each for n, each in zip(terms, most, strict=True))

        def largest(*operands: Operand) -> int:
            return bound(*(x.range.most or 0 for x in operands))

        if (scale := parts[0][0].scale) == 1:
            return None
        closely = largest if move is None else partial(_moved, move, terms)
        return self._run(Check("the sum", scale, bound, closely, adds=True), *(self.operand(x) for x, _ in parts))

    # --- what protocols take ---

    def within(self, x: Share) -> None:
        """Check an argument of a function: below 2^62 in magnitude, as whatever is encrypted."""
        if x.scale > 1:
            check = Check("the argument", x.scale, _same, _itself, LIMIT)
            self._run(check, self.operand(x))

    def below(self, x: Share, limit: int, what: str) -> None:
        """Check that x, of whole numbers too, is below a limit in magnitude."""
        self._run(Check(what, x.scale, _same, _itself, limit), self.operand(x))

    def truncation(self, z: Share, by: int) -> Check:
        """Check that z can be divided."""
        check = Check("what is truncated", z.scale, _same, _itself, LIMIT - by + 1, lambda most: most // by + 1)
        return self._run(check, self.operand(z))

    def truncate(self, party: Party, z: Share, by: int) -> Share:
        """z / by."""
        check = self.truncation(z, by)
        return self.keep(self.suite.truncate(party, z, by), check)

    def truncate_all(self, party: Party, dividends: Sequence[tuple[Share, int]]) -> list[Share]:
        """Each z / by."""
        checks = [self.truncation(z, by) for z, by in dividends]
        found = self.suite.truncate_all(party, dividends)
        return [self.keep(out, check) for out, check in zip(found, checks, strict=True)]

    def select(self, party: Party, bit: MaskedBit, x: Share, by: int = 1) -> Share:
        """bit * x / by."""
        check = self.truncation(x, by) if by > 1 else None
        return self.keep(self.suite.select(party, bit, x, by), check)

    def update(self, holders: int, update: Update) -> Check:
        """Check own + factor * z / by."""
        own, z, factor, by = update
        size, limit = abs(factor), LIMIT - (HALVES if halved(holders, by) else by) + 1
        source = self.operand(z)
        part = Check("an update", z.scale, lambda a: a * size, partial(_multiple, factor), limit)
        self._run(part, source)
        bound = lambda a, b: a + b * size // by + 2  # noqa: E731
        check = Check("an update", own.scale, bound, partial(_updated, factor, by), adds=True)
        return self._run(check, self.operand(own), source)

    def owe(self, cell: object, holders: int, update: Update) -> None:
        """Check an update of a cell that is made later, by `pay`."""
        self._owed[id(cell)] = self.update(holders, update)

    def pay(self, party: Party, cells: Sequence[object], updates: Sequence[Update]) -> list[Share]:
        """As `update_all`, of what was checked when it was owed."""
        checks = [
            self._owed.pop(id(cell)) if id(cell) in self._owed else self.update(party.holders, each)
            for cell, each in zip(cells, updates, strict=True)
        ]
        found = self.suite.update_all(party, updates)
        return [self.keep(out, check) for out, check in zip(found, checks, strict=True)]

    def update_all(self, party: Party, updates: Sequence[Update]) -> list[Share]:
        """own + factor * z / by of each."""
        checks = [self.update(party.holders, each) for each in updates]
        found = self.suite.update_all(party, updates)
        return [self.keep(out, check) for out, check in zip(found, checks, strict=True)]


def _window(shape: tuple[int, ...], strides: tuple[int, ...], offset: int, values: torch.Tensor) -> torch.Tensor:
    return values.as_strided(shape, strides, offset)
