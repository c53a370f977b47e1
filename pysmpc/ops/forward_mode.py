"""What torch's forward mode (torch.func.jvp, jacfwd, hessian) asks beside the arithmetic itself. No rounds."""

from __future__ import annotations

from typing import Any

import torch

from pysmpc.ops.core import aten
from pysmpc.ops.decompositions import composes
from pysmpc.tensor.secret import SecretTensor


@composes(aten._new_zeros_with_same_feature_meta.default)
def zeros_as(x: Any, other: Any, *, self_num_batch_dims: int = 0) -> Any:
    """Zeros for a tangent like x of a value `other`: its sizes and strides, after x's first batch dimensions."""
    batch = list(x.shape[:self_num_batch_dims])
    if isinstance(other, SecretTensor):
        length = other.cell.body.n
    else:
        length = other.untyped_storage().nbytes() // other.element_size()
    flat = x.new_zeros([*batch, length])
    strides = [*flat.stride()[:-1], *other.stride()]
    return flat.as_strided([*batch, *other.shape], strides, int(other.storage_offset()))


@composes(aten.to.dtype_layout)
def to_dtype_layout(x: Any, *, device: Any = None, **kwargs: Any) -> Any:
    """Below autograd torch asks so for the shape of a product with zeros: an empty tensor on the device meta.

    Everything else is torch's own way to `_to_copy`.
    """
    if device is not None and torch.device(device).type == "meta":
        return torch.empty(x.shape, dtype=kwargs.get("dtype") or x.dtype, device="meta")
    return aten.to.dtype_layout.decompose(x, device=device, **kwargs)
