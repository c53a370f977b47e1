"""Who may open what: this worker's consent to openings of what derives from its data.

A secret has as many shares as holders, and none of them says anything alone, so an
owner who is a holder refuses by keeping her share.  Every request is written to a log
that is only ever appended to.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
import time
from pathlib import Path
from typing import Any

from pysmpc.errors import OpenNotPermittedError
from pysmpc.federated.errors import GetNotPermittedError
from pysmpc.remote.config import WorkerConfig

LOG = "openings.jsonl"
APPROVED, WAITING = "approved", "waiting"
WAITING_LIMIT = 1000


class Openings:
    """One worker's rules, and its log of what was asked and answered."""

    def __init__(self, config: WorkerConfig) -> None:
        self._config = config
        self._rules = config.rules
        self._state = Path(config.state) if config.state else None
        self._lock = threading.Lock()
        self.permitted = 0
        self.refused = 0
        if self._state is not None:
            for folder in (self._state, self._state / APPROVED, self._state / WAITING):
                folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
            self._log = open(os.open(self._state / LOG, flags, 0o600), "ab", buffering=0)  # noqa: SIM115

    def open(self, driver: str, owners: frozenset[str], items: int, shape: tuple[int, ...], request: str) -> None:
        """Consent to an opening, or OpenNotPermittedError; logged either way.

        items: of this worker's, behind the value.  request: tells this opening from others.
        """
        facts = {"what": "open", "driver": driver, "owners": sorted(owners), "items": items, "shape": list(shape)}
        reason = self._refusal(driver, owners, items, shape, request)
        self._record({**facts, "request": request}, reason)
        if reason is not None:
            raise OpenNotPermittedError(reason)

    def _refusal(
        self, driver: str, owners: frozenset[str], items: int, shape: tuple[int, ...], request: str
    ) -> str | None:
        me = self._config.name
        if "open" not in self._config.drivers.get(driver, ()):
            return f"{me} lets {driver} compute, not open: drivers.{driver} does not list it"
        if me not in owners:
            return None
        rule = self._rules.get(driver)
        if rule is None:
            return f"{me}, whose data went into this value, lets {driver} open nothing: its `open` does not name it"
        count = 1
        for size in shape:
            count *= size
        if items < rule.min_items * count:
            return (
                f"{me} lets {driver} open numbers that {rule.min_items} of its items or more went into, each; here "
                f"{items} items went into {count} numbers: open a sum or a mean over more of them"
            )
        if rule.approve and not self._approved(request):
            return f"{me} wants to be asked: `pysmpc approve {request}` there, then open again"
        return None

    def _approved(self, request: str) -> bool:
        """Whether somebody approved; an approval serves once."""
        if self._state is None:
            return False
        try:
            (self._state / APPROVED / request).unlink()
        except FileNotFoundError:
            if len(waiting(str(self._state))) < WAITING_LIMIT:
                (self._state / WAITING / request).touch()
            return False
        return True

    def reload(self, config: WorkerConfig) -> None:
        """Rules for what is asked from now on.  `state` stays as it was.

        The rules first: a request that is judged in between, by the old rights and the new rules, is permitted
        nothing that neither file permits.
        """
        self._rules = config.rules
        self._config = config

    def get(self, driver: str, name: str, permitted: list[str], shape: tuple[int, ...]) -> None:
        """Consent to fetching data in the clear, or GetNotPermittedError; logged either way."""
        reason = None
        if driver not in permitted:
            reason = f"{self._config.name} keeps {name!r} at home: its `get` does not name {driver}; share it instead"
        self._record({"what": "get", "driver": driver, "data": name, "shape": list(shape)}, reason)
        if reason is not None:
            raise GetNotPermittedError(reason)

    def close(self) -> None:
        """Close the log."""
        if self._state is not None:
            self._log.close()

    def _record(self, facts: dict[str, Any], reason: str | None) -> None:
        with self._lock:
            if reason is None:
                self.permitted += 1
            else:
                self.refused += 1
            if self._state is None:
                return
            line = {"time": round(time.time(), 3), **facts, "permitted": reason is None}
            if reason is not None:
                line["reason"] = reason
            self._log.write(json.dumps(line).encode() + b"\n")


def request_id(*facts: Any) -> str:
    """A short name for a request: equal for the same value of the same session."""
    return hashlib.sha256(repr(facts).encode()).hexdigest()[:12]


def approve(state: str, request: str) -> bool:
    """Approve a waiting request; False where none waits of that name."""
    folder = Path(state)
    try:
        (folder / WAITING / Path(request).name).rename(folder / APPROVED / Path(request).name)
    except FileNotFoundError:
        return False
    return True


def waiting(state: str) -> list[str]:
    """Requests that wait for approval."""
    folder = Path(state) / WAITING
    return sorted(each.name for each in folder.iterdir()) if folder.is_dir() else []
