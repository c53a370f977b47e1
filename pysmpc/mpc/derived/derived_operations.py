"""Operations that follow from others: the default of a suite that has none of its own.

A maker takes a suite and returns the operation, made of the suite's other operations.  It
declares what those open (`opens_as`), and reads them when the suite is built, so that a call
costs no more than if the backend had written the operation itself.  `Suite` says by
`derived(maker)` which operations have such a default.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pysmpc.mpc.functions.masked import Masked, Together
from pysmpc.mpc.functions.regions import RegionsOf, ThresholdsOf, regions_by, thresholds_by
from pysmpc.mpc.interfaces import Party, opens_as
from pysmpc.mpc.signatures import Binary, Larger, ReLU, Truncate, Unary, Update, UpdateAll
from pysmpc.ring import told
from pysmpc.ring.shares import MaskedBit, Share

if TYPE_CHECKING:
    from pysmpc.mpc.operations import Suite


def neg(suite: Suite) -> Unary:
    """-x, as (-1) x."""
    scale_by = suite.scale_by

    @opens_as(scale_by)
    def neg(party: Party, x: Share) -> Share:
        """-x."""
        return scale_by(party, x, -1)

    return neg


def mul_at_once(suite: Suite) -> Binary:
    """x * y, as any product."""
    mul = suite.mul

    @opens_as(mul)
    def mul_at_once(party: Party, x: Share, y: Share) -> Share:
        """x * y."""
        return mul(party, x, y)

    return mul_at_once


def together(suite: Suite) -> Together:
    """One after the other; factors are opened by their products."""
    mask_open, truncate_all = suite.mask_open, suite.truncate_all

    @opens_as(mask_open, truncate_all)
    def together(
        party: Party,
        functions: Sequence[Share] = (),
        dividends: Sequence[tuple[Share, int]] = (),
        factors: Sequence[Share] = (),
    ) -> tuple[list[Masked], list[Share]]:
        """Masked arguments and quotients: a round for each argument, and those of a division."""
        masked = [mask_open(party, x) for x in functions]
        return masked, truncate_all(party, dividends) if dividends else []

    return together


def square(suite: Suite) -> Unary:
    """x * x, as any product."""
    mul = suite.mul

    @opens_as(mul)
    def square(party: Party, x: Share) -> Share:
        """x * x elementwise."""
        return mul(party, x, x)

    return square


def truncate(suite: Suite) -> Truncate:
    """z / by, as a batch of one."""
    truncate_all = suite.truncate_all

    @opens_as(truncate_all)
    def truncate(party: Party, z: Share, by: int) -> Share:
        """z / by, rounded as the suite does it."""
        return truncate_all(party, [(z, by)])[0]

    return truncate


def update_all(suite: Suite) -> UpdateAll:
    """Updates in the rounds of one truncation, the factors first."""
    scale_by, add, truncate_all = suite.scale_by, suite.add, suite.truncate_all

    @opens_as(scale_by, add, truncate_all)
    def update_all(party: Party, updates: Sequence[Update]) -> list[Share]:
        """own + factor * z / by for each."""
        told.refuse("a public number changes, by which a rounded update is divided", *(by for *_, by in updates))
        parts = truncate_all(party, [(scale_by(party, z, factor), by) for _, z, factor, by in updates])
        return [
            add(party, own, Share(part.body, own.shape, own.scale))
            for (own, *_), part in zip(updates, parts, strict=True)
        ]

    return update_all


def larger_by(relu: ReLU, add: Binary, sub: Binary) -> Larger:
    """The larger of two by a protocol for ReLUs."""

    @opens_as(relu, add, sub)
    def larger(party: Party, x: Share, y: Share) -> tuple[Share, MaskedBit]:
        """The larger of x and y, of equal shape and scale, and the bits y > x; rounds of a ReLU.

        x + max(y - x, 0): the opening for the sign serves the choice.
        """
        above = relu(party, sub(party, y, x))
        assert above.body.sign is not None
        return add(party, x, above), above.body.sign

    return larger


def larger(suite: Suite) -> Larger:
    """The larger of two by the suite's own ReLU."""
    return larger_by(suite.relu, suite.add, suite.sub)


def regions(suite: Suite) -> RegionsOf:
    """Where values lie, by the suite's own comparison."""
    return regions_by(suite.negative, suite.bit_share, suite.sub, suite.public)


def thresholds(suite: Suite) -> ThresholdsOf:
    """Which public ends values reach, by the suite's own comparison."""
    return thresholds_by(suite.negative, suite.bit_share, suite.sub, suite.public)
