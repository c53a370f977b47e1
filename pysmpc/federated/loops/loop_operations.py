"""The operations that a driver's loop may be made of: functions of tensors that reach nothing else.

None of them writes in place, draws random numbers, reads memory that was not written, or touches files.  Most indices
are checked by torch's kernels; `loop_program` checks what kernels take on trust.  A loop is captured in these, by
torch's own decompositions (`captured_loop`).
"""

from __future__ import annotations

from typing import Any

import torch

#: Element by element, with broadcasting; also copies.
ELEMENTWISE = """
    abs add.Scalar add.Tensor bitwise_and.Tensor bitwise_not bitwise_or.Tensor clamp clamp.Tensor clone cos div.Scalar
    div.Tensor eq.Scalar eq.Tensor erf exp expm1 ge.Scalar ge.Tensor gt.Scalar gt.Tensor isinf isnan le.Scalar
    le.Tensor log log1p logical_and logical_not logical_or lt.Scalar lt.Tensor maximum minimum mul.Scalar mul.Tensor
    ne.Scalar ne.Tensor neg pow.Tensor_Scalar pow.Tensor_Tensor reciprocal relu rsqrt sigmoid sign sin sqrt sub.Scalar
    sub.Tensor tanh where.self _to_copy
"""
#: Symmetric functions of the elements along some dimensions; the last three pick one of them.
SUMS = "sum sum.dim_IntList mean mean.dim var.correction var_mean.correction"
PICKS = "amax amin argmax"
SHAPES = """
    view permute unsqueeze squeeze.dim squeeze.dims expand slice.Tensor select.int cat constant_pad_nd slice_scatter
    select_scatter
"""
PRODUCTS = "mm addmm bmm"
CONSTANTS = "full scalar_tensor arange.start_step"
INDEXED = "gather scatter.src scatter.value scatter_add embedding index_put"
LAYERS = """
    convolution convolution_backward max_pool2d_with_indices max_pool2d_with_indices_backward avg_pool2d
    avg_pool2d_backward
"""


def names(text: str) -> list[str]:
    """Full names of operations."""
    return [f"aten.{name}" if "." in name else f"aten.{name}.default" for name in text.split()]


def _overload(name: str) -> Any:
    _, packet, overload = name.split(".")
    return getattr(getattr(torch.ops.aten, packet), overload)


#: What is run, by name.
OPERATIONS: dict[str, Any] = {
    name: _overload(name) for name in names(" ".join((ELEMENTWISE, SUMS, PICKS, SHAPES, PRODUCTS, CONSTANTS, INDEXED,
                                                      LAYERS)))
}  # fmt: skip
# strides are no part of a program: a view is a copy where it has to be
OPERATIONS["aten.view.default"] = torch.ops.aten.reshape.default
