"""The argument of a nonlinear function, and its result."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import torch

from pysmpc.mpc.functions.characters import BITS, Fit
from pysmpc.mpc.functions.known_values import finest, note_source
from pysmpc.mpc.functions.smooth import smooth
from pysmpc.ops.arithmetic import mul, with_unit
from pysmpc.ops.core import result, within
from pysmpc.ring.shares import Share
from pysmpc.tensor.secret import SecretTensor

FINEST = 40  # bits of scale up to which an argument is not settled
SLOPE = 28  # bits that the slope of a function has to have, at the scale of its argument


def argument(x: SecretTensor, name: str, integers: bool = True, finest: int = FINEST) -> SecretTensor:
    """x as a real number of a scale that a function takes; integers: whether torch takes them."""
    dtype = x.dtype
    if not dtype.is_floating_point:
        if not integers:
            raise NotImplementedError(f"{name} is for real numbers, not for {dtype}; write x.float()")
        dtype = torch.get_default_dtype()
    x = with_unit(x, dtype)
    x.cell.settle(max(1, (1 << finest) // x.unit.scale))
    within(x)
    return x


def applied(x: SecretTensor, fit: Fit, **options: Any) -> Share:
    """fit(x) at the nominal scale of x, on its whole domain."""
    session, stretch = x.session, Fraction(options.get("stretch", 1)) * bool(fit.slope)
    if not _exact(x.cell.scale, stretch):
        x.cell.settle()
    share = finest(x.window())
    if not _exact(share.scale, stretch):
        share = x.window()
    return smooth(session.suite, session.party, share, fit, x.unit.scale, bound=x.cell.bound, **options)


def _exact(scale: int, stretch: Fraction) -> bool:
    """Whether integers of a scale leave enough bits for the public factor of x."""
    slope = stretch * (1 << BITS - 1) / scale
    return slope.denominator == 1 or slope >= 1 << SLOPE


def function(x: SecretTensor, name: str, fit: Fit, more: Callable[[SecretTensor], SecretTensor] | None = None) -> Any:
    """The function of x that `fit` is, and `more` of it (a step without messages); the result knows x."""
    x = argument(x, name)
    out = made(x, applied(x, fit))
    if more is not None:
        out = more(out)
    note_source(out.window(), name, finest(x.window()))
    return out


def made(x: SecretTensor, share: Share) -> SecretTensor:
    """A result with the unit and dtype of x."""
    return result(share, x.session, x.unit, x.dtype)


def chained(grad: Any, x: SecretTensor, fit: Fit, **options: Any) -> SecretTensor:
    """grad times the function that `fit` is, the derivative of another one of x."""
    return mul(grad, made(x, applied(x, fit, **options)))
