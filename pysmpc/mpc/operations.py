"""`Suite`: one implementation of every operation on shares, as a typed interface.

Operations on tensors call `session.suite.mul(session.party, x, y)` and the like: what a
secret is made of, and what travels, is the suite's business.  Every operation is a field
that a backend passes by name, so that mypy checks each function against its signature, and
an unknown, a missing or a repeated name is an error where the suite is built.  What callers
must know of a suite beyond its operations is a field as well, a capability: nobody asks
which suite it is.  docs/adding-a-protocol.md shows how a backend is written.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, TypeVar

from pysmpc.errors import PartyError
from pysmpc.mpc.derived import derived_operations as makers
from pysmpc.mpc.functions.masked import Combine, DealWords, MaskOpen, Together
from pysmpc.mpc.functions.regions import RegionsOf, ScaledThresholdsOf, ThresholdsOf
from pysmpc.mpc.signatures import (
    Arrange,
    Binary,
    BitShare,
    BoundedLargest,
    BoundedNegative,
    BoundedReLU,
    Contract,
    CountReciprocals,
    Disclose,
    Input,
    Larger,
    Largest,
    MatmulPublic,
    MulPublic,
    NarrowNegative,
    NarrowZero,
    Negative,
    OneHot,
    Public,
    ReLU,
    Reveal,
    ScaleBy,
    Select,
    Truncate,
    TruncateAll,
    Unary,
    UpdateAll,
    WithPublic,
)

F = TypeVar("F")


@dataclass(frozen=True, eq=False)
class Derived:
    """In the place of an operation: what makes it of a suite's other operations."""

    maker: Callable[[Suite], Any]


def derived(maker: Callable[[Suite], F]) -> F:
    """An operation that `maker` makes of the suite's others, as a field's default or where a suite is built.

    It is made when the suite is: what it needs stands above it in `Suite`.
    """
    return Derived(maker)  # type: ignore[return-value]


@dataclass(frozen=True)
class Bounded:
    """A suite's own `negative` and `relu`, where they cost less for a value that is told to fit in few bits."""

    negative: BoundedNegative
    relu: BoundedReLU
    #: The suite's own `largest`; None where it has none.
    largest: BoundedLargest | None = None


@dataclass(frozen=True)
class Narrow:
    """Protocols for values in (-2^(bits - 1), 2^(bits - 1)), in steps of their nominal scale.

    finer: by how much the scale of a value is finer than the nominal one, for which there
    is room in addition.  whole: the same suite with comparisons of every value.
    """

    bits: int
    whole: Suite
    negative: NarrowNegative
    zero: NarrowZero
    relu: ReLU
    larger: Larger
    largest: Largest | None = None


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Suite:
    """One implementation of every operation on shares, and what its shares can do.

    A field with `derived(...)` has a default, made of the suite's other operations; a backend
    that does better passes its own.  `dataclasses.replace(suite, name=..., mul=...)` is
    another suite that differs in what is passed; what was derived is made again, of the
    operations of the new one, and `update_all=derived(makers.update_all)` gives up an operation
    of the old one's own.  A suite is equal to itself alone.
    """

    #: By which users, messages and errors name it; no two suites have the same.
    name: str

    # --- capabilities: what shares of this suite are, and may be used for ----------------

    #: The number of holders that it is for, where not any number from two on.
    holders: int | None = None
    #: Words that a holder has of an element.  Of several, none may be multiplied by itself.
    lanes: int = 1
    #: Holders' words of an element add up to it mod 2^64.  Then whoever gets all of them has the value,
    #: and each holder may multiply its own words by public integers.
    additive: bool
    #: Words keep their meaning in a later session, so that they may be saved and loaded.
    storable: bool
    #: A program's messages may be noted once and sent again: protocols keep nothing from call to call.
    repeatable: bool
    #: The owner of an input sends a message to every holder, and not to the last one alone.
    inputs_to_all: bool
    #: There is one "holder", who has the value itself: the oracle of tests, and public tensors.
    plaintext: bool = False
    #: The name of the suite whose protocols this one runs under codes that find every altered message.
    authenticates: str | None = None
    #: Comparisons that cost less where values are known to be short; None where there are none.
    bounded: Bounded | None = None
    #: The suite of which this one differs in its rounding alone, which is exact; None where it is probabilistic.
    base: Suite | None = None
    #: What users' own comparisons are made with, where they promise that values are short.
    narrow: Narrow | None = None

    # --- in, out, and fresh shares -------------------------------------------------------

    #: Shares of integers that an owner knows.
    share: Input
    #: Open to every process that hosts a holder.  Nothing else may declare the cause "reveal".
    reveal: Reveal
    #: Open to the owner of inputs alone, where not by sending it the words; None where those will do (`additive`).
    disclose: Disclose | None = None
    #: A public constant as a share.
    public: Public
    #: The same secret under fresh shares.
    refresh: Unary

    # --- linear operations: no message ---------------------------------------------------

    #: x + y and x - y, broadcast; scales must be equal.
    add: Binary
    sub: Binary
    #: factor * x.
    scale_by: ScaleBy
    #: -x.
    neg: Unary = derived(makers.neg)
    #: x * values, and x @ values or values @ x; scales multiply.
    mul_public: MulPublic
    matmul_public: MatmulPublic

    # --- products: scales multiply -------------------------------------------------------

    #: x * y, broadcast.
    mul: Binary
    #: The same, for more dealt words and no round where that is possible.
    mul_at_once: Binary = derived(makers.mul_at_once)
    #: x * x.
    square: Unary = derived(makers.square)
    #: x @ y of [..., m, k] and [..., k, n], leading sizes broadcast.
    matmul: Binary
    #: x @ y of matrices that layouts find in the bodies of x and y.
    contract: Contract

    # --- division by public integers -----------------------------------------------------

    #: z / by of each, rounded as the suite does it, in the rounds of one.
    truncate_all: TruncateAll
    #: z / by.
    truncate: Truncate = derived(makers.truncate)
    #: own + factor * z / by of each, in the rounds of one truncation.
    update_all: UpdateAll = derived(makers.update_all)

    # --- comparison and selection --------------------------------------------------------

    #: The bits x < 0, of every x.
    negative: Negative
    #: x == 0 as shares of 0 and 1, of every x.
    zero: Unary
    #: Bits as shares of 0 and 1, which keep them as `body.bit`.
    bit_share: BitShare
    #: max(x, 0) / by, with the bits x > 0 as `body.sign` of the result.
    relu: ReLU
    #: The larger of two, and the bits y > x.
    larger: Larger = derived(makers.larger)
    #: The largest of each group of up to four, and which it is; None where pairs do as well.
    largest: Largest | None = None
    #: Rows sorted, after a secret shuffle; None where ranks are found in secret.
    arrange: Arrange | None = None
    #: Secret positions as one-hot vectors; None where comparisons will do.
    one_hot: OneHot | None = None
    #: Reciprocals of small whole numbers; None where division will do.
    count_reciprocals: CountReciprocals | None = None
    #: bit * x / by.
    select: Select

    # --- nonlinear functions (pysmpc.mpc.functions) --------------------------------

    #: Open c = x + r under a uniform r that the dealer knows.
    mask_open: MaskOpen
    #: Arguments of functions opened so, divisions, and factors opened for later products: in one round, if it can be.
    together: Together = derived(makers.together)
    #: Shares of words that the dealer computes from r.
    deal_words: DealWords
    #: Their sum with public factors that follow from c, and a public constant.
    combine: Combine
    #: Below, in or above an interval, for an x that was opened so.
    regions: RegionsOf = derived(makers.regions)
    #: The bits x >= end for several public ends.
    thresholds: ThresholdsOf = derived(makers.thresholds)
    #: The same, and x times a sum of steps that it reaches; None where that takes a product.
    scaled_thresholds: ScaledThresholdsOf | None = None

    # --- logic ---------------------------------------------------------------------------

    #: Of shares of 0 and 1, of one shape.
    logical_and: Binary
    logical_xor: Binary
    #: Bit by bit of integers, of one shape.
    bitwise_and: Binary
    bitwise_and_public: WithPublic
    #: x >> values, by 0 to 63 places; the sign is kept.
    shift_right_each: WithPublic

    def __post_init__(self) -> None:
        for each in fields(self):
            given = getattr(self, each.name)
            maker = given.maker if isinstance(given, Derived) else getattr(given, "derived_by", None)
            if maker is not None:
                made = maker(self)
                made.derived_by = maker
                object.__setattr__(self, each.name, made)
        if self.bounded is not None and self.bounded.negative is not self.negative:
            raise ValueError(
                f"the bounded comparisons of '{self.name}' are of another suite's `negative`; pass bounded= with its "
                "own, or bounded=None"
            )

    def __repr__(self) -> str:
        return f"Suite({self.name!r})"

    @property
    def authenticated(self) -> bool:
        """Whether shares have codes, and what is opened is checked before a result is returned."""
        return self.authenticates is not None

    @property
    def exact_rounding(self) -> bool:
        """Whether `truncate`, `relu`, `select` and `update_all` round to the nearest integer, always."""
        return self.base is not None

    @property
    def probabilistic(self) -> Suite:
        """This suite with probabilistic rounding: one round a truncation, within a step."""
        return self.base or self

    def check(self, holders: int) -> None:
        """Raise PartyError where this is not for so many holders."""
        if self.holders not in (None, holders):
            raise PartyError(
                f"protocol '{self.name}' is for {self.holders} holders, not {holders}; leave protocol out for the "
                "default, which takes two or more"
            )
