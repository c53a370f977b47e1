"""Sizes and times as people write them in configuration files and on the command line."""

from __future__ import annotations

import re

_SIZES = {"": 1, "B": 1} | {
    f"{prefix}{suffix}": base**power
    for power, prefix in enumerate("KMGT", 1)
    for suffix, base in (("B", 1000), ("iB", 1024))
}
_TIMES = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}


class Size(int):
    """Bytes."""

    @classmethod
    def parse(cls, value: object) -> Size:
        """From a number of bytes, or text like "2GB" or "500 MiB"; ValueError for anything else."""
        return cls(_parse(value, _SIZES, 'a size is a number of bytes, or text like "500MB", "2GB" or "1GiB"'))

    def __str__(self) -> str:
        for unit in ("TB", "GB", "MB", "KB"):
            if self >= _SIZES[unit]:
                return f"{int(self) / _SIZES[unit]:.4g} {unit}"
        return f"{int(self)} bytes"


class Duration(int):
    """Seconds."""

    @classmethod
    def parse(cls, value: object) -> Duration:
        """From a number of seconds, or text like "90m", "1h" or "7d"; ValueError for anything else."""
        return cls(_parse(value, _TIMES, 'a time is a number of seconds, or text like "90m", "1h" or "7d"'))

    def __str__(self) -> str:
        for unit in ("d", "h", "m"):
            if self >= _TIMES[unit] and self % _TIMES[unit] == 0:
                return f"{self // _TIMES[unit]}{unit}"
        return f"{int(self)}s"


def _parse(value: object, units: dict[str, int], wanted: str) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return int(value)
    if isinstance(value, str) and (
        found := re.fullmatch(r"([0-9]{1,15}(?:\.[0-9]{1,9})?) ?([A-Za-z]*)", value.strip())
    ):
        unit = next((factor for name, factor in units.items() if name.lower() == found[2].lower()), None)
        if unit is not None:
            return round(float(found[1]) * unit)
    raise ValueError(f"{wanted}, not {str(value)[:40]!r}")
