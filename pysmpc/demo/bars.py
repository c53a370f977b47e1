"""Progress bars of the demo, where tqdm is installed (`pip install 'pysmpc[demo]'`) and stderr is a terminal."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import Any

try:
    from tqdm import tqdm
except ImportError:  # no bar
    tqdm = None


class NoBar:
    """Stands in for a bar that is not shown."""

    def __enter__(self) -> NoBar:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        pass

    def update(self, n: int = 1) -> None:
        """Show nothing."""


def bar(total: int, title: str, unit: str) -> Any:
    """A context manager with `update(n)`."""
    return NoBar() if tqdm is None else tqdm(total=total, desc=title, unit=unit, disable=None)


def write(line: str) -> None:
    """Print a line without disturbing a bar."""
    if tqdm is None:
        print(line)
    else:
        tqdm.write(line)
    sys.stdout.flush()  # a pipe or a log has each line at once
