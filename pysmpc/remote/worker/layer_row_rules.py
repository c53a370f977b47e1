"""What layers do to the rows behind numbers: pooling, padding, resampling, normalisation, attention (`row_rules`).

A layer computes each plane, each image or each item by itself: rows along the axes before stay where they are, and
those along an axis within become a cap.  The statistics of a batch unite its rows, and what is normalised by them is
each row's, in one more term, that of all.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pysmpc.remote.worker.row_rules import RULES, Unknown, operands_in, rule
from pysmpc.remote.worker.rows import Operand, Rows, Shape, carried, collapsed, elementwise, joined, reduced

__all__ = ["RULES"]


def _before(rows: Rows, lead: int) -> Rows:
    """Rows along the first axes alone."""
    return carried(rows, lambda d: d if d < lead else None)


# --- planes by themselves -----------------------------------------------------------


def _planes(shapes: Sequence[Shape], within: int, operands: Sequence[Operand]) -> list[Rows]:
    """Of each part of so many axes, the last ones, by itself."""
    lead = len(shapes[0]) - within
    if any(each.shape[:-within] != shapes[0][:-within] for each in operands):
        raise Unknown
    return [joined(*(_before(each.rows, lead) for each in operands))] * len(shapes)


def _by_planes(within: int, names: str) -> None:
    @rule(" ".join(f"{name} {name}_backward" for name in names.split()))
    def found(shapes: Sequence[Shape], *args: Any, **kwargs: Any) -> list[Rows]:
        return _planes(shapes, within, operands_in([*args, *kwargs.values()]))


_by_planes(1, "upsample_nearest1d _upsample_nearest_exact1d upsample_linear1d reflection_pad1d replication_pad1d")
_by_planes(
    2,
    "max_pool2d_with_indices avg_pool2d adaptive_max_pool2d _adaptive_avg_pool2d upsample_nearest2d upsample_bilinear2d"
    " _upsample_nearest_exact2d upsample_bicubic2d _upsample_bilinear2d_aa _upsample_bicubic2d_aa reflection_pad2d"
    " replication_pad2d",
)
_by_planes(
    3,
    "max_pool3d_with_indices avg_pool3d adaptive_max_pool3d _adaptive_avg_pool3d upsample_nearest3d"
    " _upsample_nearest_exact3d upsample_trilinear3d reflection_pad3d replication_pad3d",
)


# --- normalisation ------------------------------------------------------------------


def _weighted(shape: Shape, rows: Rows, *weights: Any) -> Rows:
    """Times weights and plus a bias, broadcast to a shape."""
    return joined(rows, *(elementwise(shape, [each]) for each in operands_in(weights)))


@rule("native_layer_norm")
def _layer_norm(shapes: Sequence[Shape], x: Any, inner: Any, weight: Any, bias: Any, eps: Any) -> list[Rows]:
    rows = _before(x.rows, len(x.shape) - len(inner))
    return [_weighted(shapes[0], rows, weight, bias), rows, rows]


@rule("_fused_rms_norm")
def _rms_norm(shapes: Sequence[Shape], x: Any, inner: Any, weight: Any = None, eps: Any = None) -> list[Rows]:
    rows = _before(x.rows, len(x.shape) - len(inner))
    return [_weighted(shapes[0], rows, weight), rows]


@rule("native_layer_norm_backward _fused_rms_norm_backward")
def _layer_norm_backward(shapes: Sequence[Shape], grad: Any, x: Any, inner: Any, *rest: Any) -> list[Rows]:
    lead = len(x.shape) - len(inner)
    statistics, weights = _of(rest, lambda each: len(each.shape) == len(x.shape))
    batch = joined(*(_before(each.rows, lead) for each in (grad, x, *statistics)))
    return [joined(batch, *_caps(weights)), *[reduced(batch, range(lead), False)] * (len(shapes) - 1)]


@rule("native_group_norm")
def _group_norm(shapes: Sequence[Shape], x: Any, weight: Any, bias: Any, *sizes: Any) -> list[Rows]:
    rows = _before(x.rows, 1)
    return [joined(rows, *_caps(operands_in([weight, bias]))), rows, rows]


@rule("native_group_norm_backward")
def _group_norm_backward(
    shapes: Sequence[Shape], grad: Any, x: Any, mean: Any, inverse: Any, weight: Any, *rest: Any
) -> list[Rows]:
    batch = joined(*(_before(each.rows, 1) for each in (grad, x, mean, inverse)))
    return [joined(batch, *_caps(operands_in([weight]))), *[reduced(batch, [0], False)] * (len(shapes) - 1)]


def _channels(x: Operand) -> list[int]:
    return [axis for axis in range(len(x.shape)) if axis != 1]


@rule("native_batch_norm")
def _batch_norm(
    shapes: Sequence[Shape], x: Any, weight: Any, bias: Any, mean: Any, var: Any, training: Any, *settings: Any
) -> list[Rows]:
    """The statistics come last: what is written to, the running ones, is made of them."""
    running = _caps(operands_in([mean, var]))
    statistics = joined(collapsed(reduced(x.rows, _channels(x), False)), *running) if training else joined(*running)
    return [joined(x.rows, statistics, *_caps(operands_in([weight, bias]))), statistics, statistics]


@rule("native_batch_norm_backward")
def _batch_norm_backward(shapes: Sequence[Shape], grad: Any, x: Any, *rest: Any) -> list[Rows]:
    each = joined(grad.rows, x.rows)
    of_all = joined(collapsed(reduced(each, _channels(x), False)), *_caps(operands_in(rest)))
    return [joined(each, of_all), *[of_all] * (len(shapes) - 1)]


def _caps(operands: Sequence[Operand]) -> list[Rows]:
    return [collapsed(each.rows) for each in operands]


def _of(values: Sequence[Any], kind: Any) -> tuple[list[Operand], list[Operand]]:
    found = operands_in(values)
    return [each for each in found if kind(each)], [each for each in found if not kind(each)]


# --- attention ----------------------------------------------------------------------

ATTENTION = "_scaled_dot_product_flash_attention_for_cpu"


@rule(f"{ATTENTION} {ATTENTION}_backward")
def _attention(shapes: Sequence[Shape], *args: Any, **kwargs: Any) -> list[Rows]:
    """[items, heads, places, features] each: of an item's own places.  A mask is one of all."""
    heads, rest = _of([*args, *kwargs.values()], lambda each: each.shape[:2] == shapes[0][:2] and len(each.shape) > 2)
    return [joined(*(_before(each.rows, 2) for each in heads), *_caps(rest))] * len(shapes)
