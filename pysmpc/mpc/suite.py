"""The suites there are: a table of operations for each.

A table names every operation that a backend has of its own (`pysmpc.mpc.operations`).
"""

from __future__ import annotations

from dataclasses import replace

from pysmpc.mpc import mac, plain
from pysmpc.mpc.additive import boolean, comparison, maxima, products, sharing, together, truncation
from pysmpc.mpc.derived import arranging, counts, one_hot
from pysmpc.mpc.fss import fss_comparison
from pysmpc.mpc.functions import masked, regions
from pysmpc.mpc.operations import Bounded, Suite
from pysmpc.mpc.securenn import securenn_comparison, securenn_signs

__all__ = [
    "Suite",
    "authenticated",
    "authenticated_default",
    "default",
    "function_secret_sharing",
    "plaintext",
    "snn",
    "suite_named",
    "suites",
]

default = Suite(
    name="default",
    additive=True,
    storable=True,
    repeatable=True,
    inputs_to_all=False,
    bounded=Bounded(comparison.negative, comparison.relu, maxima.largest),
    share=sharing.share,
    reveal=sharing.reveal,
    public=sharing.public,
    refresh=sharing.refresh,
    add=sharing.add,
    sub=sharing.sub,
    scale_by=sharing.scale_by,
    neg=sharing.neg,
    mul_public=sharing.mul_public,
    matmul_public=sharing.matmul_public,
    mul=products.mul,
    mul_at_once=products.mul_at_once,
    square=products.square,
    matmul=products.matmul,
    contract=products.contract,
    truncate_all=truncation.truncate_all,
    truncate=truncation.truncate,
    update_all=truncation.update_all,
    negative=comparison.negative,
    zero=comparison.zero,
    bit_share=comparison.bit_share,
    relu=comparison.relu,
    largest=maxima.largest,
    arrange=arranging.arrange,
    one_hot=one_hot.one_hot,
    count_reciprocals=counts.count_reciprocals,
    select=comparison.select,
    mask_open=masked.mask_open,
    together=together.together,
    deal_words=masked.deal_words,
    combine=masked.combine,
    regions=regions.regions,
    thresholds=regions.thresholds,
    scaled_thresholds=regions.scaled_thresholds,
    logical_and=boolean.logical_and,
    logical_xor=boolean.logical_xor,
    bitwise_and=boolean.bitwise_and,
    bitwise_and_public=boolean.bitwise_and_public,
    shift_right_each=boolean.shift_right_each,
)

function_secret_sharing = replace(
    default,
    name="fss",
    holders=2,
    bounded=None,
    negative=fss_comparison.negative,
    zero=fss_comparison.zero,
    bit_share=fss_comparison.bit_share,
    relu=fss_comparison.relu,
    largest=None,
    select=fss_comparison.select,
    regions=Suite.regions,
    thresholds=Suite.thresholds,
    scaled_thresholds=None,
)

#: Equality is the default's.
snn = replace(
    default,
    name="snn",
    holders=securenn_comparison.HOLDERS,
    bounded=None,
    negative=securenn_signs.negative,
    relu=securenn_signs.relu,
    largest=None,
    regions=Suite.regions,
    thresholds=Suite.thresholds,
    scaled_thresholds=None,
)

#: What integrity="mac" is.
authenticated_default = Suite(
    name="mac",
    lanes=mac.LANES,
    additive=False,
    storable=False,  # codes are of a key that ends with the session
    repeatable=False,  # what is opened waits for a check
    inputs_to_all=True,
    authenticates="default",
    share=mac.sharing_mac.share,
    reveal=mac.sharing_mac.reveal,
    disclose=mac.sharing_mac.disclose,
    public=mac.sharing_mac.public,
    refresh=mac.sharing_mac.refresh,
    add=mac.sharing_mac.add,
    sub=mac.sharing_mac.sub,
    scale_by=mac.sharing_mac.scale_by,
    neg=mac.sharing_mac.neg,
    mul_public=mac.sharing_mac.mul_public,
    matmul_public=mac.sharing_mac.matmul_public,
    mul=mac.products_mac.mul,
    matmul=mac.products_mac.matmul,
    contract=mac.products_mac.contract,
    truncate_all=mac.truncation_mac.truncate_all,
    truncate=mac.truncation_mac.truncate,
    negative=mac.comparison_mac.negative,
    zero=mac.comparison_mac.zero,
    bit_share=mac.comparison_mac.bit_share,
    relu=mac.selection.relu,
    select=mac.selection.select,
    mask_open=mac.functions.mask_open,
    deal_words=mac.functions.deal_words,
    combine=mac.functions.combine,
    logical_and=mac.selection.logical_and,
    logical_xor=mac.selection.logical_xor,
    bitwise_and=mac.selection.no_bits,
    bitwise_and_public=mac.selection.no_bits,
    shift_right_each=mac.selection.no_bits,
)

#: The oracle, and public tensors.
plaintext = Suite(
    name="plaintext",
    additive=True,
    storable=True,
    repeatable=True,
    inputs_to_all=False,
    plaintext=True,
    share=plain.share,
    reveal=plain.reveal,
    public=plain.public,
    refresh=plain.refresh,
    add=plain.add,
    sub=plain.sub,
    scale_by=plain.scale_by,
    neg=plain.neg,
    mul_public=plain.mul_public,
    matmul_public=plain.matmul_public,
    mul=plain.mul,
    square=plain.square,
    matmul=plain.matmul,
    contract=plain.contract,
    truncate_all=plain.truncate_all,
    truncate=plain.truncate,
    update_all=plain.update_all,
    negative=plain.negative,
    zero=plain.zero,
    bit_share=plain.bit_share,
    relu=plain.relu,
    larger=plain.larger,
    arrange=plain.arrange,
    one_hot=plain.one_hot,
    count_reciprocals=plain.count_reciprocals,
    select=plain.select,
    mask_open=plain.mask_open,
    deal_words=plain.deal_words,
    combine=plain.combine,
    logical_and=plain.logical_and,
    logical_xor=plain.logical_xor,
    bitwise_and=plain.bitwise_and,
    bitwise_and_public=plain.bitwise_and_public,
    shift_right_each=plain.shift_right_each,
)

#: By the names under which users ask for them.
suites = {suite.name: suite for suite in (default, function_secret_sharing, snn)}

#: By the names of the suites that they run under codes.
_AUTHENTICATED = {suite.authenticates: suite for suite in (authenticated_default,)}


def names_taken(but: Suite) -> list[str]:
    """The names that suites have other than this one: those that users may ask for, and the others."""
    there = (*suites.values(), *authenticated_suites(), plaintext)
    return ["mpc", *(suite.name for suite in there if suite is not but)]


def authenticated_suites() -> tuple[Suite, ...]:
    """What integrity="mac" is, for each protocol that has it."""
    return tuple(_AUTHENTICATED.values())


def add_suite(suite: Suite) -> None:
    """Let users ask for a suite, by its name or, where it is another one under codes, by integrity="mac"."""
    if suite.authenticates is None:
        suites[suite.name] = suite
    else:
        _AUTHENTICATED[suite.authenticates] = suite


def suite_named(name: str | None) -> Suite:
    """The suite of a protocol's name; None and "mpc" are the default.  ValueError for any other."""
    if name in (None, "mpc"):
        return default
    if name not in suites:
        raise ValueError(f"unknown protocol {name!r}; there are {', '.join(map(repr, suites))}")
    return suites[name]


def authenticated(suite: Suite) -> Suite:
    """The same protocols under codes; NotImplementedError where there are none."""
    if suite.authenticated:
        return suite
    if suite.name not in _AUTHENTICATED:
        raise NotImplementedError(
            f"integrity='mac' is for the default protocol, not for '{suite.name}'; leave protocol out, and "
            "ask for rounding together with integrity"
        )
    return _AUTHENTICATED[suite.name]
