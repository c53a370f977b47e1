"""Comparisons of values that are known to be short.

Opened under masks of the whole ring, as all others: only the circuit is cut, since the
sign of a value that fits in k bits is bit k - 1 of it (src/c/compare.inc.h).  What does
not fit gets a wrong sign, not an error: nobody sees it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache

from pysmpc.mpc.additive.comparison import zero_by
from pysmpc.mpc.derived.derived_operations import larger_by
from pysmpc.mpc.interfaces import Party, opens_as
from pysmpc.mpc.operations import Bounded, Narrow, Suite
from pysmpc.mpc.signatures import Largest
from pysmpc.ring.shares import MaskedBit, Share

#: What `compare_bits` may be and still saves something.
WIDTHS = range(2, 64)


def name_of(suite: Suite, bits: int) -> str:
    """The name of the suite with comparisons of so many bits."""
    return f"{suite.name}, {bits} bits"


def _largest(bounded: Bounded, bits: int) -> Largest | None:
    """Of groups of four candidates; None where the suite has none."""
    whole = bounded.largest
    if whole is None:
        return None

    @opens_as(whole)
    def largest(party: Party, x: Share, beside: Sequence[Share] = ()) -> tuple[Share, Share]:
        """The largest of each group, and which it is."""
        return whole(party, x, beside, bits)

    return largest


@lru_cache(maxsize=256)
def short(suite: Suite, bits: int) -> Suite:
    """The suite with comparisons of `bits` bits, 2 to 64; NotImplementedError where it has none."""
    if suite.bounded is None:
        raise NotImplementedError(
            f"compare_bits is for the default protocol, not for '{suite.name}'; leave out one of the two"
        )
    bounded = suite.bounded

    @opens_as(bounded.negative)
    def negative(party: Party, x: Share, finer: int = 1) -> MaskedBit:
        """The bits x < 0."""
        return bounded.negative(party, x, _bits(finer))

    @opens_as(bounded.relu)
    def relu(party: Party, x: Share, by: int = 1) -> Share:
        """max(x, 0) / by, rounded as the suite does it."""
        return bounded.relu(party, x, by, _bits(by))

    def _bits(finer: int) -> int:
        return bits + (finer - 1).bit_length()

    larger = larger_by(relu, suite.add, suite.sub)
    narrow = Narrow(bits, suite, negative, zero_by(negative), relu, larger, _largest(bounded, bits))
    return replace(suite, name=name_of(suite, bits), narrow=narrow, bounded=None)
