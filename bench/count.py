"""Instructions an element of each kernel, by Callgrind, on the targets that Valgrind can run.

    make bench-count                      # a table, and build/bench-count.json
    python bench/compare.py old.json new.json

Counts do not depend on what else the machine does; they say nothing of memory or of how many instructions a cycle does.
"""

import argparse
import json
import os
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
BUILD = ROOT / "build" / "count"
FLAGS = ["-std=gnu11", "-O3", "-g0", "-fPIC", "-fvisibility=hidden", "-Wno-psabi"]
CORE = ("rounds", "product", "direct", "filtering", "matmul", "pool", "team", "work", "prg")
SOURCES = [f"src/c/{name}.c" for name in ("target_portable", "target_avx2", *CORE)]
TARGETS = ["portable", "avx2"] if platform.machine() == "x86_64" else ["portable"]


def build():
    """Compile count.c with the flags of setup.py."""
    BUILD.mkdir(parents=True, exist_ok=True)
    program = BUILD / "count"
    sources = [ROOT / source for source in [*SOURCES, "bench/count.c"]]
    command = [os.environ.get("CC", "gcc"), *FLAGS, f"-I{ROOT / 'src/c'}", "-pthread", *sources, "-ldl", "-o", program]
    subprocess.run(command, check=True)
    return program


def count(program, target):
    """{kernel: instructions an element}."""
    for old in BUILD.glob(f"{target}.out*"):
        old.unlink()
    done = subprocess.run(
        ["valgrind", "--quiet", "--tool=callgrind", "--collect-atstart=no",
         f"--callgrind-out-file={BUILD / target}.out", program, target],
        capture_output=True, text=True,
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(f"bench-count: {program} {target} failed: {done.stderr.strip()}")
    elements = dict(line.rsplit(" ", 1) for line in done.stdout.splitlines())
    found = {}
    for dump in BUILD.glob(f"{target}.out.*"):
        text = dump.read_text()
        name = re.search(r"^desc: Trigger: Client Request: (.*)$", text, re.MULTILINE)
        total = re.search(r"^(?:totals|summary): (\d+)", text, re.MULTILINE)
        if name and total:
            found[name[1]] = int(total[1]) / int(elements[name[1]])
    missing = elements.keys() - found.keys()
    if missing:
        raise SystemExit(f"bench-count: Callgrind counted nothing for {', '.join(sorted(missing))}")
    return {name: found[name] for name in elements}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, default=ROOT / "build" / "bench-count.json")
    options = parser.parse_args()
    for needed in ("valgrind", os.environ.get("CC", "gcc")):
        if not shutil.which(needed):
            print(f"bench-count: {needed} is not installed", file=sys.stderr)
            return 3
    program = build()
    found = {target: count(program, target) for target in TARGETS}
    print(f"{'instructions an element':28s}" + "".join(f"{target:>12s}" for target in found))
    for kernel in found["portable"]:
        print(f"{kernel:28s}" + "".join(f"{kernels[kernel]:12.2f}" for kernels in found.values()))
    print("An element of a product is one multiplication and addition; of truncate, compare, select and bit a value.")
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps({"instructions_an_element": found}, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
