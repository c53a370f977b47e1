"""Attention: softmax(q k^T scale + mask) v, and its gradients.

Torch sends one operation for it, of which it saves the result and a logarithm.  The weights are
remembered with the result, so that the gradients take products alone.
"""

from __future__ import annotations

import math
from typing import Any

import torch

from pysmpc.ops.arithmetic import number
from pysmpc.ops.core import FACTOR, aten, implements, rescale, result
from pysmpc.ops.dropout import LIBRARY
from pysmpc.ops.functions.softmaxes import fine_softmax
from pysmpc.ops.infinite import LOWEST
from pysmpc.protocols.functions.smooth import note_source, source_of
from pysmpc.tensor import SecretTensor, not_implemented

#: How much finer than the encoding is what is multiplied with weights: results are below 2^18.
FINE = 1 << 4

#: The same of queries and keys, whose products are below 2^18: a score of 10^4 is as exact as its exponential.
SCORED = 1 << 6

#: The same of weights, which are at most 1, and of what is subtracted from their gradients.
WEIGHTS, ALONG = FACTOR, 1 << 6

#: What a pair that is masked scores: e^-2048 of any score above -2048 is 0.
MASKED = -4096.0


def _kept(q: Any, k: Any, mask: Any, causal: bool) -> tuple[torch.Tensor | None, Any]:
    """(which pairs count, None for all; what is added to their scores)."""
    kept = None
    if causal:
        kept = torch.ones(q.shape[-2], k.shape[-2], dtype=torch.bool).tril()
    if mask is None or isinstance(mask, SecretTensor):
        return kept, mask
    if mask.dtype == torch.bool:
        return mask if kept is None else kept & mask, None
    finite = mask >= LOWEST
    if not bool(finite.all()):
        kept = finite if kept is None else kept & finite
    mask = torch.where(finite, mask, 0)
    return kept, mask if bool(mask.any()) else None


def _fine(x: Any, finer: int = FINE) -> Any:
    """x at most so many times as fine as its encoding."""
    if not isinstance(x, SecretTensor) or x.cell.scale <= x.unit.scale * finer:
        return x
    scale = x.unit.scale * finer
    if x.cell.scale % scale:
        x.cell.settle()
        return x
    share = x.session.arithmetic.truncate(x.session.party, x.window(), x.cell.scale // scale)
    return result(share.at(scale), x.session, x.unit, x.dtype)


LIBRARY.define("finely(Tensor x) -> Tensor")


@implements(torch.ops.pysmpc.finely.default)
def finely(x: SecretTensor) -> SecretTensor:
    """x, 16 times as fine as its encoding where it is finer still: one round, or none."""
    out = _fine(x)
    return SecretTensor(out.cell, out.size(), out.stride(), out.storage_offset(), out.dtype)


def _scaled(x: Any, factor: float) -> Any:
    """factor * x, 16 times as fine as the encoding: one truncation, by a divisor of many digits."""
    if not isinstance(x, SecretTensor):
        return x * factor
    session, scale = x.session, x.unit.scale * FINE
    share = x.window()
    up = max(1, scale * scale // share.scale)
    if up > 1:
        share = session.arithmetic.scale_by(session.party, share, up).at(share.scale * up)
    out = session.arithmetic.truncate(session.party, share, round(share.scale / (scale * number(factor))))
    return result(out.at(scale), session, x.unit, x.dtype)


def _sum(x: Any, y: Any, sign: int) -> Any:
    """x + sign * y, as fine as the finer one of them: what cancels must not be rounded before."""
    if not isinstance(x, SecretTensor) or not isinstance(y, SecretTensor):
        return x + sign * y
    session, scale = x.session, max(x.cell.scale, y.cell.scale)
    a, b = (rescale(session, each.window(), scale) for each in (x, y))
    combine = session.arithmetic.add if sign > 0 else session.arithmetic.sub
    return result(combine(session.party, a, b), session, x.unit, x.dtype)


def _weights(q: Any, k: Any, mask: Any, causal: bool, scale: float | None) -> Any:
    """softmax over the keys; 0 where every key is masked."""
    kept, added = _kept(q, k, mask, causal)
    scores = _scaled(torch.matmul(_fine(q, SCORED), _fine(k, SCORED).transpose(-2, -1)), _scale(q, scale))
    if added is not None:
        scores = scores + added
    softmax: Any = _softmax if isinstance(scores, SecretTensor) else torch.softmax
    if kept is None:
        return softmax(scores, -1)
    weights = softmax(torch.where(kept, scores, torch.tensor(MASKED, dtype=q.dtype)), -1)
    some = kept.any(-1, keepdim=True)
    return weights if bool(some.all()) else weights * some.to(q.dtype)


def _softmax(scores: SecretTensor, dim: int) -> Any:
    return fine_softmax(scores, dim, WEIGHTS)


def _scale(q: Any, scale: float | None) -> float:
    return 1 / math.sqrt(q.shape[-1]) if scale is None else scale


def _check(dropout: float) -> None:
    if dropout:
        raise not_implemented(
            aten._scaled_dot_product_flash_attention_for_cpu.default,
            "dropout within attention would show everybody what was drawn; use dropout_p=0",
        )


def _folded(x: Any, heads: int) -> Any:
    """Heads of queries that share keys, one below the other: [..., heads, group * positions, features]."""
    return x.unflatten(-3, (heads, -1)).flatten(-3, -2)


def _group_mask(q: Any, k: Any, mask: Any, causal: bool) -> Any:
    """The mask for queries that were folded; a causal one becomes a mask like others."""
    group, length = q.shape[-3] // k.shape[-3], q.shape[-2]
    if causal:
        kept = torch.ones(length, k.shape[-2], dtype=torch.bool).tril()
        if mask is None:
            mask = kept
        elif mask.dtype == torch.bool:
            mask = mask & kept
        else:
            mask = mask + torch.zeros(kept.shape, dtype=mask.dtype).masked_fill(~kept, -math.inf)
    if mask is None:
        return None
    if mask.dim() > 2 and mask.shape[-3] > 1:
        return _folded(mask.expand(*mask.shape[:-2], length, k.shape[-2]), k.shape[-3])
    return torch.cat([mask.expand(*mask.shape[:-2], length, k.shape[-2])] * group, -2)


def _grouped(q: Any, k: Any, v: Any, causal: bool, mask: Any, scale: float | None) -> Any:
    """Attention in which several heads of queries share those of keys: as many queries of fewer heads."""
    weights = _weights(_folded(q, k.shape[-3]), k, _group_mask(q, k, mask, causal), False, scale)
    out = torch.matmul(weights, _fine(v))
    shaped = out.unflatten(-2, (-1, q.shape[-2])).flatten(-4, -3)
    if isinstance(shaped, SecretTensor):
        note_source(shaped.window(), "attention", weights)
    return shaped


@implements(aten._scaled_dot_product_flash_attention_for_cpu.default)
def attention(
    q: Any, k: Any, v: Any, dropout: float = 0.0, causal: bool = False, *, attn_mask: Any = None,
    scale: float | None = None,
) -> tuple[Any, torch.Tensor]:  # fmt: skip
    """softmax(q k^T scale + mask) v to a few steps, for results and q k^T below 2^18; an empty buffer.

    Where pairs are masked, for scores above -2048.

    Rounds of two products of matrices and of `softmax`.
    """
    _check(dropout)
    if q.dim() > 2 and q.shape[-3] != k.shape[-3]:
        return _grouped(q, k, v, causal, attn_mask, scale), torch.empty(0)
    weights = _weights(q, k, attn_mask, causal, scale)
    out = torch.matmul(weights, _fine(v))
    if isinstance(out, SecretTensor):
        note_source(out.window(), "attention", weights)
    return out, torch.empty(0)


@implements(aten._scaled_dot_product_flash_attention_for_cpu_backward.default)
def attention_backward(
    grad: Any, q: Any, k: Any, v: Any, out: Any, logsumexp: Any, dropout: float, causal: bool, *,
    attn_mask: Any = None, scale: float | None = None,
) -> tuple[Any, Any, Any]:  # fmt: skip
    """The gradients of q, k and v, from the weights of the forward pass: products alone."""
    _check(dropout)
    weights: Any = source_of(out.window(), "attention") if isinstance(out, SecretTensor) else None
    if q.dim() > 2 and q.shape[-3] != k.shape[-3]:
        heads, length = k.shape[-3], q.shape[-2]
        mask, q, grad = _group_mask(q, k, attn_mask, causal), _folded(q, heads), _folded(grad, heads)
        weights = _weights(q, k, mask, False, scale) if weights is None else weights
        of_q, of_k, of_v = _gradients(grad, q, k, v, weights, scale)
        return of_q.unflatten(-2, (-1, length)).flatten(-4, -3), of_k, of_v
    if weights is None:
        weights = _weights(q, k, attn_mask, causal, scale)
    return _gradients(grad, q, k, v, weights, scale)


def _gradients(grad: Any, q: Any, k: Any, v: Any, weights: Any, scale: float | None) -> tuple[Any, Any, Any]:
    by = _scale(q, scale)
    of_weights = _fine(torch.matmul(_fine(grad), _fine(v).transpose(-2, -1)))
    part = of_weights * weights
    # where one weight is nearly 1, what is left must be free of the rounding of weights: divide by their sum
    along = part.sum(-1, keepdim=True)
    along = _sum(along, _fine(along) * (1 - weights.sum(-1, keepdim=True)), 1)
    of_scores = _fine(_sum(part, weights * _fine(along, ALONG), -1), FACTOR)
    return (
        torch.matmul(of_scores, _fine(k, 1)) * by,
        torch.matmul(of_scores.transpose(-2, -1), _fine(q, 1)) * by,
        torch.matmul(weights.transpose(-2, -1), _fine(grad)),
    )
