"""One party's part of a checkpoint on disk: its shares and what is public about them.

A checkpoint `id` at a party is two files in the party's own folder,
    shares-<id>.safetensors     ring words of this party's shares, and public tensors
    checkpoint-<id>.json        public facts, the checksum of the former and of itself
of which the second is written last, so that it is there only when both are complete.
Nothing is pickled.  Checksums find accidents, not forgeries.  What spans parties (which
ids all of them have, when older ones may go) is `pysmpc.api.saving`'s business.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError

from pysmpc.errors import CheckpointError

FORMAT = 1
_NAME = re.compile(r"checkpoint-((\d{8})-[0-9a-f]{16})\.json")


def new_id(serial: int, seed: bytes) -> str:
    """A name for a checkpoint; ids of later serial numbers sort later."""
    return f"{serial:08d}-{hashlib.sha256(seed).hexdigest()[:16]}"


def next_id(folder: Path) -> str:
    """A name for the checkpoint after those of a folder: of the same lineage, where there are some."""
    newest = known(folder)[-1:]
    line = lineage(newest[0]) if newest else secrets.token_hex(4)
    return f"{1 + max(map(serial_of, newest), default=0):08d}-{line}{secrets.token_hex(4)}"


def lineage(checkpoint: str) -> str:
    """What the ids of one folder's checkpoints have in common, if `next_id` made them."""
    return checkpoint[9:17]


def serial_of(checkpoint: str) -> int:
    """The serial number of an id."""
    return int(checkpoint[:8])


def known(folder: Path) -> list[str]:
    """Ids of the complete checkpoints of a party, oldest first."""
    if not folder.is_dir():
        return []
    return sorted(found[1] for path in folder.iterdir() if (found := _NAME.fullmatch(path.name)))


def write(folder: Path, checkpoint: str, party: str, facts: dict[str, Any], tensors: dict[str, torch.Tensor]) -> None:
    """Write a party's part; what was there before stays as it is.

    Files are for the owner alone (0600), complete or absent: each is written beside,
    synced, and renamed.  Raises CheckpointError where the disk does not take it.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        shares = safetensors.torch.save(tensors, {"id": checkpoint, "party": party})
        _place(folder / f"shares-{checkpoint}.safetensors", shares)
        body = {"format": FORMAT, "id": checkpoint, "party": party, "shares": _sum(shares), "facts": facts}
        text = json.dumps({"checkpoint": body, "sha256": _sum(canonical(body))}, indent=1)
        _place(folder / f"checkpoint-{checkpoint}.json", text.encode())
    except OSError as error:
        remove(folder, checkpoint)
        raise CheckpointError(
            f"{party}'s checkpoint could not be written to {folder} ({error.strerror or error}); "
            "the one before it is untouched"
        ) from None


def read(folder: Path, checkpoint: str, party: str) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """(facts, tensors) of a party's part; CheckpointError unless both files are as they were written."""
    path = folder / f"checkpoint-{checkpoint}.json"
    try:
        whole = json.loads(path.read_bytes())
        body, total = whole["checkpoint"], whole["sha256"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path} cannot be read ({error})") from None
    if _sum(canonical(body)) != total:
        raise CheckpointError(f"{path} is damaged: its checksum does not fit; restore {party}'s folder from a copy")
    if body["format"] != FORMAT:
        raise CheckpointError(f"{path} has format {body['format']}; this version reads {FORMAT}")
    if body["id"] != checkpoint or body["party"] != party:
        raise CheckpointError(f"{path} is {body['party']}'s part of {body['id']}, not {party}'s of {checkpoint}")
    path = folder / f"shares-{checkpoint}.safetensors"
    try:
        shares = path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{party}'s shares are missing: {path} ({error.strerror})") from None
    if _sum(shares) != body["shares"]:
        raise CheckpointError(f"{path} is damaged: its checksum does not fit; restore {party}'s folder from a copy")
    try:
        return body["facts"], safetensors.torch.load(shares)
    except SafetensorError as error:
        raise CheckpointError(f"{path} cannot be read ({error})") from None


def keep_only(folder: Path, checkpoint: str, line: str = "") -> None:
    """Remove a party's other checkpoints (of a lineage), and what an interrupted write left."""
    for path in folder.iterdir():
        if (
            path.name.startswith((".new-", "shares-", "checkpoint-"))
            and checkpoint not in path.name
            and f"-{line}" in path.name
        ):
            path.unlink(missing_ok=True)


def remove(folder: Path, checkpoint: str) -> None:
    """Remove one checkpoint, complete or not."""
    for name in (f"checkpoint-{checkpoint}.json", f"shares-{checkpoint}.safetensors"):
        for path in (folder / name, folder / f".new-{name}"):
            path.unlink(missing_ok=True)


def canonical(facts: Any) -> bytes:
    """The same bytes for the same facts."""
    return json.dumps(facts, sort_keys=True, separators=(",", ":")).encode()


def _sum(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _place(path: Path, data: bytes) -> None:
    beside = path.with_name(f".new-{path.name}")
    beside.unlink(missing_ok=True)
    with open(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(data)
        file.flush()
        _sync(file.fileno())
    os.replace(beside, path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        _sync(folder)
    finally:
        os.close(folder)


def _sync(descriptor: int) -> None:
    os.fsync(descriptor)
