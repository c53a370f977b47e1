"""`sy.connect`: parties on other machines."""

from __future__ import annotations

import logging
import os
import secrets
from collections.abc import Sequence
from typing import Any

from pysmpc.api.parties import DEFAULTS, Parties, under
from pysmpc.federated.loops import Loop
from pysmpc.mpc.options import Protocol, protocol_of
from pysmpc.remote.config import DriverConfig, load
from pysmpc.remote.driver.driver import Link
from pysmpc.remote.driver.federated_rounds import RemoteClients
from pysmpc.remote.driver.recorder import Recorder
from pysmpc.remote.driver.remote_checkpoints import Checkpoints
from pysmpc.remote.driver.remote_pointers import PrivateDataLoader, RemoteHolder
from pysmpc.transport import certificates
from pysmpc.transport.establish import driver_session
from pysmpc.transport.tls import Tls

__all__ = ["PrivateDataLoader", "RemoteParties", "connect"]

log = logging.getLogger("pysmpc.driver")


class RemoteParties(Parties):
    """The driver's end of a session with workers on other machines.

    Used like the parties of `sy.virtual`.  Close it, or use it in a `with` statement;
    the workers then drop the session's values.
    """

    def __init__(
        self,
        config: DriverConfig,
        tls: Any = None,
        checked: bool = False,
        protocol: Protocol = DEFAULTS,
        eager: bool = False,
    ) -> None:
        session, outgoing, keys = driver_session(config.name, config.holders, config.provider, checked)
        super().__init__(session)
        self.config = config
        self._tls = tls or Tls(config.identity, config.revoked)
        if tls is None:
            for level, text in certificates.notices(certificates.validity(config.identity)):
                log.log(level, text)
        self.link = Link(self._tls, config.holders, config.provider, config.workers, config.silence)
        self.link.end = session.party.end
        self.recorder = Recorder(session, self.link.send, self.link.opened, outgoing, config.name)
        self.recorder.checkpoints = Checkpoints(config.name, self.link, self.recorder)
        self.link.setup(secrets.token_hex(16), keys, checked)
        self.recorder.gone = lambda: self.recorder.broken or self.link.broken
        self.recorder.steps.most, session.eager = self.link.steps, eager
        self.session = under(session, protocol)

    def __getitem__(self, name: str) -> Any:
        """A worker: `parties["alice"].search("#mnist")`."""
        if name not in self.names:
            raise KeyError(f"no holder '{name}' here; there are {', '.join(self.names)}")
        return RemoteHolder(self, name)

    def clients(
        self,
        owners: Sequence[str] | None,
        task: str | Loop,
        score: str | None,
        scores: Sequence[str],
        outside: Sequence[str] | None = None,
        secure: bool = True,
    ) -> RemoteClients:
        """Owners as a federation asks them.  outside: those who are no holders, in their place."""
        return RemoteClients(self, owners, task, score, scores, outside, secure)

    def __enter__(self) -> RemoteParties:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """End the session."""
        self.link.close()

    def wait(self) -> None:
        """Wait until the workers have done all that was asked of them."""
        self.link.wait()

    def status(self) -> list[dict[str, Any]]:
        """Sessions, memory, openings and traffic of each worker."""
        return self.link.status()

    @property
    def traffic(self) -> tuple[int, int]:
        """Bytes that this driver sent and received, before encryption."""
        return self.link.traffic


def connect(
    config: str | os.PathLike[str] | DriverConfig,
    *,
    rounding: str | None = None,
    protocol: str | Protocol | None = None,
    integrity: str | None = None,
    compare_bits: int | None = None,
    checked: bool = False,
    eager: bool = False,
) -> RemoteParties:
    """Connect, as a driver, to workers on other machines.

    config: a TOML file (docs/remote.md), or its content, that names the driver, the workers and the certificates.
    rounding, protocol, integrity, compare_bits: as for `sy.virtual`.
    checked: test by protocol whether products, sums and truncations fit into the ring; if one did not, RangeError
    is raised instead of opening a value (docs/ranges.md has the cost).  The outcome of the tests is opened with each
    value, which takes the consent of every owner whose data was tested.
    eager: send each operation by itself, also those of training loops (docs/performance.md); workers record nothing.

    Raises ConfigurationError if the file is wrong, RefusedError if a worker does not accept this driver, and PeerLost
    if one cannot be reached.

    >>> with sy.connect("parties.toml") as parties:
    ...     [images] = parties["alice"].search("#images")
    """
    how = protocol_of(protocol, rounding, integrity, compare_bits)
    found = config if isinstance(config, DriverConfig) else load(config, DriverConfig)
    return RemoteParties(found, checked=checked, protocol=how, eager=eager)
