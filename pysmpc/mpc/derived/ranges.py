"""Whether products, sums and truncations fit into the ring, where the shares of all holders are in one process.

Integers wrap mod 2^64, and a truncation is wrong beyond 2^62.  Nobody who holds one share can see that.  A process that
holds all of them can: `Checked` has the operations of a suite that overflow, and makes a check before each of them
(`range_checks.py`), which looks at how large the operands are.

The checks change nothing of what the protocols do, send or draw, and decide nothing but whether to raise RangeError.
Where a program is recorded (`pysmpc.ring.recording`), they are noted and made again in every run.

Integers (scale 1) wrap as torch's do, and are not checked.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch

from pysmpc.mpc.additive.products import DeferredProduct, Unopened
from pysmpc.mpc.additive.truncation import halved
from pysmpc.mpc.derived.range_checks import (
    Check,
    Move,
    Operand,
    Range,
    largest_magnitude,
    matrix_product_size,
    moved_size,
    multiple_size,
    own_size,
    plus,
    product_size,
    sum_size,
    times,
    unchanged,
    updated_size,
)
from pysmpc.mpc.functions.known_values import is_argument
from pysmpc.mpc.interfaces import Party
from pysmpc.mpc.operations import Suite
from pysmpc.mpc.signatures import Binary, Update
from pysmpc.ring import told
from pysmpc.ring.fixedpoint import LIMIT
from pysmpc.ring.matrix_layout import Layout, as_laid_out
from pysmpc.ring.recording import active
from pysmpc.ring.shares import MaskedBit, Share, ShareStorage
from pysmpc.ring.told import now
from pysmpc.torch_modes import in_backward
from pysmpc.whereabouts import whereabouts

HALVES = 1 << 36  # how much less than 2^62 an update takes of which upper halves are sent


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
        laid_out = as_laid_out(values)
        own = Range(largest_magnitude(laid_out))
        own.exact = True
        if laid_out is values:
            return Operand(own, values.reshape(1, -1).contiguous(), partial(torch.reshape, shape=values.shape), 1)
        take = partial(torch.as_strided, size=values.shape, stride=values.stride())
        return Operand(own, laid_out.reshape(1, -1), take, 1)

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
        check = self._run(Check("the product", x.scale * y.scale, times, product_size), a, b)
        return self.keep(protocol(party, x, y), check)

    def square(self, party: Party, x: Share) -> Share:
        """x * x.  In derivatives such as that of erf, e^(-x^2), what is asked for comes from an opening of x, and its
        square is not looked at: it may wrap."""
        if x.scale == 1 or (is_argument(x) and in_backward()):
            return self.suite.square(party, x)
        return self._squared(party, x)

    def _squared(self, party: Party, x: Share) -> Share:
        a = self.operand(x)
        check = self._run(Check("the square", x.scale * x.scale, times, product_size), a, a)
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
        return Check("the matrix product", scale, lambda a, b: terms * a * b, matrix_product_size)

    def contract(self, party: Party, x: Share, left: Layout, y: Share, right: Layout) -> torch.Tensor:
        """x @ y of matrices that layouts find in the bodies."""
        if x.scale * y.scale > 1:
            self.contraction(self.operand(x, left.take), self.operand(y, right.take), left.width, x.scale * y.scale)
        return self.suite.contract(party, x, left, y, right)

    def contraction(self, a: Operand, b: Operand, terms: int, scale: int) -> None:
        """A convolution's product."""
        self._run(Check("the convolution", scale, lambda a, b: terms * a * b, matrix_product_size), a, b)

    def public_operand(self, values: torch.Tensor, take: Move) -> Operand:
        """A public tensor, of whose elements [n] the matrices of a layout are taken."""
        return self._public(values.reshape(-1))._replace(take=take)

    def mul_public(self, party: Party, x: Share, values: torch.Tensor, scale: int = 1) -> Share:
        """x * values."""
        if x.scale * scale == 1:
            return self.suite.mul_public(party, x, values, scale)
        check = Check("the product with a public tensor", x.scale * scale, times, product_size)
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
        check = Check("a multiple", x.scale, lambda a: a * abs(now(factor)), partial(multiple_size, factor))
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
        check = self._run(
            Check(what, x.scale, plus, partial(sum_size, sign), adds=True), self.operand(x), self.operand(y)
        )
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
        closely = largest if move is None else partial(moved_size, move, terms)
        return self._run(Check("the sum", scale, bound, closely, adds=True), *(self.operand(x) for x, _ in parts))

    # --- what protocols take ---

    def within(self, x: Share) -> None:
        """Check an argument of a function: below 2^62 in magnitude, as whatever is encrypted."""
        if x.scale > 1:
            check = Check("the argument", x.scale, unchanged, own_size, LIMIT)
            self._run(check, self.operand(x))

    def below(self, x: Share, limit: int, what: str) -> None:
        """Check that x, of whole numbers too, is below a limit in magnitude."""
        self._run(Check(what, x.scale, unchanged, own_size, limit), self.operand(x))

    def truncation(self, z: Share, by: int) -> Check:
        """Check that z can be divided."""
        check = Check("what is truncated", z.scale, unchanged, own_size, LIMIT - by + 1, lambda most: most // by + 1)
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
        room = lambda by: (None, (LIMIT - (HALVES if halved(holders, by) else by) + 1,))  # noqa: E731
        _, [limit] = told.follow(room, by)
        source = self.operand(z)
        part = Check("an update", z.scale, lambda a: a * abs(now(factor)), partial(multiple_size, factor), limit)
        self._run(part, source)
        bound = lambda a, b: a + b * abs(now(factor)) // now(by) + 2  # noqa: E731
        check = Check("an update", own.scale, bound, partial(updated_size, factor, by), adds=True)
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


def _flat(values: torch.Tensor) -> torch.Tensor:
    return values


def _window(shape: tuple[int, ...], strides: tuple[int, ...], offset: int, values: torch.Tensor) -> torch.Tensor:
    return values.as_strided(shape, strides, offset)
