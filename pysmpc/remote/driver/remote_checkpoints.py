"""`sy.save` and `sy.load` with workers on other machines: the driver's side.

Each holder writes its own shares to its own disk; the driver writes public facts, last:
a checkpoint counts once the driver's part is there, and the older ones go only then.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from pysmpc.errors import CheckpointError
from pysmpc.remote.arguments import reference
from pysmpc.remote.driver.driver import Link
from pysmpc.remote.driver.recorder import Recorder
from pysmpc.remote.messages import Shelve
from pysmpc.remote.program_messages import Keep, Recall
from pysmpc.remote.run_names import check_run
from pysmpc.session import checkpoint_files
from pysmpc.session.session import Session
from pysmpc.tensor.secret import SecretTensor


class Checkpoints:
    """Of one session's driver."""

    def __init__(self, driver: str, link: Link, recorder: Recorder) -> None:
        self._me = driver
        self._link = link
        self._recorder = recorder

    def save(
        self, folder: Path, facts: dict[str, Any], secret: Mapping[str, SecretTensor], plain: dict[str, torch.Tensor]
    ) -> None:
        """Let the holders keep their shares, then write what is public; CheckpointError if one cannot."""
        run, place = check_run(folder.resolve().name), folder / self._me
        name = checkpoint_files.next_id(place)
        keep = Keep(run, name, _digest(name, facts), {key: reference(value) for key, value in secret.items()})
        for value in secret.values():
            value.window().words()  # what is still to be made of it is made by all parties
        try:
            self._agreed(self._recorder.tell(keep))
            checkpoint_files.write(place, name, self._me, facts, plain)
        except CheckpointError:
            self._link.ask(self._link.holders, lambda n: Shelve(n, run, "", name))
            raise
        self._link.ask(self._link.holders, lambda n: Shelve(n, run, name, ""))
        checkpoint_files.keep_only(place, name)

    def find(self, folder: Path) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
        """(facts, public tensors) of the newest checkpoint that all have; the holders have read theirs by then."""
        run, place = check_run(folder.resolve().name), folder / self._me
        mine = checkpoint_files.known(place)
        if not mine:
            raise CheckpointError(f"no checkpoint of {self._me} in {folder}")
        offers = self._link.ask(self._link.holders, lambda n: Shelve(n, run, "", ""))
        theirs = {holder: set(offer.checkpoints) for holder, offer in offers.items()}
        common = [name for name in mine if all(name in known for known in theirs.values())]
        if not common:
            lacking = ", ".join(holder for holder, known in theirs.items() if mine[-1] not in known)
            raise CheckpointError(
                f"{lacking} has not {run}'s checkpoint {mine[-1]}: restore its `checkpoints` folder, or start anew"
            )
        facts, plain = checkpoint_files.read(place, common[-1], self._me)
        self._agreed(self._recorder.tell(Recall(run, common[-1], _digest(common[-1], facts))))
        return facts, plain

    def restore(self, session: Session, made: Mapping[str, SecretTensor]) -> None:
        """Put what `find` let the holders read into new values; {} lets them forget it."""
        self._recorder.restore(session, made)

    def _agreed(self, number: int) -> None:
        denials = self._link.told(number)
        if denials:
            raise CheckpointError("; ".join(f"{holder}: {text}" for holder, text in denials.items()))


def _digest(name: str, facts: dict[str, Any]) -> str:
    """Of one save and of no other, though it has the same facts."""
    return hashlib.sha256(checkpoint_files.canonical([name, facts])).hexdigest()
