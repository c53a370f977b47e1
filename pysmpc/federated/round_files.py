"""Checkpoints of a federation: a file a round, whole or not there."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import torch

from pysmpc.errors import CheckpointError

KEEP = 2
STEM = "round-"
SPENT = "spent.json"


def save(folder: Path, number: int, content: dict[str, Any]) -> None:
    """Write a round's file; those before the last two are removed."""
    folder.mkdir(parents=True, exist_ok=True)
    part, whole = folder / f".{STEM}{number:06d}.part", _file(folder, number)
    try:
        with part.open("wb") as file:
            torch.save(content, file)
            file.flush()
            os.fsync(file.fileno())
        part.replace(whole)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise CheckpointError(f"round {number} was not saved to {folder}: {error}") from error
    for old in sorted(folder.glob(f"{STEM}*.pt"))[:-KEEP]:
        old.unlink()


def save_spent(folder: Path, state: dict[str, Any]) -> None:
    """Write what was spent of a budget, before the round that spends it."""
    folder.mkdir(parents=True, exist_ok=True)
    part = folder / f".{SPENT}.part"
    try:
        with part.open("w", encoding="utf-8") as file:
            json.dump(state, file)
            file.flush()
            os.fsync(file.fileno())
        part.replace(folder / SPENT)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise CheckpointError(f"what is spent was not saved to {folder}: {error}") from error


def spent(folder: Path) -> dict[str, Any] | None:
    """What was spent of a budget when the last round began; None where none did."""
    file = folder / SPENT
    try:
        found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{file} cannot be read: {error}; it says what is spent of the budget") from None
    return found


def newest(folder: Path) -> dict[str, Any] | None:
    """The last round's file; None where there is none.  CheckpointError for one that is damaged."""
    files = sorted(folder.glob(f"{STEM}*.pt"))
    if not files:
        return None
    try:
        found: dict[str, Any] = torch.load(files[-1], weights_only=True)
    except Exception as error:
        raise CheckpointError(f"{files[-1]} cannot be read: {error}; remove it to go on from the one before") from None
    return found


def _file(folder: Path, number: int) -> Path:
    return folder / f"{STEM}{number:06d}.pt"
