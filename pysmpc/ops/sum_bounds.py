"""Bounds of products and sums: what is multiplied, contracted, convolved, averaged."""

from __future__ import annotations

import math
from typing import Any

import torch

from pysmpc.ops.bounds import known, number_reach, of_kind, product_reach, rule, size, sum_scale, within
from pysmpc.ops.core import aten, dims, is_number
from pysmpc.ops.operands import number
from pysmpc.ops.scales import UPDATE
from pysmpc.ring.fixedpoint import LIMIT, Precision
from pysmpc.tensor.secret import SecretTensor
from pysmpc.tensor.storage import Estimate

# --- products -------------------------------------------------------------------------------


@rule(aten.mul.Tensor)
def product(x: Any, y: Any) -> float | None:
    """Element by element."""
    found = known(x, y)
    if found is None:
        return None
    a, b = found
    reach = product_reach(x, y, a, b, 1)
    bound = of_kind(a * b, a, b)
    return bound if reach < LIMIT else within("a product", reach, bound, found, _unit(x, y), _scales(x, y))


def _unit(*operands: Any) -> Precision:
    """The encoding of a result."""
    return max((x.unit for x in operands if isinstance(x, SecretTensor)), key=lambda unit: unit.scale)


def _scales(x: Any, y: Any) -> int:
    """Of how many encodings a product has the scales."""
    return 1 if is_number(x) or is_number(y) else 2


@rule(aten.div.Tensor)
def quotient(x: Any, y: Any) -> float | None:
    """By a public number; quotients by secrets may have any size."""
    own = size(x) if isinstance(x, SecretTensor) else None
    if own is None or isinstance(y, SecretTensor | complex):
        return None
    if isinstance(y, torch.Tensor):
        least = abs(float(y.detach().abs().min())) if y.numel() and y.device.type == "cpu" else 0.0
        return of_kind(own / least, own) if least and math.isfinite(least) else None
    if not y or not math.isfinite(y):
        return None
    value = 1 / number(y)
    reach, bound = number_reach(x, value, own), of_kind(own * abs(float(value)), own)
    return within(f"a quotient by {float(y):.4g}", reach, bound, [own], x.unit, 1)


@rule(aten.square.default)
def square(x: Any) -> float | None:
    """x * x."""
    return product(x, x)


@rule(aten.pow.Tensor_Scalar)
def power(x: Any, exponent: Any) -> float | None:
    """Positive integer powers."""
    own = size(x)
    if own is None or not math.isfinite(exponent) or exponent < 1 or exponent != int(exponent):
        return None
    if exponent == 1:
        return own
    if exponent * math.log2(max(own, 1.0)) > LIMIT.bit_length():
        reach = bound = 2.0 ** min(exponent * math.log2(own), 1000.0)
    else:
        reach, bound = product_reach(x, x, own, own, 1) * max(1.0, own) ** (exponent - 2), own**exponent
    return within(f"a power {exponent}", reach, of_kind(bound, own), [own], x.unit)


@rule(aten.addcmul.default, always=True, accumulates=True)
def product_added(x: Any, a: Any, b: Any, *, value: Any = 1) -> float | None:
    """x + value * a * b."""
    if not isinstance(a, SecretTensor) and not isinstance(b, SecretTensor):
        return None
    part, found = product(a, b), known(x)
    return None if part is None or found is None else of_kind(found[0] + part * abs(float(value)), found[0], part)


def _contracted(x: Any, y: Any, terms: int, along: tuple[int, int] | None = None) -> float | None:
    """Sums of so many products.  along: the dimension over which each operand is summed, where it is a matrix."""
    found = known(x, y)
    if found is None:
        return None
    a, b = found
    public = None
    if along is not None and not (isinstance(x, SecretTensor) and isinstance(y, SecretTensor)):
        public = along[isinstance(x, SecretTensor)]
    reach = product_reach(x, y, a, b, terms, public)
    return within(f"a sum over {terms} products", reach, Estimate(a * b * terms), found, _unit(x, y))


@rule(aten.mm.default, aten.bmm.default)
def matrices(x: Any, y: Any) -> float | None:
    """x @ y."""
    return _contracted(x, y, x.shape[-1], (-1, -2))


@rule(aten.mv.default, aten.dot.default, aten.vdot.default)
def vectors(x: Any, y: Any) -> float | None:
    """x @ y."""
    return _contracted(x, y, x.shape[-1])


@rule(aten.addmm.default, aten.baddbmm.default, always=True, accumulates=True)
def affine(bias: Any, x: Any, y: Any, *, beta: Any = 1, alpha: Any = 1) -> float | None:
    """beta * bias + alpha * x @ y."""
    if not isinstance(x, SecretTensor) and not isinstance(y, SecretTensor):
        return None
    bound = matrices(x, y)
    added = known(bias) if beta != 0 and bound is not None else [0.0]
    return None if bound is None or added is None else Estimate(abs(alpha) * bound + abs(beta) * added[0])


@rule(aten.convolution.default)
def convolved(x: Any, weight: Any, bias: Any, *args: Any) -> float | None:
    """Sums over the kernel and the channels of a group."""
    transposed, groups = args[3], args[5]
    channels = weight.shape[0] // groups if transposed else weight.shape[1]
    bound = _contracted(x, weight, channels * math.prod(weight.shape[2:]))
    added = known(bias) if bias is not None and bound is not None else [0.0]
    return None if bound is None or added is None else Estimate(bound + added[0])


# --- sums -----------------------------------------------------------------------------------


def total_bound(x: Any, y: Any, alpha: Any = 1) -> float | None:
    """x + alpha * y, or x - alpha * y."""
    found = known(x, y)
    if found is None:
        return None
    a, b = found
    if alpha != 1 and not isinstance(alpha, complex):
        own, b = b, of_kind(b * abs(float(alpha)), b)
        if isinstance(y, SecretTensor):
            reach = number_reach(y, number(alpha), own, UPDATE)
            if within(f"a product with {alpha}", reach, b, [own], y.unit, 1) is None:
                return None
    scale = sum_scale(x, y)
    if (a + b) * scale < LIMIT:
        return of_kind(a + b, a, b)
    unit = _unit(x, y)
    return within("a sum", (a + b) * scale, of_kind(a + b, a, b), [a, b], unit, 1 if scale <= unit.scale else 2)


@rule(aten.sum.default, aten.sum.dim_IntList)
def summed(x: SecretTensor, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> float | None:
    """Sums over dimensions."""
    own = size(x)
    if own is None:
        return None
    n = math.prod(x.shape[axis] for axis in dims(dim, x.dim()))
    scale = x.cell.scale
    of_products = 1 if scale <= x.unit.scale else 2
    return within(f"a sum over {n} elements", own * n * scale, Estimate(own * n), [own], x.unit, of_products)


@rule(aten.cumsum.default)
def running(x: SecretTensor, dim: int, *, dtype: Any = None) -> float | None:
    """Sums along a dimension."""
    return summed(x, dim)


@rule(aten.mean.default, aten.mean.dim)
def mean(x: SecretTensor, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> float | None:
    """No larger than the elements; their sum has to have room."""
    return None if summed(x, dim) is None else size(x)


@rule(aten.mse_loss.default)
def squared_error(x: Any, target: Any, reduction: int = 1) -> float | None:
    """Squares of differences, their mean or sum: of all elements, at the scale of the squares."""
    found = known(x, target)
    if found is None:
        return None
    n = 1 if reduction == 0 else math.prod(torch.broadcast_shapes(x.shape, target.shape))
    unit, square = _unit(x, target), (found[0] + found[1]) ** 2
    scale = min(sum_scale(x, target), unit.scale)
    bound = Estimate(square * n) if reduction == 2 else of_kind(square, *found)
    what = "a square of a difference" if reduction == 0 else f"a sum over {n} squares of differences"
    return within(what, square * n * scale * scale, bound, found, unit)


@rule(aten.var.correction)
def variance(x: SecretTensor, dim: Any = None, *, correction: Any = None, keepdim: bool = False) -> float | None:
    """Squares of distances from the mean: their sum is no larger than that of the squares of the elements."""
    own = size(x)
    n = math.prod(x.shape[axis] for axis in dims(dim, x.dim()))
    less = 1 if correction is None else float(correction)
    if own is None or n <= less:
        return None
    total, scale = own * own * n, min(x.cell.scale, x.unit.scale)
    bound = of_kind(total / (n - less), own)
    return within(f"a sum over {n} squares", total * scale * scale, bound, [own], x.unit)
