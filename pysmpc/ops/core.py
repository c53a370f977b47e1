"""What every operation needs: registering, operands, scales, results.

Scales.  A cell's nominal resolution is its `unit`; its scale may be a multiple of that
after products and divisions.  Operations take fine scales as they are where a bound
allows it, because each truncation avoided is a round and eight bytes an element:
    FACTOR  how much finer than its unit an operand of a product may be,
    ALIGN   bits of scale up to which sums are aligned without truncating.
A value of magnitude below 2**(62 - bits of scale) is represented exactly, so results
below 2**22 never overflow; settled values and products of settled values have more.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from numbers import Number
from typing import Any

import torch
from torch.utils._pytree import tree_leaves

from pysmpc.errors import EncodingError, SessionMismatchError
from pysmpc.mpc.derived.ranges import Check
from pysmpc.ops import overloads as forms
from pysmpc.ring.fixedpoint import BINARY16, INTEGER, LIMIT, Precision, check_memory, encode, rational
from pysmpc.ring.shares import Share, ShareStorage, broadcast
from pysmpc.session.session import Session
from pysmpc.tensor.secret import HANDLERS, Handler, SecretTensor, TensorStorage, whole_multiple

aten = torch.ops.aten

FACTOR = 1 << 8
ALIGN = 40
UPDATE = 48  # bits, for the scaled gradient of an optimizer's update
SIGNIFICANT = 24  # bits of a public factor
COARSE = 1 << 8  # steps, of a public factor below which its encoding keeps too few digits


_DERIVED: set[Any] = set()  # overloads whose handler follows from that of another


def implements(*overloads: Any) -> Callable[[Handler], Handler]:
    """Register a handler for aten overloads, and for their other forms: with numbers for operands, in place, `out=`.

    A form that is registered by itself, before or after, has the handler that it was given.
    """

    def register(handler: Handler) -> Handler:
        for overload in overloads:
            HANDLERS[overload] = handler
            _DERIVED.discard(overload)
        for overload in overloads:
            _derive(overload, handler)
        return handler

    return register


def plain_target(what: str) -> TypeError:
    """The error for a plain tensor that is to be changed by a secret, as when an optimizer steps a public model."""
    return TypeError(
        f"{what} would write a secret into a plain tensor; use the out-of-place form, or encrypt the target. In an "
        "optimizer's step: gradients of a public model on secret data are secret, so encrypt the model before making "
        "the optimizer, or open them by name, p.grad = sy.decrypt(p.grad)"
    )


def in_place(overload: Any, functional: Handler) -> None:
    """Register the in-place form of a handler: compute, then write to the first argument.

    For what torch's schemas do not tell; `implements` finds the others by itself.
    """
    HANDLERS[overload] = _in_place(overload, functional)
    _DERIVED.discard(overload)


def _derive(overload: Any, handler: Handler) -> None:
    if not forms.functional(overload):
        return

    def register(form: Any, derived: Handler) -> bool:
        if form in HANDLERS and form not in _DERIVED:
            return False
        HANDLERS[form] = derived
        _DERIVED.add(form)
        return True

    for form in forms.with_numbers(overload):
        number_too = _placed(form, overload, handler)
        if register(form, number_too):
            _derive(form, number_too)
    for form in forms.in_place(overload):
        register(form, _in_place(form, handler))
    for form, targets in forms.with_targets(overload):
        register(form, _into(form, overload, handler, targets))


def _placed(form: Any, overload: Any, handler: Handler) -> Handler:
    """The handler of an overload for a form in which more arguments come by their place."""
    n, names = forms.surplus(form, overload)
    if not names:
        return handler

    def call(*args: Any, **kwargs: Any) -> Any:
        return handler(*args[:n], **dict(zip(names, args[n:], strict=False)), **kwargs)

    return call


def _in_place(overload: Any, functional: Handler) -> Handler:
    def handler(self: Any, *args: Any, **kwargs: Any) -> Any:
        if not isinstance(self, SecretTensor):
            raise plain_target(str(overload))
        assign(self, functional(self, *args, **kwargs))
        return self

    return handler


def _into(overload: Any, plain: Any, functional: Handler, names: Sequence[str]) -> Handler:
    """The form of a handler that writes its results to tensors which the caller gives under these names."""

    def handler(*args: Any, **kwargs: Any) -> Any:
        targets = [kwargs.pop(name) for name in names]
        for name, target in zip(names, targets, strict=True):
            if not isinstance(target, SecretTensor):
                raise TypeError(
                    f"{overload} would write a secret into a plain tensor; leave {name}= out and use the result, or "
                    "encrypt the target"
                )
        secret = any(isinstance(x, SecretTensor) for x in tree_leaves((args, kwargs)))
        found = (functional if secret else plain)(*args, **kwargs)
        values = found if isinstance(found, tuple) else (found,)
        for name, target, value in zip(names, targets, values, strict=True):
            if target.shape != value.shape:
                raise RuntimeError(
                    f"{overload} has a result of shape {tuple(value.shape)}, and {name}= is a secret of shape "
                    f"{tuple(target.shape)}, which it keeps; give one of the result's shape"
                )
            _check_assignable(target, value)
        for target, value in zip(targets, values, strict=True):
            write(target, value)
        return targets[0] if len(targets) == 1 else tuple(targets)

    return handler


@dataclass(frozen=True)
class Public:
    """A public operand: encoded integers under a scale."""

    values: torch.Tensor
    scale: int
    unit: Precision
    exact: Fraction | None = None  # the value of a small constant, of which the encoding keeps too little

    @property
    def constant(self) -> Fraction | None:
        """The value, where it is the same everywhere by construction."""
        if self.exact is not None:
            return self.exact
        v = self.values
        if v.numel() == 1 or (
            v.numel() and not any(step for n, step in zip(v.shape, v.stride(), strict=True) if n > 1)
        ):
            return Fraction(int(v.as_strided((), ())), self.scale)
        return None

    def coarser(self, bits: int) -> Public:
        """The same with so many fractional bits less, rounded, or with fewer less where the scale has no more."""
        by = min(1 << max(0, bits), self.scale & -self.scale)
        return self if by == 1 else Public((self.values + by // 2) // by, self.scale // by, self.unit)


def session_of(*operands: Any) -> Session:
    """The session of the secrets among the operands; public ones join any."""
    found: Session | None = None
    for x in operands:
        if isinstance(x, SecretTensor):
            session = x.cell.session
            if found is None or (found.plain and not session.plain):
                found = session
            elif session is not found and not session.plain:
                raise SessionMismatchError(
                    f"one secret is held by {found!r}, another by {session!r}; share both among the same "
                    "holders with the same provider and protocol"
                )
    assert found is not None
    return found


def finer(a: Precision, b: Precision) -> Precision:
    """The precision with more steps to one."""
    return a if a.scale >= b.scale else b


def public(x: Any, session: Session, unit: Precision) -> Public | None:
    """An operand that is not a secret of the session, encoded; None if it is one."""
    if isinstance(x, SecretTensor):
        if x.cell.session is session:
            return None
        if not x.cell.session.plain:
            raise SessionMismatchError(
                f"a secret held by {x.cell.session!r} cannot be used in, or written to, a value of {session!r}; share "
                "both among the same holders with the same provider and protocol, and use out-of-place forms on "
                "public values"
            )
        share = x.window()
        return Public(share.window(share.body.words)[0], share.scale, x.unit)
    if not x.is_floating_point():
        return Public(encode(x, INTEGER), 1, INTEGER)
    if unit.scale == 1:
        unit = BINARY16
    if x.numel() and not any(x.stride()):
        values = encode(x.as_strided((), ()), unit)
        small = abs(int(values)) < COARSE
        exact = Fraction(float(x.as_strided((), ()))) if small else None
        return Public(values.expand(x.shape), unit.scale, unit, exact)
    return Public(encode(x, unit), unit.scale, unit)


def factor(x: Any, session: Session, unit: Precision) -> tuple[Public | None, Fraction]:
    """`public` of a factor, and a power of two that is still to be multiplied.

    Small factors are encoded larger, so that they keep their significant digits; large ones, and those that are
    products of public values, with no more fractional bits than they need, so that there is room for the product.
    Both depend on what is public.  A constant is a fraction, of which `times` takes care.
    """
    larger, power = magnified(x, unit)
    out = public(larger, session, unit)
    if out is not None and out.scale > 1 and x.numel() and out.constant is None:
        largest = int(out.values.abs().max())
        if out.scale > out.unit.scale or largest >= COARSE * out.scale:
            out = _shortened(out, largest)
    return out, power


def _shortened(x: Public, largest: int) -> Public:
    """x without fractional bits that none of its elements has, nor those beyond 24 significant ones of the largest."""
    by = _common(x)
    x = Public(x.values // by, x.scale // by, x.unit)
    excess = (largest // by).bit_length() - SIGNIFICANT - 1
    return x.coarser(min(excess, x.scale.bit_length() - x.unit.scale.bit_length()))


def magnified(x: Any, unit: Precision) -> tuple[Any, Fraction]:
    """A public factor, and what is to be multiplied in the end: a power of two where its elements were small."""
    if isinstance(x, SecretTensor) or not x.is_floating_point() or not x.numel():
        return x, Fraction(1)
    check_memory(x)
    scale = BINARY16.scale if unit.scale == 1 else unit.scale
    largest = float(x.detach().abs().max())
    if not 0 < largest * scale < COARSE:
        return x, Fraction(1)
    power = math.frexp(largest)[1] + scale.bit_length() - BINARY16.scale.bit_length()  # 16 bits, and so room for x
    return torch.ldexp(x.double(), torch.tensor(-power)), Fraction(2) ** power


def _common(x: Public) -> int:
    """The largest power of two that divides the scale and all integers."""
    power = x.scale & -x.scale
    while power > 1 and bool((x.values & (power - 1)).any()):
        power >>= 1
    return power


def window(x: SecretTensor, headroom: int = FACTOR) -> Share:
    """The operand's share, its cell settled if its scale is too fine; that of a public value stays as fine as it is."""
    if x.cell.session.plain:
        x = same_value(x, x.cell.scale)
    x.cell.settle(headroom)
    return x.window()


def result(share: Share, session: Session, unit: Precision, dtype: torch.dtype) -> SecretTensor:
    """A new tensor for a result."""
    return SecretTensor.of(share, session, unit, dtype)


def like(x: SecretTensor, share: Share, dtype: torch.dtype | None = None) -> SecretTensor:
    """A new tensor with the unit and dtype of x."""
    return SecretTensor.of(share, x.cell.session, x.cell.unit, dtype or x.dtype)


def same_value(x: SecretTensor, scale: int) -> SecretTensor:
    """x's integers under another scale; mask, opening and signs stay valid."""
    cell = TensorStorage(x.cell.body, scale, x.cell.unit, x.cell.session)
    return SecretTensor(cell, x.size(), x.stride(), x.storage_offset(), x.dtype)


def is_number(x: Any) -> bool:
    """Whether x is a Python number (or an exact fraction)."""
    return not isinstance(x, torch.Tensor) and isinstance(x, (int, float, Fraction, Number))


def same_window(x: SecretTensor, y: SecretTensor) -> bool:
    """Whether two tensors are the same elements of one cell in the same order."""
    return (
        x.cell is y.cell
        and x.shape == y.shape
        and x.stride() == y.stride()
        and x.storage_offset() == y.storage_offset()
    )


def promoted(*operands: Any) -> torch.dtype:
    """The dtype torch would give the result."""
    dtype = torch.bool
    for x in sorted(operands, key=is_number):
        if isinstance(x, torch.Tensor):
            kind = x.dtype
        elif isinstance(x, Fraction):
            continue
        elif isinstance(x, bool):
            kind = torch.bool
        else:
            kind = torch.int64 if isinstance(x, int) else torch.get_default_dtype()
            if dtype.is_floating_point or (dtype != torch.bool and not kind.is_floating_point):
                continue  # a number does not widen a tensor of its kind
        if kind is not dtype:
            dtype = torch.promote_types(dtype, kind)
    return dtype


def float_unit(unit: Precision, dtype: torch.dtype) -> Precision:
    """The unit a result of this dtype needs: real values cannot be held as integers."""
    return BINARY16 if dtype.is_floating_point and unit.scale == 1 else unit


def rescale(session: Session, x: Share, scale: int) -> Share:
    """x at another scale: multiply up, divide down."""
    if x.scale == scale:
        return x
    common = math.gcd(x.scale, scale)
    up, down = scale // common, x.scale // common
    if up > 1:
        x = session.arithmetic.scale_by(session.party, x, up).at(x.scale * up)
    if down > 1:
        x = session.arithmetic.truncate(session.party, x, down)
    return x.at(scale)


def times(x: SecretTensor, factor: Fraction, bits: int = ALIGN) -> SecretTensor:
    """factor * x for a public factor: a change of scale where that is enough.

    bits: of scale and factor together; what is left of 62 is room for |x|.
    """
    if factor == 0 or (factor.denominator == 1 != factor and not x.dtype.is_floating_point):
        return like(x, x.session.arithmetic.scale_by(x.session.party, x.window(), int(factor)))  # integers stay exact
    cell = x.cell
    settle, p, q = _plan(cell.scale, cell.unit, factor, bits)
    if settle:
        cell.settle()
    if p == 0:
        return _shrunk(x, factor)
    scale, unit = int(cell.scale * q), cell.unit.scale
    up = whole_multiple(scale, unit)  # of truth values, which become finer than others
    if up > 1 and scale * up % unit == 0:
        p, q = p * up, q * up
    out = same_value(x, int(cell.scale * q))
    if p != 1:
        share = out.window()
        out = like(out, x.session.arithmetic.scale_by(x.session.party, share, p).at(share.scale))
        if share.dense:
            out.cell.body.multiple = share, p
    if q > 2 * p > 0:
        out.cell.finer = min(FACTOR, 1 << int(q // p).bit_length() - 1)
    return out


def settles(x: SecretTensor, factor: Fraction) -> bool:
    """Whether `times` would first divide out what x is finer than its encoding."""
    scaled = factor != 0 and (factor.denominator != 1 or factor == 1 or x.dtype.is_floating_point)
    return scaled and _plan(x.cell.scale, x.cell.unit, factor, ALIGN)[0]


@lru_cache(maxsize=4096)
def _plan(scale: int, unit: Precision, factor: Fraction, bits: int) -> tuple[bool, int, int | Fraction]:
    """(settle first, p, q): multiply the integers by p and the scale by q, factor ~ p / q; p = 0: see `_shrunk`."""
    needed = 11 if bits == UPDATE else 20  # significant bits of an inexact factor
    if factor.denominator > 1 and abs(factor - round(factor)) * 2**52 < abs(factor):
        factor = Fraction(round(factor))  # the inverse of a float such as 1e-8
    for settle in (False, True):
        held = min(scale, unit.scale) if settle else scale
        room = bits + 1 - held.bit_length()
        if (short := _by_scale(held, factor)) is not None:
            return settle, *short
        whole = factor.denominator == 1 and abs(factor.numerator).bit_length() <= SIGNIFICANT
        if not whole and abs(factor.numerator).bit_length() > room and room < needed and not settle:
            if (coarser := _cancelled(held, unit, factor, bits)) is not None:
                return coarser
            continue
        near = factor if whole else rational(float(factor), unit.base, max(min(room, SIGNIFICANT), needed))
        if abs(factor.numerator).bit_length() <= room and factor.denominator.bit_length() <= SIGNIFICANT:
            near = factor
        p, q = near.numerator, near.denominator
        if held * q < LIMIT >> 2 and held * abs(p) < LIMIT:
            return settle, p, q
        if (coarser := _cancelled(held, unit, factor, bits)) is not None:
            return coarser
    if abs(factor) < 1 and _shrinking(held, unit, factor) is not None:
        return True, 0, 1
    raise EncodingError(
        f"the factor {float(factor):.3g} is out of range for a secret whose integers have scale {scale}; "
        "rescale the data or use fewer fractional bits"
    )


def _cancelled(held: int, unit: Precision, factor: Fraction, bits: int) -> tuple[bool, int, Fraction] | None:
    """A plan that divides the scale by what a factor has in common with its excess over the nominal one."""
    short = factor.denominator.bit_length() <= SIGNIFICANT  # what is left of others would be a scale without room
    common = math.gcd(held // unit.scale, factor.numerator) if short and held % unit.scale == 0 else 1
    if common == 1:
        return None
    settle, p, q = _plan(held // common, unit, factor / common, bits)
    return None if settle else (False, p, Fraction(q, common))


def _by_scale(held: int, factor: Fraction) -> tuple[int, int] | None:
    """(p, q) of a tiny factor that the scale takes up: 1 / q is as near to it as its significant bits."""
    if abs(factor) >= Fraction(1, 1 << SIGNIFICANT - 1):
        return None
    q = round(1 / abs(factor))
    return (1 if factor > 0 else -1, q) if held * q < LIMIT >> 2 else None


def _shrinking(held: int, unit: Precision, factor: Fraction) -> tuple[int, int] | None:
    """(divisor, scale after) of a factor so tiny that no scale takes it up: a truncation to the finest there is."""
    scale = unit.scale << LIMIT.bit_length() - 4 - unit.scale.bit_length()
    while round(held / (abs(factor) * scale)) < 1 << SIGNIFICANT:
        scale //= 2
    by = round(held / (abs(factor) * scale))
    return (by, scale) if by < LIMIT >> 1 else None


def _shrunk(x: SecretTensor, factor: Fraction) -> SecretTensor:
    """factor * x for a factor so small that most of x's digits are lost: one truncation."""
    found = _shrinking(x.cell.scale, x.unit, factor)
    assert found is not None
    by, scale = found
    out = x.session.arithmetic.truncate(x.session.party, x.window(), by).at(scale)
    return like(x, out if factor > 0 else x.session.arithmetic.neg(x.session.party, out).at(scale))


def aligned(session: Session, x: SecretTensor, y: SecretTensor) -> tuple[Share, Share]:
    """Two secrets of a session at one scale."""
    a, b = x.cell, y.cell
    if a.scale != b.scale:
        scale = math.lcm(a.scale, b.scale)
        if scale.bit_length() > ALIGN:
            a.settle()
            b.settle()
            scale = math.lcm(a.scale, b.scale)
            if scale.bit_length() > ALIGN:
                scale = max(a.scale, b.scale)
        return rescale(session, x.window(), scale), rescale(session, y.window(), scale)
    return x.window(), y.window()


def aligned_public(x: SecretTensor, values: Public) -> tuple[Share, torch.Tensor]:
    """A secret and a public operand at one scale."""
    if values.scale == x.cell.scale:
        return x.window(), values.values
    scale = math.lcm(x.cell.scale, values.scale)
    if scale.bit_length() > ALIGN:
        x.cell.settle()
        scale = math.lcm(x.cell.scale, values.scale)
    return rescale(x.session, x.window(), scale), values.values * (scale // values.scale)


def assign(target: SecretTensor, value: Any) -> None:
    """Give `target` the result of an operation, where torch's rules for dtypes and shapes allow it."""
    _check_assignable(target, value)
    write(target, value)


def _check_assignable(target: SecretTensor, value: Any) -> None:
    if not torch.can_cast(value.dtype, target.dtype):
        raise RuntimeError(
            f"result type {value.dtype} can't be cast to the desired output type {target.dtype}; use the "
            "out-of-place form"
        )
    _check_shape(target, value)
    if isinstance(value, SecretTensor) and value.session is not target.session and not value.session.plain:
        session_of(target, value)  # raises: the message says why
        raise SessionMismatchError(
            f"a secret held by {value.session!r} cannot be written to a public value; use the out-of-place form"
        )


def _check_shape(target: SecretTensor, value: Any) -> None:
    """RuntimeError where a value does not fill a target of this shape."""
    given, shape = tuple(value.shape), tuple(target.shape)
    if given == shape:
        return
    try:
        whole = broadcast(given, shape)
    except ValueError:
        whole = given
    if whole != shape:
        raise RuntimeError(f"output with shape {list(shape)} doesn't match the broadcast shape {list(whole)}")


def write(target: SecretTensor, value: Any) -> None:
    """Give `target` a new value; what else shares its cell sees it, too."""
    _check_shape(target, value)
    cell = target.cell
    session = cell.session
    scale = 1 if target.dtype == torch.bool else cell.unit.scale  # truth values keep the unit of what was compared
    if value.dtype.is_floating_point and not target.dtype.is_floating_point:
        raise NotImplementedError(
            f"a value of {value.dtype} cannot be written to a secret of {target.dtype}: rounding needs a protocol"
        )
    if target.dtype == torch.bool and value.dtype != torch.bool:
        if isinstance(value, SecretTensor):
            raise NotImplementedError(
                f"a value of {value.dtype} cannot be written to a secret of torch.bool; compare it with 0 first: x != 0"
            )
        value = value.to(torch.bool)
    if not isinstance(value, SecretTensor) or value.session is not session:
        encoded = public(value, session, cell.unit)
        assert encoded is not None
        share = session.arithmetic.public(session.party, encoded.values.contiguous(), encoded.scale)
    elif same_window(value, target):
        return
    else:
        share = value.window()
    if share.scale == cell.scale != 1 and target.whole and target.dtype != torch.bool:
        scale = cell.scale  # as fine as it was: nothing is lost of it
    if share.scale != scale:
        share = rescale(session, share, scale)
    here = target.window()
    share = share.expand(target.shape)
    if here.dense:
        body = share.body if share.dense else Share.of(share.words(), target.shape).body
        cell.replace(body, scale)
        return
    cell.settle()
    if cell.scale != scale:
        whole = rescale(session, Share(cell.body, (cell.body.n,), cell.scale), scale)
        cell.replace(whole.body, scale)
    here = target.window()
    words = cell.body.words.clone()
    here.window(words).copy_(share.window(share.body.words))
    cell.replace(ShareStorage(words), scale)


def deferred(target: SecretTensor, x: Any, factor: Fraction) -> bool:
    """Note target += factor * x for later, where that has still to be truncated.

    An optimizer updates one parameter after another; all their truncations are done
    in one round when the first of them is read (`pysmpc.tensor.secret.flush`).
    """
    cell, unit = target.cell, target.unit.scale
    if (
        not isinstance(x, SecretTensor)
        or x.session is not cell.session
        or x.shape != target.shape
        or x.unit != target.unit
        or not torch.can_cast(x.dtype, target.dtype)
        or not target.whole
        or factor == 0
    ):
        return False
    settle, p, q = (False, 1, 1) if factor == 1 else _plan(x.cell.scale, x.unit, factor, UPDATE)
    scale = int((min(x.cell.scale, unit) if settle else x.cell.scale) * q)
    if p == 0 or scale <= unit or scale % unit:
        return False
    if settle:
        x.cell.settle()
    delta, checks = x.window().at(scale), cell.session.checks
    if checks is not None and cell.scale == unit:  # here, and not where it is done: that may be far from the line
        own = Share(cell.body, (cell.body.n,), unit)
        checks.owe(cell, cell.session.party.holders, (own, delta, p, scale // unit))
    cell.defer(delta, p)
    return True


def in_range(
    x: SecretTensor, move: Callable[..., torch.Tensor] | None, terms: int, beside: SecretTensor | None = None
) -> Check | None:
    """Check sums of up to so many elements of x, where that can be: those that move(values) makes of its values.

    beside: to each of which an element of this is added; move takes its values first.  move: None for what is
    checked as if all elements were as large as the largest.  For what adds up words by itself; `kept` tells the
    result what was found.
    """
    checks = x.session.checks
    if checks is None or (terms < 2 and beside is None):
        return None
    return checks.total([*([] if beside is None else [(beside.window(), 1)]), (x.window(), terms)], move)


def within(*operands: Any) -> None:
    """Check arguments of a function that takes what can be encrypted, |x| < 2^62 steps of its scale."""
    for x in operands:
        if isinstance(x, SecretTensor) and x.session.checks is not None:
            x.session.checks.within(x.window())


def kept(x: SecretTensor, out: Share, check: Check | None) -> Share:
    """A result, with what `in_range` found."""
    checks = x.session.checks
    return out if checks is None else checks.keep(out, check)


def moved(x: SecretTensor, move: Callable[[torch.Tensor], torch.Tensor], terms: int = 1) -> SecretTensor:
    """x with its elements moved: `move` acts on [rows, *shape] share words.  terms: how many it adds up, at most."""
    check = in_range(x, lambda values: move(values.unsqueeze(0)).squeeze(0), terms)
    share = x.window()
    words = move(share.window(share.body.words)).contiguous()
    shape = words.shape[1:]
    out = Share.of(words.reshape(words.shape[0], math.prod(shape)), shape, share.scale)
    checks = x.session.checks
    if checks is not None:
        out = checks.keep(out, check) if terms > 1 else checks.same(share, out)
    return like(x, out)


def dims(dim: Any, ndim: int) -> list[int]:
    """Dimensions as a sorted list; None and () mean all."""
    if dim is None or (isinstance(dim, Sequence) and not len(dim)):
        return list(range(ndim))
    listed = sorted(axis(d, ndim) for d in (dim if isinstance(dim, Sequence) else [dim]))
    if len(set(listed)) < len(listed):
        raise RuntimeError(f"a dimension appears twice in {list(dim)}")
    return listed if ndim else []


def axis(dim: int, ndim: int) -> int:
    """A dimension counted from the first; a scalar has one, as in torch.  IndexError where it is out of range."""
    span = max(ndim, 1)
    if not -span <= dim < span:
        raise IndexError(f"Dimension out of range (expected to be in range of [{-span}, {span - 1}], but got {dim})")
    return dim % span
