"""The driver's side of a program: every operation on a remote secret is also sent to the workers.

torch calls an operation of a `RecordedTensor`; its handler runs here on empty shares, which gives shapes and scales,
and the operation goes to the workers, who run the same handler on theirs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import msgspec
import torch

from pysmpc.errors import PartyError, PysmpcError, RangeError, RoundError
from pysmpc.federated.updates import Terms
from pysmpc.mpc.derived.tested import Flags
from pysmpc.ops.range_tests import state_bounds
from pysmpc.remote.arguments import NAMES, encode, leaves, reference, results
from pysmpc.remote.driver.recorded_steps import RecordedSteps
from pysmpc.remote.driver.recorded_tensor import RecordedTensor
from pysmpc.remote.driver.slots import Slots
from pysmpc.remote.program_messages import (
    Call,
    Collect,
    Drop,
    Flush,
    Hand,
    Input,
    Keep,
    Load,
    Open,
    Operation,
    Recall,
    Refresh,
    Restore,
    Slot,
)
from pysmpc.remote.standing import state_of
from pysmpc.ring.fixedpoint import Integers, Precision
from pysmpc.ring.prg import KeySet
from pysmpc.ring.shares import Share
from pysmpc.session.dealer import LocalCorrections, SeedDealer
from pysmpc.session.session import Session
from pysmpc.tensor.secret import HANDLERS, SecretTensor
from pysmpc.tensor.storage import flush
from pysmpc.torch_modes import in_backward

#: send(operation, buffers for all workers, words for the receiver of inputs, or for every holder); returns its number.
Send = Callable[..., int]

#: receive(number of an operation, words): wait for the words that each holder sends of what it opened.
Receive = Callable[[int, int], list[torch.Tensor]]

#: What the holders open to each other besides a value: a word each.
_WORD = torch.empty((0, 1))


class Recorder:
    """Sends the operations of one session to its workers."""

    def __init__(self, session: Session, send: Send, receive: Receive, words: LocalCorrections, name: str = "") -> None:
        """words: where the session's owner leaves what it would send to the receiver.  name: the driver's."""
        self.session = session
        self._name = name
        self.queue = send
        self._receive = receive
        self._words = words
        self._depth = 0
        self.lock = session.lock
        self.slots = Slots()
        # of owners who are workers: the driver has no part in what they share
        self._elsewhere = SeedDealer(KeySet([]), None, False, LocalCorrections(), lambda count: None)
        self.steps = RecordedSteps(self)
        self.broken: PysmpcError | None = None
        self.gone: Callable[[], PysmpcError | None] = lambda: self.broken  # why nothing can be sent any more
        self.checkpoints: Any = None  # pysmpc.remote.driver.remote_checkpoints
        session.recorder = self
        session.tensor = RecordedTensor

    @property
    def busy(self) -> bool:
        """Whether an operation that was recorded is being run (by this thread: others wait)."""
        return self._depth > 0 and self.lock.held

    def _send(
        self, operation: Operation, buffers: Sequence[torch.Tensor], words: torch.Tensor | None, *more: bool
    ) -> int:
        if self.steps.region is not None:
            self.steps.region.note(operation, buffers)
        return self.queue(operation, buffers, words, *more)

    # --- slots ---

    def _forget(self) -> None:
        """Tell the workers which cells nobody refers to any more."""
        if slots := self.slots.dropped():
            self._send(Drop(slots), (), None)
        self.steps.forget()

    @contextmanager
    def ready(self) -> Iterator[None]:
        """While within, no other thread sends anything; what the workers may forget was said."""
        with self.lock:
            self._check()
            self._forget()
            yield

    def _slot_of_result(self, value: Any) -> int:
        if not isinstance(value, RecordedTensor) or hasattr(value.cell, "slot"):
            return -1
        return self.slots.give(value.cell)

    # --- operations ---

    def _check(self, session: Session | None = None) -> None:
        if self.broken is not None:
            raise self.broken
        if session is not None and not session.suite.additive and session.suite.disclose is None:
            raise NotImplementedError(
                f"protocol '{session.suite.name}' opens values in a way of its own, which workers of other machines do "
                "not know yet; use another protocol, or sy.virtual"
            )

    def call(self, func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        """Run an operation's handler here, and send it."""
        with self.ready():
            given = leaves([*args, *kwargs.values()])
            if any(isinstance(x, RecordedTensor) and x.cell.session.recorder not in (self, None) for x in given):
                return HANDLERS[func](*args, **kwargs)  # raises: nothing joins two sessions
            buffers: list[torch.Tensor] = []
            sent_args = [encode(x, buffers) for x in args]
            sent_kwargs = {name: encode(x, buffers) for name, x in kwargs.items()}
            if self.steps.region is not None:
                self.steps.region.seen.look(func, args, kwargs)
            if self.session.flags is not None:
                state_bounds(given)
            self._depth += 1
            try:
                out = SecretTensor.__torch_dispatch__(func, (), args, kwargs)
            except Exception:
                # it may have come far enough to use streams: everybody goes as far
                self._send(Call(str(func), sent_args, sent_kwargs, [], True, in_backward()), buffers, None)
                raise
            except BaseException as error:
                self.broken = PysmpcError(f"{func} was interrupted ({type(error).__name__}); connect again")
                raise
            finally:
                self._depth -= 1
            outs = [self._slot_of_result(x) for x in results(out)]
            self._send(Call(str(func), sent_args, sent_kwargs, outs, False, in_backward()), buffers, None)
            return out

    def share(
        self,
        session: Session,
        owner: str | None,
        words: Integers,
        shape: Sequence[int],
        unit: Precision,
        scale: int,
        dtype: torch.dtype,
    ) -> SecretTensor:
        """Share integers of the driver's."""
        if owner is not None:
            raise PartyError(
                f"what {owner} owns is at {owner}: parties[{owner!r}].search(...) finds it, and its pointers are shared"
            )
        with self.lock:
            self._check(session)
            self._forget()
            share = session.suite.share(session.party, words, tuple(shape), scale)
            out = SecretTensor.of(share, session, unit, dtype)
            slot = self.slots.give(out.cell)
            everyone = session.suite.inputs_to_all
            facts = scale, unit.base, unit.digits, NAMES[dtype], everyone
            self._send(Input(session.suite.name, slot, list(share.shape), *facts), (), self._words.receive(0), everyone)
            return out

    def load(
        self,
        session: Session,
        owner: str,
        data: str,
        steps: Sequence[Sequence[Any]],
        shape: Sequence[int],
        unit: Precision,
        dtype: torch.dtype,
    ) -> SecretTensor:
        """Let an owner share data of her own.  The driver passes names and positions, no item."""
        with self.lock:
            self._check(session)
            self._forget()
            party = replace(session.party, owner=self._elsewhere, notary=self._elsewhere.keys)
            share = session.suite.share(party, None, tuple(shape), unit.scale)
            out = SecretTensor.of(share, session, unit, dtype)
            slot = self.slots.give(out.cell)
            buffers: list[torch.Tensor] = []
            done = [[encode(x, buffers) for x in step] for step in steps]
            name = session.suite.name
            message = Load(name, slot, list(shape), unit.scale, unit.base, unit.digits, NAMES[dtype], owner, data, done)
            self._send(message, buffers, None)
            return out

    def collect(
        self,
        session: Session,
        terms: Terms,
        make: Callable[[int], Collect],
        values: torch.Tensor,
        outside: bool = False,
    ) -> Any:
        """A sum over owners of what tasks of theirs leave, and who took part, in the order of the owners.

        make: the operation, for a slot.  values: the model, which follows if it is long.  outside: the owners are
        clients, and no holders.  In the clear: the words of the sum.  Raises what they have against it.
        """
        with self.lock:
            self._check(session)
            self._forget()
            unit = terms.precision
            operation = make(-1)
            if outside or operation.clear:
                share = Share.of(torch.empty((0, terms.size), dtype=torch.int64), (terms.size,), unit.scale)
            else:
                party = replace(session.party, owner=self._elsewhere, notary=self._elsewhere.keys)
                share = session.suite.share(party, None, (terms.size,), unit.scale)
            out = SecretTensor.of(share, session, unit, torch.float64)
            operation = msgspec.structs.replace(operation, slot=self.slots.give(out.cell))
            # who takes part, and who consents; of clients: who invites them, who came, who consents
            for count in (1, len(operation.owners), 1) if outside else (1, 1):
                session.party.channel.count([torch.empty((0, count))], "consent", [(count,)])  # type: ignore[attr-defined]
            number = self._send(operation, () if operation.values.data is not None else (values,), None)
            count = len(operation.owners)
            received = torch.stack(self._receive(number, count + terms.size * operation.clear))
            [flags, *others] = received[:, :count].tolist()
            if any(each != flags for each in others):
                raise RoundError("the holders do not agree on who took part")
            out.cell.bound = terms.bound
            found = received[:, count:].sum(0) if operation.clear else out
            return found, [name for name, flag in zip(operation.owners, flags, strict=True) if flag]

    def flush(self, session: Session) -> bool:
        """Apply the updates that wait, here and there.  False within an operation, which flushes by itself."""
        if self.busy:
            return False
        with self.lock:
            self._check()
            self._depth += 1
            try:
                self._send(Flush(session.suite.name), (), None)
                flush(session)
            finally:
                self._depth -= 1
        return True

    @contextmanager
    def refreshing(self, value: SecretTensor) -> Iterator[None]:
        """While the value gets fresh shares."""
        with self.ready():
            self._send(Refresh(reference(value)), (), None)
            self._depth += 1
            try:
                yield
            finally:
                self._depth -= 1

    def open(self, value: SecretTensor) -> torch.Tensor:
        """The integers of a value."""
        with self.lock:
            self._check()
            flags = value.session.flags
            if flags is not None:
                flags.check()
            window = value.window()
            count = window.numel
            # nothing before it: what is opened right after the step that it comes of is opened within the step
            number = self._send(Open(reference(value), self.state(), self._name), (), None)
            window.words()  # what is still to be made of it is made by all parties
            if value.session.suite.disclose is not None:
                _, received = value.session.suite.disclose(value.session.party, window, True)
                disclosed: torch.Tensor = received(torch.stack(self._receive(number, count)))
                return disclosed.reshape(window.shape)
            if flags is not None:
                flags.settle()
            channel: Any = self.session.party.channel
            channel.count([_WORD], "consent", [(1,)])
            if flags is not None:
                channel.count([_WORD], "range", [(1,)])
            channel.count([_WORD if count == 1 else torch.empty((0, count))], "reveal", [window.shape])
            first, *others = self._received(number, count, flags)
            for each in others:
                first += each
            return first.reshape(window.shape)

    def _received(self, number: int, count: int, flags: Flags | None) -> list[torch.Tensor]:
        """What the holders send of a value.  RangeError where they found that one was too large."""
        if flags is None:
            return self._receive(number, count)
        try:
            found = self._receive(number, count)
        except RangeError:
            flags.end(True)
            flags.check()
            raise
        flags.end(False)
        return found

    def hand(self, value: SecretTensor, receiver: str, name: str) -> None:
        """Let a holder have a value, under a name; raises what the others have against it."""
        with self.lock:
            session = value.session
            self._check(session)
            if session.suite.disclose is not None:
                raise NotImplementedError(f"values under '{session.suite.name}' are not opened to a holder alone")
            share = value.window()
            number = self._send(Hand(reference(value), self.state(), receiver, name), (), None)
            share.words()  # what is still to be made of it is made by all parties
            party = replace(session.party, owner=self._elsewhere, notary=self._elsewhere.keys)
            session.suite.add(session.party, share, session.suite.share(party, None, share.shape, share.scale))
            channel: Any = session.party.channel
            channel.count([torch.empty((0, 1))], "consent", [(1,)])
            channel.count([torch.empty((0, share.numel))], "reveal", [share.shape])
            self._receive(number, 0)

    def tell(self, operation: Keep | Recall) -> int:
        """Send an operation that changes no value; its number."""
        with self.ready():
            return self._send(operation, (), None)

    def restore(self, session: Session, made: Mapping[str, SecretTensor]) -> None:
        """Let the workers put what they recalled into new values."""
        with self.lock:
            self._check(session)
            self._forget()
            values = {}
            for key, value in made.items():
                share, unit, slot = value.window(), value.unit, self.slots.give(value.cell)
                values[key] = Slot(slot, list(share.shape), share.scale, unit.base, unit.digits, NAMES[value.dtype])
            self._send(Restore(session.suite.name, values), (), None)

    def state(self) -> list[int]:
        """Where the program stands: equal in every process."""
        return state_of(self.session)
