"""The signatures of the operations on shares: one class for each form that an operation can have.

`pysmpc.mpc.operations.Suite` says which operation has which signature, and what it
computes.  All arguments are positional, so that a backend may name its parameters as it likes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import torch

from pysmpc.mpc.interfaces import Party
from pysmpc.ring.fixedpoint import Integers
from pysmpc.ring.matrix_layout import Layout
from pysmpc.ring.shares import MaskedBit, Share

Shape = Sequence[int]

#: (own, z, factor, by): own + factor * z / by, where own is a whole body of as many elements as z.
Update = tuple[Share, Share, int, int]


class Input(Protocol):
    def __call__(self, party: Party, values: Integers | None, shape: Shape, scale: int = 1, /) -> Share:
        """values: int64, in the owner's process; None in all others."""
        ...


class Reveal(Protocol):
    def __call__(self, party: Party, /, *secrets: Share) -> list[torch.Tensor]:
        """int64 of each secret's shape; [0, *shape] in a process that hosts no holder."""
        ...


#: What the owner of inputs makes of what every holder sent, [holders, n] words.
Received = Callable[[torch.Tensor], torch.Tensor]


class Disclose(Protocol):
    def __call__(self, party: Party, x: Share, permitted: bool, /) -> tuple[torch.Tensor, Received]:
        """What each holder sends the owner of inputs, [1 or 0, n], and what that makes of it."""
        ...


class Public(Protocol):
    def __call__(self, party: Party, values: torch.Tensor, scale: int = 1, /) -> Share:
        """values: int64 of any shape, known to all."""
        ...


class Unary(Protocol):
    def __call__(self, party: Party, x: Share, /) -> Share:
        """Elementwise, of x's shape."""
        ...


class Binary(Protocol):
    def __call__(self, party: Party, x: Share, y: Share, /) -> Share:
        """Of two secrets."""
        ...


class ScaleBy(Protocol):
    def __call__(self, party: Party, x: Share, factor: int, /) -> Share:
        """factor: any integer."""
        ...


class MulPublic(Protocol):
    def __call__(self, party: Party, x: Share, values: torch.Tensor, scale: int = 1, /) -> Share:
        """values: int64 of that scale, broadcast with x."""
        ...


class MatmulPublic(Protocol):
    def __call__(self, party: Party, x: Share, values: torch.Tensor, scale: int = 1, left: bool = True, /) -> Share:
        """values: int64 matrices of that scale.  left: x is the left factor."""
        ...


class Contract(Protocol):
    def __call__(self, party: Party, x: Share, left: Layout, y: Share, right: Layout, /) -> torch.Tensor:
        """Words [rows * lanes, batch * m * n] of products of the matrices that the layouts find."""
        ...


class Truncate(Protocol):
    def __call__(self, party: Party, z: Share, by: int, /) -> Share:
        """by: the divisor, 2 or more; the scale is divided as well."""
        ...


class TruncateAll(Protocol):
    def __call__(self, party: Party, dividends: Sequence[tuple[Share, int]], /) -> list[Share]:
        """dividends: values and their divisors."""
        ...


class UpdateAll(Protocol):
    def __call__(self, party: Party, updates: Sequence[Update], /) -> list[Share]:
        """A share for each update, of its first member's shape and scale."""
        ...


class Negative(Protocol):
    def __call__(self, party: Party, x: Share, /) -> MaskedBit:
        """As many bits as x has elements."""
        ...


class BoundedNegative(Protocol):
    def __call__(self, party: Party, x: Share, bits: int = 64, /) -> MaskedBit:
        """bits: x is in [-2^(bits - 1), 2^(bits - 1))."""
        ...


class NarrowNegative(Protocol):
    def __call__(self, party: Party, x: Share, finer: int = 1, /) -> MaskedBit:
        """finer: by how much the scale of x is finer than its nominal one."""
        ...


class NarrowZero(Protocol):
    def __call__(self, party: Party, x: Share, finer: int = 1, /) -> Share:
        """finer: by how much the scale of x is finer than its nominal one."""
        ...


class BitShare(Protocol):
    def __call__(self, party: Party, bit: MaskedBit, shape: tuple[int, ...], /) -> Share:
        """0 and 1 of that shape, at scale 1."""
        ...


class ReLU(Protocol):
    def __call__(self, party: Party, x: Share, by: int = 1, /) -> Share:
        """by: a divisor of the result and its scale."""
        ...


class BoundedReLU(Protocol):
    def __call__(self, party: Party, x: Share, by: int = 1, bits: int = 64, /) -> Share:
        """by: a divisor of the result and its scale.  bits: x is in (-2^(bits - 1), 2^(bits - 1))."""
        ...


class Larger(Protocol):
    def __call__(self, party: Party, x: Share, y: Share, /) -> tuple[Share, MaskedBit]:
        """The larger of two of equal shape and scale, and the bits y > x."""
        ...


class Largest(Protocol):
    def __call__(self, party: Party, x: Share, beside: Sequence[Share] = (), /) -> tuple[Share, Share]:
        """x: candidates [k, n], k >= 2, in groups of up to four.  beside: secrets, opened under masks meanwhile.

        The largest [groups, n], and bits [groups, size - 1, n]: which of a group but its first it is.
        """
        ...


class BoundedLargest(Protocol):
    def __call__(self, party: Party, x: Share, beside: Sequence[Share] = (), bits: int = 64, /) -> tuple[Share, Share]:
        """As `Largest`.  bits: any two candidates are less than 2^(bits - 1) apart."""
        ...


class CountReciprocals(Protocol):
    def __call__(self, party: Party, x: Share, most: int, /) -> Share:
        """2^24 / x for whole numbers from 1 to `most`."""
        ...


class Arranged(Protocol):
    """How rows were sorted, for other values [..., rows, n] of the same places."""

    def places(self) -> Share:
        """Where the element of each rank stood, [rows, n]."""
        ...

    def forward(self, x: Share, /) -> Share:
        """Elements in the order of those that were sorted."""
        ...

    def back(self, x: Share, /) -> Share:
        """Elements by rank, to where those stood that were sorted."""
        ...


class Arrange(Protocol):
    def __call__(self, party: Party, x: Share, /) -> tuple[Share, Arranged]:
        """x: [rows, n].  Each row sorted, the smallest first, equals in the order in which they stood; and how."""
        ...


class OneHot(Protocol):
    def __call__(self, party: Party, x: Share, classes: int, /) -> Share:
        """Bits [*x.shape, classes], of which that at x is set; x from 0 to classes - 1."""
        ...


class Select(Protocol):
    def __call__(self, party: Party, bit: MaskedBit, x: Share, by: int = 1, /) -> Share:
        """bit: one for each element of x.  by: a divisor of the result and its scale."""
        ...


class WithPublic(Protocol):
    def __call__(self, party: Party, x: Share, values: torch.Tensor, /) -> Share:
        """values: int64 of x's shape, or a single one."""
        ...
