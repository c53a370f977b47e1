"""The tests of this folder again on every other target of this machine."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pysmpc.ring import z2k

INNER = "PYSMPC_KERNEL_TESTS"
inside = pytest.mark.skipif(INNER in os.environ, reason="runs inside itself")
OTHERS = [name for name in z2k.supported() if name != z2k.target()]


def environment(target):
    return {**os.environ, "PYSMPC_TARGET": target, INNER: "1"}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A run of this folder on each other target, side by side."""
    command = [sys.executable, "-m", "pytest", str(Path(__file__).parent), "-q", "-x", "-p", "no:cacheprovider"]
    started = {}
    for target in OTHERS:
        log = tmp_path_factory.mktemp(target) / "log"
        with log.open("w") as out:
            process = subprocess.Popen([*command, "-p", "no:cov"], env=environment(target), stdout=out, stderr=out)
        started[target] = process, log
    yield started
    for process, _ in started.values():
        process.kill()
        process.wait()


@inside
@pytest.mark.timeout(1000)  # several runs at once, which a sanitizer makes several times as long
@pytest.mark.parametrize("target", OTHERS)
def test_kernels_on(target, runs):
    process, log = runs[target]
    assert process.wait(timeout=960) == 0, log.read_text()[-4000:]


def test_the_target_is_the_one_asked_for():
    assert z2k.target() == os.environ.get("PYSMPC_TARGET", z2k.target())
    assert z2k.target() in z2k.supported()
    assert z2k.supported()[0] == "portable"
    assert z2k.reason().startswith(f"{z2k.target()}: ")


@inside
def test_an_unknown_target_is_refused():
    done = subprocess.run(
        [sys.executable, "-c", "import pysmpc.ring.z2k"],
        env=environment("sse9"),
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode != 0
    assert "ImportError: PYSMPC_TARGET=sse9: no such target; known are portable, avx2" in done.stderr
