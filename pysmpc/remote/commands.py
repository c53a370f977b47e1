"""The commands of parties on machines of their own: worker, certs, status, approve."""

from __future__ import annotations

import argparse
import datetime
import json
import logging
import signal
import sys
from pathlib import Path
from typing import Any

from pysmpc.errors import ConfigurationError
from pysmpc.remote.report_commands import approve, limits_line, print_notices, status

VERBS = ("worker", "client", "certs", "status", "approve")
_STANDARD = frozenset(vars(logging.makeLogRecord({})))


def _days(text: str) -> int:
    """An argument type: how long a certificate is valid."""
    try:
        number = int(text)
    except ValueError:
        number = 0
    if not 1 <= number <= 36500:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of days from 1 to 36500")
    return number


def add_arguments(verbs: Any) -> None:
    """The subcommands."""
    _add_worker(verbs)
    _add_client(verbs)
    _add_certs(verbs)
    _add_status(verbs)
    _add_approve(verbs)


def _add_worker(verbs: Any) -> None:
    about = "Hold shares, or deal randomness, for the drivers that the configuration names; runs until stopped."
    worker = verbs.add_parser(
        "worker",
        help=about,
        description=about,
        epilog="In the file alone: limits, tasks, loops, receivers, rules of an opening (min_items, approve), and "
        "bounds of data (docs/remote.md). A flag takes the place of the file's entry.",
    )
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
    worker.add_argument("--providers", nargs="+", metavar="NAME", help="who may deal (default: crypto_provider)")
    worker.add_argument("--status", nargs="+", metavar="NAME", help="who may ask for the status, beside drivers")
    worker.add_argument("--revoked", nargs="+", metavar="NAME", help="names and serial:NUMBER that are refused")
    worker.add_argument(
        "--get", nargs="+", metavar="NAME=DRIVER,...", help="of --data: drivers who may fetch it in the clear"
    )
    worker.add_argument("--data", nargs="+", metavar="NAME=PATH[#TAG...]", help="this worker's own data")
    worker.add_argument("--state", metavar="FOLDER", help="for the log of openings and approvals")
    worker.add_argument("--checkpoints", metavar="FOLDER", help="for the shares that drivers save (default: none)")
    worker.add_argument("--threads", type=int, metavar="N", help="of the kernels and torch (default: all processors)")
    worker.add_argument("--check", action="store_true", help="check everything, say so, and exit")


def _add_client(verbs: Any) -> None:
    about = "Train on this owner's data when holders invite her, and leave shares with them; runs until stopped."
    client = verbs.add_parser("client", help=about, description=about)
    client.add_argument("--config", type=Path, required=True, metavar="FILE")
    client.add_argument("--once", action="store_true", help="take part in one round, and exit")


def _add_certs(verbs: Any) -> None:
    about = "Make a private authority, and certificates of it."
    certs = verbs.add_parser("certs", help=about, description=about)
    kinds = certs.add_subparsers(dest="action", required=True, metavar="{init,issue,renew}")
    init = kinds.add_parser("init", help="make an authority in a folder")
    init.add_argument("folder", type=Path)
    init.add_argument("--days", type=_days, default=3650, help="until it expires (default: %(default)s)")
    about = "certificates and keys for names, by the authority of a folder"
    issue = kinds.add_parser("issue", help=about, description=about)
    about = "replace certificates in the folder of their authority by new ones for the same names, each with a new key"
    renew = kinds.add_parser(
        "renew",
        help=about,
        description=f"{about[0].upper()}{about[1:]}. They may have expired. Run it where the authority's key is, then "
        "bring NAME.pem and NAME.key to NAME alone, in the place of the old files, and reload the worker (SIGHUP, or "
        "systemctl reload). What is replaced stays valid until it expires: if its key may be known to others, list "
        "the serial number that is printed under `revoked` in every party's file.",
    )
    for kind in (issue, renew):
        kind.add_argument("folder", type=Path, help="with ca.pem and ca.key, which `pysmpc certs init` made")
        kind.add_argument("--days", type=_days, help="until they expire (default: 397 or as the authority; ca: 3650)")
    issue.add_argument("names", nargs="+", metavar="NAME")
    renew.add_argument(
        "names", nargs="+", metavar="NAME", help="of a party; or ca, for the authority's certificate and the same key"
    )
    renew.add_argument(
        "--keep-key",
        action="store_true",
        help="a new certificate for the key of the old one: NAME.key need not be here, and stays as it is at NAME",
    )


def _add_status(verbs: Any) -> None:
    about = "Sessions, memory, openings and traffic: of a worker (its file), or of all (a driver's file)."
    status = verbs.add_parser("status", help=about, description=about)
    status.add_argument("--config", type=Path, required=True, metavar="FILE")
    status.add_argument("--json", action="store_true")


def _add_approve(verbs: Any) -> None:
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
    return {"worker": _worker, "client": _client, "certs": _certs, "status": status, "approve": approve}[
        arguments.verb
    ](arguments)


def _certs(arguments: argparse.Namespace) -> int:
    from pysmpc.transport import certificates

    if arguments.action == "init":
        folder = certificates.initialise(arguments.folder, arguments.days)
        print(
            f"{folder / 'ca.pem'}: for every party\n{folder / 'ca.key'}: for nobody; keep it off the parties' machines"
        )
        return 0
    for name in arguments.names:
        if arguments.action == "issue":
            files = certificates.issue(arguments.folder, name, arguments.days)
            print(f"{files.certificate}, {files.key}: for {name} alone, {_until(files)}")
        else:
            renewed = certificates.renew(arguments.folder, name, arguments.days, arguments.keep_key)
            print(_renewed(name, renewed, arguments.keep_key))
    return 0


def _until(files: Any) -> str:
    """When a certificate ends, and why that is early if it is."""
    from pysmpc.transport import certificates

    own, authority = certificates.validity(files)[:2]
    early = ", when the authority's own certificate ends" if own.ends == authority.ends else ""
    return f"until {own.ends:%Y-%m-%d}{early}"


def _renewed(name: str, renewed: Any, keep_key: bool) -> str:
    """What was renewed, and what is left to do."""
    from pysmpc.transport import certificates

    files, ended = renewed.files, f"{renewed.ended:%Y-%m-%d}"
    if name == certificates.AUTHORITY:
        [authority] = certificates.authorities(files.authority)
        return (
            f"{files.authority}: for every party, until {authority.ends:%Y-%m-%d}; "
            "what the authority signed before stays valid"
        )
    if keep_key:
        return f"{files.certificate}: for {name}, whose key stays the same, {_until(files)}"
    if renewed.ended <= datetime.datetime.now(datetime.timezone.utc):
        before = f"the certificate before expired on {ended}"
    else:
        before = f'the certificate before is valid until {ended}: revoked = ["{renewed.serial}"] refuses it'
    return f"{files.certificate}, {files.key}: for {name} alone, {_until(files)}; {before}"


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
    for name in ("open", "providers", "status", "revoked"):
        if getattr(arguments, name):
            values[name] = getattr(arguments, name)
    if arguments.data:
        values["data"] = {}
        for name, text in _pairs(arguments.data, "--data").items():
            path, *tags = text.split("#")
            values["data"][name] = {"path": str(Path(path).resolve()), "tags": [f"#{tag}" for tag in tags]}
    for name, drivers in _pairs(arguments.get or [], "--get").items():
        if name not in values.get("data", {}):
            raise ConfigurationError(f"--get {name!r}: there are no data of this name")
        values["data"][name]["get"] = drivers.split(",")
    return parse(values, WorkerConfig, folder)


def _worker(arguments: argparse.Namespace) -> int:
    early: list[int] = []  # a signal that comes while the worker is being made counts once it is there
    if not arguments.check:
        signal.signal(signal.SIGHUP, lambda number, _: early.append(number))
    from pysmpc.remote.worker.worker import Worker

    config = _config(arguments)
    if arguments.check:
        return _check(Worker(config))
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Lines())
    logging.getLogger("pysmpc").addHandler(handler)
    logging.getLogger("pysmpc").setLevel(logging.INFO)
    worker = Worker(config, source=lambda: _config(arguments))
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: worker.stop())
    signal.signal(signal.SIGHUP, lambda *_: worker.ask_reload())
    if early:
        worker.ask_reload()
    worker.serve()
    return 0


def _client(arguments: argparse.Namespace) -> int:
    from pysmpc.remote.client import Client
    from pysmpc.remote.config import ClientConfig, load

    client = Client(load(arguments.config, ClientConfig))
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Lines())
    logging.getLogger("pysmpc").addHandler(handler)
    logging.getLogger("pysmpc").setLevel(logging.INFO)
    stopped: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.append(1))
    if arguments.once:
        while not client.take_part() and not stopped:
            pass
    else:
        client.serve(lambda: bool(stopped))
    return 0


def _check(worker: Any) -> int:
    """Say what a worker would start with; 1 if its certificates let nobody connect."""
    from pysmpc.transport import certificates

    worker.close()
    notices = certificates.notices(worker.validity)
    print_notices(notices)
    if any(level >= logging.ERROR for level, _ in notices):
        return 1
    config = worker.config
    print(f"{config.name}: certificate, key, authority, {len(worker.data)} data, rules and address are in order")
    print(limits_line(config.limits.shown(), worker.openings.numbers_today()))
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
