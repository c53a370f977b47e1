"""The mean of models, as `federated_avg` of PySyft's `syft.frameworks.torch.fl.utils`."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence

import torch
from torch import nn

from pysmpc.compat.pysyft.pointers import RemoteTensor


def fed_avg(models: Mapping[str, nn.Module] | Sequence[nn.Module], weights: Sequence[float] | None = None) -> nn.Module:
    """A model whose parameters and real buffers are the mean of those of the models, which stay as they are.

    models: plain or secret ones of the same parties, by worker or in a row.  weights: one for each, such as its number
    of rows; equal where there are none.  Buffers of whole numbers are those of the first.  Raises ValueError for models
    that differ in names or shapes, and for models that are still at workers.
    """
    found = list(models.values()) if isinstance(models, Mapping) else list(models)
    if not found:
        raise ValueError("there is no mean of no models")
    parts = [1.0] * len(found) if weights is None else [float(each) for each in weights]
    if len(parts) != len(found) or not sum(parts) > 0 or min(parts) < 0:
        raise ValueError(f"weights are {len(found)} numbers from 0 on, one for each model, and not all 0; got {parts}")
    states = [_state(model) for model in found]
    shapes = [{name: tuple(value.shape) for name, value in state.items()} for state in states]
    for place, each in enumerate(shapes):
        if different := [name for name in {**each, **shapes[0]} if each.get(name) != shapes[0].get(name)]:
            raise ValueError(f"model {place} has no mean with model 0: they differ in {', '.join(sorted(different))}")
    out = copy.deepcopy(found[0])
    whole = sum(parts)
    with torch.no_grad():
        for name, value in _state(out).items():
            if value.is_floating_point():
                terms = [state[name].detach() * (part / whole) for state, part in zip(states, parts, strict=True)]
                value.copy_(sum(terms[1:], terms[0]))
    return out


def _state(model: nn.Module) -> dict[str, torch.Tensor]:
    state = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    if away := [name for name, value in state.items() if isinstance(value, RemoteTensor)]:
        raise ValueError(f"{away[0]} is at a worker: .get() the model, or .move() it, before it is averaged")
    return state
