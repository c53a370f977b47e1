"""The transcript of a session: a running digest of what a party was told to do.

Parties that were told the same have the same digest.  The header of every message between them
carries it, so that a driver who tells them different programs is found out at the next message;
and every batch of operations begins an epoch, in which masks are drawn under keys that follow from
the digest, so that parties with different programs have no masks in common, whatever they send.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from pysmpc.errors import ChannelError
from pysmpc.ring.prg import EPOCH_BITS, KeySet

EPOCHS = 1 << 20


class Transcript:
    """Of one session at one party.

    keys: those that follow it.  digest: 32 bytes, of all that was told so far.  Where nobody tells the
    parties anything, as each runs a program of its own, it stays what it was at first, and so do the keys.
    """

    def __init__(self, *facts: str, keys: Sequence[KeySet] = ()) -> None:
        """facts: what the parties must agree on from the beginning; with keys, an epoch begins with them."""
        self.digest = _hash(*(fact.encode() for fact in facts))
        self._keys = keys
        self._epochs = 0
        if keys:
            self._begin()

    def __repr__(self) -> str:
        return f"Transcript({self.digest.hex()[:12]}..., epoch {self._epochs})"

    @property
    def base(self) -> int:
        """What the stream numbers of this epoch begin with."""
        return max(self._epochs - 1, 0) << EPOCH_BITS

    def follow(self, told: bytes) -> None:
        """Begin an epoch with what is told now.  All parties must, at the same places of their programs."""
        self.digest = _hash(self.digest, told)
        self._begin()

    def _begin(self) -> None:
        if self._epochs == EPOCHS:
            raise ChannelError(f"{EPOCHS} batches of operations, which is as many as a session can have; connect again")
        for each in self._keys:
            each.follow(self.digest)
        self._epochs += 1


def _hash(*parts: bytes) -> bytes:
    """SHA-256 of the parts, each with its length."""
    found = hashlib.sha256(b"pysmpc transcript 1")
    for part in parts:
        found.update(len(part).to_bytes(8, "little"))
        found.update(part)
    return found.digest()


#: Where every process runs the same program by itself, and compares what it must otherwise.
untold = Transcript()
