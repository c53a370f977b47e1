"""The steps of sharing and opening one by one, as PySyft 0.2 names them: fix the precision, share, get, refresh."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import nullcontext

import torch

import pysmpc.ops  # noqa: F401  (fills the table of operations)
from pysmpc.api.calls import share_public, share_tensor
from pysmpc.api.decrypting import decoded, opened_words
from pysmpc.api.parties import DEFAULTS, session_for
from pysmpc.errors import EncodingError, PartyError
from pysmpc.mpc.options import Protocol
from pysmpc.ring.fixedpoint import (
    INTEGER,
    Precision,
    decode,
    encode,
)
from pysmpc.session.session import plain_session
from pysmpc.tensor.locked_calls import locked, watched
from pysmpc.tensor.secret import SecretTensor
from pysmpc.torch_modes import undisturbed


@undisturbed
def fix_precision(value: torch.Tensor, precision_fractional: int = 3, base: int = 10) -> SecretTensor:
    """A public fixed-precision tensor: integers under a scale, not shared yet.

    0.123 at precision 2 is the integer 12.
    """
    if isinstance(value, SecretTensor):
        raise EncodingError("this tensor has fixed precision already")
    unit = Precision(base, precision_fractional)
    words = encode(value.detach() if value.is_floating_point() else value.detach().double(), unit)
    share = plain_session.suite.share(plain_session.party, words, value.shape, unit.scale)
    out = SecretTensor.of(share, plain_session, unit, torch.float32 if value.dtype != torch.float64 else value.dtype)
    return out.requires_grad_(value.requires_grad)


@undisturbed
def float_precision(value: SecretTensor) -> torch.Tensor:
    """The real values of a public fixed-precision tensor."""
    if not isinstance(value, SecretTensor):
        return value
    if value.session is not plain_session:
        raise TypeError("this tensor is still shared; open it first: x.get().float_precision()")
    share = value.window()
    return decode(share.window(share.body.words)[0], share.scale).to(
        value.dtype if value.dtype.is_floating_point else torch.float32
    )


def share(
    value: torch.Tensor,
    holders: Iterable[str],
    provider: str,
    requires_grad: bool = False,
    protocol: Protocol = DEFAULTS,
) -> SecretTensor:
    """Shares of an integer or fixed-precision tensor for the named holders."""
    session = session_for(list(holders), provider, protocol)
    if isinstance(value, SecretTensor):
        if value.session is not plain_session:
            raise EncodingError("this tensor is shared already; .get() it before sharing it with others")
        out = share_public(value.detach(), session)
    elif value.is_floating_point():
        raise TypeError(
            f"{value.type().split('.')[-1]} cannot be additively shared, Use fix_precision: "
            "x.fix_precision().share(...)"
        )
    else:
        out = share_tensor(value, session, INTEGER)
    if requires_grad:
        out.chained = True
        if out.dtype.is_floating_point:
            out.requires_grad_()
    return out


@watched("decrypt")
def get(value: SecretTensor) -> torch.Tensor:
    """Open to the caller: a plain integer tensor, or a public fixed-precision one."""
    if value.session is plain_session:
        return value
    if value.unit.scale == 1 or not value.dtype.is_floating_point:
        return decoded(value.detach())
    words = opened_words(value, "get")
    if not value.session.party.rows and value.session.recorder is None:
        raise PartyError("this process holds no share and is not a receiver: it cannot open a secret")
    opened = plain_session.suite.share(plain_session.party, words, value.shape, value.cell.scale)
    out = SecretTensor.of(opened, plain_session, value.unit, value.dtype)
    out.chained = value.chained or value.requires_grad
    return out


@locked
def refresh(value: SecretTensor) -> SecretTensor:
    """Replace the shares by fresh ones of the same value, in place.  No round.  Returns the tensor itself."""
    cell = value.cell
    share = value.window()
    if not share.dense:
        raise ValueError("refresh() takes a whole tensor, not a view of one; refresh the tensor it came from")
    recorder = cell.session.recorder
    with recorder.refreshing(value) if recorder is not None else nullcontext():
        out = cell.session.suite.refresh(cell.session.party, share)
        bound = cell.bound
        cell.replace(out.body, cell.scale)
        cell.bound = bound
    return value
