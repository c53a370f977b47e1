"""Comparisons, and everything decided by a sign: ReLU, where, abs, clamp."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

import torch

from pysmpc.errors import EncodingError
from pysmpc.ops.arithmetic import neg, sub
from pysmpc.ops.core import aten, is_number, like, result, same_window
from pysmpc.ops.movement import cat
from pysmpc.ops.operands import number, sides
from pysmpc.ops.registering import implements
from pysmpc.ring.fixedpoint import check_memory, fraction_in_steps, number_in_steps, tensor_in_steps
from pysmpc.ring.shares import MaskedBit, Share
from pysmpc.session.session import Session
from pysmpc.tensor.secret import SecretTensor
from pysmpc.torch_modes import in_backward


def difference(x: Any, y: Any) -> SecretTensor:
    """x - y without rounding either, as whole numbers where both are."""
    return sub(x, y) if isinstance(x, SecretTensor) else neg(sub(y, x))


def truth(x: SecretTensor, bit: MaskedBit) -> SecretTensor:
    """The bits of the elements of x as a tensor."""
    share = x.session.suite.bit_share(x.session.party, bit, tuple(x.shape))
    return result(share, x.session, x.unit, torch.bool)


def in_order(x: SecretTensor) -> tuple[Share, tuple[int, ...]]:
    """All of x with its axes in the order of its memory, and that order."""
    share = x.window()
    order = share.order
    if order is None:
        return share, tuple(range(x.dim()))
    return Share(share.body, [share.shape[axis] for axis in order], share.scale), order


def negative(x: SecretTensor) -> MaskedBit:
    """The bits x < 0, for every value of the ring; four rounds."""
    return sign_of(x.session.suite.negative, "negative", x)


def sign_of(full: Any, name: str, x: SecretTensor) -> Any:
    """A protocol of the suite on x, or the narrow one of that name, which is told how fine the scale is."""
    session, narrow = x.session, x.session.suite.narrow
    if narrow is None:
        return full(session.party, x.window())
    return getattr(narrow, name)(session.party, x.window(), -(-x.cell.scale // x.unit.scale))


# --- public operands, in steps of the secret ----------------------------------------

# Floor and ceiling of a public operand in steps, and None or the operand where it is not finite, zero elsewhere.
_Limits = tuple[Any, Any, torch.Tensor | None]


def _in_steps(y: Any, scale: int) -> _Limits:
    if is_number(y):
        if _beyond(y):
            return 0, 0, torch.tensor(y, dtype=torch.float64)
        return *number_in_steps(y if isinstance(y, float) else number(y), scale), None
    if isinstance(y, SecretTensor):  # fixed point that was not shared
        share = y.window()
        return *fraction_in_steps(share.window(share.body.words)[0], Fraction(scale, share.scale), scale), None
    check_memory(y)
    if y.is_floating_point() and not bool((finite := y.isfinite()).all()):
        return *tensor_in_steps(torch.where(finite, y, 0), scale), torch.where(finite, 0, y.double())
    return *tensor_in_steps(y, scale), None


def _limits(x: SecretTensor, y: Any) -> _Limits:
    """A public operand in steps of the secret.  EncodingError for what no such secret can be, however it is rounded."""
    try:
        found = _in_steps(y, x.cell.scale)
    except EncodingError:
        if x.cell.scale <= x.unit.scale:
            raise
        x.cell.settle()  # there is room at the nominal scale, perhaps
        found = _in_steps(y, x.cell.scale)
    narrow = x.session.suite.narrow
    if narrow is not None:
        below, above = map(torch.as_tensor, found[:2])
        most = (1 << narrow.bits - 1) * -(-x.cell.scale // x.unit.scale)
        if below.numel() and (int(below.max()) >= most or int(above.min()) <= -most):
            raise EncodingError(
                f"a secret with compare_bits={narrow.bits} is compared with a public value beyond "
                f"{most / x.cell.scale:.4g}; encrypt with more compare_bits, or without"
            )
    return found


def _constant(x: SecretTensor, values: torch.Tensor) -> SecretTensor:
    """Public truth values as a secret beside x.  No message."""
    share = x.session.suite.public(x.session.party, values.to(torch.int64).contiguous())
    return result(share, x.session, x.unit, torch.bool)


# Of a public operand: what the secret is held against, and where that is known, a gap that is none of theirs.
_Choice = Callable[[_Limits, bool], tuple[Any, torch.Tensor | None]]


def _compared(
    x: Any, y: Any, choice: _Choice, secretly: Callable[[SecretTensor], SecretTensor], openly: Callable[[Any], Any]
) -> SecretTensor:
    """What a protocol finds out of the gap between x and y.

    The gap is x - y; beside a public operand that of the secret, in steps, and what
    `choice` makes of the operand.  choice(limits, whether x is the secret) also says
    which gaps are known (not 0): those are put in place of the others.  openly: what
    the protocol would find, where all are known: no message then.
    """
    operands = sides(x, y)
    if operands.both:
        return secretly(difference(x, y))
    session, _, secret, other, first = operands
    limit, known = choice(_limits(secret, other), first)
    shape = operands.shape
    suite, party = session.suite, session.party
    if known is not None and not bool((known == 0).any()):
        return _constant(secret, openly(known).expand(shape))
    share = secret.window()
    words = limit.expand(shape).contiguous() if isinstance(limit, torch.Tensor) else torch.full(shape, limit)
    terms = share, suite.public(party, words, share.scale)
    gap = suite.sub(party, *(terms if first else terms[::-1]))
    if known is not None and bool((known != 0).any()):
        here = known.expand(shape).contiguous()
        gap = suite.mul_public(party, gap, (here == 0).to(torch.int64))
        gap = suite.add(party, gap, suite.public(party, here, gap.scale))
    return secretly(like(secret, gap))


def _ordered(unordered: int) -> _Choice:
    """For a gap that is negative where x < y.  unordered: what it is beside NaN."""

    def choice(limits: _Limits, first: bool) -> tuple[Any, torch.Tensor | None]:
        below, above, strange = limits
        limit = above if first else below
        if strange is None:
            return limit, None
        infinite = strange.nan_to_num().sign() * (-1 if first else 1)
        return limit, torch.where(strange.isnan(), unordered, infinite).to(torch.int64)

    return choice


def _on_a_step(limits: _Limits, first: bool) -> tuple[Any, torch.Tensor | None]:
    """For a gap that is 0 where x == y."""
    below, above, strange = limits
    apart = torch.as_tensor(below != above)
    if strange is not None:
        apart = apart | (strange != 0)
    return below, apart.to(torch.int64)


def comparing(session: Session) -> Any:
    """Where ReLUs and the larger of two come from."""
    return session.suite.narrow or session.suite


def less(x: Any, y: Any) -> SecretTensor:
    """x < y, for |x - y| < 2^63 in steps of the finer scale of the two (docs/integers.md).

    A public operand is taken exactly, between two steps, too; beside infinities and NaN
    the result is torch's.  Raises EncodingError for one that is beyond 2^62 steps.
    """
    return _compared(x, y, _ordered(1), lambda d: truth(d, negative(d)), lambda gap: gap < 0)


def not_less(x: Any, y: Any) -> SecretTensor:
    """x >= y, for what `less` takes."""
    return _compared(x, y, _ordered(-1), lambda d: truth(d, negative(d).flipped()), lambda gap: gap >= 0)


implements(aten.lt.Tensor)(less)
implements(aten.ge.Tensor)(not_less)
implements(aten.gt.Tensor)(lambda x, y: less(y, x))
implements(aten.le.Tensor)(lambda x, y: not_less(y, x))


def both_signs(d: SecretTensor) -> tuple[SecretTensor, SecretTensor]:
    """(d < 0, d > 0) in one batch of comparisons; of -2^63, both."""
    flat = d.reshape(-1)
    signs = like(d, _signs(cat([flat, neg(flat)])), torch.bool)
    below, above = signs.split(max(d.numel(), 1)) if d.numel() else (signs, signs)
    return below.view(d.shape), above.view(d.shape)


def _signs(x: SecretTensor) -> Share:
    share: Share = x.session.suite.bit_share(x.session.party, negative(x), tuple(x.shape))
    return share


def equal(x: Any, y: Any) -> SecretTensor:
    """x == y, for every value of the ring; a public operand as for `less`: none between two steps is equal.

    Where the backward pass of an extremum asks for its places, one sign an element tells them:
    nothing is beyond an extremum.
    """
    if isinstance(x, SecretTensor) and isinstance(y, SecretTensor) and in_backward():
        for whole, extrema in ((x, y), (y, x)):
            origin = whole.window().extremum(extrema.cell.body)
            if origin is not None and tuple(extrema.shape) in _reduced(whole.shape, origin.axes):
                out = not_less(extrema, whole) if origin.least else not_less(whole, extrema)
                out.cell.body.ties = tuple(out.shape), origin.axes
                return out
    if isinstance(x, SecretTensor) and isinstance(y, SecretTensor) and same_window(x, y):
        return _constant(x, torch.ones(x.shape, dtype=torch.bool))  # torch.isfinite asks
    return _compared(x, y, _on_a_step, _is_zero, lambda gap: gap == 0)


def _reduced(shape: Sequence[int], axes: Sequence[int]) -> list[tuple[int, ...]]:
    """Shapes of extrema along these axes beside which the whole broadcasts to itself, each to its own."""
    kept = tuple(1 if axis in axes else size for axis, size in enumerate(shape))
    return [kept, ()] if len(axes) == len(shape) else [kept]


def _is_zero(d: SecretTensor) -> SecretTensor:
    return result(sign_of(d.session.suite.zero, "zero", d), d.session, d.unit, torch.bool)


def logical(x: SecretTensor) -> SecretTensor:
    """A 0/1 tensor as truth values."""
    return like(x, x.window(), torch.bool)


implements(aten.eq.Tensor)(equal)
implements(aten.ne.Tensor)(lambda x, y: logical_not(equal(x, y)))


@implements(aten.logical_not.default)
def logical_not(x: SecretTensor) -> SecretTensor:
    """not x; of numbers, x == 0."""
    if x.dtype != torch.bool:
        return equal(x, 0)
    bit = x.cell.body.bit
    if bit is not None and x.window().dense:
        return truth(x, bit.flipped())
    return logical(1 - x.to(torch.int64))


@implements(aten.isnan.default, aten.isinf.default)
def _never(x: SecretTensor) -> torch.Tensor:
    """The ring has no such values."""
    return torch.zeros(x.shape, dtype=torch.bool)


def _beyond(y: Any) -> bool:
    """Whether a number is infinite or none at all."""
    return isinstance(y, float) and not math.isfinite(y)
