"""What a call needs of memory at its peak, on Linux with glibc."""

import ctypes
import re
from pathlib import Path

import pytest

_CLEAR = Path("/proc/self/clear_refs")  # a 5 written to it makes the highest use of memory the present one
_C = ctypes.CDLL(None)

needs_memory_counters = pytest.mark.skipif(
    not (_CLEAR.exists() and hasattr(_C, "malloc_trim")), reason="Linux and glibc tell what is used"
)


def _memory(what):
    return int(re.search(rf"{what}:\s*(\d+)", Path("/proc/self/status").read_text())[1]) * 1024


def used(call):
    """(Its result, bytes that the process had at most beyond what it had before.)"""
    _C.malloc_trim(0)  # freed memory that is kept would be taken again unseen
    _CLEAR.write_text("5")
    before = _memory("VmRSS")
    result = call()
    return result, _memory("VmHWM") - before
