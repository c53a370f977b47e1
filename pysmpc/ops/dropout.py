"""Random masks: dropout and its kin.

A mask is public unless `secret_masks` says otherwise.  It is drawn where torch's operations are called, by torch's
generator, as torch draws it: after the same `torch.manual_seed` a secret network drops what the plain one does.
What torch makes for the mask is a secret of zeros at first (`empty_like`); as it is filled with public numbers it
becomes a public tensor, and a product with it takes no message.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from pysmpc.mpc.derived.coins import random_bits
from pysmpc.ops.core import aten, result, session_of
from pysmpc.ops.decompositions import draws
from pysmpc.ops.registering import implements
from pysmpc.ring.shares import Share
from pysmpc.session.session import plain_session
from pysmpc.tensor.secret import SecretTensor
from pysmpc.tensor.secret_errors import not_implemented

#: Operations of this package that torch has none for: workers of other machines are sent them like any other.
LIBRARY = torch.library.Library("pysmpc", "FRAGMENT")
LIBRARY.define("random_bits(Tensor like, float p) -> Tensor")
_random_bits: Any = torch.ops.pysmpc.random_bits.default


class _Choice(threading.local):
    secret = False


_choice = _Choice()


@contextmanager
def secret_masks() -> Iterator[None]:
    """Inside the block, dropout masks are secret: no holder learns which elements a step used.

    The provider draws the masks and shares them, 8 bytes an element; torch's generator is not used.  A product with a
    mask costs as much as a product of secrets.  Affects the calling thread only.

    >>> with sy.secret_masks():
    ...     out = model(x)
    """
    with masks(secret=True):
        yield


@contextmanager
def masks(secret: bool) -> Iterator[None]:
    """Within, masks that this thread draws are secret, or are not."""
    before, _choice.secret = _choice.secret, secret
    try:
        yield
    finally:
        _choice.secret = before


def masks_are_secret() -> bool:
    """Whether this thread is within `secret_masks`."""
    return _choice.secret


@implements(_random_bits)
def secret_bits(x: SecretTensor, p: float) -> SecretTensor:
    """Secret bits of x's shape and dtype, each of them 1 with probability p.  No message."""
    session = session_of(x)
    return result(random_bits(session.suite, session.party, x.shape, p), session, x.unit, x.dtype)


def _blank(x: SecretTensor) -> bool:
    """Whether x is what torch has made room with: zeros and nothing else, and no parameter."""
    cell = x.cell
    return not cell.pending and cell.body.zeros and not x.requires_grad and x.numel() == cell.body.n


def _become(x: SecretTensor, values: torch.Tensor) -> SecretTensor:
    """Give x these public values: as a public tensor, where it held nothing, else as any value that is written."""
    if x.session.plain or not _blank(x):
        return aten.copy_.default(x, values)
    words = torch.empty_strided(x.shape, x.stride(), dtype=torch.int64).copy_(values.to(torch.int64))
    flat = words.as_strided((1, x.numel()), (x.numel(), 1)).contiguous()
    cell = x.cell
    cell.replace(Share.of(flat, (x.numel(),)).body, 1)
    cell.session = plain_session
    return x


@draws(aten.bernoulli_.float)
def bernoulli_(x: Any, p: float = 0.5, *, generator: torch.Generator | None = None) -> Any:
    """x, filled with 0 and 1, as torch draws them; secret ones within `secret_masks`."""
    if not isinstance(x, SecretTensor):
        return aten.bernoulli_.float(x, p, generator=generator)
    if _choice.secret and not x.session.plain:
        return aten.copy_.default(x, _random_bits(x, p))
    values = torch.empty_strided(x.shape, x.stride(), dtype=x.dtype)
    return _become(x, values.bernoulli_(p, generator=generator))


@draws(aten.bernoulli.p)
def bernoulli(x: SecretTensor, p: float = 0.5, *, generator: torch.Generator | None = None) -> Any:
    """0 and 1 of x's shape."""
    return bernoulli_(aten.empty_like.default(x), p, generator=generator)


@draws(aten.bernoulli.default, aten.bernoulli_.Tensor)
def bernoulli_of_secrets(x: Any, p: Any = None, *, generator: torch.Generator | None = None) -> Any:
    """Refused for secret probabilities; those of a tensor may be public."""
    if p is None or isinstance(p, SecretTensor):
        raise not_implemented(aten.bernoulli.default, "its probabilities p are secret; use torch.rand(p.shape) < p")
    values = torch.empty(x.shape, dtype=x.dtype).bernoulli_(p, generator=generator)
    return aten.copy_.default(x, values)


@draws(aten.native_dropout.default)
def native_dropout(x: SecretTensor, p: float, train: bool | None) -> tuple[Any, Any]:
    """(x times the mask over 1 - p, the mask)."""
    if not train:
        return x.clone(), torch.ones(x.shape, dtype=torch.bool)
    mask = bernoulli(x, 1 - p)
    return x * mask * (1 / (1 - p) if p < 1 else 0.0), mask


@draws(aten.rrelu_with_noise.default)
def rrelu_with_noise(
    x: SecretTensor, noise: SecretTensor, lower: float = 0.125, upper: float = 1 / 3, training: bool = False,
    generator: torch.Generator | None = None,
) -> Any:  # fmt: skip
    """x, times a slope where it is not positive: in training a public one for each element, else their mean.

    torch draws slopes where x is not positive alone; which those are is secret, so that here each element has one.
    noise becomes the factor of each element, a secret.
    """
    if not training:
        return aten.leaky_relu.default(x, (lower + upper) / 2)
    if _choice.secret:
        raise not_implemented(aten.rrelu_with_noise.default, "its slopes are public, also in secret_masks()")
    slopes = torch.empty(x.shape, dtype=x.dtype).uniform_(lower, upper, generator=generator)
    factor = (x <= 0).to(x.dtype) * (slopes - 1) + 1
    aten.copy_.default(noise, factor)
    return x * factor


@draws(aten.rrelu_with_noise_.default)
def rrelu_with_noise_(x: SecretTensor, *args: Any, **kwargs: Any) -> Any:
    """The same in place."""
    return aten.copy_.default(x, rrelu_with_noise(x, *args, **kwargs))
