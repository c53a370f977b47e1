"""Plants each mutant of the catalogue in a copy of the project and runs the tests that must fail.

    make mutants [ARGS="-k PATTERN"]

Prints a line a mutant and exits with 1 if one survives, or its text is not found, or its
tests fail without it.  The copy is build/mutants; what is compiled there is kept, and a
mutant of src/c compiles one file of it.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import time
from pathlib import Path

from catalogue import MUTANTS, Mutant

ROOT = Path(__file__).resolve().parents[2]
COPY = ROOT / "build" / "mutants"
FLAGS = ["-std=gnu11", "-O1", "-g0", "-fPIC", "-fvisibility=hidden", "-Wno-psabi", "-Isrc/c"]
HANGS = 900  # seconds; pytest ends a test after 120, unless the process waits for a lock
CC = shlex.split(os.environ.get("CC", "gcc"))


def copy() -> None:
    """A fresh copy of the sources, times kept, so that the build of last time still serves."""
    for name in ("pysmpc", "src", "tests", "deploy", "docs"):
        shutil.rmtree(COPY / name, ignore_errors=True)
        shutil.copytree(ROOT / name, COPY / name, ignore=shutil.ignore_patterns("__pycache__", "*.so"))
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy2(ROOT / name, COPY / name)


def build() -> None:
    """The extensions and their objects, as the package has them."""
    command = [sys.executable, "setup.py", "--quiet", "build_ext", "--inplace", "--build-temp", "build/temp"]
    subprocess.run(command, cwd=COPY, check=True, env=os.environ | {"CC": " ".join(CC)})


def affected(mutant: Mutant) -> Path:
    """The file to compile for a mutant: itself, or the file or target that includes it."""
    if mutant.file.endswith(".c"):
        return Path(mutant.file)
    if mutant.file.endswith("_amx.inc.h"):
        return Path("src/c/amx.c")
    if mutant.file.startswith("src/c/wide_product"):
        return Path("src/c/wide_product.c")
    return Path(f"src/c/target_{mutant.target}.c")


def link() -> None:
    """The extension that holds src/c, from the objects that there are."""
    objects = [str(p) for p in (COPY / "build" / "temp").rglob("*.o") if p.stem != "_beaver"]
    out = COPY / "pysmpc" / f"_ring{sysconfig.get_config_var('EXT_SUFFIX')}"
    out.unlink(missing_ok=True)
    subprocess.run([*CC, "-shared", "-pthread", *objects, "-o", out], cwd=COPY, check=True)


def supported(target: str) -> bool:
    """Whether this CPU has the instructions of a target."""
    script = "from pysmpc.ring import z2k as ring; print(*ring.supported())"
    return target in run([sys.executable, "-c", script]).stdout.split()


def run(command: list[str], **environment: str) -> subprocess.CompletedProcess[str]:
    env = dict(os.environ) | {"PYTHONPATH": str(COPY)} | environment
    return subprocess.run(command, cwd=COPY, env=env, capture_output=True, text=True, check=False, timeout=HANGS)


def outcome(files: str, target: str = "") -> tuple[str, str]:
    """('caught', by which test), ('survives', '') or ('breaks', why): an error is not a test that fails."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "--tb=no", "-p", "no:cacheprovider", "--timeout=120"]
    try:
        out = run([*command, *files.split()], COLUMNS="400", **({"PYSMPC_TARGET": target} if target else {}))
    except subprocess.TimeoutExpired:
        return "caught", "hangs, past what pytest can end"
    failed = [line.removeprefix("FAILED ") for line in out.stdout.splitlines() if line.startswith("FAILED ")]
    if out.returncode == 0:
        return "survives", ""
    if out.returncode == 1 and failed:
        test, _, why = failed[0].partition(" - ")
        return "caught", test.split("::")[-1] + ", which timed out" * ("Timeout" in why)
    if out.returncode < 0:
        return "caught", f"ended by signal {-out.returncode}"
    return "breaks", (out.stdout + out.stderr).strip()[-300:]


def plant(mutant: Mutant) -> tuple[str, str]:
    """Run the tests of a mutant in the copy, and leave the copy as it was."""
    path = COPY / mutant.file
    text = path.read_text()
    if text.count(mutant.old) != 1:
        return "not found", ""
    kept = None
    try:
        path.write_text(text.replace(mutant.old, mutant.new))
        if mutant.compiled:
            source = affected(mutant)
            compiled = next((COPY / "build" / "temp").rglob(f"{source.stem}.o"))
            kept = compiled, compiled.read_bytes()
            subprocess.run([*CC, *FLAGS, "-c", str(source), "-o", compiled], cwd=COPY, check=True)
            link()
        return outcome(mutant.tests, mutant.target if mutant.compiled else "")
    finally:
        path.write_text(text)
        if kept:
            kept[0].write_bytes(kept[1])
            link()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("-k", default="", metavar="PATTERN", help="only mutants in whose file or fault this is found")
    pattern = re.compile(parser.parse_args().k)
    chosen = [m for m in MUTANTS if pattern.search(f"{m.file} {m.what}")]

    copy()
    build()
    link()
    files = sorted({test for m in chosen for test in m.tests.split()})
    verdict, why = outcome(" ".join(files), "portable")
    if verdict != "survives":
        print(f"the tests fail without a mutant: {verdict} {why}")
        return 1

    bad = 0
    for mutant in chosen:
        start = time.monotonic()
        if mutant.compiled and not supported(mutant.target):
            verdict, why = "skipped", f"no {mutant.target} here"
        else:
            verdict, why = plant(mutant)
        bad += verdict not in ("caught", "skipped")
        name = f"{Path(mutant.file).name}: {mutant.what}"
        print(f"{verdict:9} {time.monotonic() - start:4.0f} s  {name:60} {why}", flush=True)
    print(f"{len(chosen)} mutants, {bad} not caught")
    return bool(bad)


if __name__ == "__main__":
    sys.exit(main())
