"""Images sampled at the points of a public grid: one product with a public matrix an image."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch

from pysmpc.errors import RevealError
from pysmpc.ops.core import aten
from pysmpc.ops.linear import matrix_product
from pysmpc.ops.registering import implements
from pysmpc.tensor.secret import SecretTensor
from pysmpc.tensor.secret_errors import not_implemented

#: Elements of the matrices of a call, at most.
LARGEST = 1 << 22


def _matrices(function: Any, shape: Sequence[int], grid: Any, *options: Any) -> torch.Tensor:
    """[images, elements of an image, points of the grid]: torch's own function on unit images."""
    if isinstance(grid, SecretTensor):
        raise RevealError("a grid of secret points would show which elements are read; sample at public points")
    n, space = shape[0], tuple(shape[2:])
    size, points = math.prod(space), math.prod(grid.shape[1:-1])
    if n * size * points > LARGEST:
        raise not_implemented(function, f"{n} images of {size} elements at {points} points need too large a matrix")
    unit = torch.eye(size, dtype=torch.float64).reshape(1, size, *space).expand(n, size, *space)
    found: torch.Tensor = function(unit, grid.double(), *options).reshape(n, size, points)
    return found


def _sampling(name: str) -> None:
    function, backward = getattr(aten, name).default, getattr(aten, f"{name}_backward").default

    @implements(function)
    def sample(x: SecretTensor, grid: Any, mode: int, padding: int, align_corners: bool) -> SecretTensor:
        matrices = _matrices(function, x.shape, grid, mode, padding, align_corners)
        out = matrix_product(x.reshape(*x.shape[:2], -1), matrices)
        return out.reshape(*x.shape[:2], *grid.shape[1:-1])

    @implements(backward)
    def sample_backward(
        grad: SecretTensor, x: Any, grid: Any, mode: int, padding: int, align_corners: bool, output_mask: Sequence[bool]
    ) -> tuple[Any, Any]:
        if output_mask[1]:
            raise not_implemented(backward, "the gradient of the grid is not; freeze it")
        matrices = _matrices(function, x.shape, grid, mode, padding, align_corners)
        out = matrix_product(grad.reshape(*grad.shape[:2], -1), matrices.transpose(1, 2))
        return out.reshape(x.shape), None


_sampling("grid_sampler_2d")
_sampling("grid_sampler_3d")
