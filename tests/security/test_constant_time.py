"""No kernel branches on a secret or indexes by one, as Valgrind sees it (constant_time.c)."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DRIVER = Path(__file__).with_name("constant_time.c")
TOOL = ROOT / "tools" / "constant-time"

needs_valgrind = pytest.mark.skipif(
    not (shutil.which("valgrind") and shutil.which("gcc")), reason="valgrind or gcc is not installed"
)


#: Of AVX2 alone; other targets have none.
OF_AVX2 = {"matmul_pair"}

PUBLIC = {"powers_public"}  # what it reads is public, and it indexes a table by it


def kernels():
    """Names in the table of kernels; a size is computed from sizes alone."""
    header = (ROOT / "src" / "c" / "ring.h").read_text()
    table = header[header.index("typedef struct psm_kernels") : header.index("} psm_kernels;")]
    return set(re.findall(r"\(\*(\w+)\)\(", table)) - {"matmul_work", "matmul_pair_work"} - PUBLIC


def run(*arguments):
    found = subprocess.run([TOOL, *arguments], capture_output=True, text=True, check=False, timeout=240)
    if "headers" in found.stderr or "memcheck.h" in found.stderr:
        pytest.skip("valgrind's headers are not installed")
    return found


def test_every_kernel_has_a_check():
    checked = set(re.findall(r"CHECK(?:\(|_INTO\(\w+, )(\w+),", DRIVER.read_text()))
    assert len(kernels()) > 25
    assert kernels() <= checked, f"constant_time.c has no CHECK for {sorted(kernels() - checked)}"


@needs_valgrind
def test_no_kernel_branches_on_a_secret_or_indexes_by_one():
    found = run()
    lines = [line.split() for line in found.stdout.splitlines()]
    assert {verdict for _, _, verdict in lines} == {"ok"}, found.stdout + found.stderr
    for target in {target for target, _, _ in lines}:
        missing = kernels() - {name for where, name, _ in lines if where == target}
        assert missing <= (set() if target in ("avx2:", "vaes256:") else OF_AVX2)
    assert {target for target, _, _ in lines} >= {"portable:"}
    assert found.returncode == 0, found.stderr


@needs_valgrind
def test_planted_leaks_are_seen():
    found = run("planted")
    assert found.returncode == 1
    lines = [line.split() for line in found.stdout.splitlines()]
    assert {(name, verdict) for _, name, verdict in lines} == {
        ("planted_branch", "leaks"),
        ("planted_index", "leaks"),
        ("planted_loop", "leaks"),
    }
