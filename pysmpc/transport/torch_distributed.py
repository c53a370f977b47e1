"""Every party a rank of `torch.distributed`: for clusters whose launcher places processes.

Ranks 0 .. n-1 hold shares, one each; rank n, the last, is the crypto provider and deals
ahead.  All ranks run the same program; what each sends carries a running digest of its
program, so that ranks which differ are told at the next message: where a loop is repeated
(`pysmpc.program`), a step of it is noted as a whole, before its first message.  Messages travel
over a gloo group of their own.  Gloo neither encrypts nor authenticates: see docs/threat-model.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist

from pysmpc.errors import ChannelError, PartyError
from pysmpc.mpc.interfaces import Party
from pysmpc.ring import z2k
from pysmpc.ring.prg import KEY_BYTES, KeySet, fresh_key
from pysmpc.session.builder import Builder
from pysmpc.session.dealer import SeedDealer
from pysmpc.session.locks import SessionLock
from pysmpc.session.session import Session
from pysmpc.torch_modes import keep_promises
from pysmpc.transport.rank_wires import (
    ASKING,
    DEALING,
    OPENING,
    SHARING,
    VOUCHING,
    Program,
    RankChannel,
    Wire,
    WireCorrections,
    WireQueries,
)

HELLO = 256  # bytes of what ranks tell each other first


class DistributedSession(Session):
    """One rank's part.

    owners: by holder, the mechanism with which that holder shares its inputs.  notaries: the key
    of each holder and the provider, where this rank is one of the two.
    """

    spmd = True

    def __init__(
        self,
        build: Builder,
        party: Party,
        *,
        rank: int,
        owners: dict[str, SeedDealer],
        notaries: dict[str, KeySet],
        program: Program,
        wires: Sequence[Wire],
        peers: dict[int, Wire],
        checked: bool,
    ) -> None:
        super().__init__(build.holders, build.provider, party, build.stats, build.suite, tested=checked)
        self.lock = SessionLock(party.end, one_thread=True)
        for dealer in owners.values():
            dealer.end = party.end
        self.me = (*self.holders, self.provider)[rank]
        self.rank = rank
        self.program = program
        self._owners = owners
        self._notaries = notaries
        self._wires = wires
        self._peers = peers

    def sharing(self, owner: str | None, *facts: object) -> tuple[Party, bool]:
        """Other ranks' owners share by keys of their own; the first holder owns what nobody else does."""
        owner = self.holders[0] if owner is None else owner
        self.check_owner(owner)
        self.program.note("share", owner, self.suite.name, *facts)
        return replace(self.party, owner=self._owners[owner], notary=self._notaries[owner]), owner == self.me

    def gather(self, words: torch.Tensor) -> list[torch.Tensor]:
        """Public words of every rank."""
        self.party.end.check()
        for wire in self._peers.values():
            wire.send("gather", words)
        said = {self.rank: words, **{rank: wire.take("gather", len(words)) for rank, wire in self._peers.items()}}
        return [said[rank] for rank in sorted(said)]

    def told(self, owner: str | None, fits: bool) -> bool:
        """A message of the owner to every other rank, which waits for it: no rank goes on alone."""
        owner = self.holders[0] if owner is None else owner
        if owner != self.me:
            return bool(self._peers[self.holders.index(owner)].take("fits", 1).item())
        for wire in self._peers.values():
            wire.send("fits", torch.tensor([int(fits)]))
        return fits

    def note(self, *facts: object) -> None:
        """Part of the program that all ranks must have in common."""
        self.program.note(*facts)

    @contextmanager
    def as_one(self, *facts: object) -> Iterator[None]:
        """Operations within are noted by these facts and by what they cost.  After an error all ranks stop."""
        self.program.note("as one", *facts)
        before, number, self.program.silent = self.stats.copy(), self.party.dealer.streams(0), True
        try:
            yield
        except BaseException:
            self._stop()
            raise
        finally:
            self.program.silent = False
        self.program.note(self.stats - before, self.party.dealer.streams(0) - number)

    def _stop(self) -> None:
        self.party.end.reason = self.party.end.reason or "a step of a training loop failed at this rank"
        for wire in self._wires:
            with suppress(ChannelError, PartyError):
                wire.stop()

    def close(self) -> None:
        """Wait until every rank has taken what this one sent, of what it was asked for so far."""
        if self.party.end.reason:
            return
        keep_promises()
        for wire in self._wires:
            wire.drain()


def join(
    holders: Sequence[str], provider: str, timeout: timedelta, checked: bool = False, eager: bool = False
) -> DistributedSession:
    """This rank's session; every rank of the job calls it at the same point.

    checked: ranges are tested by protocol.  eager: no step is repeated.

    Names default to rank0, rank1, ...  Raises PartyError where the job does not fit.
    """
    if not dist.is_available() or not dist.is_gloo_available():
        raise PartyError("this torch was built without torch.distributed's gloo backend")
    if not dist.is_initialized():
        try:
            dist.init_process_group("gloo", timeout=timeout)
        except ValueError as error:
            raise PartyError(
                f"this process is not a rank of a job ({error}); start the script with torchrun --nproc-per-node 3 "
                "train.py, or call torch.distributed.init_process_group first"
            ) from None
    rank, n = dist.get_rank(), dist.get_world_size() - 1
    if n < 2:
        raise PartyError(
            f"the job has {n + 1} rank(s); two holders and the crypto provider need at least 3 (one more a holder)"
        )
    holders = list(holders) or [f"rank{i}" for i in range(n)]
    if len(holders) != n:
        raise PartyError(
            f"{len(holders)} holders were named, but the job has {n + 1} ranks: one a holder, the last the provider's"
        )
    build = Builder(holders, provider, (rank,) if rank < n else ())
    z2k.keep_memory()
    group = dist.new_group(backend="gloo", timeout=timeout)
    how = f"{'; checked' if checked else ''}{'; eager' if eager else ''}"
    setup = f"{', '.join(holders)}; crypto provider {provider}{how}"
    _greet(group, n + 1, setup)
    program, names = Program(), [*holders, provider]
    wires: list[Wire] = []

    def wire(peer: int, kind: int) -> Wire:
        wires.append(Wire(group, peer, names[peer], kind, program, timeout))
        return wires[-1]

    session = _session(build, rank, program, wire, wires, checked)
    session.eager = eager
    return session


def _session(
    build: Builder, rank: int, program: Program, wire: Callable[[int, int], Wire], wires: list[Wire], checked: bool
) -> DistributedSession:
    n, holds, names = build.n, rank < build.n, build.holders

    def dealing(source: int, kind: int, cause: str) -> tuple[WireCorrections, KeySet, KeySet | None]:
        """The way of corrections of `source`, and keys that it makes: here the holder's own, at `source` all."""
        keys = _deliver(source, rank, n, wire, kind)
        feed = WireCorrections(
            [None if i == rank else wire(i, kind) for i in (range(n) if rank == source else [source])], cause
        )
        everyone = KeySet([keys[i] for i in range(n)]) if rank == source else None
        return feed, build.keys([keys[rank]] if holds else []), everyone

    asked = {peer: wire(peer, ASKING) for peer in ([n] if holds else range(n))}
    desk = WireQueries(list(asked.values()))
    correlated = build.dealer(*dealing(n, DEALING, "deal"), desk)
    owners = {names[i]: build.owner(*dealing(i, SHARING, "share")) for i in range(n)}
    notaries = _notaries(rank, names, wire)
    own, after = _ring(rank, n, wire) if holds else ([], [])
    links = {peer: wire(peer, OPENING) for peer in range(n) if holds and peer != rank}
    party = build.party(
        channel=RankChannel(n, build.stats, list(links.values())),
        dealer=correlated,
        owner=owners[names[0]],
        ring=(KeySet(own), KeySet(after)),
    )
    return DistributedSession(
        build,
        party,
        rank=rank,
        owners=owners,
        notaries=notaries,
        program=program,
        wires=wires,
        peers={**links, **asked},
        checked=checked,
    )


def _notaries(rank: int, holders: Sequence[str], wire: Callable[[int, int], Wire]) -> dict[str, KeySet]:
    """The key that each holder has in common with the provider alone: at the holder its own, at the provider all."""
    n = len(holders)
    if rank == n:
        return {name: KeySet([_receive_key(wire(i, VOUCHING))]) for i, name in enumerate(holders)}
    key = fresh_key()
    _send_key(wire(n, VOUCHING), key)
    return {name: KeySet([key] if i == rank else []) for i, name in enumerate(holders)}


def _ring(rank: int, n: int, wire: Callable[[int, int], Wire]) -> tuple[list[bytes], list[bytes]]:
    """A ring of keys: a holder's own, which the one before it is sent, and that of the one after it."""
    own = fresh_key()
    _send_key(wire((rank - 1) % n, OPENING), own)
    return [own], [_receive_key(wire((rank + 1) % n, OPENING))]


def _deliver(source: int, rank: int, n: int, wire: Callable[[int, int], Wire], kind: int) -> dict[int, bytes]:
    """The keys that `source` makes: all at the source, at another holder its own, elsewhere none."""
    if rank != source:
        return {rank: _receive_key(wire(source, kind))} if rank < n else {}
    keys = {i: fresh_key() for i in range(n)}
    for i, key in keys.items():
        if i != rank:
            _send_key(wire(i, kind), key)
    return keys


def _send_key(wire: Wire, key: bytes) -> None:
    wire.send("key", torch.frombuffer(bytearray(key), dtype=torch.int64))


def _receive_key(wire: Wire) -> bytes:
    return wire.take("key", KEY_BYTES // 8).numpy().tobytes()


def _greet(group: Any, ranks: int, setup: str) -> None:
    """Refuse ranks that were set up otherwise."""
    text = f"protocol 1; {setup}".encode()[:HELLO].ljust(HELLO)
    mine = torch.frombuffer(bytearray(text), dtype=torch.uint8)
    found = [torch.empty_like(mine) for _ in range(ranks)]
    dist.all_gather(found, mine, group)
    for rank, theirs in enumerate(found):
        if not torch.equal(theirs, mine):
            other = theirs.numpy().tobytes().decode(errors="replace").strip()
            raise PartyError(f"rank {rank} was set up as '{other}', this one as '{text.decode().strip()}'")
