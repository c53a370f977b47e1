"""The tests of this folder again on every other target of this machine."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pysmpc import ring

INNER = "PYSMPC_KERNEL_TESTS"
inside = pytest.mark.skipif(INNER in os.environ, reason="runs inside itself")
OTHERS = [name for name in ring.supported() if name != ring.target()]


def python(target, *args):
    environment = {**os.environ, "PYSMPC_TARGET": target, INNER: "1"}
    return subprocess.run([sys.executable, *args], env=environment, capture_output=True, text=True, timeout=280)


@inside
@pytest.mark.parametrize("target", OTHERS)
def test_kernels_on(target):
    here = str(Path(__file__).parent)
    done = python(target, "-m", "pytest", here, "-q", "-x", "-p", "no:cacheprovider", "-p", "no:cov")
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]


def test_the_target_is_the_one_asked_for():
    assert ring.target() == os.environ.get("PYSMPC_TARGET", ring.target())
    assert ring.target() in ring.supported()
    assert ring.supported()[0] == "portable"
    assert ring.reason().startswith(f"{ring.target()}: ")


@inside
def test_an_unknown_target_is_refused():
    done = python("sse9", "-c", "import pysmpc")
    assert done.returncode != 0
    assert "ImportError: PYSMPC_TARGET=sse9: no such target; known are portable, avx2" in done.stderr
