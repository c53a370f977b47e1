"""`pysmpc status` and `pysmpc approve`: what a worker says of itself, and what its owner allows."""

from __future__ import annotations

import argparse
import functools
import json
import logging
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pysmpc.errors import ConfigurationError, PysmpcError
from pysmpc.remote.units import Duration

if TYPE_CHECKING:
    from pysmpc.remote.worker.approvals import Decision, Request


def print_notices(notices: list[tuple[int, str]]) -> None:
    for level, text in notices:
        print(f"{logging.getLevelName(level).lower()}: {text}", file=sys.stderr)


def status(arguments: argparse.Namespace) -> int:
    from pysmpc.remote.config import DriverConfig, WorkerConfig, parse, read
    from pysmpc.remote.driver.driver import ask
    from pysmpc.transport import certificates
    from pysmpc.transport.tls import Tls, address

    values, folder = read(arguments.config)
    places: dict[str, str]
    party: DriverConfig | WorkerConfig
    if "workers" in values:
        driver = parse(values, DriverConfig, folder)
        party, places = driver, driver.workers
    else:
        worker = parse(values, WorkerConfig, folder)
        host, port = address(worker.listen)
        party, places = worker, {worker.name: f"{'127.0.0.1' if host in ('', '0.0.0.0') else host}:{port}"}
    tls, failures, reports = Tls(party.identity, party.revoked), 0, []
    for name, where in places.items():
        try:
            reports.append(ask(tls, name, where))
        except PysmpcError as error:
            failures += 1
            reports.append({"name": name, "error": str(error)})
    if failures or "workers" in values:  # else the worker's own report has them
        print_notices(certificates.notices(certificates.validity(party.identity)))
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
        limits_line(report["limits"], report["numbers_today"]),
    ]
    lines += [f"  {level}: {text}" for level, text in report.get("certificates", ())]
    for each in report["sessions"]:
        lines.append(
            f"  for {each['driver']}: {each['operations']} operations, {each['values']} values of "
            f"{each['share_bytes'] / 1e6:.1f} MB, {each['rounds']} rounds, sent {each['sent_bytes'] / 1e6:.1f} MB, "
            f"received {each['received_bytes'] / 1e6:.1f} MB"
        )
    return "\n".join(lines)


def limits_line(limits: dict[str, str], today: dict[str, int]) -> str:
    """What a driver may use, and what drivers used today."""
    used = ", ".join(f"{driver} {count}" for driver, count in sorted(today.items())) or "none"
    what = ", ".join(f"{name} {limit}" for name, limit in limits.items())
    return f"  limits: {what}\n  numbers opened today (UTC): {used}"


def approve(arguments: argparse.Namespace) -> int:
    from pysmpc.remote.config import WorkerConfig, load
    from pysmpc.remote.worker import approvals

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
