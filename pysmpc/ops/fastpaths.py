"""Torch's one-operation forms of attention and transformer layers, which it takes in evaluation without gradients.

For secrets they are what the layers compute elsewhere: the same functions of torch, on the same weights.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as functional

from pysmpc.ops.composites import with_weights
from pysmpc.ops.core import aten
from pysmpc.ops.decompositions import composes
from pysmpc.ops.gates import prepare

#: Kinds of masks, as torch numbers them: of pairs of positions, of keys, or what was merged of both.
PAIRS, KEYS, MERGED = 0, 1, 2


def _masks(mask: Any, kind: int | None, heads: int) -> Any:
    """A mask as scaled_dot_product_attention takes it: True or a number for each pair that counts."""
    if mask is None:
        return None
    kind = MERGED if kind is None else kind
    if kind == KEYS:
        mask = mask[:, None, None, :]
    elif mask.dim() == 3:
        mask = mask.reshape(-1, heads, *mask.shape[1:])
    return mask.logical_not() if mask.dtype == torch.bool else mask


def _attend(
    query: Any, key: Any, value: Any, heads: int, weight: Any, bias: Any, out_weight: Any, out_bias: Any, mask: Any,
    kind: int | None, weights: bool = False,
) -> tuple[Any, Any]:  # fmt: skip
    """Attention of [batch, positions, features], with the projections of one matrix; and its weights, if wanted."""
    if query is key and key is value:
        q, k, v = functional.linear(query, weight, bias).chunk(3, -1)
    else:
        biases = [None] * 3 if bias is None else bias.chunk(3)
        prepare(query, key, value, *weight.chunk(3))
        given = zip((query, key, value), weight.chunk(3), biases, strict=True)
        q, k, v = (functional.linear(x, w, b) for x, w, b in given)
    parts = [x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in (q, k, v)]
    found, mask = None, _masks(mask, kind, heads)
    if weights:
        out, found = with_weights(parts[0], parts[1], parts[2], mask)
    else:
        out = aten._scaled_dot_product_flash_attention_for_cpu.default(*parts, attn_mask=mask)[0]
    return functional.linear(out.transpose(1, 2).flatten(2), out_weight, out_bias), found


@composes(aten._native_multi_head_attention.default)
def multi_head_attention(
    query: Any, key: Any, value: Any, embed_dim: int, num_head: int, qkv_weight: Any, qkv_bias: Any, proj_weight: Any,
    proj_bias: Any, mask: Any = None, need_weights: bool = True, average_attn_weights: bool = True,
    mask_type: int | None = None,
) -> tuple[Any, Any]:  # fmt: skip
    """What nn.MultiheadAttention computes in evaluation."""
    weights = qkv_weight, qkv_bias, proj_weight, proj_bias
    out, found = _attend(query, key, value, num_head, *weights, mask, mask_type, need_weights)
    if found is None:
        return out, torch.empty(0)
    return out, found.mean(1) if average_attn_weights else found


@composes(aten._transformer_encoder_layer_fwd.default)
def encoder_layer(
    src: Any, embed_dim: int, num_heads: int, qkv_weight: Any, qkv_bias: Any, proj_weight: Any, proj_bias: Any,
    use_gelu: bool, norm_first: bool, eps: float, norm_weight_1: Any, norm_bias_1: Any, norm_weight_2: Any,
    norm_bias_2: Any, ffn_weight_1: Any, ffn_bias_1: Any, ffn_weight_2: Any, ffn_bias_2: Any, mask: Any = None,
    mask_type: int | None = None,
) -> Any:  # fmt: skip
    """What nn.TransformerEncoderLayer computes in evaluation."""

    def attended(x: Any) -> Any:
        weights = qkv_weight, qkv_bias, proj_weight, proj_bias
        return _attend(x, x, x, num_heads, *weights, mask, mask_type)[0]

    def fed(x: Any) -> Any:
        inner = functional.linear(x, ffn_weight_1, ffn_bias_1)
        inner = functional.gelu(inner) if use_gelu else functional.relu(inner)
        return functional.linear(inner, ffn_weight_2, ffn_bias_2)

    def normal(x: Any, weight: Any, bias: Any) -> Any:
        return functional.layer_norm(x, (embed_dim,), weight, bias, eps)

    first, second = (norm_weight_1, norm_bias_1), (norm_weight_2, norm_bias_2)
    if norm_first:
        src = src + attended(normal(src, *first))
        return src + fed(normal(src, *second))
    src = normal(src + attended(src), *first)
    return normal(src + fed(src), *second)


@composes(aten._nested_tensor_from_mask_left_aligned.default)
def left_aligned(x: Any, mask: Any) -> bool:
    """No: secrets have no nested tensors, and torch then keeps the padding."""
    return False
