"""Names of the runs whose checkpoints holders keep."""

from __future__ import annotations

import re

from pysmpc.errors import CheckpointError

_RUN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}")


def check_run(run: str) -> str:
    """The name of a run, if it can be a folder's at the holders."""
    if not _RUN.fullmatch(run):
        raise CheckpointError(
            f"holders keep no run named {run[:100]!r}: letters, digits, '_', '-' and '.', at most 100, no '.' in front"
        )
    return run
