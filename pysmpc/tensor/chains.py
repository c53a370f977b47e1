"""How PySyft 0.2 printed a secret, as a chain of wrappers: (Wrapper)>FixedPrecisionTensor>[AdditiveSharingTensor] ...

A session whose tensors its vocabulary makes (`Session.chains`) has them shown so.  `display.py` shows all others.
"""

from __future__ import annotations

from typing import Any

import torch

from pysmpc.tensor.storage import TensorStorage


def describe(tensor: Any, autograd: bool) -> str:
    """What a secret is made of and who holds it, and no value; of a plain session its integers, which are public."""
    if not isinstance(tensor.cell, TensorStorage):
        return repr(tensor.cell)
    session, fixed = tensor.session, tensor.unit.scale > 1
    chain = ("AutogradTensor>" if autograd else "") + ("FixedPrecisionTensor>" if fixed else "")
    if session.plain:
        return f"{chain}{_integers(tensor)}"
    serial = tensor.cell.body.serial
    lines = [f"{chain}[AdditiveSharingTensor]"]
    lines += [f"\t-> [PointerTensor | me:{session.serial}{serial:08d} -> {name}:{serial}]" for name in session.holders]
    lines += [
        f"\t*crypto provider: {session.provider}*",
        f"\t*shape: {tuple(tensor.shape)}, scale: {tensor.cell.scale}*",
    ]
    return "\n".join(lines)


def _integers(tensor: Any) -> torch.Tensor:
    """A public value as integers of its nominal scale, whatever finer scale it is held at."""
    share = tensor.window()
    words: torch.Tensor = share.words().reshape(tensor.shape)
    if share.scale == tensor.unit.scale or not tensor.dtype.is_floating_point:
        return words
    integers: torch.Tensor = (words.double() / share.scale * tensor.unit.scale).round().to(torch.int64)
    return integers
