"""A worker's side of a program: run the operations that the driver sends, on this party's share.

Only operations of the table of handlers run, with arguments of known types, below
autograd, as they ran at the driver.  Every value knows whose data went into it.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch

import pysmpc.ops  # noqa: F401  (fills the table of operations)
from pysmpc.api import steps
from pysmpc.errors import ChannelError, IntegrityError, RemoteError
from pysmpc.federated.updates import Terms
from pysmpc.mpc.derived.tested import Flags
from pysmpc.mpc.interfaces import Dealer
from pysmpc.mpc.variants import variant_named
from pysmpc.ops.decompositions import rehearsed
from pysmpc.ops.range_tests import state_bounds
from pysmpc.program.segment import changed
from pysmpc.remote.arguments import decode, dtype_of, leaves, results, window
from pysmpc.remote.program_messages import (
    Call,
    Collect,
    Drop,
    Flush,
    Forget,
    Hand,
    Input,
    Invite,
    Load,
    Open,
    Operation,
    Record,
    Recorded,
    Ref,
    Refresh,
    Repeat,
    Restore,
    Slot,
)
from pysmpc.remote.standing import state_of
from pysmpc.remote.worker.held import Held
from pysmpc.remote.worker.origins import NOBODY, Origin, Provenance, combined, origin_of
from pysmpc.remote.worker.recordings import Steps
from pysmpc.remote.worker.row_rules import followed
from pysmpc.remote.worker.row_steps import Operations
from pysmpc.ring import z2k
from pysmpc.ring.fixedpoint import LIMIT, Precision, kept
from pysmpc.ring.prg import KeySet
from pysmpc.ring.shares import Share
from pysmpc.session.session import Session
from pysmpc.session.transcript import Transcript, untold
from pysmpc.tensor.secret import HANDLERS, SecretTensor, TensorStorage, flush
from pysmpc.torch_modes import asked, in_backward

OPERATIONS = {str(func): func for func in HANDLERS}


class Replay:
    """The values of one session at one worker.

    owners: the dealers of everybody who may share.  notaries: their keys for authenticated
    inputs.  values(load): the encoded items of an owner's data, called where they are.
    came(slot): told of a result while the step that it comes of is still being done.  confirmed: waits for the
    provider's word on which program it runs.  transcript: of all operations so far.  held: counts the memory of values.
    """

    def __init__(
        self,
        session: Session,
        driver: str,
        owners: Mapping[str, Dealer],
        notaries: Mapping[str, KeySet],
        values: Callable[[Load], tuple[Any, Origin]],
        came: Callable[[int], None] = lambda slot: None,
        confirmed: Callable[[], None] = lambda: None,
        transcript: Transcript = untold,
        held: Held | None = None,
    ) -> None:
        self.session = session
        self._driver = driver
        self._owners = owners
        self._notaries = notaries
        self._values = values
        self.came = came
        self._confirmed = confirmed
        self._cells: dict[int, TensorStorage] = {}
        self._count = 0
        self._transcript = transcript
        self.held = held
        self._steps = Steps(self)
        self._operations = Operations()
        self._reading: Origin | None = None  # of what the present operation reads, with updates that still wait
        self.flag: Origin | None = None  # of what was tested since the last opening; None where nothing was
        self.flag_at = (0, b"")  # where the program stood when the last of it was
        if session.flags is not None:
            session.flags.named, session.flags.told, session.flags.asked = False, self._tested, in_backward

    def cell(self, slot: int) -> TensorStorage:
        """What is in a slot."""
        try:
            return self._cells[slot]
        except KeyError:
            raise ChannelError(f"there is no value in slot {slot}") from None

    def keep(self, slot: int, cell: TensorStorage, origin: Origin) -> None:
        """Put a value into a slot."""
        if slot in self._cells or slot < 0:
            raise ChannelError(f"slot {slot} is not free")
        if hasattr(cell, "provenance"):
            raise ChannelError(f"the value in slot {cell.slot} cannot be in slot {slot}, too")
        self._cells[slot] = cell
        cell.provenance = Provenance(origin, self._stands)
        cell.slot = slot
        if self.held is not None:
            self.held.add(slot, cell)

    def origin(self, ref: Ref) -> Origin:
        """Where a copy of what a driver refers to would come from."""
        return origin_of(self.cell(ref.slot)).of(ref)

    def wrote(self, cell: TensorStorage, origin: Origin) -> None:
        """A value is another now."""
        cell.provenance.origin = origin
        cell.provenance.written = self._stands

    def _reads(self, origins: Sequence[Origin]) -> None:
        """An operation begins, on values with these origins.  It may also apply updates that wait."""
        if self.session.flags is not None:
            before = [self._reading] if self._reading is not None and self.session.owing else []
            self._reading = combined([*before, *origins]) if before or origins else None

    def _tested(self) -> None:
        """Something that the present operation reads, or made of it, will be tested."""
        if self._reading is None:
            raise RemoteError("a test of values of which nobody knows where they are from")
        self.flag = combined([self._reading, *([] if self.flag is None else [self.flag])])
        self.flag_at = self._stands

    @property
    def _stands(self) -> tuple[int, bytes]:
        """Operations so far, and the digest of the program."""
        return self._count, self._transcript.digest

    def close(self) -> None:
        """The session is over."""
        self._steps.close()

    def version(self, ref: Ref) -> tuple[int, bytes]:
        """Tells a value from others that were in its slot, or will be: operations so far and their digest, then."""
        return self.cell(ref.slot).provenance.written  # type: ignore[no-any-return]

    def __len__(self) -> int:
        return len(self._cells)

    def bytes(self) -> int:
        """Of shares in slots."""
        return sum(8 * cell._body.n * cell._body.rows for cell in list(self._cells.values()))

    def _under(self, suite: str) -> Session:
        """The session with the protocols of that name."""
        found = variant_named(suite)
        if found is None:
            raise ChannelError(f"there are no protocols named {suite[:80]!r} here")
        return self.session.under(found)

    def limit(self, suite: str) -> int:
        """Integers below this in magnitude are what the protocols of that name compute with."""
        narrow = self._under(suite).suite.narrow
        return LIMIT if narrow is None else 1 << (narrow.bits - 1)

    # --- operations ---

    def run(self, operation: Operation, buffers: Iterator[torch.Tensor]) -> None:
        """One operation; `open` and fetches are the worker's business."""
        self._count += 1
        self._reads([])
        given = list(buffers) if isinstance(operation, Call) else []
        self._steps.about(operation, given)
        if isinstance(operation, Call):
            self._call(operation, iter(given))
        elif isinstance(operation, Drop):
            for slot in operation.slots:
                self.cell(slot)
                del self._cells[slot]
                if self.held is not None:
                    self.held.drop(slot)
        elif isinstance(operation, Input):
            self._input(operation)
        elif isinstance(operation, Load):
            values, origin = self._values(operation)
            self._share(operation, operation.owner, values, origin)
        elif isinstance(operation, Flush):
            flush(self._under(operation.suite))
        elif isinstance(operation, Record | Recorded | Repeat | Forget):
            self._steps.run(operation)
        elif isinstance(operation, Refresh):
            steps.refresh(window(operation.ref, self.cell(operation.ref.slot)))
        else:
            raise ChannelError(f"{type(operation).__name__} is no operation on values")

    def _call(self, call: Call, buffers: Iterator[torch.Tensor]) -> None:
        func = OPERATIONS.get(call.name)
        if func is None:
            raise ChannelError(f"{call.name[:80]!r} is not in the table of operations")
        args = [decode(x, self.cell, buffers) for x in call.args]
        kwargs = {name: decode(x, self.cell, buffers) for name, x in call.kwargs.items()}
        given = leaves([*args, *kwargs.values()])
        cells = list(
            {id(x.cell): x.cell for x in given if isinstance(x, SecretTensor) and not x.cell.session.plain}.values()
        )
        if not cells:
            raise ChannelError(f"{call.name} has no secret among its arguments")
        origins = [origin_of(cell) for cell in cells]
        self._reads(origins)
        if self.session.flags is not None:
            state_bounds(given)
        self._steps.look(func, args, kwargs)
        written: list[TensorStorage] = []
        if func._schema.is_mutable:
            written = list({id(x.cell): x.cell for x in changed(func, args, kwargs) if x.cell in cells}.values())
            for cell in written:  # however far it comes
                self.wrote(cell, combined(origins))
        try:
            with asked(call.backward), rehearsed():
                out = HANDLERS[func](*args, **kwargs)
        except Exception as error:
            if call.failed and not isinstance(error, ChannelError | IntegrityError):
                return
            raise
        if call.failed:
            raise RemoteError(f"{call.name} failed at the driver, but not here")
        found = results(out)
        if len(found) != len(call.outs):
            raise RemoteError(f"{call.name} has {len(found)} results here and {len(call.outs)} at the driver")
        made, step = [combined(origins)] * len(found), None
        if self._steps.recording or followed(func, origins):
            step = self._operations.step(call, func, args, kwargs, cells, found, written)
            made = step.apply(origins)
            for cell in written:
                self.wrote(cell, made[0])
        kept = []
        for place, (slot, value) in enumerate(zip(call.outs, found, strict=True)):
            if slot >= 0:
                self.keep(slot, value.cell, made[place])
                kept.append((place, value.cell))
        if step is not None:
            self._steps.came(step, cells, kept)

    def _input(self, operation: Input) -> None:
        if operation.everyone != self._under(operation.suite).suite.inputs_to_all:
            raise ChannelError(f"inputs under '{operation.suite}' do not go to these holders")
        self._share(operation, self._driver, None, Origin(frozenset([self._driver])))

    def _share(self, operation: Input | Load, owner: str, values: Any, origin: Origin) -> None:
        if owner not in self._owners:
            raise ChannelError(f"{owner!r} owns nothing here")
        session = self._under(operation.suite)
        party = dataclasses.replace(session.party, owner=self._owners[owner], notary=self._notaries[owner])
        share: Share = session.suite.share(party, values, tuple(operation.shape), operation.scale)
        unit = Precision(operation.base, operation.digits)
        out = SecretTensor.of(share, session, unit, dtype_of(operation.dtype))
        self.keep(operation.slot, out.cell, origin)

    def told(self, words: torch.Tensor) -> list[torch.Tensor]:
        """Public words of this holder's go to the others; theirs."""
        channel: Any = self.session.party.channel
        return list(channel.tell("consent", [words]))

    def hand(
        self, operation: Hand, mask: Callable[[int], torch.Tensor] | None, permits: Callable[[], bool]
    ) -> tuple[torch.Tensor | None, list[str]]:
        """The words of a value under a mask of the receiver's, where all consent; who does not.

        1. The receiver shares uniform words, `mask`, which nobody else knows: not a byte.
        2. The holders tell each other whether they consent, and which program they run: one round.
        3. If all consent, they open the value plus the mask to each other: one round.
        """
        self._steps.about(operation)
        if operation.receiver not in self.session.holders:
            raise RemoteError("a value is opened to a holder of the session")
        if (state := state_of(self.session)) != operation.state:
            raise RemoteError(f"this party's program stands at {state}, the driver's at {operation.state}")
        value = window(operation.ref, self.cell(operation.ref.slot))
        share, suite, party = value.window(), value.session.suite, value.session.party
        if suite.disclose is not None or not suite.additive or self.session.flags is not None:
            raise RemoteError("values under these protocols are not opened to a holder")
        # 1. the mask
        receiver = operation.receiver
        owned = dataclasses.replace(party, owner=self._owners[receiver], notary=self._notaries[receiver])
        words = None if mask is None else mask(share.numel)
        masked = suite.add(party, share, suite.share(owned, words, share.shape, share.scale))
        # 2. consent
        self._confirmed()
        refused = [name for name, word in self.said(permits()).items() if not word]
        # 3. the opening
        if refused:
            party.channel.count([masked.words()], "reveal", [share.shape])  # type: ignore[attr-defined]
            return None, refused
        [opened] = suite.reveal(party, masked)
        return opened, []

    # --- sums over owners ---

    def said(self, word: bool) -> dict[str, bool]:
        """What each holder says, of itself and in public: one round.  Nothing at the provider, which is not told."""
        party, holders = self.session.party, self.session.holders
        said = party.channel.gather(torch.full((party.rows, 1), int(word), dtype=torch.int64), "consent", [(1,)])
        mine = [holders[rank] for rank in party.ranks]
        names = [*mine, *(name for name in holders if name not in mine)]
        return {name: one == 1 for name, [one] in zip(names, said.tolist(), strict=bool(mine))}

    def collect(self, operation: Collect, words: torch.Tensor | None, terms: Terms, origin: Origin) -> None:
        """Every owner's term is shared, zeros for one who left, and their sum goes to the slot.

        words: this owner's.  No round, and not a byte: an owner's shares are streams under keys that the others have.
        """
        session, unit = self.session, terms.precision
        mine = {session.holders[rank] for rank in session.party.ranks}
        total: torch.Tensor | None = None
        for owner in operation.owners:
            values = None
            if owner in mine:
                values = torch.zeros(terms.size, dtype=torch.int64) if words is None else words
            party = dataclasses.replace(session.party, owner=self._owners[owner], notary=self._notaries[owner])
            share = session.suite.share(party, values, (terms.size,), unit.scale).words()
            total = share if total is None else z2k.add(total, share)
        assert total is not None
        out = SecretTensor.of(Share.of(total, (terms.size,), unit.scale), session, unit, torch.float64)
        self.keep(operation.slot, out.cell, origin)

    def named(self, names: Sequence[str], came: Sequence[str]) -> list[str]:
        """Which of these names the last holder says: one round.  Nothing at the provider.  came: what it says here."""
        party, holders = self.session.party, self.session.holders
        mine = torch.tensor([[name in came for name in names]], dtype=torch.int64)
        said = party.channel.gather(mine.expand(party.rows, -1).contiguous(), "consent", [(len(names),)])
        if not len(said):
            return []
        order = [holders[rank] for rank in party.ranks]
        order += [name for name in holders if name not in order]
        flags = said[order.index(holders[-1])].tolist()
        return [name for name, flag in zip(names, flags, strict=True) if flag == 1]

    def gathered(self, operation: Collect, words: torch.Tensor | None, terms: Terms, origin: Origin) -> None:
        """This holder's share of a sum of clients' terms goes to the slot; zeros, where there is none."""
        session, unit = self.session, terms.precision
        shares = torch.zeros((session.party.rows, terms.size), dtype=torch.int64)
        if words is not None:
            shares[0] = words
        share = Share.of(shares, (terms.size,), unit.scale)
        self.keep(operation.slot, SecretTensor.of(share, session, unit, torch.float64).cell, origin)

    def begin(self, operation: Collect) -> None:
        """It is the next operation; ChannelError for owners that are not holders, or clients that are, each once."""
        self._count += 1
        self._steps.about(operation)
        owners = operation.owners
        holders = set(self.session.holders)
        fit = holders.isdisjoint(owners) if isinstance(operation, Invite) else set(owners) <= holders
        if not owners or len(set(owners)) != len(owners) or not fit:
            raise ChannelError("the owners of a sum are holders of the session, its clients are none, and each is once")
        if any(size < 0 for shape in operation.gives.values() for size in shape):
            raise ChannelError("a tensor of negative size")

    def restore(self, operation: Restore, take: Callable[[str, Slot], tuple[torch.Tensor, Origin]] | None) -> None:
        """Shares of a checkpoint go to slots.  take: None where there are none, at the provider."""
        self._count += 1
        self._steps.about(operation)
        session = self._under(operation.suite)
        for key, slot in operation.values.items():
            words, origin = torch.empty((0, math.prod(slot.shape)), dtype=torch.int64), NOBODY
            if take is not None:
                words, origin = take(key, slot)
            share = Share.of(words, tuple(slot.shape), slot.scale)
            out = SecretTensor.of(share, session, kept(slot.base, slot.digits), dtype_of(slot.dtype))
            self.keep(slot.slot, out.cell, origin)

    def shares(self, operation: Open, permits: Callable[[], bool]) -> tuple[torch.Tensor, list[str], bool]:
        """What this party sends the driver of a value that is opened to it, [rows, n] words; who does not consent.

        Then, whether a value was found too large: nothing must leave for the driver then, either.

        1. The provider said which program it runs, when it was told of this opening: a message without words.
        2. The holders tell each other whether they consent, and which program they run: one round.
        3. Where ranges are tested, the holders open what came of that, if all consent: a round, counted in either case.
        4. If all consent, and all run the same program, each has its shares: counted as another round, in either case.
        Under codes `disclose` does the second step, and has the value under a mask that the driver knows, or the mask
        alone where a holder does not consent.  Where somebody does not, nothing must leave for the driver.
        """
        self._steps.about(operation)
        if operation.receiver != self._driver:
            raise RemoteError(f"values are opened to {self._driver}, who asks for it, and not to others")
        if (state := state_of(self.session)) != operation.state:
            raise RemoteError(f"this party's program stands at {state}, the driver's at {operation.state}")
        self._reads([])
        value = window(operation.ref, self.cell(operation.ref.slot))
        share, suite, party = value.window(), value.session.suite, value.session.party
        words = share.words()
        if (flags := self.session.flags) is not None:
            flags.settle()
        # 1. the provider's program
        self._confirmed()
        permitted = permits()
        if suite.disclose is not None:
            masked, _ = suite.disclose(party, share, permitted)
            return masked, [], False
        # 2. consent
        said = party.channel.gather(torch.full((party.rows, 1), int(permitted), dtype=torch.int64), "consent", [(1,)])
        mine = [self.session.holders[rank] for rank in party.ranks]
        names = [*mine, *(name for name in self.session.holders if name not in mine)]
        refused = [name for name, [word] in zip(names, said.tolist(), strict=bool(mine)) if word != 1]
        # 3. ranges
        failed = flags is not None and self._failed(flags, bool(refused))
        # 4. the shares
        party.channel.count([words], "reveal", [share.shape])  # type: ignore[attr-defined]
        return words, refused, failed

    def _failed(self, flags: Flags, refused: bool) -> bool:
        """Whether a value was too large since the last opening.  Nothing of it leaves if a holder does not consent."""
        channel: Any = self.session.party.channel
        word = flags.share()
        channel.count([word], "range", [(1,)])
        if refused or not word.shape[0]:
            return False
        for theirs in channel.tell("range", [word[0]]):
            word = word ^ theirs
        self.flag = None
        flags.end(bool(word.any()))
        return bool(flags.failed)
