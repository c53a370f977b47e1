"""What each operation does to the rows behind numbers (`rows`): a rule for each that can be followed.

A rule takes the shapes of the results and then what the operation's handler takes, in
the handler's order and under its names, with an `Operand` in the place of each tensor.
An operation without a rule, or called in a way that its rule does not know, leaves as
many rows behind each number as the fewest of any number of its operands had.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from pysmpc.ops.core import dims
from pysmpc.remote.worker.origins import Origin
from pysmpc.remote.worker.rows import (
    PUBLIC,
    Operand,
    Rows,
    Shape,
    carried,
    collapsed,
    concatenated,
    elementwise,
    joined,
    moved,
    product,
    reduced,
    taken,
)
from pysmpc.ring.shares import broadcast

Rule = Callable[..., Any]
RULES: dict[str, Rule] = {}
CONSTANT: set[str] = set()  # results are public
READS: set[str] = set()  # rules that read their public tensors, and not only the shapes


def followed(func: Any, origins: Sequence[Origin]) -> bool:
    """Whether more is to be known of an operation than the origins of the values that it reads."""
    if func._opname in CONSTANT or func._opname in ("copy_", "fill_"):
        return True
    return any(each.rows.terms for each in origins)


def rule(names: str) -> Callable[[Rule], Rule]:
    """Register a rule for operations of aten, whatever the overload; in-place forms have that of the other."""

    def register(function: Rule) -> Rule:
        RULES.update(dict.fromkeys(names.split(), function))
        return function

    return register


class Unknown(Exception):
    """The operation was called in a way that its rule does not know."""


# --- elementwise --------------------------------------------------------------------


def operands_in(values: Any) -> list[Operand]:
    """The tensors among arguments, in lists and out of them."""
    found: list[Operand] = []
    for value in values:
        if isinstance(value, Operand):
            found.append(value)
        elif isinstance(value, list | tuple):
            found.extend(operands_in(value))
    return found


@rule(
    """
    add sub rsub neg positive mul div reciprocal square pow addcmul lerp clone _to_copy lt ge gt le eq ne isnan isinf
    logical_not logical_and logical_or logical_xor bitwise_and bitwise_or bitwise_xor bitwise_not where masked_fill
    relu threshold_backward abs sgn sign maximum minimum clamp clamp_min clamp_max hardtanh hardtanh_backward
    mse_loss_backward floor_divide remainder fmod floor ceil trunc frac __lshift__ __ilshift__ __rshift__ __irshift__
    bitwise_left_shift bitwise_right_shift hardshrink_backward softshrink_backward fmax fmin nan_to_num copysign round
    angle divide_by_count divide_by_sum weigh settle with_bits gated sized
    exp exp2 expm1 log log2 log10 log1p sqrt rsqrt sigmoid sigmoid_backward tanh tanh_backward erf erfc
    sin cos tan asin acos atan atan2 asinh acosh atanh
    gelu gelu_backward silu silu_backward mish mish_backward softplus softplus_backward log_sigmoid_backward
    """
)
def _elementwise(shapes: Sequence[Shape], *args: Any, **kwargs: Any) -> Rows:
    return elementwise(shapes[0], operands_in([*args, *kwargs.values()]))


@rule("copy_")
def copy_rule(shapes: Sequence[Shape], target: Any, source: Any, non_blocking: Any = False) -> Rows:
    return elementwise(shapes[0], operands_in([source]))


@rule("fill_")
def fill_rule(shapes: Sequence[Shape], x: Any, value: Any) -> Rows:
    return elementwise(shapes[0], operands_in([value]))


@rule(
    "random_bits gaussian_noise zeros_like empty_like ones_like new_zeros new_empty new_ones full_like "
    "new_empty_strided zero_"
)
def _constant(shapes: Sequence[Shape], *args: Any, **kwargs: Any) -> Rows:
    return PUBLIC


CONSTANT |= {name for name, found in RULES.items() if found is _constant}


# --- reductions ---------------------------------------------------------------------


@rule("sum mean")
def _sum(shapes: Sequence[Shape], x: Any, dim: Any = None, keepdim: Any = False, *, dtype: Any = None) -> Rows:
    return reduced(x.rows, dims(dim, len(x.shape)), bool(keepdim))


@rule("var")
def _var(shapes: Sequence[Shape], x: Any, dim: Any = None, *, correction: Any = None, keepdim: Any = False) -> Rows:
    return reduced(x.rows, dims(dim, len(x.shape)), bool(keepdim))


@rule("mse_loss")
def _mse_loss(shapes: Sequence[Shape], x: Any, target: Any, reduction: int = 1) -> Rows:
    wide = broadcast(x.shape, target.shape)
    found = elementwise(wide, [x, target])
    return found if reduction == 0 else reduced(found, range(len(wide)), False)


@rule("var_mean")
def _var_mean(
    shapes: Sequence[Shape], x: Any, dim: Any = None, *, correction: Any = None, keepdim: Any = False
) -> list[Rows]:
    return [_var(shapes, x, dim, keepdim=keepdim)] * 2


def _across(x: Operand, dim: int) -> Rows:
    """Of what is computed along an axis, of nothing else than what lies along it."""
    axis = dim % max(len(x.shape), 1)
    return carried(x.rows, lambda d: None if d == axis else d)


@rule("cumsum cumprod _softmax _log_softmax _safe_softmax")
def _along(shapes: Sequence[Shape], x: Any, dim: int, *settings: Any, dtype: Any = None) -> Rows:
    return _across(x, dim)


@rule("cummax cummin")
def _running_extreme(shapes: Sequence[Shape], x: Any, dim: int) -> list[Rows]:
    return [_across(x, dim)] * 2


@rule("_softmax_backward_data _log_softmax_backward_data")
def _softmax_backward(shapes: Sequence[Shape], grad: Any, out: Any, dim: int, dtype: Any) -> Rows:
    return joined(_across(grad, dim), _across(out, dim))


def _picked(x: Operand, dim: Any, keepdim: Any) -> Rows:
    return reduced(x.rows, dims(dim, len(x.shape)), bool(keepdim), unite=False)


@rule("max min")
def _extreme(shapes: Sequence[Shape], x: Any, dim: Any = None, keepdim: Any = False) -> list[Rows]:
    return [_picked(x, dim, keepdim)] * len(shapes)


@rule("logsumexp argmax argmin amax amin any all")
def _position(shapes: Sequence[Shape], x: Any, dim: Any = None, keepdim: Any = False) -> Rows:
    return _picked(x, dim, keepdim)


# --- products -----------------------------------------------------------------------


def _matrices(x: Operand, y: Operand) -> Rows:
    if len(x.shape) != len(y.shape) or len(x.shape) < 2 or x.shape[:-2] != y.shape[:-2]:
        raise Unknown
    return product(x, y)


def _vector(x: Operand, y: Operand) -> Rows:
    if len(y.shape) != 1 or len(x.shape) != 2:
        raise Unknown
    return carried(product(x, Operand(y.rows, (y.shape[0], 1))), lambda d: d if d == 0 else None)


@rule("mm bmm")
def _mm(shapes: Sequence[Shape], x: Any, y: Any) -> Rows:
    return _matrices(x, y)


@rule("mv")
def _mv(shapes: Sequence[Shape], x: Any, y: Any) -> Rows:
    return _vector(x, y)


@rule("dot vdot")
def _dot(shapes: Sequence[Shape], x: Any, y: Any) -> Rows:
    if len(x.shape) != 1 or len(y.shape) != 1:
        raise Unknown
    return joined(reduced(x.rows, [0], False), reduced(y.rows, [0], False))


@rule("addmm baddbmm")
def _addmm(shapes: Sequence[Shape], bias: Any, x: Any, y: Any, *, beta: Any = 1, alpha: Any = 1) -> Rows:
    return joined(elementwise(shapes[0], operands_in([bias])), _matrices(x, y))


@rule("addmv")
def _addmv(shapes: Sequence[Shape], bias: Any, x: Any, y: Any, *, beta: Any = 1, alpha: Any = 1) -> Rows:
    return joined(elementwise(shapes[0], operands_in([bias])), _vector(x, y))


# --- convolutions and pooling: rows along the batch ---------------------------------


def _first(rows: Rows, to: int) -> Rows:
    """Rows along the first axis, which is another of the result."""
    return carried(rows, lambda d: to if d == 0 else None)


@rule("convolution")
def _convolution(
    shapes: Sequence[Shape], x: Any, weight: Any, bias: Any, stride: Any, padding: Any, dilation: Any,
    transposed: Any, output_padding: Any, groups: Any,
) -> Rows:  # fmt: skip
    if len(x.shape) != len(weight.shape):
        raise Unknown
    return joined(_first(x.rows, 0), _first(weight.rows, 1), *(_first(each.rows, 1) for each in operands_in([bias])))


@rule("convolution_backward")
def _convolution_backward(
    shapes: Sequence[Shape], grad: Any, x: Any, weight: Any, bias_sizes: Any, stride: Any, padding: Any, dilation: Any,
    transposed: Any, output_padding: Any, groups: Any, output_mask: Any,
) -> list[Rows]:  # fmt: skip
    if not len(grad.shape) == len(x.shape) == len(weight.shape):
        raise Unknown
    batch = [_first(each.rows, 0) for each in (grad, x)]
    for_x = joined(batch[0], collapsed(weight.rows))
    for_weight = joined(*(reduced(each, [0], True) for each in batch))
    for_bias = reduced(grad.rows, [0, *range(2, len(grad.shape))], False)
    return [for_x, for_weight, for_bias]


# --- movements ----------------------------------------------------------------------


@rule("cat")
def _cat(shapes: Sequence[Shape], tensors: Any, dim: int = 0) -> Rows:
    ndim = len(shapes[0])
    used = [x for x in tensors if x.shape != (0,)] or list(tensors)
    if any(len(x.shape) != ndim for x in used):
        raise Unknown
    return concatenated(used, dim % ndim)


@rule("stack")
def _stack(shapes: Sequence[Shape], tensors: Any, dim: int = 0) -> Rows:
    axis = dim % len(shapes[0])
    return joined(*(carried(x.rows, lambda d: d + (d >= axis)) for x in tensors))


def _moves(name: str) -> None:
    func = getattr(torch.ops.aten, name)
    overload = func.Tensor if name == "index" else func.default

    def found(shapes: Sequence[Shape], x: Any, *args: Any, **kwargs: Any) -> Rows:
        if operands_in([*args, *kwargs.values()]):
            raise Unknown
        return moved(x.rows, x.shape, lambda at: overload(at, *args, **kwargs))

    RULES[name] = found
    READS.add(name)


MOVES = "index index_select gather flip roll repeat tril triu slice_backward select_backward diagonal_backward"
for _name in MOVES.split():
    _moves(_name)

_by_places = RULES["index"]


@rule("index")
def _index(shapes: Sequence[Shape], x: Any, indices: Any) -> Rows:
    given = [(axis, index) for axis, index in enumerate(indices) if index is not None]
    if len(given) == 1 and isinstance(given[0][1], torch.Tensor):
        axis, index = given[0]
        if index.dim() == 1 and not index.dtype.is_floating_point:
            numbers = index.nonzero().flatten() if index.dtype in (torch.bool, torch.uint8) else index
            return taken(x.rows, axis, numbers)
    return _by_places(shapes, x, indices)  # type: ignore[no-any-return]


@rule("constant_pad_nd")
def _pad(shapes: Sequence[Shape], x: Any, pad: Any, value: Any = 0) -> Rows:
    return moved(x.rows, x.shape, lambda at: torch.ops.aten.constant_pad_nd.default(at, pad, 0))


@rule("scatter")
def _scatter(shapes: Sequence[Shape], zeros: Any, dim: int, positions: Any, grad: Any) -> Rows:
    shape = list(shapes[0])
    axis = dim % len(shape)
    shape[axis] = 1
    if zeros.shape != shapes[0] or any(list(each.shape) != shape for each in (positions, grad)):
        raise Unknown
    return joined(*(carried(each.rows, lambda d: d if d != axis else None) for each in (zeros, positions, grad)))
