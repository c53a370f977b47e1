"""Sessions: who holds shares, who provides randomness, and what passed between them."""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch

from pysmpc.errors import PartyError
from pysmpc.mpc.derived.ranges import Checked
from pysmpc.mpc.derived.tested import Flags, Tested
from pysmpc.mpc.interfaces import Dealer, Party, Where
from pysmpc.mpc.suite import Suite, default, plaintext
from pysmpc.ring import z2k
from pysmpc.ring.prg import KeySet, fresh_key
from pysmpc.ring.shares import ShareStorage
from pysmpc.session.builder import Builder
from pysmpc.session.channel import Local
from pysmpc.session.dealer import LocalCorrections, SeedDealer
from pysmpc.session.locks import SessionLock
from pysmpc.session.stats import Stats

_serial = itertools.count(1)


class Session:
    """The holders of a set of secrets and their crypto provider.

    holders: names, in the order of the shares.  provider: a name outside of them.
    `party` is this process's part; `suite` the protocols in use; `me` the one party that
    this process is, or None where it is all of them.  `lock`: held by the thread that
    computes with it.  checked: raise RangeError where a value leaves the ring, if all shares are in this process;
    `arithmetic` is then the suite's with these checks, else the suite.  tested: by protocol instead, wherever they are;
    `flags` keeps what comes of the tests.
    spmd: its processes each run the program (single program, multiple data), and compare which steps they repeat.
    """

    spmd = False

    def __init__(
        self,
        holders: Sequence[str],
        provider: str,
        party: Party,
        stats: Stats,
        suite: Suite = default,
        checked: bool = True,
        tested: bool = False,
    ) -> None:
        suite.check(len(holders))
        self.holders = tuple(holders)
        self.provider = provider
        self.party = party
        self.stats = stats
        self.suite = suite
        self.flags = Flags(party) if tested else None
        self._checked = checked and party.rows == party.holders
        self.checks = self._checks(suite)
        self.me: str | None = None
        self.serial = next(_serial)
        where = Where(self.serial, self.holders, tuple(self.holders[i] for i in party.ranks))
        party.channel.where = party.dealer.where = where
        party.channel.end = party.dealer.end = party.owner.end = party.end
        self.lock = SessionLock(party.end)
        self.plain = suite.plaintext
        self.recorder: Any = None  # where the shares are at workers of other machines: pysmpc.remote.driver.recorder
        self.tensor: Any = None  # the type of its tensors, if not SecretTensor
        self.chains = self.plain  # its secrets are shown as PySyft 0.2 shows them
        self.waiting: list[Any] = []  # updates that pysmpc.tensor.storage.flush will apply
        self.loops: Any = None  # what is known of training loops (pysmpc.program.loop)
        self.eager = False  # whether they are computed operation by operation
        self._bodies: list[weakref.ref[ShareStorage]] = []
        self._sweep_at = 1024
        self._variants: dict[Suite, Session] = {suite: self}

    @classmethod
    def built(cls, build: Builder, party: Party, checked: bool = True, tested: bool = False) -> Session:
        """The session of a part that a builder made."""
        return cls(build.holders, build.provider, party, build.stats, build.suite, checked, tested)

    @property
    def owing(self) -> bool:
        """Whether updates wait, under any protocols."""
        return any(other.waiting for other in self._variants.values())

    def _checks(self, suite: Suite) -> Checked | None:
        if self.flags is not None:
            return Tested(suite, self.flags)
        return Checked(suite) if self._checked else None

    @property
    def arithmetic(self) -> Suite | Checked:
        """What products, sums and truncations of operations are made with; protocols take the suite."""
        return self.checks or self.suite

    def __repr__(self) -> str:
        how = "" if self.suite.name in ("default", "plaintext") else f"; {self.suite.name}"
        return f"Session({', '.join(self.holders)}; provider {self.provider}{how}; number {self.serial})"

    def __deepcopy__(self, memo: dict[int, Any]) -> Session:
        return self  # keys, counts and connections: a copy would draw the same masks again

    def __reduce_ex__(self, protocol: Any) -> Any:
        raise PartyError(
            f"{self!r} cannot be pickled: it holds keys and connections of this process; make parties anew where they "
            "are needed (sy.virtual, sy.connect, sy.distributed)"
        )

    def under(self, suite: Suite) -> Session:
        """The same parties, keys and counts with other protocols; the same object for the same suite.

        Secrets of the two do not mix: a result would follow neither.
        """
        if suite not in self._variants:
            suite.check(len(self.holders))
            other = object.__new__(type(self))
            vars(other).update(vars(self))
            other.suite = suite
            other.checks = None if self.checks is None else self._checks(suite)
            other.plain = suite.plaintext
            other.waiting, other.loops = [], None
            self._variants[suite] = other
        return self._variants[suite]

    def sharing(self, owner: str | None, *facts: object) -> tuple[Party, bool]:
        """This process's part when `owner` shares an input, and whether it is the owner.

        facts: what all processes must agree on.  Raises PartyError for an unknown owner.
        """
        self.check_owner(owner)
        return self.party, True

    def check_owner(self, owner: str | None) -> None:
        """Raise PartyError unless the owner of an input is a holder, or not named."""
        if owner is not None and owner not in self.holders:
            raise PartyError(f"'{owner}' cannot own an input here: the holders are {', '.join(self.holders)}")

    @property
    def hosted(self) -> tuple[str, ...]:
        """The holders whose shares are in this process."""
        return tuple(self.holders[i] for i in self.party.ranks)

    def note(self, *facts: object) -> None:
        """Processes of their own compare what they note; one process has nobody to compare with."""

    def as_one(self, *facts: object) -> AbstractContextManager[None]:
        """Within, a step is repeated or recorded, which processes of their own note by these facts alone.

        An error in it ends the session at all of them.
        """
        return nullcontext()

    def gather(self, words: torch.Tensor) -> list[torch.Tensor]:
        """Public words of every process, in order of holders and provider; waits for all."""
        return [words]

    def told(self, owner: str | None, fits: bool) -> bool:
        """Whether the owner of an input says that its values are what was stated of them; all processes hear it."""
        return fits

    def close(self) -> None:
        """Wait until all that was sent has been taken."""

    def register(self, body: ShareStorage) -> None:
        """Note a body that holders keep; forgotten when it is dropped."""
        self._bodies.append(weakref.ref(body))
        if len(self._bodies) >= self._sweep_at:
            self._bodies[:] = [ref for ref in self._bodies if ref() is not None]
            self._sweep_at = max(1024, 2 * len(self._bodies))

    def forget(self, body: ShareStorage) -> None:
        """No longer list a body that a holder deleted."""
        self._bodies[:] = [ref for ref in self._bodies if ref() is not body]

    def live(self, holder: str) -> Iterator[tuple[int, ShareStorage, torch.Tensor]]:
        """(serial, body, words) of a hosted holder's shares, oldest first."""
        if self.holders.index(holder) not in self.party.ranks:
            raise PartyError(f"{holder} is another process: what it keeps cannot be seen from here")
        row = self.party.ranks.index(self.holders.index(holder))
        known = [body for ref in self._bodies if (body := ref()) is not None]
        bodies = {body.serial: body for body in known if isinstance(body.held, torch.Tensor)}
        alone = len(self.party.ranks) == len(self.holders)  # what is missing can be dealt without the others
        for serial, body in sorted(bodies.items()):
            found = body.words if alone else body.held
            lanes = found.shape[0] // len(self.party.ranks)  # several to an authenticated share
            words = found[row * lanes : (row + 1) * lanes]
            yield serial, body, words.view(body.shape if lanes == 1 else (lanes, *body.shape))


def virtual_session(
    holders: Sequence[str],
    provider: str = "crypto_provider",
    suite: Suite = default,
    dealer: Callable[[Callable[[int], None]], Dealer] | None = None,
    checked: bool = True,
    tested: bool = False,
) -> Session:
    """All holders, the provider and the owner of inputs in this process.

    Every party's computation is done and every message counted; only the sockets are
    missing.  dealer: makes one of what to tell the bytes, in place of a provider.  checked, tested: as of `Session`.
    """
    n = len(holders)
    build = Builder(holders, provider, range(n), suite)
    z2k.keep_memory()
    dealer_keys, owner_keys, ring_keys = ([fresh_key() for _ in range(n)] for _ in range(3))

    def dealing(keys: list[bytes]) -> tuple[LocalCorrections, KeySet, KeySet]:
        """The way of corrections, the holders' keys, and the keys of whoever deals."""
        return LocalCorrections(), build.keys(keys), KeySet(keys)

    party = build.party(
        channel=Local(n, build.stats),
        dealer=dealer(build.stats.count_dealt) if dealer else build.dealer(*dealing(dealer_keys)),
        owner=build.owner(*dealing(owner_keys)),
        ring=(KeySet(ring_keys), KeySet(ring_keys[1:] + ring_keys[:1])),
        notary=KeySet([fresh_key()]) if dealer is None else None,  # what was dealt before knew of none
    )
    return Session.built(build, party, checked, tested)


def _plain_session() -> Session:
    nobody = KeySet([])
    dealer = SeedDealer(nobody, None, False, LocalCorrections(), lambda count: None)
    stats = Stats()
    party = Party(1, (0,), Local(1, stats), dealer, dealer, nobody, nobody)
    return Session(("public",), "nobody", party, stats, plaintext)


#: Public fixed-precision tensors, before they are shared and after they were opened.
plain_session = _plain_session()
