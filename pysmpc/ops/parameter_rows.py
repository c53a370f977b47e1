"""Tensors of all parameters as one row of integers, and operations of the library "pysmpc" on them."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import torch

from pysmpc.mpc.functions.blocks import apart, joined
from pysmpc.ops.core import rescale, result
from pysmpc.ops.lists import check_arguments
from pysmpc.ring.fixedpoint import kept
from pysmpc.ring.shares import Share, ShareStorage
from pysmpc.session.session import Session
from pysmpc.tensor.secret import HANDLERS, SecretTensor

_LIBRARY = torch.library.Library("pysmpc", "FRAGMENT")

Tensors = Sequence[SecretTensor]


def operation(schema: str) -> Callable[[Callable[..., Any]], Any]:
    """Define an operation of the library "pysmpc" whose handler this is; returns the operation."""

    def register(handler: Callable[..., Any]) -> Any:
        name = schema.split("(")[0]
        _LIBRARY.define(schema)
        overload = getattr(torch.ops.pysmpc, name).default

        @functools.wraps(handler)
        def checked(*args: Any, **kwargs: Any) -> Any:
            check_arguments(overload._schema, args, kwargs)
            return handler(*args, **kwargs)

        HANDLERS[overload] = checked
        return overload

    return register


# --- tensors of all parameters as one row of integers ------------------------------


def session_of_all(tensors: Tensors) -> Session:
    session: Session = tensors[0].cell.session
    return session


def sizes_of(tensors: Tensors) -> list[int]:
    return [x.numel() for x in tensors]


def as_row(tensors: Tensors, bits: int) -> Share:
    """All elements at 2^bits: finer ones are truncated, in one round for all."""
    session, scale = session_of_all(tensors), 1 << bits
    suite, party = session.suite, session.party
    parts: list[Share] = []
    coarser: list[int] = []
    dividends: list[tuple[Share, int]] = []
    for x in tensors:
        share = x.window()
        share = Share.of(share.words(), (share.numel,), share.scale)
        if scale % share.scale == 0:
            share = suite.scale_by(party, share, scale // share.scale).at(1) if scale > share.scale else share.at(1)
        elif share.scale % scale == 0:
            coarser.append(len(parts))
            dividends.append((share, share.scale // scale))
        else:
            share = rescale(session, share, scale).at(1)
        parts.append(share)
    by = {by for _, by in dividends}
    if len(by) == 1:
        whole = suite.probabilistic.truncate(party, joined(*(z for z, _ in dividends)), by.pop())
        if len(coarser) == len(parts):
            return whole.at(1)
        found = apart(whole, [z.numel for z, _ in dividends])
    else:
        found = suite.probabilistic.truncate_all(party, dividends) if dividends else []
    for place, share in zip(coarser, found, strict=True):
        parts[place] = share.at(1)
    return joined(*parts)


def give_back(targets: Tensors, whole: Share, bits: int) -> None:
    """Give tensors their elements of a row of integers at 2^bits, which is their encoding from now on."""
    unit = kept(2, bits)
    for x, part in zip(targets, apart(whole, sizes_of(targets)), strict=True):
        share, cell = Share.of(part.words(), x.shape, unit.scale), x.cell
        if x.whole:
            body = share.body
        else:
            words = torch.empty_like(cell.body.words)
            here = Share(cell.body, x.size(), unit.scale, x.stride(), int(x.storage_offset()))
            here.window(words).copy_(share.window(share.body.words))
            body = ShareStorage(words)
        cell.replace(body, unit.scale)
        cell.unit = unit


def from_row(like: Tensors, whole: Share, bits: int) -> list[SecretTensor]:
    """New tensors of the elements of a row of integers at 2^bits."""
    unit, session = kept(2, bits), session_of_all(like)
    parts = apart(whole, sizes_of(like))
    return [
        result(Share.of(p.words(), x.shape, unit.scale), session, unit, x.dtype)
        for x, p in zip(like, parts, strict=True)
    ]
