"""Softmax, its logarithm, log-sum-exp, and their derivatives (`pysmpc.mpc.functions.softmax`)."""

from __future__ import annotations

import math
from typing import Any

import torch

from pysmpc.errors import EncodingError
from pysmpc.mpc.functions import softmax as protocols
from pysmpc.mpc.functions.exponent import FALLING, has_room
from pysmpc.mpc.functions.known_values import note_source, source_of
from pysmpc.ops.arithmetic import add, mul, sub
from pysmpc.ops.core import aten, dims, result
from pysmpc.ops.functions.argument import argument
from pysmpc.ops.functions.exponentials import exp
from pysmpc.ops.infinite import is_infinite, parted
from pysmpc.ops.registering import implements
from pysmpc.ring.shares import Share
from pysmpc.tensor.secret import SecretTensor


class _Rows:
    """x less its largest along a dimension, as rows [rows, N]; and the way back.

    Where x is publicly known to be so small that powers of it have room beside one another, x itself: largest is None.
    """

    def __init__(self, x: Any, dim: int) -> None:
        if not has_room(x.cell.scale, window=FALLING):
            x.cell.settle()
        x = x.detach()  # torch differentiates what is done with x, not this
        n, bound = x.shape[dim], x.cell.bound
        near = None if bound is None else protocols.near_window(n, bound)
        self.largest = None
        if near is None:
            self.largest = torch.amax(x, dim, keepdim=True)
            z: Any = sub(x, self.largest).movedim(dim, -1)
        else:
            x.cell.settle()
            bound = x.cell.bound
            z = x.movedim(dim, -1)
        self.moved, self.dim, self.x = tuple(z.shape), dim, x
        share = z.window()
        self.z = Share.of(share.words(), (math.prod(self.moved[:-1]), n), share.scale)
        inside = bound is not None and 2 * bound <= -FALLING.lo  # nothing is further below the largest
        self.quotients = protocols.quotients(
            x.session.suite, x.session.party, self.z, inside, near=None if near is None else bound
        )

    def back(self, out: Share) -> Any:
        """A result for each element, in x's order."""
        shaped = Share(out.body, self.moved[:-1] + out.shape[-1:], out.scale)
        return result(shaped, self.x.session, self.x.unit, self.x.dtype).movedim(-1, self.dim)


def _of_dtype(x: Any, dtype: torch.dtype | None) -> Any:
    return x if dtype in (None, x.dtype) else x.to(dtype)


def _refuse_half(half_to_float: bool) -> None:
    if half_to_float:
        raise NotImplementedError("softmax with half to float conversion is for torch.float16 on a GPU; leave it out")


def _dimension(x: SecretTensor, dim: int) -> int:
    if not -max(x.dim(), 1) <= dim < max(x.dim(), 1):
        raise IndexError(f"Dimension out of range: {dim} for a tensor of {x.dim()} dimensions")
    return dim % max(x.dim(), 1)


def _softmax(x: SecretTensor, dim: int, logarithm: bool, finer: int = 1) -> Any:
    """finer: how much finer than the encoding softmax is."""
    x = argument(x, "softmax", integers=False)
    if not x.numel():
        return torch.zeros_like(x)
    if x.dim() == 0:
        return _softmax(x.reshape(1), 0, logarithm, finer).reshape(())
    dim = _dimension(x, dim)
    rows, session = _Rows(x, dim), x.session
    q = rows.quotients
    if logarithm:
        out = rows.back(protocols.log_softmax(session.suite, session.party, q))
        note_source(out.window(), "log_softmax", (q, rows))
        return out
    return rows.back(protocols.softmax(session.suite, session.party, q, x.unit.scale * finer))


#: What stands for minus infinity beside other scores: e^(MASKED - x) is 0 for every x above half of it.
MASKED = -(2.0**22)


def _of_masked(x: SecretTensor, dim: int, safe: bool) -> Any:
    """softmax of scores of which a public mask has made some minus infinity; safe: 0 for a row of nothing else."""
    finite, places = parted(x)
    assert places is not None
    none = places.all(dim, keepdim=True)
    if bool(none.any()) and not safe:
        raise EncodingError("a row in which all is minus infinity has no softmax")
    scores: Any = torch.where(places, torch.tensor(MASKED, dtype=x.dtype), finite)
    return mul(_softmax(scores, dim, False), (~(places | none)).to(torch.int64))


def fine_softmax(x: SecretTensor, dim: int, finer: int) -> Any:
    """softmax so many times finer than the encoding, to be multiplied before it is settled."""
    return _softmax(x, dim, False, finer)


@implements(aten._softmax.default)
def softmax(x: SecretTensor, dim: int, half_to_float: bool = False) -> Any:
    """e^(x - log sum e^x) to 1.2 steps, for every x and rows of up to 2^13 values.

    Rounds of a maximum, and 13; nine in all where a public bound says that x is small.  Beside the maximum 36.3
    bytes an element and peer, 473 dealt; for a row of ten 40 more, 205 dealt.
    """
    _refuse_half(half_to_float)
    return _of_masked(x, dim, False) if is_infinite(x) else _softmax(x, dim, False)


@implements(aten._safe_softmax.default)
def safe_softmax(x: SecretTensor, dim: int, dtype: torch.dtype | None = None) -> Any:
    """As `softmax`; 0 where a public mask has left nothing of a row."""
    return _of_dtype(_of_masked(x, dim, True) if is_infinite(x) else softmax(x, dim), dtype)


@implements(aten._log_softmax.default)
def log_softmax(x: SecretTensor, dim: int, half_to_float: bool = False) -> Any:
    """x - log sum e^x to 1.2 steps, for every x.  Rounds of a maximum, and 12."""
    _refuse_half(half_to_float)
    return _softmax(x, dim, True)


@implements(aten._softmax_backward_data.default)
def softmax_backward(grad: Any, out: SecretTensor, dim: int, input_dtype: torch.dtype | None = None) -> Any:
    """out * (grad - sum of grad * out): two products."""
    if out.dim() == 0:
        return torch.zeros_like(out)
    inner = torch.sum(mul(grad, out), dim, keepdim=True)
    return _of_dtype(mul(out, sub(grad, inner)), input_dtype)


@implements(aten._log_softmax_backward_data.default)
def log_softmax_backward(grad: Any, out: SecretTensor, dim: int, input_dtype: torch.dtype | None = None) -> Any:
    """grad - softmax * (sum of grad), softmax from what the forward pass found: two rounds and a product.

    e^out where `out` is not the very result of `log_softmax`.
    """
    if out.dim() == 0:
        return torch.zeros_like(out)
    found: Any = source_of(out.window(), "log_softmax")
    if found is None:
        soft = exp(out)
    else:
        q, rows = found
        soft = rows.back(protocols.softmax(out.session.suite, out.session.party, q, out.unit.scale))
    return _of_dtype(sub(grad, mul(soft, torch.sum(grad, dim, keepdim=True))), input_dtype)


@implements(aten.logsumexp.default)
def logsumexp(x: SecretTensor, dim: Any, keepdim: bool = False) -> Any:
    """log of the sum of e^x over dimensions, to 1.2 steps.  Rounds of a maximum, and 12."""
    if x.dim() == 0:
        return logsumexp(x.reshape(1), 0).reshape(())
    x = argument(x, "logsumexp")
    over = dims(dim, x.dim())
    rest = [d for d in range(x.dim()) if d not in over]
    sizes = [x.shape[d] for d in rest]
    if not x.numel():
        if all(sizes):
            raise EncodingError("logsumexp over no values is minus infinity, which no secret is")
        return torch.zeros_like(x).sum(over, keepdim)
    together: Any = x.permute(*rest, *over).reshape(*sizes, -1)
    rows = _Rows(together, len(rest))
    session = x.session
    log_sum = rows.back(protocols.log_of_sum(session.suite, session.party, rows.quotients, rows.z.scale))
    out = (log_sum if rows.largest is None else add(log_sum, rows.largest)).reshape(sizes)
    if keepdim:
        for d in over:
            out = out.unsqueeze(d)
    return out
