"""Openings of one session: what its driver or another holder may see, by the rules and the answers of the owner."""

from __future__ import annotations

import logging
import math

import torch

from pysmpc.errors import ChannelError, OpenNotPermittedError
from pysmpc.remote.messages import WITHHELD, Denied, Opened
from pysmpc.remote.program_messages import Hand, Open
from pysmpc.remote.worker import opened_values
from pysmpc.remote.worker.approvals import Requests
from pysmpc.remote.worker.budget import FLAG
from pysmpc.remote.worker.driver_session import DriverSession
from pysmpc.remote.worker.history import Lineage
from pysmpc.remote.worker.origins import combined
from pysmpc.remote.worker.policy import Part
from pysmpc.remote.worker.session_sums import SessionSums
from pysmpc.ring.prg import KeySet, fresh_key
from pysmpc.transport.wire import tensor_frames

log = logging.getLogger("pysmpc.worker")


class SessionOpenings:
    """The openings of one session."""

    def __init__(self, session: DriverSession, sums: SessionSums) -> None:
        self._session, self._worker, self._driver = session, session.worker, session.driver
        self._sums = sums
        self._requests = Requests(session.driver)

    def end(self) -> None:
        """The session is over: what it asked the owner for is no longer waited for."""
        self._worker.openings.end(self._requests)

    def open(self, number: int, operation: Open) -> None:
        """Send the driver this party's shares of a value, if all holders consent; else say why not."""
        refusal = ""

        def permits() -> bool:
            nonlocal refusal
            refusal = self._refusal(operation)
            return not refusal

        try:
            words, refused, failed = opened_values.shares(self._session.running, operation, permits)
        except ChannelError as error:
            log.warning("not opened", extra={"peer": self._driver, "reason": f"not all parties agreed: {error}"})
            raise
        if not words.shape[0]:
            return
        if refusal:
            self._session.post(Denied(number, "OpenNotPermittedError", refusal))
            return
        if refused:  # they say why
            log.info("kept", extra={"peer": self._driver, "refused": refused})
            self._session.post(Denied(number, WITHHELD, f"{', '.join(refused)} did not consent"))
            return
        if failed:
            log.info("out of range", extra={"peer": self._driver})
            self._session.post(Denied(number, "RangeError", "a value was too large since the last opening"))
            return
        self._session.post(Opened(number, 8 * words.shape[1]), *tensor_frames(words[0]))

    def _refusal(self, operation: Open) -> str:
        """Why the driver may not see a value, or nothing.  The provider, who has no part of it, is not asked."""
        if self._session.dismissed():
            return self._session.dismissed()
        if self._worker.config.role != "holder":
            return ""
        replay, history = self._session.running, self._session.history
        if replay.session.flags is not None and replay.session.flags.failed:
            return "a value was too large in this session, and nothing is opened in it any more: connect again"
        origin, flag = replay.origin(operation.ref), replay.flag
        both = origin if flag is None else combined([origin, flag])
        lineage = history.of(operation.ref.slot) if history is not None else Lineage()
        request = self._requests.request(
            operation.ref,
            replay.version(operation.ref),
            both.owners,
            both.rows.least,
            lineage,
            "" if flag is None else FLAG,
            replay.flag_at,
        )
        parts = [Part(origin.owners, origin.rows.least, tuple(operation.ref.size))]
        if flag is not None:
            parts.append(Part(flag.owners, flag.rows.least, (), FLAG))
        concerned = self._worker.config.name in both.owners
        try:
            with self._worker.contributions.lock:
                if concerned and (reason := self._sums.refusal()):
                    raise OpenNotPermittedError(reason)
                self._worker.openings.open(self._driver, parts, request)
                if concerned:
                    self._worker.contributions.add(self._sums.made)
        except OpenNotPermittedError as error:
            log.warning("not opened", extra={"peer": self._driver, "reason": str(error)})
            return str(error)
        log.debug("opened", extra={"peer": self._driver, "shape": operation.ref.size, "owners": sorted(origin.owners)})
        return ""

    def hand(self, number: int, operation: Hand) -> None:
        """A value is opened to a holder, and to nobody else."""
        replay, me = self._session.running, self._worker.config.name
        masks: list[torch.Tensor] = []
        refusal = ""

        def permits() -> bool:
            nonlocal refusal
            if self._worker.config.role == "holder":
                refusal = self._hand_refusal(operation)
            return not refusal

        def mask(count: int) -> torch.Tensor:
            masks.append(KeySet([fresh_key()]).draw(0, count)[0])
            return masks[0]

        words, refused = opened_values.hand(replay, operation, mask if me == operation.receiver else None, permits)
        if self._worker.config.role != "holder":
            return
        if refusal:
            log.warning("not opened", extra={"peer": self._driver, "reason": refusal})
            self._session.post(Denied(number, "OpenNotPermittedError", refusal))
            return
        if refused or words is None:
            self._session.post(Denied(number, WITHHELD, f"{', '.join(refused)} did not consent"))
            return
        if masks:
            scale = replay.cell(operation.ref.slot).scale
            self._worker.received.put(operation.name, words.reshape(-1) - masks[0], operation.ref, scale)
            log.info("received", extra={"peer": self._driver, "data": operation.name, "shape": operation.ref.size})
        self._session.post(Opened(number, 0))

    def _hand_refusal(self, operation: Hand) -> str:
        """Why a holder may not have a value, or nothing."""
        origin, me = self._session.running.origin(operation.ref), self._worker.config.name
        reason = self._session.dismissed()
        if me == operation.receiver:
            reason = reason or self._worker.received.refusal(operation.name, math.prod(operation.ref.size))
        shape, items = tuple(operation.ref.size), origin.rows.least
        try:
            with self._worker.contributions.lock:
                if me in origin.owners:
                    reason = reason or self._sums.refusal()
                self._worker.openings.hand(self._driver, operation.receiver, origin.owners, items, shape, reason)
                if me in origin.owners:
                    self._worker.contributions.add(self._sums.made)
        except OpenNotPermittedError as error:
            return str(error)
        return ""
