"""Ranges of products, sums and truncations by protocol, where nobody has all the shares.

`Tested` has the operations of a suite that overflow, as `ranges.Checked` has them.  Of every value an upper bound is
carried along that all parties know: a stated bound, what an operation made of those of its operands, or what a test has
held the value against.  Where these do not show that the result of an operation fits, its operands are tested against
bounds with which it does.  Which ones follows from scales, sizes and bounds alone.

A test is not made where it is asked for.  `Flags` keeps the operand's shares, and tests all that wait together when
something is opened, or when they have become many: four rounds for all of them (`pysmpc.mpc.derived.out_of_range`).
What comes of it is shared, too.  It is opened before the next value is, and says one thing: whether any was too large.
Until then results may be wrong; nobody sees them, but for
the order that holders open of a long row that is sorted (`pysmpc.mpc.derived.arranging`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch

from pysmpc.errors import RangeError
from pysmpc.mpc.derived.out_of_range import MOST, outside
from pysmpc.mpc.derived.range_checks import RING, Check, Move, matrix_product_size, plus, times
from pysmpc.mpc.derived.ranges import Checked
from pysmpc.mpc.functions.known_values import is_argument
from pysmpc.mpc.interfaces import Party, declares_openings
from pysmpc.mpc.operations import Suite
from pysmpc.ring import z2k
from pysmpc.ring.fixedpoint import LIMIT
from pysmpc.ring.shares import MaskedBit, Share, ShareStorage
from pysmpc.whereabouts import whereabouts

#: What products of tested operands stay below: they can be truncated by 2^38.
PRODUCT = LIMIT - (1 << 38)
#: The same of matrix products and multiples: a sum of two of them can be truncated by 2^38.
ROOM = PRODUCT >> 1
#: Elements that wait for a test, at most.
WAITING = 1 << 20
#: Operations that an error names.
NAMED = 12


class Flags:
    """What a session has still to test, and what came of its tests since the last opening.

    party: this process's part.  named: whether this process tells a user which operations they were.  told: called at
    every test.  asked: whether autograd asks for the present operation.  failed: why nothing is opened any more, ""
    while anything may be.
    """

    def __init__(self, party: Party) -> None:
        self._party = party
        self.named = True
        self.told: Callable[[], None] = lambda: None
        self.asked: Callable[[], bool] = lambda: torch._C._current_graph_task_id() != -1
        self.failed = ""
        self._waiting: list[tuple[torch.Tensor, int]] = []
        self._elements = 0
        self._found: torch.Tensor | None = None
        self._operations: dict[str, None] = {}

    @property
    def pending(self) -> bool:
        """Whether anything was tested, or is to be, since the last opening."""
        return self._found is not None or bool(self._waiting)

    def test(self, words: torch.Tensor, most: int, what: str) -> None:
        """Test that no magnitude of a secret [rows, n] is above `most`, before the next opening."""
        if not words.shape[1]:
            return
        self.told()
        if self.named:
            self._operations.setdefault(f"{whereabouts(ended=False)} ({what})")
        if words.untyped_storage().nbytes() > words.numel() * words.element_size():
            words = words.clone()  # part of a body, which would live as long
        self._waiting.append((words, most))
        self._elements += words.shape[1]
        if self._elements >= WAITING:
            self.settle()

    @declares_openings("compare")
    def settle(self) -> None:
        """Make the tests that wait.  Four rounds, or none."""
        if not self._waiting:
            return
        waiting, self._waiting, self._elements = self._waiting, [], 0
        words = torch.cat([each for each, _ in waiting], 1)
        most = torch.cat([torch.full((each.shape[1],), most) for each, most in waiting])
        found = outside(self._party, words, most)
        self._found = found if self._found is None else self._found ^ found

    def share(self) -> torch.Tensor:
        """Binary shares [rows, 1] of what came of the tests since the last opening: 0, or uniform if one failed."""
        return z2k.empty(self._party.rows, 1).zero_() if self._found is None else self._found

    @declares_openings("compare", "range")
    def open(self) -> bool:
        """Make the tests that wait, and open what came of them to all holders.  Five rounds, one, or none.

        Whether a value was too large; a process without holders does not learn it.  Where nothing was tested since
        the last opening, nothing is opened.
        """
        self.check()
        self.settle()
        if self._found is None:
            return False
        [word] = self._party.channel.open_xor([self._found], "range")
        return bool(word.any())

    def check(self) -> None:
        """Raise RangeError where a test has failed before: what was computed since may be wrong."""
        if self.failed:
            raise RangeError(self.failed)

    def end(self, failed: bool) -> None:
        """What was opened: from now on nothing is, if a test had failed."""
        self._found = None
        operations, self._operations = list(self._operations), {}
        if failed:
            self.failed = _message(operations)


def _message(operations: Sequence[str]) -> str:
    shown = ", ".join(operations[:NAMED]) + (f" and {len(operations) - NAMED} more" if operations[NAMED:] else "")
    return (
        f"one of the operands that were tested since the last opening, of {shown}, is too large; the value was not "
        "opened, and nothing will be in this session. Encrypt with fewer frac_bits or scale the data down; sy.virtual "
        "names the line, with data like these"
    )


class Size:
    """What all parties know of a body: no magnitude is above `most`, and in a window none above what `windows` says."""

    __slots__ = ("most", "windows")

    def __init__(self, most: int = RING) -> None:
        self.most = most
        self.windows: dict[Any, int] = {}


class Value(NamedTuple):
    """An operand: a secret, or (share is None) what is public and known to be this large.

    place: which elements of the body they are, None for all of it.
    """

    scale: int
    size: Size
    share: Share | None = None
    place: Any = None

    @property
    def most(self) -> int:
        """What is known of the magnitudes."""
        return self.size.most if self.place is None else min(self.size.most, self.size.windows.get(self.place, RING))

    def learn(self, most: int) -> None:
        """They are no larger than this."""
        if self.place is None:
            self.size.most = min(self.size.most, most)
        else:
            self.size.windows[self.place] = most


def size_of(body: ShareStorage) -> Size:
    """What is known of a body."""
    if body.range is None:
        body.range = Size(1 if body.bit is not None else RING)
    found: Size = body.range
    return found


def state(body: ShareStorage, bound: float, scale: int) -> None:
    """All parties know that no magnitude is above a bound."""
    size = size_of(body)
    size.most = min(size.most, math.ceil(bound * scale * (1 + 2.0**-40)))  # floating point may lose a little


class Tested(Checked):
    """Those operations of a suite that may overflow, tested by protocol: see the fields of `Suite` of their names."""

    def __init__(self, suite: Suite, flags: Flags) -> None:
        if suite.plaintext or not suite.additive:
            raise NotImplementedError(
                f"ranges are not tested by protocol under '{suite.name}'; leave out integrity='mac', or checked"
            )
        super().__init__(suite)
        self.flags = flags

    # --- operands and results ---

    def operand(self, x: Share, take: Move | None = None) -> Any:
        """What a test needs of a share."""
        return Value(x.scale, size_of(x.body), *_distinct(x))

    @staticmethod
    def _public(values: torch.Tensor) -> Any:
        return Value(1, Size(max(int(values.max()), -int(values.min())) if values.numel() else 0))

    def public_operand(self, values: torch.Tensor, take: Move) -> Any:
        """A public tensor."""
        return self._public(values)

    def keep(self, out: Share, check: Any) -> Share:
        """A result, with what is known of it."""
        if check is not None:
            out.body.range = Size(check.out.most)
        return out

    def _run(self, check: Check, *operands: Any) -> Check:
        """Test what has to be tested, so that the result is within its limit."""
        values: Sequence[Value] = operands
        if check.bound(*(x.most for x in values)) >= _limit(check):
            for x, most in zip(values, _split(check, values), strict=True):
                if most < x.most:
                    assert x.share is not None
                    x.learn(most)
                    self.flags.test(x.share.words(), most, check.what)
        most = check.bound(*(x.most for x in values))
        check.out.most = most if check.after is None else check.after(most)
        return check

    def public(self, party: Party, values: torch.Tensor, scale: int = 1) -> Share:
        """A public constant, of which everybody knows how large it is."""
        out = self.suite.public(party, values, scale)
        out.body.range = self._public(values).size
        return out

    def same(self, x: Share, out: Share) -> Share:
        """A result of the magnitudes of x."""
        out.body.range = Size(self.operand(x).most)
        return out

    # --- where a result is as large as an operand ---

    def square(self, party: Party, x: Share) -> Share:
        """x * x, as `Checked` has it: what derivatives do not read may be too large."""
        if x.scale == 1 or (is_argument(x) and self.flags.asked()):
            return self.suite.square(party, x)
        return self._squared(party, x)

    def select(self, party: Party, bit: MaskedBit, x: Share, by: int = 1) -> Share:
        """bit * x / by."""
        if by > 1:
            return super().select(party, bit, x, by)
        return self.same(x, self.suite.select(party, bit, x, by))


def _distinct(x: Share) -> tuple[Share, Any]:
    """The elements of a window, each once, and which they are: None for all that its body has."""
    axes = sorted((step, n) for step, n in zip(x.strides, x.shape, strict=True) if step and n != 1)
    strides, sizes = [step for step, _ in axes], tuple(n for _, n in axes)
    n = math.prod(x.shape) and math.prod(sizes)
    filled, whole = 1, x.offset == 0 and n == x.body.n
    for step, size in axes:
        whole = whole and step == filled
        filled *= size
    if whole:
        return Share(x.body, (n,)), None
    if not n:
        return Share(x.body, (0,)), (0,)
    return Share(x.body, sizes, 1, strides, x.offset), (x.offset, *axes)


def _goal(check: Check) -> int:
    """What a result stays below whose operands are tested: it leaves room for what is done with it next."""
    if check.limit != RING:
        return check.limit
    return PRODUCT if check.bound is times else ROOM


def _limit(check: Check) -> int:
    """What a result stays below without a test.

    Results of matrix products are tested when they are used: they have fewer elements than their operands.
    """
    return check.limit if check.adds or check.closely is matrix_product_size else _goal(check)


def _split(check: Check, values: Sequence[Value]) -> list[int]:
    """What the operands are to be tested against: the same magnitude for all, in steps of their scales.

    Sums take two operands of any scale that products leave, so that only what nothing is known of is tested; else both.
    """
    known = [x.most for x in values]
    if check.bound is plus:
        fresh = [ROOM - 1 if most >= RING else most for most in known]
        return fresh if check.bound(*fresh) < check.limit else [min(most, ROOM - 1) for most in known]
    limit = _goal(check)
    low = min(x.scale for x in values if x.share is not None)

    def at(size: int) -> list[int]:
        return [
            most if x.share is None else min(most, MOST, size * x.scale // low)
            for x, most in zip(values, known, strict=True)
        ]

    first, last = 0, MOST + 1  # the largest size that fits is from the first on, and below the last
    while last - first > 1:
        middle = (first + last) // 2
        first, last = (middle, last) if check.bound(*at(middle)) < limit else (first, middle)
    return at(first)
