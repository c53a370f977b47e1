"""Public bounds of secrets: what is known of a result's magnitudes before it is computed.

A bound comes from what is public: what a caller states (`sy.encrypt(x, parties, bounded=8.0)`, `sy.bounded(x, 8.0)`),
what an owner's file says of her data, the size of a public operand, a function whose results are bounded.  Never from a
secret: its power of two would be a leak.  It is kept in `TensorStorage.bound`, and every process of a session knows the
same.

`install` puts one function around the handler of each operation that has a rule (`pysmpc.ops.bound_rules`).  Before
the handler runs, the rule says what bounds its result, from those of its operands, and raises RangeError where the
ring does not hold what the operands' bounds allow.  An operation without a rule has results of unknown size.

Where the operands' bounds are direct such a result raises.  Where one is an estimate (`Estimate`) the bound is only
forgotten: what a network of ten layers could come to at the worst is no reason to stop it.
"""

from __future__ import annotations

import functools
import math
import numbers
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import torch

from pysmpc.errors import RangeError
from pysmpc.ops import overloads as forms
from pysmpc.ops.core import FACTOR, is_number
from pysmpc.ops.operands import number
from pysmpc.ops.public_operands import SIGNIFICANT, factor
from pysmpc.ops.scales import ALIGN, plan
from pysmpc.ring.fixedpoint import BINARY16, LIMIT, Precision
from pysmpc.tensor.secret import HANDLERS, Handler, SecretTensor
from pysmpc.tensor.storage import Estimate, TensorStorage

Rule = Callable[..., Any]  # of an operation's arguments: the bound of its result, None, or a tuple of those

#: Room for the errors of functions and of rounded public factors: relative, and in steps of the encoding.
RELATIVE, STEPS = 1 + 2.0**-10, 8

#: By the functional form of an operation: its rule, whether the result is exactly what the rule is about, and whether
#: it has a bound though the first operand has none.
RULES: dict[Any, tuple[Rule, bool, bool]] = {}

#: In-place forms of these forget the bound: what is added to again and again would have another one at each step.
ACCUMULATING: set[Any] = set()


def rule(
    *overloads: Any, exact: bool = False, always: bool = False, accumulates: bool = False
) -> Callable[[Rule], Rule]:
    """Register the rule of operations.

    exact: nothing is rounded on the way to the result.  always: there may be a bound where the first operand has none.
    """

    def register(found: Rule) -> Rule:
        for overload in overloads:
            RULES[overload] = found, exact, always
            if accumulates:
                ACCUMULATING.add(overload)
        return found

    return register


def install() -> None:
    """Put the rules before the handlers of their operations, and of the forms that follow from them.  Once."""
    for overload, (found, exact, always) in RULES.items():
        together = [overload, *forms.with_numbers(overload)]
        for form in together:
            if form in HANDLERS:
                HANDLERS[form] = _ruled(str(form), HANDLERS[form], found, exact, always)
        for form in [each for one in together for each in forms.in_place(one)]:
            if form in HANDLERS:
                HANDLERS[form] = _ruled_in_place(str(form), HANDLERS[form], found, exact, overload in ACCUMULATING)


def _ruled(name: str, handler: Handler, found: Rule, exact: bool, always: bool) -> Handler:
    @functools.wraps(handler)
    def call(*args: Any, **kwargs: Any) -> Any:
        first = getattr(args[0], "cell", None)
        if first is not None and first.bound is None and not always and not first.session.plain:
            return handler(*args, **kwargs)  # what most operations of most programs come to
        try:
            bound = found(*args, **kwargs)
        except RangeError as error:
            raise RangeError(f"{name}: {error}") from None
        out = handler(*args, **kwargs)
        if bound is None:
            return out
        if type(bound) is not tuple:
            _note(out, bound, exact, first)
        else:
            for one, each in zip(out, bound, strict=False):
                if each is not None:
                    _note(one, each, exact, first)
        return out

    return call


def _ruled_in_place(name: str, handler: Handler, found: Rule, exact: bool, forget: bool) -> Handler:
    @functools.wraps(handler)
    def call(x: Any, *args: Any, **kwargs: Any) -> Any:
        if not isinstance(x, SecretTensor):
            return handler(x, *args, **kwargs)
        try:
            bound = found(x, *args, **kwargs)
        except RangeError as error:
            raise RangeError(f"{name}: {error}") from None
        before = x.cell.bound
        whole = bound is not None and x.whole
        out = handler(x, *args, **kwargs)
        if bound is None or forget or x.cell.session.plain:
            x.cell.bound = None
        elif whole:
            x.cell.bound = _kept(bound, x.cell, exact)
        elif before is not None:  # elements of both
            x.cell.bound = _kept(of_kind(max(before, bound), before, bound), x.cell, exact)
        return out

    return call


def _note(out: Any, bound: float, exact: bool, first: TensorStorage | None) -> None:
    """Give a result its bound, unless it is a window on an operand, whose own holds."""
    cell = getattr(out, "cell", None)
    if cell is None or cell.bound is not None or cell is first:
        return
    if not cell.session.plain:  # whose operands are looked at where they are used
        cell.bound = _kept(bound, cell, exact)


def _kept(bound: float, cell: TensorStorage, exact: bool) -> float | None:
    """A bound as it is kept: with room for rounding; None for an estimate that the ring does not hold."""
    scale = cell.unit.scale
    if not exact and scale > 1:
        size = RELATIVE * bound + STEPS / scale
        bound = Estimate(size) if type(bound) is Estimate else size
    return bound if type(bound) is not Estimate or bound * cell._scale < LIMIT else None


# --- bounds of operands ---------------------------------------------------------------


def size(x: Any) -> float | None:
    """What bounds an operand: what is known of a secret, the largest magnitude of what is public."""
    cell = getattr(x, "cell", None)
    if cell is not None:
        return cell.bound
    kind = type(x)
    if kind is float or kind is bool:
        found = abs(float(x))
    elif kind is int:
        if x.bit_length() > 64:
            return None
        found = float(abs(x))
    elif isinstance(x, torch.Tensor):
        if x.layout is not torch.strided or x.device.type != "cpu" or x.is_complex():
            return None  # refused by the operation
        found = abs(float(x.detach().abs().max())) if x.dtype != torch.bool and x.numel() else 1.0
    elif isinstance(x, numbers.Real):
        found = abs(float(x))
    else:
        return None
    return found if found < math.inf else None


def known(*operands: Any) -> list[float] | None:
    """The bounds of operands of which one is secret; None if one is unknown.

    Public ones are only looked at where the secret ones are known.
    """
    secret = False
    for x in operands:
        cell = getattr(x, "cell", None)
        if cell is not None and not cell.session.plain:
            if cell.bound is None:
                return None
            secret = True
    if not secret:
        return None
    found = []
    for x in operands:
        one = size(x)
        if one is None:
            if not isinstance(x, SecretTensor):
                return None
            words = x.window().words()  # of fixed point that nobody shares: public, and as it is everywhere
            one = abs(float(words.abs().max())) / x.cell.scale if words.numel() else 0.0
        found.append(one)
    return found


def of_kind(bound: float, *of: float | None) -> float:
    """A bound that follows element by element from others: an estimate if one of them is."""
    for each in of:
        if type(each) is Estimate:
            return Estimate(bound)
    return bound


def wider(*bounds: float | None) -> float | None:
    """What holds for elements of any of several values."""
    together = [bound for bound in bounds if bound is not None]
    return of_kind(max(together), *together) if len(together) == len(bounds) else None


# --- what the ring holds -----------------------------------------------------------------


def within(what: str, reach: float, bound: float, of: list[float], unit: Precision, scales: int = 2) -> float | None:
    """The bound of a result whose integers come to `reach` at most, if the ring holds them.

    Raises RangeError where they are beyond it, and the bounds that say so are direct; None where one is an estimate,
    and for integers, which wrap as torch's do.
    what: "a product".  of: the bounds of its operands.  scales: how many encodings' scales the integers have together.
    """
    limit = LIMIT if scales > 1 else 2 * LIMIT
    if reach < limit:
        return bound
    if unit.scale == 1 or any(type(each) is Estimate for each in of):
        return None
    raise _beyond(what, reach, limit, of, unit, scales)


def _beyond(what: str, reach: float, limit: int, of: list[float], unit: Precision, scales: int) -> RangeError:
    fewer = (math.log2(reach) - math.log2(limit)) / scales / math.log2(unit.base)
    digits = unit.digits - max(1, math.ceil(fewer + 1e-9))
    way = "divide the data by a public number first"
    if digits >= 0:
        option = f"frac_bits={digits}" if unit.base == 2 else f"precision_fractional={digits}"
        way = f"encrypt with {option} or less, {way}"
    sizes = " and ".join(f"{each:.4g}" for each in of)
    held = f"{unit.digits} fractional bits" if unit.base == 2 else f"{unit.digits} digits of base {unit.base}"
    return RangeError(
        f"{what} of magnitudes up to {sizes} may come to 2^{math.log2(reach):.1f} steps, with {held}, and the ring "
        f"holds less than 2^{limit.bit_length() - 1}; {way}, or state smaller bounds if the values are smaller"
    )


def held(x: SecretTensor) -> int:
    """The scale at which a product takes an operand (`core.window`)."""
    cell = x.cell
    scale, unit = cell.scale, cell.unit.scale
    if scale <= unit * FACTOR:
        return scale
    return unit if cell.finer == 1 else cell.kept(min(cell.finer, FACTOR))[1]


def product_reach(x: Any, y: Any, a: float, b: float, terms: int, along: int | None = None) -> float:
    """How large the integers of a product, or of sums of so many, may become.

    a, b: bounds of x and y.  along: for a matrix that is public, the dimension over which it is summed.
    """
    mine, theirs = getattr(x, "cell", None), getattr(y, "cell", None)
    if mine is not None and theirs is not None and mine.session is theirs.session:
        return a * b * terms * held(x) * held(y)
    first = mine is not None and not mine.session.plain
    secret, other, own, public = (x, y, a, b) if first else (y, x, b, a)
    if is_number(other):
        return terms * number_reach(secret, number(other), own)
    words = own * held(secret)
    reach = words * terms * max(public, 1.0) * max(secret.cell.unit.scale, BINARY16.scale)
    if reach < LIMIT:
        return reach  # however it is encoded
    plain, _ = factor(other, secret.cell.session, secret.cell.unit)
    assert plain is not None
    if plain.constant is not None:
        return terms * number_reach(secret, plain.constant, own)
    values = plain.values.abs().double()
    if along is not None:
        values, terms = values.sum(along), 1
    return words * terms * float(values.max())


def number_reach(x: SecretTensor, value: Fraction, largest: float, bits: int = ALIGN) -> float:
    """How large the integers of a secret become by a public number (`core.times`)."""
    cell = x.cell
    scale = cell.scale
    reach = largest * scale * max(abs(float(value)), 1 << SIGNIFICANT)
    if reach < LIMIT:
        return reach  # whatever fraction stands for it
    if not value or (value.denominator == 1 and not x.dtype.is_floating_point):
        return largest * scale * abs(float(value))
    unit = BINARY16 if cell.unit.scale == 1 else cell.unit
    settled, p, _ = plan(scale, unit, value, bits)
    return largest * (min(scale, unit.scale) if settled else scale) * max(abs(p), 1)


def sum_scale(x: Any, y: Any) -> int:
    """The scale at which two operands are added (`core.aligned`)."""
    cells = [cell for cell in (getattr(x, "cell", None), getattr(y, "cell", None)) if cell is not None]
    top = max(cell.scale for cell in cells)
    if top.bit_length() <= ALIGN or all(cell.scale == top for cell in cells):
        return top
    return max(cell.unit.scale for cell in cells)
