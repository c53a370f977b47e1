"""Functions that torch takes apart above autograd, for secrets: their formulas lose what fixed point has.

torch sends the pieces of these, never the whole, and the derivative is then that of the pieces.
`pysmpc.api.torch_guards` puts these functions in the place of torch's wherever an argument is a secret; what they call
has derivatives of its own.
"""

from __future__ import annotations

import inspect
import math
import types
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as functional

from pysmpc.ops.classes import weights_of_classes
from pysmpc.ops.core import aten
from pysmpc.ops.determinants import det, logdet
from pysmpc.ops.gates import prepare
from pysmpc.ops.least_squares import lstsq, matrix_rank
from pysmpc.ops.linear import REDUCTIONS
from pysmpc.ops.normalisation import HAS_RMS_NORM
from pysmpc.ops.orthogonal import householder_product, ormqr
from pysmpc.ops.powers import running_product
from pysmpc.tensor.secret import SecretTensor

COMPOSITES: dict[str, Callable[..., Any]] = {}  # by their names in torch


def _composite(function: Callable[..., Any]) -> Callable[..., Any]:
    COMPOSITES[function.__name__] = function
    return function


class _RmsNorm(torch.autograd.Function):
    """RMS normalisation as one operation, which torch keeps whole on other devices alone."""

    @staticmethod
    def forward(ctx: Any, x: Any, shape: list[int], weight: Any, eps: float | None) -> Any:
        with torch._C._AutoDispatchBelowAutograd():
            out, inverse = aten._fused_rms_norm.default(x, shape, weight, eps)
        ctx.save_for_backward(x, weight, inverse)
        ctx.shape = shape
        return out

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        x, weight, inverse = ctx.saved_tensors
        wanted = [ctx.needs_input_grad[0], ctx.needs_input_grad[2]]
        with torch._C._AutoDispatchBelowAutograd():
            of_x, of_weight = aten._fused_rms_norm_backward.default(grad, x, ctx.shape, inverse, weight, wanted)
        return of_x, None, of_weight, None


def _finely(x: Any) -> Any:
    return torch.ops.pysmpc.finely.default(x) if isinstance(x, SecretTensor) and not x.session.plain else x


class _Weighted(torch.autograd.Function):
    """weights v for attention, whose factors and gradients are finer than the encoding."""

    @staticmethod
    def forward(ctx: Any, weights: Any, v: Any) -> Any:
        with torch._C._AutoDispatchBelowAutograd():
            v = _finely(v)
            ctx.save_for_backward(weights, v)
            return torch.matmul(weights, v)

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        weights, v = ctx.saved_tensors
        with torch._C._AutoDispatchBelowAutograd():
            grad = _finely(grad)
            return torch.matmul(grad, v.transpose(-2, -1)), torch.matmul(weights.transpose(-2, -1), grad)


def rms_norm(input: Any, normalized_shape: Any, weight: Any = None, eps: float | None = None) -> Any:
    """x / sqrt(mean of x^2 + eps) * weight, as one operation: the cube of the inverse root loses its digits."""
    return _RmsNorm.apply(input, list(normalized_shape), weight, eps)


if HAS_RMS_NORM:
    _composite(rms_norm)


@_composite
def cosine_embedding_loss(input1: Any, input2: Any, target: Any, margin: float = 0.0, reduction: int = 1) -> Any:
    """1 - cos for targets 1, max(0, cos - margin) for -1, with cos of vectors that were brought to length one.

    torch divides their product by the root of the product of their squares, which has four times the magnitude.
    """
    dim = target.dim()
    if dim > 1 or input1.dim() != dim + 1 or input2.dim() != dim + 1:
        sizes = f"{list(input1.shape)}, {list(input2.shape)} and {list(target.shape)}"
        raise RuntimeError(f"cosine_embedding_loss takes two matrices and a target for each row, or two vectors and "
                           f"one target, not tensors of sizes {sizes}")  # fmt: skip
    cosine = torch.cosine_similarity(input1, input2, dim, 1e-8)
    same, other = ((target == value).to(cosine.dtype) for value in (1, -1))
    return REDUCTIONS[reduction]((1 - cosine) * same + (cosine - margin).clamp_min(0) * other)


@_composite
def dist(input: Any, other: Any, p: float = 2) -> Any:
    """The p-norm of the difference, of which torch's own derivative makes the difference anew: no part of the norm."""
    return torch.linalg.vector_norm(input - other, p)


NEAR = 0.25  # below which sinc is its series
SERIES = [1.0] + [(-1) ** k * math.pi ** (2 * k) / math.factorial(2 * k + 1) for k in range(1, 6)]


@_composite
def sinc(input: Any) -> Any:
    """sin(pi x) / (pi x), to 3 steps, and its derivative, to 32.  32 rounds.

    Where |x| < 1/4 it is its Taylor series up to x^10, since the quotient and, twice, its derivative divide what was
    rounded by x.  Elsewhere it is sin(pi x) times the fast reciprocal of x.
    """
    x = input if input.is_floating_point() else input.to(torch.get_default_dtype())
    near = x.detach().abs() < NEAR
    square = torch.where(near, x, 0.0) ** 2
    series = torch.full_like(square, SERIES[-1])
    for coefficient in SERIES[-2::-1]:
        series = series * square + coefficient
    inverse = torch.where(near, 1.0, x).reciprocal()
    return torch.where(near, series, torch.sin(math.pi * x) * inverse / math.pi)


class _Angle(torch.autograd.Function):
    """The angle of points (x, y), whose derivative torch takes from 1 / (x^2 + y^2): less than a step, where x is 256.

    Of r = sqrt(x^2 + y^2) it is (cos / r, -sin / r), of which the angle tells the cosine, the sine, and
    r = x cos + y sin.
    """

    @staticmethod
    def forward(ctx: Any, y: Any, x: Any) -> Any:
        with torch._C._AutoDispatchBelowAutograd():
            out = aten.atan2.default(y, x)
        ctx.save_for_backward(y, x, out)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        y, x, angle = ctx.saved_tensors
        cosine, sine = torch.cos(angle), torch.sin(angle)
        part = grad * (x * cosine + y * sine).reciprocal()
        of_y, of_x = ctx.needs_input_grad
        return part * cosine if of_y else None, -part * sine if of_x else None


@_composite
def atan2(input: Any, other: Any) -> Any:
    """As `_Angle`.  The derivative takes 14 rounds, for coordinates below 2^28."""
    return _Angle.apply(*torch.broadcast_tensors(input, other))


COMPOSITES["arctan2"] = atan2
COMPOSITES["cumprod"] = running_product

FAR = 64  # below an element, of what does not count beside it


@_composite
def logcumsumexp(input: Any, dim: int, *, out: Any = None) -> Any:
    """log of the sum of exp of all elements up to each, along a dimension: n sums of n, as exact as `logsumexp`.

    What is behind an element counts as 64 less than that, whose power is 0 in the sum.  Rounds of one `logsumexp`
    of n elements, and n times its bytes.
    """
    if out is not None:
        raise TypeError("logcumsumexp of a secret takes no out=; it gives a new secret")
    if not input.dim() or not input.numel():
        return input.clone()
    lines = input.movedim(dim, -1)
    n = lines.shape[-1]
    upto = torch.ones(n, n, dtype=torch.bool).tril()
    return torch.where(upto, lines.unsqueeze(-2), lines.unsqueeze(-1) - FAR).logsumexp(-1).movedim(-1, dim)


COMPOSITES |= {"det": det, "logdet": logdet, "ormqr": ormqr}

# those that are methods, too
METHODS = ("dist", "sinc", "atan2", "arctan2", "cumprod", "logcumsumexp", "det", "logdet", "ormqr")


LINALG: dict[str, Callable[..., Any]] = {  # by their names in torch.linalg
    "det": det,
    "householder_product": householder_product,
    "lstsq": lstsq,
    "matrix_rank": matrix_rank,
}


FUNCTIONALS: dict[str, Callable[..., Any]] = {}  # by their names in torch.nn.functional


def gaussian_nll_loss(
    input: Any, target: Any, var: Any, full: bool = False, eps: float = 1e-6, reduction: str = "mean"
) -> Any:
    """(log var + (input - target)^2 / var) / 2, where the variances may be secret.

    Torch asks in Python whether any variance is negative, which would open that.  Secret ones are not asked: what is
    less than eps, or than a step, counts as the larger of these, as in torch what is less than eps does.
    """
    if not isinstance(var, SecretTensor):
        return _gaussian_nll_loss(input, target, var, full=full, eps=eps, reduction=reduction)
    if reduction not in ("none", "mean", "sum"):
        raise ValueError(f"{reduction} is not valid")
    if var.size() != input.size():
        if input.size()[:-1] == var.size():
            var = torch.unsqueeze(var, -1)
        elif input.size()[:-1] != var.size()[:-1] or var.size(-1) != 1:
            raise ValueError("var is of incorrect size")
    var = var.clone()
    with torch.no_grad():
        var.clamp_(min=max(eps, 1 / var.unit.scale))
    loss = 0.5 * (torch.log(var) + (input - target) ** 2 / var)
    if full:
        loss = loss + 0.5 * math.log(2 * math.pi)
    return loss.mean() if reduction == "mean" else loss.sum() if reduction == "sum" else loss


_gaussian_nll_loss = functional.gaussian_nll_loss
FUNCTIONALS["gaussian_nll_loss"] = gaussian_nll_loss


class _OverWeights(torch.autograd.Function):
    """x over a secret sum of public or secret weights, which are not differentiated."""

    @staticmethod
    def forward(ctx: Any, x: Any, total: Any) -> Any:
        ctx.total = total
        with torch._C._AutoDispatchBelowAutograd():
            return torch.ops.pysmpc.divide_by_sum.default(x, total)

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        with torch._C._AutoDispatchBelowAutograd():
            return torch.ops.pysmpc.divide_by_sum.default(grad, ctx.total), None


def cross_entropy_loss(
    input: Any,
    target: Any,
    weight: Any = None,
    reduction: int = 1,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
) -> Any:
    """The function behind `F.cross_entropy`: smoothed labels of secret classes with weights have a mean as well.

    Torch reads the weights at the classes to divide by their sum, which would show the classes.  The sum is a product
    with the one-hot vectors that the loss makes anyway, and is secret.
    """
    classes = isinstance(target, SecretTensor) and target.shape != input.shape
    if not classes or weight is None or reduction != 1 or label_smoothing <= 0:
        return _cross_entropy_loss(input, target, weight, reduction, ignore_index, label_smoothing)
    loss = _cross_entropy_loss(input, target, weight, 2, ignore_index, label_smoothing)
    with torch.no_grad():
        total = weights_of_classes(input, target, weight, ignore_index)
    return _OverWeights.apply(loss, total)


NN: Any = vars(torch._C)["_nn"]
_cross_entropy_loss: Any = NN.cross_entropy_loss
BUILTINS = {"cross_entropy_loss": cross_entropy_loss}  # by their names in torch._C._nn


def ordinary(function: Callable[..., Any], **others: Any) -> Callable[..., Any]:
    """A function of torch.nn.functional that asks no tensor for another one, with others in place of what it calls."""
    names = {**vars(functional), "has_torch_function": torch.overrides.has_torch_function, **others}
    copy = types.FunctionType(function.__code__, names, function.__name__, function.__defaults__)
    copy.__kwdefaults__ = getattr(function, "__kwdefaults__", None)
    return copy


def multi_head_attention_forward(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Torch's function, with weights that are as exact as the attention: they are its result for unit vectors.

    Where torch returns weights, or drops some of them in training, it takes the softmax apart from the products, which
    rounds queries, keys and weights.
    """
    given = inspect.signature(function).bind(*args, **kwargs)
    given.apply_defaults()
    options = given.arguments
    _prepare_projections(options)
    wanted = options["need_weights"]
    if not wanted and not (options["training"] and options["dropout_p"] > 0):
        return ordinary(function)(*given.args, **given.kwargs)
    found = []

    def attention(q: Any, k: Any, v: Any, mask: Any, dropout: float, causal: bool) -> Any:
        out, weights = with_weights(q, k, v, mask)
        if dropout > 0:
            weights = functional.dropout(weights, dropout)
            out = _Weighted.apply(weights, v)
        found.append(weights)
        return out

    options |= {"need_weights": False, "is_causal": False}
    out, _ = ordinary(function, scaled_dot_product_attention=attention)(*given.args, **given.kwargs)
    if not wanted:
        return out, None
    weights = found[0].mean(dim=1) if options["average_attn_weights"] else found[0]
    return out, weights if out.dim() == 3 else weights.squeeze(0)


def _prepare_projections(options: dict[str, Any]) -> None:
    """Open what the projections multiply in one round, where torch makes more than one product of it."""
    q, k, v, weight = (options[name] for name in ("query", "key", "value", "in_proj_weight"))
    if options["use_separate_proj_weight"]:
        parts = [options[f"{name}_proj_weight"] for name in "qkv"]
    elif q is k and k is v:
        return
    else:
        size = q.shape[-1]
        parts = weight.split([size, 2 * size]) if k is v else weight.chunk(3)
    copies: dict[int, Any] = {}
    for name in ("query", "key", "value"):  # products of what is not in order would copy it, and open the copy
        x = options[name]
        options[name] = copies.setdefault(id(x), x.contiguous())
    prepare(*copies.values(), *parts)


def with_weights(q: Any, k: Any, v: Any, mask: Any) -> tuple[Any, Any]:
    """softmax(q k^T / sqrt E + mask) v, and that softmax."""
    size, root = v.shape[-1], math.sqrt(q.shape[-1])
    unit = torch.eye(k.shape[-2], dtype=v.dtype).expand(*v.shape[:-1], k.shape[-2])
    if isinstance(mask, SecretTensor):  # its derivative is that of further elements of queries
        q, k = torch.cat([q, mask.expand(*q.shape[:-1], k.shape[-2])], -1), torch.cat([k, unit * root], -1)
        mask = None
    # a sum, which leaves v as fine as it is
    both = functional.pad(v, (0, unit.shape[-1])) + functional.pad(unit, (size, 0))
    attention = aten._scaled_dot_product_flash_attention_for_cpu.default
    out = attention(q, k, both, 0.0, False, attn_mask=mask, scale=1 / root)[0]
    return out[..., :size], out[..., size:]
