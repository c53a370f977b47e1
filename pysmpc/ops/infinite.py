"""Minus infinity at public places: what masks add to scores before a softmax.

No secret holds an infinity.  A score that a public mask has set to minus infinity is a place that is told beside
the secret: a sum with finite values keeps it, softmax gives 0 there, and every other operation raises, as it asks for
the content of a cell that has none for those places.
"""

from __future__ import annotations

from functools import reduce
from typing import Any

import torch

from pysmpc.errors import EncodingError
from pysmpc.ring.shares import Share, ShareStorage
from pysmpc.tensor.secret import SecretTensor
from pysmpc.tensor.storage import TensorStorage


class InfiniteStorage(TensorStorage):
    """A finite value, and the public places [n], in the order of its elements, at which it is minus infinity."""

    __slots__ = ("inner", "places")

    def __init__(self, inner: TensorStorage, places: torch.Tensor) -> None:
        self.inner, self.places = inner, places
        super().__init__(inner.body, inner.scale, inner.unit, inner.session)

    @property
    def body(self) -> ShareStorage:
        """Raises: an operation would take what is at the places of minus infinity for a value."""
        raise EncodingError(
            "a mask has made elements of this secret minus infinity, which softmax and sums with finite values take, "
            "and nothing else; mask after the operation, or with a large negative number such as -1e4"
        )

    def replace(self, body: ShareStorage, scale: int) -> None:
        """Raises."""
        _ = self.body


#: A public number below this is taken for minus infinity, as masks in the place of it often are: the smallest number of
#: its dtype.  No secret comes near it.
LOWEST = -1e30


def is_infinite(x: Any) -> bool:
    """Whether some of it is minus infinity: a secret that a mask made so, or a public tensor."""
    if isinstance(x, SecretTensor):
        return type(x.cell) is InfiniteStorage
    if not isinstance(x, torch.Tensor) or not x.is_floating_point():
        return False
    return x.device.type == "cpu" and x.layout is torch.strided and bool((x < LOWEST).any())


def parted(x: Any) -> tuple[Any, torch.Tensor | None]:
    """(The finite values, the places of minus infinity in x's shape; None for none)."""
    if not is_infinite(x):
        return x, None
    if not isinstance(x, SecretTensor):
        places = x < LOWEST
        return x.masked_fill(places, 0), places
    cell: Any = x.cell
    finite = SecretTensor(cell.inner, x.size(), x.stride(), x.storage_offset(), x.dtype)
    return finite, cell.places.as_strided(x.size(), x.stride(), x.storage_offset())


def masked(x: SecretTensor, places: torch.Tensor) -> SecretTensor:
    """x with minus infinity at public places."""
    share = x.window().expand(torch.broadcast_shapes(x.shape, places.shape))
    inner = TensorStorage(Share.of(share.words(), share.shape).body, share.scale, x.unit, x.session)
    flat = places.expand(share.shape).reshape(-1).contiguous()
    strides = Share(inner.body, share.shape).strides
    return SecretTensor(InfiniteStorage(inner, flat), share.shape, strides, 0, x.dtype)


def total(add: Any, x: Any, y: Any, alpha: Any) -> SecretTensor:
    """x + alpha * y, of which some is minus infinity."""
    (x, mine), (y, theirs) = parted(x), parted(y)
    if theirs is not None and not (isinstance(alpha, int | float) and alpha > 0):
        raise EncodingError("minus infinity is added as it is: its factor, alpha, must be above 0")
    places = [each for each in (mine, theirs) if each is not None]
    return masked(add(x, y, alpha=alpha), reduce(torch.logical_or, places))
