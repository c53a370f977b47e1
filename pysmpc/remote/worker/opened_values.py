"""How a value is opened to the driver of a session, or to one of its holders: by protocol, after all holders consent.

Whether this party consents is decided elsewhere (`permits`).  Each function is called by all parties of the session.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

import pysmpc.ops  # noqa: F401  (fills the table of operations)
from pysmpc.errors import RemoteError
from pysmpc.mpc.derived.tested import Flags
from pysmpc.remote.arguments import window
from pysmpc.remote.program_messages import Hand, Open
from pysmpc.remote.standing import state_of
from pysmpc.remote.worker import consent_rounds
from pysmpc.remote.worker.replay import Replay


def shares(replay: Replay, operation: Open, permits: Callable[[], bool]) -> tuple[torch.Tensor, list[str], bool]:
    """What this party sends the driver of a value that is opened to it, [rows, n] words; who does not consent.

    Then, whether a value was found too large: nothing must leave for the driver then, either.

    1. The provider said which program it runs, when it was told of this opening: a message without words.
    2. The holders tell each other whether they consent, and which program they run: one round.
    3. Where ranges are tested, the holders open what came of that, if all consent: a round, counted in either case.
    4. If all consent, and all run the same program, each has its shares: counted as another round, in either case.
    Under codes `disclose` does the second step, and has the value under a mask that the driver knows, or the mask
    alone where a holder does not consent.  Where somebody does not, nothing must leave for the driver.
    """
    replay.steps.about(operation)
    if operation.receiver != replay.driver:
        raise RemoteError(f"values are opened to {replay.driver}, who asks for it, and not to others")
    if (state := state_of(replay.session)) != operation.state:
        raise RemoteError(f"this party's program stands at {state}, the driver's at {operation.state}")
    replay.reads([])
    value = window(operation.ref, replay.cell(operation.ref.slot))
    share, suite, party = value.window(), value.session.suite, value.session.party
    words = share.words()
    if (flags := replay.session.flags) is not None:
        flags.settle()
    # 1. the provider's program
    replay.confirmed()
    permitted = permits()
    if suite.disclose is not None:
        masked, _ = suite.disclose(party, share, permitted)
        return masked, [], False
    # 2. consent
    said = party.channel.gather(torch.full((party.rows, 1), int(permitted), dtype=torch.int64), "consent", [(1,)])
    mine = [replay.session.holders[rank] for rank in party.ranks]
    names = [*mine, *(name for name in replay.session.holders if name not in mine)]
    refused = [name for name, [word] in zip(names, said.tolist(), strict=bool(mine)) if word != 1]
    # 3. ranges
    failed = flags is not None and _failed(replay, flags, bool(refused))
    # 4. the shares
    party.channel.count([words], "reveal", [share.shape])  # type: ignore[attr-defined]
    return words, refused, failed


def _failed(replay: Replay, flags: Flags, refused: bool) -> bool:
    """Whether a value was too large since the last opening.  Nothing of it leaves if a holder does not consent."""
    channel: Any = replay.session.party.channel
    word = flags.share()
    channel.count([word], "range", [(1,)])
    if refused or not word.shape[0]:
        return False
    for theirs in channel.tell("range", [word[0]]):
        word = word ^ theirs
    replay.flag = None
    flags.end(bool(word.any()))
    return bool(flags.failed)


def hand(
    replay: Replay, operation: Hand, mask: Callable[[int], torch.Tensor] | None, permits: Callable[[], bool]
) -> tuple[torch.Tensor | None, list[str]]:
    """The words of a value under a mask of the receiver's, where all consent; who does not.

    1. The receiver shares uniform words, `mask`, which nobody else knows: not a byte.
    2. The holders tell each other whether they consent, and which program they run: one round.
    3. If all consent, they open the value plus the mask to each other: one round.
    """
    replay.steps.about(operation)
    if operation.receiver not in replay.session.holders:
        raise RemoteError("a value is opened to a holder of the session")
    if (state := state_of(replay.session)) != operation.state:
        raise RemoteError(f"this party's program stands at {state}, the driver's at {operation.state}")
    value = window(operation.ref, replay.cell(operation.ref.slot))
    share, suite, party = value.window(), value.session.suite, value.session.party
    if suite.disclose is not None or not suite.additive or replay.session.flags is not None:
        raise RemoteError("values under these protocols are not opened to a holder")
    # 1. the mask
    receiver = operation.receiver
    words = None if mask is None else mask(share.numel)
    masked = suite.add(
        party, share, suite.share(replay.party_of(receiver, value.session), words, share.shape, share.scale)
    )
    # 2. consent
    replay.confirmed()
    refused = [name for name, word in consent_rounds.said(replay.session, permits()).items() if not word]
    # 3. the opening
    if refused:
        party.channel.count([masked.words()], "reveal", [share.shape])  # type: ignore[attr-defined]
        return None, refused
    [opened] = suite.reveal(party, masked)
    return opened, []
