"""`decrypt`: secrets are opened, several in one round, and become tensors again."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import nn

import pysmpc.ops  # noqa: F401  (fills the table of operations)
from pysmpc.errors import PartyError
from pysmpc.ops.range_tests import open_flags
from pysmpc.ring.fixedpoint import (
    PIECE,
    decode_as,
)
from pysmpc.ring.prg import KeySet, fresh_key
from pysmpc.tensor.complex_tensor import ComplexTensor
from pysmpc.tensor.locked_calls import watched
from pysmpc.tensor.secret import SecretTensor
from pysmpc.tensor.storage import flush


def words_here(value: SecretTensor) -> torch.Tensor | None:
    """The integers of a secret all of whose shares are in this process; None elsewhere.  Nothing is opened."""
    session, party = value.session, value.session.party
    here = session.me is None and session.recorder is None and party.rows == party.holders
    return value.window().words().sum(0) if here and session.suite.additive else None


def replace_tensors(
    module: nn.Module, change: Any, requires_grad: bool | None = None, names: set[str] | None = None
) -> nn.Module:
    """Give every parameter and real buffer of a module, or of the parts of these names, a new value, in place."""
    seen: dict[int, nn.Parameter] = {}
    for title, part in module.named_modules():
        if names is not None and title not in names:
            continue
        for name, parameter in list(part._parameters.items()):
            if parameter is None:
                continue
            if id(parameter) not in seen:
                wanted = parameter.requires_grad if requires_grad is None else requires_grad
                fresh = nn.Parameter(change(parameter), requires_grad=wanted)
                seen[id(parameter)] = fresh
                seen[id(fresh)] = fresh
            part._parameters[name] = seen[id(parameter)]
        for name, buffer in list(part._buffers.items()):
            if buffer is not None and buffer.is_floating_point():
                part._buffers[name] = change(buffer)
    return module


def opened_words(secret: SecretTensor, verb: str) -> torch.Tensor:
    """The integers behind a secret."""
    [words] = _opened_together([secret], verb)
    return words


def _opened_together(secrets: Sequence[SecretTensor], verb: str = "reveal") -> list[torch.Tensor]:
    """The integers behind several secrets; of those of one session in one round, but for workers of other machines."""
    found: dict[int, torch.Tensor] = {}
    for i, secret in enumerate(secrets):
        if i in found:
            continue
        session = secret.session
        group = [j for j in range(i, len(secrets)) if secrets[j].session is session]
        if session.recorder is not None:
            group = [i]
        for j in group:
            session.note(verb, tuple(secrets[j].shape))
        flush(session)
        if session.recorder is not None:
            found[i] = session.recorder.open(secret)
            continue
        if session.flags is not None:
            open_flags(session)
        windows = [secrets[j].window() for j in group]
        found.update(zip(group, session.suite.reveal(session.party, *windows), strict=True))
    return [found[i] for i in range(len(secrets))]


@watched("decrypt")
def _decoded_together(secrets: Sequence[SecretTensor]) -> list[torch.Tensor]:
    real = [x.pair if isinstance(x, ComplexTensor) else x for x in secrets]
    opened = [_real(x, words) for x, words in zip(real, _opened_together(real), strict=True)]
    return [torch.view_as_complex(v) if x.is_complex() else v for x, v in zip(secrets, opened, strict=True)]


@watched("decrypt")
def decoded(secret: SecretTensor) -> torch.Tensor:
    """Open and decode, in the dtype of the secret."""
    if isinstance(secret, ComplexTensor):
        return torch.view_as_complex(decoded(secret.pair))
    large = secret.dtype.is_floating_point and secret.numel() > PIECE
    # made before what is opened, which then leaves no hole between the results of a model in memory
    place = torch.empty(secret.shape, dtype=secret.dtype) if large else None
    return _real(secret, opened_words(secret, "reveal"), place)


def _real(secret: SecretTensor, words: torch.Tensor, place: torch.Tensor | None = None) -> torch.Tensor:
    """Opened integers, decoded in the dtype of the secret."""
    session = secret.session
    if words.dim() == secret.dim() + 1 and words.shape[0] == 0:
        if session.me is not None:
            return torch.empty(secret.shape, dtype=secret.dtype, device="meta")
        raise PartyError("this process holds no share and is not a receiver: it cannot open a secret")
    return _plain_of(secret, words, place)


def _plain_of(secret: SecretTensor, words: torch.Tensor, place: torch.Tensor | None = None) -> torch.Tensor:
    """Opened integers of a secret, in its dtype; real ones in a place for them, where there is one."""
    if secret.dtype.is_floating_point:
        real: torch.Tensor = decode_as(words, secret.cell.scale, secret.dtype, place)
        return real
    if secret.dtype == torch.bool:
        truth: torch.Tensor = words != 0
        return truth
    if secret.cell.scale > 1:
        words = torch.div(words, secret.cell.scale, rounding_mode="floor")
    plain: torch.Tensor = words.to(secret.dtype)
    return plain


@watched("decrypt")
def opened_to(secret: SecretTensor, receiver: str) -> torch.Tensor | None:
    """Open to one holder alone; None in a process that is another party.

    1. The receiver shares uniform words, which nobody else knows.
    2. The secret plus these words is opened: one round, 8 bytes an element between every two holders.
    3. The receiver takes them off.
    """
    if isinstance(secret, ComplexTensor):
        parts = opened_to(secret.pair, receiver)
        return None if parts is None else torch.view_as_complex(parts)
    session = secret.session
    session.note("open to", receiver, tuple(secret.shape))
    flush(session)
    share = secret.window()
    # 1. a mask of the receiver's
    party, mine = session.sharing(receiver, tuple(secret.shape), torch.int64, share.scale, None)
    mask = KeySet([fresh_key()]).draw(0, share.numel)[0] if mine else None
    masked = session.suite.add(session.party, share, session.suite.share(party, mask, secret.shape, share.scale))
    # 2. the opening
    [words] = session.suite.reveal(session.party, masked)
    # 3. the value
    if mask is None:
        return None
    return _plain_of(secret, words - mask.reshape(secret.shape))


def reveal(self: SecretTensor) -> torch.Tensor:
    """Open the value to the caller, as a plain tensor of this dtype.

    One round; each holder sends 8 bytes an element to each other one.
    """
    return decoded(self)


SecretTensor.reveal = reveal  # type: ignore[method-assign]


def decrypt(value: Any) -> Any:
    """Open a tensor, a module (as a plain copy), or a list, tuple or dict of them.

    Every holder learns the values.  A crypto provider that is a process of its own must
    call this, too, and gets meta tensors: shapes without values.  All tensors of one call are opened
    in one round; a driver of workers opens them one after another, as the workers decide about each.
    """
    if isinstance(value, SecretTensor):
        return decoded(value.detach() if value.requires_grad else value)
    secrets = list({id(x): x for x in _secrets_in(value)}.values())
    opened = _decoded_together([x.detach() for x in secrets]) if secrets else []
    return _decrypted(value, dict(zip(map(id, secrets), opened, strict=True)))


def _secrets_in(value: Any) -> Iterator[SecretTensor]:
    """The secret tensors of a nest, but for those of modules."""
    if isinstance(value, SecretTensor):
        yield value
    elif isinstance(value, dict | list | tuple):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _secrets_in(item)


def _decrypted(value: Any, opened: dict[int, torch.Tensor]) -> Any:
    if isinstance(value, SecretTensor):
        return opened[id(value)]
    if isinstance(value, torch.Tensor):
        return value
    if isinstance(value, nn.Module):
        return replace_tensors(copy.deepcopy(value), decrypt)
    if isinstance(value, dict):
        return {key: _decrypted(item, opened) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_decrypted(item, opened) for item in value)
    raise TypeError(f"a {type(value).__name__} holds no secret that could be decrypted")
