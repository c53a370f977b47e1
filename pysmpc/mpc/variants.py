"""Every variant of the suites there are, by name: what a worker finds by a driver's word.

A variant is a suite, with its own rounding or the exact one, and with comparisons of the
whole range or of fewer bits where it has those (`Suite.bounded`).
"""

from __future__ import annotations

from functools import lru_cache

from pysmpc.mpc.additive.exact import nearest
from pysmpc.mpc.additive.short import WIDTHS, name_of, short
from pysmpc.mpc.operations import Suite
from pysmpc.mpc.suite import authenticated_suites, suites


@lru_cache(maxsize=1)
def _variants() -> dict[str, tuple[Suite, int | None]]:
    """Of each name, the suite and the width of its comparisons, None for the whole range."""
    found: dict[str, tuple[Suite, int | None]] = {}
    for base in (*suites.values(), *authenticated_suites()):
        for suite in (base, nearest(base)):
            found[suite.name] = suite, None
            if suite.bounded is not None:
                found.update((name_of(suite, bits), (suite, bits)) for bits in WIDTHS)
    return found


def forget_variants() -> None:
    """After another suite was added: the variants are listed anew."""
    _variants.cache_clear()


def variant_named(name: str) -> Suite | None:
    """The variant whose `Suite.name` it is, the same object each time; None where there is none."""
    suite, bits = _variants().get(name, (None, None))
    return suite if suite is None or bits is None else short(suite, bits)
