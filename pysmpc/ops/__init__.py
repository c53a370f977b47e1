"""Operations on secret tensors: one file a family, one function an aten operation.

Importing this package fills the table that `SecretTensor` dispatches through.
"""

from pysmpc.ops import (
    arithmetic,
    arrays,
    comparison,
    contractions,
    convolution,
    decompositions,
    extrema,
    functions,
    grids,
    integers,
    linear,
    logic,
    losses,
    movement,
    norms,
    piecewise,
    placing,
    pooling,
    powers,
    resampling,
    views,
)

__all__ = [
    "arithmetic",
    "arrays",
    "comparison",
    "contractions",
    "convolution",
    "decompositions",
    "extrema",
    "functions",
    "grids",
    "integers",
    "linear",
    "logic",
    "losses",
    "movement",
    "norms",
    "piecewise",
    "placing",
    "pooling",
    "powers",
    "resampling",
    "views",
]
