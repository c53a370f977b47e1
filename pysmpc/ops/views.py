"""Views: another window on the same cell.

torch computes the layout of the view on the wrapper itself (which has sizes and
strides but no data), so every rule of torch about views holds here by construction.
"""

from __future__ import annotations

from typing import Any

import torch

from pysmpc.ops.core import aten
from pysmpc.ops.decompositions import composes
from pysmpc.ops.registering import implements
from pysmpc.tensor.secret import SecretTensor


def _alias(x: SecretTensor, layout: torch.Tensor) -> SecretTensor:
    return SecretTensor(x.cell, layout.size(), layout.stride(), layout.storage_offset(), x.dtype)


def _view(overload: Any) -> None:
    @implements(overload)
    def handler(x: SecretTensor, *args: Any, **kwargs: Any) -> Any:
        with torch._C._DisableTorchDispatch():
            layout = overload(x, *args, **kwargs)
        if isinstance(layout, torch.Tensor):
            return _alias(x, layout)
        return [_alias(x, each) for each in layout]


for _overload in (
    aten.view.default,
    aten._unsafe_view.default,
    aten.transpose.int,
    aten.permute.default,
    aten.expand.default,
    aten.slice.Tensor,
    aten.select.int,
    aten.split.Tensor,
    aten.split_with_sizes.default,
    aten.unbind.int,
    aten.squeeze.default,
    aten.squeeze.dim,
    aten.squeeze.dims,
    aten.unsqueeze.default,
    aten.diagonal.default,
    aten.unfold.default,
    aten.as_strided.default,
    aten._reshape_alias.default,
):
    _view(_overload)


def _reshaped_in_place(overload: Any) -> None:
    @implements(overload)
    def handler(x: SecretTensor, *args: Any) -> SecretTensor:
        with torch._C._DisableTorchDispatch():
            overload(x, *args)
        return x


for _overload in (
    aten.squeeze_.default,
    aten.squeeze_.dim,
    aten.squeeze_.dims,
    aten.unsqueeze_.default,
    aten.t_.default,
    aten.transpose_.default,
):
    _reshaped_in_place(_overload)


@implements(aten.detach.default, aten.alias.default)
def alias(x: SecretTensor) -> SecretTensor:
    """The same window."""
    out = SecretTensor(x.cell, x.size(), x.stride(), x.storage_offset(), x.dtype)
    out.chained = x.chained
    return out


@implements(aten.t.default)
def t(x: SecretTensor) -> SecretTensor:
    """Matrix transpose."""
    size, stride = x.size(), x.stride()
    return SecretTensor(x.cell, size[::-1], stride[::-1], x.storage_offset(), x.dtype)


@composes(aten.is_same_size.default)
def is_same_size(x: Any, y: Any) -> bool:
    """Whether two tensors have the same shape, as forward derivatives ask."""
    return tuple(x.shape) == tuple(y.shape)


@composes(aten._has_same_storage_numel.default)
def has_same_storage_numel(x: Any, y: Any) -> bool:
    """Whether what two secrets are windows on has as many elements, as forward derivatives ask."""
    return isinstance(x, SecretTensor) and isinstance(y, SecretTensor) and x.cell.body.n == y.cell.body.n
