"""A driver that speaks the wire itself, and tells each worker whatever it likes.

It is built from the message structs, from TLS and from frames, and from nothing that an honest
driver uses (`pysmpc.remote.driver.driver`, `recorder`, `parties`).  `tell` queues operations for all
workers, or for some; each worker has a list and a numbering of its own.  Nothing is checked on the
way out: that is what the workers have to do.

Answers are kept as they come.  `open` returns one for every worker that was asked: words (int64),
or a `Denied`, a `Failed`, or None where a worker left or said nothing.
"""

from __future__ import annotations

import re
import secrets
import time
import zlib
from collections import defaultdict

import torch

from pysmpc.errors import ChannelError
from pysmpc.mpc.suite import default
from pysmpc.remote.messages import Bye, Denied, Failed, Found, Kept, Opened, Ready, Setup, Shelved, Until, Up
from pysmpc.remote.program_messages import (  # fmt: skip
    Batch,
    Call,
    Fetch,
    Input,
    Load,
    Message,
    Open,
    Plain,
    Ref,
    Refresh,
)
from pysmpc.ring.prg import KeySet, fresh_key
from pysmpc.transport.tls import DRIVER, dial
from pysmpc.transport.wire import MESSAGE, PACKED, WORDS, Gather, framed, pack, poll, raw, tensor_frames, unpack

UNIT = 1 << 16
SUITE = default.name
PROVIDER = "crypto_provider"
PATIENCE = 9.0  # seconds for an answer
_STANDS = re.compile(r"stands at \[([\d, ]+)\]")


def ref(slot, shape, offset=0, stride=None, dtype="float32"):
    """A window on what is in a slot: all of it, unless offset and strides say otherwise."""
    if stride is None:
        stride, step = [], 1
        for size in reversed(shape):
            stride.insert(0, step)
            step *= size
    return Ref(slot=slot, size=list(shape), stride=list(stride), offset=offset, dtype=dtype)


def call(name, *args, out=-1, **kwargs):
    """An aten operation with one result."""
    return Call(name=f"aten.{name}", args=list(args), kwargs=kwargs, outs=[out])


def plain(values):
    """A small public tensor."""
    name = str(values.dtype).removeprefix("torch.")
    return Plain(dtype=name, shape=list(values.shape), size=list(values.shape), data=bytes(raw(values)))


def load(slot, data, shape, steps=(), owner="alice", suite=SUITE, digits=16):
    """An owner shares data of hers."""
    kind = "float32" if digits else "int64"
    return Load(
        suite=suite, slot=slot, shape=list(shape), scale=1 << digits, base=2, digits=digits, dtype=kind, owner=owner,
        data=data, steps=[list(step) for step in steps],
    )  # fmt: skip


def fetch(data, shape, owner="alice", steps=()):
    """An owner sends data of hers in the clear."""
    return Fetch(owner=owner, data=data, steps=[list(step) for step in steps], shape=list(shape), dtype="float32")


def refresh(slot, shape):
    """Fresh shares: takes a number of the dealer's streams and sends nothing."""
    return Refresh(ref=ref(slot, shape))


class Again(Exception):
    """The workers have said where their programs stand: the attack knows it now, and starts again."""


class Client:
    """One session.  states: what `run` has learned.  setups: what single workers are told instead."""

    def __init__(
        self,
        workers,
        driver="scientist",
        holders=("alice", "bob"),
        session="",
        states=None,
        setups=None,
        patience=PATIENCE,
    ):
        self.patience = patience
        self.driver, self.holders, self.names = driver, list(holders), [*holders, PROVIDER]
        self.session = session or secrets.token_hex(16)
        self.keys = {name: fresh_key() for name in self.names}
        self.states = {} if states is None else states
        self._at = {}  # where each worker's program stood when it opened something last
        self._opens = 0
        self._inputs = 0
        self._questions = 0
        self._queued = {name: [] for name in self.names}  # (operation, frames)
        self._sent = dict.fromkeys(self.names, 0)
        self._deflate = {name: zlib.compressobj(1) for name in self.names}
        self._gathers = {}
        self._acked = {}
        self.answers = defaultdict(dict)  # by worker, then number
        self.found = {}
        self.ready, self.failed, self.gone = set(), {}, set()
        self.streams = {}
        for name in self.names:
            where = workers.addresses[name]
            self.streams[name] = dial(workers.workers[name].attacker[driver], name, where, DRIVER)
        for name in self.names:
            told = {"session": self.session, "holders": self.holders, **(setups or {}).get(name, {})}
            self._message(name, Setup(provider=PROVIDER, owner_key=self.keys[name], **told))
        self._until(lambda: self.ready | set(self.failed) | self.gone >= set(self.names))

    # --- what is told ---

    def tell(self, *operations, only=None):
        """Queue operations for all workers, or for those named.  Returns the number of the last, by worker."""
        for operation in operations:
            for name in self.names if only is None else only:
                self._queued[name].append((operation, []))
        return {name: self._sent[name] + len(queued) - 1 for name, queued in self._queued.items()}

    def input(self, slot, integers, scale=UNIT, digits=16, only=None, suite=SUITE):
        """Share integers of the driver's own."""
        shape, words = list(integers.shape), integers.reshape(-1).to(torch.int64).clone()
        KeySet([self.keys[name] for name in self.holders]).take(self._inputs, words)
        self._inputs += 1
        kind = "float32" if digits else "int64"
        message = Input(suite=suite, slot=slot, shape=shape, scale=scale, base=2, digits=digits, dtype=kind)
        for name in self.names if only is None else only:
            frames = tensor_frames(words) if name == self.holders[-1] else []
            self._queued[name].append((message, frames))

    def own(self, slot, shape=(), value=0.0, **more):
        """A value of the driver's own, all elements alike."""
        self.input(slot, torch.full(tuple(shape), round(value * UNIT), dtype=torch.int64), **more)

    def flush(self):
        """Send what is queued."""
        for name, queued in self._queued.items():
            if not queued or name in self.gone:
                continue
            deflate, batch = self._deflate[name], Batch(first=self._sent[name], operations=[each for each, _ in queued])
            body = deflate.compress(pack(batch)) + deflate.flush(zlib.Z_SYNC_FLUSH)
            self._sent[name] += len(queued)
            self.streams[name].queue(*framed(PACKED, body))
            for _, frames in queued:
                self.streams[name].queue(*frames)
            queued.clear()

    def ask_open(self, what, only=None):
        """Queue an opening: a Ref, or one for each worker.  Returns its numbers; `open` waits as well."""
        place, self._opens = self._opens, self._opens + 1
        numbers = {}
        for name in self.names if only is None else only:
            one = what[name] if isinstance(what, dict) else what
            state = self.states.get((name, place)) or self._at.get(name) or [0, 0, 0, 0]
            numbers[name] = self.tell(Open(ref=one, state=state, receiver=self.driver), only=[name])[name]
            count = torch.Size(one.size).numel()
            self._at[name] = [state[0] + 1, state[1] + 8 * (len(self.holders) - 1) * count, *state[2:]]
        return place, numbers

    def open(self, what, only=None):
        """Ask for a value's shares; an answer for each holder that was asked."""
        return self.opened(*self.ask_open(what, only))

    def opened(self, place, numbers):
        """Wait for what `ask_open` asked for."""
        asked = {name: number for name, number in numbers.items() if name in self.holders}
        self._until(lambda: all(self._over(name, number) for name, number in asked.items()))
        learned = False
        for name in numbers:
            if any(each in self.failed and _STANDS.search(self.failed[each].text) for each in asked):
                self._until(lambda each=name: each in self.failed or each in self.gone, 1.0)
            stands = _STANDS.search(self.failed[name].text) if name in self.failed else None
            if stands and (name, place) not in self.states:
                self.states[name, place] = [int(each) for each in stands[1].split(",")]
                learned = True
        if learned:
            self.close()
            raise Again
        return {name: self.answer(name, number) for name, number in asked.items()}

    def answer(self, name, number):
        """What a worker answered to an operation, or why it left."""
        return self.answers[name].get(number, self.failed.get(name))

    def asked(self, operation, names):
        """Send an operation whose answers are awaited; those of these workers."""
        numbers = self.tell(operation)
        self._until(lambda: all(self._over(name, numbers[name]) for name in names))
        return {name: self.answer(name, numbers[name]) for name in names}

    def question(self, name, make, *arguments):
        """A question to one worker, beside its operations."""
        self._questions += 1
        self._message(name, make(self._questions, *arguments))
        key = name, self._questions
        self._until(lambda: key in self.found or name in self.gone)
        return self.found.get(key)

    def wait(self):
        """Until all workers are done, or have failed; the errors, by name."""
        self.flush()
        last = {name: sent - 1 for name, sent in self._sent.items()}
        for name, number in last.items():
            if name not in self.gone:
                self._message(name, Until(number))
        self._until(lambda: all(self._done(name, number) for name, number in last.items()))
        return dict(self.failed)

    def close(self):
        """Leave."""
        for name in self.names:
            if name not in self.gone:
                try:
                    self._message(name, Bye())
                    self.streams[name].flush(1.0)
                except ChannelError:
                    pass
            self.streams[name].close()
            self.gone.add(name)

    # --- bytes ---

    def _message(self, name, message: Message):
        self.streams[name].queue(*framed(MESSAGE, pack(message)))

    def _over(self, name, number):
        return number in self.answers[name] or name in self.failed or name in self.gone

    def _done(self, name, number):
        return self._acked.get(name, -1) >= number or name in self.failed or name in self.gone

    def _until(self, done, patience=None):
        self.flush()
        end = time.monotonic() + (patience or self.patience)
        while not done() and time.monotonic() < end:
            there = [self.streams[name] for name in self.names if name not in self.gone]
            if not there:
                return
            poll(there, time.monotonic() + 0.2)
            for stream in there:
                try:
                    stream.push()
                    while (frame := stream.pull()) is not None:
                        self._on_frame(stream.peer, *frame)
                except ChannelError:
                    self.gone.add(stream.peer)

    def _on_frame(self, name, kind, body):
        if kind == WORDS:
            number, gather = self._gathers[name]
            gather.add(body)
            if not gather.left:
                self.answers[name][number] = gather.tensor(torch.int64)
            return
        message = unpack(body, Up, name)
        if isinstance(message, Opened):
            self._gathers[name] = message.number, Gather(message.size, name)
            if not message.size:
                self.answers[name][message.number] = torch.empty(0, dtype=torch.int64)
        elif isinstance(message, Denied | Kept):
            self.answers[name][message.number] = message
        elif isinstance(message, Failed):
            self.failed[name] = message
        elif isinstance(message, Ready):
            self.ready.add(name)
        elif isinstance(message, Shelved | Found):
            self.found[name, message.number] = message
        elif hasattr(message, "number"):
            self._acked[name] = max(self._acked.get(name, -1), message.number)


def run(workers, attack, tries=12, **options):
    """attack(client), from the start again each time that workers have said where their programs stand."""
    states = {}
    for _ in range(tries):
        client = Client(workers, states=states, **options)
        try:
            return attack(client)
        except Again:
            continue
        finally:
            client.close()
    raise AssertionError("the attack does not know where the workers stand")


def released(answers):
    """The shares that came, by holder."""
    return {name: each for name, each in answers.items() if isinstance(each, torch.Tensor)}


def combined(answers, scale=UNIT):
    """The value that shares add up to; None where one is missing."""
    if len(shares := released(answers)) < len(answers):
        return None
    return sum(shares.values()).double() / scale
