"""Operations on secret tensors: one file a family, one function an aten operation.

Importing this package fills the table that `SecretTensor` dispatches through.
"""

from pysmpc.ops import (
    arithmetic,
    arrays,
    comparison,
    convolution,
    extrema,
    functions,
    integers,
    linear,
    logic,
    movement,
    pooling,
    views,
)

__all__ = [
    "arithmetic",
    "arrays",
    "comparison",
    "convolution",
    "extrema",
    "functions",
    "integers",
    "linear",
    "logic",
    "movement",
    "pooling",
    "views",
]
