"""Sums over the ends that a value reaches: what a normaliser makes of its bits, with any suite."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch

from pysmpc.mpc.additive.exact import constant
from pysmpc.mpc.functions.reached import Columns, Reached
from pysmpc.mpc.interfaces import Party
from pysmpc.mpc.operations import Suite
from pysmpc.ring.shares import Share

FEW = 2  # weights of which the bits are taken one by one


def steps_between(values: Sequence[int]) -> list[int]:
    """What each value is above the one before, the first above 0."""
    return [b - a for a, b in pairwise([0, *values])]


def weighted_sums(suite: Suite, party: Party, reached: Share, columns: Columns) -> list[Share]:
    """[n] for each (constant, weights): the constant plus the weights of all ends that were reached.  No message.

    reached: what a suite's `thresholds` returned, [ends, n].
    """
    if isinstance(reached.body, Reached) and reached.dense:
        return reached.body.sums(columns)
    return [_weighted(suite, party, reached, *column) for column in columns]


def _weighted(suite: Suite, party: Party, reached: Share, start: int, weights: Sequence[int]) -> Share:
    """One sum, of the bits themselves."""
    n, used = reached.shape[1], [j for j, weight in enumerate(weights) if weight]
    if 0 < len(used) <= FEW:
        rows = [Share.of(Share(reached.body, (n,), 1, (1,), j * n).words(), (n,)) for j in used]
        parts = [suite.scale_by(party, row, weights[j]).at(1) for row, j in zip(rows, used, strict=True)]
        out = parts[0] if len(parts) == 1 else suite.add(party, *parts)
    else:
        weighted = suite.mul_public(party, reached, torch.tensor(weights).reshape(-1, 1))
        out = Share.of(weighted.window(weighted.body.words).sum(1), (n,))
    return suite.add(party, out, constant(suite, party, (n,), start, 1)) if start else out
