"""`Protocol`: how the parties compute, as one object that is checked where it is made.

`sy.virtual`, `sy.connect`, `sy.distributed`, `sy.encrypt` and the others that take `protocol=`, `rounding=`,
`integrity=` and `compare_bits=` make one of these (`protocol_of`); nothing but `Protocol.of` says which suite it means.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

from pysmpc.mpc.additive.exact import nearest
from pysmpc.mpc.additive.short import short
from pysmpc.mpc.operations import Suite
from pysmpc.mpc.suite import authenticated, default, suite_named

WHOLE = 64  # bits of a comparison that takes every value


@dataclass(frozen=True)
class Protocol:
    """How parties compute.  Pass it as `protocol=` wherever the name of a protocol is taken.

    name: "default", "fss" or "snn" (docs/protocols.md), or one that was registered (docs/adding-a-protocol.md).
    rounding: how a value between two steps of its encoding is rounded. "probabilistic": up with a probability equal to
    its fraction, one round; "nearest": to the nearest step, halves upward, five rounds.
    integrity: "mac" finds a holder that alters what it sends (docs/integrity.md).
    compare_bits: comparisons, ReLU and maxima look at so many bits only, 2 to 64.

    None leaves a setting as the parties have it, and for new parties as it is by default: the default protocol,
    probabilistic rounding, no integrity, 64 bits. A name begins from that protocol's defaults.

    Raises TypeError or ValueError for a value that is none of these, and NotImplementedError for settings that do
    not go together: integrity="mac" and compare_bits are for the default protocol.

    >>> parties = sy.virtual("alice", "bob", protocol=sy.Protocol(rounding="nearest"))
    """

    name: str | None = None
    rounding: str | None = None
    integrity: str | None = None
    compare_bits: int | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.name, str | None):
            raise TypeError(
                f"protocol is the name of a protocol, such as 'default', or sy.Protocol(...), not {self.name!r}"
            )
        suite_named(self.name)
        if self.integrity not in (None, "mac"):
            raise ValueError(f"integrity is None (no check) or 'mac', not {self.integrity!r}")
        if self.rounding not in (None, "probabilistic", "nearest"):
            raise ValueError(f"rounding is 'probabilistic' (the default) or 'nearest', not {self.rounding!r}")
        bits = self.compare_bits
        if bits is not None and (isinstance(bits, bool) or not isinstance(bits, int) or not 2 <= bits <= WHOLE):
            raise ValueError(f"compare_bits is a number of bits from 2 to {WHOLE}, not {bits!r}")
        if self.name is not None or (self.integrity and bits):
            self.of(default)  # settings that do not go together are found here, before there are parties

    def of(self, present: Suite) -> Suite:
        """The suite meant by these settings for parties that have the suite `present`.

        Raises NotImplementedError where it cannot have them.
        """
        suite = present if self.name is None else suite_named(self.name)
        narrow = suite.narrow
        bits = self.compare_bits or (WHOLE if narrow is None else narrow.bits)
        suite = suite if narrow is None else narrow.whole
        if self.integrity == "mac":
            suite = authenticated(suite)
        if self.rounding is not None:
            suite = nearest(suite) if self.rounding == "nearest" else suite.probabilistic
        return suite if bits == WHOLE else short(suite, bits)


def protocol_of(
    protocol: str | Protocol | None = None,
    rounding: str | None = None,
    integrity: str | None = None,
    compare_bits: int | None = None,
) -> Protocol:
    """What a call's keywords say: a `Protocol` as it is, a protocol's name and settings as one.

    Raises TypeError where a setting is given beside a `Protocol`, and what `Protocol` raises.
    """
    if not isinstance(protocol, Protocol):
        return Protocol(protocol, rounding, integrity, compare_bits)
    given = (rounding, integrity, compare_bits)
    beside = [each.name for each, value in zip(fields(Protocol)[1:], given, strict=True) if value is not None]
    if beside:
        raise TypeError(
            f"{beside[0]}= is given beside protocol=sy.Protocol(...); give it inside: sy.Protocol(..., {beside[0]}=...)"
        )
    return protocol
