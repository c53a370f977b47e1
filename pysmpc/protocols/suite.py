"""The set of protocols that a session uses, as one object.

Operations call `session.suite.mul(session.party, x, y)` and the like; what a secret is
made of, and what travels, is the suite's business.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pysmpc.protocols import comparison, plain, products, sharing, truncation

Protocol = Callable[..., Any]


@dataclass(frozen=True)
class Suite:
    """One implementation of every operation on shares.  `name` is for messages."""

    name: str
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
    negative: Protocol
    bit_share: Protocol
    relu: Protocol
    select: Protocol


def _collect(name: str, *modules: Any) -> Suite:
    names = [field for field in Suite.__dataclass_fields__ if field != "name"]
    found = {field: getattr(module, field) for field in names for module in modules if hasattr(module, field)}
    return Suite(name=name, **found)


default = _collect("default", sharing, products, truncation, comparison)
plaintext = _collect("plaintext", plain)
