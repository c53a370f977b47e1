"""The set of protocols that a session uses, as one object.

Operations call `session.suite.mul(session.party, x, y)` and the like; what a secret is
made of, and what travels, is the suite's business.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pysmpc.errors import PartyError
from pysmpc.protocols import (
    boolean,
    comparison,
    counts,
    fss,
    mac,
    maxima,
    plain,
    products,
    securenn,
    securenn_signs,
    sharing,
    truncation,
)

Protocol = Callable[..., Any]


@dataclass(frozen=True)
class Suite:
    """One implementation of every operation on shares.

    name: by which users ask for it.  holders: how many it is for, where not any number.
    base: the suite of which this one differs in rounding alone.  narrow: what users' own comparisons
    are made with, where their values are known to be short (pysmpc.protocols.short).  lanes: words that a holder
    has of an element; of several, none may be multiplied by itself.  disclose: how a value is
    opened to the owner of inputs alone, where not by the holders' shares.  largest: the largest of
    groups of four, where that is not found by a tree of `larger`.  count_reciprocals: of small whole
    numbers, where those are not found by division.
    """

    name: str
    holders: int | None
    share: Protocol
    reveal: Protocol
    public: Protocol
    refresh: Protocol
    add: Protocol
    sub: Protocol
    neg: Protocol
    scale_by: Protocol
    mul_public: Protocol
    matmul_public: Protocol
    mul: Protocol
    square: Protocol
    matmul: Protocol
    contract: Protocol
    truncate: Protocol
    truncate_all: Protocol
    update_all: Protocol
    negative: Protocol
    zero: Protocol
    bit_share: Protocol
    relu: Protocol
    larger: Protocol
    select: Protocol
    logical_and: Protocol
    logical_xor: Protocol
    bitwise_and: Protocol
    bitwise_and_public: Protocol
    shift_right_each: Protocol
    largest: Protocol | None = None
    count_reciprocals: Protocol | None = None
    disclose: Protocol | None = None
    base: Suite | None = None
    lanes: int = 1
    narrow: Any = None

    def check(self, holders: int) -> None:
        """Raise PartyError where this is not for so many holders."""
        if self.holders not in (None, holders):
            raise PartyError(
                f"protocol '{self.name}' is for {self.holders} holders, not {holders}; leave protocol out for the "
                "default, which takes two or more"
            )


def _collect(name: str, *modules: Any, holders: int | None = None, lanes: int = 1) -> Suite:
    """What the modules define under a field's name; later modules come before earlier ones."""
    names = [
        field for field in Suite.__dataclass_fields__ if field not in ("name", "holders", "base", "lanes", "narrow")
    ]
    found = {field: getattr(m, field) for field in names for m in (boolean, *modules) if hasattr(m, field)}
    return Suite(name=name, holders=holders, lanes=lanes, **found)


default = _collect("default", sharing, products, truncation, comparison, maxima, counts)
function_secret_sharing = _collect("fss", sharing, products, truncation, comparison, counts, fss, holders=2)
plaintext = _collect("plaintext", plain)
snn = _collect("snn", sharing, products, truncation, comparison, counts, securenn_signs, holders=securenn.HOLDERS)

#: What integrity="mac" is.
authenticated_default = _collect("mac", *mac.MODULES, lanes=mac.LANES)

#: By the names under which users ask for them.
suites = {suite.name: suite for suite in (default, function_secret_sharing, snn)}


def suite_named(name: str | None) -> Suite:
    """The suite of a protocol's name; None and "mpc" are the default.  ValueError for any other."""
    if name in (None, "mpc"):
        return default
    if name not in suites:
        raise ValueError(f"unknown protocol {name!r}; there are {', '.join(map(repr, suites))}")
    return suites[name]
