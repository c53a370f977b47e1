"""Which sums one owner took part in and were opened: a second one of the same model, of others, is refused."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterable, Mapping
from pathlib import Path

Key = tuple[str, str, str]  # driver, task, digest of the model
LOG = "sums.jsonl"


class Contributions:
    """Of which owners the opened sums were that this owner is in, by driver, task and model.

    A second sum of the same model with other owners would tell the difference: it is refused.  Kept in a file of the
    `state` folder, where there is one.
    """

    def __init__(self, state: Path | None) -> None:
        self._file = None if state is None else state / LOG
        self._known: dict[Key, frozenset[str]] = {}
        self.lock = threading.Lock()
        if self._file is not None and self._file.exists():
            for line in whole_lines(self._file):
                driver, task, digest, owners = json.loads(line)
                self._known[driver, task, digest] = frozenset(owners)

    def refusal(self, me: str, sums: Mapping[Key, frozenset[str]]) -> str:
        """Why these may not be opened, too; or nothing."""
        for key, owners in sums.items():
            known = self._known.get(key)
            if known is not None and known != owners:
                return (
                    f"{me}: a sum of task {key[1]} for this model was opened before, of other owners; the two would "
                    "tell their difference"
                )
        return ""

    def add(self, sums: Mapping[Key, frozenset[str]]) -> None:
        """These are opened."""
        if self.refusal("", sums):
            raise AssertionError("sums of other owners are added")
        fresh = {key: owners for key, owners in sums.items() if key not in self._known}
        self._known.update(fresh)
        if self._file is not None and fresh:
            append_lines(self._file, [[*key, sorted(owners)] for key, owners in fresh.items()])


def append_lines(file: Path, lines: Iterable[object]) -> None:
    """Add lines of JSON to a file, on the disk when this returns."""
    with open(os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600), "a", encoding="utf-8") as to:
        to.writelines(json.dumps(line) + "\n" for line in lines)
        to.flush()
        os.fsync(to.fileno())


def whole_lines(file: Path) -> list[str]:
    """Lines of a file.  A last one that was cut off is removed: its writer was killed before it opened anything."""
    content = file.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    if whole != content:
        os.truncate(file, len(whole))
    return whole.decode().splitlines()
