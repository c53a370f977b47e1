"""Comparisons of values that are known to be short.

Opened under masks of the whole ring, as all others: only the circuit is cut, since the
sign of a value that fits in k bits is bit k - 1 of it (src/c/compare.inc.h).  What does
not fit gets a wrong sign, not an error: nobody sees it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache, partial

from pysmpc.protocols import comparison, maxima
from pysmpc.protocols.interfaces import Party, opens
from pysmpc.protocols.suite import Suite, default
from pysmpc.shares import Bit, Share


@dataclass(frozen=True)
class Narrow:
    """Protocols for values in (-2^(bits - 1), 2^(bits - 1)), in steps of their nominal scale.

    finer: by how much the scale of a value is finer than the nominal one, for which there
    is room in addition.
    """

    bits: int
    negative: Callable[..., Bit]
    zero: Callable[..., Share]
    relu: Callable[..., Share]
    larger: Callable[..., tuple[Share, Bit]]
    largest: Callable[..., tuple[Share, Share]]


@lru_cache(maxsize=256)
def short(suite: Suite, bits: int) -> Suite:
    """The suite with comparisons of `bits` bits, 2 to 64; NotImplementedError where it has none."""
    if suite is not default and suite.base is not default:
        raise NotImplementedError(
            f"compare_bits is for the default protocol, not for '{suite.name}'; leave out one of the two"
        )

    @opens(*comparison.negative.__dict__["opens"])
    def negative(party: Party, x: Share, finer: int = 1) -> Bit:
        """The bits x < 0."""
        return comparison.negative(party, x, _bits(finer))

    @opens(*suite.relu.__dict__["opens"])
    def relu(party: Party, x: Share, by: int = 1) -> Share:
        """max(x, 0) / by, rounded as the suite does it."""
        if suite is default:
            return comparison.relu(party, x, by, _bits(by))
        out = comparison.relu(party, x, 1, _bits(by))
        if by == 1:
            return out
        rounded: Share = suite.truncate(party, out, by)
        rounded.body.sign = out.body.sign
        return rounded

    largest = opens(*maxima.largest.__dict__["opens"])(partial(maxima.largest, bits=bits))

    def _bits(finer: int) -> int:
        return bits + (finer - 1).bit_length()

    narrow = Narrow(bits, negative, comparison.zero_by(negative), relu, comparison.larger_by(relu), largest)
    return replace(suite, name=f"{suite.name}, {bits} bits", narrow=narrow)
