"""Layers that gather at public positions: bags of embeddings, and windows that torch places at random."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from pysmpc.errors import RevealError
from pysmpc.mpc.functions.known_values import known_of
from pysmpc.ops.core import aten
from pysmpc.ops.decompositions import composes
from pysmpc.ops.registering import implements
from pysmpc.tensor.secret import SecretTensor
from pysmpc.tensor.secret_errors import not_implemented

SUM, MEAN, MAX = range(3)  # torch's numbers of what becomes of a bag


def _bag_of_each(indices: torch.Tensor, offsets: Any) -> torch.Tensor:
    if isinstance(indices, SecretTensor) or isinstance(offsets, SecretTensor):
        raise RevealError(
            "a bag of secret indices would show which rows of the weight are read; multiply counts by the weight: "
            "one_hot.sum(1) @ weight"
        )
    places = torch.arange(len(indices))
    return torch.searchsorted(offsets.to(torch.int64).contiguous(), places, right=True) - 1


def _refuse(mode: int, sparse: bool, by_frequency: bool) -> None:
    if mode == MAX:
        raise not_implemented(aten._embedding_bag.default, "bags are for mode='sum' and 'mean'")
    if sparse or by_frequency:
        raise not_implemented(
            aten._embedding_bag.default, "gradients are dense and whole; leave sparse and scale_grad_by_freq out"
        )


def embedding_bag(
    weight: Any, indices: Any, offsets: Any, scale_grad_by_freq: bool = False, mode: int = SUM, sparse: bool = False,
    per_sample_weights: Any = None, include_last_offset: bool = False, padding_idx: int = -1,
) -> tuple[Any, Any, Any, Any]:  # fmt: skip
    """Sums or means of rows of a secret weight at public indices.  No message, but for secret weights of rows."""
    _refuse(mode, sparse, scale_grad_by_freq)
    starts = offsets[:-1] if include_last_offset else offsets
    bags = _bag_of_each(indices, starts)
    there = torch.arange(len(indices)) if padding_idx < 0 else (indices != padding_idx).nonzero().reshape(-1)
    sizes = torch.bincount(bags[there], minlength=len(starts))
    rows = weight.index_select(0, indices[there])
    if per_sample_weights is not None:
        rows = rows * per_sample_weights[there].unsqueeze(1)
    out = torch.index_add(torch.zeros(len(starts), weight.shape[1], dtype=weight.dtype), 0, bags[there], rows)
    if mode == MEAN:
        out = out * (1 / sizes.clamp(min=1).to(torch.float64)).unsqueeze(1)
    return out.to(weight.dtype), bags, sizes, torch.empty(0, dtype=torch.int64)


composes(aten._embedding_bag.default, aten._embedding_bag_forward_only.default)(embedding_bag)


@composes(aten._embedding_bag_backward.default)
def embedding_bag_backward(
    grad: Any, indices: Any, offsets: Any, bags: Any, sizes: Any, places: Any, count: int, scale_grad_by_freq: bool,
    mode: int, sparse: bool, per_sample_weights: Any, padding_idx: int = -1,
) -> Any:  # fmt: skip
    """The gradient of the weight."""
    _refuse(mode, sparse, scale_grad_by_freq)
    factors = torch.ones(len(indices), dtype=torch.float64)
    if mode == MEAN:
        factors = factors / sizes[bags].clamp(min=1)
    there = torch.arange(len(indices)) if padding_idx < 0 else (indices != padding_idx).nonzero().reshape(-1)
    rows = grad.index_select(0, bags[there])
    if bool((factors != 1).any()):
        rows = rows * factors[there].unsqueeze(1)
    if per_sample_weights is not None:
        rows = rows * per_sample_weights[there].unsqueeze(1)
    return torch.index_add(torch.zeros(count, grad.shape[1], dtype=grad.dtype), 0, indices[there], rows.to(grad.dtype))


@composes(aten._embedding_bag_per_sample_weights_backward.default)
def embedding_bag_weights_backward(
    grad: Any, weight: Any, indices: Any, offsets: Any, bags: Any, mode: int, padding_idx: int = -1
) -> Any:
    """The gradient of the weights of rows."""
    found = (grad.index_select(0, bags) * weight.index_select(0, indices)).sum(1)
    return found if padding_idx < 0 else found * (indices != padding_idx).to(found.dtype)


# --- pools of windows that lie at random -------------------------------------------------


def _starts(samples: torch.Tensor, size: int, out: int, kernel: int) -> torch.Tensor:
    """Where the windows begin along a dimension, as torch computes it of public random samples: [..., out]."""
    last = torch.full((*samples.shape, 1), size - kernel)
    if out == 1:
        return last
    step = torch.tensor((size - kernel) / (out - 1), dtype=samples.dtype)
    sample = samples.unsqueeze(-1)
    found = ((torch.arange(out - 1, dtype=samples.dtype) + sample) * step).to(torch.int64)
    return torch.cat([found - (sample * step).to(torch.int64), last], -1)


def _elements(x: Any, kernel: Sequence[int], out: Sequence[int], samples: torch.Tensor) -> torch.Tensor:
    """[images, windows, elements of a window]: which elements of an image, counted in its order, are in each window."""
    dims = len(kernel)
    space = x.shape[-dims:]
    flat = samples.reshape(-1, dims)
    # of three dimensions the samples are in their order, of two the last dimension comes first
    order = range(dims) if dims == 3 else reversed(range(dims))
    along = [_starts(flat[:, place], space[d], out[d], kernel[d]) for d, place in enumerate(order)]
    found = torch.zeros((flat.shape[0], 1, 1), dtype=torch.int64)
    for d in range(dims):
        at = along[d].reshape(flat.shape[0], 1, out[d], 1, 1) + torch.arange(kernel[d])
        found = found.reshape(flat.shape[0], found.shape[1], 1, found.shape[2], 1) * space[d] + at
        found = found.reshape(flat.shape[0], found.shape[1] * out[d], found.shape[3] * kernel[d])
    return found


def _fractional(dims: int) -> None:
    forward, backward = (getattr(aten, f"fractional_max_pool{dims}d{end}").default for end in ("", "_backward"))

    @implements(forward)
    def pool(x: Any, kernel: Sequence[int], out: Sequence[int], samples: Any) -> tuple[Any, Any]:
        if isinstance(samples, SecretTensor):
            raise RevealError("secret random samples would show where the windows lie; draw public ones")
        elements = _elements(x, kernel, out, samples)
        lead = x.shape[:-dims]
        images = x.reshape(elements.shape[0], _size(x, dims))
        windows = images.gather(1, elements.flatten(1)).reshape(elements.shape)
        values, places = windows.max(-1)
        one = torch.ones((*places.shape, 1), dtype=torch.int64)
        chosen = torch.zeros(elements.shape, dtype=torch.int64).scatter(-1, places.unsqueeze(-1), one)
        positions: Any = (chosen * elements).sum(-1).reshape(*lead, *out)
        known_of(positions.cell.body).kept["windows"] = elements, places
        return values.reshape(*lead, *out), positions

    @implements(backward)
    def pool_backward(grad: Any, x: Any, kernel: Sequence[int], out: Sequence[int], positions: Any) -> Any:
        elements, places = known_of(positions.cell.body).kept["windows"]
        zeros = torch.zeros(elements.shape, dtype=grad.dtype)
        spread = zeros.scatter(-1, places.unsqueeze(-1), grad.reshape(places.shape).unsqueeze(-1))
        flat = spread.flatten(1)
        images = torch.zeros(elements.shape[0], _size(x, dims), dtype=grad.dtype)
        return torch.scatter_add(images, 1, elements.flatten(1), flat).reshape(x.shape)


def _size(x: Any, dims: int) -> int:
    return int(torch.Size(x.shape[-dims:]).numel())


for _dims in (2, 3):
    _fractional(_dims)
