"""Workers as processes of this machine, with certificates made on the spot: for trying out and for tests."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pysmpc
from pysmpc.errors import ChannelError, RefusedError
from pysmpc.remote.config import DriverConfig, parse
from pysmpc.remote.driver.connect import RemoteParties
from pysmpc.remote.driver.driver import ask
from pysmpc.transport import certificates
from pysmpc.transport.tls import Tls

START = 240.0  # seconds; one that ends is found at once, and a busy machine takes long to import torch


class LocalWorkers:
    """One process for each holder and the provider.  Stop it, or use it in a `with` statement.

    data: {holder: {name: {"path": ..., "tags": [...]}}}.  options: of each worker's
    configuration, by name; those under "" are for all.  places: addresses, where they are
    not free ports of this machine.  within: what goes in front of a worker's command.
    """

    def __init__(
        self,
        holders: Sequence[str] = ("alice", "bob"),
        provider: str = "crypto_provider",
        driver: str = "scientist",
        data: Mapping[str, Mapping[str, Any]] | None = None,
        options: Mapping[str, Mapping[str, Any]] | None = None,
        places: Mapping[str, str] | None = None,
        within: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        self.holders, self.provider, self.driver = list(holders), provider, driver
        self.folder = Path(tempfile.mkdtemp(prefix="pysmpc-"))
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self._within = within or {}
        try:
            names = [*holders, provider]
            certificates.initialise(self.folder)
            for name in (*names, driver):
                certificates.issue(self.folder, name)
            free = zip(names, _ports(len(names)), strict=True)
            self.addresses = {name: f"127.0.0.1:{port}" for name, port in free} | dict(places or {})
            for name in names:
                self._write(name, (data or {}).get(name, {}), options or {})
                self.start(name)
            values = {"name": driver, "holders": list(holders), "provider": provider, "workers": self.addresses}
            self.config = parse(values, DriverConfig, self.folder)
            self.ready()
        except BaseException:
            self.stop()
            raise

    def _write(self, name: str, data: Mapping[str, Any], options: Mapping[str, Mapping[str, Any]]) -> None:
        rights = ["compute", "open"]
        values: dict[str, Any] = {
            "name": name,
            "role": "provider" if name == self.provider else "holder",
            "listen": self.addresses[name],
            "peers": {other: where for other, where in self.addresses.items() if other != name},
            "providers": [self.provider],
            "drivers": {self.driver: rights},
            "open": [self.driver],
            "state": f"{name}.state",
            "data": data,
            "checkpoints": "" if name == self.provider else f"{name}.checkpoints",
            "threads": 1,
            **options.get("", {}),
            **options.get(name, {}),
        }
        (self.folder / f"{name}.toml").write_text(toml(values), encoding="utf-8")

    def start(self, name: str) -> None:
        """Start a worker's process (again)."""
        root = str(Path(pysmpc.__file__).parent.parent)
        path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH", "")]))
        command = [sys.executable, "-m", "pysmpc.cli", "worker", "--config", str(self.folder / f"{name}.toml")]
        with (self.folder / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                [*self._within.get(name, ()), *command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, "PYTHONPATH": path},
            )

    def ready(self) -> None:
        """Until every process answers; ChannelError with its log if one ends."""
        tls, until = Tls(self.config.identity), time.monotonic() + START
        for name, process in self.processes.items():
            while True:
                try:
                    ask(tls, name, self.addresses[name])
                    break
                except RefusedError:
                    raise
                except ChannelError as error:
                    if process.poll() is not None or time.monotonic() > until:
                        raise ChannelError(f"{name} did not start: {error}\n{self.log(name)}") from None
                    time.sleep(0.05)

    def connect(self, checked: bool = False) -> RemoteParties:
        """Parties of these workers.  checked: as of `sy.connect`."""
        return RemoteParties(self.config, checked=checked)

    def log(self, name: str) -> str:
        """What a worker logged."""
        return (self.folder / f"{name}.log").read_text(encoding="utf-8", errors="replace")

    def state(self, name: str) -> Path:
        """The folder of a worker's log of openings."""
        return self.folder / f"{name}.state"

    def kill(self, name: str, how: int = signal.SIGKILL) -> None:
        """Send a signal to a worker's process."""
        self.processes[name].send_signal(how)

    def stop(self) -> None:
        """End the processes, and remove keys and files."""
        for process in self.processes.values():
            process.terminate()
        for process in self.processes.values():
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> LocalWorkers:
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()


def _ports(count: int) -> list[int]:
    """Free ports of this machine."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def toml(values: Mapping[str, Any], prefix: str = "") -> str:
    """Strings, numbers, booleans, lists of them and tables, as TOML."""
    lines, tables = [], []
    for key, value in values.items():
        name = json.dumps(key)
        if isinstance(value, Mapping):
            tables.append(f"\n[{prefix}{name}]\n" + toml(value, f"{prefix}{name}."))
        else:
            lines.append(f"{name} = {json.dumps(value)}")
    return "\n".join([*lines, *tables]) + "\n"
