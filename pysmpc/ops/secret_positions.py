"""Elements at secret positions: one-hot vectors, and products with them.

A position is opened under a mask, once, and turns a dealt vector to its one-hot vector
(`pysmpc.mpc.derived.one_hot`): one round, 8 bytes to each other holder and from the dealer 8 for each of the
places that there are, up to the next power of two.  A product with the vector reads, or writes, all places.
Under protocols without that, a vector takes comparisons with every place.  Nothing is rounded.

A position that does not exist, for which torch raises, reads 0, or the element at it modulo that power of two:
whether it exists is not asked.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch

from pysmpc.errors import RevealError
from pysmpc.mpc.functions.known_values import known_of
from pysmpc.ops.core import result, session_of
from pysmpc.ops.public_operands import public
from pysmpc.ops.ranks import in_order, put_back
from pysmpc.ring.fixedpoint import BINARY16, INTEGER
from pysmpc.ring.shares import Share
from pysmpc.session.session import Session
from pysmpc.tensor.secret import SecretTensor


def check_whole(index: SecretTensor) -> None:
    """IndexError for positions of a real dtype, as torch's."""
    if index.dtype.is_floating_point:
        raise IndexError(f"tensors used as indices must be long or bool, not {index.dtype}")


def bits_of(index: SecretTensor, places: int, wraps: bool = False) -> Share:
    """One-hot vectors [*index.shape, places], remembered with the index.

    wraps: -1 is the last place, and so on, as where Python's brackets ask.
    """
    check_whole(index)
    session, share = index.session, index.window()
    kept = known_of(index.cell.body).kept
    key = "positions", share.layout, places, wraps
    if key not in kept:
        kept[key] = _bits_of(session, share, places, wraps)
    found: Share = kept[key]
    return found


def _bits_of(session: Session, share: Share, places: int, wraps: bool) -> Share:
    suite, party = session.suite, session.party
    if suite.one_hot is None:
        wanted = [torch.arange(places), *([torch.arange(-places, 0)] if wraps else [])]
        apart = [_gap(session, share, each) for each in wanted]
        found = [suite.zero(party, each) for each in apart]
        return suite.add(party, *found) if wraps else found[0]
    if not wraps:
        return suite.one_hot(party, share, places)
    room = 1 << (2 * places - 1).bit_length()
    every = suite.one_hot(party, share, room)
    first, last = (
        Share(every.body, (*share.shape, places), 1, every.strides, every.offset + at) for at in (0, room - places)
    )
    return suite.add(party, first, last)


def _gap(session: Session, share: Share, places: torch.Tensor) -> Share:
    suite, party = session.suite, session.party
    wide = Share(share.body, (*share.shape, len(places)), 1, (*share.strides, 0), share.offset)
    return suite.sub(party, wide, suite.public(party, places.expand(wide.shape).contiguous()))


def shares_of(x: Any, session: Session, unit: Any = BINARY16) -> tuple[Share, Any]:
    """Its share and its unit, of a public tensor too."""
    known = public(x, session, unit)
    if known is None:
        return x.window(), x.unit
    return session.suite.public(session.party, known.values.contiguous(), known.scale), known.unit


def _product(session: Session, x: Any, y: Share, unit: Any = BINARY16) -> tuple[Share, Any]:
    """y @ x for bits y [..., m, k] and elements x [..., k, n], secret or public; its unit."""
    known = public(x, session, unit)
    if known is None:
        return session.arithmetic.matmul(session.party, y, x.window()), x.unit
    out = session.arithmetic.matmul_public(session.party, y, known.values.contiguous(), known.scale, True)
    return out, known.unit


def rows_at(x: Any, index: SecretTensor, wraps: bool = False) -> SecretTensor:
    """x[index] along the first dimension, for an index of any shape.  A product of matrices."""
    session = session_of(x, index)
    places, rest = x.shape[0], tuple(x.shape[1:])
    if x.dtype == torch.bool and not isinstance(x, SecretTensor):
        x = x.to(torch.int64)
    bits = bits_of(index, places, wraps)
    flat = Share(bits.body, (index.numel(), places), 1, None, bits.offset) if bits.dense else _dense(bits, places)
    table = x.reshape(places, math.prod(rest))
    out, unit = _product(session, table, flat)
    return result(Share(out.body, (*index.shape, *rest), out.scale), session, unit, x.dtype)


def _dense(bits: Share, places: int) -> Share:
    return Share.of(bits.words(), (bits.numel // places if places else 0, places), 1)


def gathered(x: Any, dim: int, index: SecretTensor) -> SecretTensor:
    """x.gather(dim, index): of each line along a dimension, elements at its own positions."""
    session = session_of(x, index)
    if not x.dim():
        return gathered(x.reshape(1), 0, index.reshape(-1)).reshape(index.shape)
    dim %= x.dim()
    if (found := in_order(x, dim, index, *shares_of(x, session))) is not None:
        return found
    x = x[tuple(slice(None) if d == dim else slice(0, n) for d, n in enumerate(index.shape))]
    lines, at = x.movedim(dim, -1), index.movedim(dim, -1)
    bits = bits_of(at, lines.shape[-1])  # [..., m, k]
    shape = tuple(at.shape)
    rows = math.prod(shape[:-1])
    flat = Share.of(bits.words(), (rows, shape[-1], lines.shape[-1]))
    out, unit = _product(session, lines.reshape(rows, lines.shape[-1], 1), flat)
    found = result(Share(out.body, shape, out.scale), session, unit, x.dtype)
    return found.movedim(-1, dim)


def added_at(x: Any, dim: int, index: SecretTensor, values: Any) -> Any:
    """x.scatter_add(dim, index, values): of each line, values added at its own positions."""
    session = session_of(index, values)
    if not x.dim():
        return added_at(x.reshape(1), 0, index.reshape(-1), values.reshape(-1)).reshape(())
    dim %= x.dim()
    found = put_back(x.shape, dim, index, *shares_of(values, session), values.dtype)
    if found is not None:
        return x + found
    values = values[tuple(slice(0, n) for n in index.shape)]
    at, given = index.movedim(dim, -1), values.movedim(dim, -1)
    places, shape = x.shape[dim], tuple(at.shape)
    bits = bits_of(at, places)
    rows, m = math.prod(shape[:-1]), shape[-1] if shape else 1
    flat = Share.of(bits.words(), (rows, m, places))
    turned = Share(flat.body, (rows, places, m), 1, (m * places, 1, places))
    out, unit = _product(session, given.reshape(rows, m, 1), turned)
    spread = result(Share(out.body, (*shape[:-1], places), out.scale), session, unit, values.dtype).movedim(-1, dim)
    if tuple(spread.shape) != tuple(x.shape):
        pad = [each for d in reversed(range(x.dim())) for each in (0, x.shape[d] - spread.shape[d])]
        spread = torch.ops.aten.constant_pad_nd.default(spread, pad, 0)
    return x + spread


def added_rows(x: Any, index: SecretTensor, values: Any, wraps: bool = False) -> Any:
    """x with values [*index.shape, *x.shape[1:]] added at rows of it."""
    session = session_of(index, values)
    places, rest = x.shape[0], tuple(x.shape[1:])
    flat = _dense(bits_of(index, places, wraps), places)
    turned = Share(flat.body, (places, index.numel()), 1, (1, places))
    width = math.prod(rest)
    out, unit = _product(session, values.expand(*index.shape, *rest).reshape(index.numel(), width), turned)
    return x + result(Share(out.body, (places, *rest), out.scale), session, unit, values.dtype)


#: Elements that may be put one after another, so that of equal positions the last one counts.
PUT = 64


def put_at(x: Any, dim: int, index: SecretTensor, values: Any) -> Any:
    """x.scatter(dim, index, values): of equal positions the last counts.  A round for each along the dimension."""
    if not x.dim():
        return put_at(x.reshape(1), 0, index.reshape(-1), values.reshape(-1)).reshape(())
    dim %= x.dim()
    m = index.shape[dim] if index.dim() else 1
    if m > PUT:
        raise NotImplementedError(
            f"at most {PUT} elements of a line are put at secret positions, one after another, not {m}; add them "
            "with scatter_add, where no two positions are equal"
        )
    if any(a != b for d, (a, b) in enumerate(zip(index.shape, x.shape, strict=True)) if d != dim):
        raise NotImplementedError("secret positions of a part of a tensor are not implemented; narrow the tensor first")
    bits = bits_of(index.movedim(dim, -1), x.shape[dim])
    session = session_of(index)
    lines = x.movedim(dim, -1)
    for k in range(m):
        step = bits.strides[-2]
        shape, strides = (*bits.shape[:-2], bits.shape[-1]), (*bits.strides[:-2], bits.strides[-1])
        own = Share.of(Share(bits.body, shape, 1, strides, bits.offset + k * step).words(), shape)
        chosen = result(own, session, INTEGER, torch.bool)
        lines = torch.where(chosen, values.select(dim, k).unsqueeze(-1), lines)
    return lines.movedim(-1, dim)


def put_rows(x: Any, index: SecretTensor, values: Any) -> Any:
    """x with rows of it replaced by values, the last of those with one position; a round for each."""
    places, rest = x.shape[0], tuple(x.shape[1:])
    if index.numel() > PUT:
        raise NotImplementedError(
            f"at most {PUT} rows are put at secret positions, one after another, not {index.numel()}; add them with "
            "index_add, where no two positions are equal"
        )
    flat = _dense(bits_of(index, places, True), places)
    session = session_of(index)
    given = values.expand(*index.shape, *rest).reshape(index.numel(), *rest)
    for k in range(index.numel()):
        own = Share.of(Share(flat.body, (places,), 1, (1,), k * places).words(), (places,))
        chosen = result(own, session, INTEGER, torch.bool).reshape(places, *[1] * len(rest))
        x = torch.where(chosen, given[k], x)
    return x


def the_only(indices: Sequence[Any]) -> int:
    """Which of some indices is there, and secret; RevealError where others are as well."""
    there = [axis for axis, each in enumerate(indices) if each is not None]
    if len(there) > 1:
        raise RevealError(
            "secret positions along several dimensions at once would take a product for each pair; flatten these "
            "dimensions and use one position, a * size + b"
        )
    return there[0]
