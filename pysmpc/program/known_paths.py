"""The paths that a session's loops took, what was recorded of them, and whether recording more of them pays."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Any

from pysmpc.program.agreeing import digest_of
from pysmpc.program.path import Operand, Path, Several, leaves
from pysmpc.program.segment import Segment

PATHS = 6  # that a session keeps, and kinds of arguments of each
RECORDING = 8  # steps that have to be repeated for one that is recorded
PATIENCE = 64  # regions that run as written, at most, before one is noted again
CHANGED = "operations or public numbers have changed"


class KnownPath:
    """A path of a session's loops, and the segments for kinds of arguments and results.

    missed: how often in a row something else came.  constants: values that it read last of which more is known than
    their words; if it reads the same again they are no inputs.  digest: what ranks compare of the path.  credit: a
    step more for each that ran as a segment or as written, RECORDING less for each recording of another form.
    """

    def __init__(self, path: Path, digest: int = 0) -> None:
        self.path = path
        self.digest = digest
        self.segments: dict[Any, tuple[Segment, bool]] = {}  # and whether it was checked
        self.never: dict[Any, str] = {}  # and why
        self.missed = 0
        self.credit = 2 * RECORDING
        self.constants: list[Any] = []
        # cells that somebody may have opened, which saves an opening
        read = (x for node in path.nodes for x in leaves(Several(tuple, node.args)) if type(x) is Operand)
        self.parameters = {path.numbers[x.value] for x in read if x.requires_grad}

    def pay_for_recording(self) -> bool:
        """Whether a step whose calls are others than in its segment is recorded anew; if not, it runs as written."""
        if self.credit < RECORDING:
            self.earn()
            return False
        self.credit -= RECORDING
        return True

    def earn(self) -> None:
        """A step was not recorded."""
        self.credit = min(self.credit + 1, 2 * RECORDING)

    def forget(self) -> None:
        """Drop what was recorded: it has numbers as constants that may change now."""
        self.segments.clear()
        self.never.clear()
        if self.digest:
            self.digest = digest_of(self.path)

    def digest_with(self, numbers: Sequence[float]) -> int:
        """What ranks compare of a region that is done as one."""
        return zlib.crc32(repr(tuple(numbers)).encode(), self.digest) if numbers else self.digest


class Paths(list[KnownPath]):
    """Those of a session's loops, or of one step.

    failures: how many in a row did not serve.  pause: regions that run as written before one is noted again.
    repeats, reason: of a step, the last time.  begun: whether it was called before.
    """

    failures = pause = 0
    begun = repeats = False
    reason: str | None = "the first steps run as they are written"

    def __deepcopy__(self, memo: object) -> Paths:
        return Paths()

    def missed(self, known: KnownPath) -> None:
        """Something else came; if that happens twice in a row, a path is forgotten, and another noted."""
        known.missed += 1
        if known.missed > 1 and known in self:
            self.remove(known)
            self.pause = min((1 << self.failures) - 1, PATIENCE)
            self.failures += 1
