"""Clients who are no holders: a holder's side of the rounds in which they leave shares and go.

A client connects to every holder.  Each offers the round that a driver's session began, with the same words; the client
compares them, trains, leaves a key with all holders but the last, and the update less what the keys draw with the last.
What holders do with the parts is in `pysmpc.federated.aggregation`.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence

import torch

from pysmpc.errors import ChannelError, RefusedError, RoundError
from pysmpc.federated.aggregation import Collector, Part, round_id
from pysmpc.federated.updates import Terms
from pysmpc.remote.messages import Bring, ClientSays, Decline, Leave, Look, Model, Nothing, NotTaken, Offer, Taken
from pysmpc.remote.program_messages import Invite
from pysmpc.transport.wire import WORDS, Gather, Stream, pack, tensor_frames

log = logging.getLogger("pysmpc.worker")

LONGEST_LOOK = 20.0  # seconds that a client may wait for a round with one question
IDLE = 900.0  # seconds without a word, while it trains
EACH = 2  # connections of one client: of one that died, and the next
UPLOAD, RATE = 30.0, 1e6  # seconds for a client's words, and bytes that it sends in one more second at least
AT_ONCE = 4  # clients whose words are on their way: each takes the memory of an update
STEP = 0.2  # seconds after which one who waits looks whether it is over


class Gathering:
    """One round at one holder: what its clients are told, and what they left."""

    def __init__(
        self,
        me: str,
        driver: str,
        session: str,
        holders: Sequence[str],
        number: int,
        invite: Invite,
        model: torch.Tensor,
        terms: Terms,
    ) -> None:
        self.round = round_id(driver, session, list(holders), number, pack(invite))
        self.offer = Offer(self.round, driver, list(holders), invite)
        self.model, self.size = model, terms.size
        self.last = me == holders[-1]
        self._clients = frozenset(invite.owners)
        self._collector = Collector(me, terms.size, self.round, invite.owners, invite.minimum)
        self._declined: set[str] = set()
        self._closed = False
        self._change = threading.Condition()

    def waits_for(self, client: str) -> bool:
        """Whether it is invited, and has neither left anything nor declined."""
        with self._change:
            return client in self._clients - self._declined and client not in self._collector.clients

    def decline(self, client: str) -> None:
        """Wait for this one no longer."""
        with self._change:
            self._declined.add(client)
            self._change.notify_all()

    def receive(self, client: str, part: Part) -> None:
        """Take a part.  RoundError, with nothing changed, for one that does not fit."""
        if isinstance(part, bytes) == self.last:
            raise RoundError(f"{client} left {'a key' if self.last else 'words'} with the wrong holder")
        with self._change:
            if self._closed:  # who is in the sum was said
                raise RoundError(f"this round is over; {client} came late")
            self._collector.receive(client, self.round, part)
            self._change.notify_all()

    def wait(self, seconds: float, over: Callable[[], bool]) -> list[str]:
        """Until all clients came or declined, or so long: who came.  Nothing more is taken then."""
        until = time.monotonic() + seconds
        with self._change:
            while self._clients - self._declined - set(self._collector.clients) and not over():
                if (left := until - time.monotonic()) <= 0:
                    break
                self._change.wait(min(left, STEP))
            self._closed = True
            return self._collector.clients

    def release(self, clients: Sequence[str]) -> torch.Tensor:
        """This holder's share of the sum of these, once; RoundError if it does not consent."""
        with self._change:
            return self._collector.release(clients)


class Rounds:
    """The rounds of all sessions at this holder, and its connections with clients."""

    def __init__(self) -> None:
        self._open: dict[bytes, Gathering] = {}
        self._change = threading.Condition()
        self._here: Counter[str] = Counter()
        self._room = threading.Semaphore(AT_ONCE)

    def begin(self, gathering: Gathering) -> None:
        """Offer a round."""
        with self._change:
            self._open[gathering.round] = gathering
            self._change.notify_all()

    def end(self, gathering: Gathering) -> None:
        """Take nothing more for it."""
        with self._change:
            self._open.pop(gathering.round, None)

    def serve(self, stream: Stream, dropped: Callable[[], str | None], stopped: Callable[[], bool]) -> None:
        """Until the client leaves.  dropped: why it may leave nothing any more, or None."""
        client = stream.peer
        try:
            with self._change:
                if self._here[client] >= EACH:
                    raise RefusedError(f"{client} is connected {EACH} times already")
                self._here[client] += 1
            try:
                while not stopped():
                    self._answer(stream, stream.receive(ClientSays, IDLE), dropped, stopped)
            finally:
                with self._change:
                    self._here[client] -= 1
        except ChannelError as error:
            log.info("client gone", extra={"peer": client, "reason": str(error)})
        finally:
            stream.close()

    def _answer(
        self,
        stream: Stream,
        message: Look | Bring | Leave | Decline,
        dropped: Callable[[], str | None],
        stopped: Callable[[], bool],
    ) -> None:
        client = stream.peer
        if isinstance(message, Look):
            found = self._find(client, message, stopped)
            stream.send(Nothing() if found is None or dropped() else found.offer)
            return
        with self._change:
            gathering = self._open.get(message.round)
        if gathering is not None and not gathering.waits_for(client):
            gathering = None
        if isinstance(message, Decline):
            if gathering is not None:
                gathering.decline(client)
            return
        if isinstance(message, Bring):
            if gathering is None or dropped():
                stream.send(NotTaken("there is no such round for this client"))
                return
            stream.send(Model(gathering.model.numel() * gathering.model.element_size()))
            for part in tensor_frames(gathering.model):
                stream.queue(part)
            stream.flush()
            return
        reason = dropped() or self._leave(stream, message, gathering)
        if reason:
            log.warning("not taken", extra={"peer": client, "reason": reason})
        stream.send(NotTaken(reason) if reason else Taken())

    def _find(self, client: str, look: Look, stopped: Callable[[], bool]) -> Gathering | None:
        """A round that waits for this client."""
        until = time.monotonic() + min(max(0.0, look.seconds), LONGEST_LOOK)  # in this order, NaN is 0
        while True:
            with self._change:
                for gathering in self._open.values():
                    wanted = not look.round or gathering.round == look.round
                    if wanted and gathering.round not in look.done and gathering.waits_for(client):
                        return gathering
                if stopped() or time.monotonic() >= until:
                    return None
                self._change.wait(STEP)

    def _leave(self, stream: Stream, message: Leave, gathering: Gathering | None) -> str:
        """Take a part; why not, or nothing.  RefusedError, which ends the connection, for words that nobody reads."""
        if gathering is None:
            reason = f"{stream.peer} left a part of a round that is over, or not its own"
            if message.size:
                raise RefusedError(reason)
            return reason
        part: Part = message.key
        if message.size:
            if message.size != 8 * gathering.size:
                raise RefusedError(f"{stream.peer} announced {message.size} bytes, not {8 * gathering.size}")
            if not self._room.acquire(timeout=UPLOAD):
                raise RefusedError("too many clients leave words at once")
            try:
                end = time.monotonic() + UPLOAD + message.size / RATE
                gather = Gather(message.size, stream.peer)
                while gather.left:
                    gather.add(stream.frame(WORDS, end=end))
                return self._take(gathering, stream.peer, gather.tensor(torch.int64))
            finally:
                self._room.release()
        return self._take(gathering, stream.peer, part)

    @staticmethod
    def _take(gathering: Gathering, client: str, part: Part) -> str:
        try:
            gathering.receive(client, part)
        except RoundError as error:
            return str(error)
        return ""
