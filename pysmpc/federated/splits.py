"""Splits of a dataset among workers, for simulations: alike for all, or with classes of their own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from pysmpc.compat.pysyft.workers import VirtualWorker

TAGS = ("#data", "#targets")


def evenly(count: int, parts: int) -> list[torch.Tensor]:
    """Numbers of rows for each part: drawn without regard to classes, as many for each as possible."""
    return list(torch.randperm(count).tensor_split(parts))


def dirichlet(labels: torch.Tensor, parts: int, alpha: float = 0.5, least: int = 1) -> list[torch.Tensor]:
    """Numbers of rows for each part: each class is split by proportions from a Dirichlet distribution.

    alpha: small, and each part has few classes; large, and all are alike.  least: rows that each part has at least;
    where the draw gives fewer, they come from the largest part.  Every row goes to one part.
    (Hsu, Qi, Brown, "Measuring the Effects of Non-Identical Data Distribution", 2019)
    """
    if not alpha > 0:
        raise ValueError(f"alpha is {alpha}; it must be above 0")
    if parts < 1 or parts * least > len(labels):
        raise ValueError(f"{len(labels)} rows cannot be split into {parts} parts of at least {least}")
    found: list[list[torch.Tensor]] = [[] for _ in range(parts)]
    spread = torch.distributions.Dirichlet(torch.full((parts,), float(alpha), dtype=torch.float64))
    for label in sorted(set(labels.tolist())):
        rows = (labels == label).nonzero().flatten()
        rows = rows[torch.randperm(len(rows))]
        cuts = (spread.sample().cumsum(0)[:-1] * len(rows)).round().long()
        for part, some in zip(found, rows.tensor_split(cuts.tolist()), strict=True):
            part.append(some)
    whole = [torch.cat(part) for part in found]
    for place in range(parts):
        while len(whole[place]) < least:
            largest = max(range(parts), key=lambda other: len(whole[other]))
            missing = min(least - len(whole[place]), len(whole[largest]) - least)
            whole[place] = torch.cat([whole[place], whole[largest][:missing]])
            whole[largest] = whole[largest][missing:]
    return [part[torch.randperm(len(part))] for part in whole]


def scatter(
    data: torch.Tensor,
    targets: torch.Tensor,
    workers: Sequence[VirtualWorker],
    alpha: float | None = None,
    *,
    tags: tuple[str, str] = TAGS,
    least: int = 1,
) -> list[int]:
    """Give each worker rows of a dataset, under tags by which a federation finds them; how many rows each has.

    alpha: of `dirichlet`, by the targets, which are labels then; None: `evenly`.
    """
    if len(data) != len(targets):
        raise ValueError(f"{len(data)} rows of data and {len(targets)} of targets; there must be one target a row")
    if alpha is None:
        parts = evenly(len(data), len(workers))
    else:
        parts = dirichlet(targets, len(workers), alpha, least)
    for worker, rows in zip(workers, parts, strict=True):
        worker.load_data([_tagged(data[rows], tags[0]), _tagged(targets[rows], tags[1])])
    return [len(rows) for rows in parts]


def _tagged(tensor: torch.Tensor, tag: str) -> torch.Tensor:
    named: Any = tensor
    named.pysmpc_tags = (tag,)
    return tensor
