"""Decrypting: to whoever asks, or to one party alone."""

from __future__ import annotations

import copy
import secrets
from typing import Any, NamedTuple, TypeVar, overload

import torch
from torch import nn

from pysmpc.api import decrypting
from pysmpc.compat.pysyft.pointers import pointer_to
from pysmpc.compat.pysyft.workers import worker_of
from pysmpc.errors import PartyError
from pysmpc.session.session import Session
from pysmpc.tensor.secret import SecretTensor
from pysmpc.tensor.storage import flush


class Kept(NamedTuple):
    """A value that a holder on another machine received: the file `received/NAME.npy` in its `state` folder."""

    holder: str
    name: str


Model = TypeVar("Model", bound=nn.Module)


@overload
def decrypt(value: torch.Tensor, *, to: None = None) -> torch.Tensor: ...


@overload
def decrypt(value: Model, *, to: None = None) -> Model: ...


@overload
def decrypt(value: Any, *, to: Any = None) -> Any: ...


def decrypt(value: Any, *, to: Any = None) -> Any:
    """Open a secret: returns plain values for a tensor, a module (as a plain copy), or a list, tuple or dict of them.

    Every holder learns the values.  With workers on other machines the driver alone does, if each owner of data
    behind them consents (OpenNotPermittedError).  A crypto provider that is a process of its own must call this,
    too, and gets meta tensors: shapes without values.  One round; each holder sends 8 bytes an element.

    to: the name of the one holder who learns the values, or its worker; the others learn nothing.  Where every party
    is in this process, the values are put at that holder's virtual worker, and pointers to them are returned.  Where
    every party is a process (`sy.distributed`), the holder gets the values, and the others None in their place.  With
    workers on other machines, each value becomes a file in the receiver's `state` folder, provided that the owners'
    `receivers` name it, and a `Kept` with the name of the file is returned.

    >>> sy.decrypt(loss)
    """
    if to is None:
        return decrypting.decrypt(value)
    return _to(value, str(getattr(to, "id", to)))


def _to(value: Any, name: str) -> Any:
    if isinstance(value, SecretTensor):
        return _received(value.detach(), name)
    if isinstance(value, nn.Module):
        if any(isinstance(p, SecretTensor) and _apart(p.session) for p in value.parameters()):
            return {key: _to(each, name) for key, each in value.state_dict(keep_vars=True).items()}
        return decrypting.replace_tensors(copy.deepcopy(value), lambda each: _to(each, name))
    if isinstance(value, dict):
        return {key: _to(item, name) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_to(item, name) for item in value)
    raise TypeError(f"a {type(value).__name__} holds no secret that could be decrypted to {name}")


def _apart(session: Session) -> bool:
    """Whether the receiver is another process than this, or may be."""
    return session.me is not None or session.recorder is not None


def _received(secret: SecretTensor, name: str) -> Any:
    session = secret.session
    if session.plain:
        raise PartyError("this tensor is public: there is nothing to open to one party alone")
    if name not in session.holders:
        raise PartyError(
            f"{name} is no holder of this secret; a value is opened to one of {', '.join(session.holders)}"
        )
    if session.flags is not None:
        raise NotImplementedError(
            "where ranges are tested by protocol (checked=True), a value is opened to whoever asks, with what came of "
            f"the tests, and not to {name} alone; leave out checked, or to"
        )
    if session.recorder is not None:
        kept = Kept(name, secrets.token_hex(8))
        session.note("hand", name, tuple(secret.shape))
        flush(session)
        session.recorder.hand(secret, name, kept.name)
        return kept
    found = decrypting.opened_to(secret, name)
    if session.me is not None:
        return found
    worker = worker_of(name)
    return pointer_to(worker, worker.register_obj(found), collect=True)
