"""Openings that wait until a person at the owner's machine says yes or no.

The worker writes a request into a folder of its state; `pysmpc approve` shows it and
moves it to another folder with what was decided.  A request is for one value of one
program of one session: its id is a hash over a number that the worker drew for the
session, the driver, the digest of the program and the value.  It means nothing in any
other session, and its files go when the session does.

`waiting/ID`, `approved/ID` and `denied/ID` have the facts of a request in JSON: what
the worker knows publicly, no value.  An approval for a time is in `approved/SERIES`,
where SERIES stands for all values of the session that the same operations lead to.
"""

from __future__ import annotations

import getpass
import hashlib
import json
import math
import os
import re
import secrets
import time
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from pysmpc.errors import ConfigurationError
from pysmpc.remote.program_messages import Ref
from pysmpc.remote.worker.history import Lineage

LOG = "openings.jsonl"
WAITING, APPROVED, DENIED = FOLDERS = ("waiting", "approved", "denied")
WAITING_LIMIT = 100  # requests of one driver that wait at the same time
_ID = re.compile(r"[0-9a-f]{32}")


class Request(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a driver asks to open.

    series: the same for all values of the session that the same operations lead to; "" where they
    cannot be followed.  session: the same for all requests of one session.  since: seconds since
    1970.  rows: of the owner's data.  program: digest of all operations up to the one that wrote
    the value.  operations: the last that lead to it, in order.
    """

    id: str
    series: str
    session: str
    driver: str
    since: float
    shape: list[int]
    owners: list[str]
    rows: int
    program: str
    operations: list[str]


class Decision(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What somebody decided.  until: seconds since 1970, for an approval for a time; 0 otherwise."""

    request: Request
    by: str
    until: float = 0.0


# --- at the worker ------------------------------------------------------------------


class Requests:
    """Names the requests of one session."""

    def __init__(self, driver: str) -> None:
        self.driver = driver
        self._nonce = secrets.token_bytes(16)
        self.session = self._hash("session")

    def request(
        self,
        ref: Ref,
        version: tuple[int, bytes],
        owners: frozenset[str],
        rows: float,
        lineage: Lineage,
        beside: str = "",
        beside_version: tuple[int, bytes] = (0, b""),
    ) -> Request:
        """For the value that ref is a window on.

        version: how many operations there were when it was last written, and the program's digest then.
        lineage: what leads to it.  beside: what is opened together with it; owners and rows are of both, and as its
        own lineage is not shown, an approval is for this value alone and for what was tested until beside_version.
        """
        count, digest = version
        known = int(rows) if math.isfinite(rows) else 0
        window = [ref.size, ref.stride, ref.offset, ref.dtype]
        more = [beside] if beside else []
        series = "" if lineage.hash is None or beside else self._hash("series", lineage.hash, window)
        return Request(
            self._hash("value", digest, count, ref.slot, window, *more, *(beside_version if beside else ())),
            series, self.session, self.driver,
            round(time.time(), 3), list(ref.size), sorted(owners), known, digest.hex(), [*lineage.operations, *more],
        )  # fmt: skip

    def _hash(self, *facts: Any) -> str:
        return hashlib.sha256(msgspec.msgpack.encode([self._nonce, self.driver, *facts])).hexdigest()[:32]


class Approvals:
    """The folders of requests, as the worker uses them.  state: None where there is no state folder."""

    def __init__(self, me: str, state: Path | None) -> None:
        self._me = me
        self._state = state
        self._asked: dict[tuple[str, str], dict[str, str]] = {}  # by driver and session: ids that waited, their series
        if state is not None:
            for name in FOLDERS:
                (state / name).mkdir(parents=True, exist_ok=True, mode=0o700)

    def begin(self) -> None:
        """No session lives yet: whatever is there was left by a worker that ended at once."""
        for name in FOLDERS if self._state is not None else ():
            for path in self._folder(name).iterdir():
                path.unlink(missing_ok=True)

    def ask(self, request: Request) -> tuple[str, str]:
        """(who approved, "") of a request, or ("", why it is not permitted).  An approval for once is used up."""
        if self._state is None:
            return "", f"{self._me} wants to be asked, and has no `state` folder where a request could wait"
        command = f"`pysmpc approve {request.id}`"
        if (by := self._approved(request)) is not None:
            return by, ""
        if (self._folder(DENIED) / request.id).exists():
            return "", f"{self._me} was asked, and said no to request {request.id}; {command} there changes that"
        if not (self._folder(WAITING) / request.id).exists():
            asked = [each for (driver, _), ids in self._asked.items() if driver == request.driver for each in ids]
            if sum((self._folder(WAITING) / each).exists() for each in asked) >= WAITING_LIMIT:
                return "", f"{self._me} wants to be asked, and {WAITING_LIMIT} requests of {request.driver} wait there"
            self._asked.setdefault((request.driver, request.session), {})[request.id] = request.series
            _write(self._folder(WAITING) / request.id, request)
        return "", f"{self._me} wants to be asked: {command} there, then open again"

    def _approved(self, request: Request) -> str | None:
        approved = self._folder(APPROVED)
        once = _read(approved / request.id, Decision)
        if once is not None and not once.until and _same(once.request, request):
            (approved / request.id).unlink()
            return once.by
        lasting = _read(approved / request.series, Decision) if request.series else None
        if lasting is None or not lasting.until or lasting.request.series != request.series:
            return None
        if lasting.until <= time.time():
            (approved / request.series).unlink(missing_ok=True)
            return None
        fits = lasting.request.shape == request.shape and lasting.request.owners == request.owners
        return lasting.by if fits and request.rows >= lasting.request.rows else None

    def end(self, requests: Requests) -> None:
        """A session is over: its requests and approvals are, too."""
        for each in self._asked.pop((requests.driver, requests.session), {}).items():
            for name in FOLDERS:
                for file in filter(None, each):
                    (self._folder(name) / file).unlink(missing_ok=True)

    def _folder(self, name: str) -> Path:
        assert self._state is not None
        return self._state / name


def _same(one: Request, other: Request) -> bool:
    return msgspec.structs.replace(one, since=0.0) == msgspec.structs.replace(other, since=0.0)


# --- at the owner's command line ----------------------------------------------------


def waiting(state: str) -> list[Request]:
    """Requests that wait, the oldest first."""
    found = (_read(path, Request) for path in _files(state, WAITING))
    return sorted((each for each in found if each is not None), key=lambda each: each.since)


def granted(state: str) -> list[Decision]:
    """Approvals that are not used up."""
    found = (_read(path, Decision) for path in _files(state, APPROVED))
    now = time.time()
    return [each for each in found if each is not None and (not each.until or each.until > now)]


def approve(state: str, request: str, seconds: int = 0) -> bool:
    """Approve a request that waits or was denied: once, or what it stands for for a time.  False where there is none.

    ConfigurationError where an approval for a time cannot be given.
    """
    place = _named(state, request, WAITING) or _named(state, request, DENIED)
    if place is None:
        return False
    kept: Any = _read(place, Request) if place.parent.name == WAITING else _read(place, Decision)
    facts: Request | None = kept.request if isinstance(kept, Decision) else kept
    if facts is None:
        return False
    if seconds and not facts.series:
        raise ConfigurationError(
            f"what leads to the value of request {request} was not followed to its beginning: it can be approved once"
        )
    decision = Decision(facts, user(), time.time() + seconds if seconds else 0.0)
    return _decide(state, place, APPROVED, facts.series if seconds else facts.id, decision, seconds)


def deny(state: str, request: str) -> bool:
    """Deny a request that waits, or take back its approval; False where there is neither."""
    place = _named(state, request, WAITING) or _named(state, request, APPROVED)
    if place is not None and place.parent.name == WAITING:
        facts = _read(place, Request)
    else:
        found = [each.request for each in granted(state) if each.request.id == request]
        facts = found[0] if found else None
        if facts is not None:
            lasting = Path(state) / APPROVED / (facts.series or facts.id)
            place = lasting if lasting.exists() else place
    if facts is None or place is None:
        return False
    return _decide(state, place, DENIED, facts.id, Decision(facts, user()))


def user() -> str:
    """The person at the command line, as the operating system calls them."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a user without a name
        return f"user {os.getuid()}"


def _decide(state: str, place: Path, folder: str, name: str, decision: Decision, seconds: int = 0) -> bool:
    """Move a request to where its decision is kept; False if it has gone in the meantime."""
    facts = decision.request
    _note(
        Path(state) / LOG,
        {
            "what": "deny" if folder == DENIED else "approve",
            "by": decision.by,
            "driver": facts.driver,
            "request": facts.id,
            "owners": facts.owners,
            "shape": facts.shape,
            **({"seconds": seconds} if seconds else {}),
        },
    )
    like = place.stat()
    target = Path(state) / folder / name
    taken = target.with_name(f".{secrets.token_hex(8)}")
    try:
        place.rename(taken)  # whoever does this decides
    except FileNotFoundError:
        return False
    _write(target, decision, like)
    taken.unlink()
    return True


def _note(log: Path, facts: dict[str, Any]) -> None:
    line = json.dumps({"time": round(time.time(), 3), **facts}).encode() + b"\n"
    descriptor = os.open(log, os.O_WRONLY | os.O_APPEND)  # the worker made it, as its own user
    try:
        os.write(descriptor, line)
    finally:
        os.close(descriptor)


# --- files --------------------------------------------------------------------------


def _files(state: str, folder: str) -> list[Path]:
    place = Path(state) / folder
    return sorted(path for path in place.iterdir() if _ID.fullmatch(path.name)) if place.is_dir() else []


def _named(state: str, request: str, folder: str) -> Path | None:
    """The file of a request, whose name came from outside."""
    if not _ID.fullmatch(request):
        return None
    path = Path(state) / folder / request
    return path if path.exists() else None


def _write(path: Path, content: msgspec.Struct, like: os.stat_result | None = None) -> None:
    """Whole or not at all, for the worker's user alone.  like: whose file it shall be."""
    beside = path.with_name(f".{secrets.token_hex(8)}")
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(msgspec.json.encode(content))
            if like is not None and like.st_uid != os.geteuid():
                os.fchown(file.fileno(), like.st_uid, like.st_gid)  # root decides for a worker of another user
        beside.rename(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


_Kind = TypeVar("_Kind", Request, Decision)


def _read(path: Path, kind: type[_Kind]) -> _Kind | None:
    """None for what is missing, or no such file."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except (FileNotFoundError, msgspec.DecodeError, UnicodeDecodeError):
        return None
