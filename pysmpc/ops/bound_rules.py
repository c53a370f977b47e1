"""What bounds the results of operations: the table that `pysmpc.ops.bounds` applies.

Each rule has the arguments of its operation, and returns the bound of its result or None.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch

from pysmpc.ops.bounds import known, of_kind, rule, size, wider
from pysmpc.ops.core import aten
from pysmpc.ops.sum_bounds import total_bound
from pysmpc.tensor.secret import SecretTensor

# --- elements that are moved, or chosen ---------------------------------------------------


@rule(
    aten.neg.default, aten.positive.default, aten.clone.default, aten.flip.default, aten.roll.default,
    aten.repeat.default, aten.tril.default, aten.triu.default, aten.index.Tensor, aten.index_select.default,
    aten.gather.default, aten.take.default, aten.masked_select.default, aten.slice_backward.default,
    aten.select_backward.default, aten.diagonal_backward.default, aten.nan_to_num.default, exact=True,
)  # fmt: skip
def same(x: Any, *args: Any, **kwargs: Any) -> float | None:
    """Elements of x, up to their signs; 0."""
    return size(x)


@rule(aten._to_copy.default, exact=True, always=True)
def as_dtype(x: Any, *, dtype: torch.dtype | None = None, **kwargs: Any) -> float | None:
    """Elements of x, or whether they are not 0."""
    return 1.0 if dtype == torch.bool else size(x)


@rule(
    aten.abs.default, aten.relu.default, aten.silu.default, aten.gelu.default, aten.mish.default,
    aten.amax.default, aten.amin.default, aten.max.default, aten.min.default,
    aten.reflection_pad1d.default, aten.reflection_pad2d.default, aten.reflection_pad3d.default,
    aten.replication_pad1d.default, aten.replication_pad2d.default, aten.replication_pad3d.default,
    aten.upsample_nearest1d.default, aten.upsample_nearest2d.default, aten.upsample_nearest3d.default,
    aten._adaptive_avg_pool2d.default, aten._adaptive_avg_pool3d.default, aten.upsample_linear1d.default,
    aten.upsample_bilinear2d.default, aten.upsample_trilinear3d.default,
)  # fmt: skip
def no_larger(x: Any, *args: Any, **kwargs: Any) -> float | None:
    """Elements of x, what is between them and 0, or means of them."""
    return size(x)


@rule(
    aten.max.dim, aten.min.dim, aten.max_pool2d_with_indices.default, aten.max_pool3d_with_indices.default,
    aten.adaptive_max_pool2d.default, aten.adaptive_max_pool3d.default,
)  # fmt: skip
def largest(x: Any, *args: Any, **kwargs: Any) -> tuple[float | None, None] | None:
    """Elements of x, and their places."""
    bound = size(x)
    return None if bound is None else (bound, None)


@rule(aten.avg_pool2d.default, aten.avg_pool3d.default)
def averages(
    x: Any, kernel: Any, stride: Any = (), padding: Any = (0,), ceil_mode: bool = False, pad: bool = True,
    divisor: int | None = None,
) -> float | None:  # fmt: skip
    """Means of windows, or their sums over another divisor."""
    return size(x) if divisor is None else None


@rule(aten.floor.default, aten.ceil.default, aten.trunc.default, aten.round.default)
def whole(x: Any, *args: Any, **kwargs: Any) -> float | None:
    """An integer beside x."""
    bound = size(x)
    return None if bound is None else of_kind(bound + 1, bound)


@rule(aten.cat.default, aten.stack.default)
def together(tensors: Sequence[Any], dim: int = 0) -> float | None:
    """Elements of any."""
    found = known(*tensors)
    return None if found is None else wider(*found)


@rule(aten.maximum.default, aten.minimum.default, aten.fmax.default, aten.fmin.default)
def either(x: Any, y: Any) -> float | None:
    """Elements of either."""
    found = known(x, y)
    return None if found is None else wider(*found)


@rule(aten.where.self, aten.where.ScalarOther, aten.where.ScalarSelf, aten.where.Scalar)
def chosen(condition: Any, x: Any, y: Any) -> float | None:
    """Elements of either branch."""
    return either(x, y)


@rule(aten.masked_fill.Scalar)
def filled(x: Any, mask: Any, value: Any) -> float | None:
    """Elements of x, and a number."""
    return either(x, value)


@rule(aten.constant_pad_nd.default)
def padded(x: Any, pad: Any, value: Any = 0) -> float | None:
    """Elements of x, and a number."""
    return either(x, value)


@rule(aten.scatter.value)
def placed_number(x: Any, dim: int, index: Any, value: Any) -> float | None:
    """Elements of x, and a number."""
    return either(x, value)


@rule(aten.index_put.default)
def put(x: Any, indices: Any, values: Any, accumulate: bool = False, unsafe: bool = False) -> float | None:
    """Elements of x, and of others in their places."""
    return None if accumulate else either(x, values)


@rule(aten.slice_scatter.default, aten.select_scatter.default, aten.diagonal_scatter.default)
def put_view(x: Any, source: Any, *args: Any, **kwargs: Any) -> float | None:
    """Elements of x, and of others in their places."""
    return either(x, source)


@rule(aten.copy.default)
def copied(x: Any, source: Any, non_blocking: bool = False) -> float | None:
    """Elements of the source; public ones are not looked at for a target of unknown size."""
    return size(source) if isinstance(source, SecretTensor) or size(x) is not None else None


# --- public numbers -----------------------------------------------------------------------


def _is(value: float, *overloads: Any) -> None:
    rule(*overloads, exact=True, always=True)(lambda *args, **kwargs: value)


@rule(aten.full_like.default, exact=True, always=True)
def everywhere(x: Any, value: Any, **kwargs: Any) -> float | None:
    """A number."""
    return size(value)


@rule(aten.fill.Scalar, aten.fill.Tensor, aten.zero.default, exact=True)
def all_filled(x: Any, value: Any = 0) -> float | None:
    """A number; a target of unknown size stays one."""
    return size(value) if size(x) is not None else None


_is(0.0, aten.zeros_like.default, aten.empty_like.default, aten.new_zeros.default, aten.new_empty.default)
_is(1.0, aten.ones_like.default, aten.new_ones.default)

# --- truth values, and functions whose results are bounded -----------------------------------

_is(1.0, aten.lt.Tensor, aten.le.Tensor, aten.gt.Tensor, aten.ge.Tensor, aten.eq.Tensor, aten.ne.Tensor,
    aten.logical_not.default, aten.logical_and.default, aten.logical_or.default, aten.logical_xor.default,
    aten.any.default, aten.any.dim, aten.any.dims, aten.all.default, aten.all.dim, aten.all.dims,
    aten.sign.default, aten.sgn.default, aten.frac.default)  # fmt: skip


def _is_about(value: float, *overloads: Any) -> None:
    rule(*overloads, always=True)(lambda *args, **kwargs: value)


_is_about(1.0, aten.sigmoid.default, aten.tanh.default, aten.erf.default, aten.sin.default, aten.cos.default,
          aten._softmax.default, aten._safe_softmax.default)  # fmt: skip
_is_about(2.0, aten.erfc.default)
_is_about(math.pi / 2, aten.atan.default, aten.asin.default)
_is_about(math.pi, aten.acos.default, aten.atan2.default)


def _clamped(x: Any, low: Any, high: Any) -> float | None:
    own = size(x)
    ends = [size(end) for end in (low, high)]
    if None not in ends:  # a secret of any size is between them
        bound = wider(*ends)
        outward = isinstance(low, int | float) and isinstance(high, int | float) and low <= 0 <= high
        return own if own is not None and bound is not None and outward and own < bound else bound
    if own is None:
        return None
    return wider(own, *(size(end) for end in (low, high) if end is not None and not _infinite(end)))


def _infinite(x: Any) -> bool:
    return isinstance(x, float) and math.isinf(x)


@rule(aten.clamp.default, aten.clamp.Tensor, always=True)
def clamped(x: Any, min: Any = None, max: Any = None) -> float | None:
    """What is between two ends, whatever x was."""
    return _clamped(x, min, max)


rule(aten.clamp_min.default, aten.clamp_min.Tensor)(lambda x, min: _clamped(x, min, None))
rule(aten.clamp_max.default, aten.clamp_max.Tensor)(lambda x, max: _clamped(x, None, max))
rule(aten.hardtanh.default, always=True)(lambda x, min_val=-1, max_val=1: _clamped(x, min_val, max_val))


def _of_size(function: Any, *overloads: Any) -> None:
    @rule(*overloads)
    def found(x: Any) -> float | None:
        bound = size(x)
        return None if bound is None else of_kind(function(bound), bound)


MOST = 18.0  # of exponents
_of_size(lambda b: math.exp(min(b, MOST)), aten.exp.default)
_of_size(lambda b: math.exp(min(b * math.log(2), MOST)), aten.exp2.default)
_of_size(lambda b: math.exp(min(b, MOST)) + 1, aten.expm1.default)
_of_size(math.sqrt, aten.sqrt.default)


@rule(aten.log_sigmoid_forward.default)
def log_sigmoid(x: Any) -> tuple[float | None, None] | None:
    """-softplus(-x), and nothing."""
    bound = size(x)
    return None if bound is None else (of_kind(bound + math.log(2), bound), None)


@rule(aten.softplus.default)
def softplus(x: Any, beta: Any = 1, threshold: Any = 20) -> float | None:
    """log(1 + e^(beta x)) / beta."""
    bound = size(x)
    return None if bound is None or not beta else of_kind(bound + math.log(2) / abs(float(beta)), bound)


@rule(aten._log_softmax.default)
def log_softmax(x: SecretTensor, dim: int, half_to_float: bool = False) -> float | None:
    """x - max x - log of 1 to n."""
    bound = size(x)
    n = x.shape[dim] if x.dim() else 1
    return None if bound is None else of_kind(2 * bound + math.log(max(n, 1)), bound)


@rule(aten.logsumexp.default)
def logsumexp(x: SecretTensor, dim: Any, keepdim: bool = False) -> float | None:
    """max x + log of 1 to n."""
    bound = size(x)
    return None if bound is None else of_kind(bound + math.log(max(x.numel(), 1)), bound)


rule(aten.add.Tensor, aten.sub.Tensor, accumulates=True)(total_bound)
rule(aten.rsub.Tensor)(lambda x, y, alpha=1: total_bound(y, x, alpha))
