"""A worker's side of a program: run the operations that the driver sends, on this party's share.

Only operations of the table of handlers run, with arguments of known types, below
autograd, as they ran at the driver.  Every value knows whose data went into it.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch

import pysmpc.ops  # noqa: F401  (fills the table of operations)
from pysmpc import api
from pysmpc.errors import ChannelError, IntegrityError, RemoteError
from pysmpc.fixedpoint import Precision
from pysmpc.prg import KeySet
from pysmpc.protocols import exact
from pysmpc.protocols.interfaces import Dealer
from pysmpc.protocols.short import short
from pysmpc.protocols.suite import authenticated_default, default, suites
from pysmpc.remote.arguments import decode, dtype_of, leaves, results, window
from pysmpc.remote.messages import (
    Call,
    Drop,
    Flush,
    Forget,
    Input,
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
from pysmpc.remote.recorder import state_of
from pysmpc.remote.steps import Steps
from pysmpc.runtime.session import Session
from pysmpc.shares import Share
from pysmpc.tensor import HANDLERS, Cell, SecretTensor, flush

OPERATIONS = {str(func): func for func in HANDLERS}


@dataclasses.dataclass(frozen=True)
class Origin:
    """Whose data a value was computed from.

    owners: names.  items: of this worker's own data, which: a bit an item, by name of data.
    """

    owners: frozenset[str] = frozenset()
    items: tuple[tuple[str, int], ...] = ()

    def __or__(self, other: Origin) -> Origin:
        if other is self or (other.owners <= self.owners and other.items == self.items):
            return self
        if not self.owners:
            return other
        merged = dict(self.items)
        for name, bits in other.items:
            merged[name] = merged.get(name, 0) | bits
        return Origin(self.owners | other.owners, tuple(sorted(merged.items())))

    @property
    def count(self) -> int:
        """Distinct items of this worker's own data."""
        return sum(bits.bit_count() for _, bits in self.items)


NOBODY = Origin()


class Replay:
    """The values of one session at one worker.

    owners: the dealers of everybody who may share.  notaries: their keys for authenticated
    inputs.  values(load): the encoded items of an owner's data, called where they are.
    came(slot): told of a result while the step that it comes of is still being done.
    """

    def __init__(
        self,
        session: Session,
        driver: str,
        owners: Mapping[str, Dealer],
        notaries: Mapping[str, KeySet],
        values: Callable[[Load], tuple[Any, Origin]],
        came: Callable[[int], None] = lambda slot: None,
    ) -> None:
        self.session = session
        self._driver = driver
        self._owners = owners
        self._notaries = notaries
        self._values = values
        self.came = came
        self._cells: dict[int, Cell] = {}
        self._origins: dict[int, Origin] = {}
        self._written: dict[int, int] = {}  # how many operations there were when a slot was last written
        self._count = 0
        self._steps = Steps(self)

    def cell(self, slot: int) -> Cell:
        """What is in a slot."""
        try:
            return self._cells[slot]
        except KeyError:
            raise ChannelError(f"there is no value in slot {slot}") from None

    def keep(self, slot: int, cell: Cell, origin: Origin) -> None:
        """Put a value into a slot."""
        if slot in self._cells or slot < 0:
            raise ChannelError(f"slot {slot} is not free")
        # where a value came from is kept by slot: with two names, a write through one would not be seen at the other
        if self._cells.get(getattr(cell, "slot", -1)) is cell:
            raise ChannelError(f"the value in slot {cell.slot} cannot be in slot {slot}, too")
        self._cells[slot] = cell
        self._origins[slot] = origin
        self._written[slot] = self._count
        cell.slot = slot

    def origin(self, ref: Ref) -> Origin:
        """Whose data a value was computed from."""
        return self._origins[ref.slot]

    def origin_of(self, slot: int) -> Origin:
        """Whose data what is in a slot was computed from."""
        self.cell(slot)
        return self._origins[slot]

    def wrote(self, slot: int, origin: Origin) -> None:
        """A value in a slot is another now."""
        self._origins[slot] = origin
        self._written[slot] = self._count

    def close(self) -> None:
        """The session is over."""
        self._steps.close()

    def version(self, ref: Ref) -> int:
        """Tells a value from others that were in its slot, or will be."""
        return self._written[ref.slot]

    def __len__(self) -> int:
        return len(self._cells)

    def bytes(self) -> int:
        """Of shares in slots."""
        return sum(8 * cell._body.n * cell._body.rows for cell in list(self._cells.values()))

    def _under(self, suite: str) -> Session:
        """The session with the protocols of that name."""
        cut = re.fullmatch(r"(.+), ([1-9][0-9]?) bits", suite)
        if cut and 2 <= int(cut[2]) <= 63:
            for found in (default, exact.nearest(default)):
                if found.name == cut[1]:
                    return self.session.under(short(found, int(cut[2])))
        for base in (*suites.values(), authenticated_default):
            for found in (base, exact.nearest(base)):
                if found.name == suite:
                    return self.session.under(found)
        raise ChannelError(f"there are no protocols named {suite[:80]!r} here")

    # --- operations ---

    def run(self, operation: Operation, buffers: Iterator[torch.Tensor]) -> None:
        """One operation; `open` and fetches are the worker's business."""
        self._count += 1
        self._steps.about(operation)
        if isinstance(operation, Call):
            self._call(operation, buffers)
        elif isinstance(operation, Drop):
            for slot in operation.slots:
                self.cell(slot)
                del self._cells[slot], self._origins[slot], self._written[slot]
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
            api.refresh(window(operation.ref, self.cell(operation.ref.slot)))
        else:
            raise ChannelError(f"{type(operation).__name__} is no operation on values")

    def _call(self, call: Call, buffers: Iterator[torch.Tensor]) -> None:
        func = OPERATIONS.get(call.name)
        if func is None:
            raise ChannelError(f"{call.name[:80]!r} is not in the table of operations")
        args = [decode(x, self.cell, buffers) for x in call.args]
        kwargs = {name: decode(x, self.cell, buffers) for name, x in call.kwargs.items()}
        given = leaves([*args, *kwargs.values()])
        slots = {x.cell.slot for x in given if isinstance(x, SecretTensor) and not x.cell.session.plain}
        if not slots:
            raise ChannelError(f"{call.name} has no secret among its arguments")
        origin = NOBODY
        for slot in slots:
            origin |= self._origins[slot]
        written = slots if func._schema.is_mutable else set()
        self._steps.look(func, args, kwargs, slots, written)
        for slot in written:
            self.wrote(slot, origin)
        try:
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
        for slot, value in zip(call.outs, found, strict=True):
            if slot >= 0:
                self.keep(slot, value.cell, origin)
        self._steps.came(slots, call.outs)

    def _input(self, operation: Input) -> None:
        if operation.everyone != (self._under(operation.suite).suite.lanes > 1):
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
            out = SecretTensor.of(share, session, Precision(slot.base, slot.digits), dtype_of(slot.dtype))
            self.keep(slot.slot, out.cell, origin)

    def shares(self, operation: Open, permits: Callable[[], bool]) -> torch.Tensor:
        """What this party sends the driver of a value that is opened to it: [rows, n] words.

        Its shares, counted as a round; under codes the value under a mask that the driver knows, or the
        mask alone where a holder does not permit it.
        """
        self._steps.about(operation)
        if (state := state_of(self.session)) != operation.state:
            raise RemoteError(f"this party's program stands at {state}, the driver's at {operation.state}")
        value = window(operation.ref, self.cell(operation.ref.slot))
        share, suite = value.window(), value.session.suite
        words = share.words()
        permitted = permits()
        if suite.disclose is not None:
            masked, _ = suite.disclose(value.session.party, share, permitted)
            return masked  # type: ignore[no-any-return]
        self.session.party.channel.count([words], "reveal", [share.shape])  # type: ignore[attr-defined]
        return words
