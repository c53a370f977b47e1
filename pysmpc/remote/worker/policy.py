"""Who may open what: this worker's consent to openings of what derives from its data.

A secret has as many shares as holders, and none of them says anything alone, so an
owner who is a holder refuses by keeping her share.  Every request is written to a log
that is only ever appended to.
"""

from __future__ import annotations

import json
import math
import os
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pysmpc.errors import GetNotPermittedError, OpenNotPermittedError
from pysmpc.remote.config import WorkerConfig
from pysmpc.remote.worker.approvals import LOG, Approvals, Request, Requests
from pysmpc.remote.worker.budget import Budget, numbers_in

VALUE = "value"


class Part(NamedTuple):
    """What is opened: whose data went into it, and how many of this worker's rows are behind the number with fewest."""

    owners: frozenset[str]
    items: float
    shape: tuple[int, ...]
    what: str = VALUE

    @property
    def named(self) -> str:
        """In a sentence."""
        return f"the {self.what}, which says whether any value was too large"

    def facts(self) -> dict[str, Any]:
        """For the log."""
        return {"owners": sorted(self.owners), "items": int(self.items) if math.isfinite(self.items) else 0}


class Openings:
    """One worker's rules, and its log of what was asked and answered."""

    def __init__(self, config: WorkerConfig) -> None:
        self._config = config
        self._rules = config.rules
        self._state = Path(config.state) if config.state else None
        self._lock = threading.RLock()
        self.permitted = 0
        self.refused = 0
        if self._state is not None:
            self._state.mkdir(parents=True, exist_ok=True, mode=0o700)
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
            self._log = open(os.open(self._state / LOG, flags, 0o600), "ab", buffering=0)  # noqa: SIM115
        self.budget = Budget(config.name, self._state / LOG if self._state is not None else None)
        self._approvals = Approvals(config.name, self._state)

    def begin(self) -> None:
        """The worker begins to serve: requests of the one before are void."""
        with self._lock:
            self._approvals.begin()

    def end(self, requests: Requests) -> None:
        """A session is over, and what was asked and approved in it void."""
        with self._lock:
            self._approvals.end(requests)

    def numbers_today(self) -> dict[str, int]:
        """How many numbers of this owner's data were opened to each driver today."""
        with self._lock:
            return self.budget.all()

    def asks(self, driver: str) -> bool:
        """Whether openings to this driver wait for approval."""
        rule = self._rules.get(driver)
        return rule is not None and rule.approve

    def open(self, driver: str, parts: Sequence[Part], request: Request) -> None:
        """Consent to an opening, or OpenNotPermittedError; logged either way.

        parts: a value, and what is opened together with it, all or nothing.  request: tells this opening from others.
        """
        with self._lock:  # so that two sessions of a driver cannot spend the same budget
            self._open(driver, parts, request)

    def _open(self, driver: str, parts: Sequence[Part], request: Request) -> None:
        value, *beside = parts
        facts = {
            "what": "open", "driver": driver, "receiver": driver, **value.facts(), "shape": list(value.shape),
            **{part.what: part.facts() for part in beside},
        }  # fmt: skip
        approved: dict[str, str] = {}
        reason = self._refusal(driver, parts, request, approved)
        self._record({**facts, "request": request.id, **approved}, reason)
        if reason is not None:
            raise OpenNotPermittedError(reason)
        self.budget.spend(driver, self._numbers(parts))

    def _numbers(self, parts: Sequence[Part]) -> int:
        """How many numbers of this owner's data are opened."""
        return sum(numbers_in(part.shape) for part in parts if self._config.name in part.owners)

    def _refusal(self, driver: str, parts: Sequence[Part], request: Request, approved: dict[str, str]) -> str | None:
        """approved: filled with who approved, if anybody had to."""
        me = self._config.name
        if "open" not in self._config.drivers.get(driver, ()):
            return f"{me} lets {driver} compute, not open: drivers.{driver} does not list it"
        mine = [part for part in parts if me in part.owners]
        if not mine:
            return None
        rule = self._rules.get(driver)
        if rule is None:
            into = "into this value" if mine[0].what == VALUE else f"into {mine[0].named}"
            return f"{me}, whose data went {into}, lets {driver} open nothing: its `open` does not name it"
        for part in mine:
            if part.items < rule.min_items:
                return self._too_few(driver, part, rule.min_items)
        limit, used, more = self._config.limits.numbers, self.budget.used(driver), self._numbers(mine)
        if limit and used + more > limit:
            return (
                f"{me} lets {driver} open {limit} numbers a day that its data went into (limits.numbers in its file); "
                f"{used} were opened today, and here are {more} more: the next day begins at 00:00 UTC"
            )
        if rule.approve:
            by, reason = self._approvals.ask(request)
            if not by:
                return reason
            approved["approved_by"] = by
        return None

    def _too_few(self, driver: str, part: Part, least: int) -> str:
        items = part.items
        rule = f"{self._config.name} lets {driver} open numbers with {least} of its rows or more behind each; here"
        if part.what != VALUE:
            return (
                f"{rule} {items} of its rows {'is' if items == 1 else 'are'} behind a value that was tested, and so "
                f"behind {part.named}: connect without checked=True, or let the owner state min and max of her data"
            )
        short = (
            f", and train on batches of {least} rows or more, the last one too (drop_last=True)" if items > 1 else ""
        )
        return (
            f"{rule} {items} of its rows {'is' if items == 1 else 'are'} behind a number: open a sum or a mean over "
            f"more rows{short}"
        )

    def reload(self, config: WorkerConfig) -> None:
        """Rules for what is asked from now on.  `state` stays as it was.

        The rules first: a request that is judged in between, by the old rights and the new rules, is permitted
        nothing that neither file permits.
        """
        self._rules = config.rules
        self._config = config

    def hand(
        self, driver: str, receiver: str, owners: frozenset[str], items: float, shape: tuple[int, ...], reason: str
    ) -> None:
        """Consent to opening a value to a holder, or OpenNotPermittedError; logged either way.

        reason: why not, where there is one already.
        """
        me = self._config.name
        with self._lock:
            rule, limit = self._config.handing.get(receiver), self._config.limits.numbers
            if reason or me not in owners or me == receiver:
                pass
            elif rule is None:
                reason = f"{me}, whose data went into this value, lets {receiver} have nothing (its `receivers`)"
            elif items < rule.min_items:
                reason = (
                    f"{me} lets {receiver} have numbers with {rule.min_items} of its rows or more behind each; "
                    f"here are {items:g}"
                )
            elif limit and self.budget.used(driver) + numbers_in(shape) > limit:
                reason = f"{me} lets {driver} have {limit} numbers opened a day (limits.numbers in its file)"
            facts = {"what": "hand", "driver": driver, "receiver": receiver, "owners": sorted(owners)}
            known = int(items) if math.isfinite(items) else 0
            self._record({**facts, "items": known, "shape": list(shape)}, reason or None)
            if reason:
                raise OpenNotPermittedError(reason)
            if me in owners and me != receiver:
                self.budget.spend(driver, numbers_in(shape))

    def get(self, driver: str, name: str, permitted: list[str], shape: tuple[int, ...]) -> None:
        """Consent to fetching data in the clear, or GetNotPermittedError; logged either way."""
        reason = None
        if driver not in permitted:
            reason = f"{self._config.name} keeps {name!r} at home: its `get` does not name {driver}; share it instead"
        self._record({"what": "get", "driver": driver, "data": name, "shape": list(shape)}, reason)
        if reason is not None:
            raise GetNotPermittedError(reason)

    def alone(self, driver: str, task: str, shape: tuple[int, ...]) -> str:
        """Why this owner's update of a task is not sent to a driver by itself, or nothing; logged either way."""
        named = driver in self._config.rules
        reason = (
            None if named else f"{self._config.name} opens nothing of hers to {driver}: her `open` does not name it"
        )
        self._record({"what": "update in the clear", "driver": driver, "task": task, "shape": list(shape)}, reason)
        return reason or ""

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
