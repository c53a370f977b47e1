"""What a worker shows of its tensors to whoever has a pointer: descriptions such as a shape or a dtype, and no values.

`pointers.py` refuses the functions of `OPENING` before they run at a worker, and afterwards every result that is
neither a tensor nor a description.
"""

from __future__ import annotations

from typing import Any

import torch

from pysmpc.errors import RevealError

#: Results that are no tensors are handed out only for these: they describe, and hold no values.
DESCRIBING = frozenset(
    [
        "size",
        "dim",
        "ndimension",
        "numel",
        "nelement",
        "stride",
        "storage_offset",
        "element_size",
        "is_contiguous",
        "is_floating_point",
        "is_complex",
        "is_signed",
        "is_conj",
        "is_neg",
        "is_inference",
        "is_same_size",
        "is_shared",
        "is_pinned",
        "get_device",
        "type",
        "__len__",
        "__dir__",
        "result_type",
        "can_cast",
        "has_names",
        "dense_dim",
        "sparse_dim",
        "dim_order",
    ]
)
#: Refused before they run; whatever else returns no tensor is refused after.
OPENING = frozenset(
    [
        "item",
        "tolist",
        "numpy",
        "__array__",
        "__bool__",
        "__float__",
        "__int__",
        "__index__",
        "__complex__",
        "__contains__",
        "is_nonzero",
        "equal",
        "allclose",
        "data_ptr",
        "untyped_storage",
        "__dlpack__",
    ]
)
#: Types of a tensor's attributes that are descriptions.
PLAIN = (bool, int, str, torch.dtype, torch.device, torch.layout, torch.Size)


def name_of(func: Any) -> str:
    """The name that a function has in torch."""
    return str(getattr(func, "__name__", func))


def would_show(func: Any) -> RevealError:
    """The error for a function that returns values."""
    return RevealError(f"{name_of(func)} would show a value that is at a worker; fetch it by name, with .get()")
