"""Weight normalisation (Salimans, Kingma 2016), which torch sends as one operation where one dimension is left out."""

from __future__ import annotations

from typing import Any

import torch

from pysmpc.ops.core import aten, axis
from pysmpc.ops.decompositions import composes


def _others(v: Any, dim: int) -> list[int]:
    """All dimensions but one."""
    kept = axis(dim, v.dim())
    return [d for d in range(v.dim()) if d != kept]


@composes(aten._weight_norm_interface.default)
def weight_norm(v: Any, g: Any, dim: int = 0) -> tuple[Any, Any]:
    """(g v / |v|, |v|) with norms over all dimensions but one: a norm and a quotient by it."""
    norms = torch.linalg.vector_norm(v, 2, _others(v, dim), keepdim=True)
    return g * (v / norms), norms


@composes(aten._weight_norm_interface_backward.default)
def weight_norm_backward(grad: Any, v: Any, g: Any, norms: Any, dim: int) -> tuple[Any, Any]:
    """(g / |v| (grad - u of_g), of_g) with u = v / |v| and of_g the sum of grad u over all dimensions but one."""
    unit = v / norms
    of_g = (grad * unit).sum(_others(v, dim), keepdim=True)
    return g * (grad - unit * of_g) / norms, of_g
