"""Whether a compiled trace does what the program does: it is held against another trace, and nothing is sent.

Of both the same is asked: with the streams of the other, and what that one received, the calls must send what it
sent.  The caller compares what they come to.
"""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from typing import Any

import torch

from pysmpc import ring
from pysmpc.prg import EPOCH_BITS
from pysmpc.program.compile import Compiled
from pysmpc.program.trace import Trace
from pysmpc.recording import Message


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


def sends_the_same(compiled: Compiled, other: Trace, given: Sequence[int]) -> bool:
    """Run the calls with the streams of another trace and the messages in its log.

    given: streams of arguments.  False as soon as a message that would be sent is another than in the log.
    """
    logged = iter(other.log or ())

    def stream(x: Any) -> int:
        if isinstance(x, ring.Stream):
            return given[x.place]
        return moved_stream(x, compiled.first, other.first, other.epochs)

    ring.use_torch_threads()
    with torch.no_grad():
        for call, args in compiled.calls:
            if isinstance(call, Message):
                if not call.pretend(args, next(logged, ())):
                    return False
            elif isinstance(call, ring.Kernel):
                kinds = (kind for _, kind in call.parameters)
                ring.launch(call, *(stream(x) if kind == "stream" else x for kind, x in zip(kinds, args, strict=True)))
            else:
                call(*args)
    return next(logged, None) is None
