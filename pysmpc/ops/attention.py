"""Attention: softmax(q k^T scale + mask) v, and its gradients.

Torch sends one operation for it, of which it saves the result and a logarithm.  The weights, or what gives them, are
remembered with the result, so that the gradients take products alone.

The rounds of the default protocol are those of a maximum, and thirteen: fewer than those of softmax and two products.
Queries, keys and values are divided out in one round, queries by sqrt E, too; scores are compared and raised to powers
as fine as they are; and the product with v is made of the powers before their sum is inverted
(`pysmpc.mpc.functions.attention_scores`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch

from pysmpc.mpc.functions.attention_scores import Means, means, powers, takes
from pysmpc.mpc.functions.known_values import note_source, source_of
from pysmpc.ops.arithmetic import number
from pysmpc.ops.core import FACTOR, aten, rescale, result
from pysmpc.ops.dropout import LIBRARY
from pysmpc.ops.functions.softmaxes import fine_softmax
from pysmpc.ops.infinite import LOWEST
from pysmpc.ops.registering import implements
from pysmpc.ops.tournament import tournament
from pysmpc.ring.fixedpoint import encode
from pysmpc.ring.shares import Share
from pysmpc.tensor.secret import SecretTensor
from pysmpc.tensor.secret_errors import not_implemented

#: How much finer than the encoding is what is multiplied with weights: sums over keys, not yet divided, are below 2^18.
FINE = 1 << 4

#: The same of queries and keys, whose products are below 2^18: a score of 10^4 is as exact as its exponential.
SCORED = 1 << 6

#: The same of weights, which are at most 1, and of what is subtracted from their gradients.
WEIGHTS, ALONG = FACTOR, 1 << 6

#: Binary digits that a divisor has which is no power of two, and the scale that a dividend is brought to for that.
DIGITS, DIVIDEND = 20, 44

#: What numbers of a mask count at most, with either sign: e to the power of what is so far below the largest is 0.
LARGE = 2.0**13

#: Digits that scores are finer by at most where their factor is small: masked ones have room then.
MOST_NEAR = 3

#: Keys whose powers have room for their sum.
MOST_KEYS = 1 << 13

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
    folded, mask = _folded(q, k.shape[-3]), _group_mask(q, k, mask, causal)
    weights: Any
    if _is_fused(folded, k, v, mask):
        out = _fused(folded, k, v, mask, False, _scale(q, scale))
        weights = source_of(out.window(), "attention")
    else:
        weights = _weights(folded, k, mask, False, scale)
        out = torch.matmul(weights, _fine(v))
    shaped = out.unflatten(-2, (-1, q.shape[-2])).flatten(-4, -3)
    if isinstance(shaped, SecretTensor):
        note_source(shaped.window(), "attention", weights)
    return shaped


class _Later:
    """Weights that are made when the gradients ask for them."""

    def __init__(self, means: Means, like: SecretTensor, shape: Sequence[int], some: torch.Tensor | None) -> None:
        self._means, self._shape, self._some = means, tuple(shape), some
        self._session, self._unit, self._dtype = like.session, like.unit, like.dtype

    def weights(self) -> Any:
        """softmax of the scores, 0 in rows without any.  Two rounds."""
        share = self._means.weights(self._session.party)
        found: Any = result(Share(share.body, self._shape, share.scale), self._session, self._unit, self._dtype)
        return found if self._some is None else found * self._some


def _divided(x: SecretTensor, factor: float, finer: int) -> tuple[Share, int, int]:
    """(A share, a divisor, a scale): the share over the divisor is factor * x at that scale, a power of two.

    finer: at most so many times as fine as the encoding, and, for a factor that is small, as many times more.
    """
    share, scale = x.window(), x.unit.scale * finer
    exact = number(factor)  # in integers from here on: all parties find the same
    near = 1 << min(MOST_NEAR, max(0, int(1 / exact**2).bit_length() // 2))
    if share.scale & (share.scale - 1) == 0 and exact * near == 1 and share.scale <= scale:
        return share.at(share.scale * near), 1, share.scale * near
    scale *= near
    ratio = share.scale / (scale * exact)
    up = 1
    while ratio * up < 1 << DIGITS and (ratio * up).denominator > 1 and share.scale * up < 1 << DIVIDEND:
        up *= 2
    if up > 1:
        share = x.session.arithmetic.scale_by(x.session.party, share, up).at(share.scale * up)
    return share, round(ratio * up), scale


def _in_one_round(q: Any, k: Any, v: Any, by: float) -> list[Share]:
    """q times a factor, k and v, as fine as products take them.  One round, or none."""
    session = q.session
    parts = [_divided(q, by, SCORED), _divided(k, 1.0, SCORED), _divided(v, 1.0, FINE)]
    dividends = [(share, divisor) for share, divisor, _ in parts if divisor > 1]
    found = iter(session.arithmetic.truncate_all(session.party, dividends) if dividends else ())
    return [(next(found) if divisor > 1 else share).at(scale) for share, divisor, scale in parts]


def _is_fused(q: Any, k: Any, v: Any, mask: Any) -> bool:
    """Whether the short way is taken: for secrets of one session with binary fractions, in suites that have it."""
    if isinstance(mask, SecretTensor):
        return False
    if mask is not None and mask.dtype != torch.bool and mask.numel() and float(mask.max()) > LARGE:
        return False
    if not all(isinstance(x, SecretTensor) and x.numel() and x.dim() >= 2 for x in (q, k, v)):
        return False
    session, units = q.session, {x.unit.scale for x in (q, k, v)}
    if session.plain or k.session is not session or v.session is not session or len(units) > 1:
        return False
    if session.suite.scaled_thresholds is None or session.suite.narrow is not None:
        return False
    [unit] = units
    alike = q.shape[:-2] == k.shape[:-2] == v.shape[:-2] and 1 < k.shape[-2] <= MOST_KEYS
    short = k.cell.bound is not None and q.cell.bound is not None  # no maximum may be needed
    return alike and not short and (unit * SCORED) ** 2 <= 1 << DIVIDEND and takes((unit * SCORED) ** 2)


def _fused(q: Any, k: Any, v: Any, mask: Any, causal: bool, by: float) -> Any:
    """softmax(q k^T by + mask) v, whose weights are remembered as what gives them."""
    session, party = q.session, q.session.party
    arithmetic, suite = session.arithmetic, session.suite
    a, b, c = _in_one_round(q, k, v, by)
    kept, added = _kept(q, k, mask, causal)
    swapped = Share(b.body, (*b.shape[:-2], b.shape[-1], b.shape[-2]), b.scale,
                    (*b.strides[:-2], b.strides[-1], b.strides[-2]), b.offset)  # fmt: skip
    scores = result(arithmetic.matmul(party, a, swapped), session, q.unit, q.dtype)
    if added is not None:
        scores = _with_mask(scores, added)
    some = None
    if kept is not None:
        scores = _kept_scores(scores, kept)
        some = kept.any(-1, keepdim=True)
        some = None if bool(some.all()) else some.to(torch.int64)
    # the largest of each row
    *batch, length, n = scores.shape
    rows = math.prod(batch) * length
    flat = Share.of(scores.window().words(), (rows, n), scores.cell.scale)
    columns = Share.of(Share(flat.body, (n, rows), 1, (1, n)).words(), (n, rows), flat.scale)
    largest, _, _ = tournament(session, columns)
    z = arithmetic.sub(party, flat, Share(largest.body, (rows, n), largest.scale, (1, 0)))
    p = powers(suite, party, z)
    p = Share(p.body, (*batch, length, n), p.scale)

    def divided(product: Share, divisor: int) -> None:
        if session.checks is not None:
            session.checks.truncation(product, divisor)

    found, how = means(suite, party, p, c, arithmetic.matmul, divided)
    out: Any = result(found, session, q.unit, q.dtype)
    if some is not None:
        out = out * some
    note_source(out.window(), "attention", _Later(how, q, scores.shape, some))
    return out


def _kept_scores(scores: SecretTensor, kept: torch.Tensor) -> SecretTensor:
    """Scores, and MASKED where a pair does not count: at their own scale."""
    session, shape = scores.session, tuple(torch.broadcast_shapes(scores.shape, kept.shape))
    there = kept.expand(shape).to(torch.int64).contiguous()
    share = session.arithmetic.mul_public(session.party, scores.window().expand(shape), there, 1)
    lowest = (1 - there) * round(MASKED * scores.cell.scale)
    rest = session.arithmetic.public(session.party, lowest, share.scale)
    return result(session.arithmetic.add(session.party, share, rest), session, scores.unit, scores.dtype)


def _with_mask(scores: SecretTensor, added: torch.Tensor) -> SecretTensor:
    """Scores and a public mask of numbers, at the scale of scores."""
    session, scale = scores.session, scores.cell.scale
    values = encode(added.detach().double().clamp(min=-LARGE), scores.unit)
    shape = torch.broadcast_shapes(scores.shape, added.shape)
    words = (values * (scale // scores.unit.scale)).expand(shape).contiguous()
    mask = session.arithmetic.public(session.party, words, scale)
    share = session.arithmetic.add(session.party, scores.window().expand(shape), mask)
    return result(share, session, scores.unit, scores.dtype)


def _remembered(out: Any) -> Any:
    """The weights of which a result is, where they are known."""
    found: Any = source_of(out.window(), "attention") if isinstance(out, SecretTensor) else None
    return found.weights() if isinstance(found, _Later) else found


@implements(aten._scaled_dot_product_flash_attention_for_cpu.default)
def attention(
    q: Any, k: Any, v: Any, dropout: float = 0.0, causal: bool = False, *, attn_mask: Any = None,
    scale: float | None = None,
) -> tuple[Any, torch.Tensor]:  # fmt: skip
    """softmax(q k^T scale + mask) v to a few steps; and an empty buffer.

    For q k^T below 2^18, and results below 2^18 / keys.  Where pairs are masked, for scores above -2048.

    Rounds of a maximum and thirteen, of scores that were not divided out; of suites without
    `Suite.scaled_thresholds` and for decimal fractions those of two products of matrices and of `softmax`.
    """
    _check(dropout)
    if q.dim() > 2 and q.shape[-3] != k.shape[-3]:
        return _grouped(q, k, v, causal, attn_mask, scale), torch.empty(0)
    if _is_fused(q, k, v, attn_mask):
        return _fused(q, k, v, attn_mask, causal, _scale(q, scale)), torch.empty(0)
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
    weights = _remembered(out)
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
