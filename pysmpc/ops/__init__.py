"""Operations on secret tensors: one file a family, one function an aten operation.

Importing this package fills the table that `SecretTensor` dispatches through.
"""

from pysmpc.ops import (
    arithmetic,
    arrays,
    attention,
    bound_rules,
    bounds,
    comparison,
    composites,
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
    normalisation,
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
    "attention",
    "bound_rules",
    "bounds",
    "comparison",
    "composites",
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
    "normalisation",
    "norms",
    "piecewise",
    "placing",
    "pooling",
    "powers",
    "resampling",
    "views",
]

bounds.install()  # around the handlers, now that all are there
