"""A worker's checkpoints on its own disk: its shares, whose data is in them, and for which driver.

`checkpoints/<driver>/<run>/` holds what `pysmpc.session.checkpoint_files` writes.  A driver
names runs and ids, and reads nothing: shares go to the disk and come back to slots, and
consent to opening them is asked as before, since every value keeps its owners.
"""

from __future__ import annotations

import hashlib
import logging
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from pysmpc.errors import ChannelError, CheckpointError, ConfigurationError
from pysmpc.remote.arguments import NAMES, window
from pysmpc.remote.program_messages import Keep, Recall, Restore, Slot
from pysmpc.remote.run_names import check_run
from pysmpc.remote.worker import consent_rounds
from pysmpc.remote.worker.checkpoint_space import Disk
from pysmpc.remote.worker.origins import Origin
from pysmpc.remote.worker.replay import Replay
from pysmpc.remote.worker.rows import Rows
from pysmpc.session import checkpoint_files
from pysmpc.session.transcript import Transcript
from pysmpc.tensor.secret import SecretTensor
from pysmpc.transport.certificates import check_name

log = logging.getLogger("pysmpc.worker")

OFFERED = 16  # newest checkpoints of a run that a driver is told of

_ID = re.compile(r"\d{8}-[0-9a-f]{16}")


class Part:
    """One checkpoint's shares at this worker, read and checked, on their way to slots.

    transcript: where in which program they were saved.
    """

    def __init__(
        self,
        values: Mapping[str, Any],
        origins: Sequence[Origin],
        transcript: bytes,
        words: Mapping[str, torch.Tensor],
    ) -> None:
        self._values = values
        self.transcript = transcript
        self._origins = origins
        self._words = words

    def take(self, key: str, slot: Slot) -> tuple[torch.Tensor, Origin]:
        """Words [1, n] and owners of a value; ChannelError unless it was saved as the driver says."""
        said = [slot.shape, slot.scale, slot.base, slot.digits, slot.dtype]
        found = self._values.get(key)
        if found is None or found[:5] != said:
            raise ChannelError(f"{key[:80]!r} was not saved as {said}")
        return self._words[key], self._origins[found[5]]


class CheckpointStore:
    """The folder that a worker's configuration gives to checkpoints; none where it is ''.

    limit: bytes that one driver's checkpoints may take, if it is not 0.
    """

    def __init__(self, me: str, folder: str, limit: int = 0) -> None:
        self._me = me
        self._disk = Disk(me, limit)
        self._root = Path(folder) if folder else None
        if self._root is not None:
            self._root.mkdir(parents=True, exist_ok=True, mode=0o700)

    def _place(self, driver: str, run: str) -> Path:
        if self._root is None:
            raise CheckpointError(f"{self._me} keeps no checkpoints: its configuration names no `checkpoints` folder")
        try:
            return self._root / check_name(driver) / check_run(run)
        except ConfigurationError as error:
            raise CheckpointError(str(error)) from None

    def known(self, driver: str, run: str) -> list[str]:
        """Ids of a run's complete checkpoints, oldest first."""
        try:
            return checkpoint_files.known(self._place(driver, run))[-OFFERED:]
        except (OSError, CheckpointError) as error:
            log.warning("no checkpoints", extra={"peer": driver, "run": run[:100], "reason": str(error)})
            return []

    def tidy(self, driver: str, run: str, keep: str, drop: str) -> None:
        """Remove the run's checkpoints before `keep`, and `drop`; either may be ''."""
        try:
            place = self._place(driver, run)
            if keep and keep in checkpoint_files.known(place):
                checkpoint_files.keep_only(place, _id(keep), checkpoint_files.lineage(keep))
            if drop:
                checkpoint_files.remove(place, _id(drop))
        except (OSError, CheckpointError) as error:
            log.warning("not removed", extra={"peer": driver, "run": run[:100], "reason": str(error)})

    def write(
        self,
        driver: str,
        run: str,
        name: str,
        digest: str,
        holders: Sequence[str],
        transcript: bytes,
        values: Iterable[tuple[str, SecretTensor, Origin]],
    ) -> None:
        """Keep this worker's shares of values.  CheckpointError where the disk does not take them.

        transcript: 32 bytes that tell what was saved from all that is saved at other places of programs.
        """
        place = self._place(driver, run)
        words: dict[str, torch.Tensor] = {}
        facts: dict[str, Any] = {}
        origins: list[dict[str, Any]] = []
        for key, value, origin in values:
            share, unit = value.window(), value.unit
            words[key] = share.words()[0].clone()  # bodies may be windows on one memory
            least = origin.rows.least
            said = {"owners": sorted(origin.owners), "rows": int(least) if math.isfinite(least) else None}
            if said not in origins:
                origins.append(said)
            where = origins.index(said)
            facts[key] = [list(share.shape), share.scale, unit.base, unit.digits, NAMES[value.dtype], where]
        whole = {
            "driver": driver, "holders": list(holders), "digest": digest, "transcript": transcript.hex(),
            "values": facts, "origins": origins,
        }  # fmt: skip
        try:
            with self._disk.room(driver, place.parent, words.values()):
                checkpoint_files.write(place, _id(name), self._me, whole, words)
        except CheckpointError as error:
            raise self._shown(error) from error

    def read(self, driver: str, run: str, name: str, digest: str, holders: Sequence[str]) -> Part:
        """This worker's part of a checkpoint, whole and of this driver and these holders, or CheckpointError."""
        place = self._place(driver, run)
        try:
            facts, words = checkpoint_files.read(place, _id(name), self._me)
        except CheckpointError as error:
            raise self._shown(error) from error
        if facts["driver"] != driver or facts["digest"] != digest:
            raise CheckpointError(f"{self._me}'s part of checkpoint {name} is of another one than the driver's")
        if set(facts["holders"]) != set(holders):
            raise CheckpointError(
                f"{self._me}'s part of checkpoint {name} is shared with {', '.join(facts['holders'])}, the session is "
                f"of {', '.join(holders)}"
            )
        # a checkpoint of before rows were counted for each number says nothing of them: one is always right
        rows = [each.get("rows", 1) for each in facts["origins"]]
        origins = [
            Origin(frozenset(each["owners"]), Rows(math.inf if least is None else least))
            for each, least in zip(facts["origins"], rows, strict=True)
        ]
        if "transcript" not in facts:
            raise CheckpointError(
                f"{self._me}'s part of checkpoint {name} was saved by a version of this package that did not note of "
                "which program it is; train anew, and save that"
            )
        told = bytes.fromhex(facts["transcript"])
        return Part(facts["values"], origins, told, {key: each.reshape(1, -1) for key, each in words.items()})

    def _shown(self, error: CheckpointError) -> CheckpointError:
        """For the driver: where this worker's folders are is not its business."""
        return CheckpointError(str(error).replace(str(self._root), f"{self._me}:checkpoints"))


class Shelving:
    """The checkpoints of one session at one worker.  shelf: None at the provider, who has no shares."""

    def __init__(
        self, shelf: CheckpointStore | None, driver: str, holders: Sequence[str], replay: Replay, transcript: Transcript
    ) -> None:
        self._shelf = shelf
        self._transcript = transcript
        self._driver = driver
        self._holders = holders
        self._replay = replay
        self._part: Part | None = None
        self._saves = 0

    def do(self, operation: Keep | Recall, permit: Callable[[], None] = lambda: None) -> bool:
        """Write this worker's shares of values, or read them; whether there was something to do.

        permit: raises CheckpointError where nothing may be written; called when all parties have made the same rounds.
        """
        values = []
        if isinstance(operation, Keep):
            cell, origin = self._replay.cell, self._replay.origin
            values = [(key, window(ref, cell(ref.slot)), origin(ref)) for key, ref in operation.values.items()]
            for _, value, _ in values:
                value.window().words()  # the provider may have to deal for it
        if self._shelf is None:
            return False
        if isinstance(operation, Keep):
            permit()
        facts = (self._driver, operation.run, operation.checkpoint, operation.digest, self._holders)
        self._part = None
        if isinstance(operation, Recall):
            self._part = self._shelf.read(*facts)
        else:
            self._saves += 1  # two of a batch have one digest
            which = hashlib.sha256(self._transcript.digest + self._saves.to_bytes(8, "little")).digest()
            self._shelf.write(*facts, which, values)
        return True

    def restore(self, operation: Restore) -> None:
        """What was recalled goes to slots, if all holders saved it in one batch of operations of one session.

        They tell each other the digest of that batch, beside what they are told now: one round, that is not counted.
        """
        part, self._part = self._part, None
        if self._shelf is not None and part is None and operation.values:
            raise ChannelError("no checkpoint was recalled")
        if part is not None:
            mine = torch.frombuffer(bytearray(part.transcript), dtype=torch.int64)
            if any(not torch.equal(theirs, mine) for theirs in consent_rounds.told(self._replay.session, mine)):
                raise ChannelError("the holders' parts of this checkpoint are of different programs: train anew")
        self._replay.restore(operation, part.take if part else None)


def _id(name: str) -> str:
    if not _ID.fullmatch(name):
        raise CheckpointError(f"{name[:40]!r} is no checkpoint's id")
    return name
