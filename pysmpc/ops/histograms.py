"""Counts: how many elements are not zero, and, of a histogram, how many reach each edge, by comparisons."""

from __future__ import annotations

from typing import Any

import torch

from pysmpc.ops.core import aten
from pysmpc.ops.decompositions import composes


@composes(aten.histc.default)
def histc(x: Any, bins: int = 100, min: Any = 0, max: Any = 0) -> Any:
    """How many elements are in each of equal bins between two numbers, or between the least and the largest element.

    Rounds of a comparison, and where the ends are those of the elements of a smallest and a largest one before; an
    element on an edge counts to the bin above it.  12.25 bytes an element and bin.
    """
    flat = x.reshape(-1)
    steps = torch.arange(1, bins, dtype=torch.float64) / bins
    if min == max == 0 and bins == 1:
        return flat[:1] * 0 + flat.numel()
    if min == max == 0:
        low, high = flat.min(), flat.max()
        ends = (low + (high - low) * steps).to(x.dtype)
        reached = (flat.unsqueeze(0) >= ends.unsqueeze(1)).sum(1)
        counts = torch.cat([torch.full((1,), flat.numel()), reached, torch.zeros(1, dtype=torch.int64)])
    else:
        inner = min + (max - min) * steps
        edges = torch.cat([torch.tensor([float(min)]).double(), inner]).unsqueeze(1)
        counts = torch.cat([(flat.unsqueeze(0) >= edges).sum(1), (flat > max).sum().reshape(1)])
    return (counts[:-1] - counts[1:]).to(x.dtype)


@composes(aten.count_nonzero.default)
def count_nonzero(x: Any, dim: int | None = None) -> Any:
    """How many elements are not 0, along a dimension or at all: a test for equality of each, and a sum."""
    return (x != 0).sum() if dim is None else (x != 0).sum(dim)


@composes(aten.count_nonzero.dim_IntList)
def count_nonzero_along(x: Any, dim: Any) -> Any:
    """The same along several dimensions; all for none."""
    return (x != 0).sum(list(dim)) if len(dim) else (x != 0).sum()
