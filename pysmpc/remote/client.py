"""A client: an owner who is no holder.  She trains on her rows, leaves shares with the holders, and goes.

1. Every holder offers the round, with the same words; otherwise nothing is left.
2. The holders must be those of her file, all of them, and the driver must have a right to the task.
3. Her task runs, in this process; what it returns is clipped and encoded as at an owner who is a holder.
4. She leaves a key with all holders but the last, then words with the last: from then on she is in the sum.

An update is left once.  What depends on her values makes her leave the round, and only her own log says why.
"""

from __future__ import annotations

import logging
import math
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import torch

from pysmpc.errors import ChannelError, RemoteError, RoundError
from pysmpc.federated.aggregation import shares_of
from pysmpc.remote.arguments import decode_plain, digest_of, dtype_of, size_of
from pysmpc.remote.config import ClientConfig
from pysmpc.remote.messages import Bring, Decline, Leave, Look, Model, Nothing, NotTaken, Offer, Taken
from pysmpc.remote.worker.data import Store
from pysmpc.remote.worker.tasks import Tasks, Turn
from pysmpc.transport.tls import CLIENT, Tls, dial
from pysmpc.transport.wire import TENSOR, WORDS, Gather, Stream, tensor_frames

log = logging.getLogger("pysmpc.client")

AGREE = 10.0  # seconds for the other holders to offer a round that one of them offers
ANSWER = 60.0  # seconds for an answer
LONGEST = 600.0  # seconds for a task, where the driver names no deadline
REST = 1.0  # seconds between attempts to reach the holders
REMEMBERED = 64  # rounds that are not asked for again


class Client:
    """tls: from the configuration, unless a test brings another."""

    def __init__(self, config: ClientConfig, tls: Any = None) -> None:
        self.config = config
        self._tls = tls or Tls(config.identity, config.revoked)
        self._tasks = Tasks(config.tasks, Store(config.data), config.loops, config.state)
        self._done: deque[bytes] = deque(maxlen=REMEMBERED)
        if config.threads:
            torch.set_num_threads(config.threads)

    def serve(self, stopped: Callable[[], bool]) -> None:
        """Take part in rounds until stopped.  Holders who cannot be reached are tried again."""
        while not stopped():
            try:
                self.take_part()
            except (ChannelError, RoundError, RemoteError) as error:
                log.warning("no part", extra={"worker": self.config.name, "reason": str(error)})
                time.sleep(REST)
            except Exception as error:  # whatever a driver asks for, the client goes on
                log.warning("no part", extra={"worker": self.config.name, "reason": type(error).__name__})
                time.sleep(REST)

    def take_part(self, seconds: float = 5.0) -> bool:
        """Leave shares in one round, if there is one within so many seconds: whether they were left.

        RoundError or RemoteError where the round is not one that this client's file allows, ChannelError where holders
        cannot be reached or refuse.
        """
        streams: dict[str, Stream] = {}
        try:
            for name, where in self.config.workers.items():
                streams[name] = dial(self._tls, name, where, CLIENT)
            offer = self._offered(streams, seconds)
            if offer is None:
                return False
            self._done.append(offer.round)
            words = None
            try:
                words = self._words(offer, streams)
            finally:
                if words is None:  # the others need not wait for her
                    for stream in streams.values():
                        stream.send(Decline(offer.round))
            if words is None:
                return False
            self._leave(offer, words, streams)
            log.info("left shares", extra={"worker": self.config.name, "task": offer.invite.task[:80]})
            return True
        finally:
            for stream in streams.values():
                stream.close()

    def _offered(self, streams: dict[str, Stream], seconds: float) -> Offer | None:
        """The round that all holders offer; None where the first has none.  RoundError where they do not agree."""
        found: Offer | None = None
        for name, stream in streams.items():
            wait, wanted = (seconds, b"") if found is None else (AGREE, found.round)
            stream.send(Look(wait, wanted, list(self._done)))
            answer = stream.receive(Offer | Nothing, wait + ANSWER)
            if isinstance(answer, Nothing):
                if found is None:
                    return None
                raise RoundError(f"{name} does not offer the round that others do; nothing was left")
            if found is not None and answer != found:
                raise RoundError(f"{name} offers the round in other words than others do; nothing was left")
            found = answer
        assert found is not None
        if set(found.holders) != set(streams) or len(found.holders) != len(streams):
            raise RoundError(
                f"the round is added up by {', '.join(found.holders)}; this client leaves shares with all of "
                f"{', '.join(streams)}, and nobody else"
            )
        return found

    def _words(self, offer: Offer, streams: dict[str, Stream]) -> torch.Tensor | None:
        """What leaves her, before it is shared; None where she leaves the round."""
        invite, me = offer.invite, self.config.name
        task = self._tasks.of(me, offer.driver, self.config.drivers.get(offer.driver, ()), invite)
        if invite.minimum < task.settings.min_owners or len(set(invite.owners)) < invite.minimum:
            raise RoundError(
                f"{me} takes part in sums of {task.kind} {task.name} over {task.settings.min_owners} or more "
                "(min_owners)"
            )
        if me not in invite.owners:
            raise RoundError(f"{me} is not invited")
        turn = Turn(me, offer.driver, task, invite, self._model(offer, streams))
        words = self._tasks.run(offer.driver, turn, min(invite.deadline or LONGEST, LONGEST), lambda: False)
        if words is not None and (reason := turn.spend()):
            raise RoundError(reason)
        return words

    @staticmethod
    def _model(offer: Offer, streams: dict[str, Stream]) -> torch.Tensor:
        """The model, from the first holder; all of them agree on its digest."""
        plain = offer.invite.values
        count = math.prod(max(n, 0) for n in plain.size)
        if count * dtype_of(plain.dtype).itemsize > TENSOR:
            raise RoundError(f"a model of {count} numbers is too large")
        if plain.data is not None:
            return decode_plain(plain, iter(()))
        name, stream = next(iter(streams.items()))
        stream.send(Bring(offer.round))
        answer = stream.receive(Model | NotTaken, ANSWER)
        if isinstance(answer, NotTaken):
            raise RoundError(f"{name}: {answer.reason}")
        if answer.size != size_of(plain):
            raise ChannelError(f"{name} announced a model of {answer.size} bytes, not {size_of(plain)}")
        gather = Gather(answer.size, name)
        while gather.left:
            gather.add(stream.frame(WORDS))
        found = gather.tensor(dtype_of(plain.dtype))
        if digest_of(found) != plain.digest:
            raise ChannelError(f"{name} sent another model than the one that was announced")
        return decode_plain(plain, iter([found]))

    @staticmethod
    def _leave(offer: Offer, words: torch.Tensor, streams: dict[str, Stream]) -> None:
        """Keys first, and words last.  RoundError if a holder does not take its part."""
        for name, part in zip(offer.holders, shares_of(words, len(offer.holders)), strict=True):
            stream = streams[name]
            if isinstance(part, bytes):
                stream.send(Leave(offer.round, part, 0))
            else:
                stream.send(Leave(offer.round, b"", 8 * len(part)))
                for frame in tensor_frames(part):
                    stream.queue(frame)
                stream.flush()
            answer = stream.receive(Taken | NotTaken, ANSWER)
            if isinstance(answer, NotTaken):
                raise RoundError(f"{name} did not take a part: {answer.reason}")
