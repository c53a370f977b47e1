"""The commands of parties on machines of their own: worker, certs, status, approve."""

from __future__ import annotations

import argparse
import functools
import json
import logging
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pysmpc.errors import ConfigurationError, PysmpcError
from pysmpc.remote.units import Duration

if TYPE_CHECKING:
    from pysmpc.remote.approvals import Decision, Request

VERBS = ("worker", "certs", "status", "approve")
_STANDARD = frozenset(vars(logging.makeLogRecord({})))


def add_arguments(verbs: Any) -> None:
    """The subcommands."""
    about = "Hold shares, or deal randomness, for the drivers that the configuration names; runs until stopped."
    worker = verbs.add_parser("worker", help=about, description=about)
    worker.add_argument("--config", type=Path, metavar="FILE", help="TOML; the options below come on top of it")
    worker.add_argument("--id", dest="name", metavar="NAME", help="the name in the certificate")
    worker.add_argument("--role", choices=("holder", "provider"))
    worker.add_argument("--listen", metavar="HOST:PORT")
    worker.add_argument("--cert", dest="certificate", metavar="FILE")
    worker.add_argument("--key", metavar="FILE")
    worker.add_argument("--ca", metavar="FILE")
    worker.add_argument("--peers", nargs="+", metavar="NAME=HOST:PORT", help="the other workers")
    worker.add_argument("--drivers", nargs="+", metavar="NAME=RIGHT,...", help="who may compute, and open")
    worker.add_argument("--open", nargs="+", metavar="NAME", help="drivers who may open what derives from these data")
    worker.add_argument("--data", nargs="+", metavar="NAME=PATH[#TAG...]", help="this worker's own data")
    worker.add_argument("--state", metavar="FOLDER", help="for the log of openings and approvals")
    worker.add_argument("--checkpoints", metavar="FOLDER", help="for the shares that drivers save (default: none)")
    worker.add_argument("--threads", type=int, metavar="N", help="of the kernels and torch (default: all processors)")
    worker.add_argument("--check", action="store_true", help="check everything, say so, and exit")

    about = "Make a private authority, and certificates of it."
    certs = verbs.add_parser("certs", help=about, description=about)
    kinds = certs.add_subparsers(dest="action", required=True, metavar="{init,issue}")
    init = kinds.add_parser("init", help="make an authority in a folder")
    init.add_argument("folder", type=Path)
    init.add_argument("--days", type=int, default=3650)
    issue = kinds.add_parser("issue", help="certificates and keys for names, by the authority of a folder")
    issue.add_argument("folder", type=Path)
    issue.add_argument("names", nargs="+", metavar="NAME")
    issue.add_argument("--days", type=int, default=397)

    about = "Sessions, memory, openings and traffic: of a worker (its file), or of all (a driver's file)."
    status = verbs.add_parser("status", help=about, description=about)
    status.add_argument("--config", type=Path, required=True, metavar="FILE")
    status.add_argument("--json", action="store_true")

    about = "List the openings that wait for this worker's approval, or decide about some."
    approve = verbs.add_parser("approve", help=about, description=about)
    approve.add_argument("requests", nargs="*", metavar="REQUEST", help="as the list names them (default: list)")
    approve.add_argument("--config", type=Path, required=True, metavar="FILE")
    how = approve.add_mutually_exclusive_group()
    how.add_argument("--once", action="store_true", help="this value may be opened once (default)")
    how.add_argument(
        "--for",
        dest="duration",
        metavar="TIME",
        help="for so long (90m, 1h, 2d), and in this session, also what the same operations make of other rows",
    )
    how.add_argument("--deny", action="store_true", help="this value may not be opened; takes back an approval, too")


def main(arguments: argparse.Namespace) -> int:
    """Run one of VERBS.  A PysmpcError or OSError that comes out is for the user to read."""
    return {"worker": _worker, "certs": _certs, "status": _status, "approve": _approve}[arguments.verb](arguments)


def _certs(arguments: argparse.Namespace) -> int:
    from pysmpc.runtime import certificates

    if arguments.action == "init":
        folder = certificates.initialise(arguments.folder, arguments.days)
        print(
            f"{folder / 'ca.pem'}: for every party\n{folder / 'ca.key'}: for nobody; keep it off the parties' machines"
        )
        return 0
    for name in arguments.names:
        files = certificates.issue(arguments.folder, name, arguments.days)
        print(f"{files.certificate}, {files.key}: for {name} alone")
    return 0


# --- worker -------------------------------------------------------------------------


def _pairs(texts: list[str], what: str) -> dict[str, str]:
    found = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals:
            raise ConfigurationError(f"{what} {text!r}: write NAME=...")
        found[name] = value
    return found


def _config(arguments: argparse.Namespace) -> Any:
    """The file, and what the options say on top of it."""
    from pysmpc.remote.config import WorkerConfig, parse, read

    values, folder = read(arguments.config) if arguments.config else ({}, Path())
    for name in ("name", "role", "listen", "state", "checkpoints", "threads"):
        if getattr(arguments, name) is not None:
            values[name] = getattr(arguments, name)
    for name in ("certificate", "key", "ca"):
        if getattr(arguments, name) is not None:
            values[name] = str(Path(getattr(arguments, name)).resolve())
    if arguments.peers:
        values["peers"] = _pairs(arguments.peers, "--peers")
    if arguments.drivers:
        pairs = _pairs(arguments.drivers, "--drivers")
        values["drivers"] = {name: rights.split(",") for name, rights in pairs.items()}
    if arguments.open:
        values["open"] = arguments.open
    if arguments.data:
        values["data"] = {}
        for name, text in _pairs(arguments.data, "--data").items():
            path, *tags = text.split("#")
            values["data"][name] = {"path": str(Path(path).resolve()), "tags": [f"#{tag}" for tag in tags]}
    return parse(values, WorkerConfig, folder)


def _worker(arguments: argparse.Namespace) -> int:
    from pysmpc.remote.worker import Worker

    config = _config(arguments)
    if arguments.check:
        worker = Worker(config)
        worker.close()
        print(f"{config.name}: certificate, key, authority, {len(worker.data)} data, rules and address are in order")
        print(_limits(config.limits.shown(), worker.openings.numbers_today()))
        return 0
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Lines())
    logging.getLogger("pysmpc").addHandler(handler)
    logging.getLogger("pysmpc").setLevel(logging.INFO)
    worker = Worker(config)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: worker.stop())
    worker.serve()
    return 0


class Lines(logging.Formatter):
    """One JSON object a line: time, level, event, and what belongs to it."""

    def format(self, record: logging.LogRecord) -> str:
        """As JSON."""
        extra = {key: value for key, value in vars(record).items() if key not in _STANDARD}
        stamp = self.formatTime(record, "%Y-%m-%dT%H:%M:%S%z")
        line = {"time": stamp, "level": record.levelname.lower(), "event": record.getMessage(), **extra}
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


# --- status and approval ------------------------------------------------------------


def _status(arguments: argparse.Namespace) -> int:
    from pysmpc.remote.config import DriverConfig, WorkerConfig, parse, read
    from pysmpc.remote.driver import ask
    from pysmpc.runtime.tls import Tls, address

    values, folder = read(arguments.config)
    places: dict[str, str]
    if "workers" in values:
        driver = parse(values, DriverConfig, folder)
        identity, places = driver.identity, driver.workers
    else:
        worker = parse(values, WorkerConfig, folder)
        host, port = address(worker.listen)
        identity, places = worker.identity, {worker.name: f"{'127.0.0.1' if host in ('', '0.0.0.0') else host}:{port}"}
    tls, failures, reports = Tls(identity), 0, []
    for name, where in places.items():
        try:
            reports.append(ask(tls, name, where))
        except PysmpcError as error:
            failures += 1
            reports.append({"name": name, "error": str(error)})
    if arguments.json:
        print(json.dumps(reports, indent=1))
    else:
        for report in reports:
            print(summary(report))
    return 1 if failures else 0


def summary(report: dict[str, Any]) -> str:
    """A worker's report as text."""
    if "error" in report:
        return f"{report['name']}: {report['error']}"
    lines = [
        f"{report['name']} ({report['role']}): up {report['seconds']} s, {report['memory'] / 1e6:.0f} MB, "
        f"{report['data']} data, {report['openings']} openings, {report['refused']} refused",
        _limits(report["limits"], report["numbers_today"]),
    ]
    for each in report["sessions"]:
        lines.append(
            f"  for {each['driver']}: {each['operations']} operations, {each['values']} values of "
            f"{each['share_bytes'] / 1e6:.1f} MB, {each['rounds']} rounds, sent {each['sent_bytes'] / 1e6:.1f} MB, "
            f"received {each['received_bytes'] / 1e6:.1f} MB"
        )
    return "\n".join(lines)


def _limits(limits: dict[str, str], today: dict[str, int]) -> str:
    """What a driver may use, and what drivers used today."""
    used = ", ".join(f"{driver} {count}" for driver, count in sorted(today.items())) or "none"
    what = ", ".join(f"{name} {limit}" for name, limit in limits.items())
    return f"  limits: {what}\n  numbers opened today (UTC): {used}"


def _approve(arguments: argparse.Namespace) -> int:
    from pysmpc.remote import approvals
    from pysmpc.remote.config import WorkerConfig, load

    config = load(arguments.config, WorkerConfig)
    if not config.state:
        raise ConfigurationError(f"{arguments.config} names no `state` folder, so nothing can wait for approval")
    if not arguments.requests:
        if arguments.deny or arguments.once or arguments.duration:
            raise ConfigurationError("name the requests that this is about; without options they are listed")
        print(_listed(approvals.waiting(config.state), approvals.granted(config.state), arguments.config))
        return 0
    try:
        seconds = Duration.parse(arguments.duration) if arguments.duration else Duration(0)
    except ValueError as error:
        raise ConfigurationError(f"--for: {error}") from None
    if arguments.duration and not seconds:
        raise ConfigurationError("--for: a time of more than 0 seconds")
    decide = approvals.deny if arguments.deny else functools.partial(approvals.approve, seconds=seconds)
    unknown = [request for request in arguments.requests if not decide(config.state, request)]
    for request in unknown:
        print(f"no request {request[:80]!r} waits", file=sys.stderr)
    return 1 if unknown else 0


def _listed(waiting: Sequence[Request], granted: Sequence[Decision], config: Path) -> str:
    """Requests and approvals, to be read."""
    if not waiting and not granted:
        return "nothing waits for approval"
    parts = [_described(request) for request in waiting]
    for each in granted:
        until = f"until {_clock(each.until)}, for the same operations" if each.until else "once"
        parts.append(f"{_described(each.request)}\n  approved    by {each.by}, {until}")
    if waiting:
        parts.append(f"pysmpc approve --config {config} REQUEST    (--once, --for 1h or --deny)")
    return "\n\n".join(parts)


def _described(request: Request) -> str:
    size = "x".join(map(str, request.shape)) or "one number"
    lines = [
        request.id,
        f"  asked by    {request.driver}, {_clock(request.since)}",
        f"  value       {size}, from data of {', '.join(request.owners)}; {request.rows} rows of this worker's",
        f"  made by     {' -> '.join(request.operations) or 'operations that were not followed'}",
        f"  program     {request.program}",
    ]
    return "\n".join(lines)


def _clock(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))
