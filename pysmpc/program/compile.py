"""A trace made ready to be run: its memory laid out by lifetime, its kernels in lists that C walks.

A kernel's streams that were drawn while it was traced move with the first stream of a run; those of arguments that were
opened before (`z2k.Stream`) are given to each run; older ones stay.
"""

from __future__ import annotations

import bisect
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch

from pysmpc.program.buffers import BufferPlan, Replacement
from pysmpc.program.trace import Call, Trace, apply
from pysmpc.ring import z2k
from pysmpc.ring.prg import EPOCH_BITS
from pysmpc.ring.recording import Drawing, Message

Pairs = Sequence[tuple[torch.Tensor, torch.Tensor]]
Ready = Callable[[int, Sequence[int]], Any]  # of the first stream of a run, and the streams that it is given


class Compiled:
    """The calls of a trace, on memory of their own.

    calls: as in the trace.  first: the first stream that it might draw.
    """

    def __init__(self, trace: Trace, moved: Pairs = (), pairs: Pairs = ()) -> None:
        """moved: memory, and other of its size that takes its place.  pairs: such memory that is exchanged in every
        other run."""
        made = dict(trace.made)
        for tensor, _ in moved:
            made.pop(_start(tensor), None)
        plan = BufferPlan(made, [args for _, args in trace.calls])
        away = Replacement({_start(old): new.untyped_storage() for old, new in moved})
        turn = Replacement({_start(a): b.untyped_storage() for x, y in pairs for a, b in ((x, y), (y, x))})
        self.first = trace.first
        self.calls: list[Call] = [(call, away.moved(plan.moved(args))) for call, args in trace.calls]
        self._turned: list[Call] = [(call, turn.moved(args)) for call, args in self.calls]
        self._ready: dict[bool, list[Ready]] = {}

    def run(self, first: int, given: Sequence[int] = (), turned: bool = False) -> None:
        """Do it all again, with streams from `first` on.  turned: with memory exchanged as it was told."""
        if turned not in self._ready:
            self._ready[turned] = list(_ready(self._turned if turned else self.calls, self.first))
        z2k.use_torch_threads()
        with torch.no_grad():
            for call in self._ready[turned]:
                call(first, given)


def _start(tensor: torch.Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def _ready(calls: Sequence[Call], first: int) -> list[Ready]:
    """The calls, ready to be made time and again: kernels that follow one another at once."""
    found: list[Ready] = []
    kernels: list[Call] = []
    for call, args in calls:
        if isinstance(call, z2k.Kernel):
            kernels.append((call, args))
            continue
        if kernels:
            found.append(z2k.Launches(kernels, first, EPOCH_BITS).run)
            kernels = []
        found.append(_drawing(call, args, first) if isinstance(call, Drawing) else _without_streams(_bound(call, args)))
    if kernels:
        found.append(z2k.Launches(kernels, first, EPOCH_BITS).run)
    return found


def _without_streams(call: Callable[[], Any]) -> Ready:
    return lambda first, given: call()


def _drawing(call: Drawing, args: tuple[Any, ...], recorded: int) -> Ready:
    stream, *rest = args
    return lambda first, given: call(moved_stream(stream, recorded, first), *rest)


def moved_stream(stream: int, recorded: int, first: int, epochs: Sequence[tuple[int, int]] = ()) -> int:
    """Where a stream is in a run whose streams begin at `first`, of a trace that began at `recorded`.

    One that was drawn before the trace stays.  A run is within one epoch, as one operation asks for it; another
    trace, with which this one is compared, may be over several, which are told.
    """
    if stream < recorded:
        return stream
    found = first + (stream - recorded) % (1 << EPOCH_BITS)
    if epochs:
        number = found % (1 << EPOCH_BITS)
        found = number + epochs[bisect.bisect(epochs, number, key=lambda each: each[0]) - 1][1]
    return found


def _bound(call: Callable[..., Any], args: tuple[Any, ...]) -> Callable[[], Any]:
    """The call with these arguments, by as few others as can be."""
    if isinstance(call, Message):
        return call.prepare(*args)
    if call is apply:
        func, given, named = args
        return partial(func, *given, **named)
    return partial(call, *args)
