"""What the holders of a session tell each other in public while an operation runs: one round each.

These rounds stand between what a driver asks for and what leaves: consent, and whose sums are made.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

import pysmpc.ops  # noqa: F401  (fills the table of operations)
from pysmpc.session.session import Session


def told(session: Session, words: torch.Tensor) -> list[torch.Tensor]:
    """Send public words to the other holders; theirs.  Not counted."""
    channel: Any = session.party.channel
    return list(channel.tell("consent", [words]))


def said(session: Session, word: bool) -> dict[str, bool]:
    """Tell all holders yes or no; what each said, by name.  One round.  Empty at the provider, who is not told."""
    party, holders = session.party, session.holders
    said = party.channel.gather(torch.full((party.rows, 1), int(word), dtype=torch.int64), "consent", [(1,)])
    mine = [holders[rank] for rank in party.ranks]
    names = [*mine, *(name for name in holders if name not in mine)]
    return {name: one == 1 for name, [one] in zip(names, said.tolist(), strict=bool(mine))}


def named(session: Session, names: Sequence[str], came: Sequence[str]) -> list[str]:
    """Those of these names that the last holder tells the others.  One round.  None at the provider.

    came: the names that this party would tell, which count where it is the last holder.
    """
    party, holders = session.party, session.holders
    mine = torch.tensor([[name in came for name in names]], dtype=torch.int64)
    said = party.channel.gather(mine.expand(party.rows, -1).contiguous(), "consent", [(len(names),)])
    if not len(said):
        return []
    order = [holders[rank] for rank in party.ranks]
    order += [name for name in holders if name not in order]
    flags = said[order.index(holders[-1])].tolist()
    return [name for name, flag in zip(names, flags, strict=True) if flag == 1]
