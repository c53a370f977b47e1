"""silu, mish, gelu, softplus, and their derivatives: what is 0 far below and x far above.

Source: as in `pysmpc.ops.functions.sigmoidal`; the interval is that of each fit.  An argument of finer
scale than the result takes a round more, in which what is above the interval gets that scale.
"""

from __future__ import annotations

from typing import Any

from pysmpc.errors import EncodingError
from pysmpc.mpc.functions import fits
from pysmpc.mpc.functions.characters import Fit
from pysmpc.ops.arithmetic import neg, number
from pysmpc.ops.core import aten
from pysmpc.ops.functions.argument import applied, argument, chained, made
from pysmpc.ops.registering import implements, in_place
from pysmpc.tensor.secret import SecretTensor

GELU = {
    "none": (fits.GELU, fits.GELU_DERIVATIVE),
    "tanh": (fits.GELU_TANH, fits.GELU_TANH_DERIVATIVE),
}


def _gelu(approximate: str) -> tuple[Fit, Fit]:
    if approximate not in GELU:
        raise RuntimeError(f"approximate argument must be either none or tanh, not {approximate!r}")
    return GELU[approximate]


@implements(aten.silu.default)
def silu(x: SecretTensor) -> SecretTensor:
    """x / (1 + e^-x) to 1.8 steps: 2^-15.1.  Five rounds; 24.5 bytes an element and peer, 429 dealt."""
    x = argument(x, "silu", integers=False)
    return made(x, applied(x, fits.SILU))


@implements(aten.silu_backward.default)
def silu_backward(grad: Any, x: SecretTensor) -> SecretTensor:
    """grad times the derivative, to 3.8 steps, from the opening of the forward pass: one round and a product."""
    return chained(grad, argument(x, "silu", integers=False), fits.SILU_DERIVATIVE)


@implements(aten.mish.default)
def mish(x: SecretTensor) -> SecretTensor:
    """x tanh(log(1 + e^x)) to 2.1 steps: 2^-14.9.  Five rounds; 24.5 bytes an element and peer, 493 dealt."""
    x = argument(x, "mish", integers=False)
    return made(x, applied(x, fits.MISH))


@implements(aten.mish_backward.default)
def mish_backward(grad: Any, x: SecretTensor) -> SecretTensor:
    """grad times the derivative, to 6.3 steps, from the opening of the forward pass: one round and a product."""
    return chained(grad, argument(x, "mish", integers=False), fits.MISH_DERIVATIVE)


@implements(aten.gelu.default)
def gelu(x: SecretTensor, *, approximate: str = "none") -> SecretTensor:
    """x (1 + erf(x / sqrt 2)) / 2 to 1.2 steps: 2^-15.7; or, of "tanh", what torch computes by tanh.

    Five rounds; 24.5 bytes an element and peer, 269 dealt.
    """
    fit, _ = _gelu(approximate)
    x = argument(x, "gelu", integers=False)
    return made(x, applied(x, fit))


@implements(aten.gelu_backward.default)
def gelu_backward(grad: Any, x: SecretTensor, *, approximate: str = "none") -> SecretTensor:
    """grad times the derivative, to 1.8 steps, from the opening of the forward pass: one round and a product."""
    _, fit = _gelu(approximate)
    return chained(grad, argument(x, "gelu", integers=False), fit)


def _stretched(beta: Any, threshold: Any) -> dict[str, Any]:
    """What softplus makes of its factor, which is positive, and of the end of its interval."""
    stretch, until = number(beta), number(threshold)
    if not stretch:
        raise EncodingError("softplus with beta=0 is not finite")
    return {"stretch": abs(stretch), "until": until}


@implements(aten.softplus.default)
def softplus(x: SecretTensor, beta: Any = 1, threshold: Any = 20) -> SecretTensor:
    """log(1 + e^(beta x)) / beta to 1.3 steps and 2^-18 / beta; x where beta x > threshold.

    Five rounds; 24.5 bytes an element and peer, 397 dealt.  From beta x = 12.5 on it is x, whatever the
    threshold.  A negative beta is that of -x, with the opposite result.
    """
    options = _stretched(beta, threshold)
    if beta < 0:
        return neg(softplus(neg(x), -beta, threshold))
    x = argument(x, "softplus", integers=False)
    return made(x, applied(x, fits.SOFTPLUS, over=options["stretch"], **options))


@implements(aten.softplus_backward.default)
def softplus_backward(grad: Any, x: SecretTensor, beta: Any, threshold: Any) -> SecretTensor:
    """grad * sigmoid(beta x), and grad where beta x > threshold: one round and a product.

    The opening and the dealt words are those of the forward pass.
    """
    options = _stretched(beta, threshold)
    if beta < 0:
        return softplus_backward(grad, neg(x), -beta, threshold)
    x = argument(x, "softplus", integers=False)
    return chained(grad, x, fits.SIGMOID, **options)


in_place(aten.silu_.default, silu)
in_place(aten.mish_.default, mish)
in_place(aten.gelu_.default, gelu)
