"""Packed sequences: a batch of sequences of different lengths, without the padding.

Lengths are public, so packing and unpadding move rows to public places and cost nothing.  Torch writes the rows into
plain memory of its own, which secrets do not have; these functions take torch's place where the data are secret
(`pysmpc.api.torch_guards`), and torch's recurrent layers then run on the packed rows as they are.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from pysmpc.errors import RevealError
from pysmpc.tensor.secret import SecretTensor


def _public(lengths: Any, what: str) -> torch.Tensor:
    if isinstance(lengths, SecretTensor):
        raise RevealError(
            f"{what} takes public lengths: a packed sequence has as many rows as the lengths add up to, which "
            "would show them; pad the sequences, and mask what is beyond a secret length"
        )
    return lengths


def pack_padded_sequence(input: Any, lengths: Any, batch_first: bool) -> tuple[Any, torch.Tensor]:
    """(The rows of all sequences, those of the first time step first; how many sequences have each time step).

    lengths: decreasing, on the CPU.  No message.
    """
    sizes = _public(lengths, "pack_padded_sequence").tolist()
    rows = input.transpose(0, 1) if batch_first else input
    steps, batch = rows.shape[:2]
    if len(sizes) != batch or not sizes or min(sizes) < 1 or max(sizes) > steps:
        raise RuntimeError(f"{batch} sequences of {steps} steps need {batch} lengths from 1 to {steps}, not {sizes}")
    if sizes != sorted(sizes, reverse=True):
        raise RuntimeError("lengths must decrease along the batch; pass enforce_sorted=False to have them sorted")
    counts = [sum(size > step for size in sizes) for step in range(sizes[0])]
    places = [step * batch + sequence for step, count in enumerate(counts) for sequence in range(count)]
    flat = rows.reshape(steps * batch, *rows.shape[2:])
    return flat.index_select(0, torch.tensor(places)), torch.tensor(counts)


def pad_packed_sequence(
    data: Any, batch_sizes: torch.Tensor, batch_first: bool, padding_value: float, total_length: int
) -> tuple[Any, torch.Tensor]:
    """(The padded batch, the lengths), of packed rows.  No message."""
    counts = batch_sizes.tolist()
    steps = max(len(counts), total_length)
    if 0 < total_length < len(counts):
        raise ValueError(
            "Expected total_length to be at least the length of the longest sequence in input, but got "
            f"total_length={total_length} and max sequence length being {len(counts)}"
        )
    batch = counts[0]
    starts = torch.tensor([0, *counts]).cumsum(0)
    sequence = torch.arange(batch)
    counted = torch.tensor(counts + [0] * (steps - len(counts)))
    there = sequence < counted.unsqueeze(1)
    places = torch.zeros(steps, batch, dtype=torch.int64)
    places[: len(counts)] = starts[:-1].unsqueeze(1) + sequence
    found = data.index_select(0, torch.where(there, places, 0).reshape(-1)).reshape(steps, batch, *data.shape[1:])
    kept = there.reshape(steps, batch, *(1,) * (data.dim() - 1))
    out = torch.where(kept, found, torch.tensor(padding_value, dtype=data.dtype))
    return out.transpose(0, 1) if batch_first else out, there.sum(0)


#: By the names of what torch.nn.utils.rnn calls.
PACKED: dict[str, Callable[..., Any]] = {
    "_pack_padded_sequence": pack_padded_sequence,
    "_pad_packed_sequence": pad_packed_sequence,
}
