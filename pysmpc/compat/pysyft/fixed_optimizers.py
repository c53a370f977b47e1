"""Optimizers at fixed precision: their hyperparameters as multiples of base**-digits."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import torch
from torch.optim import Optimizer

from pysmpc.compat.pysyft import verbs
from pysmpc.compat.pysyft.pointers import PointerTensor
from pysmpc.compat.pysyft.pysyft_errors import unsupported
from pysmpc.errors import EncodingError
from pysmpc.ring.fixedpoint import Precision
from pysmpc.tensor.secret import SecretTensor


class FixedPrecision(float):
    """A public number at fixed precision; a float to everybody who calculates with it."""

    integer: int

    @classmethod
    def of(cls, value: float, precision: Precision) -> FixedPrecision:
        """The value rounded toward zero, as written in decimal: 0.29 at precision 2 is 29."""
        integer = int(Fraction(repr(float(value))) * precision.scale)
        out = cls(Fraction(integer, precision.scale))
        out.integer = integer
        return out

    def __repr__(self) -> str:
        return f"FixedPrecisionTensor>tensor({self.integer})"

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return format(float(self), spec) if spec else repr(self)

    def __reduce__(self) -> Any:
        return (_rebuilt, (float(self), self.integer))


def _rebuilt(value: float, integer: int) -> FixedPrecision:
    out = FixedPrecision(value)
    out.integer = integer
    return out


def _fixed(name: str, value: Any, precision: Precision) -> Any:
    if isinstance(value, tuple):
        return tuple(_fixed(name, item, precision) for item in value)
    if isinstance(value, bool) or not isinstance(value, int | float) or value == 0:
        return value
    fixed = FixedPrecision.of(value, precision)
    if fixed.integer == 0:
        step = 1 / precision.scale
        raise EncodingError(
            f"{name}={value} would become 0 at precision {precision.digits}: steps of {step:g}; "
            f"use a larger precision_fractional, or {name} of at least {step:g}"
        )
    if abs(fixed - value) > abs(value) / 100:
        raise EncodingError(
            f"{name}={value} would become {float(fixed):g} at precision {precision.digits}: use a larger "
            f"precision_fractional, or write {name}={float(fixed):g}"
        )
    return fixed


def _plain(name: str, value: Any) -> Any:
    if isinstance(value, tuple):
        return tuple(_plain(name, item) for item in value)
    return float(value) if isinstance(value, FixedPrecision) else value


def _each(optimizer: Optimizer, change: Callable[[str, Any], Any]) -> Optimizer:
    """Change the hyperparameters, or, if one raises, none."""
    groups = [optimizer.defaults, *optimizer.param_groups]
    changed = [{key: change(key, value) for key, value in group.items() if key != "params"} for group in groups]
    for group, values in zip(groups, changed, strict=True):
        group.update(values)
    return optimizer


def fix_precision(
    self: Optimizer, precision_fractional: int = 3, base: int = 10, *, dtype: Any = "long", no_wrap: bool = False
) -> Optimizer:
    """Round the hyperparameters to fixed precision, in place.

    One that would become 0, or change by more than a hundredth, raises EncodingError.
    """
    unsupported("fix_precision()", dtype=dtype not in ("long", "int64") and dtype, no_wrap=no_wrap)
    precision = Precision(base, precision_fractional)
    return _each(self, lambda name, value: _fixed(name, value, precision))


def float_precision(self: Optimizer) -> Optimizer:
    """Plain floats again; what was rounded stays rounded."""
    return _each(self, _plain)


def follow(optimizer: Optimizer, args: Any = (), kwargs: Any = None) -> None:
    """Before a step: what the optimizer keeps of a parameter goes where the parameter is now.

    A model that goes from worker to worker takes its momentum along.
    """
    for parameter, state in optimizer.state.items():
        for name, value in state.items():
            if isinstance(value, torch.Tensor) and value.shape == parameter.shape:
                state[name] = _beside(value, parameter)


def _beside(value: torch.Tensor, parameter: torch.Tensor) -> torch.Tensor:
    if isinstance(parameter, PointerTensor):
        there = parameter.handle.worker
        if isinstance(value, PointerTensor):
            return value if value.handle.worker == there else value.moved_to(there)
        return value if isinstance(value, SecretTensor) else verbs.send(value, there)
    if isinstance(value, PointerTensor) and not isinstance(parameter, SecretTensor):
        return value.fetch()  # type: ignore[no-any-return]
    return value
