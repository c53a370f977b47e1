"""Configuration files of workers and drivers: TOML, every field known, every mistake named."""

from __future__ import annotations

import math
import os
import sys
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from pysmpc.errors import ConfigurationError
from pysmpc.remote.limits import Limits, decode
from pysmpc.remote.units import Duration, Size
from pysmpc.transport.certificates import check_name
from pysmpc.transport.tls import SERIAL, Identity, address, revocation

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

RIGHTS = ("compute", "open")
SILENCE = 3.0  # seconds
CLIENTS = 2  # of whom a sum must be, at least
T = TypeVar("T", bound="_Party")


class Rule(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """What a driver must keep to open something.

    min_items: rows of this owner's data behind each number that is opened, in every term of it.
    approve: each opening waits for `pysmpc approve`.
    """

    min_items: int = 0
    approve: bool = False


class Bounds(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """What the values of an array must satisfy for a worker to start.

    min, max: the least and the greatest value there may be.  classes: the values are labels,
    whole numbers from 0 to classes - 1.
    """

    min: int | float | None = None
    max: int | float | None = None
    classes: int | None = None

    def check(self, what: str) -> None:
        """ConfigurationError for bounds that no value satisfies."""
        if self.classes is not None and self.classes < 1:
            raise ConfigurationError(f"{what}: classes is {self.classes}; labels need at least one")
        for name, bound in (("min", self.min), ("max", self.max)):
            if bound is not None and not math.isfinite(bound):
                raise ConfigurationError(f"{what}: {name} is {bound}; leave it out where there is no bound")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ConfigurationError(f"{what}: min is {self.min}, above max, which is {self.max}")

    @property
    def largest(self) -> float | None:
        """The largest magnitude that there may be, where these say so; public, as all that a file of data states."""
        low = self.min if self.classes is None else max(0, self.min or 0)
        high = self.max if self.classes is None else self.classes - 1
        return None if low is None or high is None else float(max(abs(low), abs(high)))


class Data(Bounds, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """A file of this worker's own data.

    Bounds given here hold for every array of the file but those that `arrays` names, each with bounds of its own.
    table: what its rows are of.  Row i of all data of one table is one row to `min_items`; data without
    a table are of one.
    """

    path: str
    tags: list[str] = []
    description: str = ""
    get: list[str] = []  # drivers who may fetch it in the clear
    table: str = ""
    arrays: dict[str, Bounds] = {}

    def bounds(self, key: str) -> Bounds:
        """Of one array of the file."""
        return self.arrays.get(key, self)


class Task(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """A function of this owner's that drivers may call by name.

    function: "package.module:function", installed at this worker.  data: names of what it is given; all, where there
    are none.  min_owners: how many must take part for this owner's part to be in a sum.  max_norm: updates are clipped
    to this norm or less.  max_value, max_rows: of what may be asked for.  min_noise: the standard deviation of a sum's
    noise, in units of the norm that updates are clipped to, without which this owner takes no part; 0 for none.
    in_the_clear: a driver may have this owner's update by itself, unshared: to compare with, and not for data.
    """

    function: str
    data: list[str] = []
    min_owners: int = 2
    max_norm: float | None = None
    max_value: float = 1024.0
    max_rows: int = 1 << 20
    min_noise: float = 0.0
    in_the_clear: bool = False


class Loop(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """What loops of drivers' own may do with this owner's data (`pysmpc.federated.loops`).

    data: names of what a loop is given, in this order.  max_norm: all that leaves of one round is clipped to this norm.
    epsilon, delta: how much all rounds together may tell of her, whoever asked for them; each round has noise, and
    those that would exceed it are refused.  without_noise: there is none; only loops that treat all rows alike, of
    batches of `min_items` or more, are run.  One of the two has to be said.
    min_owners: of a sum.  colluding: how many of them may work together and take out their parts of the noise.
    max_value, max_rows: of what may be asked for.  steps: operations of one round, of all batches together.  time,
    memory: of one round.
    """

    data: list[str]
    max_norm: float
    epsilon: float | None = None
    delta: float = 1e-5
    without_noise: bool = False
    min_items: int = 32
    min_owners: int = 3
    colluding: int = 1
    max_value: float = 1024.0
    max_rows: int = 1 << 20
    steps: int = 1_000_000
    time: Duration = Duration(600)
    memory: Size = Size(10**9)

    def check(self, name: str, state: str) -> None:
        """ConfigurationError for what makes no sense, or protects nothing without saying so."""
        what = f"loops.{name}"
        if self.without_noise == (self.epsilon is not None):
            raise ConfigurationError(
                f"{what}: say how much loops may tell, epsilon = 3, or without_noise = true for loops without a bound"
            )
        if self.epsilon is not None and not (0 < self.epsilon <= 100 and 0 < self.delta < 1):
            raise ConfigurationError(f"{what}: epsilon is above 0, at most 100, and delta between 0 and 1")
        if self.epsilon is not None and not state:
            raise ConfigurationError(f"{what}: epsilon needs a `state` folder, where what was spent of it is kept")
        if not self.data or not 0 < self.max_norm < math.inf:
            raise ConfigurationError(f"{what}: it names data, and max_norm is a number above 0")
        if self.min_owners <= self.colluding or self.colluding < 0 or self.min_owners < CLIENTS:
            raise ConfigurationError(
                f"{what}: min_owners is {self.min_owners}, of whom {self.colluding} may work together; a sum is of 2 "
                "or more, and more than these"
            )
        if self.min_items < 2 or self.steps < 1 or not self.time or not self.memory:
            raise ConfigurationError(f"{what}: min_items is 2 or more, and steps, time and memory are above 0")


class _Party(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """What every party's file says.

    revoked: parties (by name), and certificates ("serial:" and the number), that it has no more connections with.
    """

    name: str
    certificate: str = ""
    key: str = ""
    ca: str = ""
    revoked: list[str] = []

    @property
    def identity(self) -> Identity:
        """Files of the certificate."""
        return Identity(self.certificate, self.key, self.ca)

    def checked(self, folder: Path) -> None:
        """Complete paths; ConfigurationError for what makes no sense."""
        check_name(self.name)
        self.certificate = str(folder / (self.certificate or f"{self.name}.pem"))
        self.key = str(folder / (self.key or f"{self.name}.key"))
        self.ca = str(folder / (self.ca or "ca.pem"))
        for entry in self.revoked:
            if not revocation(entry).startswith(SERIAL):
                check_name(entry)
        if self.name in self.revoked:
            raise ConfigurationError(f"revoked names {self.name!r}, whose file this is")


class WorkerConfig(_Party, kw_only=True):
    """`pysmpc worker --config FILE`.

    role: "holder" or "provider".  peers: addresses of the other workers.  providers:
    which of them may deal.  drivers: rights of each ("compute", "open").  open: which
    of them may open what derives from this worker's data, and under which rule.
    receivers: holders to whom such a value may be opened, by whichever driver.
    checkpoints: a folder for the shares that drivers let it save; none, none saved.
    limits: what one driver may use.  clients: who, being no holder, may leave shares here; min_clients: in one sum.
    """

    listen: str = "127.0.0.1:7000"
    role: str = "holder"
    peers: dict[str, str] = {}
    providers: list[str] = msgspec.field(default_factory=lambda: ["crypto_provider"])
    drivers: dict[str, list[str]] = {}
    open: list[str] | dict[str, Rule] = []
    receivers: list[str] | dict[str, Rule] = []
    status: list[str] = []
    data: dict[str, Data] = {}
    tasks: dict[str, str | Task] = {}
    loops: dict[str, Loop] = {}
    clients: list[str] = []
    min_clients: int = CLIENTS
    state: str = ""
    checkpoints: str = ""
    threads: int = 0
    limits: Limits = Limits()

    def checked(self, folder: Path) -> None:
        super().checked(folder)
        if self.role not in ("holder", "provider"):
            raise ConfigurationError(f"role is 'holder' or 'provider', not {self.role!r}")
        address(self.listen)
        for name, where in self.peers.items():
            check_name(name)
            address(where)
        for name, rights in self.drivers.items():
            if unknown := set(rights) - {*RIGHTS, *_rights(self)}:
                raise ConfigurationError(
                    f"drivers.{name}: no right {', '.join(sorted(unknown))}; there are {', '.join(RIGHTS)}, and "
                    '"task:NAME" and "loop:NAME" for each task and loop'
                )
        for name in self.clients:
            check_name(name)
        if self.min_clients < CLIENTS:
            raise ConfigurationError(f"min_clients is {self.min_clients}; a sum of one shows an update")
        for name in self.rules:
            if "open" not in self.drivers.get(name, ()):
                raise ConfigurationError(f'open names {name!r}, but drivers.{name} does not list "open"')
        for name, rule in self.handing.items():
            check_name(name)
            if rule.approve:
                raise ConfigurationError(f"receivers.{name}: openings to a holder do not wait for approval")
        if self.role == "provider" and (self.data or self.tasks or self.loops or self.clients):
            raise ConfigurationError(
                "a crypto provider has no data, no tasks, no loops and no clients: it must not know what it masks"
            )
        check_data(self.data, folder)
        if self.checkpoints:
            if self.role == "provider":
                raise ConfigurationError("a crypto provider has no shares, and so no checkpoints")
            self.checkpoints = str(folder / self.checkpoints)
        check_called(self)
        if self.state:
            self.state = str(folder / self.state)
        elif self.limits.numbers:
            raise ConfigurationError("limits.numbers needs a `state` folder, where what was opened today is kept")

    @property
    def rules(self) -> dict[str, Rule]:
        """What each driver must keep."""
        return self.open if isinstance(self.open, dict) else {name: Rule() for name in self.open}

    @property
    def handing(self) -> dict[str, Rule]:
        """What a value must keep to that is opened to each holder."""
        return self.receivers if isinstance(self.receivers, dict) else {name: Rule() for name in self.receivers}


class DriverConfig(_Party, kw_only=True):
    """`sy.connect(FILE)`: who computes, where they are, who deals.

    silence: seconds without a heartbeat after which a worker is held to be lost.
    """

    holders: list[str]
    provider: str = "crypto_provider"
    workers: dict[str, str]
    silence: float = SILENCE

    def checked(self, folder: Path) -> None:
        super().checked(folder)
        if not 0 < self.silence < math.inf:
            raise ConfigurationError("silence is a number of seconds above 0")
        for name, where in self.workers.items():
            check_name(name)
            address(where)
        for name in (*self.holders, self.provider):
            if name not in self.workers:
                raise ConfigurationError(f"workers has no address of {name!r}")


class ClientConfig(_Party, kw_only=True):
    """`pysmpc client --config FILE`: an owner who is no holder.

    workers: addresses of the holders with whom shares are left, of all of them.  drivers: whose rounds this client
    takes part in, with rights to tasks ("task:NAME") and to loops of their own ("loop:NAME").  state: a folder for what
    loops have spent.
    """

    workers: dict[str, str]
    drivers: dict[str, list[str]]
    tasks: dict[str, str | Task] = {}
    loops: dict[str, Loop] = {}
    state: str = ""
    data: dict[str, Data] = {}
    threads: int = 0

    def checked(self, folder: Path) -> None:
        super().checked(folder)
        if len(self.workers) < 2:
            raise ConfigurationError("workers names two holders or more: one alone would see the update")
        if self.name in self.workers:
            raise ConfigurationError(f"{self.name} is a holder by `workers`, and this file is of a client")
        for name, where in self.workers.items():
            check_name(name)
            address(where)
        for name, rights in self.drivers.items():
            check_name(name)
            if unknown := set(rights) - _rights(self):
                raise ConfigurationError(
                    f'drivers.{name}: no right {", ".join(sorted(unknown))}; a client gives "task:NAME" of its tasks, '
                    'and "loop:NAME" of what it allows to loops'
                )
        if not self.tasks and not self.loops:
            raise ConfigurationError("a client has tasks, or allows something to loops")
        check_called(self)
        self.state = str(folder / self.state) if self.state else ""
        check_data(self.data, folder)


def _rights(config: WorkerConfig | ClientConfig) -> set[str]:
    return {f"task:{name}" for name in config.tasks} | {f"loop:{name}" for name in config.loops}


def check_called(config: WorkerConfig | ClientConfig) -> None:
    """ConfigurationError for tasks whose result would be seen alone, and terms of loops that protect nothing."""
    for name, loop in config.loops.items():
        loop.check(name, config.state)
    for name, task in config.tasks.items():
        if isinstance(task, Task) and task.min_owners < 2:
            raise ConfigurationError(f"tasks.{name}: min_owners is {task.min_owners}; a sum of one shows an update")
        if isinstance(task, Task) and not 0 <= task.min_noise < math.inf:
            raise ConfigurationError(f"tasks.{name}: min_noise is {task.min_noise}; it is a number of 0 or more")


def check_data(data: dict[str, Data], folder: Path) -> None:
    """Complete paths; ConfigurationError for names and bounds that make no sense."""
    for name, each in data.items():
        check_data_name(name)
        each.check(f"data.{name}")
        for key, bounds in each.arrays.items():
            bounds.check(f"data.{name}.arrays.{key}")
        data[name] = msgspec.structs.replace(each, path=str(folder / each.path))


def check_data_name(name: str) -> None:
    """ConfigurationError for a name that would be confused with something else."""
    if not name or len(name) > 200:
        raise ConfigurationError(f"data cannot be named {name!r}")


def parse(values: Any, kind: type[T], folder: str | os.PathLike[str] = ".") -> T:
    """Values of a file (or of arguments) as a configuration."""
    try:
        found = msgspec.convert(values, kind, dec_hook=decode)
    except msgspec.ValidationError as error:
        raise ConfigurationError(str(error)) from None
    found.checked(Path(folder))
    return found


def read(path: str | os.PathLike[str]) -> tuple[dict[str, Any], Path]:
    """What a file says, and its folder, which paths in it are relative to."""
    file = Path(path)
    try:
        return tomllib.loads(file.read_text(encoding="utf-8")), file.parent
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{file}: {error}") from None


def load(path: str | os.PathLike[str], kind: type[T]) -> T:
    """A configuration from a file."""
    values, folder = read(path)
    try:
        return parse(values, kind, folder)
    except ConfigurationError as error:
        raise ConfigurationError(f"{path}: {error}") from None
