"""sigmoid, logsigmoid, tanh, erf, erfc, and their derivatives.

Each is the sum of its trigonometric fit where |x| is below the end of its interval, and a constant beyond.
Source: Fourier extension (Huybrechs 2010; Adcock, Huybrechs, Martin-Vaquero 2014) under one opening.
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import torch

from pysmpc.mpc.functions import fits
from pysmpc.mpc.functions.characters import Fit
from pysmpc.mpc.functions.known_values import finest, source_of
from pysmpc.mpc.functions.smooth import minus_x
from pysmpc.ops.arithmetic import add_number, mul, neg, sub
from pysmpc.ops.core import aten
from pysmpc.ops.divisions import square
from pysmpc.ops.functions.argument import applied, argument, chained, function, made
from pysmpc.ops.registering import implements, in_place
from pysmpc.tensor.secret import SecretTensor


def _slope(grad: Any, out: SecretTensor, name: str, fit: Fit) -> SecretTensor | None:
    """grad times the derivative at the argument of which `out` is a function, where that is known."""
    x = source_of(out.window(), name)
    if x is None:
        return None
    return chained(grad, made(out, x), fit)


@implements(aten.sigmoid.default)
def sigmoid(x: SecretTensor) -> SecretTensor:
    """1 / (1 + e^-x) to 1.3 steps: 2^-15.6.  Five rounds; 24.5 bytes an element and peer, 389 dealt."""
    out: SecretTensor = function(x, "sigmoid", fits.SIGMOID)
    return out


@implements(aten.sigmoid_backward.default)
def sigmoid_backward(grad: Any, out: SecretTensor) -> SecretTensor:
    """grad times the derivative, to 1.7 steps, from the opening of the forward pass: one round and a product.

    s (1 - s) where `out` is not the very result of `sigmoid`.
    """
    found = _slope(grad, out, "sigmoid", fits.SIGMOID_DERIVATIVE)
    return mul(grad, sub(out, square(out))) if found is None else found


@implements(aten.tanh.default)
def tanh(x: SecretTensor) -> SecretTensor:
    """(e^x - e^-x) / (e^x + e^-x) to 1.5 steps: 2^-15.4.  Five rounds; 24.5 bytes an element and peer, 389 dealt."""
    out: SecretTensor = function(x, "tanh", fits.TANH_PLUS_ONE, lambda y: add_number(y, Fraction(-1)))
    return out


@implements(aten.tanh_backward.default)
def tanh_backward(grad: Any, out: SecretTensor) -> SecretTensor:
    """grad times the derivative, to 3.5 steps, from the opening of the forward pass: one round and a product.

    1 - t^2 where `out` is not the very result of `tanh`.
    """
    found = _slope(grad, out, "tanh", fits.TANH_DERIVATIVE)
    return mul(grad, add_number(neg(square(out)), Fraction(1))) if found is None else found


@implements(aten.erf.default)
def erf(x: SecretTensor) -> SecretTensor:
    """The error function to 1.2 steps: 2^-15.7.  Five rounds; 24.5 bytes an element and peer, 277 dealt."""
    x = argument(x, "erf")
    return add_number(made(x, applied(x, fits.ERF_PLUS_ONE)), Fraction(-1))


def bell(x: SecretTensor) -> SecretTensor | None:
    """e^x where x is known to be -v^2 of a v that a function has opened; None elsewhere.

    Torch's derivative of erf takes this way: it is the fit of that derivative over the opening of erf, to 3 steps,
    for v of every size.  One round.
    """
    v = source_of(x.window(), "minus square")
    if v is None:
        return None
    out = applied(made(x, v), fits.ERF_DERIVATIVE, over=Fraction(2 / math.sqrt(math.pi)))
    return made(x, out)


@implements(aten.erfc.default)
def erfc(x: SecretTensor) -> SecretTensor:
    """1 - erf(x), as `erf`; the error is absolute."""
    x = argument(x, "erfc")
    return add_number(neg(made(x, applied(x, fits.ERF_PLUS_ONE))), Fraction(2))


@implements(aten.log_sigmoid_forward.default)
def log_sigmoid_forward(x: SecretTensor) -> tuple[SecretTensor, torch.Tensor]:
    """log(1 / (1 + e^-x)) = x - softplus(x) to 1.3 steps, and an empty buffer, which torch's derivative would need.

    Five rounds; 24.5 bytes an element and peer, 397 dealt.  Of an x that is finer than the result, six rounds and
    2.3 steps: x and the sum are rounded apart.
    """
    x = argument(x, "logsigmoid", integers=False)
    session = x.session
    share = minus_x(session.suite, session.party, finest(x.window()), fits.SOFTPLUS, x.unit.scale, x.cell.bound)
    return made(x, share), torch.empty(0, dtype=x.dtype)


@implements(aten.log_sigmoid_backward.default)
def log_sigmoid_backward(grad: Any, x: SecretTensor, buffer: Any) -> SecretTensor:
    """grad * (1 - sigmoid(x)), from the opening and the dealt words of the forward pass: one round and a product."""
    x = argument(x, "logsigmoid", integers=False)
    rest = add_number(neg(made(x, applied(x, fits.SIGMOID))), Fraction(1))
    return mul(grad, rest)


in_place(aten.sigmoid_.default, sigmoid)
in_place(aten.tanh_.default, tanh)
in_place(aten.erf_.default, erf)
in_place(aten.erfc_.default, erfc)
