"""What each kind of layer contributes to the gradient of one example: its squared norm, and the weighted sum.

A rule reads what a layer was given (`x`, batch first) and the gradient of the loss with respect to what it returned
(`b`), as "ghost clipping" and "book-keeping" do (Li, Tramer, Liang, Hashimoto 2022; Bu, Wang, Zha, Karypis 2023).
`squares` gives the squared norm of each example's gradient as a sum of terms; `gradients` the sum over the examples of
what each contributes, where `b` was multiplied by each example's factor before.

A linear layer on vectors needs no example's gradient: |b x^T|^2 = |b|^2 |x|^2.  Where a layer uses its weights at many
positions (convolutions, linear layers on sequences), each example's gradient of that layer is formed, one layer at a
time, to be squared.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from pysmpc.errors import PrivacyError
from pysmpc.tensor.secret import SecretTensor

Tensor = torch.Tensor


@dataclass(frozen=True)
class Squares:
    """Of one layer, for each example: `first` times `second`, or `first` alone.

    size: `first / size` and `second * size` are what a mean of squares and a squared gradient usually are.
    """

    first: Tensor
    second: Tensor | None = None
    size: float = 1.0


@dataclass(frozen=True)
class Rule:
    """run(layer, x): (what the layer returns, what `squares` and `gradients` are told as x)."""

    run: Callable[[Any, Tensor], tuple[Tensor, Any]]
    squares: Callable[[Any, Any, Tensor], Squares]
    gradients: Callable[[Any, Any, Tensor], dict[str, Tensor]]
    check: Callable[[Any], str | None] = lambda layer: None  # why a layer of this kind is refused


RULES: dict[type[nn.Module], Rule] = {}


def _frozen(layer: nn.Module, x: Tensor) -> tuple[Tensor, Any]:
    """The layer with parameters outside of the graph."""
    parameters = {name: p.detach() for name, p in layer.named_parameters(recurse=False)}
    # the class's own forward: that of this object is the one that was replaced
    return type(layer).forward(_With(layer, parameters), x), x


class _With:
    """A layer whose parameters are others."""

    def __init__(self, layer: nn.Module, parameters: dict[str, Tensor]) -> None:
        self._layer, self._parameters = layer, parameters

    def __getattr__(self, name: str) -> Any:
        return self._parameters[name] if name in self._parameters else getattr(self._layer, name)


def _rows(x: Tensor) -> Tensor:
    """[batch, positions, features]."""
    return x.reshape(x.shape[0], -1, x.shape[-1])


def _sum_of_squares(x: Tensor) -> Tensor:
    return x.reshape(x.shape[0], -1).square().sum(1)


# --- linear -------------------------------------------------------------------------


def _linear_squares(layer: nn.Linear, x: Tensor, b: Tensor) -> Squares:
    if x.dim() == 2:
        given = _sum_of_squares(x)
        size = layer.in_features
        if layer.bias is not None:
            given, size = given + 1, size + 1
        return Squares(given, _sum_of_squares(b), size)
    found = _sum_of_squares(_rows(b).transpose(1, 2) @ _rows(x))
    if layer.bias is not None:
        found = found + _sum_of_squares(_rows(b).sum(1))
    return Squares(found)


def _linear_gradients(layer: nn.Linear, x: Tensor, b: Tensor) -> dict[str, Tensor]:
    b2, x2 = b.reshape(-1, b.shape[-1]), x.reshape(-1, x.shape[-1])
    found = {"weight": b2.t() @ x2}
    if layer.bias is not None:
        found["bias"] = b2.sum(0)
    return found


RULES[nn.Linear] = Rule(_frozen, _linear_squares, _linear_gradients)


# --- convolutions -------------------------------------------------------------------


def _check_convolution(layer: Any) -> str | None:
    if layer.groups != 1:
        return "it has groups; use groups=1"
    if isinstance(layer.padding, str) or layer.padding_mode != "zeros":
        return "give its padding as numbers, with padding_mode='zeros'"
    return None


def _patches(layer: Any, x: Tensor) -> Tensor:
    """[batch, features of a patch, positions]."""
    flat = layer.weight.dim() == 3

    def two(value: Any, first: int) -> tuple[int, int]:
        return (first, value[0]) if flat else (value[0], value[1])

    return F.unfold(
        x.unsqueeze(2) if flat else x,
        two(layer.kernel_size, 1),
        dilation=two(layer.dilation, 1),
        padding=two(layer.padding, 0),
        stride=two(layer.stride, 1),
    )


def _convolution_squares(layer: Any, x: Tensor, b: Tensor) -> Squares:
    flat = b.reshape(b.shape[0], b.shape[1], -1)
    found = _sum_of_squares(flat @ _patches(layer, x).transpose(1, 2))
    if layer.bias is not None:
        found = found + _sum_of_squares(flat.sum(2))
    return Squares(found)


def _convolution_gradients(layer: Any, x: Tensor, b: Tensor) -> dict[str, Tensor]:
    _, weight, bias = torch.ops.aten.convolution_backward(
        b, x, layer.weight.detach(), [layer.out_channels] if layer.bias is not None else None,
        list(layer.stride), list(layer.padding), list(layer.dilation), False, [0] * len(layer.padding), 1,
        [False, True, layer.bias is not None],
    )  # fmt: skip
    return {"weight": weight} | ({"bias": bias} if layer.bias is not None else {})


RULES[nn.Conv1d] = RULES[nn.Conv2d] = Rule(_frozen, _convolution_squares, _convolution_gradients, _check_convolution)


# --- embeddings ---------------------------------------------------------------------


def _check_embedding(layer: nn.Embedding) -> str | None:
    if layer.max_norm is not None or layer.scale_grad_by_freq or layer.sparse:
        return "leave out max_norm, scale_grad_by_freq and sparse"
    return None


def _embed(layer: nn.Embedding, x: Tensor) -> tuple[Tensor, Any]:
    if isinstance(x, SecretTensor):
        raise PrivacyError(
            "an embedding of secret indices has no clipping rule: use nn.Linear(n, width, bias=False) on a secret "
            "one-hot encoding"
        )
    return _frozen(layer, x)


def _used(layer: nn.Embedding, x: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Indices [batch, positions], and b [batch, positions, width], 0 at what is padding."""
    x, b = x.reshape(x.shape[0], -1), _rows(b)
    if layer.padding_idx is not None:
        b = b * (x != layer.padding_idx).to(b.dtype).unsqueeze(2)
    return x, b


def _embedding_squares(layer: nn.Embedding, x: Tensor, b: Tensor) -> Squares:
    x, b = _used(layer, x, b)
    alike = (x.unsqueeze(1) == x.unsqueeze(2)).to(b.dtype)
    return Squares(((b @ b.transpose(1, 2)) * alike).sum((1, 2)))


def _embedding_gradients(layer: nn.Embedding, x: Tensor, b: Tensor) -> dict[str, Tensor]:
    x, b = _used(layer, x, b)
    one_hot = F.one_hot(x.reshape(-1), layer.num_embeddings).to(b.dtype)
    return {"weight": one_hot.t() @ b.reshape(-1, b.shape[-1])}


RULES[nn.Embedding] = Rule(_embed, _embedding_squares, _embedding_gradients, _check_embedding)


# --- normalisations within an example ----------------------------------------------


def _layer_norm(layer: nn.LayerNorm, x: Tensor) -> tuple[Tensor, Any]:
    normal = F.layer_norm(x, layer.normalized_shape, None, None, layer.eps)
    out = normal * layer.weight.detach()
    return (out if layer.bias is None else out + layer.bias.detach()), normal


def _group_norm(layer: nn.GroupNorm, x: Tensor) -> tuple[Tensor, Any]:
    normal = F.group_norm(x, layer.num_groups, None, None, layer.eps)
    shape = (1, -1, *[1] * (x.dim() - 2))
    return normal * layer.weight.detach().reshape(shape) + layer.bias.detach().reshape(shape), normal


def _each(layer: Any, normal: Tensor, b: Tensor) -> dict[str, Tensor]:
    """The gradient of each example, [batch, ...]."""

    def summed(x: Tensor) -> Tensor:
        if isinstance(layer, nn.GroupNorm):
            return x.reshape(x.shape[0], x.shape[1], -1).sum(2)
        return x.reshape(x.shape[0], -1, math.prod(layer.normalized_shape)).sum(1)

    found = {"weight": summed(b * normal)}
    if layer.bias is not None:
        found["bias"] = summed(b)
    return found


def _norm_squares(layer: Any, normal: Tensor, b: Tensor) -> Squares:
    return Squares(_sum_of_squares(torch.cat(list(_each(layer, normal, b).values()), 1)))


def _norm_gradients(layer: Any, normal: Tensor, b: Tensor) -> dict[str, Tensor]:
    each = _each(layer, normal, b)
    return {name: x.sum(0).reshape(getattr(layer, name).shape) for name, x in each.items()}


RULES[nn.LayerNorm] = Rule(_layer_norm, _norm_squares, _norm_gradients)
RULES[nn.GroupNorm] = Rule(_group_norm, _norm_squares, _norm_gradients)


# --- which layers of a model --------------------------------------------------------

_INSTEAD = {
    "BatchNorm": "it mixes the examples of a batch; use nn.GroupNorm or nn.LayerNorm",
    "InstanceNorm": "use nn.GroupNorm with a group for each channel",
    "Conv": "only nn.Conv1d and nn.Conv2d have a rule",
    "MultiheadAttention": "freeze it, or build it of nn.Linear layers",
}


def trained(model: nn.Module) -> dict[str, tuple[nn.Module, Rule]]:
    """The layers with trained parameters by name, and their rules.

    Raises PrivacyError that lists every layer which has no rule, and what to do about it.
    """
    found: dict[str, tuple[nn.Module, Rule]] = {}
    problems: list[str] = []
    owners: dict[int, str] = {}
    for name, layer in model.named_modules():
        kind = type(layer).__name__
        if isinstance(layer, nn.modules.batchnorm._BatchNorm) and layer.training:
            problems.append(f"'{name}' ({kind}): {_INSTEAD['BatchNorm']}, or freeze it in evaluation mode")
            continue
        own = [p for p in layer.parameters(recurse=False) if p.requires_grad]
        if not own:
            continue
        rule = RULES.get(type(layer))
        why = None
        if rule is None:
            why = next((text for part, text in _INSTEAD.items() if part in kind), None)
            why = why or "there is no clipping rule for it; freeze its parameters with requires_grad_(False)"
        elif len(own) < sum(1 for _ in layer.parameters(recurse=False)):
            why = "train all of its parameters, or none"
        elif shared := next((owners[id(p)] for p in own if id(p) in owners), None):
            why = f"it shares a parameter with '{shared}'"
        else:
            why = rule.check(layer)
        if why:
            problems.append(f"'{name}' ({kind}): {why}")
        else:
            assert rule is not None
            found[name] = layer, rule
            owners.update({id(p): name for p in own})
    if problems:
        raise PrivacyError("gradients of single examples cannot be clipped in this model:\n  " + "\n  ".join(problems))
    if not found:
        raise PrivacyError("this model has no trained parameter")
    return found
