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
from pysmpc.mpc.interfaces import Dealer, Party
from pysmpc.mpc.variants import variant_named
from pysmpc.ops.decompositions import rehearsed
from pysmpc.ops.range_tests import state_bounds
from pysmpc.program.segment import changed, writes
from pysmpc.remote.arguments import decode, dtype_of, leaves, results, window
from pysmpc.remote.program_messages import (
    Call,
    Collect,
    Drop,
    Flush,
    Forget,
    Input,
    Invite,
    Load,
    Operation,
    Record,
    Recorded,
    Ref,
    Refresh,
    Repeat,
    Restore,
    Slot,
)
from pysmpc.remote.worker.held import Held
from pysmpc.remote.worker.origins import NOBODY, Origin, Provenance, combined, origin_of
from pysmpc.remote.worker.recordings import Steps
from pysmpc.remote.worker.row_rules import followed
from pysmpc.remote.worker.row_steps import Operations
from pysmpc.ring.fixedpoint import LIMIT, Precision, kept
from pysmpc.ring.prg import KeySet
from pysmpc.ring.shares import Share
from pysmpc.session.session import Session
from pysmpc.session.transcript import Transcript, untold
from pysmpc.tensor.secret import HANDLERS, SecretTensor
from pysmpc.tensor.storage import TensorStorage, flush
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
        self.driver = driver
        self._owners = owners
        self._notaries = notaries
        self._values = values
        self.came = came
        self.confirmed = confirmed
        self._cells: dict[int, TensorStorage] = {}
        self._count = 0
        self._transcript = transcript
        self.held = held
        self.steps = Steps(self)
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

    def reads(self, origins: Sequence[Origin]) -> None:
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
        self.steps.close()

    def version(self, ref: Ref) -> tuple[int, bytes]:
        """Tells a value from others that were in its slot, or will be: operations so far and their digest, then."""
        return self.cell(ref.slot).provenance.written  # type: ignore[no-any-return]

    def __len__(self) -> int:
        return len(self._cells)

    def bytes(self) -> int:
        """Of shares in slots."""
        return sum(8 * cell._body.n * cell._body.rows for cell in list(self._cells.values()))

    def party_of(self, owner: str, session: Session) -> Party:
        """This process's part in a session, for words that somebody else shares under keys of her own."""
        return dataclasses.replace(session.party, owner=self._owners[owner], notary=self._notaries[owner])

    def _under(self, suite: str) -> Session:
        """The session with the protocols of that name."""
        found = variant_named(suite)
        if found is None:
            raise ChannelError(f"there are no protocols named {suite[:80]!r} here; workers register those of others")
        return self.session.under(found)

    def limit(self, suite: str) -> int:
        """Integers below this in magnitude are what the protocols of that name compute with."""
        narrow = self._under(suite).suite.narrow
        return LIMIT if narrow is None else 1 << (narrow.bits - 1)

    # --- operations ---

    def run(self, operation: Operation, buffers: Iterator[torch.Tensor]) -> None:
        """One operation; `open` and fetches are the worker's business."""
        self._count += 1
        self.reads([])
        given = list(buffers) if isinstance(operation, Call) else []
        self.steps.about(operation, given)
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
            self.steps.run(operation)
        elif isinstance(operation, Refresh):
            steps.refresh(window(operation.ref, self.cell(operation.ref.slot)))
        else:
            raise ChannelError(f"{type(operation).__name__} is no operation on values")

    def _call(self, call: Call, buffers: Iterator[torch.Tensor]) -> None:
        func = OPERATIONS.get(call.name)
        if func is None:
            raise ChannelError(f"{call.name[:80]!r} is not in the table of operations")
        numbers = self.steps.numbers
        args = [decode(x, self.cell, buffers, numbers) for x in call.args]
        kwargs = {name: decode(x, self.cell, buffers, numbers) for name, x in call.kwargs.items()}
        given = leaves([*args, *kwargs.values()])
        cells = list(
            {id(x.cell): x.cell for x in given if isinstance(x, SecretTensor) and not x.cell.session.plain}.values()
        )
        if not cells:
            raise ChannelError(f"{call.name} has no secret among its arguments")
        origins = [origin_of(cell) for cell in cells]
        self.reads(origins)
        if self.session.flags is not None:
            state_bounds(given)
        self.steps.look(func, args, kwargs)
        written: list[TensorStorage] = []
        if writes(func):
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
        if self.steps.recording or followed(func, origins):
            step = self._operations.step(call, func, args, kwargs, cells, found, written)
            made = step.apply(origins)
            for cell in written:
                self.wrote(cell, made[-1])
        kept = []
        for place, (slot, value) in enumerate(zip(call.outs, found, strict=True)):
            if slot >= 0:
                self.keep(slot, value.cell, made[place])
                kept.append((place, value.cell))
        if step is not None:
            self.steps.came(step, cells, kept)

    def _input(self, operation: Input) -> None:
        if operation.everyone != self._under(operation.suite).suite.inputs_to_all:
            raise ChannelError(f"inputs under '{operation.suite}' do not go to these holders")
        self._share(operation, self.driver, None, Origin(frozenset([self.driver])))

    def _share(self, operation: Input | Load, owner: str, values: Any, origin: Origin) -> None:
        if owner not in self._owners:
            raise ChannelError(f"{owner!r} owns nothing here")
        session = self._under(operation.suite)
        share: Share = session.suite.share(
            self.party_of(owner, session), values, tuple(operation.shape), operation.scale
        )
        unit = Precision(operation.base, operation.digits)
        out = SecretTensor.of(share, session, unit, dtype_of(operation.dtype))
        self.keep(operation.slot, out.cell, origin)

    def begin(self, operation: Collect) -> None:
        """It is the next operation; ChannelError for owners that are not holders, or clients that are, each once."""
        self._count += 1
        self.steps.about(operation)
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
        self.steps.about(operation)
        session = self._under(operation.suite)
        for key, slot in operation.values.items():
            words, origin = torch.empty((0, math.prod(slot.shape)), dtype=torch.int64), NOBODY
            if take is not None:
                words, origin = take(key, slot)
            share = Share.of(words, tuple(slot.shape), slot.scale)
            out = SecretTensor.of(share, session, kept(slot.base, slot.digits), dtype_of(slot.dtype))
            self.keep(slot.slot, out.cell, origin)
