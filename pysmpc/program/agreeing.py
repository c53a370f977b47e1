"""What ranks compare of a path before they repeat it: they must repeat the same one, or all compute it as written."""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from typing import Any

from pysmpc.program.path import Kind, Path, Public, Several, bits_of


def digest_of(path: Path) -> int:
    """Equal for the same operations on values of the same kinds, with the same public values, in any process."""
    nodes = (
        (str(node.func), _facts(node.args), [(k, _fact(x)) for k, x in node.kwargs], tuple(node.context), node.changed)
        for node in path.nodes
    )
    cells = [(x.type.__name__, x.unit) if isinstance(x, Kind) else None for x in path.cells]
    found = zlib.crc32(repr((cells, path.values, path.late)).encode())
    for node in nodes:
        found = zlib.crc32(repr(node).encode(), found)
    return found


def _facts(values: Iterable[Any]) -> list[Any]:
    return [_fact(x) for x in values]


def _fact(x: Any) -> Any:
    if isinstance(x, Several):
        return x.kind.__name__, _facts(x.items)
    if isinstance(x, Public):
        return tuple(x.copy.shape), x.copy.dtype, zlib.crc32(bits_of(x.copy).numpy())  # type: ignore[arg-type]
    return x
