"""Secure aggregation: updates leave clients as shares, each holder adds up its own, and only the sum is opened.

Clients need not be holders: each leaves its shares and goes.  Of n holders, all but the last are given a key of 16
bytes, from which their share of an update is drawn; the last is given the update less what these keys draw, 8 bytes an
element.  All but one of the holders together see nothing of a single update.

1. A client gives the keys first and the words last: it takes part once the last holder has all of them.
2. The last holder adds words up as they come, and keeps no single ones.
3. When the round is over it says whose words it has.  Each holder consents to the sum of these clients, or raises:
   there must be enough of them, each once, all invited, and no sum of this round may have been opened before.
4. Only then the others draw their shares, and the sum is opened.

A client that is gone before its words are complete is not in the sum.  One whose key a holder lacks makes the round
fail before anything is opened; it is to be done again with other shares.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch

from pysmpc.errors import RoundError
from pysmpc.ring.prg import KEY_BYTES, KeySet, fresh_key

Part = bytes | torch.Tensor
STREAM = 0  # a key is for one update


def shares_of(words: torch.Tensor, holders: int) -> list[Part]:
    """What a client gives each holder: keys, and for the last one words.  `words` is overwritten."""
    keys = [fresh_key() for _ in range(holders - 1)]
    return [*keys, words.add_(KeySet(keys).total(STREAM, len(words)))]


def round_id(*facts: object) -> bytes:
    """Tells a round from others: a digest of what is public about it."""
    return hashlib.sha256(repr(facts).encode()).digest()


class Collector:
    """One holder's part in one round.

    invited: who may take part.  minimum: of clients in a sum.
    """

    def __init__(self, holder: str, size: int, round: bytes, invited: Sequence[str], minimum: int) -> None:
        if minimum < 2:
            raise ValueError("a sum of fewer than 2 clients would show a single update")
        self.holder = holder
        self._size, self._round, self._minimum = size, round, minimum
        self._invited = frozenset(invited)
        self._keys: dict[str, bytes] = {}
        self._sum: torch.Tensor | None = None
        self._added: list[str] = []
        self._over = False

    def __repr__(self) -> str:
        return f"Collector({self.holder}: {len(self._keys) + len(self._added)} clients)"

    @property
    def clients(self) -> list[str]:
        """Whose parts are here, in the order in which they came."""
        return [*self._keys, *self._added]

    def receive(self, client: str, round: bytes, part: Part) -> None:
        """Take a client's part.  RoundError, with nothing changed, for one of another round, or a second one."""
        if self._over:
            raise RoundError(f"{self.holder}: this round is over; {client} came late")
        if round != self._round:
            raise RoundError(f"{self.holder}: {client} sent a part of another round")
        if client not in self._invited:
            raise RoundError(f"{self.holder}: {client} was not invited to this round")
        if client in self._keys or client in self._added:
            raise RoundError(f"{self.holder}: {client} took part in this round already")
        if isinstance(part, bytes):
            if len(part) != KEY_BYTES:
                raise RoundError(f"{self.holder}: {client} sent a key of {len(part)} bytes, not {KEY_BYTES}")
            self._keys[client] = part
            return
        if part.dtype != torch.int64 or tuple(part.shape) != (self._size,):
            raise RoundError(f"{self.holder}: {client} sent {list(part.shape)} words; there must be [{self._size}]")
        if self._sum is None:
            self._sum = torch.zeros(self._size, dtype=torch.int64)
        self._sum.add_(part)
        self._added.append(client)

    def release(self, clients: Sequence[str]) -> torch.Tensor:
        """[size] this holder's share of the sum of these clients, once.  RoundError if it does not consent."""
        if self._over:
            raise RoundError(f"{self.holder}: a sum of this round was opened; another would tell their difference")
        if len(set(clients)) != len(clients):
            raise RoundError(f"{self.holder}: a client is named twice in a sum")
        if len(clients) < self._minimum:
            raise RoundError(
                f"{self.holder} consents to sums of {self._minimum} clients or more; {len(clients)} took part"
            )
        if strangers := sorted(set(clients) - set(self.clients)):
            raise RoundError(f"{self.holder} has no part of {strangers[0]} in this round; it must be done again")
        if self._sum is not None:
            if set(clients) != set(self._added):  # words were added up as they came: there is no other sum
                raise RoundError(f"{self.holder} has a sum of {len(self._added)} clients, and of no part of them")
            self._over = True
            return self._sum
        self._over = True
        out = torch.zeros((1, self._size), dtype=torch.int64)
        for client in clients:
            out = KeySet([self._keys.pop(client)]).mask(STREAM, out)
        self._keys.clear()
        return out[0]
