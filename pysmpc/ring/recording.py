"""Who takes notes of what a thread does to words: kernels that it launches, and messages that it moves.

A recorder (`pysmpc.program.trace`) attaches itself to a thread.  From then on the door to the kernels
(`z2k.launch`) tells it of each of them, `perform` of each message, and protocols that check something look for it
with `active`.  Nothing is put in the place of anything else: without a recorder, all of this is one look-up.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, Protocol
from weakref import WeakKeyDictionary

import torch

from pysmpc.ring import z2k

Prepare = Callable[..., Callable[[], Any]]


class Message:
    """A way to move messages, or to get what comes from outside of the program, such as new noise.

    into: how many of its last arguments it writes; it reads the others.

    prepare(*args): the call with these arguments, made ready to be done time and again.
    """

    __slots__ = ("call", "into", "prepare")

    def __init__(self, call: Callable[..., None], into: int, prepare: Prepare | None = None) -> None:
        self.call, self.into = call, into
        self.prepare: Prepare = prepare or partial(partial, call)

    def __call__(self, *args: Any) -> None:
        self.call(*args)

    def pretend(self, args: tuple[Any, ...], logged: tuple[Any, ...]) -> bool:
        """Whether it would send what was sent; receive what was received."""
        if len(args) != len(logged):
            return False
        border = len(args) - self.into
        for mine, theirs in zip(args[:border], logged[:border], strict=True):
            if isinstance(mine, torch.Tensor):
                if not torch.equal(mine, theirs):
                    return False
            elif mine != theirs:
                return False
        for mine, theirs in zip(args[border:], logged[border:], strict=True):
            mine.copy_(theirs)
        return True


class Drawing:
    """A function of Python that draws from streams, of which a repetition draws others.

    Called with the number of the first of them, and its other arguments.
    """

    __slots__ = ("call",)

    def __init__(self, call: Callable[..., None]) -> None:
        self.call = call

    def __call__(self, stream: int, *args: Any) -> None:
        self.call(stream, *args)


class Recorder(Protocol):
    """Takes notes of one thread.

    silent: while something is done that is noted as a whole.  ranges: of bodies (`pysmpc.mpc.derived.ranges`).
    """

    silent: bool
    ranges: WeakKeyDictionary[Any, Any]

    def launched(self, kernel: z2k.Kernel, args: tuple[Any, ...]) -> None:
        """A kernel has run."""

    def perform(self, message: Message, args: tuple[Any, ...]) -> None:
        """Move a message, and note it."""

    def note(self, call: Callable[..., Any], *args: Any) -> None:
        """Every run has to make this call, too."""


_recorders: dict[int, Recorder] = {}  # by thread


def active() -> Recorder | None:
    """Who takes notes of this thread."""
    return _recorders.get(threading.get_ident())


def perform(
    call: Callable[..., None], *args: Any, into: Sequence[torch.Tensor] = (), prepare: Prepare | None = None
) -> None:
    """call(*args, *into): move messages, or draw noise, which a repetition does again as a whole.

    into: tensors that it writes.  prepare(*args, *into): the same, made ready to be done time and again.
    """
    recorder = active()
    if recorder is None:
        call(*args, *into)
    else:
        recorder.perform(Message(call, len(into), prepare), (*args, *into))


@contextmanager
def attached(recorder: Recorder) -> Iterator[None]:
    """While within, it takes notes of this thread; others may have recorders of their own."""
    thread = threading.get_ident()
    if thread in _recorders:
        raise RuntimeError("what this thread does is being recorded already")
    _recorders[thread] = recorder
    z2k.record_launches(recorder.launched)
    try:
        yield
    finally:
        z2k.record_launches(None)
        del _recorders[thread]
