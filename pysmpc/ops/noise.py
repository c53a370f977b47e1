"""Gaussian noise as a secret, and encodings with more digits: what differentially private training needs."""

from __future__ import annotations

from typing import Any

import torch

from pysmpc.mpc.derived.secret_noise import dealt_noise, holders_noise
from pysmpc.ops.core import rescale, result, session_of
from pysmpc.ops.dropout import LIBRARY
from pysmpc.ops.registering import implements
from pysmpc.ring.fixedpoint import Precision
from pysmpc.tensor.secret import SecretTensor

LIBRARY.define(
    "gaussian_noise(Tensor like, float std, bool dealt) -> Tensor", tags=(torch.Tag.nondeterministic_seeded,)
)
LIBRARY.define("with_bits(Tensor x, int bits) -> Tensor")
gaussian_noise: Any = torch.ops.pysmpc.gaussian_noise.default
with_bits: Any = torch.ops.pysmpc.with_bits.default


@implements(gaussian_noise)
def _gaussian_noise(x: SecretTensor, std: float, dealt: bool) -> SecretTensor:
    """Secret discrete Gaussian noise of x's shape, dtype and encoding, of the standard deviation `std`.  No message.

    dealt: the provider draws it; else each holder adds noise of that deviation.
    """
    session = session_of(x)
    scale = x.unit.scale
    draw = dealt_noise if dealt else holders_noise
    share = draw(session.suite, session.party, tuple(x.shape), std * scale, scale)
    return result(share, session, x.unit, x.dtype)


@implements(with_bits)
def _with_bits(x: SecretTensor, bits: int) -> SecretTensor:
    """The same value with so many fractional bits, up to 30.  No message, or a truncation where there were more."""
    session, unit = session_of(x), Precision(2, bits)
    return result(rescale(session, x.window(), unit.scale), session, unit, x.dtype)
