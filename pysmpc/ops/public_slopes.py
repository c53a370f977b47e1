"""Gradients that are secret behind layers that were not: a public layer before a secret one, on public data.

What such a layer saved is public, and its derivative is linear in the gradient with public factors: torch computes
them, and no protocol is needed.  Handlers of derivatives are for saved secrets; the ones here come before them where
nothing but the gradient is secret.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch.utils._pytree import tree_leaves

from pysmpc.ops.arithmetic import mul
from pysmpc.ops.core import aten
from pysmpc.ops.decompositions import COMPOSED
from pysmpc.ops.filling import constant
from pysmpc.ops.scattering import scatter_add
from pysmpc.tensor.secret import HANDLERS, SecretTensor

Way = Callable[..., Any]


def _before(overload: Any, way: Way) -> None:
    """Take this way where the first argument alone is secret."""
    table = HANDLERS if overload in HANDLERS else COMPOSED
    others = table[overload]

    def handler(grad: Any, *rest: Any, **named: Any) -> Any:
        if any(isinstance(x, SecretTensor) for x in tree_leaves((rest, named))) or not isinstance(grad, SecretTensor):
            return others(grad, *rest, **named)
        return way(grad, *rest, **named)

    handler.__module__ = __name__
    table[overload] = handler


def _elementwise(overload: Any) -> None:
    def way(grad: SecretTensor, *rest: Any, **named: Any) -> Any:
        slope = overload(torch.ones(grad.shape, dtype=grad.dtype), *rest, **named)
        if grad.dim() == 1 and slope.dim() == 2:  # a gradient for each example
            grad = grad.unsqueeze(1)
        return mul(grad, slope)

    _before(overload, way)


NAMES = """
    threshold sigmoid tanh gelu silu softplus log_sigmoid hardshrink softshrink hardtanh mish elu leaky_relu mse_loss
    soft_margin_loss multi_margin_loss multilabel_margin_loss
"""
for _name in NAMES.split():
    _found = getattr(aten, f"{_name}_backward").default
    if _found in HANDLERS or _found in COMPOSED:
        _elementwise(_found)


def _softmax(grad: SecretTensor, output: torch.Tensor, dim: int, dtype: Any) -> Any:
    part = grad * output
    return part - output * part.sum(dim, keepdim=True)


def _log_softmax(grad: SecretTensor, output: torch.Tensor, dim: int, dtype: Any) -> Any:
    return grad - output.exp() * grad.sum(dim, keepdim=True)


_before(aten._softmax_backward_data.default, _softmax)
_before(aten._log_softmax_backward_data.default, _log_softmax)


def _pool(overload: Any, dims: int) -> None:
    """The gradient goes to the public positions of the maxima, which come last."""

    def way(grad: SecretTensor, x: torch.Tensor, *rest: Any) -> Any:
        space = math.prod(x.shape[-dims:])
        images = x.numel() // max(space, 1)
        places = rest[-1].reshape(images, -1)
        zeros = torch.zeros(images, space, dtype=grad.dtype)
        return scatter_add(zeros, 1, places, grad.reshape(images, -1)).reshape(x.shape)

    _before(overload, way)


_pool(aten.max_pool2d_with_indices_backward.default, 2)
_pool(aten.max_pool3d_with_indices_backward.default, 3)
_pool(aten.adaptive_max_pool2d_backward.default, 2)
_pool(aten.adaptive_max_pool3d_backward.default, 3)
_pool(aten.fractional_max_pool2d_backward.default, 2)
_pool(aten.fractional_max_pool3d_backward.default, 3)


def _of_shapes(overload: Any) -> None:
    """Of a derivative that takes the shape of what the layer was given, and nothing else of it."""
    handler = HANDLERS[overload]

    def way(grad: SecretTensor, x: torch.Tensor, *rest: Any, **named: Any) -> Any:
        return handler(grad, constant(grad, 0, x.shape, True, grad.dtype), *rest, **named)

    _before(overload, way)


for _overload in (aten.avg_pool2d_backward.default, aten.avg_pool3d_backward.default):
    if _overload in HANDLERS:
        _of_shapes(_overload)
