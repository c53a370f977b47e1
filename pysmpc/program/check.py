"""Whether a compiled trace does what the program does: it is held against another trace, and nothing is sent.

Of both the same is asked: with the streams of the other, and what that one received, the calls must send what it
sent.  The caller compares what they come to.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from pysmpc.program.compile import Compiled, moved_stream
from pysmpc.program.trace import Trace
from pysmpc.ring import z2k
from pysmpc.ring.recording import Drawing, Message


def sends_the_same(compiled: Compiled, other: Trace, given: Sequence[int]) -> bool:
    """Run the calls with the streams of another trace and the messages in its log.

    given: streams of arguments.  False as soon as a message that would be sent is another than in the log.
    """
    logged = iter(other.log or ())

    def stream(x: Any) -> int:
        if isinstance(x, z2k.Stream):
            return given[x.place]
        return moved_stream(x, compiled.first, other.first, other.epochs)

    z2k.use_torch_threads()
    with torch.no_grad():
        for call, args in compiled.calls:
            if isinstance(call, Message):
                if not call.pretend(args, next(logged, ())):
                    return False
            elif isinstance(call, z2k.Kernel):
                kinds = (kind for _, kind in call.parameters)
                z2k.launch(call, *(stream(x) if kind == "stream" else x for kind, x in zip(kinds, args, strict=True)))
            elif isinstance(call, Drawing):
                call(stream(args[0]), *args[1:])
            else:
                call(*args)
    return next(logged, None) is None
