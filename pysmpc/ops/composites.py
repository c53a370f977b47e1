"""Functions that torch takes apart above autograd, for secrets: their formulas lose what fixed point has.

torch sends the pieces of these, never the whole, and the derivative is then that of the pieces.  `pysmpc.guards` puts
these functions in the place of torch's wherever an argument is a secret; what they call has derivatives of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from pysmpc.ops.core import aten
from pysmpc.ops.linear import REDUCTIONS
from pysmpc.ops.normalisation import HAS_RMS_NORM

COMPOSITES: dict[str, Callable[..., Any]] = {}  # by their names in torch


def _composite(function: Callable[..., Any]) -> Callable[..., Any]:
    COMPOSITES[function.__name__] = function
    return function


def rms_norm(input: Any, normalized_shape: Any, weight: Any = None, eps: float | None = None) -> Any:  # noqa: A002
    """x / sqrt(mean of x^2 + eps) * weight, as one operation: the cube of the inverse root loses its digits."""
    return aten._fused_rms_norm.default(input, list(normalized_shape), weight, eps)[0]


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
